"""Doubles written by hand: a log in memory, a wire that remembers, a clock that moves when told."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from core.domain.errors import Retry
from core.runtime.clock import ManualClock
from core.runtime.flow import BY_KEY, Input
from core.runtime.topics import RAW_FEED, RAW_FRAME, Topic
from ingest.feed import Feed, FeedSpec
from ingest.kalshi import KalshiConversation
from schemas.record import Record


class MemoryLog:
    """A producer whose topics are lists; acknowledges at once unless `stalled_since_s` is set."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.topics: dict[str, list[tuple[str, Record | None, int]]] = defaultdict(list)
        self.full = False
        self.stalled_since_s: float | None = None
        self.listeners: list[tuple[Topic, asyncio.Queue[list[Input]]]] = []

    def send(self, topic: Topic, key: str, record: Record | None, partition: int = BY_KEY) -> None:
        if self.full:
            raise Retry("the produce queue is full")
        offset = len(self.topics[topic.noun])
        self.topics[topic.noun].append((key, record, partition))
        for wanted, queue in self.listeners:
            if wanted is topic and record is not None:
                queue.put_nowait([Input(record, topic.noun, max(partition, 0), offset, key)])

    def stream(self, topic: Topic, key: str, record: Record, partition: int) -> None:
        self.send(topic, key, record, partition)

    async def send_acked(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> int:
        self.send(topic, key, record, partition)
        return len(self.topics[topic.noun]) - 1

    def ack_age_s(self) -> float:
        return 0.0 if self.stalled_since_s is None else self.clock.monotonic_s() - self.stalled_since_s

    def records(self, topic: Topic = RAW_FRAME) -> list[Record | None]:
        return [record for _, record, _ in self.topics[topic.noun]]

    def kinds(self, topic: Topic = RAW_FRAME) -> list[str]:
        return [type(record).__name__ for record in self.records(topic)]

    def reader(self, topic: Topic) -> "MemoryReader":
        queue: asyncio.Queue[list[Input]] = asyncio.Queue()
        self.listeners.append((topic, queue))
        return MemoryReader(queue)


class MemoryReader:
    """Follows a topic of a `MemoryLog` from its end."""

    def __init__(self, queue: "asyncio.Queue[list[Input]]") -> None:
        self._queue = queue
        self.caught_up = asyncio.Event()

    async def batches(self) -> AsyncIterator[list[Input]]:
        while True:
            yield await self._queue.get()


@dataclass
class FakeWire:
    """Remembers what the feed asked of it."""

    sent: list[bytes] = field(default_factory=list)
    pings: int = 0
    paused: int = 0
    closed: bool = False
    unread_bytes: int = 0

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def ping(self) -> None:
        self.pings += 1

    def pause(self) -> None:
        self.paused += 1

    def unread(self) -> int:
        return self.unread_bytes

    def close(self) -> None:
        self.closed = True


@dataclass
class Rig:
    """A feed with everything around it."""

    feed: Feed
    log: MemoryLog
    wire: FakeWire
    clock: ManualClock

    def wait(self, ms: int, *, step_ms: int = 250, heard: bool = True) -> None:
        """Let time pass as a healthy event loop would; with `heard` the venue says something each step."""
        for _ in range(ms // step_ms):
            self.clock.advance(ms=step_ms)
            if heard:
                self.feed.wakes(self.clock.now_ns())
            self.feed.strike()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def memory_log(clock: ManualClock) -> MemoryLog:
    return MemoryLog(clock)


@pytest.fixture
def new_rig(clock: ManualClock, memory_log: MemoryLog) -> Callable[..., "asyncio.Future[Rig]"]:
    """Makes a feed that is open and begun; to be awaited."""

    async def make(conversation: object = None, instruments: tuple[str, ...] = ("kalshi:A", "kalshi:B")) -> Rig:
        spec = FeedSpec("kalshi", 0, 0, "tester", instruments)
        if conversation is None:
            conversation = KalshiConversation({i.partition(":")[2]: i for i in instruments}, venue_wide=False)
        feed = Feed(spec, conversation, memory_log, clock)
        await feed.open()
        wire = FakeWire()
        feed.begin(wire)
        return Rig(feed, memory_log, wire, clock)

    return make


@pytest.fixture
def feed_log() -> Topic:
    return RAW_FEED


@pytest.fixture(scope="session")
def doubles() -> type:
    """The classes of this file, for tests that build their own."""

    class Doubles:
        Log = MemoryLog
        Wire = FakeWire
        Reader = MemoryReader

    return Doubles
