"""The sequencer: one order, one time, resumed exactly, harmless twice."""

import threading
import time

from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.consumer import LogReader, from_beginning, key_text, value_bytes
from core.runtime.flow import Output, TaskContext
from core.runtime.pressure import Progress
from core.runtime.sequenced import Inbox, unpack
from core.runtime.sequencer import Sequencer, SourceTopic
from core.runtime.task import LogSpec, TaskLoop
from schemas.decision import Clock, Strategy
from schemas.derived import Quote, Resync, Tick

SOURCES = (
    SourceTopic(topics.DECISION_STRATEGY, configures=True),
    SourceTopic(topics.DERIVED_BOOK, filtered=True),
)


class PlanOfKeys:
    """Active once a strategy is configured; wants the keys its parameters name."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()

    def learn(self, record):
        if isinstance(record, Strategy):
            self.keys |= {key.encode() for key in record.params.split(",")}

    def active(self):
        return bool(self.keys)

    def wants(self, noun, key):
        return key in self.keys


def strategy(keys: str) -> Strategy:
    return Strategy(id="s", kind="k", status="RUNNING", account_set="main", params=keys)


def derived_tick(number: int) -> Tick:
    return Tick(partition=0, ts_ns=number)


def sequencer_on(cluster, *, sources=SOURCES, progress=None) -> Sequencer:
    return Sequencer(
        log_topic=topics.DECISION_INPUT,
        partition=1,
        sources=sources,
        progress=progress,
        plan=PlanOfKeys(),
        publisher=cluster.publisher("decide"),
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        stage="decide",
    )


def publish(cluster, topic, key, records):
    publisher = cluster.publisher("derive")
    for record in records:
        publisher.publish(Output(topic, key, record))
    assert publisher.wait_acknowledged(10)


def read_log(cluster, expected: int, timeout_s: float = 15.0):
    """Return (key, record, stamp) of everything but clocks on partition 1 of decision.input."""
    name = topics.DECISION_INPUT.name(cluster.run)
    reader = LogReader.assigned(
        cluster.bootstrap, group=f"{cluster.run}.t", positions=[from_beginning(name, cluster.partitions)[1]]
    )
    found = []
    codec = cluster.codec
    deadline = time.monotonic() + timeout_s
    quiet = 0
    while time.monotonic() < deadline and (len(found) < expected or quiet < 4):
        messages, _ = reader.batch(100, 0.1)
        fresh = 0
        for m in messages:
            record = codec.decode(value_bytes(m))
            if not isinstance(record, Clock):
                found.append((key_text(m), record, unpack(m.headers())))
                fresh += 1
        quiet = 0 if fresh else quiet + 1
    reader.close()
    return found


def test_only_wanted_keys_are_forwarded_with_their_source_and_time(cluster):
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A,kalshi:B")])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(1), derived_tick(2)])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:C", [derived_tick(9)])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:B", [derived_tick(3)])
    sequencer = sequencer_on(cluster)
    sequencer.start()
    log = read_log(cluster, 4)
    sequencer.stop()
    assert sequencer.failure is None
    assert log[0][1] == strategy("kalshi:A,kalshi:B")
    assert sorted((key, record.ts_ns) for key, record, _ in log[1:]) == [
        ("kalshi:A", 1),
        ("kalshi:A", 2),
        ("kalshi:B", 3),
    ]
    times = [stamp.now_ns for _, _, stamp in log]
    assert times == sorted(times)
    assert {stamp.source.noun for _, _, stamp in log} == {"decision.strategy", "derived.book"}


def test_new_owner_resumes_after_what_the_log_holds(cluster):
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A")])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(n) for n in range(5)])
    first = sequencer_on(cluster)
    first.start()
    read_log(cluster, 6)
    first.stop()
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(n) for n in range(5, 9)])
    second = sequencer_on(cluster)
    second.start()
    log = read_log(cluster, 10)
    second.stop()
    assert [record.ts_ns for _, record, _ in log if isinstance(record, Tick)] == list(range(9))


def test_two_sequencers_at_once_show_the_task_everything_once(cluster):
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A")])
    twins = [sequencer_on(cluster), sequencer_on(cluster)]
    for twin in twins:
        twin.start()
    seen: list[int] = []
    times: list[int] = []

    class Notes:
        def __init__(self, context):
            pass

        def handle(self, item):
            if isinstance(item.record, Tick):
                seen.append(item.record.ts_ns)
                times.append(item.log_ns)
            return ()

    loop = TaskLoop(
        spec=LogSpec("decide", "input", topics.DECISION_INPUT, sequenced=True),
        factory=Notes,
        publisher=cluster.publisher("decide"),
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        context=TaskContext(partitions=4),
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    for start in range(0, 50, 10):
        publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(n) for n in range(start, start + 10)])
    deadline = time.monotonic() + 15
    while len(seen) < 50 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    for twin in twins:
        twin.stop()
    loop.stop()
    thread.join(10)
    assert seen == list(range(50))
    assert times == sorted(times)


def test_a_clock_is_appended_every_tenth_of_a_second(cluster):
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A")])
    sequencer = sequencer_on(cluster)
    sequencer.start()
    time.sleep(2.5)
    sequencer.stop()
    name = topics.DECISION_INPUT.name(cluster.run)
    reader = LogReader.assigned(cluster.bootstrap, group="t", positions=[from_beginning(name, 4)[1]])
    codec, inbox, clocks = cluster.codec, Inbox(), []
    for _ in range(20):
        for m in reader.batch(100, 0.1)[0]:
            record = codec.decode(value_bytes(m))
            inbox.admit(record, unpack(m.headers()))
            if isinstance(record, Clock):
                clocks.append(record.now_ns)
                assert inbox.log_ns == record.now_ns
    reader.close()
    assert len(clocks) >= 8
    assert clocks == sorted(clocks)


def test_records_of_types_that_do_not_stand_on_the_log_are_not_forwarded(cluster):
    foreign = Resync(
        instrument="kalshi:A", venue="kalshi", epoch=1, version_offset=1, version_index=0, cause="gap", ts_ns=1
    )
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A")])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(1), foreign, derived_tick(2)])
    sequencer = sequencer_on(cluster)
    sequencer.start()
    log = read_log(cluster, 3)
    sequencer.stop()
    assert [record.ts_ns for _, record, _ in log[1:]] == [1, 2]


def dark_quote(version: int) -> Quote:
    return Quote(
        instrument="kalshi:A",
        version_offset=version,
        version_index=0,
        depth_offset=-1,
        depth_index=-1,
        state="SUSPECT",
        cause="gap",
        price_exp=-4,
        size_exp=-6,
        bid_price=0,
        bid_size=0,
        ask_price=0,
        ask_size=0,
        epoch=1,
        recv_ts_ns=1,
    )


def test_a_task_that_is_behind_gets_only_the_newest_quote_and_what_was_left_out_never_comes_later(cluster):
    sources = (
        SourceTopic(topics.DECISION_STRATEGY, configures=True),
        SourceTopic(topics.DERIVED_BOOK, filtered=True, may_skip=True),
    )
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A,order")])
    behind = Progress(since_ns=time.time_ns() - 2_000_000_000)
    first = sequencer_on(cluster, sources=sources, progress=behind)
    first.start()
    deadline = time.monotonic() + 10
    while first.pressure.level != "behind" and time.monotonic() < deadline:
        time.sleep(0.02)
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [dark_quote(version) for version in range(50)])
    log = read_log(cluster, 2)
    first.stop()
    quotes = [record.version_offset for _, record, _ in log if isinstance(record, Quote)]
    assert quotes[-1] == 49
    assert len(quotes) < 10
    second = sequencer_on(cluster, sources=sources)
    second.start()
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [dark_quote(50)])
    log = read_log(cluster, len(log) + 1)
    second.stop()
    assert [record.version_offset for _, record, _ in log if isinstance(record, Quote)] == [*quotes, 50]
    offsets = [stamp.source.offset for _, _, stamp in log if stamp.source.noun == "derived.book"]
    assert offsets == sorted(set(offsets))


def test_a_sampled_source_brings_the_newest_quote_of_a_window_and_only_the_kinds_that_are_wanted(cluster):
    sources = (
        SourceTopic(topics.DECISION_STRATEGY, configures=True, forwards=False),
        SourceTopic(topics.DERIVED_BOOK, filtered=True, may_skip=True, sampled_ns=1_000_000_000, kinds=(Quote,)),
    )
    publish(cluster, topics.DECISION_STRATEGY, "s", [strategy("kalshi:A")])
    sequencer = sequencer_on(cluster, sources=sources)
    sequencer.start()
    # Books may start at their end: what comes before the sequencer flows is not seen.
    deadline = time.monotonic() + 10
    while len(read_log(cluster, 1, 0.5)) == 0 and time.monotonic() < deadline:
        publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [dark_quote(1)])
    began = time.monotonic()
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [derived_tick(7)])
    publish(cluster, topics.DERIVED_BOOK, "kalshi:A", [dark_quote(number) for number in range(2, 40)])
    took_s = time.monotonic() - began
    log = read_log(cluster, 1_000, 6)  # as long as that takes
    sequencer.stop()
    assert sequencer.failure is None
    assert {type(record) for _, record, _ in log} == {Quote}
    versions = [record.version_offset for _, record, _ in log]
    assert versions[-1] == 39
    assert versions == sorted(versions)
    # One a window: those of 2 to 39 fell into as many windows as their publication took, and one more.
    assert len([version for version in versions if version > 1]) <= 2 + int(took_s)
