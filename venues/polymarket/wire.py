"""Polymarket's market channel, and the one place where Polymarket's text becomes integers.

Source: docs.polymarket.com/asyncapi.json, state of 2026-10; fixtures: `ws_market_*` of the `polymarket` captures.
Prices at 1e-4 dollar of the token named, sizes at 1e-6, times in ns (0: not stated). Nothing is mirrored here: an event
speaks of one token (`asset_id`), and which of a market's two tokens is YES is known from the catalogue.

A frame is an object or an array of them. Unknown event types come out as `Unknown`, to be counted. A `price_change` in a
shape from before 2025-09-15 (`changes`, or one bare price) is malformed, not unknown: it changed a book, and the book
must be reset.
"""

from functools import lru_cache

import msgspec

from core.domain.errors import MalformedFrame, NotExact
from core.domain.units import (
    MONEY_EXP,
    ONE_DOLLAR_E4,
    PREDICTION_PRICE_EXP,
    PREDICTION_SIZE_EXP,
    from_fixed,
    to_fixed,
)
from venues.polymarket.events import (
    BestBidAsk,
    Book,
    Event,
    LastTrade,
    Level,
    LevelChange,
    MarketResolved,
    NewMarket,
    Pong,
    PriceChange,
    Side,
    TickSizeChange,
    Unknown,
)
from venues.text import NS_PER_MS, NS_PER_S, decode, excerpt, instant_ns, scalar_text

# Nearly every price on the wire is in its shortest form: a look-up costs a tenth of parsing.
_PRICES = {from_fixed(p, PREDICTION_PRICE_EXP): p for p in range(ONE_DOLLAR_E4 + 1)}


# Sizes repeat too: a change comes once for each token, books come again.
@lru_cache(maxsize=65_536)
def _size(text: str) -> int:
    return to_fixed(text, PREDICTION_SIZE_EXP)


# --- numbers


def price(text: str, where: str) -> int:
    """Return a price at 1e-4 dollar, 0 to 10,000.

    Raises:
        NotExact: no plain decimal, negative, or finer than 1e-4.
        MalformedFrame: above one dollar.
    """
    known = _PRICES.get(text)
    if known is not None:
        return known
    value = _fixed(text, PREDICTION_PRICE_EXP, where)
    if value > ONE_DOLLAR_E4:
        raise MalformedFrame(f"polymarket {where}: expected a price of at most one dollar, found {text[:40]!r}")
    return value


def size(text: str, where: str) -> int:
    """Return shares at 1e-6; `NotExact` if it is none."""
    try:
        return _size(text)
    except NotExact as e:
        raise NotExact(f"polymarket {where}: {e}") from e


def money(text: str, where: str) -> int:
    """Return dollars, or a rate, at 1e-6; `NotExact` if it is none."""
    return _fixed(text, MONEY_EXP, where)


def quote(text: str | None, where: str) -> int | None:
    """Return a best price, None where the venue says that there is none (absent, `""`, 0 or 1)."""
    if not text:
        return None
    value = price(text, where)
    return value if 0 < value < ONE_DOLLAR_E4 else None


def epoch_ns(text: str, where: str) -> int:
    """Return a time the venue writes in seconds, in milliseconds or as RFC 3339; 0 for `""` and 0.

    Seconds and milliseconds are told apart by magnitude: the same field comes in both.
    """
    if not text:
        return 0
    if text.isascii() and text.isdecimal() and len(text) <= 13:
        number = int(text)
        return number * NS_PER_S if number < 100_000_000_000 else number * NS_PER_MS
    return instant_ns(text, f"polymarket {where}")


def _fixed(text: str, exp: int, where: str) -> int:
    try:
        return to_fixed(text, exp)
    except NotExact as e:
        raise NotExact(f"polymarket {where}: {e}") from e


def _level_price(text: str, where: str) -> int:
    value = price(text, where)
    if not 0 < value < ONE_DOLLAR_E4:
        raise MalformedFrame(f"polymarket {where}: expected a level between 0 and one dollar, found {text!r}")
    return value


# --- as they stand on the wire


class _Level(msgspec.Struct):
    price: str
    size: str


class _Tagged(msgspec.Struct, tag_field="event_type"):
    pass


class _Book(_Tagged, tag="book"):
    asset_id: str
    market: str
    bids: list[_Level]
    asks: list[_Level]
    timestamp: msgspec.Raw
    hash: str = ""
    tick_size: msgspec.Raw = msgspec.Raw()
    last_trade_price: str | None = None
    min_order_size: msgspec.Raw = msgspec.Raw()
    neg_risk: bool | None = None


class _Change(msgspec.Struct):
    asset_id: str
    price: str
    size: str
    side: Side
    hash: str = ""
    best_bid: str | None = None
    best_ask: str | None = None


class _PriceChange(_Tagged, tag="price_change"):
    market: str
    price_changes: list[_Change]
    timestamp: msgspec.Raw


class _LastTrade(_Tagged, tag="last_trade_price"):
    asset_id: str
    market: str
    price: str
    size: str
    side: Side
    timestamp: msgspec.Raw
    transaction_hash: str | None = None


class _TickSize(_Tagged, tag="tick_size_change"):
    asset_id: str
    market: str
    new_tick_size: str
    timestamp: msgspec.Raw
    old_tick_size: str = ""


class _BestBidAsk(_Tagged, tag="best_bid_ask"):
    asset_id: str
    market: str
    timestamp: msgspec.Raw
    best_bid: str | None = None
    best_ask: str | None = None


class _EventMessage(msgspec.Struct):
    id: str = ""
    title: str = ""


class _FeeSchedule(msgspec.Struct):
    rate: msgspec.Raw
    exponent: msgspec.Raw


class _NewMarket(_Tagged, tag="new_market"):
    id: str
    market: str
    assets_ids: list[str]
    outcomes: list[str]
    slug: str = ""
    question: str = ""
    order_price_min_tick_size: msgspec.Raw = msgspec.Raw()
    active: bool = False
    fees_enabled: bool | None = None
    fee_schedule: _FeeSchedule | None = None
    event_message: _EventMessage | None = None
    timestamp: msgspec.Raw = msgspec.Raw()


class _Resolved(_Tagged, tag="market_resolved"):
    market: str
    assets_ids: list[str]
    winning_asset_id: str
    winning_outcome: str
    timestamp: msgspec.Raw


class _Head(msgspec.Struct):
    """What tells the type of a message that names none, or one we do not know."""

    event_type: str = ""
    bids: msgspec.Raw = msgspec.Raw()
    asks: msgspec.Raw = msgspec.Raw()
    price_changes: msgspec.Raw = msgspec.Raw()
    new_tick_size: msgspec.Raw = msgspec.Raw()
    fee_rate_bps: msgspec.Raw = msgspec.Raw()
    size: msgspec.Raw = msgspec.Raw()


_Wire = _Book | _PriceChange | _LastTrade | _TickSize | _BestBidAsk | _NewMarket | _Resolved

_TAGGED: "msgspec.json.Decoder[_Wire]" = msgspec.json.Decoder(_Wire)
_HEAD = msgspec.json.Decoder(_Head)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN = {
    "book",
    "price_change",
    "last_trade_price",
    "tick_size_change",
    "best_bid_ask",
    "new_market",
    "market_resolved",
}


# --- frames


# hot
def decode_frame(payload: bytes) -> list[Event]:
    """Return the events of one frame of the market channel, in the order received; `[]` answers an unknown token.

    Raises:
        MalformedFrame, NotExact: any message of the frame is not what the protocol says.
    """
    body = payload.strip()
    if body == b"PONG":
        return [Pong()]
    if body[:1] == b"[":
        return [_decode_item(bytes(item)) for item in decode(_ITEMS, body, "polymarket frame")]
    return [_decode_item(body)]


def _decode_item(item: bytes) -> Event:
    try:
        raw = _TAGGED.decode(item)
    except msgspec.ValidationError as e:
        head = decode(_HEAD, item, "polymarket message")
        if head.event_type in _KNOWN:
            raise MalformedFrame(f"polymarket {head.event_type}: {e}, in {excerpt(item)!r}") from e
        inferred = "" if head.event_type else _infer_type(head)
        if not inferred:
            return Unknown(head.event_type)
        return _translate(_decode_untagged(item, inferred))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise MalformedFrame(f"polymarket message: {e}, in {excerpt(item)!r}") from e
    return _translate(raw)


def _infer_type(head: _Head) -> str:
    """Return the type of a message that names none, where only one has its fields."""
    if bytes(head.bids) and bytes(head.asks):
        return "book"
    if bytes(head.price_changes):
        return "price_change"
    if bytes(head.new_tick_size):
        return "tick_size_change"
    # A bare price, side and size were an obsolete price_change too; only a trade has a fee rate.
    return "last_trade_price" if bytes(head.fee_rate_bps) and bytes(head.size) else ""


def _decode_untagged(item: bytes, event_type: str) -> _Wire:
    # The object's opening brace is replaced: item is stripped, and not empty since its fields told its type.
    tagged = b'{"event_type":"' + event_type.encode() + b'",' + item[1:]
    return decode(_TAGGED, tagged, f"polymarket {event_type}")


def _translate(raw: _Wire) -> Event:
    match raw:
        case _PriceChange():
            return PriceChange(raw.market, _ms(raw.timestamp, "price_change"), [_change(c) for c in raw.price_changes])
        case _Book():
            return translate_book(raw)
        case _LastTrade():
            where = f"last_trade_price of {raw.asset_id}"
            value, count = _level_price(raw.price, where), size(raw.size, where)
            when = _ms(raw.timestamp, where) * NS_PER_MS
            return LastTrade(raw.asset_id, raw.market, value, count, raw.side, when, raw.transaction_hash or "")
        case _TickSize():
            where = f"tick_size_change of {raw.asset_id}"
            old = price(raw.old_tick_size, where) if raw.old_tick_size else 0
            new, when = _level_price(raw.new_tick_size, where), _ms(raw.timestamp, where) * NS_PER_MS
            return TickSizeChange(raw.asset_id, raw.market, old, new, when)
        case _BestBidAsk():
            where = f"best_bid_ask of {raw.asset_id}"
            bid, ask = quote(raw.best_bid, where), quote(raw.best_ask, where)
            return BestBidAsk(raw.asset_id, raw.market, bid, ask, _ms(raw.timestamp, where) * NS_PER_MS)
        case _NewMarket():
            return _new_market(raw)
        case _Resolved():
            when = _ms(raw.timestamp, "market_resolved") * NS_PER_MS
            return MarketResolved(raw.market, raw.assets_ids, raw.winning_asset_id, raw.winning_outcome, when)


def _change(raw: _Change) -> LevelChange:
    return LevelChange(
        raw.asset_id,
        raw.side,
        _level_price(raw.price, "price_change"),
        size(raw.size, "price_change"),
        raw.hash,
        quote(raw.best_bid, "price_change"),
        quote(raw.best_ask, "price_change"),
    )


def translate_book(raw: _Book) -> Book:
    """Return a book from the socket or from REST; levels of size 0 are none, two with one price are malformed."""
    where = f"book of {raw.asset_id}"
    tick, minimum = scalar_text(raw.tick_size), scalar_text(raw.min_order_size)
    return Book(
        asset_id=raw.asset_id,
        market=raw.market,
        bids=_levels(raw.bids, where, ascending=False),
        asks=_levels(raw.asks, where, ascending=True),
        time_ms=_ms(raw.timestamp, where),
        hash=raw.hash,
        tick=price(tick, where) if tick else 0,
        last_trade_price=raw.last_trade_price,
        size_min=size(minimum, where) if minimum else None,
        neg_risk=raw.neg_risk,
    )


def _levels(raw: list[_Level], where: str, *, ascending: bool) -> list[Level]:
    # On the wire the best level is the last; older examples show it first, so the order is not relied on.
    levels = {}
    for one in raw:
        value = _level_price(one.price, where)
        if value in levels:
            raise MalformedFrame(f"polymarket {where}: two levels at {one.price}")
        levels[value] = size(one.size, where)
    return sorted(((p, s) for p, s in levels.items() if s), reverse=not ascending)


def _new_market(raw: _NewMarket) -> NewMarket:
    where = f"new_market {raw.id}"
    schedule = raw.fee_schedule
    rate: int | None = None
    exponent = 1
    if schedule is not None:
        rate, exponent = money(scalar_text(schedule.rate), where), fee_exponent(schedule.exponent, where)
    if raw.fees_enabled is False:
        rate = 0
    tick = scalar_text(raw.order_price_min_tick_size)
    event = raw.event_message or _EventMessage()
    return NewMarket(
        id=raw.id,
        condition_id=raw.market,
        slug=raw.slug,
        question=raw.question,
        token_ids=raw.assets_ids,
        outcomes=raw.outcomes,
        event_id=event.id,
        event_title=event.title,
        tick=price(tick, where) if tick else 0,
        active=raw.active,
        fee_rate_e6=rate,
        fee_exponent=exponent,
        time_ns=_ms(raw.timestamp, where) * NS_PER_MS,
    )


def fee_exponent(raw: msgspec.Raw, where: str) -> int:
    """Return a fee's exponent, a small whole number."""
    value, rest = divmod(money(scalar_text(raw), where), 1_000_000)
    if rest or not 0 <= value <= 8:
        raise MalformedFrame(f"polymarket {where}: expected a fee exponent of 0 to 8, found {bytes(raw)!r}")
    return value


def _ms(raw: msgspec.Raw, where: str) -> int:
    return epoch_ns(scalar_text(raw), where) // NS_PER_MS
