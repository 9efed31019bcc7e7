"""A task with a checkpoint goes on where it was, under every way to lose an owner: on the mock cluster and on the broker."""

import time
from collections.abc import Iterator
from functools import partial

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from core.domain.errors import Fenced, Halt, Misconfigured
from core.domain.partition import partition_of
from core.runtime import topics
from core.runtime.checkpoint import Head, KafkaStore
from core.runtime.clock import SystemClock
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.flow import Input, Output, StateCodec, TaskContext
from core.runtime.keeper import Keeper
from core.runtime.sequenced import Reached
from core.runtime.task import LogSpec, TaskLoop
from schemas.derived import Resync
from schemas.market import Trade
from tests.runtime import loops
from tests.runtime.loops import read_all, trade

SPEC = LogSpec("derive", "book", topics.MARKET_EVENT)
GROUP = "derive.book"
INCARNATION = 77
# Whoever stops may have a checkpoint to write yet, and whoever takes over one to read.
running = partial(loops.running, stop_s=30.0)
until = partial(loops.until, timeout_s=20.0)


class Sum(msgspec.Struct, frozen=True):
    total: int
    seen: int


class Sums:
    """Remembers a sum an instrument and says it; counts how many records it has handled itself."""

    states = StateCodec(Sum, version=1)
    handled = 0

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self.sums: dict[str, Sum] = {}
        self._changed: set[str] = set()
        self.total = 0

    def handle(self, item: Input) -> Iterator[Output]:
        record = item.record
        type(self).handled += 1
        assert isinstance(record, Trade)
        last = self.sums.get(record.instrument, Sum(0, 0))
        self.total += record.size
        self.sums[record.instrument] = made = Sum(last.total + record.size, last.seen + 1)
        self._changed.add(record.instrument)
        if record.size == 13:
            del self.sums[record.instrument]
        yield Output(
            topics.DERIVED_RESYNC,
            item.key,
            Resync(
                instrument=record.instrument,
                venue="kalshi",
                epoch=1,
                version_offset=item.offset,
                version_index=item.partition,
                cause=f"{made.total} {made.seen} {self.total}",
                ts_ns=0,
            ),
        )

    def changed(self):
        names, self._changed = self._changed, set()
        yield "", str(self.total).encode()
        for name in sorted(names):
            found = self.sums.get(name)
            yield name, None if found is None else self.states.encode(found)

    def restore(self, items):
        for name, state in items:
            if name:
                self.sums[name] = self.states.decode(state)
            else:
                self.total = int(state)


def kind() -> type[Sums]:
    """A class of its own for a test, with a count of its own."""
    return type("SumsOfOneTest", (Sums,), {"handled": 0})


def store_on(cluster, partition: int, incarnation: int = INCARNATION) -> KafkaStore:
    return KafkaStore(
        bootstrap=cluster.bootstrap,
        run=cluster.run,
        group=f"{cluster.run}.{GROUP}",
        topic=topics.DERIVED_CHECKPOINT,
        log_topic=topics.MARKET_EVENT.name(cluster.run),
        task=f"{GROUP}/{partition}",
        partition=partition,
        incarnation=incarnation,
        codec=cluster.codec,
        clock=SystemClock(),
    )


def loop_on(cluster, factory, *, interval_s: float = 0.1, incarnation: int = INCARNATION, **options) -> TaskLoop:
    return TaskLoop(
        spec=SPEC,
        factory=factory,
        publisher=cluster.publisher("derive"),
        codec=cluster.codec,
        clock=SystemClock(),
        bootstrap=cluster.bootstrap,
        read_run=cluster.run,
        context=TaskContext(partitions=cluster.partitions, incarnation=incarnation),
        commit_interval_s=0.05,
        keeper=Keeper(
            lambda partition: store_on(cluster, partition, incarnation),
            stage="derive",
            clock=SystemClock(),
            interval_s=interval_s,
        ),
        **options,
    )


def publish(cluster, records) -> None:
    publisher = cluster.publisher("normalize")
    for record in records:
        publisher.publish(Output(topics.MARKET_EVENT, record.instrument, record))
    assert publisher.wait_acknowledged(10)


def said(cluster, expected: int, timeout_s: float = 20.0) -> list[Resync]:
    """Everything that was published, in each partition's order, once `expected` records are there."""
    return read_all(cluster, topics.DERIVED_RESYNC, expected, timeout_s)


def expected_of(records) -> list[str]:
    """What one clean pass over one instrument's records says."""
    task = Sums(TaskContext())
    items = [Input(record, "market.event", 0, number, record.instrument) for number, record in enumerate(records)]
    return [output.record.cause for item in items for output in task.handle(item)]


def partition_of_a(cluster) -> int:
    return partition_of("kalshi:A", cluster.partitions)


def checkpointed_offset(cluster) -> int:
    return loaded(cluster)[0]


def loaded(cluster):
    """The head's offset (-1 without) and the items of A's partition; takes the task's place, as a new owner does."""
    store = store_on(cluster, partition_of_a(cluster))
    found = store.open()
    store.close()
    return (found.head.offset if found.head is not None else -1), found.items


def keys_of(cluster) -> dict[str, bytes | None]:
    """The newest value of each key of A's partition."""
    name = topics.DERIVED_CHECKPOINT.name(cluster.run)
    place = TopicPartition(name, partition_of_a(cluster), 0)
    reader = LogReader.assigned(cluster.bootstrap, group=f"{cluster.run}.keys", positions=[place])
    found: dict[str, bytes | None] = {}
    ended: list[TopicPartition] = []
    while not ended:
        messages, ended = reader.batch(500, 0.1)
        found |= {key_text(message): value_bytes(message) for message in messages}
    reader.close()
    return found


def test_a_new_owner_goes_on_from_the_checkpoint_and_handles_nothing_again(cluster):
    records = [trade(n) for n in range(1, 31)]
    first, second = kind(), kind()
    publish(cluster, records[:20])
    with running(loop_on(cluster, first)):
        until(lambda: first.handled == 20)
        said(cluster, 20)
    assert checkpointed_offset(cluster) == 20
    publish(cluster, records[20:])
    with running(loop_on(cluster, second)):
        causes = [r.cause for r in said(cluster, 30)]
    assert causes == expected_of(records)
    assert second.handled == 10


def test_a_killed_owners_successor_handles_again_only_what_came_after_the_checkpoint(cluster):
    records = [trade(n) for n in range(1, 41)]
    first, second = kind(), kind()
    publish(cluster, records[:20])
    loop = loop_on(cluster, first)
    with running(loop):
        said(cluster, 20)
        until(lambda: loop._keeper._kept[partition_of_a(cluster)].written_offset == 20)
        loop._commit = lambda *, wait: False  # from here on nothing is written down: as if killed
        publish(cluster, records[20:30])
        said(cluster, 30)
        loop._leave = lambda numbers: None
    publish(cluster, records[30:])
    with running(loop_on(cluster, second)):
        causes = [r.cause for r in said(cluster, 50)]
    expected = expected_of(records)
    assert causes == expected[:30] + expected[20:]
    assert second.handled == 20


def test_an_item_that_is_removed_stays_removed(cluster):
    first, second = kind(), kind()
    publish(cluster, [trade(1, size=5)])
    with running(loop_on(cluster, first)):
        said(cluster, 1)
    assert set(loaded(cluster)[1]) == {"", "kalshi:A"}
    publish(cluster, [trade(2, size=13)])
    with running(loop_on(cluster, second)):
        said(cluster, 2)
    assert set(loaded(cluster)[1]) == {""}
    publish(cluster, [trade(3, size=7)])
    with running(loop_on(cluster, kind())):
        assert said(cluster, 3)[-1].cause == "7 1 25"


def test_a_checkpoint_of_another_incarnation_is_ignored_and_its_items_removed(cluster):
    records = [trade(n) for n in range(1, 11)]
    second, third = kind(), kind()
    store = store_on(cluster, partition_of_a(cluster), incarnation=1)
    store.open()
    store.write(1, Head(5), {"kalshi:A": b"old", "kalshi:gone": b"old"})
    store.close()
    publish(cluster, records[:9])
    with running(loop_on(cluster, second, incarnation=2)):
        causes = [r.cause for r in said(cluster, 9)]
    assert causes == expected_of(records[:9])
    assert second.handled == 9
    assert keys_of(cluster)[f"{GROUP}/{partition_of_a(cluster)}/kalshi:gone"] is None
    publish(cluster, records[9:])
    with running(loop_on(cluster, third, incarnation=2)):
        assert [r.cause for r in said(cluster, 10)] == expected_of(records)
    assert third.handled == 1


def test_a_state_of_another_version_makes_the_task_read_its_log(cluster):
    records = [trade(n) for n in range(1, 8)]
    publish(cluster, records[:5])
    with running(loop_on(cluster, kind())):
        said(cluster, 5)
    newer = kind()
    newer.states = StateCodec(Sum, version=2)
    publish(cluster, records[5:])
    with running(loop_on(cluster, newer)):
        assert [r.cause for r in said(cluster, 7)] == expected_of(records)
    assert newer.handled == 7
    again = kind()
    again.states = newer.states
    with running(loop_on(cluster, again)) as errors:
        time.sleep(2)
    assert not errors
    assert again.handled == 0


def test_a_checkpoint_that_is_no_record_makes_the_task_read_its_log(cluster):
    records = [trade(n) for n in range(1, 8)]
    publish(cluster, records[:5])
    with running(loop_on(cluster, kind())):
        said(cluster, 5)
    number = partition_of_a(cluster)
    publisher = cluster.publisher("derive")
    publisher.forward(topics.DERIVED_CHECKPOINT, f"{GROUP}/{number}/kalshi:A", b"not avro at all", number)
    assert publisher.wait_acknowledged(10)
    publish(cluster, records[5:])
    newer, again = kind(), kind()
    with running(loop_on(cluster, newer)):
        assert [r.cause for r in said(cluster, 7)] == expected_of(records)
    assert newer.handled == 7
    publish(cluster, [trade(8)])
    with running(loop_on(cluster, again)):
        assert [r.cause for r in said(cluster, 8)] == expected_of([*records, trade(8)])
    assert again.handled == 1


def test_a_task_that_offers_no_state_for_now_reads_from_its_last_checkpoint(cluster):
    records = [trade(n) for n in range(1, 11)]
    publish(cluster, records[:4])
    with running(loop_on(cluster, kind())):
        said(cluster, 4)
    mute = kind()
    mute.changed = lambda self: None
    publish(cluster, records[4:7])
    with running(loop_on(cluster, mute)):
        said(cluster, 7)
    assert checkpointed_offset(cluster) == 4
    publish(cluster, records[7:])
    last = kind()
    with running(loop_on(cluster, last)):
        assert [r.cause for r in said(cluster, 10)] == expected_of(records)
    assert last.handled == 6


def test_nothing_is_written_down_after_an_error_in_the_middle_of_a_record(cluster):
    class Breaks(Sums):
        def handle(self, item):
            outputs = list(super().handle(item))
            if item.record.size == 3:
                raise Halt("capital is negative")
            return outputs

    publish(cluster, [trade(n) for n in range(1, 5)])
    with running(loop_on(cluster, Breaks, interval_s=60)) as errors:
        until(lambda: bool(errors))
    assert isinstance(errors[0], Halt)
    assert checkpointed_offset(cluster) == -1
    with running(loop_on(cluster, kind())):
        assert [r.cause for r in said(cluster, 4)] == expected_of([trade(n) for n in range(1, 5)])


def test_two_members_hand_partitions_over_and_each_goes_on_with_its_state(cluster):
    counts = dict.fromkeys((f"kalshi:{n}" for n in range(12)), 0)
    made = 0

    def more() -> None:
        nonlocal made
        records = []
        for name in counts:
            made += 1
            counts[name] += 1
            records.append(trade(made, name, size=1))
        publish(cluster, records)

    one, two = kind(), kind()
    first, second = loop_on(cluster, one), loop_on(cluster, two)
    with running(first):
        more()
        said(cluster, made)
        with running(second):
            until(lambda: len(second._slots) == 2 and len(first._slots) == 2)
            more()
            said(cluster, made)
        until(lambda: len(first._slots) == 4)
        more()
        records = said(cluster, made)
    assert made == len(records) == len({(r.version_index, r.version_offset) for r in records})
    assert one.handled + two.handled == made
    for name, count in counts.items():
        assert [r.cause.split()[1] for r in records if r.instrument == name] == [str(n + 1) for n in range(count)]


def test_a_checkpoint_of_500_items_holds_the_loop_for_less_than_a_turn(cluster):
    """The transaction runs beside the loop; what the loop pays is making the items."""
    publish(cluster, [trade(n, f"kalshi:{n}") for n in range(1, 2001)])
    with running(loop_on(cluster, kind(), interval_s=0.2)) as errors:
        said(cluster, 2000, 30)
    assert not errors


# What only a real broker does: fence, hide what was aborted, trim.


@pytest.mark.broker
def test_a_thawed_predecessor_is_fenced_and_writes_nothing(broker_cluster):
    cluster = broker_cluster
    old, new = store_on(cluster, 0), store_on(cluster, 0)
    old.open()
    old.write(1, Head(5), {"a": b"5"})
    assert new.open().items == {"a": b"5"}
    with pytest.raises(Fenced):
        old.write(1, Head(9), {"a": b"9", "b": b"9"})
    with pytest.raises(Fenced):
        old.write(1, Head(10), {"a": b"10"})
    new.write(1, Head(7), {"c": b"7"})
    last = store_on(cluster, 0)
    found = last.open()
    assert (found.head.offset, found.items) == (7, {"a": b"5", "c": b"7"})
    for store in (old, new, last):
        store.close()


@pytest.mark.broker
def test_what_a_frozen_owner_had_begun_is_aborted_by_its_successor(broker_cluster):
    cluster = broker_cluster
    old = store_on(cluster, 0)
    old.open()
    old.write(1, Head(5), {"a": b"5"})
    producer: Producer = old._producer
    producer.begin_transaction()
    producer.produce(old._topic, old._item(1, Head(9), "a", b"9"), f"{GROUP}/0/a", 0)
    producer.produce(old._topic, cluster.codec.encode(old._head(1, Head(9))), f"{GROUP}/0", 0)
    assert producer.flush(5) == 0  # all of it is in the log, and then it freezes
    new = store_on(cluster, 0)
    found = new.open()
    assert (found.head.offset, found.items) == (5, {"a": b"5"})
    old.close()
    new.close()


@pytest.mark.broker
def test_a_fenced_loop_drops_its_partition_and_publishes_nothing_more_of_it(broker_cluster):
    cluster = broker_cluster
    here = kind()
    loop = loop_on(cluster, here)
    publish(cluster, [trade(n) for n in range(1, 6)])
    with running(loop) as errors:
        said(cluster, 5)
        intruder = store_on(cluster, partition_of_a(cluster))
        intruder.open()
        publish(cluster, [trade(6)])
        until(lambda: partition_of_a(cluster) not in loop._slots)
        handled = here.handled
        publish(cluster, [trade(7)])
        time.sleep(1)
        assert here.handled == handled
        assert len(loop._slots) == 3
        until(lambda: bool(errors))  # nobody takes the partition away from it: it leaves by itself
    assert "newer owner" in str(errors[0])
    intruder.close()


@pytest.mark.broker
def test_a_log_trimmed_below_the_checkpoint_is_gone_on_with_and_above_it_refused(broker_cluster):
    cluster = broker_cluster
    name = topics.MARKET_EVENT.name(cluster.run)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def trim(offset: int) -> None:
        place = TopicPartition(name, partition_of_a(cluster), offset)
        for future in admin.delete_records([place]).values():
            future.result(10)

    records = [trade(n) for n in range(1, 21)]
    publish(cluster, records[:10])
    with running(loop_on(cluster, kind())):
        said(cluster, 10)
    trim(8)
    publish(cluster, records[10:15])
    second = kind()
    with running(loop_on(cluster, second)):
        assert [r.cause for r in said(cluster, 15)] == expected_of(records[:15])
    assert second.handled == 5
    publish(cluster, records[15:])
    trim(17)
    with running(loop_on(cluster, kind())) as errors:
        until(lambda: bool(errors))
    assert isinstance(errors[0], Misconfigured)
    assert f"{name} [{partition_of_a(cluster)}]" in str(errors[0])
    assert "15" in str(errors[0])


def test_the_head_carries_how_far_a_sequenced_log_was_read(cluster):
    store = store_on(cluster, 1)
    store.open()
    reached = Reached(123, {("derived.book", 3): 9, ("market.instrument", 0): 4})
    store.write(1, Head(5, reached), {})
    store.close()
    again = store_on(cluster, 1)
    assert again.open().head == Head(5, reached)
    again.close()
