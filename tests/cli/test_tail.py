"""`crossbook tail`, `topics`, `status` and `scale` against real servers."""

import json
import uuid

import pytest

from core.runtime.admin import create_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.sequenced import pack
from core.runtime.topics import DECISION_INPUT, MARKET_EVENT
from infra.cli.app import run as crossbook
from schemas.decision import Clock
from schemas.market import BookDelta, Tick

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def told(stack):
    """A run with a few records on two topics."""
    run = f"test-{uuid.uuid4().hex[:10]}"
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=run, partitions=2)
    clock = SystemClock()
    codec = Codec(HttpRegistry(stack.registry_url))
    publisher = Publisher(bootstrap=stack.bootstrap, codec=codec, clock=clock, run=run, stage="test", partitions=2)
    now = clock.now_ns()
    for number in range(20):
        delta = BookDelta(
            instrument=f"kalshi:M{number % 4}", epoch=1, frame_no=number, index=0, price_exp=-4, size_exp=-6,
            side="BUY", kind="ABSOLUTE", price=4_700, size=1, recv_ts_ns=now,
        )  # fmt: skip
        publisher.publish(Output(MARKET_EVENT, delta.instrument, delta))
    publisher.publish(
        Output(
            MARKET_EVENT,
            "kalshi-0",
            Tick(feed="kalshi-0", venue="kalshi", epoch=1, frame_no=20, recv_ts_ns=now),
            0,
        )
    )
    stamped = codec.encode(Clock(now_ns=now))
    publisher.forward(DECISION_INPUT, "s", stamped, 0, pack("derived.book", 3, 77, now))
    assert publisher.wait_acknowledged(10)
    return run


@pytest.fixture
def shell(stack, told, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", stack.bootstrap)
    monkeypatch.setenv("CROSSBOOK_REGISTRY_URL", stack.registry_url)
    monkeypatch.setenv("CROSSBOOK_QUESTDB_HTTP", stack.questdb_http)
    monkeypatch.setenv("CROSSBOOK_STACK_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        assert crossbook([*arguments, "--run", told]) == 0
        return capsys.readouterr().out

    return call


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_tail_shows_the_last_records_in_order(shell):
    found = lines(shell("tail", "market.event", "-n", "5", "--json"))
    assert len(found) == 5
    assert found[0].keys() >= {"partition", "offset", "key", "type", "record"}


def test_tail_from_the_beginning_decodes_everything(shell):
    found = lines(shell("tail", "market.event", "--from", "beginning", "--json"))
    assert sorted(record["record"]["frame_no"] for record in found) == list(range(21))
    assert {record["type"] for record in found} == {"BookDelta", "Tick"}


def test_tail_keeps_to_a_key_and_a_type(shell):
    found = lines(shell("tail", "market.event", "--from", "beginning", "--key", "kalshi:M3", "--json"))
    assert [record["record"]["frame_no"] for record in found] == [3, 7, 11, 15, 19]
    found = lines(shell("tail", "market.event", "--from", "-3", "--type", "tick", "--json"))
    assert [record["key"] for record in found] == ["kalshi-0"]


def test_tail_from_a_time_in_the_future_shows_nothing(shell):
    assert shell("tail", "market.event", "--from", "2099-01-01") == ""


def test_tail_decodes_what_a_sequencer_added(shell):
    (found,) = lines(shell("tail", "decision.input", "--json"))
    assert found["type"] == "Clock"
    assert (found["seq"]["noun"], found["seq"]["partition"], found["seq"]["offset"]) == ("derived.book", 3, 77)
    assert "from derived.book 3@77" in shell("tail", "decision.input")


def test_topics_count_records_and_name_their_types(shell):
    text = shell("topics")
    (line,) = [line for line in text.splitlines() if line.startswith("market.event ")]
    assert " 21 " in line
    text = shell("topics", "show", "market.event")
    assert "BookSnapshot" in text
    assert "retention.ms=259200000" in text


def test_status_says_what_does_not_run(shell):
    text = shell("status")
    assert "no workers are running" in text
    assert "no consumer group" in text
