"""The PostgreSQL sink against real servers: exactly once over kills, twins and outages."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from core.domain.errors import Unavailable
from core.runtime.admin import create_run, find_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.topics import DECISION_JURISDICTION, DECISION_LIMIT, ORDER_EVENT
from observe import postgres_sink
from observe.postgres_sink import PostgresSink
from observe.settings import ObserveSettings
from schemas.decision import Jurisdiction, Limit
from schemas.order import Fill

pytestmark = [pytest.mark.broker, pytest.mark.slow]

WAIT_S = 40.0
ACCOUNTS = ("kalshi:a", "kalshi:b", "polymarket:a", "polymarket:b")


class Rig:
    """One run with sinks that can be started, frozen and stopped."""

    def __init__(self, stack, postgres_stack, database):
        self.stack, self.postgres, self.database = stack, postgres_stack, database
        self.name = f"test-{uuid.uuid4().hex[:10]}"
        create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=self.name, partitions=2)
        self.clock = SystemClock()
        self.codec = Codec(HttpRegistry(stack.registry_url))
        self.run = find_run(stack.bootstrap, self.codec, self.name, self.clock)
        self.publisher = Publisher(
            bootstrap=stack.bootstrap, codec=self.codec, clock=self.clock, run=self.name, stage="test", partitions=2
        )
        self.t0 = self.clock.now_ns()
        self.sinks = []

    def start(self):
        from observe.postgres import Postgres

        settings = ObserveSettings(run=self.name, bootstrap=self.stack.bootstrap)
        sink = PostgresSink(
            settings=settings,
            codec=self.codec,
            clock=self.clock,
            run=self.run,
            database=Postgres(self.database._url),
        )
        thread = threading.Thread(target=sink.run)
        thread.start()
        self.sinks.append((sink, thread))
        return sink

    def stop(self):
        for sink, _ in self.sinks:
            sink.stop()
        for _, thread in self.sinks:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        self.sinks.clear()

    def process(self):
        """Start a sink as the process it is."""
        environment = {
            **os.environ,
            "CROSSBOOK_RUN": self.name,
            "CROSSBOOK_BOOTSTRAP": self.stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": self.stack.registry_url,
            "CROSSBOOK_QUESTDB_HTTP": self.stack.questdb_http,
            "CROSSBOOK_POSTGRES_URL": self.database._url,
        }
        return subprocess.Popen([sys.executable, "-m", "observe", "postgres"], env=environment)

    def publish(self, *outputs):
        for output in outputs:
            self.publisher.publish(output)
        assert self.publisher.wait_acknowledged(20)

    def fills(self, first, last):
        """One contract bought a fill, at one cent more each ten."""
        return [
            Output(
                ORDER_EVENT,
                account := ACCOUNTS[number % len(ACCOUNTS)],
                Fill(
                    event_id=f"e{number}",
                    order=f"o{number}",
                    account=account,
                    instrument=f"{account.partition(':')[0]}:M{number % 3}",
                    fill=f"f{number}",
                    outcome="YES",
                    token_side="BUY",
                    size=1_000_000,
                    price_e6=500_000,
                    notional_e6=500_000,
                    fee_e6=10_000,
                    asset="USD",
                    liquidity="TAKER",
                    settlement="CONFIRMED",
                    ts_ns=self.t0 + number,
                    recv_ts_ns=self.t0 + number,
                    trail=[],
                ),
            )
            for number in range(first, last)
        ]

    def count(self):
        try:
            ((fills, distinct),) = self.database.rows("SELECT count(*), count(DISTINCT fill) FROM fill")
        except Unavailable:  # our own connection, too, died with the server
            return -1
        assert fills == distinct
        return fills

    def until(self, count):
        deadline = time.monotonic() + WAIT_S
        while self.count() != count:
            assert time.monotonic() < deadline, f"{self.count()} of {count}"
            time.sleep(0.05)

    def check(self, count):
        """Rows, positions and offsets all say the same."""
        self.until(count)
        ((size, cost, fees, fills),) = self.database.rows(
            "SELECT sum(size_e6), sum(cost_e6), sum(fees_e6), sum(fills) FROM position"
        )
        assert (size, cost, fees, fills) == (count * 1_000_000, count * 500_000, count * 10_000, count)
        ((offset,),) = self.database.rows(
            "SELECT sum(next_offset) FROM sink_offset WHERE topic = %(topic)s", {"topic": ORDER_EVENT.name(self.name)}
        )
        assert offset == count


@pytest.fixture
def rig(stack, postgres_stack, database):
    made = Rig(stack, postgres_stack, database)
    yield made
    made.stop()


def test_every_fill_moves_its_position_once_though_the_sink_begins_again(rig):
    rig.publish(*rig.fills(0, 200))
    rig.start()
    rig.check(200)
    rig.stop()
    rig.publish(*rig.fills(200, 300))
    rig.start()
    rig.check(300)


def test_two_sinks_share_the_work_and_a_third_takes_over(rig):
    rig.start()
    rig.start()
    rig.publish(*rig.fills(0, 300))
    rig.check(300)
    sink, thread = rig.sinks.pop(0)
    sink.stop()
    thread.join(WAIT_S)
    rig.start()
    rig.publish(*rig.fills(300, 500))
    rig.check(500)


def test_a_twin_that_believes_it_still_owns_the_log_writes_nothing(rig):
    rig.publish(*rig.fills(0, 100))
    sink = rig.start()
    rig.check(100)
    place = (ORDER_EVENT.name(rig.name), 0)
    rig.stop()
    # What a frozen sink would do when it thaws: begin where it was, not where the tables are.
    behind = rig.start()
    rig.until(100)
    deadline = time.monotonic() + WAIT_S
    while place not in behind._next:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    behind._next[place] -= 5
    rig.publish(*rig.fills(100, 200))
    rig.check(200)
    assert behind is not sink


def test_postgres_killed_in_mid_stream_loses_nothing_and_doubles_nothing(rig):
    sink = rig.start()
    rig.publish(*rig.fills(0, 100))
    rig.check(100)
    for first in (100, 400):
        rig.postgres.kill("postgres")
        try:
            rig.publish(*rig.fills(first, first + 300))
            deadline = time.monotonic() + WAIT_S
            while sink.health()["postgres"] != "waiting":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            rig.postgres.start("postgres")
        rig.check(first + 300)


def test_a_process_killed_and_frozen_again_and_again_writes_each_row_once(rig):
    frozen = []
    try:
        for number in range(4):
            process = rig.process()
            frozen.append(process)
            rig.publish(*rig.fills(number * 400, number * 400 + 400))
            rig.until((number + 1) * 400) if number == 0 else time.sleep(1.5 + 0.3 * number)
            os.kill(process.pid, signal.SIGSTOP if number % 2 else signal.SIGKILL)
        rig.start()
        for process in frozen[1::2]:
            os.kill(process.pid, signal.SIGCONT)
        rig.check(1_600)
        ((rejected,),) = rig.database.rows("SELECT count(*) FROM rejected")
        assert rejected == 0
    finally:
        for process in frozen:
            process.kill()
            process.wait()


def test_what_postgres_refuses_is_noted_and_its_batch_mates_are_written(rig):
    limit = Limit(
        id="main", state="RUNNING", order_notional_max_e6=1, market_notional_max_e6=1, open_sagas_max=1,
        unwind_budget_e6=0, set_by="who", reason="a \x00 that no text may hold",
    )  # fmt: skip
    rig.publish(*rig.fills(0, 10), Output(DECISION_LIMIT, "main", limit))
    rig.publisher.forward(ORDER_EVENT, ACCOUNTS[0], b"\x00\x00")
    rig.publish(*rig.fills(10, 20))
    rig.start()
    rig.until(20)
    deadline = time.monotonic() + WAIT_S
    while len(found := rig.database.rows("SELECT topic, error FROM rejected ORDER BY topic")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found == [(DECISION_LIMIT.name(rig.name), "DataError"), (ORDER_EVENT.name(rig.name), "MalformedFrame")]


def test_a_trade_made_by_hand_reaches_the_tables_and_the_audit_and_can_be_withdrawn(rig, monkeypatch, capsys):
    from infra.cli.app import run

    monkeypatch.setenv("CROSSBOOK_RUN", rig.name)
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", rig.stack.bootstrap)
    monkeypatch.setenv("CROSSBOOK_REGISTRY_URL", rig.stack.registry_url)
    monkeypatch.setenv("CROSSBOOK_POSTGRES_URL", rig.database._url)
    monkeypatch.setenv("CROSSBOOK_PARTITIONS", "2")
    rig.start()
    trade = ["--account", "kalshi:a", "--instrument", "kalshi:M", "--side", "sell", "--size", "2.5", "--price", "0.42"]
    assert run(["tickets", "add", *trade, "--why", "the API was down", "--by", "ann"]) == 0
    ticket = re.search(r"ticket (\w{18}) is written down", capsys.readouterr().out).group(1)

    def until(expected):
        deadline = time.monotonic() + WAIT_S
        statement = "SELECT id, side, size_e6, price_e6, who, why, withdrawn FROM manual_ticket"
        while rig.database.rows(statement) != expected:
            assert time.monotonic() < deadline, rig.database.rows(statement)
            time.sleep(0.05)

    until([(ticket, "SELL", 2_500_000, 420_000, "ann", "the API was down", False)])
    assert run(["tickets", "withdraw", ticket[:8], "--why", "it was the demo", "--by", "ben"]) == 0
    until([(ticket, "SELL", 2_500_000, 420_000, "ben", "it was the demo", True)])
    assert rig.database.rows("SELECT who, why FROM audit ORDER BY log_offset") == [
        ("ann", "the API was down"), ("ben", "it was the demo"),
    ]  # fmt: skip


def test_a_log_that_an_older_program_did_not_read_is_read_from_its_beginning_and_once(rig, monkeypatch):
    def sign(number):
        name = f"Acme/kalshi/{number}"
        record = Jurisdiction(
            id=name, entity="Acme", venue="kalshi", category=str(number), verdict="ALLOWED", signed_by="ann",
            reason=f"memo {number}", signed_ts_ns=rig.t0,
        )  # fmt: skip
        rig.publish(Output(DECISION_JURISDICTION, name, record))

    def audited(*reasons):
        deadline = time.monotonic() + WAIT_S
        while (found := rig.database.rows("SELECT why FROM audit ORDER BY topic, log_offset")) != [
            (r,) for r in reasons
        ]:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    limit = Limit(
        id="main", state="RUNNING", order_notional_max_e6=1, market_notional_max_e6=2, open_sagas_max=3,
        unwind_budget_e6=4, set_by="ann", reason="begin",
    )  # fmt: skip
    sign(1)
    rig.publish(Output(DECISION_LIMIT, "main", limit), *rig.fills(0, 10))
    with monkeypatch.context() as patched:
        patched.setattr(postgres_sink, "READ", tuple(one for one in postgres_sink.READ if one != DECISION_JURISDICTION))
        rig.start()
        audited("begin")
        rig.check(10)
        rig.stop()
    rig.start()
    audited("memo 1", "begin")
    sign(2)
    audited("memo 1", "memo 2", "begin")
    rig.stop()
    rig.start()
    sign(3)
    audited("memo 1", "memo 2", "memo 3", "begin")
    rig.check(10)
