"""Generated from `schemas/control/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from msgspec import field

from schemas.record import Record

__all__ = ["Checkpoint", "Run", "SourceEnd"]

class SourceEnd(Record, frozen=True, kw_only=True, gc=False):
    """How far one source partition of a sequenced log was taken in."""

    schema_name: ClassVar[str] = "crossbook.control.SourceEnd"

    noun: str
    partition: int
    offset: int
    """the last one"""


class Checkpoint(Record, frozen=True, kw_only=True, gc=False):
    """State of a task. One Kafka transaction holds the items that changed since the one before, and last the head: how far the log is in them."""

    schema_name: ClassVar[str] = "crossbook.control.Checkpoint"
    nested: ClassVar[bool] = True

    task: str
    """<stage>.<log>/<partition>"""
    item: str = ""
    """empty for the task's own small state, and in the head"""
    is_head: bool = False
    """last of its transaction; without it, what precedes is void"""
    incarnation: int
    """of the run whose log is read"""
    line: int
    """a task that started from the beginning of its log begins a new line; items of another line are void"""
    input_offset: int
    """the log below this offset is in the state"""
    state: bytes
    """the task's own, empty in the head"""
    log_ns: int = 0
    """head of a sequenced log: its time there"""
    sources: list[SourceEnd] = field(default_factory=list)
    """head of a sequenced log"""
    ts_ns: int = 0
    """when it was written; enters nothing"""


class Run(Record, frozen=True, kw_only=True, gc=False):
    """One run: the random number that enters every id, and what must not change while it lives."""

    schema_name: ClassVar[str] = "crossbook.control.Run"

    run: str
    incarnation: int
    """random, made when the run's topics are created"""
    created_ts_ns: int
    partitions: int
    """of its hot topics"""
    source: str = ""
    """the run a replay reads, else empty"""
