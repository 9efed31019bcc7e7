"""Real gateway processes on real Kafka: stopped with SIGSTOP, killed with SIGKILL, two at once."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.runtime import topics
from core.runtime.admin import create_run
from core.runtime.clock import NS_PER_MS, SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.edge import EdgeProducer, EdgeReader
from schemas.derived import Tick

PROJECT = Path(__file__).resolve().parents[2]
E6 = 1_000_000
PARTITIONS = 2
LIFE_MS = 10_000
"""Of a grant: this machine may be busy with other tests."""
pytestmark = [pytest.mark.broker, pytest.mark.slow]


class KafkaLog:
    """The bench's log on a real broker: appends through a producer, keeps what it reads."""

    def __init__(self, stack: Any, run: str, *kept: topics.Topic) -> None:
        self.codec = Codec(HttpRegistry(stack.registry_url))
        clock = SystemClock()
        self._producer = EdgeProducer(
            bootstrap=stack.bootstrap, codec=self.codec, clock=clock, run=run, stage="test", partitions=PARTITIONS
        )
        self._kept: dict[str, list[Any]] = {}
        self._readers = [
            EdgeReader(bootstrap=stack.bootstrap, codec=self.codec, run=run, topic=topic, group=f"{run}.test")
            for topic in (topics.ORDER_EVENT, *kept)
        ]
        self._tasks = [asyncio.create_task(self._keep(reader)) for reader in self._readers]

    def append(self, topic: topics.Topic, key: str, record: Any) -> None:
        if isinstance(record, Tick):
            for partition in range(PARTITIONS):
                self._producer.send(topic, key, msgspec.structs.replace(record, partition=partition), partition)
        else:
            self._producer.send(topic, key, record)

    def read(self, topic: topics.Topic) -> list[Any]:
        return list(self._kept.get(topic.noun, []))

    async def _keep(self, reader: EdgeReader) -> None:
        async for batch in reader.batches():
            for item in batch:
                self._kept.setdefault(item.noun, []).append(item.record)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for reader in self._readers:
            await reader.close()
        await self._producer.close()


class Processes:
    """Gateway processes of one bench."""

    def __init__(self, bench: Any, stack: Any, run: str, credentials_file: Path, folder: Path) -> None:
        self._bench = bench
        self._folder = folder
        self._all: list[subprocess.Popen[bytes]] = []
        base = bench.endpoints.order_rest.removeprefix("http://")
        self._env = {
            **os.environ,
            "CROSSBOOK_RUN": run,
            "CROSSBOOK_BOOTSTRAP": stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": stack.registry_url,
            f"CROSSBOOK_{bench.name.upper()}_SIMULATED": base,
            "CROSSBOOK_SIM_CREDENTIALS_FILE": str(credentials_file),
            "CROSSBOOK_ALIVE_INTERVAL_S": "0.1",
            "CROSSBOOK_KALSHI_TIER": "advanced",
        }

    def _open(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"gateway-{len(self._all)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "execute", "--account", self._bench.account],
                cwd=PROJECT,
                env=self._env,
                stdout=log,
                stderr=log,
            )
        self._all.append(process)
        return process

    async def start(self) -> subprocess.Popen[bytes]:
        """Start one and wait until it says that it can trade."""
        before = {alive.writer for alive in self._bench.alive()}
        process = self._open()
        await self._bench.until(
            lambda: any(a.ready and a.writer not in before for a in self._bench.alive()), "a new gateway ready", 30.0
        )
        # Its quotes start at the end of derived.book.
        self._bench.quote()
        await asyncio.sleep(0.2)
        return process

    def end(self) -> None:
        for process in self._all:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)


@pytest.fixture
def new_host(stack: Any, new_bench: Any, credentials_file: Path, tmp_path: Path) -> Any:

    @contextlib.asynccontextmanager
    async def make(venue: str) -> AsyncIterator[tuple[Any, Processes]]:
        run = f"test-execute-{os.getpid()}-{os.urandom(3).hex()}"
        create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=run, partitions=PARTITIONS)
        log = KafkaLog(stack, run)
        try:
            async with new_bench(venue, log=lambda: log) as bench:
                bench.life_ms = LIFE_MS
                processes = Processes(bench, stack, run, credentials_file, tmp_path)
                try:
                    yield bench, processes
                finally:
                    processes.end()
        finally:
            await log.close()

    return make


async def test_stopped_process_sends_nothing_old_when_it_thaws_but_cancels(new_host) -> None:
    async with new_host("kalshi") as (bench, processes):
        process = await processes.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        process.send_signal(signal.SIGSTOP)
        late = bench.grant(send_by_ns=bench.clock.now_ns() + 500 * NS_PER_MS)
        bench.cancel(resting.id)
        await asyncio.sleep(3.0)
        process.send_signal(signal.SIGCONT)
        assert (await bench.terminal(late.id, timeout_s=15)).status == "EXPIRED_UNSENT"
        assert (await bench.terminal(resting.id, timeout_s=15)).status == "CANCELLED"
        assert bench.attempts == 1


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
async def test_process_killed_before_the_answer_leaves_one_order_to_its_successor(new_host, venue) -> None:
    async with new_host(venue) as (bench, processes):
        process = await processes.start()
        bench.stranger("SELL", 4_500, 20)
        bench.faults.order_swallow_answer_rate = 1.0
        grant = bench.grant()
        await bench.until(lambda: bench.attempts == 1)
        process.kill()
        process.wait(10)
        bench.faults.order_swallow_answer_rate = 0.0
        await processes.start()
        ended = await bench.terminal(grant.id, timeout_s=20)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6)
        assert bench.attempts == len(bench.venue_orders) == 1


async def test_two_processes_at_once_make_one_order_each_time(new_host) -> None:
    async with new_host("kalshi") as (bench, processes):
        await processes.start()
        await processes.start()
        bench.stranger("SELL", 4_500, 500)
        grants = [bench.grant(size=5 * E6) for _ in range(10)]
        for grant in grants:
            assert (await bench.terminal(grant.id, timeout_s=15)).status == "FILLED"
        await bench.until(lambda: all(sum(f.size for f in bench.fills(g.id)) == 5 * E6 for g in grants))
        assert bench.attempts == len(bench.venue_orders) == 10


async def test_process_ends_in_order_when_told(new_host) -> None:
    async with new_host("kalshi") as (_, processes):
        process = await processes.start()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
