"""What the sink does beside the plain flow: letters that come back, a registry that is away, events heard twice."""

import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from msgspec.structs import replace

from core.domain.errors import Misconfigured, Unavailable
from core.runtime import resent
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.resent import Letter, Mark
from core.runtime.topics import DEAD_RETURNED, DEAD_STATE, DECISION_LIMIT, MARKET_EVENT, ORDER_EVENT
from observe.first import FirstHeard
from observe.questdb import QuestDb
from observe.tables import BY_KIND, Place, rows
from schemas.dead import Returned
from schemas.decision import Limit
from schemas.market import Trade
from schemas.order import Fill
from tests.observe.test_questdb import COUNT, WAIT_S, Rig

pytestmark = [pytest.mark.broker, pytest.mark.slow]
NS = 1_000_000_000


@pytest.fixture
def rig(stack):
    made = Rig(stack)
    yield made
    made.stop()


def states(rig, count):
    consumer = Consumer({"bootstrap.servers": rig.stack.bootstrap, "group.id": "states", "enable.partition.eof": True})
    consumer.assign([TopicPartition(DEAD_STATE.name(rig.run), 0, 0)])
    found = []
    deadline = time.monotonic() + WAIT_S
    try:
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and not message.error():
                found.append(rig.codec.decode(message.value()))
        return {state.letter: (state.state, state.reason) for state in found}
    finally:
        consumer.close()


def returned(rig, letter, record, *, noun="market.event", offset=resent.NEVER_STOOD, ts_ns=0):
    made = Returned(
        letter=letter,
        noun=noun,
        partition=0,
        offset=offset,
        kafka_ts_ns=ts_ns,
        key=b"k",
        value=rig.codec.encode(record),
    )
    return Output(DEAD_RETURNED, "k", made)


def fill(rig, event, *, recv_ns, size=1_000_000):
    return Fill(
        event_id=event,
        order="o-1",
        account="kalshi:main",
        instrument="kalshi:M1",
        fill="f-1",
        outcome="YES",
        token_side="BUY",
        size=size,
        price_e6=470_000,
        notional_e6=470_000,
        fee_e6=20_000,
        asset="USD",
        liquidity="TAKER",
        settlement="CONFIRMED",
        ts_ns=recv_ns,
        recv_ts_ns=recv_ns,
        trail=[],
    )


def trade(rig, frame_no, recv_ns=None):
    return Trade(
        instrument="kalshi:M1", epoch=1, frame_no=frame_no, index=0, price_exp=-4, size_exp=-6, price=4_700, size=1,
        aggressor="BUY", recv_ts_ns=rig.t0 if recv_ns is None else recv_ns,
    )  # fmt: skip


def test_a_letter_that_comes_back_is_a_row_once_however_often_it_comes(rig):
    rig.start()
    for _ in range(2):
        rig.publish(returned(rig, "observe/3", trade(rig, 1), offset=17))
    rig.until("select count() from market_trade where $RUN", [(1,)])
    assert states(rig, 1) == {"observe/3": ("THROUGH", "")}
    deadline = time.monotonic() + WAIT_S
    while rig.committed(DEAD_RETURNED, 1) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    rig.stop()
    assert rig.query("select count() from market_trade where $RUN") == [(1,)]


def test_a_letter_that_dies_again_says_why_and_makes_no_second_letter(rig):
    rig.start()
    rig.publish(returned(rig, "observe/4", trade(rig, 1, recv_ns=2**63 - 2)))
    state, reason = states(rig, 1)["observe/4"]
    assert state == "AGAIN"
    assert "is not a time QuestDB can hold" in reason
    rig.stop()
    assert rig.dead() == []


def test_what_normalize_made_of_a_letter_is_sunk_without_a_word_of_the_sink(rig):
    rig.start()
    rig.publish(returned(rig, "normalize/4", trade(rig, 1)), returned(rig, "observe/5", trade(rig, 2)))
    rig.until("select count() from market_trade where $RUN", [(2,)])
    assert set(states(rig, 1)) == {"observe/5"}


def test_a_returned_record_stands_where_it_stood_first(rig):
    limit = Limit(
        id="main",
        state="RUNNING",
        order_notional_max_e6=1,
        market_notional_max_e6=1,
        open_sagas_max=1,
        unwind_budget_e6=1,
        set_by="me",
        reason="test",
    )
    first = rig.t0 // 1_000 * 1_000
    rig.start()
    rig.publish(returned(rig, "observe/9", limit, noun=DECISION_LIMIT.noun, offset=23, ts_ns=first))
    rig.until("select log_offset, cast(ts as long) from decision_limit where $RUN", [(23, first)])


def test_a_record_that_comes_back_to_another_stage_has_its_row_already(rig):
    rig.start()
    mark = Mark(Letter("normalize", 1), 0, 0)
    rig.publisher.forward(MARKET_EVENT, "kalshi:M1", rig.codec.encode(trade(rig, 1)), headers=resent.pack(mark))
    rig.publish(Output(MARKET_EVENT, "kalshi:M1", trade(rig, 2)))
    rig.until("select frame_no from market_trade where $RUN", [(2,)])


def test_a_dead_registry_holds_the_sink_up_and_nothing_is_lost(rig):
    rig.publish(*rig.deltas(0, 5))  # schemas are known to whoever writes
    rig.stack.kill("registry")
    try:
        rig.start(Codec(HttpRegistry(rig.stack.registry_url)))
        rig.publish(*rig.deltas(5, 300))
        deadline = time.monotonic() + WAIT_S
        while rig.sink.health()["registry"] != "waiting" or rig.sink.health()["pressure"] != "behind":
            assert time.monotonic() < deadline, rig.sink.health()
            time.sleep(0.05)
        assert rig.committed(MARKET_EVENT) == 0
        assert len(rig.sink._unread) <= 2_000
    finally:
        rig.stack.start("registry")
    rig.until(COUNT, [(300,)])
    rig.stop()
    assert rig.committed(MARKET_EVENT) == 300
    assert rig.dead() == []


def test_a_fill_that_two_gateways_heard_is_one_row_with_the_time_it_was_heard_first(rig):
    rig.start()
    rig.publish(Output(ORDER_EVENT, "kalshi:main", fill(rig, "e-1", recv_ns=rig.t0)))
    rig.publish(Output(ORDER_EVENT, "kalshi:main", fill(rig, "e-1", recv_ns=rig.t0 + 7 * NS, size=2_000_000)))
    rig.until("select size, cast(ts as long) from order_fill where $RUN", [(2.0, rig.t0)])
    rig.stop()
    # A sink that has heard of nothing looks it up: also when it reads the log again from its beginning.
    rig.rewind(ORDER_EVENT)
    rig.start()
    rig.publish(Output(ORDER_EVENT, "kalshi:main", fill(rig, "e-1", recv_ns=rig.t0 + 40 * NS)))
    rig.publish(Output(ORDER_EVENT, "kalshi:main", fill(rig, "e-2", recv_ns=rig.t0 + 50 * NS)))
    rig.until(
        "select event_id, cast(ts as long) from order_fill where $RUN order by event_id",
        [("e-1", rig.t0), ("e-2", rig.t0 + 50 * NS)],
    )


def test_rows_questdb_acknowledged_and_does_not_show_yet_are_waited_for():
    def query(sql):
        assert "wal_tables" in sql
        return {"dataset": [["order_fill", 3, 4]]}

    made = list(rows("test-x", fill(None, "e-1", recv_ns=5), Place("order.event", 0, 0, 5)))
    with pytest.raises(Unavailable, match="order_fill up to 3 of 4"):
        FirstHeard(query, "test-x").settle(made)


def test_a_table_of_an_older_version_gets_the_columns_it_lacks(rig):
    questdb = QuestDb(rig.stack.questdb_http)
    questdb.execute("DROP TABLE IF EXISTS order_fill")
    questdb.execute(
        "CREATE TABLE order_fill (ts TIMESTAMP_NS, run SYMBOL, event_id VARCHAR, size DOUBLE) "
        "TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, run, event_id)"
    )
    questdb.execute("INSERT INTO order_fill VALUES (1000000000, 'old', 'e-0', 1.5)")
    questdb.prepare()
    questdb.prepare()
    rig.start()
    rig.publish(Output(ORDER_EVENT, "kalshi:main", fill(rig, "e-1", recv_ns=rig.t0)))
    rig.until("select size, fee_e6, asset from order_fill where $RUN", [(1.0, 20_000, "USD")])
    columns = {name: kind for name, kind, *_ in questdb.execute("SHOW COLUMNS FROM order_fill")["dataset"]}
    assert columns == {"ts": "TIMESTAMP_NS", "run": "SYMBOL", **BY_KIND[Fill].columns}
    assert questdb.execute("SELECT event_id, fee_e6 FROM order_fill WHERE run = 'old'")["dataset"] == [["e-0", None]]


def test_a_column_of_another_type_is_refused_by_name():
    there = {"ts": "TIMESTAMP_NS", "run": "SYMBOL", **BY_KIND[Fill].columns}
    assert BY_KIND[Fill].missing(there) == []
    with pytest.raises(Misconfigured, match="order_fill: expected column size of type DOUBLE, found LONG"):
        BY_KIND[Fill].missing({**there, "size": "LONG"})


def test_a_record_keeps_its_bytes_on_the_way_back(rig):
    record = replace(trade(rig, 1), trail=[rig.t0])
    output = returned(rig, "observe/1", record)
    assert rig.codec.decode(rig.codec.decode(rig.codec.encode(output.record)).value) == record
