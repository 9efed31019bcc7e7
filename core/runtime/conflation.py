"""Conflation: of the records of one source partition that wait, which are still worth appending. Pure.

Only three kinds may be left out: a Quote below a newer one of its instrument, with the Depth it names, and a Tick before
a newer one. Newest is what the record's version says, not its place: a predecessor that thawed may write old versions
behind new ones, and a Quote that says SUSPECT must not give way to one that was LIVE before it. All else stays, and all
that stays keeps its order, so offsets rise and a reader that drops what is not above the last drops nothing of it.

A Quote stays together with the Depth it names; a Depth whose Quote is still to come stays too. Bodies are not decoded:
kind and version are peeked at in the first bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from core.domain.errors import Reject
from core.runtime.codec import PREFIX_BYTES, Codec
from schemas import derived

ItemT = TypeVar("ItemT")
Version = tuple[int, int]

OTHER, QUOTE, DEPTH, TICK = range(4)
_KINDS = {
    derived.Quote.schema_name: (QUOTE, 4),
    derived.Depth.schema_name: (DEPTH, 2),
    derived.Tick.schema_name: (TICK, 0),
}
_INTEGERS = ("int", "long")


class Head(NamedTuple):
    """What conflation knows of a record.

    Attributes:
        kind: OTHER is never left out.
        version: of a Quote or Depth.
        names: the version of the Depth a Quote names.
    """

    kind: int
    version: Version = (0, 0)
    names: Version = (0, 0)


_OTHER = Head(OTHER)
_TICK = Head(TICK)


class Peek:
    """Reads the head of an encoded record without decoding it."""

    def __init__(self, codec: Codec) -> None:
        """Make it; what each schema id means is asked once."""
        self._codec = codec
        self._plans: dict[bytes, tuple[int, int]] = {}

    # hot: every record that waits
    def __call__(self, value: bytes) -> Head:
        """Return the head; OTHER for what is unknown or cannot be read: its reader is to say so, not we."""
        plan = self._plans.get(value[:PREFIX_BYTES])
        if plan is None:
            plan = self._plan(value)
        kind, count = plan
        if count == 0:
            return _TICK if kind == TICK else _OTHER
        try:
            size, at = _varint(value, PREFIX_BYTES)
            at += size >> 1
            first, at = _varint(value, at)
            second, at = _varint(value, at)
            version = (first >> 1 ^ -(first & 1), second >> 1 ^ -(second & 1))
            if kind == DEPTH:
                return Head(DEPTH, version)
            first, at = _varint(value, at)
            second, at = _varint(value, at)
            return Head(QUOTE, version, (first >> 1 ^ -(first & 1), second >> 1 ^ -(second & 1)))
        except IndexError:
            return _OTHER

    def _plan(self, value: bytes) -> tuple[int, int]:
        prefix = value[:PREFIX_BYTES]
        try:
            schema = json.loads(self._codec.schema_text(value))
        except Reject:
            return OTHER, 0  # asked again: the registry may learn of it
        kind, count = _KINDS.get(f"{schema['namespace']}.{schema['name']}", (OTHER, 0))
        leading = [field["type"] for field in schema["fields"][: count + 1]]
        if count and (leading[0] != "string" or any(kind_ not in _INTEGERS for kind_ in leading[1:])):
            # A writer of another version puts them elsewhere: its records are forwarded as they come.
            kind, count = OTHER, 0
        self._plans[prefix] = (kind, count)
        return kind, count


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return Avro's variable-length integer at `at`, before zigzag, and where it ends."""
    byte = data[at]
    at += 1
    found = byte & 0x7F
    shift = 7
    while byte & 0x80:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        shift += 7
    return found, at


@dataclass
class _Pair:
    """What waits of one instrument, as offsets: the newest Quote, the Depth it names, Depths without Quote so far."""

    quote: int = -1
    version: Version = (-1, -1)
    names: Version = (-1, -1)
    depth: int = -1
    ahead: dict[Version, int] = field(default_factory=dict)
    """by version; at most one of each writer, and there are two only while a predecessor thaws"""


class Waiting(Generic[ItemT]):
    """What waits of one source partition, conflated as it comes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._items: dict[int, ItemT] = {}
        self._pairs: dict[bytes, _Pair] = {}
        self._tick = -1
        self.dropped = 0
        """Records left out."""

    def __len__(self) -> int:
        return len(self._items)

    def add(self, offset: int, key: bytes, head: Head, item: ItemT) -> None:
        """Take in the record at `offset`, which is above all before."""
        kind = head.kind
        if kind == OTHER:
            self._items[offset] = item
        elif kind == TICK:
            self._remove(self._tick)
            self._tick = offset
            self._items[offset] = item
        else:
            pair = self._pairs.get(key)
            if pair is None:
                pair = self._pairs[key] = _Pair()
            stays = self._add_depth(offset, head, pair) if kind == DEPTH else self._add_quote(offset, head, pair)
            if stays:
                self._items[offset] = item
            else:
                self.dropped += 1

    def take(self) -> list[tuple[int, ItemT]]:
        """Return what is left with its offsets, in order, and begin again."""
        found = list(self._items.items())
        self._items = {}
        self._pairs = {}
        self._tick = -1
        return found

    def _add_depth(self, offset: int, head: Head, pair: _Pair) -> bool:
        if pair.quote >= 0 and head.version <= pair.version:
            if head.version != pair.names or pair.depth >= 0:
                return False
            # The Quote came first: of a twin, or because we started between the two.
            pair.depth = offset
            return True
        if head.version in pair.ahead:
            return False
        pair.ahead[head.version] = offset
        return True

    def _add_quote(self, offset: int, head: Head, pair: _Pair) -> bool:
        if pair.quote >= 0 and head.version <= pair.version:
            return False
        depth = pair.ahead.pop(head.names, -1)
        if pair.quote >= 0 and pair.names == head.names and pair.depth >= 0:
            depth = pair.depth
        else:
            self._remove(pair.depth)
        self._remove(pair.quote)
        for version in [version for version in pair.ahead if version <= head.version]:
            self._remove(pair.ahead.pop(version))
        pair.quote, pair.version, pair.names, pair.depth = offset, head.version, head.names, depth
        return True

    def _remove(self, offset: int) -> None:
        if offset >= 0 and self._items.pop(offset, None) is not None:
            self.dropped += 1


class Held(Generic[ItemT]):
    """A window: what waits of several source partitions, since when, and how many were left out of it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._partitions: dict[tuple[str, int], Waiting[ItemT]] = {}
        self.since_ns = 0
        """Time of the first record that was held back; 0 when nothing is."""

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._partitions.values())

    def add(self, place: tuple[str, int, int], key: bytes, head: Head, item: ItemT, ts_ns: int) -> None:
        """Hold back the record at `place` (noun, partition, offset), which Kafka took at `ts_ns`."""
        noun, number, offset = place
        self.since_ns = self.since_ns or max(ts_ns, 1)
        waiting = self._partitions.get((noun, number))
        if waiting is None:
            waiting = self._partitions[noun, number] = Waiting()
        waiting.add(offset, key, head, item)

    def take(self) -> tuple[list[tuple[str, int, int, ItemT]], int]:
        """Return what is left of the window as (noun, partition, offset, item), and how many were left out of it."""
        self.since_ns = dropped = 0
        found = []
        for (noun, number), waiting in self._partitions.items():
            found += [(noun, number, offset, item) for offset, item in waiting.take()]
            dropped += waiting.dropped
            waiting.dropped = 0
        return found, dropped
