"""Any crash, freeze or twin around a checkpoint leaves the distinct outputs and the state of one clean pass.

The loop, the keeper and what it reads are the real ones; the log, the committed offset, the producer and the checkpoint
topic are in memory: a crash can stand between any two steps (handle, publish, acknowledge, begin, each item, head,
commit, offset commit), transactions end while the loop goes on, and twins of any number share everything.
"""

from concurrent.futures import Future

import msgspec
import pytest
from confluent_kafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Fenced, InvariantBroken, Unavailable
from core.runtime import topics
from core.runtime.checkpoint import Head, fold
from core.runtime.clock import ManualClock
from core.runtime.flow import Output, StateCodec, TaskContext
from core.runtime.keeper import Keeper
from core.runtime.sequenced import Reached, pack
from core.runtime.task import LogSpec, TaskLoop
from schemas.control import Checkpoint, SourceEnd
from schemas.derived import Resync
from tests.runtime.memory_log import CODEC, Crash, Log, Reader, distinct, trade

TASK = "derive.book/0"


class World(Log):
    """The log, and its task's checkpoint topic."""

    def __init__(self, values, headers=None):
        super().__init__(values, headers)
        self.epoch = 0
        self.open: list | None = None
        self.records: list[tuple[str, Checkpoint | None]] = []

    def compact(self):
        """Keep the newest of each key, and drop tombstones: the most a broker may do."""
        newest = {key: number for number, (key, _) in enumerate(self.records)}
        self.records = [
            (key, record) for n, (key, record) in enumerate(self.records) if newest[key] == n and record is not None
        ]


class MemoryStore:
    """A checkpoint topic with Kafka's rules: one open transaction an id, a newer epoch fences, aborted is not seen."""

    def __init__(self, world, steps_left):
        self.world, self.left, self.epoch = world, steps_left, -1

    def _step(self):
        if self.left == 0:
            raise Crash
        self.left -= 1

    def open(self):
        self.world.epoch += 1
        self.epoch = self.world.epoch
        self.world.open = None
        return fold(list(self.world.records), TASK, 1)

    def log_edges(self):
        return 0, len(self.world.messages)

    def write(self, line, head, items):
        self._step()
        self._check()
        self.world.open = []
        common = {"task": TASK, "incarnation": 1, "line": line, "input_offset": head.offset}
        for item, state in items.items():
            self._step()
            self._check()
            record = None if state is None else Checkpoint(**common, item=item, state=state)
            self.world.open.append((f"{TASK}/{item}", record))
        self._step()
        self._check()
        reached = head.reached or Reached(0, {})
        sources = [SourceEnd(noun=noun, partition=p, offset=o) for (noun, p), o in reached.last.items()]
        made = Checkpoint(**common, is_head=True, state=b"", log_ns=reached.log_ns, sources=sources)
        self.world.open.append((TASK, made))
        self._step()
        self._check()
        self.world.records += self.world.open
        self.world.open = None
        self._step()

    def _check(self):
        if self.epoch != self.world.epoch:
            raise Fenced("a newer owner has the task")

    def close(self):
        pass


class Later:
    """An executor that works when it is told to, as threads do; a crash within it is a crash of the process."""

    def __init__(self, fails):
        self.jobs, self.fails = [], fails

    def submit(self, call, *arguments):
        future = Future()
        self.jobs.append((future, call, arguments))
        if call.__name__ == "_open":
            self.work()
        return future

    def work(self):
        jobs, self.jobs = self.jobs, []
        for future, call, arguments in jobs:
            fate = self.fails.pop() if self.fails and call.__name__ == "write" else "done"
            try:
                result = call(*arguments) if fate != "lost" else None
            except Crash:
                raise
            except Exception as e:
                future.set_exception(e)
            else:
                if fate == "done":
                    future.set_result(result)
                else:  # written or lost, and nobody heard which
                    future.set_exception(Unavailable("no answer"))

    def shutdown(self, wait=True):
        pass


class PausedReader(Reader):
    """Stands still while it is told to, and goes where it is sent."""

    def __init__(self, world, batch):
        super().__init__(world, batch)
        self.paused = False

    def batch(self, records_max, timeout_s):
        return ([], []) if self.paused else super().batch(records_max, timeout_s)

    def pause(self, places):
        self.paused = True

    def resume(self, places):
        self.paused = False

    def seek(self, place):
        self.at = place.offset
        return True

    def give_up(self, places):
        pass


class Publisher:
    """What is not acknowledged yet dies with the process."""

    run = "test-p"

    def __init__(self, world, crash_after):
        self.world, self.left, self.queue = world, crash_after, []

    def publish(self, output):
        if self.left == 0:
            raise Crash
        self.left -= 1
        self.queue.append(output)

    def serve(self):
        if self.queue:
            self.world.published.append(self.queue.pop(0))

    def wait_acknowledged(self, timeout_s=1.0):
        while self.queue:
            self.serve()
        return True


class Count(msgspec.Struct, frozen=True):
    total: int


class Sums:
    """Sums by name, some of which are removed again, and one over all; what it says depends on everything before."""

    states = StateCodec(Count, version=1)

    def __init__(self, context=None):
        self.sums: dict[str, int] = {}
        self.total = 0
        self._changed: set[str] = set()

    def handle(self, item):
        size = item.record.size
        name = f"n{size % 4}"
        self.total += size
        self.sums[name] = self.sums.get(name, 0) + size
        self._changed.add(name)
        if size == 7:
            del self.sums[name]
        for index in range(size % 3):
            yield Output(
                topics.DERIVED_RESYNC, item.key, said(item, index, f"{self.total} {sorted(self.sums.items())}")
            )

    def changed(self):
        names, self._changed = self._changed, set()
        if names:
            yield "", str(self.total).encode()
        for name in sorted(names):
            yield name, self.states.encode(Count(self.sums[name])) if name in self.sums else None

    def restore(self, items):
        for name, state in items:
            if name:
                self.sums[name] = self.states.decode(state).total
            else:
                self.total = int(state)

    def state(self):
        return self.total, dict(self.sums)


def said(item, index, cause):
    return Resync(
        instrument="kalshi:A",
        venue="kalshi",
        epoch=1,
        version_offset=item.offset,
        version_index=index,
        cause=f"{cause} {item.log_ns}",
        ts_ns=0,
    )


class Life:
    """One process that owns the partition, or believes so."""

    def __init__(self, world, *, batch=3, crash_publish=-1, crash_store=-1, fails=(), sequenced=False):
        self.clock = ManualClock()
        self.later = Later(list(fails))
        self.loop = TaskLoop(
            spec=LogSpec("derive", "book", topics.MARKET_EVENT, sequenced=sequenced),
            factory=Sums,
            publisher=Publisher(world, crash_publish),
            codec=CODEC,
            clock=self.clock,
            bootstrap="",
            read_run="test-p",
            context=TaskContext(),
            commit_interval_s=1e9,
            keeper=Keeper(
                lambda _: MemoryStore(world, crash_store),
                stage="derive",
                clock=self.clock,
                interval_s=1.0,
                executor=self.later,
            ),
        )
        self.loop._reader = PausedReader(world, batch)
        self.loop._assigned([TopicPartition("test-p.market.event", 0)])

    def act(self, action):
        match action:
            case "turn":
                self.loop._turn()
            case "commit":
                self.loop._commit(wait=True)
            case "tick":
                self.clock.advance(ms=1500)
            case "work":
                self.later.work()
            case "checkpoint":
                for part in ("tick", "commit", "work", "commit"):
                    self.act(part)

    def to_the_end(self, count):
        for _ in range(count + 2):
            self.loop._turn()
        for _ in range(3):
            self.act("checkpoint")

    def state(self):
        return self.loop._slots[0].task.state()


def clean_pass(values, headers=None):
    """What one process says that never dies, and its state after each offset."""
    world = World(values, headers)
    life = Life(world, batch=1, sequenced=headers is not None)
    states = [Sums().state()]
    for _ in values:
        life.loop._turn()
        states.append(life.state())
    life.act("commit")
    return [o.record for o in world.published], states


def check_checkpoint(world, states):
    """What is written down is the state of the offset it names, and all that precedes it is published."""
    loaded = fold(world.records, TASK, 1)
    if loaded.head is None:
        return
    task = Sums()
    task.restore(loaded.items.items())
    assert task.state() == states[loaded.head.offset]
    seen = {(o.record.version_offset, o.record.version_index) for o in world.published}
    for offset, message in enumerate(world.messages[: loaded.head.offset]):
        for index in range(CODEC.decode(message.value()).size % 3):
            assert (offset, index) in seen


SIZES = st.lists(st.integers(0, 11), min_size=1, max_size=20)
ACTIONS = st.lists(st.sampled_from(["turn", "checkpoint", "commit", "tick", "work"]), max_size=20)
LIVES = st.lists(
    st.tuples(
        ACTIONS,
        st.integers(1, 5),
        st.one_of(st.just(-1), st.integers(0, 15)),
        st.one_of(st.just(-1), st.integers(0, 25)),
        st.lists(st.sampled_from(["done", "written", "lost"]), max_size=3),
        st.booleans(),
    ),
    max_size=5,
)


@settings(max_examples=300)
@given(SIZES, LIVES)
def test_a_crash_at_any_step_leaves_the_outputs_and_the_state_of_one_clean_pass(sizes, lives):
    values = [trade(size) for size in sizes]
    expected, states = clean_pass(values)
    world = World(values)
    for actions, batch, crash_publish, crash_store, fails, compacts in lives:
        try:
            life = Life(world, batch=batch, crash_publish=crash_publish, crash_store=crash_store, fails=fails)
            for action in actions:
                life.act(action)
        except Crash:
            pass
        check_checkpoint(world, states)
        if compacts:
            world.compact()
            check_checkpoint(world, states)
    last = Life(world, batch=7)
    last.to_the_end(len(values))
    assert distinct(world.published) == expected
    assert last.state() == states[-1]
    assert world.committed == len(values)
    check_checkpoint(world, states)
    assert fold(world.records, TASK, 1).head.offset == len(values)


@settings(max_examples=300)
@given(
    SIZES,
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["turn", "commit", "tick", "work", "checkpoint", "new"])),
        max_size=60,
    ),
    st.integers(1, 4),
)
def test_any_number_of_thawed_twins_changes_nothing_a_reader_sees(sizes, steps, batch):
    """`new` freezes whoever is in that place and lets another take over; the frozen one goes on whenever it is named."""
    values = [trade(size) for size in sizes]
    expected, states = clean_pass(values)
    world = World(values)
    places = [Life(world, batch=batch)]
    for place, action in steps:
        if action == "new" and len(places) < 5:
            places.append(Life(world, batch=1 + place))
        else:
            places[place % len(places)].act("turn" if action == "new" else action)
        check_checkpoint(world, states)
    survivor = Life(world, batch=3)
    for zombie in places:
        # Each goes on once more after the last one took over: it may publish, and can write nothing down.
        for action in ("turn", "tick", "commit", "work"):
            zombie.act(action)
    before = list(world.records)
    survivor.to_the_end(len(values))
    assert distinct(world.published) == expected
    assert survivor.state() == states[-1]
    assert before == world.records[: len(before)]
    check_checkpoint(world, states)


@settings(max_examples=150)
@given(SIZES, st.lists(st.integers(0, 2), min_size=20, max_size=20), st.integers(0, 20), st.booleans())
def test_a_sequenced_task_goes_on_with_its_sources_and_its_time(sizes, sources, cut, repeats):
    """Across a restore, what an earlier owner of the sequencer had appended is still known, and time does not go back."""
    ends = [0, 0, 0]
    headers = []
    for number in range(len(sizes)):
        source = sources[number]
        ends[source] += 0 if repeats and number % 5 == 4 else 1
        headers.append(pack("derived.book", source, ends[source], 1000 + (number * 7) % 13))
    values = [trade(size) for size in sizes]
    expected, states = clean_pass(values, headers)
    world = World(values, headers)
    first = Life(world, batch=1, sequenced=True)
    for _ in range(min(cut, len(values))):
        first.act("turn")
    first.act("checkpoint")
    second = Life(world, batch=4, sequenced=True)
    second.to_the_end(len(values))
    assert distinct(world.published) == expected
    assert second.state() == states[-1]


def test_a_fenced_owner_neither_publishes_nor_commits_again():
    world = World([trade(1) for _ in range(10)])
    old = Life(world, batch=2)
    old.act("turn")
    Life(world)
    old.act("checkpoint")
    published, committed = len(world.published), world.committed
    for action in ("turn", "turn", "commit"):
        old.act(action)
    assert (len(world.published), world.committed) == (published, committed)
    assert old.loop._slots == {}


def test_a_record_that_is_missing_from_a_log_stops_a_task_with_state():
    world = World([trade(1) for _ in range(4)])
    life = Life(world, batch=2)
    life.act("turn")
    del world.messages[2]
    life.loop._reader.at = 2
    with pytest.raises(InvariantBroken, match="expected offset 2, found 3"):
        life.act("turn")


def test_a_record_that_came_before_the_reader_was_placed_is_read_again_in_order():
    world = World([trade(n) for n in range(6)])
    first = Life(world, batch=3)
    for action in ("turn", "tick", "commit", "work", "commit"):
        first.act(action)
    second = Life(world, batch=2)
    second.loop._turn()
    second.loop._slots[0].is_placed = False
    second.loop._reader.at = 5  # fetched from somewhere else before the seek took hold
    second.loop._turn()
    second.to_the_end(6)
    assert second.state() == clean_pass([trade(n) for n in range(6)])[1][-1]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=8), st.integers(0, 3))
def test_items_without_their_head_are_not_part_of_a_checkpoint(items, others):
    """On a Kafka that shows aborted records, too: what follows the last head belongs to nothing."""
    common = {"task": TASK, "incarnation": 1, "line": 1}
    written = [
        (f"{TASK}/a", Checkpoint(**common, item="a", input_offset=5, state=b"5")),
        (TASK, Checkpoint(**common, is_head=True, input_offset=5, state=b"")),
    ]
    aborted = [
        (f"{TASK}/{name}", None if gone else Checkpoint(**common, item=name, input_offset=9, state=b"9"))
        for name, gone in items
    ]
    foreign = [(f"derive.book/{n + 1}", None) for n in range(others)] + [("derive.book/01/x", None)]
    loaded = fold([*foreign, *written, *foreign, *aborted], TASK, 1)
    assert loaded.head == Head(5, Reached(0, {}))
    assert loaded.items == {"a": b"5"}
    successor = [(TASK, Checkpoint(**common, is_head=True, input_offset=7, state=b""))]
    later = [(TASK, Checkpoint(**common, is_head=True, input_offset=10, state=b""))]
    visible = [step for step in aborted if step[1] is not None]
    assert fold([*written, *visible, *successor, *later], TASK, 1).items == {"a": b"5"}
