"""Kalshi's WebSocket messages, and the one place where Kalshi's text becomes integers.

Source: docs.kalshi.com asyncapi.yaml and websockets/*, state of 2026-10-09; fixtures: the `kalshi` captures.
Prices at 1e-4 dollar of YES, sizes and money at 1e-6, times in ns (0: not stated). Unknown fields and message types are
tolerated: `peek` gives every frame's type and place in its sequence, the caller counts the types it does not decode.

A `no` level is a NO bid. Subscribed with `use_yes_price` (as `subscribe_command` always does) its price stands on the
YES scale already, else it is mirrored here, once; either way it comes out as the YES ask it is.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Literal

import msgspec

from core.domain.errors import MalformedFrame, NotExact
from core.domain.units import MONEY_EXP, ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, to_fixed
from venues.text import NS_PER_MS, NS_PER_S, decode, scalar_text

OutcomeSide = Literal["yes", "no"]
BookSide = Literal["bid", "ask"]
Level = tuple[int, int]
"""Price at 1e-4, size at 1e-6."""

# The venue writes nearly every price with four decimals: a look-up costs a tenth of parsing.
_PRICES = {f"{p // 10_000}.{p % 10_000:04d}": p for p in range(ONE_DOLLAR_E4 + 1)}


# Sizes repeat too: most are small whole numbers.
@lru_cache(maxsize=65_536)
def _size(text: str, signed: bool) -> int:
    return to_fixed(text, PREDICTION_SIZE_EXP, signed=signed)


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
        raise MalformedFrame(f"kalshi {where}: expected a price of at most one dollar, found {text[:40]!r}")
    return value


def size(text: str, where: str, *, signed: bool = False) -> int:
    """Return a number of contracts at 1e-6; `NotExact` if it is none."""
    try:
        return _size(text, signed)
    except NotExact as e:
        raise NotExact(f"kalshi {where}: {e}") from e


def money(text: str, where: str, *, signed: bool = False) -> int:
    """Return dollars at 1e-6; `NotExact` if it is none."""
    return _fixed(text, MONEY_EXP, where, signed=signed)


def mirror(price_e4: int) -> int:
    """Return the YES price of a NO price, and the reverse."""
    return ONE_DOLLAR_E4 - price_e4


def _fixed(text: str, exp: int, where: str, *, signed: bool = False) -> int:
    try:
        return to_fixed(text, exp, signed=signed)
    except NotExact as e:
        raise NotExact(f"kalshi {where}: {e}") from e


def level_price(text: str, where: str) -> int:
    """Return the price of a book level, which lies strictly between 0 and one dollar."""
    value = price(text, where)
    if not 0 < value < ONE_DOLLAR_E4:
        raise MalformedFrame(f"kalshi {where}: expected a level between 0 and one dollar, found {text!r}")
    return value


def decode_levels(pairs: list[tuple[str, str]], where: str, *, mirrored: bool, ascending: bool) -> list[Level]:
    """Return levels, best first, on the YES scale; levels of size 0 are none.

    The order on the wire is not relied on: the venue's own pages contradict each other.

    Raises:
        MalformedFrame: two levels with one price.
    """
    levels = []
    for price_text, size_text in pairs:
        value = level_price(price_text, where)
        count = size(size_text, where)
        if count:
            levels.append((mirror(value) if mirrored else value, count))
    levels.sort(reverse=not ascending)
    if any(one[0] == other[0] for one, other in pairwise(levels)):
        raise MalformedFrame(f"kalshi {where}: two levels with one price in {pairs[:20]!r}")
    return levels


# --- envelope


class Envelope(msgspec.Struct, frozen=True):
    """What every frame carries. `seq` counts per `sid`, over all its markets and over control replies too."""

    type: str
    sid: int | None = None
    seq: int | None = None
    id: int | None = None
    sending_ts_ms: int = 0
    msg: msgspec.Raw = msgspec.Raw()


_ENVELOPE = msgspec.json.Decoder(Envelope)


# hot
def peek(payload: bytes) -> Envelope:
    """Return a frame's type, sequence place and undecoded body.

    Raises:
        MalformedFrame: not a JSON object, or one without a type.
    """
    return decode(_ENVELOPE, payload, "kalshi frame")


# --- book


class OrderbookSnapshot(msgspec.Struct, frozen=True):
    """A whole book on the YES scale, best first: `yes` are the bids, `no` the asks (NO bids, mirrored)."""

    ticker: str
    market_id: str
    yes: list[Level]
    no: list[Level]


class OrderbookDelta(msgspec.Struct, frozen=True):
    """A signed change of one level's size; `no` is the ask side, its price on the YES scale."""

    ticker: str
    side: OutcomeSide
    price: int
    size_delta: int
    time_ns: int
    client_order_id: str


class _Snapshot(msgspec.Struct):
    market_ticker: str
    market_id: str = ""
    # The key of an empty side is absent.
    yes_dollars_fp: list[tuple[str, str]] | None = None
    no_dollars_fp: list[tuple[str, str]] | None = None


class _Delta(msgspec.Struct):
    market_ticker: str
    price_dollars: str
    delta_fp: str
    side: OutcomeSide
    ts_ms: int = 0
    client_order_id: str = ""


_SNAPSHOT = msgspec.json.Decoder(_Snapshot)
_DELTA = msgspec.json.Decoder(_Delta)


def decode_snapshot(frame: Envelope, *, yes_price: bool = True) -> OrderbookSnapshot:
    """Return a snapshot; `yes_price` says how the channel was subscribed.

    An unknown or settled ticker comes as an empty snapshot with an empty `market_id`, not as an error.
    """
    raw = decode(_SNAPSHOT, frame.msg, "kalshi orderbook_snapshot")
    where = f"orderbook_snapshot of {raw.market_ticker}"
    return OrderbookSnapshot(
        raw.market_ticker,
        raw.market_id,
        decode_levels(raw.yes_dollars_fp or [], where, mirrored=False, ascending=False),
        decode_levels(raw.no_dollars_fp or [], where, mirrored=not yes_price, ascending=True),
    )


# hot
def decode_delta(frame: Envelope, *, yes_price: bool = True) -> OrderbookDelta:
    """Return a change of one level; `yes_price` says how the channel was subscribed."""
    raw = decode(_DELTA, frame.msg, "kalshi orderbook_delta")
    value = level_price(raw.price_dollars, "orderbook_delta")
    if raw.side == "no" and not yes_price:
        value = mirror(value)
    change = size(raw.delta_fp, "orderbook_delta", signed=True)
    return OrderbookDelta(
        raw.market_ticker, raw.side, value, change, _ns(raw.ts_ms, "orderbook_delta"), raw.client_order_id
    )


# --- trades and quotes


class Trade(msgspec.Struct, frozen=True):
    """A public trade at the YES price; the taker bought YES (`bid`) or sold it (`ask`). Block trades touch no book."""

    trade_id: str
    ticker: str
    price: int
    size: int
    taker: BookSide
    is_block: bool
    time_ns: int


class Ticker(msgspec.Struct, frozen=True):
    """Best bid and ask as the venue states them; 0 (bid) and 10,000 (ask) mean none. For cross-checks only."""

    ticker: str
    bid: int
    ask: int
    bid_size: int
    ask_size: int
    last: int
    time_ns: int


class _Trade(msgspec.Struct):
    trade_id: str
    market_ticker: str
    yes_price_dollars: str
    count_fp: str
    no_price_dollars: str = ""
    taker_book_side: BookSide | None = None
    taker_outcome_side: OutcomeSide | None = None
    taker_side: OutcomeSide | None = None
    is_block_trade: bool = False
    ts: int = 0
    ts_ms: int = 0


class _Ticker(msgspec.Struct):
    # The documentation requires more fields than the venue sends.
    market_ticker: str
    yes_bid_dollars: str
    yes_ask_dollars: str
    price_dollars: str = "0"
    yes_bid_size_fp: str = "0"
    yes_ask_size_fp: str = "0"
    ts: int = 0
    ts_ms: int = 0


_TRADE = msgspec.json.Decoder(_Trade)
_TICKER = msgspec.json.Decoder(_Ticker)


def decode_trade(frame: Envelope) -> Trade:
    """Return a public trade."""
    raw = decode(_TRADE, frame.msg, "kalshi trade")
    where = f"trade of {raw.market_ticker}"
    return Trade(
        raw.trade_id,
        raw.market_ticker,
        yes_price(raw.yes_price_dollars, raw.no_price_dollars, where),
        positive_size(raw.count_fp, where),
        taker_side(raw.taker_book_side, raw.taker_outcome_side or raw.taker_side, where),
        raw.is_block_trade,
        _ns(raw.ts_ms, where) or raw.ts * NS_PER_S,
    )


def decode_ticker(frame: Envelope) -> Ticker:
    """Return the best bid and ask the venue states."""
    raw = decode(_TICKER, frame.msg, "kalshi ticker")
    where = f"ticker of {raw.market_ticker}"
    return Ticker(
        raw.market_ticker,
        price(raw.yes_bid_dollars, where),
        price(raw.yes_ask_dollars, where),
        size(raw.yes_bid_size_fp, where),
        size(raw.yes_ask_size_fp, where),
        price(raw.price_dollars, where),
        _ns(raw.ts_ms, where) or raw.ts * NS_PER_S,
    )


def yes_price(yes: str, no: str, where: str) -> int:
    """Return the YES price, checked against the NO price where that is stated too."""
    value = price(yes, where)
    if no and price(no, where) != mirror(value):
        raise MalformedFrame(f"kalshi {where}: YES at {yes} and NO at {no} are not one dollar together")
    return value


def positive_size(text: str, where: str) -> int:
    """Return a number of contracts above zero."""
    count = size(text, where)
    if not count:
        raise MalformedFrame(f"kalshi {where}: expected a size above zero, found {text!r}")
    return count


def taker_side(book_side: BookSide | None, outcome_side: OutcomeSide | None, where: str) -> BookSide:
    """Return the taker's side of the book; `book_side` counts, the outcome side is its older name."""
    if book_side is not None:
        return book_side
    if outcome_side is None:
        raise MalformedFrame(f"kalshi {where}: expected taker_book_side, found no side at all")
    return "bid" if outcome_side == "yes" else "ask"


def _ns(ms: int, where: str) -> int:
    # The venue's clock is the present: beyond the year 5000 it is another unit.
    if not 0 <= ms < 100_000_000_000_000:
        raise MalformedFrame(f"kalshi {where}: expected a time in milliseconds, found {ms}")
    return ms * NS_PER_MS


# --- life cycle


class PriceRange(msgspec.Struct, frozen=True):
    """One band of a market's price grid."""

    start: int
    end: int
    step: int


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a market; a field its `event_type` does not carry is empty or 0.

    `event_type`: created, activated, deactivated, close_date_updated, determined, settled,
    price_level_structure_updated, metadata_updated, and what else may come.
    """

    ticker: str
    event_type: str
    price_ranges: list[PriceRange]
    result: str
    settlement_value: int | None
    open_ns: int
    close_ns: int
    determined_ns: int
    settled_ns: int
    exchange_index: int
    event_ticker: str


class EventFeeUpdate(msgspec.Struct, frozen=True):
    """A change of an event's fees; an empty type or a multiplier of None means that the series' value counts again."""

    event_ticker: str
    fee_type: str
    multiplier_e6: int | None


class _Range(msgspec.Struct):
    start: str
    end: str
    step: str


class _Metadata(msgspec.Struct):
    event_ticker: str = ""


class _Lifecycle(msgspec.Struct):
    market_ticker: str
    event_type: str
    price_ranges: list[_Range] | None = None
    result: str | None = None
    settlement_value: str | None = None
    open_ts: int | None = None
    close_ts: int | None = None
    determination_ts: int | None = None
    settled_ts: int | None = None
    exchange_index: int | None = None
    additional_metadata: _Metadata | None = None


class _FeeUpdate(msgspec.Struct):
    event_ticker: str
    fee_type_override: str | None = None
    fee_multiplier_override: msgspec.Raw = msgspec.Raw()


_LIFECYCLE = msgspec.json.Decoder(_Lifecycle)
_FEE_UPDATE = msgspec.json.Decoder(_FeeUpdate)


def decode_lifecycle(frame: Envelope) -> Lifecycle:
    """Return what a `market_lifecycle_v2` frame says of its market."""
    raw = decode(_LIFECYCLE, frame.msg, "kalshi market_lifecycle_v2")
    where = f"lifecycle of {raw.market_ticker}"
    return Lifecycle(
        ticker=raw.market_ticker,
        event_type=raw.event_type,
        price_ranges=price_ranges([(band.start, band.end, band.step) for band in raw.price_ranges or []], where),
        result=raw.result or "",
        settlement_value=None if raw.settlement_value is None else price(raw.settlement_value, where),
        open_ns=(raw.open_ts or 0) * NS_PER_S,
        close_ns=(raw.close_ts or 0) * NS_PER_S,
        determined_ns=(raw.determination_ts or 0) * NS_PER_S,
        settled_ns=(raw.settled_ts or 0) * NS_PER_S,
        exchange_index=raw.exchange_index or 0,
        event_ticker=raw.additional_metadata.event_ticker if raw.additional_metadata else "",
    )


def decode_event_fee_update(frame: Envelope) -> EventFeeUpdate:
    """Return a change of an event's fees."""
    raw = decode(_FEE_UPDATE, frame.msg, "kalshi event_fee_update")
    return EventFeeUpdate(
        raw.event_ticker, raw.fee_type_override or "", multiplier(raw.fee_multiplier_override, "event_fee_update")
    )


def multiplier(raw: msgspec.Raw, where: str) -> int | None:
    """Return a fee multiplier (a JSON number) at 1e-6; None where it is absent or null."""
    text = scalar_text(raw)
    return _fixed(text, MONEY_EXP, where) if text else None


def price_ranges(bands: list[tuple[str, str, str]], where: str) -> list[PriceRange]:
    """Return the bands of a price grid.

    Raises:
        MalformedFrame: a step of 0, a band that ends before it starts or that its step does not divide.
    """
    ranges = []
    for start_text, end_text, step_text in bands:
        start, end, step = price(start_text, where), price(end_text, where), price(step_text, where)
        if step == 0 or end <= start or (end - start) % step:
            raise MalformedFrame(f"kalshi {where}: {start_text} to {end_text} by {step_text} is no price grid")
        ranges.append(PriceRange(start, end, step))
    return ranges
