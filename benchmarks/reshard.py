"""Feed workers that come, are killed and freeze: seconds until each instrument has exactly one current epoch again.

Real worker processes and real Kafka against simulated venues. An instrument is covered by each feed that lists it, is
ready, is not closed and has ticked within a second: what a reader of the log can know. While a share moves two feeds may
cover it (the old one goes on until the new one is ready); when nobody does, its book is not usable, and that time is a
figure of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import Effort, Figure
from core.domain.errors import Unavailable
from core.runtime import topics
from core.runtime.admin import create_run, delete_run, register_schemas
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.edge import EdgeReader
from infra.cli.reach import Reach
from schemas.raw import Closed, FeedTick, Opened, Ready
from simulate.settings import SimulateSettings
from simulate.world import World

RUN = "bench-reshard"
PARTITIONS = 4
MARKETS = 100
VENUE = "kalshi"
FRESH_NS = 1_000_000_000
"""As long as a tick vouches for its feed."""
FREEZE_S = 10.0
LOOK_S = 0.02
LIMIT_S = 60.0
STEADY_S = 1.0
"""Coverage must last so long to count; the time is that of its beginning."""
_PROJECT = Path(__file__).resolve().parents[1]
_READ = frozenset({"crossbook.raw.Opened", "crossbook.raw.Ready", "crossbook.raw.Closed", "crossbook.raw.FeedTick"})


@dataclass
class Coverage:
    """Who covers what, as the log tells it."""

    opened: dict[int, Opened] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    closed: dict[int, str] = field(default_factory=dict)
    ticked_ns: dict[int, int] = field(default_factory=dict)

    def take(self, record: object, offset: int, noun: str) -> None:
        """Note one record."""
        match record:
            case Opened():
                self.opened[offset] = record
            case Ready(epoch=epoch):
                self.ready.add(epoch)
            case Closed(epoch=epoch, reason=reason):
                self.closed[epoch] = reason
            case FeedTick(epoch=epoch, recv_ts_ns=tick_ns):
                self.ticked_ns[epoch] = tick_ns
            case _:
                pass

    def live(self, now_ns: int) -> list[Opened]:
        """Return the feeds that cover something now."""
        return [
            self.opened[epoch]
            for epoch in self.ready
            if epoch in self.opened and epoch not in self.closed and now_ns - self.ticked_ns.get(epoch, 0) < FRESH_NS
        ]

    def counts(self, everything: frozenset[str], now_ns: int) -> tuple[int, int]:
        """Return the fewest and the most feeds that an instrument has."""
        counts = dict.fromkeys(everything, 0)
        for feed in self.live(now_ns):
            for instrument in feed.instruments:
                if instrument in counts:
                    counts[instrument] += 1
        return min(counts.values(), default=0), max(counts.values(), default=0)

    def workers(self, now_ns: int) -> int:
        """Return how many workers feed something."""
        return len({feed.worker for feed in self.live(now_ns)})


@dataclass(frozen=True)
class Settled:
    """What one change of the crew cost.

    Attributes:
        exact_s: until each instrument had exactly one feed again, for good.
        uncovered_s: time within that in which some instrument had none.
    """

    what: str
    exact_s: float
    uncovered_s: float


class Watch:
    """Looks at the coverage again and again."""

    def __init__(self, coverage: Coverage, everything: frozenset[str]) -> None:
        self.coverage = coverage
        self.everything = everything

    async def settle(self, what: str, workers: int, also: Callable[[], bool] = lambda: True) -> Settled:
        """Wait until `workers` feed everything, exactly once.

        Raises:
            Unavailable: not within `LIMIT_S`.
        """
        began = last = time.monotonic()
        since: float | None = None
        uncovered = uncovered_then = 0.0
        while time.monotonic() - began < LIMIT_S:
            await asyncio.sleep(LOOK_S)
            now_s, now_ns = time.monotonic(), time.time_ns()
            fewest, most = self.coverage.counts(self.everything, now_ns)
            if fewest == 0:
                uncovered += now_s - last
            last = now_s
            if not (fewest == most == 1 and self.coverage.workers(now_ns) == workers and also()):
                since = None
            elif since is None:
                since, uncovered_then = now_s, uncovered
            elif now_s - since >= STEADY_S:
                return Settled(what, since - began, uncovered_then)
        fewest, most = self.coverage.counts(self.everything, time.time_ns())
        raise Unavailable(
            f"{what}: after {LIMIT_S:.0f} s instruments have {fewest} to {most} feeds "
            f"of {self.coverage.workers(time.time_ns())} workers, expected one each of {workers}"
        )


async def play(bootstrap: str, registry_url: str, run: str, markets: int = MARKETS) -> list[Settled]:
    """Start, add, kill, freeze and thaw workers; return what each cost.

    Raises:
        Unavailable: the coverage did not come back.
    """
    register_schemas(registry_url)
    create_run(bootstrap=bootstrap, registry_url=registry_url, run=run, partitions=PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        async with _venue(Path(folder), markets) as (world, env):
            env |= {"CROSSBOOK_RUN": run, "CROSSBOOK_BOOTSTRAP": bootstrap, "CROSSBOOK_REGISTRY_URL": registry_url}
            everything = frozenset(f"{VENUE}:{market.ticker}" for market in world.kalshi.exchange.markets)
            coverage = Coverage()
            async with _followed(coverage, bootstrap, registry_url, run), _crew(env) as hire:
                return await _scenes(Watch(coverage, everything), hire)


Hire = Callable[[str], "asyncio.Future[asyncio.subprocess.Process]"]


async def _scenes(watch: Watch, hire: Hire) -> list[Settled]:
    await hire("catalogue")
    await hire("feed")
    found = [await watch.settle("first worker starts", 1)]
    second, third = await hire("feed"), await hire("feed")
    found.append(await watch.settle("two workers join", 3))
    second.kill()
    found.append(await watch.settle("one is killed (-9)", 2))
    third.send_signal(signal.SIGSTOP)
    frozen = {
        epoch for epoch, opened in watch.coverage.opened.items() if f"-{third.pid}-" in opened.worker
    } - watch.coverage.closed.keys()
    stopped = time.monotonic()
    found.append(await watch.settle("one freezes (SIGSTOP)", 1))
    await asyncio.sleep(max(0.0, FREEZE_S - (time.monotonic() - stopped)))
    third.send_signal(signal.SIGCONT)
    found.append(await watch.settle("it thaws (SIGCONT)", 2, also=lambda: frozen <= watch.coverage.closed.keys()))
    return found


@asynccontextmanager
async def _venue(folder: Path, markets: int) -> AsyncIterator[tuple[World, dict[str, str]]]:
    settings = SimulateSettings(
        markets=markets,
        messages_per_s=500,
        credentials_file=folder / "credentials.json",
        links_file=folder / "links.json",
        truth_dir=folder / "truth",
    )
    world = World(settings)
    ready = await world.start()
    try:
        yield (
            world,
            {
                "CROSSBOOK_SIM_CREDENTIALS_FILE": str(settings.credentials_file),
                "CROSSBOOK_KALSHI_SIMULATED": urlsplit(ready["kalshi"]["rest_url"]).netloc,
                "CROSSBOOK_CATALOGUE_POLL_S": "1",
            },
        )
    finally:
        await world.stop()


@asynccontextmanager
async def _followed(coverage: Coverage, bootstrap: str, registry_url: str, run: str) -> AsyncIterator[None]:
    codec = Codec(HttpRegistry(registry_url))
    readers = [
        EdgeReader(
            bootstrap=bootstrap,
            codec=codec,
            run=run,
            topic=topic,
            group=f"{run}.bench.{topic.noun}",
            wants=lambda _, name: name in _READ,
        )
        for topic in (topics.RAW_FEED, topics.RAW_FRAME)
    ]

    async def follow(reader: EdgeReader) -> None:
        async for batch in reader.batches():
            for item in batch:
                coverage.take(item.record, item.offset, item.noun)

    tasks = [asyncio.create_task(follow(reader)) for reader in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reader in readers:
            await reader.close()


@asynccontextmanager
async def _crew(env: dict[str, str]) -> AsyncIterator[Hire]:
    hired: list[asyncio.subprocess.Process] = []

    async def start(process: str) -> asyncio.subprocess.Process:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ingest", process, "--venue", VENUE),
            env={**os.environ, **env},
            cwd=_PROJECT,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        hired.append(running)
        return running

    try:
        yield lambda process: asyncio.ensure_future(start(process))
    finally:
        for one in hired:
            if one.returncode is None:
                one.kill()
                await one.wait()


def run(effort: Effort) -> list[Figure]:
    """Measure on the dev stack.

    Raises:
        Unavailable: the dev stack is not up, or the coverage did not come back.
    """
    reach = Reach.load(RUN).require_kafka()
    try:
        found = asyncio.run(play(reach.bootstrap, reach.registry_url, RUN, min(effort.markets, MARKETS)))
    finally:
        delete_run(reach.bootstrap, RUN)
    return figures_of(found)


def figures_of(found: list[Settled]) -> list[Figure]:
    """Return the figures of each scene."""
    figures = []
    for one in found:
        note = "includes the start of the processes" if one.what in ("first worker starts", "two workers join") else ""
        figures.append(Figure(f"{one.what}: one feed each after", one.exact_s * 1_000, "ms", note=note))
        figures.append(Figure(f"{one.what}: of it without a feed", one.uncovered_s * 1_000, "ms"))
    return figures
