"""Generated from `schemas/derived/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.enums import AuditVerdict, BookState
from schemas.record import Record

__all__ = ["Audit", "Depth", "Quote", "Resync", "Tick"]

class Audit(Record, frozen=True, kw_only=True, gc=False):
    """What the comparison of a streamed book with a REST snapshot found."""

    schema_name: ClassVar[str] = "crossbook.derived.Audit"
    has_trail: ClassVar[bool] = True

    instrument: str
    version_offset: int
    """offset in market.event"""
    version_index: int
    """place among that record's outputs"""
    epoch: int
    """of the streamed book"""
    verdict: AuditVerdict
    """MOVED: each difference is explained by a change between asking and a little after the answer"""
    levels: int
    """levels compared"""
    levels_different: int
    """levels no state within the tolerated time explains"""
    detail: str = ""
    """the first difference in words, empty if none"""
    asked_ts_ns: int
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Depth(Record, frozen=True, kw_only=True, gc=False):
    """Top ten levels of one instrument. Trust is in the Quote: a Depth counts only while a Quote names it."""

    schema_name: ClassVar[str] = "crossbook.derived.Depth"
    has_trail: ClassVar[bool] = True

    instrument: str
    version_offset: int
    """offset in market.event"""
    version_index: int
    """place among that record's outputs"""
    state: BookState
    price_exp: int
    size_exp: int
    bid_prices: list[int]
    """best first"""
    bid_sizes: list[int]
    ask_prices: list[int]
    """best first"""
    ask_sizes: list[int]
    epoch: int
    repeat: bool = False
    book_frame_no: int = -1
    """origin, with epoch, of the last record applied to this book; -1 where not stated"""
    book_index: int = -1
    cause: str = ""
    """of the state, empty while LIVE"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Quote(Record, frozen=True, kw_only=True, gc=False):
    """Best bid and offer of one instrument with its trust. A size of 0 means no quote on that side."""

    schema_name: ClassVar[str] = "crossbook.derived.Quote"
    has_trail: ClassVar[bool] = True

    instrument: str
    version_offset: int
    """offset in market.event"""
    version_index: int
    """place among that record's outputs"""
    depth_offset: int
    """version of the Depth it belongs to"""
    depth_index: int
    state: BookState
    cause: str = ""
    """of the state, empty while LIVE"""
    price_exp: int
    size_exp: int
    bid_price: int
    bid_size: int
    ask_price: int
    ask_size: int
    imbalance_e6: int = 0
    """(bid size - ask size) / sum, millionths"""
    microprice_e6: int = 0
    """size-weighted mid, millionths of the price unit"""
    epoch: int
    repeat: bool = False
    """said before under the same version"""
    venue_ts_ns: int = 0
    """the venue's own time, 0 where it states none"""
    recv_ts_ns: int
    """when the frame that caused this was read from the socket"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Resync(Record, frozen=True, kw_only=True, gc=False):
    """Ask ingest for a snapshot of one instrument."""

    schema_name: ClassVar[str] = "crossbook.derived.Resync"
    has_trail: ClassVar[bool] = True

    instrument: str
    venue: str
    epoch: int
    """of the feed that owns the book"""
    version_offset: int
    """offset in market.event"""
    version_index: int
    """place among that record's outputs"""
    cause: str
    ts_ns: int
    """log time"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Tick(Record, frozen=True, kw_only=True, gc=False):
    """Everything before this partition was alive at ts_ns."""

    schema_name: ClassVar[str] = "crossbook.derived.Tick"
    has_trail: ClassVar[bool] = True

    partition: int
    ts_ns: int
    """log time of market.event"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
