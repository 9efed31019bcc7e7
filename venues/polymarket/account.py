"""What Polymarket says about an account: the user channel, and its REST lists and answers.

Source: docs.polymarket.com/asyncapi-user.json, /api-spec/clob-openapi.yaml; fixtures: `ws_user_*`, `clob_order*`,
`clob_trade*`, `clob_post_order*`, `clob_cancel*`, `clob_balance*` of the `polymarket` captures. One field comes as text or
number, in seconds or milliseconds, empty or null, by place and time: all of that is read.
"""

import msgspec

from core.domain.errors import MalformedFrame
from core.domain.units import ONE_DOLLAR_E4
from venues.polymarket.events import Pong, Side, Unknown
from venues.polymarket.wire import epoch_ns, money, price, size
from venues.text import decode, scalar_text

END_CURSOR = "LTE="
"""The cursor of the last page."""

TRADE_TERMINAL = frozenset({"CONFIRMED", "FAILED"})
"""MATCHED -> MINED -> CONFIRMED, with RETRYING in between; FAILED takes the position back."""


class OrderUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the venue states it, on the user channel or over REST.

    `kind`: PLACEMENT, UPDATE, CANCELLATION, empty over REST. `status` has no prefix; what follows the first `_` of a free
    text is in `reason`. `original` of a FAK or FOK BUY is its budget in dollars, not shares.
    """

    order_id: str
    kind: str
    status: str
    reason: str
    market: str
    asset_id: str
    side: Side
    price: int
    original: int
    matched: int
    order_type: str
    outcome: str
    owner: str
    maker_address: str
    trade_ids: list[str]
    created_ns: int
    expiration_ns: int
    time_ns: int


class MakerOrder(msgspec.Struct, frozen=True):
    """One resting order a trade took from; `side` None: not stated. Its token can be the market's other one."""

    order_id: str
    asset_id: str
    side: Side | None
    price: int
    matched: int
    owner: str
    maker_address: str


class UserTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A trade one of our orders took part in, sent once for each status and sometimes twice.

    Token, side, price and size are the TAKER's, whoever we are; `price` is an average, rounded, when several makers were
    taken: `trade_fills` gives what is exact.
    """

    trade_id: str
    status: str
    market: str
    asset_id: str
    side: Side
    price: int
    size: int
    taker_order_id: str
    trader_side: str
    outcome: str
    owner: str
    maker_address: str
    maker_orders: list[MakerOrder]
    bucket_index: int
    transaction_hash: str
    match_ns: int
    time_ns: int


class TradeFill(msgspec.Struct, frozen=True):
    """One of our fills in a trade; `fill_id` is unique for (trade, resting order), the same at every status."""

    fill_id: str
    order_id: str
    asset_id: str
    side: Side
    price: int
    size: int
    is_taker: bool


UserEvent = OrderUpdate | UserTrade | Pong | Unknown


# --- as they stand on the wire


class _Order(msgspec.Struct):
    id: str
    market: str
    asset_id: str
    side: Side
    price: msgspec.Raw
    original_size: msgspec.Raw
    status: str = ""
    size_matched: msgspec.Raw = msgspec.Raw()
    type: str = ""
    order_type: str = ""
    outcome: str = ""
    owner: str = ""
    maker_address: str = ""
    associate_trades: list[str] | None = None
    created_at: msgspec.Raw = msgspec.Raw()
    expiration: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()


class _MakerOrder(msgspec.Struct):
    order_id: str
    asset_id: str
    price: msgspec.Raw
    matched_amount: msgspec.Raw
    side: Side | None = None
    owner: str = ""
    maker_address: str = ""


class _Trade(msgspec.Struct):
    id: str
    market: str
    asset_id: str
    side: Side
    price: msgspec.Raw
    size: msgspec.Raw
    status: str
    taker_order_id: str
    trader_side: str = ""
    outcome: str = ""
    owner: str = ""
    maker_address: str = ""
    maker_orders: list[_MakerOrder] | None = None
    bucket_index: int = 0
    transaction_hash: str | None = None
    match_time: msgspec.Raw = msgspec.Raw()
    matchtime: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()
    last_update: msgspec.Raw = msgspec.Raw()


class _Head(msgspec.Struct):
    event_type: str = ""
    type: str = ""


class _OrderPage(msgspec.Struct):
    data: list[_Order]
    next_cursor: str = END_CURSOR


class _TradePage(msgspec.Struct):
    data: list[_Trade]
    next_cursor: str = END_CURSOR


_HEAD, _ITEMS = msgspec.json.Decoder(_Head), msgspec.json.Decoder(list[msgspec.Raw])
_ORDER, _TRADE = msgspec.json.Decoder(_Order), msgspec.json.Decoder(_Trade)
_ORDER_PAGE, _TRADE_PAGE = msgspec.json.Decoder(_OrderPage), msgspec.json.Decoder(_TradePage)
_ORDER_KINDS = {"PLACEMENT", "UPDATE", "CANCELLATION"}


# --- user channel


def decode_user_frame(payload: bytes) -> list[UserEvent]:
    """Return the events of one frame of the user channel, in the order received.

    Raises:
        MalformedFrame, NotExact: any message of the frame is not what the protocol says.
    """
    body = payload.strip()
    if body == b"PONG":
        return [Pong()]
    items = [bytes(i) for i in decode(_ITEMS, body, "polymarket user frame")] if body[:1] == b"[" else [body]
    return [_user_event(item) for item in items]


def _user_event(item: bytes) -> UserEvent:
    head = decode(_HEAD, item, "polymarket user message")
    # Recorded messages can lack event_type; `type` tells the two apart.
    if head.event_type == "order" or (not head.event_type and head.type in _ORDER_KINDS):
        return _order(decode(_ORDER, item, "polymarket order"))
    if head.event_type == "trade" or (not head.event_type and head.type == "TRADE"):
        return _trade(decode(_TRADE, item, "polymarket trade"))
    return Unknown(head.event_type or head.type)


# --- REST


def decode_order(body: bytes) -> OrderUpdate:
    """Return one order, as `GET /data/order/{id}` answers."""
    return _order(decode(_ORDER, body, "polymarket order"))


def decode_orders(body: bytes) -> tuple[list[OrderUpdate], str]:
    """Return a page of open orders and the cursor of the next (`END_CURSOR`: none)."""
    page = decode(_ORDER_PAGE, body, "polymarket orders")
    return [_order(raw) for raw in page.data], page.next_cursor


def decode_trade(body: bytes) -> UserTrade:
    """Return one trade as REST lists it."""
    return _trade(decode(_TRADE, body, "polymarket trade"))


def decode_trades(body: bytes) -> tuple[list[UserTrade], str]:
    """Return a page of our trades and the cursor of the next."""
    page = decode(_TRADE_PAGE, body, "polymarket trades")
    return [_trade(raw) for raw in page.data], page.next_cursor


def _order(raw: _Order) -> OrderUpdate:
    where = f"order {raw.id}"
    status, _, reason = _plain_status(raw.status, "ORDER_STATUS_").partition("_")
    return OrderUpdate(
        order_id=raw.id,
        kind=raw.type if raw.type in _ORDER_KINDS else "",
        status=status,
        reason=reason,
        market=raw.market,
        asset_id=raw.asset_id,
        side=raw.side,
        price=price(scalar_text(raw.price) or "0", where),
        original=size(scalar_text(raw.original_size) or "0", where),
        matched=size(scalar_text(raw.size_matched) or "0", where),
        order_type=raw.order_type,
        outcome=raw.outcome,
        owner=raw.owner,
        maker_address=raw.maker_address,
        trade_ids=raw.associate_trades or [],
        created_ns=epoch_ns(scalar_text(raw.created_at), where),
        expiration_ns=epoch_ns(scalar_text(raw.expiration), where),
        time_ns=epoch_ns(scalar_text(raw.timestamp), where),
    )


def _trade(raw: _Trade) -> UserTrade:
    where = f"trade {raw.id}"
    match_time = scalar_text(raw.match_time) or scalar_text(raw.matchtime)
    return UserTrade(
        trade_id=raw.id,
        status=_plain_status(raw.status, "TRADE_STATUS_"),
        market=raw.market,
        asset_id=raw.asset_id,
        side=raw.side,
        price=price(scalar_text(raw.price), where),
        size=size(scalar_text(raw.size), where),
        taker_order_id=raw.taker_order_id,
        trader_side=raw.trader_side,
        outcome=raw.outcome,
        owner=raw.owner,
        maker_address=raw.maker_address,
        maker_orders=[_maker(one, where) for one in raw.maker_orders or []],
        bucket_index=raw.bucket_index,
        transaction_hash=raw.transaction_hash or "",
        match_ns=epoch_ns(match_time, where),
        time_ns=epoch_ns(scalar_text(raw.timestamp) or scalar_text(raw.last_update), where),
    )


def _maker(raw: _MakerOrder, where: str) -> MakerOrder:
    return MakerOrder(
        raw.order_id,
        raw.asset_id,
        raw.side,
        price(scalar_text(raw.price), where),
        size(scalar_text(raw.matched_amount), where),
        raw.owner,
        raw.maker_address,
    )


def _plain_status(status: str, prefix: str) -> str:
    return status.removeprefix(prefix)


# --- fills


def trade_fills(trade: UserTrade, *, owner: str) -> list[TradeFill]:
    """Return our own fills in a trade; `owner` is our API key.

    As taker we are filled once by each maker at that maker's price, mirrored where the maker's token is the other one
    (a mint or merge). As maker our fills are those entries that are ours.

    Raises:
        MalformedFrame: the makers' sizes are not the trade's, or it is a maker's trade without an order of ours.
    """
    if trade.trader_side == "MAKER":
        fills = [_maker_fill(trade, maker) for maker in trade.maker_orders if maker.owner == owner]
        if not fills:
            raise MalformedFrame(f"polymarket trade {trade.trade_id}: expected an order of ours among the makers")
        return fills
    if not trade.maker_orders:
        return [
            TradeFill(trade.trade_id, trade.taker_order_id, trade.asset_id, trade.side, trade.price, trade.size, True)
        ]
    total = sum(maker.matched for maker in trade.maker_orders)
    if total != trade.size:
        raise MalformedFrame(
            f"polymarket trade {trade.trade_id}: expected makers of {trade.size}e-6 together, found {total}e-6"
        )
    return [_taker_fill(trade, maker) for maker in trade.maker_orders]


def _taker_fill(trade: UserTrade, maker: MakerOrder) -> TradeFill:
    paid = maker.price if maker.asset_id == trade.asset_id else ONE_DOLLAR_E4 - maker.price
    fill_id = f"{trade.trade_id}:{maker.order_id}"
    return TradeFill(fill_id, trade.taker_order_id, trade.asset_id, trade.side, paid, maker.matched, True)


def _maker_fill(trade: UserTrade, maker: MakerOrder) -> TradeFill:
    opposite: Side = "SELL" if trade.side == "BUY" else "BUY"
    # The same token changes hands; the other token is minted or merged, with both on one side.
    side = maker.side or (opposite if maker.asset_id == trade.asset_id else trade.side)
    fill_id = f"{trade.trade_id}:{maker.order_id}"
    return TradeFill(fill_id, maker.order_id, maker.asset_id, side, maker.price, maker.matched, False)


# --- balances


class BalanceAllowance(msgspec.Struct, frozen=True):
    """What the venue believes an account holds of one asset, in millionths, and what its exchanges may move (None: unknown).

    It is the venue's cached view: after a change on chain it has to be told to look again.
    """

    balance: int
    allowance: int | None


class _Balance(msgspec.Struct):
    balance: str
    allowance: str | None = None
    allowances: dict[str, str] | None = None


_BALANCE = msgspec.json.Decoder(_Balance)


def decode_balance_allowance(body: bytes) -> BalanceAllowance:
    """Return a balance. The venue states millionths as a whole number; a number with a point is taken as dollars.

    Of several allowances the smallest counts.
    """
    raw = decode(_BALANCE, body, "polymarket balance")
    stated = list(raw.allowances.values()) if raw.allowances else [raw.allowance] if raw.allowance else []
    allowances = [_base_units(text) for text in stated]
    return BalanceAllowance(_base_units(raw.balance), min(allowances) if allowances else None)


def _base_units(text: str) -> int:
    if "." in text:
        return money(text, "balance")
    # An unlimited allowance is 2**256 - 1: it does not fit `to_fixed`'s 64 bits.
    if not (text.isascii() and text.isdecimal() and len(text) <= 78):
        raise MalformedFrame(f"polymarket balance: expected a whole number of millionths, found {text[:90]!r}")
    return int(text)
