"""The one loop for pure tasks: poll, handle partition by partition, publish, commit after acknowledgement.

The error's branch decides the offset. `Reject` advances past a dead letter; `Retry` keeps the offset and asks again after
a pause; anything else propagates and stops the process: at least once plus pure handlers make a restart safe, so
crashing is the simplest correct answer.

A task with state goes on from its checkpoint (`keeper`); one that has none is rebuilt by reading its log from the start.
Either way nothing below the committed offset is published again, and a log that does not hold what is needed is refused
by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from core.domain.errors import Halt, InvariantBroken, Misconfigured, Reject, Retry, Unavailable
from core.runtime import log as logs
from core.runtime import metrics, queues, resent
from core.runtime.checkpoint import Head
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.codec import Codec
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.flow import Checkpointed, Input, Output, Task, TaskContext, TaskFactory
from core.runtime.keeper import Keeper
from core.runtime.pressure import Level, Pressure, PressureLimits, Progress, worst
from core.runtime.producer import Publisher
from core.runtime.sequenced import Inbox, Reached, unpack
from core.runtime.slot import Facts, Pace, Slot
from core.runtime.tables import KafkaTables
from core.runtime.topics import DEAD, Topic
from schemas.dead import Dead

log = logs.get()

RETRY_PAUSE_S = 0.02
RETRY_LIMIT_S = 300.0
_POLL_S = 0.1
_ACK_WAIT_S = 5.0
_OPENING_POLL_S = 0.01
_SEEK_WAIT_S = 10.0
_LAST_CHECKPOINT_WAIT_S = 5.0
_FENCED_WAIT_S = 10.0
"""A fenced owner hears from its group within this time that it is none any more, or leaves by itself."""


@dataclass(frozen=True)
class LogSpec:
    """Which log a task reads and how.

    Attributes:
        stage: folder name.
        log: last part of the group `<run>.<stage>.<log>`.
        remembers: the task has state: it goes on from its checkpoint, or reads its log from the start.
        sequenced: records carry the sequencer's header.
    """

    stage: str
    log: str
    topic: Topic
    remembers: bool = True
    sequenced: bool = False

    def group(self, run: str) -> str:
        """Return the consumer group of this log in `run`."""
        return f"{run}.{self.stage}.{self.log}"


class TaskLoop:
    """Runs the tasks of the partitions this process owns."""

    def __init__(
        self,
        *,
        spec: LogSpec,
        factory: TaskFactory,
        publisher: Publisher,
        codec: Codec,
        clock: Clock,
        bootstrap: str,
        read_run: str,
        context: TaskContext,
        tables: KafkaTables | None = None,
        batch_records_max: int = 500,
        commit_interval_s: float = 0.25,
        on_owned: Callable[[int], None] | None = None,
        on_dropped: Callable[[int], None] | None = None,
        check: Callable[[], None] | None = None,
        limits: PressureLimits | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Prepare; `run` joins the group, `replay` reads by hand.

        `check` is called every turn and raises when what the loop depends on (a sequencer) has ended. Without `keeper`
        there are no checkpoints.
        """
        self._keeper = keeper
        self._fenced: dict[int, float] = {}
        """Partitions whose task has a newer owner, and when that was heard."""
        self._check = check
        self._spec = spec
        self._factory = factory
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._bootstrap = bootstrap
        self._read_run = read_run
        self._topic = spec.topic.name(read_run)
        self._context = context
        self._tables = tables
        self._batch_max = batch_records_max
        self._commit_interval_s = commit_interval_s
        self._on_owned = on_owned
        self._on_dropped = on_dropped
        self._limits = limits or PressureLimits()
        self._returns = resent.Returns(
            stage=spec.stage,
            topic=spec.topic,
            remembers=spec.remembers,
            partitions=context.partitions,
            publisher=publisher,
            codec=codec,
            clock=clock,
        )
        self._slots: dict[int, Slot] = {}
        self._opening: dict[int, Slot] = {}
        """Owned, and waiting for their state."""
        self._reader: LogReader
        self._stopping = False
        self._pace: Pace | None = None
        self._last_poll_s = clock.monotonic_s()
        self._last_commit_s = self._last_poll_s
        self._facts = Facts(spec.stage, self._topic, clock)
        stage = spec.stage
        self._ok = metrics.RECORDS.labels(stage, "ok")
        self._rejected = metrics.RECORDS.labels(stage, "rejected")
        self._retried = metrics.RECORDS.labels(stage, "retried")
        self._duplicates = metrics.DUPLICATES.labels(stage)
        self._batch_size = metrics.BATCH.labels(stage)
        self._handle_seconds = metrics.HANDLE.labels(stage)
        self._commit_age = metrics.COMMIT_AGE.labels(stage)

    # Life

    def run(self) -> None:
        """Join the group and handle until `stop`; then drain, publish, commit and leave.

        Raises:
            Halt: an invariant broke.
            Misconfigured: the topic is missing, or the log of a task with state is not whole.
        """
        self._reader = LogReader.joining(
            self._bootstrap,
            group=self._spec.group(self._publisher.run),
            topics=[self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
            on_uncommitted=self._uncommitted,
            reset="error" if self._spec.remembers else "earliest",
            ends=False,
        )
        try:
            self._reader.partition_count(self._topic)
            while not self._stopping:
                self._turn()
            self._leave(list(self._slots))
        finally:
            # Closing gives back what is owned: `_revoked` is called.
            self._reader.close()
            self._drop([*self._slots, *self._opening])
            if self._keeper is not None:
                self._keeper.close()

    def replay(self, source_group: str, speed: float = 0.0) -> dict[int, int]:
        """Handle each partition from 0 to the source group's committed offset; return those ends by partition.

        `speed` 1 keeps the distances between the records' Kafka times, 2 halves them, 0 does not wait.
        """
        self._pace = Pace(self._clock, speed) if speed else None
        self._reader = LogReader.assigned(self._bootstrap, group=source_group, positions=[])
        try:
            count = self._reader.partition_count(self._topic)
            places = self._reader.committed([TopicPartition(self._topic, p) for p in range(count)])
            ends = {place.partition: max(place.offset, 0) for place in places}
            for number, end in ends.items():
                self._slots[number] = self._new_slot(number, start=0, publish_from=0, end=end)
            self._reader.take([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p, end in ends.items() if end > 0])
            while not self._stopping and not all(slot.done for slot in self._slots.values()):
                for ended in self._turn():
                    # A compacted log may end in a hole below the committed offset.
                    self._slots[ended.partition].position = max(self._slots[ended.partition].position, ended.offset)
            while not self._publisher.wait_acknowledged(_ACK_WAIT_S):
                log.warning("replay.waiting_for_acknowledgement")
            return ends
        finally:
            self._reader.close()

    def stop(self) -> None:
        """Ask `run` to end after the batch in hand."""
        self._stopping = True

    def health(self) -> dict[str, object]:
        """Return facts for the health endpoint: owned partitions, ages of the last poll and commit."""
        now = self._clock.monotonic_s()
        return {
            "ok": now - self._last_poll_s < 10.0,
            "partitions": sorted(self._slots),
            "poll_age_s": round(now - self._last_poll_s, 3),
            "commit_age_s": round(now - self._last_commit_s, 3),
            "checkpoint_age_s": round(self._keeper.age_s() if self._keeper is not None else 0.0, 3),
            "pressure": worst(self.levels()),
        }

    def levels(self) -> list[Level]:
        """Return the pressure of each owned partition."""
        return [slot.pressure.level for slot in list(self._slots.values()) if slot.pressure is not None]

    @property
    def is_owner(self) -> bool:
        """Whether it owns a partition, be it one that still waits for its state."""
        return bool(self._slots or self._opening)

    def position(self, partition: int) -> int:
        """Return the offset the task of a partition will handle next, -1 if it is not handling any."""
        slot = self._slots.get(partition)
        return slot.position if slot is not None else -1

    def progress(self, partition: int) -> Progress:
        """Return how far the task of an owned partition is; kept up to date while it is owned."""
        slot = self._slots.get(partition)
        return slot.progress if slot is not None else Progress()

    def reached(self, partition: int) -> tuple[int, Reached] | None:
        """Return where the task of an owned partition of a sequenced log is, and how far the log's sources are there."""
        slot = self._slots.get(partition)
        return None if slot is None or slot.inbox is None else (slot.position, slot.inbox.reached())

    # One turn

    def _turn(self) -> list[TopicPartition]:
        waiting = any(slot.backlog for slot in self._slots.values())
        opening = self._keeper is not None and self._begin_opened(self._keeper)
        pause_s = _OPENING_POLL_S if opening else RETRY_PAUSE_S if waiting else _POLL_S
        messages, ended = self._reader.batch(self._batch_max, pause_s)
        began = self._last_poll_s = self._clock.monotonic_s()
        if self._tables is not None:
            self._tables.follow()
        if messages:
            self._batch_size.observe(len(messages))
            slot, number = None, -1
            for message in messages:
                if message.partition() != number:
                    number = message.partition() or 0
                    slot = self._slots.get(number)
                    if slot is not None:
                        slot.note_lag(message, self._clock.now_ns())
                if slot is not None:
                    if self._pace is not None:
                        self._pace.wait_for(message.timestamp()[1])
                    self._take(slot, message)
            self._handle_seconds.observe(self._clock.monotonic_s() - began)
        if len(messages) < self._batch_max:
            for slot in self._slots.values():
                slot.progress.since_ns = slot.backlog[0].timestamp()[1] * NS_PER_MS if slot.backlog else 0
        if waiting:
            self._retry(began)
        self._publisher.serve()
        if self._check is not None:
            self._check()
        if self._clock.monotonic_s() - self._last_commit_s >= self._commit_interval_s:
            self._commit(wait=False)
        return ended

    def _take(self, slot: Slot, message: Message) -> None:
        if slot.backlog:
            slot.backlog.append(message)
            return
        try:
            self._handle(slot, message)
        except Retry:
            self._retried.inc()
            slot.retry_since_s = slot.retry_since_s or self._clock.monotonic_s()
            slot.retry_at_s = self._clock.monotonic_s() + RETRY_PAUSE_S
            slot.backlog.append(message)
            self._reader.pause([TopicPartition(self._topic, message.partition() or 0)])
        except BaseException:
            slot.is_broken = True
            raise

    def _retry(self, now_s: float) -> None:
        for number, slot in self._slots.items():
            if not slot.backlog or now_s < slot.retry_at_s:
                continue
            try:
                while slot.backlog:
                    self._handle(slot, slot.backlog[0])
                    slot.backlog.popleft()
                    slot.retry_since_s = 0.0
            except Retry as e:
                slot.retry_since_s = slot.retry_since_s or now_s
                slot.retry_at_s = now_s + RETRY_PAUSE_S
                if now_s - slot.retry_since_s > RETRY_LIMIT_S:
                    raise Halt(f"{self._topic} [{number}] {slot.position}: waited {RETRY_LIMIT_S} s: {e}") from e
                continue
            except BaseException:
                slot.is_broken = True
                raise
            self._go_on(number, slot)

    def _go_on(self, number: int, slot: Slot) -> None:
        """Fetch a partition again that was paused: after a `resume` alone the client begins up to a second later."""
        place = TopicPartition(self._topic, number, slot.position)
        self._reader.resume([place])
        deadline = self._clock.monotonic_s() + _SEEK_WAIT_S
        while not self._reader.seek(place):
            if self._clock.monotonic_s() > deadline:
                raise Unavailable(f"{self._topic} [{number}]: fetching did not begin within {_SEEK_WAIT_S} s")
            time.sleep(_OPENING_POLL_S)

    # hot: every record of every pure stage
    def _handle(self, slot: Slot, message: Message) -> None:
        offset = message.offset() or 0
        if offset != slot.position and not self._is_next(slot, message, offset):
            return
        if slot.end is not None and offset >= slot.end:
            return
        slot.is_placed = True
        value = value_bytes(message)
        outputs: Iterable[Output] = ()
        if value is not None:  # a tombstone says nothing to a task
            try:
                mark = resent.unpack(message.headers())
                if mark is not None:
                    self._come_back(slot, message, value, mark)
                    return
                item = self._input(slot, message, value, offset)
                if item is not None:
                    outputs = tuple(slot.task.handle(item))
            except Reject as e:
                self._reject(slot, message, value, e)
            else:
                if offset >= slot.publish_from:
                    self._publish(outputs)
                self._ok.inc()
        slot.position = offset + 1

    def _come_back(self, slot: Slot, message: Message, value: bytes, mark: resent.Mark) -> None:
        """Pass a dead letter that comes back by the task: what remembers must never see it."""
        offset = message.offset() or 0
        if offset >= slot.publish_from:
            self._returns.handle(mark, message, value, partial(self._new_task, message.partition() or 0))
        slot.position = offset + 1

    def _is_next(self, slot: Slot, message: Message, offset: int) -> bool:
        """Say whether a record that is not at the slot's position may be handled: never, if a record is missing."""
        if offset < slot.position or (slot.end is not None and offset >= slot.end):
            return False
        if not self._spec.remembers:
            return True
        place = TopicPartition(self._topic, message.partition() or 0, slot.position)
        if not slot.is_placed:
            self._reader.seek(place)
            return False
        raise InvariantBroken(
            f"{self._topic} [{place.partition}]: expected offset {slot.position}, found {offset}: records are missing"
        )

    def _publish(self, outputs: Iterable[Output]) -> None:
        try:
            for output in outputs:
                self._publisher.publish(output)
        except Retry as e:
            # The task has moved on: asked again it would say nothing, and these outputs would be lost.
            raise Halt(f"{self._topic}: an output cannot be published: {e}") from e

    def _input(self, slot: Slot, message: Message, value: bytes, offset: int) -> Input | None:
        record = self._codec.decode(value)
        if slot.inbox is None:
            return Input(record, self._spec.topic.noun, message.partition() or 0, offset, key_text(message))
        stamp = unpack(message.headers())
        if not slot.inbox.admit(record, stamp):
            self._duplicates.inc()
            return None
        slot.progress.log_ns = slot.inbox.log_ns
        return Input(
            record,
            self._spec.topic.noun,
            message.partition() or 0,
            offset,
            key_text(message),
            slot.inbox.log_ns,
            stamp.source if stamp else None,
        )

    def _reject(self, slot: Slot, message: Message, value: bytes, error: Reject) -> None:
        self._rejected.inc()
        name = type(error).__name__
        metrics.DEAD.labels(self._spec.stage, name).inc()
        offset = message.offset() or 0
        if offset < slot.publish_from:
            return
        key = message.key() or b""
        dead = Dead(
            stage=self._spec.stage,
            source_topic=self._topic,
            source_partition=message.partition() or 0,
            source_offset=offset,
            error_class="REJECT",
            error=name,
            reason=str(error),
            key=key.encode() if isinstance(key, str) else key,
            value=value,
            ts_ns=self._clock.now_ns(),
            kafka_ts_ns=message.timestamp()[1] * NS_PER_MS,
        )
        outputs: tuple[Output, ...] = getattr(error, "outputs", ())
        self._publish((*outputs, Output(DEAD[self._spec.stage], key_text(message), dead)))

    # Offsets

    def _commit(self, *, wait: bool) -> bool:
        """Commit what is published and acknowledged, and begin the checkpoints that are due; False if it is not yet."""
        self._facts.export(self._slots, self._reader)
        self._last_commit_s = self._clock.monotonic_s()
        if not self._publisher.wait_acknowledged(_ACK_WAIT_S):
            log.warning("commit.waiting", reason="outputs are not acknowledged; is the broker up?")
            self._commit_age.set(_ACK_WAIT_S)
            return False
        offsets = []
        for number, slot in self._slots.items():
            hold = getattr(slot.task, "hold_offset", None)
            target = slot.position if hold is None else min(slot.position, hold)
            # Leaving, what was asked for without waiting is asked for once more: nobody would hear that it failed.
            known = slot.publish_from if wait else max(slot.committed, slot.publish_from)
            if slot.end is None and target > known:
                offsets.append(TopicPartition(self._topic, number, target))
                slot.committed = target
        if offsets:
            refused = self._reader.commit(offsets, wait=wait)
            if refused:
                log.warning("commit.refused", reason=refused)
        self._commit_age.set(0.0)
        if self._keeper is not None:
            self._give_up(self._keeper.settle())
            self._write_checkpoints(self._keeper, [number for number in self._slots if self._keeper.is_due(number)])
        return True

    def _uncommitted(self, places: list[TopicPartition], reason: str) -> None:
        """Commit again at the next turn what Kafka did not take: a log that is quiet now would stay behind for ever."""
        log.warning("commit.failed", reason=reason, partitions=sorted(place.partition for place in places))
        for place in places:
            slot = self._slots.get(place.partition)
            if slot is not None:
                slot.committed = slot.publish_from

    # Checkpoints

    def _write_checkpoints(self, keeper: Keeper, numbers: list[int]) -> None:
        """Begin the checkpoints of these partitions: right after an acknowledgement, before anything else is handled."""
        for number in numbers:
            slot = self._slots[number]
            if isinstance(slot.task, Checkpointed) and not slot.is_broken and slot.end is None:
                reached = slot.inbox.reached() if slot.inbox is not None else None
                keeper.write(number, slot.task, Head(slot.position, reached))

    def _begin_opened(self, keeper: Keeper) -> bool:
        """Let the tasks that have their state begin; return whether others are still waiting for theirs."""
        for number, opened in keeper.opened():
            slot = self._slots[number] = self._opening.pop(number)
            if opened.head is not None:
                slot.position = opened.head.offset
                slot.inbox = Inbox(opened.head.reached) if self._spec.sequenced else None
            slot.task = opened.task
            slot.publish_from = slot.committed = max(slot.publish_from, slot.position)
            slot.progress.log_ns = slot.inbox.log_ns if slot.inbox is not None else 0
            self._go_on(number, slot)
            if self._on_owned is not None:
                self._on_owned(number)
        now_s = self._clock.monotonic_s()
        for number, since_s in self._fenced.items():
            if now_s - since_s > _FENCED_WAIT_S:
                raise Unavailable(
                    f"{self._topic} [{number}] has a newer owner, and the group did not say so for {_FENCED_WAIT_S} s"
                )
        return keeper.is_opening

    def _give_up(self, numbers: list[int]) -> None:
        """Drop tasks that have a newer owner: nothing of theirs is committed or published any more."""
        for number in numbers:
            self._drop([number])
            self._reader.pause([TopicPartition(self._topic, number)])
            self._fenced[number] = self._clock.monotonic_s()

    def _leave(self, numbers: list[int]) -> None:
        """Publish, commit and write down all that these partitions have, as far as Kafka answers in time."""
        acknowledged = self._commit(wait=True)
        if self._keeper is None:
            return
        self._give_up(self._keeper.finish(numbers, _LAST_CHECKPOINT_WAIT_S))
        if acknowledged:
            self._write_checkpoints(self._keeper, [number for number in numbers if number in self._slots])
            self._give_up(self._keeper.finish(numbers, _LAST_CHECKPOINT_WAIT_S))

    # Ownership

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        known = {place.partition: place.offset for place in self._reader.committed(partitions)}
        positions = []
        opening = []
        for place in partitions:
            number = place.partition
            committed = max(known.get(number, 0), 0)
            self._fenced.pop(number, None)
            slot = self._new_slot(number, start=0 if self._spec.remembers else committed, publish_from=committed)
            if self._keeper is not None and self._spec.remembers and isinstance(slot.task, Checkpointed):
                self._opening[number] = slot
                slot.is_placed = False
                opening.append(TopicPartition(self._topic, number))
                self._keeper.open(number, f"{self._topic} [{number}]", partial(self._new_task, number))
            else:
                if self._spec.remembers:
                    self._must_be_whole(number)
                self._slots[number] = slot
            positions.append(TopicPartition(self._topic, number, slot.position or OFFSET_BEGINNING))
        self._reader.take(positions)
        if opening:
            self._reader.pause(opening)
        if partitions:
            log.info("partitions.assigned", topic=self._topic, partitions=sorted(p.partition for p in partitions))
        for place in partitions:
            if place.partition in self._slots and self._on_owned is not None:
                self._on_owned(place.partition)

    def _must_be_whole(self, number: int) -> None:
        first, _ = self._reader.edges(TopicPartition(self._topic, number))
        if first > 0:
            raise Misconfigured(
                f"{self._topic} [{number}] begins at offset {first}: a task with state needs the whole log; "
                "raise the topic's retention or start a new run"
            )

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        numbers = [place.partition for place in partitions]
        self._leave([number for number in numbers if number in self._slots])
        self._drop(numbers)
        self._reader.give_up(partitions)
        log.info("partitions.revoked", topic=self._topic, partitions=sorted(numbers))

    def _lost(self, partitions: list[TopicPartition]) -> None:
        # A newer owner has them already: committing would be refused, and its state is the one that counts.
        self._drop([place.partition for place in partitions])
        self._reader.give_up(partitions)
        log.warning("partitions.lost", topic=self._topic, partitions=sorted(p.partition for p in partitions))

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            waiting, slot = self._opening.pop(number, None), self._slots.pop(number, None)
            self._fenced.pop(number, None)
            for left in (waiting, slot):
                if left is not None and left.pressure is not None:
                    left.pressure.close()
            if slot is not None and self._on_dropped is not None:
                self._on_dropped(number)
        if self._keeper is not None:
            self._keeper.drop(numbers)

    def _new_task(self, number: int) -> Task:
        return self._factory(
            TaskContext(
                partition=number,
                partitions=self._context.partitions,
                incarnation=self._context.incarnation,
                tables=self._tables,
                options=self._context.options,
            )
        )

    def _new_slot(self, number: int, *, start: int, publish_from: int, end: int | None = None) -> Slot:
        pressure = None
        # A replay has all the time there is; of a sequenced log, its sequencer speaks; a table is old by nature.
        if end is None and not self._spec.sequenced and self._spec.topic.cleanup == "delete":
            pressure = Pressure(
                stage=self._spec.stage,
                reader=self._spec.log,
                partition=number,
                limits=self._limits,
                name=self._spec.group(self._publisher.run),
                advice=f"add replicas with `crossbook scale {self._spec.stage} N`",
            )
        slot = Slot(
            task=self._new_task(number),
            inbox=Inbox() if self._spec.sequenced else None,
            position=start,
            publish_from=publish_from,
            committed=publish_from,
            end=end,
            pressure=pressure,
        )
        queues.watch("task backlog", slot, lambda own: len(own.backlog), self._batch_max)
        return slot
