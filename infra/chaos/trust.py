"""No order on a book that was not LIVE and usable, asked of the logs afterwards.

* Each leg of an Intent: where the strategy stood in `decision.input`, the newest Quote of the instrument was LIVE, named
  the Depth the leg names, and the newest tick of its partition was less than a second older than the log's time.
* Each Grant: the Depth it names belongs to a Quote marked LIVE.
* Each Submitting: within the second before it a Quote marked LIVE was the instrument's newest, and a tick made by then
  was less than a second old. A second, because that is how old a usable view may be.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.sequenced import Inbox, unpack
from infra.demo.scan import Found
from schemas.decision import Grant, Intent
from schemas.derived import Quote, Tick
from schemas.order import Submitting

TICK_AGE_NS_MAX = NS_PER_S
EXAMPLES_MAX = 20
Version = tuple[int, int]
T = TypeVar("T")


class Line(Generic[T]):
    """Values by place, places rising."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.values: list[T] = []

    def add(self, place: int, value: T) -> None:
        """Append; a place below the last takes the last's."""
        self.places.append(max(place, self.places[-1]) if self.places else place)
        self.values.append(value)

    def at(self, place: int) -> T | None:
        """Return the newest value up to a place."""
        found = bisect_right(self.places, place)
        return self.values[found - 1] if found else None

    def within(self, first: int, last: int) -> Sequence[T]:
        """Return what was the newest at any place of a span."""
        begin = max(bisect_right(self.places, first) - 1, 0)
        return self.values[begin : bisect_right(self.places, last)]


@dataclass
class Outcome:
    """What was asked and what was wrong."""

    legs: int = 0
    grants: int = 0
    orders: int = 0
    errors: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def wrong(self, kind: str, text: str) -> None:
        """Note an order that should not have been."""
        self.errors += 1
        self.kinds[kind] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {text}")


class _Input:
    """One partition of `decision.input`, as its strategies saw it."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.times: Line[int] = Line()
        self.quotes: dict[str, Line[tuple[str, Version, int]]] = {}
        """instrument -> state, Depth's version, partition of `derived.book`"""
        self.ticks: dict[int, Line[int]] = {}
        self._versions: dict[str, Version] = {}

    def add(self, found: Found) -> None:
        """Take in one record."""
        stamp = unpack(found.message.headers())
        if not self.inbox.admit(found.record, stamp):
            return
        self.times.add(found.offset, self.inbox.log_ns)
        record = found.record
        if stamp is None or stamp.source.noun != topics.DERIVED_BOOK.noun:
            return
        if isinstance(record, Quote):
            if not _is_newer(record, self._versions):
                return
            version = (record.depth_offset, record.depth_index)
            seen = (record.state, version, stamp.source.partition)
            self.quotes.setdefault(record.instrument, Line()).add(found.offset, seen)
        elif isinstance(record, Tick):
            ticks = self.ticks.setdefault(stamp.source.partition, Line())
            # A worker that thaws after it was replaced says an old tick behind its successor's.
            ticks.add(found.offset, max(ticks.values[-1] if ticks.values else 0, record.ts_ns))

    def complaint(self, instrument: str, version: Version, offset: int) -> str:
        """Return why an instrument's book was not to be traded on at an offset, empty if it was."""
        newest = self.quotes[instrument].at(offset) if instrument in self.quotes else None
        if newest is None:
            return "no quote was seen"
        state, depth, partition = newest
        if state != "LIVE":
            return f"its quote was {state}"
        if depth != version:
            return f"its quote names depth {depth}, the leg {version}"
        tick_ns = self.ticks[partition].at(offset) if partition in self.ticks else None
        age_ns = (self.times.at(offset) or 0) - (tick_ns or 0)
        return f"the newest tick was {age_ns / NS_PER_S:.3f} s old" if age_ns >= TICK_AGE_NS_MAX else ""


def _is_newer(quote: Quote, versions: dict[str, Version]) -> bool:
    """Say whether a reader looks at a quote: what a takeover says again, older than what was said, changes nothing."""
    version = (quote.version_offset, quote.version_index)
    if version <= versions.get(quote.instrument, (-1, -1)):
        return False
    versions[quote.instrument] = version
    return True


class Trust:
    """Gathers what was seen and what was ordered, and compares."""

    def __init__(self) -> None:
        self._inputs: dict[int, _Input] = {}
        self._partitions: dict[str, int] = {}
        self._states: dict[str, Line[str]] = {}
        self._ticks: dict[int, Line[int]] = {}
        self._live: set[tuple[str, Version]] = set()
        self._versions: dict[str, Version] = {}
        self._intents: dict[str, Intent] = {}
        self._grants: dict[str, Grant] = {}
        self._orders: dict[str, Submitting] = {}

    def add(self, found: Found) -> None:
        """Take in one record of any topic."""
        record = found.record
        if found.noun == topics.DECISION_INPUT.noun:
            self._inputs.setdefault(found.partition, _Input()).add(found)
        elif found.noun == topics.DERIVED_BOOK.noun:
            self._see(found)
        elif isinstance(record, Intent):
            self._intents.setdefault(record.id, record)
        elif isinstance(record, Grant):
            self._grants.setdefault(record.id, record)
        elif isinstance(record, Submitting) and found.noun == topics.ORDER_EVENT.noun:
            self._orders.setdefault(record.order, record)

    def _see(self, found: Found) -> None:
        record, made_ns = found.record, found.ts_ms * NS_PER_MS
        if isinstance(record, Quote):
            self._partitions[record.instrument] = found.partition
            if _is_newer(record, self._versions):
                self._states.setdefault(record.instrument, Line()).add(made_ns, record.state)
            if record.state == "LIVE":
                self._live.add((record.instrument, (record.depth_offset, record.depth_index)))
        elif isinstance(record, Tick):
            self._ticks.setdefault(found.partition, Line()).add(made_ns, record.ts_ns)

    def compare(self) -> Outcome:
        """Return what was ordered without a usable book."""
        outcome = Outcome()
        for intent in self._intents.values():
            self._check_intent(intent, outcome)
        for grant in self._grants.values():
            outcome.grants += 1
            version = (grant.version_offset, grant.version_index)
            if (grant.instrument, version) not in self._live:
                outcome.wrong("grant", f"{grant.id} {grant.purpose} of {grant.instrument} names depth {version}")
        for order in self._orders.values():
            outcome.orders += 1
            complaint = self._complaint(order)
            if complaint:
                outcome.wrong("order", f"{order.order} of {order.instrument} at {order.ts_ns}: {complaint}")
        return outcome

    def _check_intent(self, intent: Intent, outcome: Outcome) -> None:
        seen = self._inputs.get(intent.input_partition)
        for leg in intent.legs:
            outcome.legs += 1
            version = (leg.version_offset, leg.version_index)
            complaint = seen.complaint(leg.instrument, version, intent.input_offset) if seen else "its log is empty"
            if complaint:
                outcome.wrong("intent", f"{intent.id} leg {leg.instrument}: {complaint}")

    def _complaint(self, order: Submitting) -> str:
        states = self._states.get(order.instrument)
        ticks = self._ticks.get(self._partitions.get(order.instrument, -1))
        if states is None or ticks is None:
            return "no quote or no tick was ever said"
        since_ns = order.ts_ns - TICK_AGE_NS_MAX
        # Kafka's times are milliseconds cut off: what was made in the order's own counts.
        newest_ns = max(ticks.within(since_ns, order.ts_ns), default=0)
        if newest_ns <= since_ns:
            return f"the newest tick is {(order.ts_ns - newest_ns) / NS_PER_S:.3f} s old"
        if "LIVE" not in states.within(since_ns, order.ts_ns):
            return "its quote was not LIVE in the second before"
        return ""
