"""Real processes on real Kafka: a catalogue, two feed workers, one of them killed."""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.runtime import topics
from core.runtime.admin import create_run
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.edge import EdgeReader
from schemas.raw import Closed, Opened, Ready
from schemas.record import Record

_numbers = itertools.count()
PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]


class Observer:
    """Follows raw.feed and raw.frame."""

    def __init__(self, stack, run: str) -> None:
        self.records: dict[int, list[Record]] = {}
        self._run = run
        self.opened: dict[int, Opened] = {}
        self.ready: set[int] = set()
        self.closed: dict[int, str] = {}
        self.numbers: dict[int, list[int]] = {}
        self._stack = stack

    def follow(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._read(topic)) for topic in (topics.RAW_FEED, topics.RAW_FRAME)]

    async def _read(self, topic: topics.Topic) -> None:
        codec = Codec(HttpRegistry(self._stack.registry_url))
        reader = EdgeReader(
            bootstrap=self._stack.bootstrap,
            codec=codec,
            run=self._run,
            topic=topic,
            group=f"{self._run}.test.{topic.noun}",
        )
        try:
            async for batch in reader.batches():
                for item in batch:
                    if topic is topics.RAW_FRAME:
                        self.numbers.setdefault(item.record.epoch, []).append(item.record.frame_no)
                        self.records.setdefault(item.record.epoch, []).append(item.record)
                    elif isinstance(item.record, Opened):
                        self.opened[item.offset] = item.record
                    elif isinstance(item.record, Ready):
                        self.ready.add(item.record.epoch)
                    elif isinstance(item.record, Closed):
                        self.closed[item.record.epoch] = item.record.reason
        finally:
            await reader.close()

    def fed_by(self, worker_pid: int) -> set[str]:
        """Instruments of the ready, open feeds of one process."""
        return {
            instrument
            for epoch, opened in self.opened.items()
            if epoch in self.ready and epoch not in self.closed and f"-{worker_pid}-" in opened.worker
            for instrument in opened.instruments
        }

    def is_shared(self, everything: set[str], *workers) -> bool:
        """Say whether the workers feed everything, and nothing twice."""
        fed = [self.fed_by(worker.pid) for worker in workers]
        return set().union(*fed) == everything and sum(len(one) for one in fed) == len(everything)


@asynccontextmanager
async def process(env: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", *arguments, env={**os.environ, **env}, cwd=PROJECT
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def until(condition, seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process has no event here
            await asyncio.sleep(0.05)


def environment(stack, settings, run: str) -> dict[str, str]:
    return {
        "CROSSBOOK_RUN": run,
        "CROSSBOOK_BOOTSTRAP": stack.bootstrap,
        "CROSSBOOK_REGISTRY_URL": stack.registry_url,
        "CROSSBOOK_SIM_CREDENTIALS_FILE": str(settings.sim_credentials_file),
        "CROSSBOOK_KALSHI_SIMULATED": settings.kalshi_simulated,
        "CROSSBOOK_POLYMARKET_SIMULATED": settings.polymarket_simulated,
        "CROSSBOOK_POLYMARKET_GAMMA_SIMULATED": settings.polymarket_gamma_simulated,
        "CROSSBOOK_CATALOGUE_POLL_S": "1",
    }


@pytest.fixture
def run(stack) -> str:
    name = f"test-ingest-{next(_numbers)}"
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=name, partitions=4)
    return name


@asynccontextmanager
async def two_workers(stack, venues, run: str) -> AsyncIterator[tuple[Observer, set[str], object, object]]:
    """A catalogue and two feed workers that have shared the instruments between them."""
    env = environment(stack, venues.settings, run)
    everything = set(venues.descriptions("kalshi"))
    observer = Observer(stack, run)
    followers = observer.follow()
    feed = ("feed", "--venue", "kalshi")
    async with process(env, "catalogue", "--venue", "kalshi"), process(env, *feed) as first:
        await until(lambda: observer.fed_by(first.pid) == everything)
        async with process(env, *feed) as second:
            await until(lambda: bool(observer.fed_by(second.pid)) and observer.is_shared(everything, first, second))
            assert set(observer.closed.values()) == {"another feed took over"}
            yield observer, everything, first, second
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)


def test_a_worker_takes_over_from_one_that_was_killed_and_stops_when_asked(stack, in_world, run) -> None:
    async def body(venues) -> None:
        async with two_workers(stack, venues, run) as (observer, everything, first, second):
            first.send_signal(signal.SIGKILL)
            await until(lambda: observer.fed_by(second.pid) == everything)
            second.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.wait(), 20) == 0
            await until(lambda: not observer.fed_by(second.pid))
            for numbers in observer.numbers.values():
                assert numbers == list(range(1, len(numbers) + 1))

    in_world(body, markets=40)


def test_a_worker_that_thaws_says_nothing_but_that_its_feeds_ended(stack, in_world, run) -> None:
    async def body(venues) -> None:
        async with two_workers(stack, venues, run) as (observer, everything, first, second):
            frozen = [
                epoch
                for epoch, opened in observer.opened.items()
                if f"-{first.pid}-" in opened.worker and epoch not in observer.closed
            ]
            first.send_signal(signal.SIGSTOP)
            stopped_ns = time.time_ns()
            await until(lambda: observer.fed_by(second.pid) == everything)
            first.send_signal(signal.SIGCONT)
            # The thawed worker joins again, and the share is divided as before.
            await until(lambda: all(epoch in observer.closed for epoch in frozen))
            await until(lambda: bool(observer.fed_by(first.pid)) and observer.is_shared(everything, first, second))
            for epoch in frozen:
                late = [record for record in observer.records[epoch] if record.recv_ts_ns > stopped_ns]
                assert [type(record) for record in late] == [Closed]
            for numbers in observer.numbers.values():
                assert numbers == list(range(1, len(numbers) + 1))

    in_world(body, markets=40)


def test_a_worker_without_its_run_does_not_start(stack, in_world) -> None:
    async def body(venues) -> None:
        env = environment(stack, venues.settings, "test-nobody-made-it")
        async with process(env, "feed", "--venue", "polymarket") as worker:
            assert await asyncio.wait_for(worker.wait(), 40) == 2

    in_world(body, markets=2)
