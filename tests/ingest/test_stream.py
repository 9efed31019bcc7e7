"""Streamed frames: no report each, yet their acknowledgement is known and their order kept (mock cluster)."""

import asyncio

import pytest

from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.edge import EdgeProducer, EdgeReader
from core.runtime.topics import RAW_FRAME
from infra.mock_cluster import MockCluster
from schemas.raw import FeedTick, Frame

pytestmark = pytest.mark.mock
RUN = "test-stream"


def frame(number: int) -> Frame:
    return Frame(feed="kalshi-1", venue="kalshi", epoch=3, frame_no=number, recv_ts_ns=1, payload=b"x" * 300)


def tick(number: int) -> FeedTick:
    return FeedTick(feed="kalshi-1", venue="kalshi", epoch=3, frame_no=number, recv_ts_ns=1)


async def until(condition, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the producer's thread has no event
            await asyncio.sleep(0.01)


def on_cluster(body) -> None:
    async def scenario(cluster: MockCluster) -> None:
        producer = EdgeProducer(
            bootstrap=cluster.bootstrap,
            codec=Codec(FileRegistry()),
            clock=SystemClock(),
            run=RUN,
            stage="ingest",
            partitions=2,
        )
        try:
            await body(cluster, producer)
        finally:
            await producer.close()

    with MockCluster() as cluster:
        cluster.create_run(RUN, 2)
        asyncio.run(asyncio.wait_for(scenario(cluster), 60))


def test_a_tick_vouches_for_the_frames_before_it() -> None:
    async def body(cluster: MockCluster, producer: EdgeProducer) -> None:
        cluster.broker_down()
        for number in range(1, 501):
            producer.stream(RAW_FRAME, "kalshi-1", frame(number), 1)
        producer.send(RAW_FRAME, "kalshi-1", tick(501), 1)
        await asyncio.sleep(0.5)
        assert producer.ack_age_s() >= 0.5
        cluster.broker_up()
        await until(lambda: producer.ack_age_s() == 0.0, 30)

    on_cluster(body)


def test_frames_nobody_vouches_for_do_not_count_for_ever() -> None:
    # Chaos, seed 1: feeds that were cut while Kafka was frozen left such frames, and no feed was opened again.
    async def body(cluster: MockCluster, producer: EdgeProducer) -> None:
        cluster.broker_down()
        producer.stream(RAW_FRAME, "kalshi-1", frame(1), 1)
        await asyncio.sleep(0.5)
        assert producer.ack_age_s() >= 0.5
        cluster.broker_up()
        await until(lambda: producer.ack_age_s() == 0.0, 30)

    on_cluster(body)


def test_another_partition_vouches_for_nothing() -> None:
    async def body(cluster: MockCluster, producer: EdgeProducer) -> None:
        cluster.broker_down()
        producer.stream(RAW_FRAME, "kalshi-1", frame(1), 1)
        producer.send(RAW_FRAME, "kalshi-0", tick(1), 0)
        await asyncio.sleep(0.2)
        assert producer.ack_age_s() >= 0.2
        cluster.broker_up()

    on_cluster(body)


def test_the_age_counts_from_the_first_frame_and_nothing_is_lost_when_kafka_comes_back() -> None:
    async def body(cluster: MockCluster, producer: EdgeProducer) -> None:
        await producer.send_acked(RAW_FRAME, "kalshi-1", tick(1), 1)
        cluster.broker_down()
        for number in range(2, 102):
            producer.stream(RAW_FRAME, "kalshi-1", frame(number), 1)
        producer.send(RAW_FRAME, "kalshi-1", tick(102), 1)
        await asyncio.sleep(1.0)
        assert producer.ack_age_s() >= 1.0
        cluster.broker_up()
        await until(lambda: producer.ack_age_s() == 0.0, 30)
        reader = EdgeReader(
            bootstrap=cluster.bootstrap, codec=Codec(FileRegistry()), run=RUN, topic=RAW_FRAME, group="g"
        )
        numbers: list[int] = []
        async for batch in reader.batches():
            numbers += [item.record.frame_no for item in batch]
            if len(numbers) >= 102:
                break
        await reader.close()
        assert numbers == list(range(1, 103))

    on_cluster(body)
