"""What a sequencer adds to a record, and how a task's inbox takes it off again.

A sequencer forwards the record's bytes unchanged, so any tool reads the value, with one header `seq`:
`noun|partition|offset|now_ns`, where the record stood and the time the log is to take for now. The inbox drops what is
not above the last of its source partition (two sequencers at once do no harm) and keeps log time from going back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.domain.errors import MalformedFrame
from core.runtime.flow import Source
from schemas.decision import Clock
from schemas.record import Record

SEQ_HEADER = "seq"
Headers = dict[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]] | None


class Stamp(NamedTuple):
    """Source and log time of one sequenced record."""

    source: Source
    now_ns: int


def pack(noun: str, partition: int, offset: int, now_ns: int) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a forwarded record."""
    return [(SEQ_HEADER, f"{noun}|{partition}|{offset}|{now_ns}".encode())]


def unpack(headers: Headers) -> Stamp | None:
    """Return the stamp among a record's headers, None if it has none.

    Raises:
        MalformedFrame: the header is there and not in its form.
    """
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        if name == SEQ_HEADER and value is not None:
            text = value.decode() if isinstance(value, bytes) else value
            try:
                noun, partition, offset, now_ns = text.split("|")
                return Stamp(Source(noun, int(partition), int(offset)), int(now_ns))
            except ValueError as e:
                raise MalformedFrame(f"header seq: expected noun|partition|offset|now_ns, found {text[:80]!r}") from e
    return None


class Reached(NamedTuple):
    """How far a sequenced log was read: its time, and the last offset of each source (noun, partition)."""

    log_ns: int
    last: Mapping[tuple[str, int], int]


class Inbox:
    """Order and time of one sequenced log partition, as far as it was read."""

    def __init__(self, reached: Reached | None = None) -> None:
        """Begin, or go on where another was."""
        self.log_ns = reached.log_ns if reached is not None else 0
        self._last = dict(reached.last) if reached is not None else {}

    def reached(self) -> Reached:
        """Return a copy of how far it is."""
        return Reached(self.log_ns, dict(self._last))

    def admit(self, record: Record, stamp: Stamp | None) -> bool:
        """Move log time and return whether the record is new."""
        if stamp is None:
            if type(record) is Clock and record.now_ns > self.log_ns:
                self.log_ns = record.now_ns
            return True
        source = stamp.source
        place = (source.noun, source.partition)
        if source.offset <= self._last.get(place, -1):
            return False
        self._last[place] = source.offset
        self.log_ns = max(self.log_ns, stamp.now_ns)
        return True
