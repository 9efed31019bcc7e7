"""Generated from `schemas/dead/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from schemas.enums import ErrorClass, LetterState
from schemas.record import Record

__all__ = ["Dead", "Returned", "State"]

class Dead(Record, frozen=True, kw_only=True, gc=False):
    """A record that could not be handled, with its bytes."""

    schema_name: ClassVar[str] = "crossbook.dead.Dead"

    stage: str
    source_topic: str
    source_partition: int
    source_offset: int
    error_class: ErrorClass
    error: str
    """name of the error"""
    reason: str
    key: bytes
    value: bytes
    ts_ns: int
    kafka_ts_ns: int = 0
    """Kafka's own time of the source record"""


class Returned(Record, frozen=True, kw_only=True, gc=False):
    """A record that a resent dead letter is, or became, with the place it has or would have had. Only sinks read it."""

    schema_name: ClassVar[str] = "crossbook.dead.Returned"

    letter: str
    """<stage>/<offset in dead.<stage>>"""
    noun: str
    """topic without the run"""
    partition: int
    offset: int
    """-1: it never stood there"""
    kafka_ts_ns: int = 0
    """Kafka's own time of the original"""
    key: bytes
    value: bytes
    """the record with its schema id"""


class State(Record, frozen=True, kw_only=True, gc=False):
    """What became of a dead letter; without one it is open."""

    schema_name: ClassVar[str] = "crossbook.dead.State"

    letter: str
    """<stage>/<offset in dead.<stage>>"""
    state: LetterState
    """RESENT: nobody has said yet what became of it; AGAIN: it was refused again"""
    reason: str = ""
    records: int = 0
    """how many records it became"""
    ts_ns: int = 0
