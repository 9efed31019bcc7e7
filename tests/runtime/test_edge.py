"""The edge: acknowledged sends, readers in order, work shared by adding members."""

import asyncio
import contextlib
import time

from core.runtime import queues, topics
from core.runtime.clock import SystemClock
from core.runtime.edge import EdgeProducer, EdgeReader
from core.runtime.pressure import PressureLimits
from core.runtime.shares import SHARES_MAX, Share, SharedTable
from schemas.order import Alive, VenueReport
from schemas.raw import Description, Opened


def producer_on(cluster, stage: str = "execute") -> EdgeProducer:
    return EdgeProducer(
        bootstrap=cluster.bootstrap,
        codec=cluster.codec,
        clock=SystemClock(),
        run=cluster.run,
        stage=stage,
        partitions=cluster.partitions,
    )


def alive(number: int) -> Alive:
    return Alive(account="kalshi:main", writer="w", ready=True, ts_ns=number)


def test_send_acked_returns_the_offset_kafka_gave(cluster):
    async def scenario():
        producer = producer_on(cluster, "ingest")
        opened = Opened(feed="kalshi-1", venue="kalshi", worker="w", slot=1, instruments=["kalshi:A"], recv_ts_ns=1)
        offsets = [await producer.send_acked(topics.RAW_FEED, "kalshi-1", opened) for _ in range(3)]
        assert producer.ack_age_s() == 0.0
        assert await producer.close() == 0
        return offsets

    assert asyncio.run(scenario()) == [0, 1, 2]


def test_a_reader_hands_records_over_in_order_and_says_when_it_has_caught_up(cluster):
    async def scenario():
        producer = producer_on(cluster)
        for number in range(50):
            producer.send(topics.ORDER_EVENT, "kalshi:main", alive(number))
        await producer.send_acked(topics.ORDER_EVENT, "kalshi:main", alive(50))
        reader = EdgeReader(
            bootstrap=cluster.bootstrap, codec=cluster.codec, run=cluster.run, topic=topics.ORDER_EVENT, group="g"
        )
        seen = []
        async for batch in reader.batches():
            seen += [item.record.ts_ns for item in batch]
            if len(seen) == 51:
                break
        await asyncio.wait_for(reader.caught_up.wait(), 10)
        producer.send(topics.ORDER_EVENT, "kalshi:main", alive(51))
        async for batch in reader.batches():
            seen += [item.record.ts_ns for item in batch]
            break
        await reader.close()
        await producer.close()
        return seen

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == list(range(52))


def test_a_joining_reader_resumes_after_what_it_committed(cluster):
    async def read(count: int) -> list[int]:
        reader = EdgeReader(
            bootstrap=cluster.bootstrap,
            codec=cluster.codec,
            run=cluster.run,
            topic=topics.ORDER_EVENT,
            group=f"{cluster.run}.execute.t",
            joins=True,
            start="committed",
        )
        seen = []
        async for batch in reader.batches():
            for item in batch[: count - len(seen)]:
                seen.append(item.record.ts_ns)
                reader.commit(item)
            if len(seen) >= count:
                break
        await reader.close()
        return seen

    async def scenario():
        producer = producer_on(cluster)
        for number in range(10):
            producer.send(topics.ORDER_EVENT, "kalshi:main", alive(number))
        await producer.close()
        return await read(4), await read(6)

    first, second = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert first == [0, 1, 2, 3]
    assert second == [4, 5, 6, 7, 8, 9]


def test_members_share_a_compacted_topic_and_cover_every_key_once(cluster):
    topic = topics.RAW_INSTRUMENT["kalshi"]
    keys = [f"kalshi:{number}" for number in range(40)]

    def member() -> SharedTable:
        return SharedTable(
            bootstrap=cluster.bootstrap,
            codec=cluster.codec,
            run=cluster.run,
            topic=topic,
            group=f"{cluster.run}.ingest.k",
        )

    async def scenario():
        producer = producer_on(cluster, "ingest")
        for key in keys:
            description = Description(venue="kalshi", instrument=key, payload=b"{}", context=b"", recv_ts_ns=1)
            producer.send(topic, key, description)
        await producer.close()
        owned: dict[str, set[str]] = {}

        async def follow(name: str, table: SharedTable) -> None:
            async for share in table.shares():
                owned[name] = set(share.items)

        first = member()
        tasks = [asyncio.create_task(follow("first", first))]
        await _until(lambda: owned.get("first") == set(keys))
        second = member()
        tasks.append(asyncio.create_task(follow("second", second)))
        await _until(
            lambda: (
                len(owned.get("second", ())) > 0
                and len(owned["first"]) < len(keys)
                and owned["first"] | owned["second"] == set(keys)
            )
        )
        assert not owned["first"] & owned["second"]
        await second.close()
        await _until(lambda: owned["first"] == set(keys))
        await first.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 90))


async def _until(condition, timeout_s: float = 25.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.05)


def test_a_reader_decodes_and_hands_over_only_what_is_wanted(cluster):
    async def scenario():
        producer = producer_on(cluster)
        report = VenueReport(account="kalshi:main", as_of_ns=1, cash_e6=0, holdings=[], open_orders=[], ts_ns=1)
        for number in range(6):
            producer.send(topics.ORDER_EVENT, f"account-{number % 2}", alive(number))
            await producer.send_acked(topics.ORDER_EVENT, "account-0", report)
        reader = EdgeReader(
            bootstrap=cluster.bootstrap,
            codec=cluster.codec,
            run=cluster.run,
            topic=topics.ORDER_EVENT,
            group="g",
            wants=lambda key, kind: key == "account-1" and kind == Alive.schema_name,
            patience_ms=20,
        )
        await asyncio.wait_for(reader.caught_up.wait(), 10)
        seen = []
        async for batch in reader.batches():
            seen += [(item.key, item.record.ts_ns) for item in batch]
            if len(seen) == 3:
                break
        await reader.close()
        await producer.close()
        return seen

    assert asyncio.run(scenario()) == [("account-1", 1), ("account-1", 3), ("account-1", 5)]


def test_shares_nobody_takes_are_merged_and_no_change_is_forgotten(cluster):
    async def scenario():
        table = SharedTable(
            bootstrap=cluster.bootstrap,
            codec=cluster.codec,
            run=cluster.run,
            topic=topics.RAW_INSTRUMENT["kalshi"],
            group=f"{cluster.run}.ingest.shares",
        )
        for number in range(3 * SHARES_MAX):
            table._offer(Share(frozenset({number}), {}, frozenset({number}), frozenset({number - 1})))
        assert table._queue.qsize() <= SHARES_MAX
        assert queues.depths()["shares"][0] >= table._queue.qsize(), "it can be seen"
        share = await anext(table.shares())
        await table.close()
        return share

    share = asyncio.run(scenario())
    assert share.partitions == {3 * SHARES_MAX - 1}
    assert share.gained == {3 * SHARES_MAX - 1}
    assert share.lost == set(range(-1, 3 * SHARES_MAX - 1))


def test_a_reader_whose_handler_is_slow_says_how_late_it_is(cluster):
    async def scenario():
        reader = EdgeReader(
            bootstrap=cluster.bootstrap,
            codec=cluster.codec,
            run=cluster.run,
            topic=topics.ORDER_EVENT,
            group=f"{cluster.run}.execute.slow",
            limits=PressureLimits(calm_after_s=0.1),
        )
        await asyncio.wait_for(reader.caught_up.wait(), 10)
        producer = producer_on(cluster)
        producer.send(topics.ORDER_EVENT, "kalshi:main", alive(1))
        batches = reader.batches()
        await asyncio.wait_for(anext(batches), 10)
        await asyncio.sleep(1.5)  # the handler takes its time over the batch
        levels = [reader.pressure.level]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(1.0)
        levels.append(reader.pressure.level)
        await producer.close()
        await reader.close()
        with contextlib.suppress(StopAsyncIteration):
            await waiting
        return levels

    assert asyncio.run(scenario()) == ["behind", "calm"]
