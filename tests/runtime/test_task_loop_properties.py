"""Crashes, twins and duplicates at any step leave the distinct outputs of one clean pass.

The loop is the real one; the log, its committed offset and the producer are in memory, so that a crash can be placed
between any two steps: in the middle of publishing a batch, between publish and commit, while a twin goes on.
"""

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Halt, Unavailable
from core.runtime import topics
from core.runtime.clock import ManualClock
from core.runtime.flow import Output, TaskContext
from core.runtime.sequenced import Inbox, pack, unpack
from core.runtime.task import LogSpec, TaskLoop
from schemas.derived import Resync
from tests.runtime.memory_log import CODEC, Crash, Log, Reader, distinct, trade


class Publisher:
    run = "test-p"

    def __init__(self, log, crash_after):
        self.log, self.left = log, crash_after

    def publish(self, output):
        if self.left == 0:
            raise Crash
        self.left -= 1
        self.log.published.append(output)

    def serve(self):
        pass

    def wait_acknowledged(self, timeout_s=1.0):
        return True


class RunningSum:
    def __init__(self, context):
        self.total = 0

    def handle(self, item):
        self.total += item.record.size
        for index in range(item.record.size % 3):
            yield Output(topics.DERIVED_RESYNC, item.key, said(item.offset, index, self.total))


def said(offset, index, total):
    return Resync(
        instrument="kalshi:A",
        venue="kalshi",
        epoch=1,
        version_offset=offset,
        version_index=index,
        cause=str(total),
        ts_ns=0,
    )


def new_loop(log, *, batch, crash_after=-1, sequenced=False):
    loop = TaskLoop(
        spec=LogSpec("derive", "book", topics.MARKET_EVENT, sequenced=sequenced),
        factory=RunningSum,
        publisher=Publisher(log, crash_after),
        codec=CODEC,
        clock=ManualClock(),
        bootstrap="",
        read_run="test-p",
        context=TaskContext(),
        commit_interval_s=1e9,
    )
    loop._reader = Reader(log, batch)
    loop._assigned([TopicPartition("test-p.market.event", 0)])
    return loop


def clean_pass(values):
    log = Log(values)
    loop = new_loop(log, batch=1000)
    loop._turn()
    return [o.record for o in log.published], loop._slots[0].task.total


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=25)
LIVES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 20), st.booleans(), st.integers(1, 5)), min_size=0, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(SIZES, LIVES)
def test_crashes_at_any_step_leave_the_outputs_of_one_clean_pass(sizes, lives):
    values = [trade(size) for size in sizes]
    expected, total = clean_pass(values)
    log = Log(values)
    for batch, crash_after, commits, turns in lives:
        loop = new_loop(log, batch=batch, crash_after=crash_after)
        try:
            for _ in range(turns):
                loop._turn()
                if commits:
                    loop._commit(wait=True)
        except Crash:
            pass
    last = new_loop(log, batch=7)
    for _ in range(len(values) + 1):
        last._turn()
    last._commit(wait=True)
    assert distinct(log.published) == expected
    assert last._slots[0].task.total == total
    assert log.committed == len(values)


@settings(max_examples=300, deadline=None)
@given(SIZES, st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_thawed_twin_changes_nothing_a_reader_sees(sizes, turns, batch_a, batch_b):
    values = [trade(size) for size in sizes]
    expected, _ = clean_pass(values)
    log = Log(values)
    twins = [new_loop(log, batch=batch_a), new_loop(log, batch=batch_b)]
    for second, commits in turns:
        twins[second]._turn()
        if commits:
            twins[second]._commit(wait=True)
    survivor = new_loop(log, batch=3)
    for _ in range(len(values) + 1):
        survivor._turn()
    # A twin that committed ahead hides an output only if it had published it itself.
    assert distinct(log.published) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=60),
)
def test_two_sequencers_in_any_interleaving_show_each_source_record_once(appends):
    """Each of two sequencers walks three sources in order; the task sees each source once, in order, time forward."""
    sources = {number: list(range(20)) for number in range(3)}
    at = {(who, source): 0 for who in range(2) for source in range(3)}
    headers, now = [], 0
    for source, who in ((s, w % 2) for s, w in appends):
        if at[who, source] < len(sources[source]):
            now += (1, -5, 3)[source]  # two hosts' clocks do not agree
            headers.append(pack("derived.book", source, at[who, source], 1000 + now))
            at[who, source] += 1
    inbox, seen, times = Inbox(), {0: [], 1: [], 2: []}, []
    for header in headers:
        stamp = unpack(header)
        if inbox.admit(CODEC.decode(trade(1)), stamp):
            seen[stamp.source.partition].append(stamp.source.offset)
            times.append(inbox.log_ns)
    for source in range(3):
        assert seen[source] == list(range(max(at[0, source], at[1, source])))
    assert times == sorted(times)


def test_an_output_that_cannot_be_published_halts_instead_of_being_asked_for_again():
    log = Log([trade(1), trade(2)])
    loop = new_loop(log, batch=10)

    class Down(Publisher):
        def publish(self, output):
            raise Unavailable("the registry does not answer")

    loop._publisher = Down(log, -1)
    with pytest.raises(Halt, match="cannot be published"):
        loop._turn()
    assert loop._slots[0].position == 0


def test_a_loop_ends_when_what_it_depends_on_has_ended():
    log = Log([trade(1)])
    loop = new_loop(log, batch=10)

    def check():
        raise Unavailable("the sequencer stopped")

    loop._check = check
    with pytest.raises(Unavailable, match="the sequencer stopped"):
        loop._turn()
