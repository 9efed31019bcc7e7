"""Generated from `schemas/raw/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.enums import RestPurpose
from schemas.record import Record

__all__ = ["Closed", "Description", "FeedTick", "Frame", "Gap", "Opened", "Ready", "RestBook"]

class Closed(Record, frozen=True, kw_only=True, gc=False):
    """A feed ended. On raw.frame it is numbered with the frames."""

    schema_name: ClassVar[str] = "crossbook.raw.Closed"

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    """on raw.feed: of the last frame"""
    reason: str
    recv_ts_ns: int


class Description(Record, frozen=True, kw_only=True, gc=False):
    """The venue's description of an instrument, as it came."""

    schema_name: ClassVar[str] = "crossbook.raw.Description"
    has_trail: ClassVar[bool] = True

    venue: str
    instrument: str
    payload: bytes
    """the market object"""
    context: bytes
    """what else the venue says of it: the series or event object; empty if nothing"""
    recv_ts_ns: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class FeedTick(Record, frozen=True, kw_only=True, gc=False):
    """The feed's socket was read to the end and spoke within its keep-alive limit."""

    schema_name: ClassVar[str] = "crossbook.raw.FeedTick"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    recv_ts_ns: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Frame(Record, frozen=True, kw_only=True, gc=False):
    """Bytes as they came from the venue."""

    schema_name: ClassVar[str] = "crossbook.raw.Frame"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    chunk: int = 0
    """0-based part of a frame above the chunk limit"""
    chunks: int = 1
    recv_ts_ns: int
    payload: bytes
    overtaken: bool = False
    """the venue's sequence says that later frames came before it: what it says of books changes none"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Gap(Record, frozen=True, kw_only=True, gc=False):
    """The venue's sequence skipped: what the feed's books hold is suspect."""

    schema_name: ClassVar[str] = "crossbook.raw.Gap"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    instruments: list[str]
    """empty: all of the feed"""
    reason: str
    recv_ts_ns: int
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""


class Opened(Record, frozen=True, kw_only=True, gc=False):
    """A feed begins; the offset of this record on raw.feed is the feed's epoch."""

    schema_name: ClassVar[str] = "crossbook.raw.Opened"

    feed: str
    venue: str
    worker: str
    """who opened it"""
    slot: int
    instruments: list[str]
    recv_ts_ns: int
    degraded: bool = False
    """its books are polled by REST"""


class Ready(Record, frozen=True, kw_only=True, gc=False):
    """Each instrument of the feed has its snapshot acknowledged by Kafka."""

    schema_name: ClassVar[str] = "crossbook.raw.Ready"

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    recv_ts_ns: int


class RestBook(Record, frozen=True, kw_only=True, gc=False):
    """A book as the venue's REST answered it, numbered among the frames of a feed: evidence (AUDIT) or, on a degraded feed, all there is (POLL)."""

    schema_name: ClassVar[str] = "crossbook.raw.RestBook"
    has_trail: ClassVar[bool] = True

    feed: str
    """name of the feed: <venue>-<slot>"""
    venue: str
    epoch: int
    """offset of the feed's Opened on raw.feed"""
    frame_no: int
    instrument: str
    purpose: RestPurpose
    asked_ts_ns: int
    """when the request was written"""
    recv_ts_ns: int
    """when the answer was complete"""
    payload: bytes
    """the answer's body"""
    trail: list[int] = field(default_factory=list)
    """ns since the epoch, one entry for each hop in flow order; never part of an id or a decision"""
