"""One owned partition as the task loop sees it: its task, how far it is, and what is told of it to the outside."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message, TopicPartition

from core.runtime import metrics
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.consumer import LogReader
from core.runtime.flow import Task
from core.runtime.pressure import Pressure, Progress
from core.runtime.sequenced import Inbox

_PACE_WAIT_S_MAX = 60.0
_SIZES_EVERY_S = 1.0


@dataclass
class Slot:
    """One owned partition: its task and how far it is."""

    task: Task
    inbox: Inbox | None
    position: int
    publish_from: int
    committed: int
    end: int | None = None
    """replay: handle nothing at or above this offset"""
    is_placed: bool = True
    """the reader is known to be at `position`"""
    is_broken: bool = False
    """an error was raised in the middle of a record: its state is of no offset"""
    backlog: deque[Message] = field(default_factory=deque)
    retry_at_s: float = 0.0
    retry_since_s: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    pressure: Pressure | None = None
    progress: Progress = field(default_factory=Progress)
    lag_s_max: float = 0.0
    """since it was last measured"""

    @property
    def done(self) -> bool:
        """Whether a replay is at its end."""
        return self.end is not None and self.position >= self.end

    def note_lag(self, message: Message, now_ns: int) -> None:
        """Take in that `message` is the next unread one of its partition."""
        self.progress.since_ns = message.timestamp()[1] * NS_PER_MS
        self.lag_s_max = max(self.lag_s_max, self.progress.lag_s(now_ns))


class Facts:
    """What is told of the owned partitions of one log: lag, pressure, counters and sizes of their tasks."""

    def __init__(self, stage: str, topic: str, clock: Clock) -> None:
        self._stage = stage
        self._topic = topic
        self._clock = clock
        self._sized_s = 0.0
        self._sizes: frozenset[str] = frozenset()

    def export(self, slots: Mapping[int, Slot], reader: LogReader) -> None:
        """Tell what grew since the last call, and how far behind each partition is."""
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        for number, slot in slots.items():
            lag_s = max(slot.lag_s_max, slot.progress.lag_s(now_ns))
            slot.lag_s_max = 0.0
            _, high = reader.edges(TopicPartition(self._topic, number), cached=True)
            metrics.LAG_RECORDS.labels(self._stage, str(number)).set(max(high - slot.position, 0))
            metrics.LAG_SECONDS.labels(self._stage, str(number)).set(lag_s)
            if slot.pressure is not None:
                slot.pressure.observe(lag_s, now_s)
            self._export_counters(slot)
        if now_s >= self._sized_s + _SIZES_EVERY_S:
            self._sized_s = now_s
            self._export_sizes(slots)

    def _export_counters(self, slot: Slot) -> None:
        counts: dict[str, int] = getattr(slot.task, "counters", {})
        for name, value in counts.items():
            grown = value - slot.counters.get(name, 0)
            if grown > 0:
                metrics.EVENTS.labels(self._stage, name).inc(grown)
                slot.counters[name] = value

    def _export_sizes(self, slots: Mapping[int, Slot]) -> None:
        """Show what tasks keep an eye on (`sizes() -> name: count`), summed over the owned partitions."""
        sums = dict.fromkeys(self._sizes, 0)
        for slot in slots.values():
            sizes: Callable[[], dict[str, int]] | None = getattr(slot.task, "sizes", None)
            for name, count in sizes().items() if sizes is not None else ():
                sums[name] = sums.get(name, 0) + count
        for name, count in sums.items():
            metrics.LEVELS.labels(self._stage, name).set(count)
        self._sizes = frozenset(sums)


class Pace:
    """Keeps the distances between records' times, for a replay that is to be watched."""

    def __init__(self, clock: Clock, speed: float) -> None:
        self._clock = clock
        self._speed = speed
        self._first_ms = 0
        self._began_s = 0.0

    def wait_for(self, timestamp_ms: int) -> None:
        """Wait until a record with this Kafka time is due."""
        if not self._first_ms:
            self._first_ms, self._began_s = timestamp_ms, self._clock.monotonic_s()
        due_s = self._began_s + (timestamp_ms - self._first_ms) / 1000 / self._speed
        wait_s = due_s - self._clock.monotonic_s()
        if wait_s > 0:
            time.sleep(min(wait_s, _PACE_WAIT_S_MAX))
