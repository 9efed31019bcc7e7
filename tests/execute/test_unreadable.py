"""Grants that cannot be read or signed: a dead letter where bytes are torn, and always an end that frees the capital."""

import asyncio
import json

import pytest

from core.domain.errors import MalformedFrame
from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.codec import PREFIX_BYTES, Codec, FileRegistry
from core.runtime.edge import EdgeReader, Unreadable
from core.runtime.producer import Publisher
from decide.orders import Orders
from execute.kalshi import KalshiVenue
from execute.unreadable import order_of
from infra.mock_cluster import MockCluster
from schemas.decision import Beat, Grant
from schemas.record import schema_texts
from venues.kalshi.auth import Signer

CODEC = Codec(FileRegistry())
BEAT = Beat(account="kalshi:main", account_set="main", now_ns=1)


def torn(value: bytes, *, key: str = "kalshi:main", kind: str = Grant.schema_name, offset: int = 7) -> Unreadable:
    return Unreadable(
        topic="test-x.decision.order",
        partition=0,
        offset=offset,
        key=key.encode(),
        value=value,
        kafka_ts_ns=1,
        kind=kind,
        error="MalformedFrame",
        reason="the body is not what its schema says",
    )


def test_an_id_is_the_first_field_of_a_grant_and_eighteen_characters():
    assert json.loads(schema_texts()[Grant.schema_name])["fields"][0] == {"name": "id", "type": "string"}


async def test_the_id_is_read_from_torn_bytes_and_only_where_it_stands(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        grant = bench.grant(write=False)
        data = CODEC.encode(grant)
        assert order_of(torn(data[:40])) == grant.id
        assert order_of(torn(data[: PREFIX_BYTES + 19], kind="")) == grant.id
        assert order_of(torn(data[: PREFIX_BYTES + 18])) == ""
        assert order_of(torn(data[:PREFIX_BYTES])) == order_of(torn(b"")) == ""
        assert order_of(torn(data, kind="crossbook.decision.Beat")) == ""
        assert order_of(torn(data[:PREFIX_BYTES] + b"\x24" + b"?" * 18)) == ""


async def test_a_grant_that_cannot_be_read_is_a_letter_and_frees_its_reservation(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = bench.grant(write=False)
        value = bench.log.codec.encode(grant)[:60]
        running.gateway.unreadable(torn(value))
        update = await bench.terminal(grant.id)
        assert (update.status, update.filled) == ("REJECTED", 0)
        assert update.reason.startswith("gateway: its Grant cannot be read: MalformedFrame")
        (letter,) = bench.log.read(topics.DEAD["execute"])
        assert (letter.value, letter.source_offset, letter.error) == (value, 7, "MalformedFrame")
        assert bench.attempts == 0

        # What accounts make of it: terminal, never on a book, nothing held any more.
        books = Orders()
        books.add(grant, budget_e6=5)
        order = books.update(update)
        assert order is not None
        assert order.was_refused
        assert (order.spent_e6, books.open_ids) == (0, set())


async def test_a_start_later_buries_nothing_twice(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        first = await bench.start()
        grant = bench.grant(write=False)
        value = bench.log.codec.encode(grant)[:60]
        first.gateway.unreadable(torn(value))
        await bench.terminal(grant.id)
        await first.kill()
        second = await bench.start()
        second.gateway.unreadable(torn(value))
        await asyncio.sleep(0.2)
        assert len(bench.log.read(topics.DEAD["execute"])) == 1
        assert len(bench.updates(grant.id)) == 1


async def test_bytes_that_name_no_order_are_a_letter_alone(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        running.gateway.unreadable(torn(b"{}", kind=""))
        running.gateway.unreadable(torn(b"{}", kind="", key="kalshi:other"))
        await bench.until(lambda: bench.log.read(topics.DEAD["execute"]))
        await asyncio.sleep(0.1)
        assert [letter.value for letter in bench.log.read(topics.DEAD["execute"])] == [b"{}"]


async def test_a_ready_twin_that_could_read_it_goes_first(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        old, _ = await bench.start(), await bench.start()
        bench.stranger("SELL", 4_500, 50)
        grant = bench.grant()
        # The older gateway hears of it as bytes it cannot read, the twin as a Grant.
        old.gateway.unreadable(torn(bench.log.codec.encode(grant)[:60]))
        assert (await bench.terminal(grant.id)).status == "FILLED"
        await asyncio.sleep(2.2)
        assert bench.statuses(grant.id).count("REJECTED") == 0
        assert len(bench.venue_orders) == 1


class Unsigning(KalshiVenue):
    """A venue whose keys cannot sign this body."""

    def headers(self, request, now_ns):
        if request.method == "POST":
            raise MalformedFrame("the key does not sign this")
        return super().headers(request, now_ns)


async def test_an_order_that_cannot_be_signed_ends_unsent(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        key = bench.world.credentials.kalshi[0]
        signer = Signer.from_pem(key.key_id, key.private_key_pem)
        venue = Unsigning(signer=signer, endpoints=bench.endpoints, tier="advanced")
        running = await bench.start(venue=venue)
        grant = bench.grant()
        update = await bench.terminal(grant.id)
        assert (update.status, update.reason) == ("EXPIRED_UNSENT", "cannot be signed: the key does not sign this")
        await bench.until(lambda: running.gateway.orders[grant.id].terminal)
        assert bench.attempts == 0


@pytest.mark.mock
def test_an_edge_reader_tells_its_owner_what_it_cannot_decode() -> None:
    async def scenario(bootstrap: str) -> list[Unreadable]:
        publisher = Publisher(
            bootstrap=bootstrap, codec=CODEC, clock=SystemClock(), run="test-u", stage="decide", partitions=1
        )
        whole = CODEC.encode(BEAT)
        publisher.forward(topics.DECISION_ORDER, "kalshi:main", whole[:-1])
        publisher.forward(topics.DECISION_ORDER, "kalshi:main", b"{}")
        publisher.forward(topics.DECISION_ORDER, "kalshi:main", whole)
        assert publisher.wait_acknowledged(10)
        told: list[Unreadable] = []
        reader = EdgeReader(
            bootstrap=bootstrap,
            codec=CODEC,
            run="test-u",
            topic=topics.DECISION_ORDER,
            group="g",
            on_unreadable=told.append,
        )
        async for batch in reader.batches():
            assert [item.offset for item in batch] == [2]
            break
        await reader.close()
        return told

    with MockCluster() as cluster:
        cluster.create_run("test-u", 1)
        told = asyncio.run(asyncio.wait_for(scenario(cluster.bootstrap), 30))
    assert [(found.offset, found.kind) for found in told] == [(0, "crossbook.decision.Beat"), (1, "")]
    assert told[0].topic == "test-u.decision.order"
