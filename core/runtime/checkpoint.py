"""Checkpoints: a task's state on a compacted topic, one Kafka transaction each, by one transactional producer a task.

A transaction holds the items that changed and, last, the head: the input offset up to which the log is in them. The
transactional id is the task, so `init_transactions` of a new owner aborts what its predecessor had open and fences it:
a frozen process that thaws is told so at its next step. A fresh owner reads the topic's partition to its end
(`read_committed`; by EOF, since transaction markers take offsets) and keeps the newest of each key.

Keys are `<stage>.<log>/<partition>` for the head and `<stage>.<log>/<partition>/<item>` for items. Items carry the line
of their head: what an older line left behind (another incarnation, another version of the code) is void and removed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from core.domain.errors import CrossbookError, Fenced, InvariantBroken, Reject, Unavailable
from core.runtime.clock import Clock
from core.runtime.codec import Codec
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.producer import producer_config
from core.runtime.sequenced import Reached
from core.runtime.topics import Topic
from schemas.control import Checkpoint, SourceEnd

STATE_BYTES_MAX = 8_000_000
"""Of one item; the topic takes messages up to 8 MiB."""
OPEN_LIMIT_S = 60.0
"""Fencing and reading a checkpoint; then the process ends."""
WRITE_LIMIT_S = 20.0
"""One transaction; then it is tried again at the next turn."""
TRANSACTION_TIMEOUT_MS = 30_000
"""After this the broker aborts what an owner without a successor left open."""
_SLICE_S = 0.5
_POLL_S = 0.1
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class Head(NamedTuple):
    """How far the log is in the state; `reached` for sequenced logs."""

    offset: int
    reached: Reached | None = None


@dataclass
class Loaded:
    """What a checkpoint topic says of one task.

    Attributes:
        line: what the next transaction belongs to.
        head: None where there is nothing to restore.
        items: state by item.
        void: items that are still on the topic and belong to nothing: the next transaction removes them.
        reason: why there is nothing to restore, though something was written.
    """

    line: int = 1
    head: Head | None = None
    items: dict[str, bytes] = field(default_factory=dict)
    void: set[str] = field(default_factory=set)
    reason: str = ""

    def refused(self, reason: str) -> Loaded:
        """Return the same as if nothing usable had been found: a new line begins."""
        return Loaded(self.line + 1, None, {}, self.void | set(self.items), reason)


class Store(Protocol):
    """Where one owned task's checkpoints are. Every call may block, within its bound, and none runs beside another."""

    def open(self) -> Loaded:
        """Fence whoever had the task before, then return what there is.

        Raises:
            Unavailable: Kafka does not answer within `OPEN_LIMIT_S`.
        """
        ...

    def log_edges(self) -> tuple[int, int]:
        """Return the first offset that the task's log still has and the next to be written, as of `open`."""
        ...

    def write(self, line: int, head: Head, items: Mapping[str, bytes | None]) -> None:
        """Write one checkpoint, all or nothing.

        Raises:
            Fenced: the task has a newer owner; nothing was written.
            Unavailable: not known whether it was written: write the same items again, with those that came since.
        """
        ...

    def close(self) -> None:
        """Let go. May be called from another thread, and then ends what waits."""
        ...


def fold(records: Iterable[tuple[str, Checkpoint | None]], task: str, incarnation: int) -> Loaded:
    """Return what the records of a checkpoint partition say of `task`.

    `records` are (key, record or None for a tombstone) in the topic's order, possibly compacted, other tasks' among
    them. What no head follows is not part of a checkpoint; what follows says more than the head did is dropped.
    """
    prefix = f"{task}/"
    found: dict[str, Checkpoint] = {}
    pending: list[tuple[str, Checkpoint | None]] = []
    head: Checkpoint | None = None
    for key, record in records:
        if key == task:
            if record is not None:
                head = record
                for item, state in pending:
                    if state is None:
                        found.pop(item, None)
                    elif state.input_offset <= head.input_offset or state.line < head.line:
                        found[item] = state
            pending.clear()
        elif key.startswith(prefix):
            pending.append((key[len(prefix) :], record))
    if head is None:
        # Items without any head: a first transaction that was never finished, on a Kafka that shows such.
        return Loaded(void={item for item, state in pending if state is not None})
    ours = {item: r.state for item, r in found.items() if (r.incarnation, r.line) == (head.incarnation, head.line)}
    loaded = Loaded(head.line, _head_of(head), ours, found.keys() - ours.keys())
    if head.incarnation != incarnation:
        return loaded.refused(f"it is of incarnation {head.incarnation}, the log is of {incarnation}")
    return loaded


class KafkaStore:
    """Checkpoints on `<run>.<layer>.checkpoint`."""

    def __init__(
        self,
        *,
        bootstrap: str,
        run: str,
        group: str,
        topic: Topic,
        log_topic: str,
        task: str,
        partition: int,
        incarnation: int,
        codec: Codec,
        clock: Clock,
    ) -> None:
        """Prepare; `task` is `<stage>.<log>/<partition>`, `log_topic` the full name of the log it reads."""
        self._bootstrap = bootstrap
        self._id = f"{group}.{partition}"
        self._topic = topic.name(run)
        self._log_topic = log_topic
        self._task = task
        self._partition = partition
        self._incarnation = incarnation
        self._codec = codec
        self._clock = clock
        self._closing = threading.Event()
        self._producer: Producer | None = None
        self._log_edges = (0, 0)
        self._unfinished: _Call | None = None

    def open(self) -> Loaded:
        """Fence, then read the partition to its end."""
        deadline = self._clock.monotonic_s() + OPEN_LIMIT_S
        self._fence(deadline)
        reader = LogReader.assigned(
            self._bootstrap,
            group=f"{self._id}.checkpoint",
            # Not "the beginning": where that is would be asked for half a second later.
            positions=[TopicPartition(self._topic, self._partition, 0)],
            large=True,
        )
        unreadable: dict[str, str] = {}
        try:
            loaded = fold(self._records(reader, deadline, unreadable), self._task, self._incarnation)
            self._log_edges = reader.edges(TopicPartition(self._log_topic, self._partition))
        finally:
            reader.close()
        # Two lines on: what could not be read may be the head of the next.
        for reason in list(unreadable.values())[:1]:
            loaded = loaded.refused(reason).refused(reason)
        return loaded

    def log_edges(self) -> tuple[int, int]:
        return self._log_edges

    def write(self, line: int, head: Head, items: Mapping[str, bytes | None]) -> None:
        producer = self._producer
        if producer is None or self._closing.is_set():
            raise Unavailable(f"{self._id}: its checkpoints are closed")
        deadline = self._clock.monotonic_s() + WRITE_LIMIT_S
        try:
            if self._unfinished is not None:
                self._again(self._unfinished, deadline)
            producer.begin_transaction()
            self._unfinished = producer.abort_transaction
            for item, state in items.items():
                value = None if state is None else self._item(line, head, item, state)
                self._produce(producer, f"{self._task}/{item}", value, deadline)
            self._produce(producer, self._task, self._codec.encode(self._head(line, head)), deadline)
            # Left in the middle it is not known whether it holds: asked again until that is known.
            self._unfinished = producer.commit_transaction
            self._again(producer.commit_transaction, deadline)
            self._unfinished = None
        except KafkaException as e:
            raise self._failure(producer, e.args[0]) from e

    def close(self) -> None:
        # The client's own `close` would wait for what is under way; without it the threads end at once.
        self._closing.set()
        self._producer = None

    # Fencing

    def _fence(self, deadline: float) -> None:
        config = producer_config(self._bootstrap, self._id)
        config |= {
            "transactional.id": self._id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            # A transaction is all or nothing: here nothing has to wait for ever.
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "message.max.bytes": STATE_BYTES_MAX + 1024,
        }
        producer = Producer(config)
        try:
            # The client asks for its coordinator at once and, while no broker is connected, again after half a second:
            # after three answers one is.
            for _ in range(3):
                with suppress(KafkaException):
                    producer.list_topics(self._topic, timeout=min(_SLICE_S, self._left(deadline)))
            self._again(producer.init_transactions, deadline)
        except KafkaException as e:
            raise Unavailable(f"{self._id}: cannot begin transactions: {e.args[0]}") from e
        if not self._closing.is_set():
            self._producer = producer

    def _records(
        self, reader: LogReader, deadline: float, unreadable: dict[str, str]
    ) -> Iterator[tuple[str, Checkpoint | None]]:
        """Yield the partition to its end; `unreadable` gets those keys whose newest record cannot be read, and why."""
        while True:
            messages, ended = reader.batch(500, _POLL_S)
            for message in messages:
                value = value_bytes(message)
                key = key_text(message)
                if not key.startswith(self._task):
                    continue
                try:
                    record = None if value is None else self._codec.decode(value)
                except Reject as e:
                    unreadable[key] = f"{key}: {e}"
                    continue
                unreadable.pop(key, None)
                if record is None or isinstance(record, Checkpoint):
                    yield key, record
            if ended:
                return
            self._left(deadline)

    # One transaction

    def _item(self, line: int, head: Head, item: str, state: bytes) -> bytes:
        if len(state) > STATE_BYTES_MAX:
            raise InvariantBroken(f"{self._task}: item {item!r} has {len(state)} bytes, at most {STATE_BYTES_MAX}")
        return self._codec.encode(
            Checkpoint(
                task=self._task,
                item=item,
                incarnation=self._incarnation,
                line=line,
                input_offset=head.offset,
                state=state,
            )
        )

    def _head(self, line: int, head: Head) -> Checkpoint:
        reached = head.reached
        last = sorted(reached.last.items()) if reached is not None else []
        return Checkpoint(
            task=self._task,
            is_head=True,
            incarnation=self._incarnation,
            line=line,
            input_offset=head.offset,
            state=b"",
            log_ns=reached.log_ns if reached is not None else 0,
            sources=[SourceEnd(noun=noun, partition=number, offset=offset) for (noun, number), offset in last],
            ts_ns=self._clock.now_ns(),
        )

    def _produce(self, producer: Producer, key: str, value: bytes | None, deadline: float) -> None:
        while True:
            try:
                producer.produce(self._topic, value, key, self._partition)
                return
            except BufferError:
                producer.poll(_POLL_S)
                self._left(deadline)

    def _again(self, call: _Call, deadline: float) -> None:
        """Call until it succeeds: each time for a short while, so that closing is noticed."""
        while True:
            try:
                call(min(_SLICE_S, self._left(deadline)))
                return
            except KafkaException as e:
                if not e.args[0].retriable():
                    raise

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock.monotonic_s()
        if left <= 0:
            raise Unavailable(f"{self._id}: Kafka does not answer in time; is the broker up?")
        if self._closing.is_set():
            raise Unavailable(f"{self._id}: its checkpoints are closed")
        return left

    def _failure(self, producer: Producer, error: KafkaError) -> CrossbookError:
        if error.code() in _FENCED:
            return Fenced(f"{self._id}: {error.str()}")
        if error.txn_requires_abort():
            self._unfinished = producer.abort_transaction
        if error.fatal():
            # A new producer would fence whoever has the task now: only a new assignment may make one.
            return InvariantBroken(f"{self._id}: transactions cannot go on: {error.str()}; restart the worker")
        return Unavailable(f"{self._id}: {error.str()}")


class _Call(Protocol):
    def __call__(self, timeout_s: float, /) -> None: ...


def _head_of(record: Checkpoint) -> Head:
    last = {(source.noun, source.partition): source.offset for source in record.sources}
    return Head(record.input_offset, Reached(record.log_ns, last))
