"""Real processes on real Kafka: what the socket says of fees is in `market.instrument` long before the next poll."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from core.runtime import topics
from core.runtime.admin import create_run
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.edge import EdgeReader
from schemas.market import Instrument
from simulate.kalshi.statements import Fees

PROJECT = Path(__file__).resolve().parents[2]
RUN = "test-notice"
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(200)]


async def start(stack: AsyncExitStack, env: dict[str, str], *arguments: str) -> None:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env={**os.environ, **env}, cwd=PROJECT
    )

    async def stop() -> None:
        if running.returncode is None:
            running.kill()
            await running.wait()

    stack.push_async_callback(stop)


def test_an_events_fees_that_change_are_known_within_seconds(stack, in_world) -> None:
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=RUN, partitions=2)

    async def body(venues) -> None:
        env = {
            "CROSSBOOK_RUN": RUN,
            "CROSSBOOK_BOOTSTRAP": stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": stack.registry_url,
            "CROSSBOOK_SIM_CREDENTIALS_FILE": str(venues.settings.sim_credentials_file),
            "CROSSBOOK_KALSHI_SIMULATED": venues.settings.kalshi_simulated,
            # Neither a poll nor age brings it.
            "CROSSBOOK_CATALOGUE_POLL_S": "3600",
            "CROSSBOOK_CATALOGUE_CONTEXT_S_MAX": "3600",
        }
        exchange = venues.world.kalshi.exchange
        market = exchange.markets[0]
        name = f"kalshi:{market.ticker}"
        known: dict[str, Instrument] = {}
        reader = EdgeReader(
            bootstrap=stack.bootstrap,
            codec=Codec(HttpRegistry(stack.registry_url)),
            run=RUN,
            topic=topics.MARKET_INSTRUMENT,
            group=f"{RUN}.test.instruments",
        )

        async def follow() -> None:
            async for batch in reader.batches():
                known.update((item.key, item.record) for item in batch if isinstance(item.record, Instrument))

        async def until(condition, seconds: float) -> None:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - another process has no event here
                    await asyncio.sleep(0.05)

        async with AsyncExitStack() as processes:
            processes.push_async_callback(reader.close)
            following = asyncio.create_task(follow())
            processes.callback(following.cancel)
            await start(processes, env, "ingest", "catalogue", "--venue", "kalshi")
            await start(processes, env, "ingest", "feed", "--venue", "kalshi")
            await start(processes, env, "normalize", "frame")
            await start(processes, env, "normalize", "instrument", "--venue", "kalshi")
            await until(lambda: len(known) == len(exchange.markets), 60)
            clients = venues.world.kalshi.stream.clients
            await until(lambda: any(client.on_channel("market_lifecycle_v2") for client in clients), 30)
            before = known[name]
            exchange.set_override(market.linked.kalshi_event, Fees("quadratic", "2"))
            await until(lambda: known[name].taker_fee_e6 == 140_000, 30)
            assert known[name].recv_ts_ns > before.recv_ts_ns

    in_world(body)
