"""Doubles written by hand: a log in memory, a wire that remembers, a clock that moves when told."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from core.domain.errors import Retry
from core.runtime.clock import NS_PER_S, Clock, ManualClock, SystemClock
from core.runtime.flow import BY_KEY, Input
from core.runtime.shares import Share
from core.runtime.topics import DERIVED_RESYNC, RAW_FEED, RAW_FRAME, Topic
from ingest.feed import Feed, FeedSpec
from ingest.kalshi import KalshiConversation
from ingest.settings import IngestSettings
from ingest.venues import venue_of
from ingest.worker import Worker
from schemas.raw import Closed, Description, Opened, Ready
from schemas.record import Record
from simulate.kalshi.catalogue import market_row as kalshi_row
from simulate.polymarket.gamma import market_row as polymarket_row
from simulate.settings import SimulateSettings
from simulate.world import World


class MemoryLog:
    """A producer whose topics are lists; acknowledges at once unless `stalled_since_s` is set."""

    def __init__(self, clock: Clock) -> None:
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
        Table = MemoryTable

        @staticmethod
        def share(partitions: Iterable[int], items: Mapping[str, Record]) -> Share:
            return Share(frozenset(partitions), dict(items), frozenset(), frozenset())

    return Doubles


class MemoryTable:
    """A shared table whose shares a test deals out."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Share] = asyncio.Queue()
        self.closed = False

    def deal(self, partitions: Iterable[int], items: Mapping[str, Record]) -> None:
        self._queue.put_nowait(Share(frozenset(partitions), dict(items), frozenset(), frozenset()))

    async def shares(self) -> AsyncIterator[Share]:
        while True:
            yield await self._queue.get()

    async def close(self) -> None:
        self.closed = True


@dataclass
class Venues:
    """A running simulated world, and settings that point at it."""

    world: World
    settings: IngestSettings

    def descriptions(self, venue: str) -> dict[str, Record]:
        """What a catalogue would have written."""
        if venue == "kalshi":
            rows = {f"kalshi:{m.ticker}": kalshi_row(m) for m in self.world.kalshi.exchange.markets}
        else:
            rows = {f"polymarket:{m.condition_id}": polymarket_row(m) for m in self.world.clob.exchange.markets}
        return {
            instrument: Description(
                venue=venue, instrument=instrument, payload=orjson.dumps(row), context=b"", recv_ts_ns=1
            )
            for instrument, row in rows.items()
        }


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be starved: venues, feeds and log share one loop, and the machine with other tests.

    A feed whose process did not run for over a second ends (`ingest/pulse.py`), however well its socket is: the tests of
    that are in test_pulse.py and test_feed.py. What becomes of a frame, a feed or a market has nothing to do with it.
    """
    monkeypatch.setattr("ingest.pulse._LATE_NS_MAX", 60 * NS_PER_S)


@pytest.fixture
def in_world(tmp_path: Path, starved: None) -> Callable[..., object]:
    """Runs an async test body beside a simulated world: `in_world(body, markets=12)`."""

    def run(body: Callable[[Venues], Awaitable[object]], **options: object) -> object:
        async def whole() -> object:
            fields = {"markets": 12, "messages_per_s": 400, "truth_frames": "full", "ping_s": 0.5} | options
            world = World(
                SimulateSettings(
                    credentials_file=tmp_path / "credentials.json",
                    links_file=tmp_path / "links.json",
                    truth_dir=tmp_path / "truth",
                    **fields,
                )
            )
            ready = await world.start()
            settings = IngestSettings(
                run="test-ingest",
                sim_credentials_file=tmp_path / "credentials.json",
                kalshi_simulated=urlsplit(ready["kalshi"]["rest_url"]).netloc,
                polymarket_simulated=urlsplit(ready["polymarket"]["clob_url"]).netloc,
                polymarket_gamma_simulated=urlsplit(ready["polymarket"]["gamma_url"]).netloc,
                feed_backoff_first_s=0.05,
                feed_settle_s=0.1,
                feed_stop_overlap_s_max=0.1,
            )
            try:
                async with asyncio.timeout(110):
                    return await body(Venues(world, settings))
            finally:
                await world.stop()

        return asyncio.run(whole())

    return run


@pytest.fixture
def new_worker() -> Callable[..., "Crew"]:
    """Makes feed workers on one log."""
    return Crew


class Crew:
    """Workers of one venue on one log in memory."""

    def __init__(self, venue: str, settings: IngestSettings, *, partitions: int = 2, per_feed_max: int = 500) -> None:
        self.clock = SystemClock()
        self.log = MemoryLog(self.clock)
        self.settings = settings
        self.partitions = partitions
        self.venue = venue_of(venue, settings)._replace(per_feed_max=per_feed_max)
        self.workers: dict[str, Worker] = {}
        self.tables: dict[str, MemoryTable] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def hire(self, name: str) -> Worker:
        """Start a worker; deal its share through `tables[name]`."""
        self.tables[name] = MemoryTable()
        worker = self.workers[name] = Worker(
            name=name,
            venue=self.venue,
            producer=self.log,
            table=self.tables[name],
            feed_log=self.log.reader(RAW_FEED),
            resync_log=self.log.reader(DERIVED_RESYNC),
            clock=self.clock,
            settings=self.settings,
            partitions=self.partitions,
        )
        self.tasks.append(asyncio.create_task(worker.run()))
        return worker

    async def feed(self, items: Mapping[str, Record], name: str = "w1") -> Worker:
        """Start a worker, deal it all partitions and wait until each instrument is fed."""
        worker = self.hire(name)
        self.tables[name].deal(list(range(self.partitions)), items)
        await self.until(lambda: sorted(self.fed()) == sorted(items))
        return worker

    async def dismiss(self) -> None:
        """Stop all workers."""
        for worker in self.workers.values():
            worker.stop()
        for task in self.tasks:
            await task

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something; a worker that failed fails the test."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
                for task in self.tasks:
                    if task.done():
                        task.result()

    def of_kind(self, kind: type, topic: Topic = RAW_FEED) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.log.records(topic) if type(record) is kind]

    def ready_epochs(self) -> set[int]:
        """Epochs whose feed said Ready."""
        return {record.epoch for record in self.of_kind(Ready)}

    def fed(self) -> list[str]:
        """Return the instruments of all feeds that are ready and not closed, one entry for each feed."""
        closed = {record.epoch for record in self.of_kind(Closed)}
        return [
            instrument
            for epoch, (_, record, _) in enumerate(self.log.topics[RAW_FEED.noun])
            if type(record) is Opened and epoch in self.ready_epochs() - closed
            for instrument in record.instruments
        ]
