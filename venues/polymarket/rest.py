"""Polymarket's public REST bodies: Gamma's catalogue, the CLOB's markets and books.

Source: docs.polymarket.com/api-spec/{gamma,clob}-openapi.yaml; fixtures: `gamma_market__*`, `clob_market__*`,
`clob_book__*` of the `polymarket` captures. A new market can stand in Gamma minutes before the CLOB knows it.
"""

from collections.abc import Sequence

import msgspec

from core.domain.errors import MalformedFrame, NotExact
from core.domain.units import MICRO
from venues.polymarket.events import Book
from venues.polymarket.wire import decode_frame, fee_exponent, money, price, size
from venues.text import decode, excerpt, instant_ns, scalar_text

PAGE_MAX = 100
BOOKS_MAX = 500


class GammaMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market's description. Index 0 of `token_ids` and `outcomes` is the primary side (Yes, Up).

    `tick` and `size_min` 0: not stated, the market has no book. `fee_rate_e6` None: the market charges fees it does not
    state, so nothing is to be traded on it. `event_neg_risk_augmented`: outcomes can be added, so the named ones do not
    exhaust the event. `payout_e6`: what the primary token pays once the market is resolved, -1 before.
    """

    id: str
    condition_id: str
    slug: str
    question: str
    description: str
    resolution_source: str
    outcomes: list[str]
    token_ids: list[str]
    active: bool
    closed: bool
    archived: bool
    accepting_orders: bool
    enable_order_book: bool
    neg_risk: bool
    neg_risk_market_id: str
    neg_risk_other: bool
    tick: int
    size_min: int
    taker_delay_s: int
    fee_rate_e6: int | None
    fee_exponent: int
    fee_type: str
    category: str
    open_ns: int
    end_ns: int
    game_start_ns: int
    event_id: str
    event_slug: str
    event_title: str
    event_neg_risk_augmented: bool
    payout_e6: int = -1

    @property
    def is_binary(self) -> bool:
        """Say whether it has exactly two tokens with an outcome each: one instrument quoted in the first."""
        return len(self.token_ids) == 2 and len(self.outcomes) == 2 and self.token_ids[0] != self.token_ids[1]


class ClobToken(msgspec.Struct, frozen=True):
    """A token as the CLOB lists it; `winner` once the market is resolved."""

    token_id: str
    outcome: str
    winner: bool = False


class ClobMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market as the CLOB knows it (`GET /markets/{condition id}`)."""

    condition_id: str
    accepting_orders: bool
    enable_order_book: bool
    active: bool
    closed: bool
    neg_risk: bool
    tick: int
    size_min: int
    taker_delay_s: int
    tokens: list[ClobToken]


class ClobRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a market in short (`GET /clob-markets/{condition id}`); `fee_rate_e6` 0 where no fee is stated."""

    token_ids: list[str]
    outcomes: list[str]
    tick: int
    size_min: int
    neg_risk: bool
    fee_rate_e6: int
    fee_exponent: int
    taker_delay_s: int
    taker_delay_enabled: bool


# --- as they stand on the wire


class _Fees(msgspec.Struct):
    rate: msgspec.Raw
    exponent: msgspec.Raw = msgspec.Raw(b"1")


class _Event(msgspec.Struct):
    id: str = ""
    slug: str = ""
    title: str = ""
    negRiskAugmented: bool | None = None  # noqa: N815  the venue's name


class _Gamma(msgspec.Struct, rename="camel"):
    id: str
    condition_id: str
    outcomes: msgspec.Raw
    clob_token_ids: msgspec.Raw = msgspec.Raw()
    slug: str = ""
    question: str = ""
    description: str | None = None
    resolution_source: str | None = None
    active: bool | None = None
    closed: bool | None = None
    archived: bool | None = None
    accepting_orders: bool | None = None
    enable_order_book: bool | None = None
    neg_risk: bool | None = None
    neg_risk_other: bool | None = None
    neg_risk_market_i_d: str | None = msgspec.field(default=None, name="negRiskMarketID")
    order_price_min_tick_size: msgspec.Raw = msgspec.Raw()
    order_min_size: msgspec.Raw = msgspec.Raw()
    seconds_delay: int | None = None
    fees_enabled: bool | None = None
    fee_schedule: _Fees | None = None
    fee_type: str | None = None
    category: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    game_start_time: str | None = None
    events: list[_Event] | None = None
    outcome_prices: msgspec.Raw = msgspec.Raw()
    uma_resolution_status: str | None = None


class _Page(msgspec.Struct):
    markets: list[msgspec.Raw]
    next_cursor: str | None = None


class _Clob(msgspec.Struct):
    condition_id: str
    minimum_tick_size: msgspec.Raw
    minimum_order_size: msgspec.Raw
    tokens: list[ClobToken]
    accepting_orders: bool = False
    enable_order_book: bool = False
    active: bool = False
    closed: bool = False
    neg_risk: bool = False
    seconds_delay: int = 0


class _ShortToken(msgspec.Struct):
    t: str
    o: str = ""


class _ShortFee(msgspec.Struct):
    r: msgspec.Raw
    e: msgspec.Raw = msgspec.Raw(b"1")


class _Short(msgspec.Struct):
    t: list[_ShortToken]
    mos: msgspec.Raw
    mts: msgspec.Raw
    nr: bool = False
    fd: _ShortFee | None = None
    sd: int | None = None
    itode: bool | None = None


_GAMMA, _PAGE = msgspec.json.Decoder(_Gamma), msgspec.json.Decoder(_Page)
_ITEMS, _TEXTS = msgspec.json.Decoder(list[msgspec.Raw]), msgspec.json.Decoder(list[str])
_CLOB, _SHORT = msgspec.json.Decoder(_Clob), msgspec.json.Decoder(_Short)


# --- catalogue


def split_markets(body: bytes) -> tuple[list[bytes], str]:
    """Return the markets of a Gamma page, each as the venue wrote it, and the cursor of the next (`""`: none).

    The keyset path wraps them, the older path is a bare array.
    """
    if body.lstrip()[:1] == b"[":
        return [bytes(raw) for raw in decode(_ITEMS, body, "polymarket markets")], ""
    page = decode(_PAGE, body, "polymarket markets")
    return [bytes(raw) for raw in page.markets], page.next_cursor or ""


def decode_gamma_market(description: bytes) -> GammaMarket:
    """Return one market's description."""
    raw = decode(_GAMMA, description, "polymarket market")
    where = f"market {raw.id}"
    tick, minimum = scalar_text(raw.order_price_min_tick_size), scalar_text(raw.order_min_size)
    event = raw.events[0] if raw.events else _Event()
    rate, exponent = _fees(raw, where)
    return GammaMarket(
        id=raw.id,
        condition_id=raw.condition_id,
        slug=raw.slug,
        question=raw.question,
        description=raw.description or "",
        resolution_source=raw.resolution_source or "",
        outcomes=_texts(raw.outcomes, where),
        token_ids=_texts(raw.clob_token_ids, where),
        active=bool(raw.active),
        closed=bool(raw.closed),
        archived=bool(raw.archived),
        accepting_orders=bool(raw.accepting_orders),
        enable_order_book=bool(raw.enable_order_book),
        neg_risk=bool(raw.neg_risk),
        neg_risk_market_id=raw.neg_risk_market_i_d or "",
        neg_risk_other=bool(raw.neg_risk_other),
        tick=price(tick, where) if tick else 0,
        size_min=size(minimum, where) if minimum else 0,
        taker_delay_s=raw.seconds_delay or 0,
        fee_rate_e6=rate,
        fee_exponent=exponent,
        fee_type=raw.fee_type or "",
        category=raw.category or "",
        open_ns=instant_ns(raw.start_date or "", where),
        end_ns=instant_ns(raw.end_date or "", where),
        game_start_ns=instant_ns(raw.game_start_time or "", where),
        event_id=event.id,
        event_slug=event.slug,
        event_title=event.title,
        event_neg_risk_augmented=bool(event.negRiskAugmented),
        payout_e6=_payout_e6(raw, where),
    )


def _payout_e6(raw: _Gamma, where: str) -> int:
    """Return what the primary token pays, by the prices of a market that says it is resolved; before, they are quotes."""
    if not raw.closed or (raw.uma_resolution_status or "").lower() != "resolved":
        return -1
    try:
        paid = [money(text, where) for text in _texts(raw.outcome_prices, where)]
    except NotExact:
        # Old markets have prices of many digits: nothing a token is paid.
        return -1
    # Another value may be a last quote that the word "resolved" has overtaken.
    return paid[0] if len(paid) == 2 and sum(paid) == MICRO and paid[0] in {0, MICRO // 2, MICRO} else -1


def _fees(raw: _Gamma, where: str) -> tuple[int | None, int]:
    if raw.fees_enabled is False:
        return 0, 1
    if raw.fee_schedule is None:
        # Enabled, or not said, and no schedule: `takerBaseFee` (1000) is a cap of old, never a rate.
        return None, 1
    return money(scalar_text(raw.fee_schedule.rate), where), fee_exponent(raw.fee_schedule.exponent, where)


def _texts(raw: msgspec.Raw, where: str) -> list[str]:
    """Return a list of texts that comes as an array, or as a text that holds one."""
    data = bytes(raw)
    if not data or data == b"null":
        return []
    if data[:1] == b'"':
        data = scalar_text(raw).encode() or b"[]"
    return decode(_TEXTS, data, f"polymarket {where}")


def decode_clob_market(body: bytes) -> ClobMarket:
    """Return the market of `GET /markets/{condition id}`."""
    raw = decode(_CLOB, body, "polymarket CLOB market")
    where = f"CLOB market {raw.condition_id}"
    return ClobMarket(
        condition_id=raw.condition_id,
        accepting_orders=raw.accepting_orders,
        enable_order_book=raw.enable_order_book,
        active=raw.active,
        closed=raw.closed,
        neg_risk=raw.neg_risk,
        tick=price(scalar_text(raw.minimum_tick_size), where),
        size_min=size(scalar_text(raw.minimum_order_size), where),
        taker_delay_s=raw.seconds_delay,
        tokens=raw.tokens,
    )


def decode_clob_rules(body: bytes) -> ClobRules:
    """Return the rules of `GET /clob-markets/{condition id}`."""
    raw = decode(_SHORT, body, "polymarket CLOB rules")
    where = "CLOB rules"
    fee = raw.fd
    return ClobRules(
        token_ids=[one.t for one in raw.t],
        outcomes=[one.o for one in raw.t],
        tick=price(scalar_text(raw.mts), where),
        size_min=size(scalar_text(raw.mos), where),
        neg_risk=raw.nr,
        fee_rate_e6=money(scalar_text(fee.r), where) if fee else 0,
        fee_exponent=fee_exponent(fee.e, where) if fee else 1,
        taker_delay_s=raw.sd or 0,
        taker_delay_enabled=bool(raw.itode),
    )


# --- books


class _Asset(msgspec.Struct):
    asset_id: str


_ASSET = msgspec.json.Decoder(_Asset)


def books_body(tokens: Sequence[str]) -> bytes:
    """Return the body of `POST /books`, at most `BOOKS_MAX` tokens."""
    return msgspec.json.encode([{"token_id": token} for token in tokens])


def split_books(body: bytes) -> dict[str, bytes]:
    """Return the books of `GET /book` (one) or `POST /books` by token, each as the venue wrote it."""
    many = body.lstrip()[:1] == b"["
    items = [bytes(raw) for raw in decode(_ITEMS, body, "polymarket books")] if many else [body]
    return {decode(_ASSET, item, "polymarket book").asset_id: item for item in items}


def decode_books(body: bytes) -> list[Book]:
    """Return the books of `GET /book` (one) or `POST /books` (unknown ids are left out, the order is not promised).

    Raises:
        MalformedFrame: something else than books.
    """
    books = []
    for event in decode_frame(body):
        if not isinstance(event, Book):
            raise MalformedFrame(f"polymarket book: expected a book, found {excerpt(body)!r}")
        books.append(event)
    return books
