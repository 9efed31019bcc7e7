"""Ten times the load on a real broker: what is conflated, what never is, and what a source that lost records causes."""

import dataclasses
import threading
import time

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from core.domain.errors import Misconfigured
from core.runtime import metrics, topics
from core.runtime.clock import NS_PER_MS, SystemClock
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import Output, TaskContext
from core.runtime.pressure import LEVELS, PressureLimits
from core.runtime.sequenced import Inbox, unpack
from core.runtime.sequencer import Sequencer, SourceTopic
from core.runtime.task import LogSpec, TaskLoop
from schemas.decision import Clock, Strategy
from schemas.derived import Depth, Quote, Tick
from schemas.market import Trade
from schemas.order import OrderUpdate

pytestmark = [pytest.mark.broker, pytest.mark.alone]

# A log that holds market data and order events, so that one test sees both kinds of source.
LOG = dataclasses.replace(topics.DECISION_INPUT, records=(*topics.DECISION_INPUT.records, OrderUpdate))
SOURCES = (
    SourceTopic(topics.DECISION_STRATEGY, configures=True),
    SourceTopic(topics.ORDER_EVENT),
    SourceTopic(topics.DERIVED_BOOK, filtered=True, may_skip=True),
)
PARTITION = 1
INSTRUMENTS = [f"kalshi:K-{number}" for number in range(200)]
TASK_PAUSE_S = 0.001
"""The task takes this long for a record: under a thousand a second."""
USUAL_QUOTES_S = 150
BURST_QUOTES_S = 10 * USUAL_QUOTES_S
BURST_S = 6
ORDERS_S = 50
LAG_S_MAX = 4.0
"""Unconflated, the burst would leave the task more than ten seconds behind."""


class WantsAll:
    """Active from the start; wants every key."""

    def learn(self, record):
        pass

    def active(self):
        return True

    def wants(self, noun, key):
        return True


def new_sequencer(cluster, publisher, *, progress=None, limits=None, sources=SOURCES):
    return Sequencer(
        log_topic=LOG,
        partition=PARTITION,
        sources=sources,
        plan=WantsAll(),
        publisher=publisher,
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        stage="decide",
        reader="strategies",
        progress=progress,
        limits=limits,
    )


class Market:
    """Publishes books as derive does: a Depth and the Quote that names it, or a dark Quote alone; trades and ticks."""

    def __init__(self, cluster):
        self.publisher = cluster.publisher("derive")
        self.version = 0
        self.quotes = 0
        self.newest = {}
        self.trades = []
        self.orders = []

    def quote(self, instrument, *, live=True):
        self.version += 1
        self.quotes += 1
        now = time.time_ns()
        names = (self.version, 0) if live else (-1, -1)
        state = "LIVE" if live else "SUSPECT"
        if live:
            depth = Depth(
                instrument=instrument,
                version_offset=self.version,
                version_index=0,
                state="LIVE",
                price_exp=-4,
                size_exp=-6,
                bid_prices=[4000],
                bid_sizes=[1_000_000],
                ask_prices=[4200],
                ask_sizes=[1_000_000],
                epoch=1,
                recv_ts_ns=now,
            )
            self.publisher.publish(Output(topics.DERIVED_BOOK, instrument, depth))
        quote = Quote(
            instrument=instrument,
            version_offset=self.version,
            version_index=1,
            depth_offset=names[0],
            depth_index=names[1],
            state=state,
            cause="" if live else "gap",
            price_exp=-4,
            size_exp=-6,
            bid_price=4000 if live else 0,
            bid_size=1_000_000 if live else 0,
            ask_price=4200 if live else 0,
            ask_size=1_000_000 if live else 0,
            epoch=1,
            recv_ts_ns=now,
        )
        self.publisher.publish(Output(topics.DERIVED_BOOK, instrument, quote))
        self.newest[instrument] = (self.version, state)

    def trade(self, instrument):
        self.trades.append((instrument, len(self.trades)))
        trade = Trade(
            instrument=instrument,
            epoch=1,
            frame_no=len(self.trades),
            index=0,
            price_exp=-4,
            size_exp=-6,
            price=4100,
            size=1,
            aggressor="BUY",
            recv_ts_ns=time.time_ns(),
        )
        self.publisher.publish(Output(topics.DERIVED_BOOK, instrument, trade))

    def order(self):
        number = len(self.orders)
        self.orders.append(number)
        update = OrderUpdate(
            event_id=f"e{number}",
            order=f"o{number}",
            account="kalshi:main",
            instrument=INSTRUMENTS[0],
            status="ACCEPTED",
            terminal=False,
            writer="w",
            ts_ns=time.time_ns(),
            recv_ts_ns=time.time_ns(),
        )
        self.publisher.publish(Output(topics.ORDER_EVENT, "kalshi:main", update))

    def tick(self):
        for partition in range(4):
            self.publisher.publish(
                Output(topics.DERIVED_BOOK, "", Tick(partition=partition, ts_ns=time.time_ns()), partition)
            )

    def run(self, quotes_s, seconds):
        """Publish for a while at a rate, in steps of ten milliseconds."""
        began, step, owed_quotes, owed_orders = time.monotonic(), 0, 0.0, 0.0
        while step < seconds * 100:
            owed_quotes += quotes_s / 100
            owed_orders += ORDERS_S / 100
            while owed_quotes >= 1:
                owed_quotes -= 1
                chosen = INSTRUMENTS[(self.quotes * 7919) % len(INSTRUMENTS)]
                self.quote(chosen, live=self.quotes % 29 != 0)
                if self.quotes % 41 == 0:
                    self.trade(chosen)
            while owed_orders >= 1:
                owed_orders -= 1
                self.order()
            if step % 10 == 0:
                self.tick()
            step += 1
            self.publisher.serve()
            time.sleep(max(began + step / 100 - time.monotonic(), 0))
        assert self.publisher.wait_acknowledged(30)


class SlowReader:
    """A task that takes its time over each record and notes what it saw and how late."""

    def __init__(self):
        self.items = []
        self.lags_s = []

    def __call__(self, context):
        return self

    def handle(self, item):
        time.sleep(TASK_PAUSE_S)
        self.items.append((item.record, item.source))
        if isinstance(item.record, OrderUpdate):
            self.lags_s.append((time.time_ns() - item.record.ts_ns) / 1e9)
        return ()

    def of(self, kind):
        return [record for record, _ in self.items if isinstance(record, kind)]


def wait_until(holds, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_ten_times_the_load_is_conflated_to_the_newest_and_loses_nothing_else(broker_cluster):
    cluster = broker_cluster
    task = SlowReader()
    sequencers = []

    def owned(partition):
        if partition == PARTITION:
            sequencing = cluster.publisher("decide")
            sequencers.append(new_sequencer(cluster, sequencing, progress=loop.progress(partition)))
            sequencers[0].start()

    loop = TaskLoop(
        spec=LogSpec("decide", "strategies", LOG, remembers=False, sequenced=True),
        factory=task,
        publisher=cluster.publisher("decide"),
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        context=TaskContext(partitions=4),
        on_owned=owned,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    market = Market(cluster)
    levels = []
    watching = threading.Event()

    def watch():
        while not watching.wait(0.02):
            level = sequencers[0].pressure.level
            if not levels or levels[-1] != level:
                levels.append(level)

    try:
        wait_until(lambda: task.of(Clock), 20)  # the sequencer flows: what may skip starts at its end
        time.sleep(0.5)
        watcher = threading.Thread(target=watch)
        watcher.start()
        market.run(USUAL_QUOTES_S, 2)
        # Without load nothing is left out; a machine that does other things too may be loaded already.
        wait_until(lambda: len(task.of(Quote)) == market.quotes or "conflating" in levels, 10)
        market.run(BURST_QUOTES_S, BURST_S)
        market.run(USUAL_QUOTES_S, 2)
        wait_until(lambda: len(task.of(OrderUpdate)) == len(market.orders), 20)
        wait_until(lambda: sequencers[0].pressure.level == "calm", 20)
        market.run(USUAL_QUOTES_S, 1)
        wait_until(lambda: len(task.of(OrderUpdate)) == len(market.orders), 10)
        wait_until(lambda: len(task.of(Trade)) == len(market.trades), 10)
        wait_until(lambda: believed(task)[0] == market.newest, 10)
        # The machine may have paused once more meanwhile: what counts is that it always comes back.
        wait_until(lambda: levels[-1] == "calm", 20)
    finally:
        watching.set()
        for sequencer in sequencers:
            sequencer.stop()
        loop.stop()
        thread.join(10)
    assert sequencers[0].failure is None
    # What must not be left out is all there, once, in order.
    assert [int(record.event_id[1:]) for record in task.of(OrderUpdate)] == market.orders
    for instrument in INSTRUMENTS:
        mine = [number for name, number in market.trades if name == instrument]
        assert [r.frame_no - 1 for r in task.of(Trade) if r.instrument == instrument] == mine
    # Quotes are conflated to the newest, each with its Depth before it.
    newest, orphans = believed(task)
    assert newest == market.newest
    assert orphans == 0
    seen = len(task.of(Quote))
    assert seen < market.quotes * 0.7, f"{seen} of {market.quotes} quotes were appended"
    assert max(task.lags_s) < LAG_S_MAX
    # The level went up and came back.
    assert "conflating" in levels
    assert levels[-1] == "calm"
    left_out = metrics.REGISTRY.get_sample_value(
        "sequencer_conflated_total", {"stage": "decide", "log": "decision.input"}
    )
    assert left_out >= market.quotes - seen
    # The log alone says what happened: read again, it shows the same.
    assert read_log(cluster) == [(record, source) for record, source in task.items if not isinstance(record, Clock)]
    print(f"quotes {market.quotes}, appended {seen}, lag max {max(task.lags_s):.2f} s, levels {levels}")


def believed(task):
    """Return what a reader holds, and how many LIVE quotes came before the depth they name."""
    newest, depths, orphans = {}, set(), 0
    for record, _ in list(task.items):
        if isinstance(record, Depth):
            depths.add((record.instrument, record.version_offset))
        elif isinstance(record, Quote):
            if record.state == "LIVE" and (record.instrument, record.depth_offset) not in depths:
                orphans += 1
            known = newest.get(record.instrument, (-1, ""))
            newest[record.instrument] = max(known, (record.version_offset, record.state))
    return newest, orphans


def read_log(cluster):
    """Return what a task sees that reads the log again: everything but clocks, with its source."""
    name = LOG.name(cluster.run)
    reader = LogReader.assigned(
        cluster.bootstrap, group="again", positions=[from_beginning(name, cluster.partitions)[PARTITION]]
    )
    codec, inbox, found, ended = cluster.codec, Inbox(), [], []
    while not ended:
        messages, ended = reader.batch(500, 0.5)
        for message in messages:
            record = codec.decode(value_bytes(message))
            stamp = unpack(message.headers())
            admitted = inbox.admit(record, stamp)
            assert admitted, "a single sequencer appends nothing twice and nothing out of order"
            if not isinstance(record, Clock):
                found.append((record, stamp.source))
    reader.close()
    return found


@pytest.mark.slow
def test_a_task_that_may_drop_nothing_falls_behind_and_catches_up_whole(broker_cluster):
    """As derive: no sequencer before it, so a burst waits in its log, and the level says so."""
    cluster = broker_cluster
    task = SlowReader()
    loop = TaskLoop(
        spec=LogSpec("derive", "book", topics.DERIVED_BOOK, remembers=False),
        factory=task,
        publisher=cluster.publisher("derive"),
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        context=TaskContext(partitions=4),
        limits=PressureLimits(calm_after_s=0.3),
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    market = Market(cluster)
    levels = set()
    lags_s = []

    def is_done():
        levels.update(loop.levels())
        gauges = [
            metrics.REGISTRY.get_sample_value("worker_lag_seconds", {"stage": "derive", "partition": str(p)})
            for p in range(4)
        ]
        lags_s.append(max(gauge or 0.0 for gauge in gauges))
        return len(task.of(Quote)) == market.quotes and len(task.of(Trade)) == len(market.trades)

    try:
        wait_until(lambda: loop.health()["partitions"] == [0, 1, 2, 3], 20)
        market.run(BURST_QUOTES_S, 2)
        wait_until(is_done, 40)
        wait_until(lambda: set(loop.levels()) == {"calm"}, 10)
    finally:
        loop.stop()
        thread.join(10)
    assert "behind" in levels
    assert levels <= set(LEVELS) - {"conflating"}
    assert max(lags_s) > 1.0
    for instrument in INSTRUMENTS:
        versions = [r.version_offset for r in task.of(Quote) if r.instrument == instrument]
        assert versions == sorted(set(versions))


def delete_below(cluster, topic, offset):
    """Delete every record of a topic below `offset`, on all partitions (-1: all there are)."""
    name = topic.name(cluster.run)
    places = [TopicPartition(name, partition, offset) for partition in range(cluster.partitions)]
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.delete_records(places).values():
        future.result(10)


def sequence_until(cluster, count, *, sources=SOURCES):
    """Run a sequencer until its log holds `count` records that are no clocks, or it fails; return it, stopped."""
    sequencer = new_sequencer(cluster, cluster.publisher("decide"), sources=sources)
    sequencer.start()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and sequencer.failure is None and len(read_log(cluster)) < count:
        time.sleep(0.1)
    sequencer.stop()
    return sequencer


def test_a_source_that_lost_an_order_event_is_refused_by_name(broker_cluster):
    cluster, market = broker_cluster, Market(broker_cluster)
    market.order()
    market.order()
    assert market.publisher.wait_acknowledged(10)
    assert sequence_until(cluster, 2).failure is None
    for _ in range(3):
        market.order()
    assert market.publisher.wait_acknowledged(10)
    delete_below(cluster, topics.ORDER_EVENT, -1)
    refused = sequence_until(cluster, 3).failure
    assert isinstance(refused, Misconfigured)
    assert "order.event" in str(refused)
    assert "begins at 5" in str(refused)
    assert "wants offset 2" in str(refused)
    assert len(read_log(cluster)) == 2


def test_a_source_of_order_events_that_does_not_begin_at_its_beginning_is_refused(broker_cluster):
    cluster, market = broker_cluster, Market(broker_cluster)
    market.order()
    assert market.publisher.wait_acknowledged(10)
    delete_below(cluster, topics.ORDER_EVENT, -1)
    refused = sequence_until(cluster, 1).failure
    assert isinstance(refused, Misconfigured)
    assert "wants offset 0" in str(refused)


def test_a_source_of_quotes_that_lost_some_goes_on_at_its_end_and_is_counted(broker_cluster):
    cluster, market = broker_cluster, Market(broker_cluster)
    sources = (SourceTopic(topics.DERIVED_BOOK, may_skip=True),)
    first = new_sequencer(cluster, cluster.publisher("decide"), sources=sources)
    first.start()
    time.sleep(2)
    market.quote("kalshi:A")
    assert market.publisher.wait_acknowledged(10)
    wait_until(lambda: len(read_log(cluster)) == 2, 15)
    first.stop()
    market.quote("kalshi:A")
    assert market.publisher.wait_acknowledged(10)
    delete_below(cluster, topics.DERIVED_BOOK, -1)
    labels = {"stage": "decide", "source": "derived.book"}
    before = metrics.REGISTRY.get_sample_value("sequencer_skipped_total", labels) or 0
    second = new_sequencer(cluster, cluster.publisher("decide"), sources=sources)
    second.start()
    time.sleep(2)
    market.quote("kalshi:A")
    assert market.publisher.wait_acknowledged(10)
    wait_until(lambda: len(read_log(cluster)) == 4, 15)
    second.stop()
    assert second.failure is None
    assert metrics.REGISTRY.get_sample_value("sequencer_skipped_total", labels) == before + 1
    assert [record.version_offset for record, _ in read_log(cluster)] == [1, 1, 3, 3]


def test_a_reader_is_told_of_a_partition_that_was_trimmed_and_can_move_on(broker_cluster):
    cluster, market = broker_cluster, Market(broker_cluster)
    for number in range(3):
        market.trade(f"kalshi:{number}")
    assert market.publisher.wait_acknowledged(10)
    delete_below(cluster, topics.DERIVED_BOOK, -1)
    name = topics.DERIVED_BOOK.name(cluster.run)
    told = []

    def trimmed(place):
        told.append((place.topic, place.partition))
        reader.move(TopicPartition(place.topic, place.partition, OFFSET_END))

    partition = next(p for p in range(4) if edges_of(cluster, name, p)[0] > 0)
    reader = LogReader.assigned(
        cluster.bootstrap,
        group="trimmed",
        positions=[TopicPartition(name, partition, 0)],
        reset="error",
        on_trimmed=trimmed,
    )
    deadline = time.monotonic() + 10
    ended = []
    while not ended and time.monotonic() < deadline:
        ended = reader.batch(10, 0.1)[1]
    reader.close()
    assert told == [(name, partition)]
    assert ended, "after moving, the partition is read again"


def edges_of(cluster, name, partition):
    reader = LogReader.assigned(cluster.bootstrap, group="edges", positions=[])
    found = reader.edges(TopicPartition(name, partition))
    reader.close()
    return found


def test_configuration_is_not_asked_for_its_age(broker_cluster):
    """A table is old by nature: reading it is no lag."""
    cluster = broker_cluster
    publisher = cluster.publisher("decide")
    publisher.publish(
        Output(
            topics.DECISION_STRATEGY,
            "s",
            Strategy(id="s", kind="k", status="RUNNING", account_set="main", params=""),
        )
    )
    assert publisher.wait_acknowledged(10)
    time.sleep(1.2)
    sequencer = sequence_until(cluster, 1)
    assert sequencer.failure is None
    assert sequencer.pressure.level == "calm"
    assert sequencer.pressure.lag_s < 1200 * NS_PER_MS / 1e9
