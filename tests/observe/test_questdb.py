"""The sink against real servers: nothing lost, nothing doubled, a bad row alone goes to dead letters."""

import threading
import time
import uuid

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from core.runtime.admin import create_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.topics import DEAD, DERIVED_BOOK, MARKET_EVENT
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.stage import GROUP, Sink
from schemas.derived import Quote
from schemas.market import BookDelta, Trade

pytestmark = [pytest.mark.broker, pytest.mark.slow]

WAIT_S = 30.0


class Rig:
    """One run with a sink that can be stopped and started."""

    def __init__(self, stack):
        self.stack = stack
        self.run = f"test-{uuid.uuid4().hex[:10]}"
        create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=self.run, partitions=2)
        self.clock = SystemClock()
        self.codec = Codec(HttpRegistry(stack.registry_url))
        self.publisher = self._publisher()
        self.t0 = self.clock.now_ns()
        self.sink = None

    def _publisher(self):
        return Publisher(
            bootstrap=self.stack.bootstrap, codec=self.codec, clock=self.clock, run=self.run, stage="test", partitions=2
        )

    def start(self, codec=None):
        settings = ObserveSettings(
            run=self.run, bootstrap=self.stack.bootstrap, questdb_http=self.stack.questdb_http, flush_interval_ms=50
        )
        questdb = QuestDb(self.stack.questdb_http)
        questdb.prepare()
        self.sink = Sink(
            settings=settings,
            codec=codec or self.codec,
            clock=self.clock,
            publisher=self._publisher(),
            questdb=questdb,
        )
        self._thread = threading.Thread(target=self.sink.run)
        self._thread.start()

    def stop(self):
        if self.sink is not None:
            self.sink.stop()
            self._thread.join(WAIT_S)
            assert not self._thread.is_alive()
            self.sink = None

    def publish(self, *outputs):
        for output in outputs:
            self.publisher.publish(output)
        assert self.publisher.wait_acknowledged(10)

    def deltas(self, first, last, *, instruments=5):
        return [
            Output(
                MARKET_EVENT,
                f"kalshi:M{number % instruments}",
                BookDelta(
                    instrument=f"kalshi:M{number % instruments}",
                    epoch=1,
                    frame_no=number,
                    index=0,
                    price_exp=-4,
                    size_exp=-6,
                    side="BUY",
                    kind="ABSOLUTE",
                    price=4_700,
                    size=number * 1_000_000,
                    recv_ts_ns=self.t0 + number,
                    trail=[self.t0 + number + 500],
                ),
            )
            for number in range(first, last)
        ]

    def query(self, sql):
        host, port = self.stack.questdb_pg
        with psycopg.connect(
            f"host={host} port={port} user=admin password=quest dbname=qdb", autocommit=True
        ) as connection:
            return connection.execute(sql.replace("$RUN", f"run = '{self.run}'")).fetchall()

    def until(self, sql, expected):
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                found = self.query(sql)
            except psycopg.OperationalError:
                found = None
            if found == expected or time.monotonic() > deadline:
                assert found == expected
                return
            time.sleep(0.05)

    def committed(self, topic, partitions=2):
        consumer = Consumer({"bootstrap.servers": self.stack.bootstrap, "group.id": f"{self.run}.{GROUP}"})
        try:
            places = consumer.committed([TopicPartition(topic.name(self.run), p) for p in range(partitions)], 10)
            return sum(max(place.offset, 0) for place in places)
        finally:
            consumer.close()

    def rewind(self, topic, partitions=2):
        """Set the group's offsets of a topic back to the beginning, as after a lost commit."""
        consumer = Consumer({"bootstrap.servers": self.stack.bootstrap, "group.id": f"{self.run}.{GROUP}"})
        try:
            consumer.commit(
                offsets=[TopicPartition(topic.name(self.run), p, 0) for p in range(partitions)], asynchronous=False
            )
        finally:
            consumer.close()

    def dead(self):
        consumer = Consumer(
            {"bootstrap.servers": self.stack.bootstrap, "group.id": "dead", "enable.partition.eof": True}
        )
        consumer.assign([TopicPartition(DEAD["observe"].name(self.run), 0, 0)])
        found = []
        try:
            while True:
                message = consumer.poll(10)
                if message is None or message.error():
                    return found
                found.append(self.codec.decode(message.value()))
        finally:
            consumer.close()


@pytest.fixture
def rig(stack):
    made = Rig(stack)
    yield made
    made.stop()


COUNT = "select count() from market_book_delta where $RUN"
DISTINCT = "select count() from (select distinct frame_no from market_book_delta where $RUN)"


def test_every_record_becomes_one_row_and_offsets_follow_the_rows(rig):
    rig.start()
    rig.publish(*rig.deltas(0, 500))
    rig.until(COUNT, [(500,)])
    rig.until(DISTINCT, [(500,)])
    assert rig.query("select sum(size), max(price) from market_book_delta where $RUN") == [(499 * 500 / 2, 0.47)]
    assert rig.query("select hops_us[1] > 0 from market_book_delta where $RUN limit 1") == [(True,)]
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 500


def test_replaying_the_same_offsets_doubles_nothing(rig):
    rig.start()
    rig.publish(*rig.deltas(0, 300))
    rig.until(COUNT, [(300,)])
    rig.stop()
    rig.rewind(MARKET_EVENT)
    rig.start()
    rig.publish(*rig.deltas(300, 400))
    rig.until(COUNT, [(400,)])
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 400
    assert rig.query(COUNT) == [(400,)]


def test_questdb_killed_in_mid_stream_loses_nothing_and_doubles_nothing(rig):
    rig.start()
    rig.publish(*rig.deltas(0, 200))
    rig.until(COUNT, [(200,)])
    rig.stack.kill("questdb")
    try:
        rig.publish(*rig.deltas(200, 1_200))
        deadline = time.monotonic() + 10
        while rig.sink.health()["questdb"] != "waiting" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rig.sink.health()["questdb"] == "waiting"
        assert rig.committed(MARKET_EVENT) <= 200
    finally:
        rig.stack.start("questdb")
    rig.until(COUNT, [(1_200,)])
    rig.until(DISTINCT, [(1_200,)])
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 1_200


def test_partitions_that_are_lost_and_come_back_while_questdb_is_away_are_read_again(rig):
    # Chaos, seed 2: a frozen sink lost its partitions with its batch, nothing in hand asked again, it paused for ever.
    rig.start()
    rig.publish(*rig.deltas(0, 200))
    rig.until(COUNT, [(200,)])
    rig.stack.kill("questdb")
    try:
        rig.publish(*rig.deltas(200, 400))
        deadline = time.monotonic() + 10
        while rig.sink.health()["questdb"] != "waiting":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        sink, turn = rig.sink, rig.sink.turn

        def lose():
            sink.turn = turn
            places = [TopicPartition(*place) for place in sink._owned]
            sink._lost(places)
            sink._assigned(places)

        sink.turn = lose
    finally:
        rig.stack.start("questdb")
    rig.publish(*rig.deltas(400, 600))
    rig.until(COUNT, [(600,)])
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 600


def test_a_poison_row_goes_to_dead_letters_and_its_batch_mates_go_through(rig):
    good = rig.deltas(0, 50)
    bad_time = Trade(
        instrument="kalshi:M1", epoch=1, frame_no=900, index=0, price_exp=-4, size_exp=-6, price=1, size=1,
        aggressor="BUY", recv_ts_ns=2**63 - 2,
    )  # fmt: skip
    rig.publish(*good[:25])
    rig.publisher.forward(MARKET_EVENT, "kalshi:M1", rig.codec.encode(bad_time))
    torn = rig.codec.encode(good[0].record)[:12]
    rig.publisher.forward(MARKET_EVENT, "kalshi:M1", torn)
    rig.publisher.forward(MARKET_EVENT, "kalshi:M1", b"{}")
    rig.publish(*good[25:])
    rig.start()
    rig.until(COUNT, [(50,)])
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 53
    letters = rig.dead()
    assert {letter.value: letter.error for letter in letters} == {
        rig.codec.encode(bad_time, 0): "Reject",
        torn: "MalformedFrame",
        b"{}": "MalformedFrame",
    }


def test_a_row_the_server_refuses_is_found_among_its_mates(stack):
    questdb = QuestDb(stack.questdb_http)
    questdb.prepare()
    made = Rig(stack)
    rows = _rows(made, 40)
    wrong = rows[17]._replace(columns=rows[17].columns | {"price": "not a number"})
    unwritable = rows[30]._replace(columns=rows[30].columns | {"hash": "\ud800"})
    refused = questdb.write([*rows[:17], wrong, *rows[18:30], unwritable, *rows[31:]])
    assert [row.number for row in refused] == [17, 30]
    assert "price" in refused[0].reason
    made.until(COUNT, [(38,)])


def test_a_dropped_table_is_made_again(stack):
    questdb = QuestDb(stack.questdb_http)
    questdb.prepare()
    made = Rig(stack)
    questdb.execute("DROP TABLE market_book_delta")
    assert questdb.write(_rows(made, 3)) == []
    made.until(COUNT, [(3,)])


def test_copies_on_other_logs_are_not_written_twice(rig):
    trade = Trade(
        instrument="kalshi:M1", epoch=1, frame_no=1, index=0, price_exp=-4, size_exp=-6, price=1, size=1,
        aggressor="BUY", recv_ts_ns=rig.t0,
    )  # fmt: skip
    quote = Quote(
        instrument="kalshi:M1", version_offset=5, version_index=1, depth_offset=5, depth_index=0, state="LIVE",
        price_exp=-4, size_exp=-6, bid_price=1, bid_size=1, ask_price=2, ask_size=2, epoch=1, recv_ts_ns=rig.t0,
    )  # fmt: skip
    rig.publish(
        Output(MARKET_EVENT, "kalshi:M1", trade),
        Output(DERIVED_BOOK, "kalshi:M1", trade),
        Output(DERIVED_BOOK, "kalshi:M1", quote),
    )
    rig.start()
    rig.until("select count() from derived_quote where $RUN", [(1,)])
    rig.until("select count() from market_trade where $RUN", [(1,)])
    rig.stop()
    assert rig.committed(DERIVED_BOOK) == 2


def _rows(made, count):
    from observe.tables import Place, rows

    place = Place("market.event", 0, 0, made.t0)
    return [row for output in made.deltas(0, count) for row in rows(made.run, output.record, place)]
