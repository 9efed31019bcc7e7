"""Generated from `schemas/market/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.decision import FeeTerm
from schemas.enums import DeltaKind, FeeModel, InstrumentKind, InstrumentStatus, Side
from schemas.record import Record

__all__ = ["AuditSnapshot", "BookDelta", "BookSnapshot", "FeedReset", "Instrument", "Notice", "Status", "Tick", "Trade"]

class AuditSnapshot(Record, frozen=True, kw_only=True, gc=False):
    """A book by REST, compared with the streamed one and never applied."""

    schema_name: ClassVar[str] = "crossbook.market.AuditSnapshot"
    has_trail: ClassVar[bool] = True

    instrument: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    price_exp: int
    size_exp: int
    bid_prices: list[int]
    """best first"""
    bid_sizes: list[int]
    ask_prices: list[int]
    """best first"""
    ask_sizes: list[int]
    hash: str = ""
    """the venue's own, empty if none"""
    asked_ts_ns: int
    """when the request was written: the answer shows a moment between this and the receive time"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class BookDelta(Record, frozen=True, kw_only=True, gc=False):
    """One level of one book changed."""

    schema_name: ClassVar[str] = "crossbook.market.BookDelta"
    has_trail: ClassVar[bool] = True

    instrument: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    price_exp: int
    size_exp: int
    side: Side
    """BUY: bid, SELL: ask"""
    kind: DeltaKind
    """ABSOLUTE: size replaces the level; SIGNED: size is added to it"""
    price: int
    size: int
    hash: str = ""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
    more: bool = False
    """another change of the same book follows in the same message: the hash is that of the book after the last"""


class BookSnapshot(Record, frozen=True, kw_only=True, gc=False):
    """The whole book of one instrument."""

    schema_name: ClassVar[str] = "crossbook.market.BookSnapshot"
    has_trail: ClassVar[bool] = True

    instrument: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    price_exp: int
    size_exp: int
    bid_prices: list[int]
    """best first"""
    bid_sizes: list[int]
    ask_prices: list[int]
    """best first"""
    ask_sizes: list[int]
    hash: str = ""
    """the venue's own, empty if none"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
    degraded: bool = False
    """polled by REST, in declared degraded mode: shown, marked, and not traded by default"""
    token: str = ""
    """the venue's id of what the book is of; with the next four what a Polymarket hash covers beside the levels; empty: the hash cannot be recomputed"""
    tick: int = 0
    """tick size as stated with the book, mantissa at price_exp; 0: not stated"""
    size_min: int = 0
    """smallest order, mantissa at size_exp"""
    neg_risk: bool = False
    last_price: str = ""
    """of the last trade, the venue's own text; none: there was no trade; empty: not stated"""


class FeedReset(Record, frozen=True, kw_only=True, gc=False):
    """The books owned by this epoch are suspect from here on; sent to every partition."""

    schema_name: ClassVar[str] = "crossbook.market.FeedReset"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    index: int
    instruments: list[str]
    """empty: all of the feed"""
    closed: bool = False
    """the feed ended"""
    reason: str
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Instrument(Record, frozen=True, kw_only=True, gc=False):
    """Ours: what an instrument is and allows."""

    schema_name: ClassVar[str] = "crossbook.market.Instrument"
    has_trail: ClassVar[bool] = True
    nested: ClassVar[bool] = True

    instrument: str
    """<venue>:<venue's id>"""
    venue: str
    kind: InstrumentKind
    status: InstrumentStatus
    title: str
    event_group: str
    """instruments whose outcomes exclude each other or share one event"""
    category: str = ""
    price_exp: int
    size_exp: int
    tick_from: list[int]
    """lower bound of each price band, mantissa at price_exp"""
    tick_to: list[int]
    tick_step: list[int]
    size_min: int
    """mantissa at size_exp"""
    size_step: int
    notional_min_e6: int = 0
    """smallest marketable order in money"""
    fee_model: FeeModel
    taker_fee_e6: int
    """coefficient"""
    maker_fee_e6: int = 0
    """coefficient"""
    fee_exponent: int = 1
    tokens: list[str] = field(default_factory=list)
    """the venue's ids of YES and NO, where they are things of their own"""
    neg_risk: bool = False
    exchange_index: int = 0
    taker_delay_ms: int = 0
    open_ts_ns: int = 0
    close_ts_ns: int = 0
    """0: not stated"""
    rules_hash: str = ""
    """of the resolution rules' text"""
    payout_e6: int = -1
    """what one YES pays, as the venue says now; -1: it does not say, or not any more"""
    exclusive: bool = False
    """the venue says that at most one outcome of its event pays"""
    grows: bool = False
    """the venue may add outcomes to its event, so those that are named never exhaust it"""
    fees: list[FeeTerm] = field(default_factory=list)
    """what its venue has scheduled: the last that is valid counts in place of taker_fee_e6"""
    recv_ts_ns: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Notice(Record, frozen=True, kw_only=True, gc=False):
    """The venue says that what it states of an instrument, or of all of an event, is no longer what it stated; what it is now its catalogue says."""

    schema_name: ClassVar[str] = "crossbook.market.Notice"
    has_trail: ClassVar[bool] = True

    venue: str
    event_group: str = ""
    """all instruments of this event; empty: one instrument"""
    instrument: str = ""
    """<venue>:<venue's id>; empty: all of an event"""
    reason: str
    """the venue's word"""
    feed: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Status(Record, frozen=True, kw_only=True, gc=False):
    """What can change about an instrument."""

    schema_name: ClassVar[str] = "crossbook.market.Status"
    has_trail: ClassVar[bool] = True

    instrument: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    status: InstrumentStatus
    """UNKNOWN: unchanged"""
    price_exp: int
    tick_from: list[int] = field(default_factory=list)
    """empty: unchanged"""
    tick_to: list[int] = field(default_factory=list)
    tick_step: list[int] = field(default_factory=list)
    result: str = ""
    payout_e6: int = -1
    """what one YES pays, as the venue says now; -1: it does not say"""
    reason: str = ""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Tick(Record, frozen=True, kw_only=True, gc=False):
    """The feed is alive; sent to every partition."""

    schema_name: ClassVar[str] = "crossbook.market.Tick"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Trade(Record, frozen=True, kw_only=True, gc=False):
    """A public trade."""

    schema_name: ClassVar[str] = "crossbook.market.Trade"
    has_trail: ClassVar[bool] = True

    instrument: str
    epoch: int
    """feed epoch of the frame"""
    frame_no: int
    """number of the frame within the feed, without a hole"""
    index: int
    """place within the frame"""
    price_exp: int
    size_exp: int
    price: int
    size: int
    aggressor: Side
    trade_id: str = ""
    """the venue's, empty if none"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
