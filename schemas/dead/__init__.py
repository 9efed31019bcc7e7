"""Generated from `schemas/dead/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from schemas.enums import ErrorClass
from schemas.record import Record

__all__ = ["Dead"]

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
