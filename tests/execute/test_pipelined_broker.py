"""What a gateway writes keeps its order, once each, although requests do not wait for each other."""

import asyncio
import os

import pytest

from core.runtime import topics
from core.runtime.admin import create_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.edge import EdgeProducer, EdgeReader
from schemas.order import Alive

pytestmark = [pytest.mark.broker, pytest.mark.slow]
RECORDS = 600


@pytest.mark.timeout(240)
async def test_records_stay_in_order_over_the_death_of_the_broker(stack) -> None:
    run = f"test-pipelined-{os.getpid()}"
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=run, partitions=1)
    codec = Codec(HttpRegistry(stack.registry_url))
    out = EdgeProducer(
        bootstrap=stack.bootstrap,
        codec=codec,
        clock=SystemClock(),
        run=run,
        stage="execute",
        partitions=1,
        pipelined=True,
    )

    async def write(first: int) -> list[asyncio.Future[int]]:
        sent = []
        for number in range(first, first + RECORDS):
            record = Alive(account="kalshi:main", writer=str(number), ready=True, reason="", ts_ns=number)
            sent.append(out.send_noting(topics.ORDER_EVENT, "kalshi:main", record))
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        return sent

    writing = asyncio.create_task(write(0))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(stack.kill, "kafka")
    sent = await writing + await write(RECORDS)
    assert not all(future.done() for future in sent)
    await asyncio.to_thread(stack.start, "kafka")
    offsets = await asyncio.wait_for(asyncio.gather(*sent), 60)
    assert offsets == sorted(offsets)
    reader = EdgeReader(bootstrap=stack.bootstrap, codec=codec, run=run, topic=topics.ORDER_EVENT, group=f"{run}.test")
    found: list[str] = []

    async def read() -> None:
        async for batch in reader.batches():
            found.extend(item.record.writer for item in batch)
            if len(found) >= 2 * RECORDS:
                return

    await asyncio.wait_for(read(), 30)
    assert found == [str(number) for number in range(2 * RECORDS)]
    await reader.close()
    assert await out.close() == 0
