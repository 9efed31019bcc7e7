"""What Kalshi says about an account, on its private channels and over REST.

Source: docs.kalshi.com api-reference (3.32.0) and websockets/*; fixtures: `orders__*`, `fills__*`, `portfolio__*`,
`auth__balance_*` of the `kalshi` captures. The venue names one thing differently by place (`ticker`, `market_ticker`;
`subaccount`, `subaccount_number`; suffixed and bare numbers); here each thing has one name.
"""

import msgspec

from core.domain.errors import MalformedFrame
from venues.kalshi.wire import (
    BookSide,
    Envelope,
    OutcomeSide,
    money,
    positive_size,
    price,
    size,
    taker_side,
)
from venues.text import NS_PER_MS, NS_PER_S, T, decode, instant_ns


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of one of our orders, at the YES price; `side` bid bought YES, ask sold YES (or bought NO).

    The private channel states our position after it; the REST list does not (None), and names no client order id.
    """

    trade_id: str
    order_id: str
    client_order_id: str
    ticker: str
    side: BookSide
    price: int
    size: int
    fee: int
    is_taker: bool
    position_after: int | None
    time_ns: int
    exchange_index: int


class OrderState(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the venue last saw it. `status`: resting, canceled, executed, or a word we do not know.

    The REST read lags: a cancelled order was seen resting 0.4 s after its acknowledgement.
    """

    order_id: str
    client_order_id: str
    ticker: str
    side: BookSide
    price: int
    status: str
    initial: int
    remaining: int
    filled: int
    cost: int
    fees: int
    reason: str
    time_ns: int
    expiration_ns: int
    exchange_index: int


class Position(msgspec.Struct, frozen=True):
    """A signed position (+ YES, - NO), at the time the venue states (0: none)."""

    ticker: str
    position: int
    fees_paid: int
    realized_pnl: int
    time_ns: int


class Balance(msgspec.Struct, frozen=True):
    """Cash by shard (`exchange_index`), and its sum; only a shard's own cash covers its orders."""

    total: int
    by_shard: dict[int, int]
    time_ns: int


class Created(msgspec.Struct, frozen=True):
    """The answer to a create: it was accepted, which does not mean that it rests. Averages stay text: they are rounded."""

    order_id: str
    client_order_id: str
    filled: int
    remaining: int
    average_price: str
    average_fee: str
    time_ns: int


class Cancelled(msgspec.Struct, frozen=True):
    """The answer to a cancel."""

    order_id: str
    client_order_id: str
    reduced_by: int
    time_ns: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a market paid us. `value` is the payout of one YES at 1e-4 (None: not stated)."""

    ticker: str
    result: str
    yes_size: int
    no_size: int
    revenue: int
    fee: int
    value: int | None
    time_ns: int
    exchange_index: int


# --- as they stand on the wire


class _Fill(msgspec.Struct):
    trade_id: str
    order_id: str
    yes_price_dollars: str
    count_fp: str
    fee_cost: str
    is_taker: bool
    market_ticker: str = ""
    ticker: str = ""
    client_order_id: str = ""
    book_side: BookSide | None = None
    outcome_side: OutcomeSide | None = None
    post_position_fp: str | None = None
    ts: int | None = None
    ts_ms: int | None = None
    created_time: str | None = None
    exchange_index: int = 0


class _Order(msgspec.Struct):
    order_id: str
    ticker: str
    status: str
    yes_price_dollars: str
    initial_count_fp: str
    remaining_count_fp: str
    fill_count_fp: str
    book_side: BookSide | None = None
    outcome_side: OutcomeSide | None = None
    client_order_id: str | None = None
    taker_fill_cost_dollars: str = "0"
    maker_fill_cost_dollars: str = "0"
    taker_fees_dollars: str = "0"
    maker_fees_dollars: str = "0"
    last_update_reason: str | None = None
    last_update_time: str | None = None
    created_time: str | None = None
    expiration_time: str | None = None
    last_updated_ts_ms: int | None = None
    created_ts_ms: int | None = None
    expiration_ts_ms: int | None = None
    exchange_index: int = 0


class _Position(msgspec.Struct):
    position_fp: str
    market_ticker: str = ""
    ticker: str = ""
    fees_paid_dollars: str = "0"
    realized_pnl_dollars: str = "0"
    last_updated_ts: str = ""


class _Shard(msgspec.Struct):
    balance: str
    exchange_index: int = 0


class _Balance(msgspec.Struct):
    balance_dollars: str
    updated_ts: int = 0
    balance_breakdown: list[_Shard] | None = None


class _Netting(msgspec.Struct):
    subaccount_number: int
    enabled: bool


class _Nettings(msgspec.Struct):
    netting_configs: list[_Netting]


class _Created(msgspec.Struct):
    order_id: str
    fill_count: str
    remaining_count: str
    client_order_id: str = ""
    average_fill_price: str = ""
    average_fee_paid: str = ""
    ts_ms: int = 0


class _Cancelled(msgspec.Struct):
    order_id: str
    reduced_by: str
    client_order_id: str = ""
    ts_ms: int = 0


class _Settlement(msgspec.Struct):
    ticker: str
    market_result: str
    revenue: int
    settled_time: str
    yes_count_fp: str = "0"
    no_count_fp: str = "0"
    fee_cost: str = "0"
    value: int | None = None
    exchange_index: int = 0


class _Settlements(msgspec.Struct):
    settlements: list[_Settlement]
    cursor: str = ""


class _Fills(msgspec.Struct):
    fills: list[_Fill]
    cursor: str = ""


class _Orders(msgspec.Struct):
    orders: list[_Order]
    cursor: str = ""


class _OneOrder(msgspec.Struct):
    order: _Order


class _Positions(msgspec.Struct):
    market_positions: list[_Position]
    cursor: str = ""


def _decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    return msgspec.json.Decoder(kind)


_FILL, _ORDER, _POSITION = _decoder(_Fill), _decoder(_Order), _decoder(_Position)
_FILLS, _ORDERS, _POSITIONS = _decoder(_Fills), _decoder(_Orders), _decoder(_Positions)
_SETTLEMENTS = _decoder(_Settlements)
_ONE_ORDER, _BALANCE, _CREATED, _CANCELLED, _NETTINGS = (
    _decoder(_OneOrder),
    _decoder(_Balance),
    _decoder(_Created),
    _decoder(_Cancelled),
    _decoder(_Nettings),
)


# --- private channels


def decode_fill(frame: Envelope) -> Fill:
    """Return a frame of the `fill` channel. These frames have no `seq`: what is lost is found over REST only."""
    return _fill(decode(_FILL, frame.msg, "kalshi fill"))


def decode_user_order(frame: Envelope) -> OrderState:
    """Return a frame of the `user_orders` channel."""
    return _order(decode(_ORDER, frame.msg, "kalshi user_order"))


def decode_market_position(frame: Envelope) -> Position:
    """Return a frame of the `market_positions` channel; an older one can follow a newer fill."""
    return _position(decode(_POSITION, frame.msg, "kalshi market_position"))


# --- REST


def decode_fills(body: bytes) -> tuple[list[Fill], str]:
    """Return a page of fills and the cursor of the next (`""`: none)."""
    page = decode(_FILLS, body, "kalshi fills")
    return [_fill(raw) for raw in page.fills], page.cursor


def decode_orders(body: bytes) -> tuple[list[OrderState], str]:
    """Return a page of orders and the cursor of the next."""
    page = decode(_ORDERS, body, "kalshi orders")
    return [_order(raw) for raw in page.orders], page.cursor


def decode_order(body: bytes) -> OrderState:
    """Return one order, as `GET /portfolio/orders/{id}` and the amend answer wrap it."""
    return _order(decode(_ONE_ORDER, body, "kalshi order").order)


def decode_positions(body: bytes) -> tuple[list[Position], str]:
    """Return a page of positions and the cursor of the next."""
    page = decode(_POSITIONS, body, "kalshi positions")
    return [_position(raw) for raw in page.market_positions], page.cursor


def decode_settlements(body: bytes) -> tuple[list[Settlement], str]:
    """Return a page of settlements and the cursor of the next; the wire counts revenue and value in whole cents."""
    page = decode(_SETTLEMENTS, body, "kalshi settlements")
    return [_settlement(raw) for raw in page.settlements], page.cursor


def decode_balance(body: bytes) -> Balance:
    """Return the cash of an account; the integer `balance` of the body is truncated cents and is not read."""
    raw = decode(_BALANCE, body, "kalshi balance")
    shards = {s.exchange_index: money(s.balance, "balance", signed=True) for s in raw.balance_breakdown or []}
    return Balance(money(raw.balance_dollars, "balance", signed=True), shards, raw.updated_ts * NS_PER_S)


def decode_netting(body: bytes) -> frozenset[int]:
    """Return the subaccounts whose collateral is returned across the markets of an event (0: the primary account)."""
    raw = decode(_NETTINGS, body, "kalshi subaccount netting")
    return frozenset(one.subaccount_number for one in raw.netting_configs if one.enabled)


def decode_created(body: bytes) -> Created:
    """Return the answer to `POST /portfolio/events/orders`."""
    raw = decode(_CREATED, body, "kalshi create order")
    return Created(
        raw.order_id,
        raw.client_order_id,
        size(raw.fill_count, "create order"),
        size(raw.remaining_count, "create order"),
        raw.average_fill_price,
        raw.average_fee_paid,
        raw.ts_ms * NS_PER_MS,
    )


def decode_cancelled(body: bytes) -> Cancelled:
    """Return the answer to `DELETE /portfolio/events/orders/{id}`."""
    raw = decode(_CANCELLED, body, "kalshi cancel order")
    return Cancelled(raw.order_id, raw.client_order_id, size(raw.reduced_by, "cancel order"), raw.ts_ms * NS_PER_MS)


def _fill(raw: _Fill) -> Fill:
    ticker = raw.market_ticker or raw.ticker
    if not ticker:
        raise MalformedFrame(f"kalshi fill {raw.trade_id}: expected market_ticker or ticker, found neither")
    where = f"fill {raw.trade_id}"
    after = raw.post_position_fp
    return Fill(
        trade_id=raw.trade_id,
        order_id=raw.order_id,
        client_order_id=raw.client_order_id,
        ticker=ticker,
        side=taker_side(raw.book_side, raw.outcome_side, where),
        price=price(raw.yes_price_dollars, where),
        size=positive_size(raw.count_fp, where),
        fee=money(raw.fee_cost, where, signed=True),
        is_taker=raw.is_taker,
        position_after=None if after is None else size(after, where, signed=True),
        time_ns=_time_ns(raw.ts_ms, raw.created_time, where) or (raw.ts or 0) * NS_PER_S,
        exchange_index=raw.exchange_index,
    )


def _order(raw: _Order) -> OrderState:
    where = f"order {raw.order_id}"
    return OrderState(
        order_id=raw.order_id,
        client_order_id=raw.client_order_id or "",
        ticker=raw.ticker,
        side=taker_side(raw.book_side, raw.outcome_side, where),
        price=price(raw.yes_price_dollars, where),
        status=raw.status,
        initial=size(raw.initial_count_fp, where),
        remaining=size(raw.remaining_count_fp, where),
        filled=size(raw.fill_count_fp, where),
        cost=money(raw.taker_fill_cost_dollars, where) + money(raw.maker_fill_cost_dollars, where),
        fees=money(raw.taker_fees_dollars, where, signed=True) + money(raw.maker_fees_dollars, where, signed=True),
        reason=raw.last_update_reason or "",
        time_ns=_time_ns(raw.last_updated_ts_ms or raw.created_ts_ms, raw.last_update_time or raw.created_time, where),
        expiration_ns=_time_ns(raw.expiration_ts_ms, raw.expiration_time, where),
        exchange_index=raw.exchange_index,
    )


def _position(raw: _Position) -> Position:
    ticker = raw.market_ticker or raw.ticker
    if not ticker:
        raise MalformedFrame("kalshi position: expected market_ticker or ticker, found neither")
    where = f"position in {ticker}"
    return Position(
        ticker,
        size(raw.position_fp, where, signed=True),
        money(raw.fees_paid_dollars, where, signed=True),
        money(raw.realized_pnl_dollars, where, signed=True),
        instant_ns(raw.last_updated_ts, where),
    )


def _settlement(raw: _Settlement) -> Settlement:
    where = f"settlement of {raw.ticker}"
    return Settlement(
        ticker=raw.ticker,
        result=raw.market_result,
        yes_size=size(raw.yes_count_fp, where),
        no_size=size(raw.no_count_fp, where),
        revenue=raw.revenue * 10_000,
        fee=money(raw.fee_cost, where, signed=True),
        value=None if raw.value is None else raw.value * 100,
        time_ns=instant_ns(raw.settled_time, where),
        exchange_index=raw.exchange_index,
    )


def _time_ns(ms: int | None, text: str | None, where: str) -> int:
    return ms * NS_PER_MS if ms else instant_ns(text or "", where)
