"""Dead letters that come back: who looks at them, what they become, and what they can never touch."""

import itertools
from typing import ClassVar

import pytest

from core.domain.errors import MalformedFrame, OffGrid, Retry
from core.runtime import resent, topics
from core.runtime.flow import ALL_PARTITIONS, Input, Output
from core.runtime.resent import Letter, Mark
from core.runtime.task import LogSpec
from schemas.dead import Returned, State
from schemas.market import Tick, Trade
from tests.runtime.loops import read_all, running, trade
from tests.runtime.test_task_loop import loop_on

MARK = Mark(Letter("derive", 7), 2, 41)
STATELESS = LogSpec("derive", "book", topics.MARKET_EVENT, remembers=False)
REMEMBERING = LogSpec("derive", "book", topics.MARKET_EVENT)


class Repeater:
    """Says each trade again, and to everybody; counts what it saw so that it would notice a stranger."""

    made = itertools.count()
    seen: ClassVar[list[int]] = []

    def __init__(self, context):
        self.number = next(self.made)
        self.seen_here = 0

    def handle(self, item: Input):
        record = item.record
        if not isinstance(record, Trade):
            return
        if record.price < 0:
            raise OffGrid("below zero")
        if record.price == 1:
            raise Retry("not yet")
        self.seen_here += 1
        Repeater.seen.append(record.size)
        yield Output(topics.DERIVED_BOOK, record.instrument, record)
        tick = Tick(feed="f", venue="kalshi", epoch=self.seen_here, frame_no=0, recv_ts_ns=1)
        yield Output(topics.MARKET_EVENT, "f", tick, ALL_PARTITIONS)


@pytest.fixture(autouse=True)
def _forget():
    Repeater.seen = []


def put(cluster, record, mark=None, key="kalshi:A"):
    publisher = cluster.publisher("infra")
    headers = resent.pack(mark) if mark else None
    publisher.forward(topics.MARKET_EVENT, key, cluster.codec.encode(record), headers=headers)
    assert publisher.wait_acknowledged(10)


def states(cluster, expected):
    found = read_all(cluster, topics.DEAD_STATE, expected)
    assert all(isinstance(state, State) for state in found)
    return [(state.letter, state.state, state.records) for state in found]


def test_a_mark_is_packed_and_unpacked():
    assert resent.unpack(resent.pack(MARK)) == MARK
    assert resent.unpack(None) is None
    assert resent.unpack([("seq", b"a|0|1|2")]) is None


@pytest.mark.parametrize("text", ["derive/7", "derive/7|2", "derive/7|2|x", "derive|2|41", "derive/x|2|41"])
def test_a_mark_that_is_not_in_its_form_is_rejected(text):
    with pytest.raises(MalformedFrame):
        resent.unpack([("resent", text.encode())])


def test_what_comes_back_becomes_records_for_the_sinks_alone(cluster):
    with running(loop_on(cluster, Repeater, spec=STATELESS)) as errors:
        put(cluster, trade(1))
        assert len(read_all(cluster, topics.DERIVED_BOOK, 1)) == 1
        put(cluster, trade(2), MARK)
        assert states(cluster, 1) == [("derive/7", "THROUGH", 2)]
    assert not errors
    returned = read_all(cluster, topics.DEAD_RETURNED, 2)
    assert [(one.noun, one.letter, one.offset) for one in returned] == [
        ("derived.book", "derive/7", resent.NEVER_STOOD),
        ("market.event", "derive/7", resent.NEVER_STOOD),
    ]
    assert isinstance(returned[0], Returned)
    inner = [cluster.codec.decode(one.value) for one in returned]
    assert inner[0].size == 2
    # A task of its own handled it: the log's task had counted one trade before.
    assert inner[1].epoch == 1
    assert [record.size for record in read_all(cluster, topics.DERIVED_BOOK, 1)] == [1]


def test_a_task_that_remembers_never_sees_what_comes_back(cluster):
    with running(loop_on(cluster, Repeater, spec=REMEMBERING)) as errors:
        put(cluster, trade(1))
        put(cluster, trade(2), MARK)
        put(cluster, trade(3))
        assert [record.size for record in read_all(cluster, topics.DERIVED_BOOK, 2)] == [1, 3]
    assert not errors
    assert Repeater.seen == [1, 3]
    assert read_all(cluster, topics.DEAD_RETURNED, 0) == []


def test_a_letter_of_another_stage_is_passed_over(cluster):
    with running(loop_on(cluster, Repeater, spec=STATELESS)) as errors:
        put(cluster, trade(2), Mark(Letter("observe", 7), 2, 41))
        put(cluster, trade(3))
        assert [record.size for record in read_all(cluster, topics.DERIVED_BOOK, 1)] == [3]
    assert not errors
    assert read_all(cluster, topics.DEAD_RETURNED, 0) == []


@pytest.mark.parametrize("price", [-1, 1], ids=["rejected again", "would have to wait"])
def test_what_dies_again_is_said_and_holds_nothing_up(cluster, price):
    from msgspec.structs import replace

    with running(loop_on(cluster, Repeater, spec=STATELESS)) as errors:
        put(cluster, replace(trade(2), price=price), MARK)
        put(cluster, trade(3))
        assert [record.size for record in read_all(cluster, topics.DERIVED_BOOK, 1)] == [3]
    assert not errors
    assert states(cluster, 1) == [("derive/7", "AGAIN", 0)]
    assert read_all(cluster, topics.DEAD["derive"], 0) == [], "one letter for one record, however often it dies"
