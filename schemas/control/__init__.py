"""Generated from `schemas/control/*.avsc` by `make schemas`; do not edit."""

from typing import ClassVar

from schemas.record import Record

__all__ = ["Run"]

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
