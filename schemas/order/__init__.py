"""Generated from `schemas/order/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.enums import Liquidity, OrderStatus, Outcome, Settlement, Side
from schemas.record import Record

__all__ = ["Alive", "Fill", "Holding", "OrderUpdate", "Payout", "PrivateFrame", "Settled", "Submitting", "VenueCall", "VenueReport"]

class Alive(Record, frozen=True, kw_only=True, gc=False):
    """A gateway can trade this account."""

    schema_name: ClassVar[str] = "crossbook.order.Alive"

    account: str
    writer: str
    ready: bool
    reason: str = ""
    ts_ns: int


class Fill(Record, frozen=True, kw_only=True, gc=False):
    """One execution of one of our orders, as the venue states it."""

    schema_name: ClassVar[str] = "crossbook.order.Fill"
    has_trail: ClassVar[bool] = True

    event_id: str
    order: str
    account: str
    instrument: str
    fill: str
    """the venue's id of it"""
    outcome: Outcome
    """the token that moved"""
    token_side: Side
    size: int
    """at -6"""
    price_e6: int
    """of the token"""
    notional_e6: int
    """size x price"""
    fee_e6: int
    asset: str
    """of notional and fee"""
    liquidity: Liquidity
    settlement: Settlement
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    ts_ns: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class OrderUpdate(Record, frozen=True, kw_only=True, gc=False):
    """What became of an order."""

    schema_name: ClassVar[str] = "crossbook.order.OrderUpdate"
    has_trail: ClassVar[bool] = True

    event_id: str
    order: str
    account: str
    instrument: str
    status: OrderStatus
    terminal: bool
    venue_order: str = ""
    filled: int = 0
    """cumulative, at -6, as the venue states it"""
    price: int = 0
    """after an amendment: the YES price at -4; 0: as it was"""
    size: int = 0
    """after an amendment: the total at -6, what is filled included; 0: as it was"""
    reason: str = ""
    writer: str
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    ts_ns: int
    """when it was learnt"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Payout(Record, frozen=True, kw_only=True, gc=False):
    """What a settled market paid an account, as the venue lists it. One that says otherwise of the same market is a correction."""

    schema_name: ClassVar[str] = "crossbook.order.Payout"
    has_trail: ClassVar[bool] = True

    event_id: str
    """hashed from all that is stated"""
    account: str
    instrument: str
    result: str = ""
    """the venue's word"""
    yes_size: int
    """at -6"""
    no_size: int
    """at -6; what was paid is the net position, YES less NO"""
    revenue_e6: int
    """cash that came"""
    fee_e6: int = 0
    """all fees of the market, charged with its fills"""
    payout_e6: int = -1
    """what one YES paid; -1: not stated"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    ts_ns: int
    recv_ts_ns: int
    """when the answer that said so was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class PrivateFrame(Record, frozen=True, kw_only=True, gc=False):
    """A raw frame of a private stream."""

    schema_name: ClassVar[str] = "crossbook.order.PrivateFrame"

    account: str
    payload: bytes
    recv_ts_ns: int


class Settled(Record, frozen=True, kw_only=True, gc=False):
    """The end of a fill's settlement."""

    schema_name: ClassVar[str] = "crossbook.order.Settled"
    has_trail: ClassVar[bool] = True

    event_id: str
    order: str
    account: str
    instrument: str
    fill: str
    settlement: Settlement
    reference: str = ""
    """transaction hash"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    ts_ns: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Submitting(Record, frozen=True, kw_only=True, gc=False):
    """The exact bytes that will leave, written before they do. The first record of any type for an order decides who may send."""

    schema_name: ClassVar[str] = "crossbook.order.Submitting"
    has_trail: ClassVar[bool] = True

    event_id: str
    order: str
    account: str
    instrument: str
    writer: str
    """gateway instance"""
    method: str
    path: str
    body: bytes
    venue_order: str = ""
    """the venue's id where it is known before sending"""
    client_id: str = ""
    """our id of the order at the venue: it is found by it before its Grant was read"""
    send_by_ns: int
    ts_ns: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class VenueCall(Record, frozen=True, kw_only=True, gc=False):
    """A raw request and its answer, secrets removed."""

    schema_name: ClassVar[str] = "crossbook.order.VenueCall"

    account: str
    order: str = ""
    method: str
    path: str
    request: bytes
    status: int
    """0: no answer"""
    response: bytes
    sent_ts_ns: int
    recv_ts_ns: int


class Holding(Record, frozen=True, kw_only=True, gc=False):
    """What the venue says an account holds of one outcome."""

    schema_name: ClassVar[str] = "crossbook.order.Holding"

    instrument: str
    outcome: Outcome
    size: int
    """at -6"""


class VenueReport(Record, frozen=True, kw_only=True, gc=False):
    """Open orders, holdings and cash as the venue states them."""

    schema_name: ClassVar[str] = "crossbook.order.VenueReport"
    has_trail: ClassVar[bool] = True
    nested: ClassVar[bool] = True

    account: str
    as_of_ns: int
    """the venue's own time of it"""
    cash_e6: int
    holdings: list[Holding]
    open_orders: list[str]
    """our order ids where known, else the venue's"""
    cash_shards: list[int] = field(default_factory=list)
    """the venue's exchange shards of shard_cash_e6; empty: it has none, or did not state them"""
    shard_cash_e6: list[int] = field(default_factory=list)
    """what of cash_e6 lies on each: only that pays for orders there, and a shard that is not named has none"""
    ts_ns: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
