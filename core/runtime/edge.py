"""The edge: asyncio around the same producer and consumers, for what talks to the outside world.

What happened outside becomes a record before anybody acts on it: `send_acked` returns once Kafka has the record. Readers
run on threads of their own and hand decoded batches over in order; a slow handler stops the reader (bounded queue).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Message, TopicPartition

from core.domain.errors import CrossbookError, Reject, Unavailable
from core.runtime import log as logs
from core.runtime import queues
from core.runtime.clock import NS_PER_MS, NS_PER_S, Clock, SystemClock
from core.runtime.codec import Codec, patiently
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.flow import BY_KEY, Input
from core.runtime.pressure import Pressure, PressureLimits
from core.runtime.producer import AckingProducer
from core.runtime.topics import Topic
from schemas.record import Record

log = logs.get()

BATCHES_MAX = 64
"""Batches a reader may be ahead of its handler; then it stops polling."""
_READER_QUEUE = "edge reader"
_BATCH = 500
_POLL_S = 0.1

Start = Literal["beginning", "end", "committed"]
Wants = Callable[[str, str], bool]
"""Takes a key and the full name of a record type."""


class Unreadable(NamedTuple):
    """A record that cannot be decoded, as it came.

    Attributes:
        topic: full name.
        kind: full name of its record type, empty if that is not known either.
        error: name of the error.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    kafka_ts_ns: int
    kind: str
    error: str
    reason: str


class EdgeProducer:
    """The asyncio side of one idempotent producer with a poll thread. Never times a record out."""

    def __init__(
        self,
        *,
        bootstrap: str,
        codec: Codec,
        clock: Clock,
        run: str,
        stage: str,
        partitions: int,
        pipelined: bool = False,
    ) -> None:
        """With `pipelined` a record does not wait for the acknowledgement of those before it, and stays behind them."""
        self._loop = asyncio.get_running_loop()
        self._producer = AckingProducer(
            bootstrap=bootstrap,
            codec=codec,
            clock=clock,
            run=run,
            stage=stage,
            partitions=partitions,
            pipelined=pipelined,
        )

    def send(self, topic: Topic, key: str, record: Record | None, partition: int = BY_KEY) -> None:
        """Produce without waiting; None is a tombstone, which takes the key off a compacted topic.

        Raises:
            Retry: the queue is full, or a record was lost.
        """
        self._producer.produce(topic, key, record, partition)

    def stream(self, topic: Topic, key: str, record: Record, partition: int) -> None:
        """Produce without a report: a later `send` to the same partition vouches for it (see `AckingProducer.stream`).

        Raises:
            Retry: the queue is full, or a record was lost.
        """
        self._producer.stream(topic, key, record, partition)

    def send_noting(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> asyncio.Future[int]:
        """Produce and return a future of the offset, so that many can be under way in order."""
        future: asyncio.Future[int] = self._loop.create_future()

        def arrived(offset: int | None, reason: str) -> None:
            self._loop.call_soon_threadsafe(settle, offset, reason)

        def settle(offset: int | None, reason: str) -> None:
            if future.cancelled():
                return
            if offset is None:
                future.set_exception(Unavailable(reason))
            else:
                future.set_result(offset)

        self._producer.produce(topic, key, record, partition, arrived)
        return future

    async def send_acked(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> int:
        """Produce, wait for Kafka's acknowledgement and return the offset it gave."""
        return await self.send_noting(topic, key, record, partition)

    def ack_age_s(self) -> float:
        """Return the age of the oldest unacknowledged record, 0 when none."""
        return self._producer.ack_age_s()

    async def close(self, timeout_s: float = 10.0) -> int:
        """Wait for what is outstanding; return how many records stayed unacknowledged."""
        return await asyncio.to_thread(self._producer.close, timeout_s)


class EdgeReader:
    """A consumer on a thread of its own: decoded batches, in order, to asyncio.

    With `group` it joins (KIP-848) and may commit; with `partitions` it reads those by hand. What cannot be decoded is
    logged and passed over: an edge acts on what it understands, and the record's own consumer dead-letters it. Who is
    that consumer passes `on_unreadable`.
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        codec: Codec,
        run: str,
        topic: Topic,
        group: str,
        joins: bool = False,
        partitions: Sequence[int] | None = None,
        start: Start = "beginning",
        wants: Wants | None = None,
        patience_ms: int = 0,
        limits: PressureLimits | None = None,
        on_unreadable: Callable[[Unreadable], None] | None = None,
    ) -> None:
        """Start reading at once; must be made inside a running loop. `partitions` None with `joins` False: all.

        Args:
            wants: says by key and record type what is decoded and handed over; None: everything.
            patience_ms: how late a record may come, so that fewer requests are made (by hand-assigned readers only).
            limits: lags in time at which it counts as busy and behind, beyond that patience.
            on_unreadable: called in the loop with what cannot be decoded.
        """
        self._on_unreadable = on_unreadable
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Input] | CrossbookError] = asyncio.Queue(BATCHES_MAX)
        queues.watch(_READER_QUEUE, self._queue, asyncio.Queue.qsize, BATCHES_MAX)
        self._clock: Clock = SystemClock()
        self._waiting_ns: deque[int] = deque()
        """Kafka time of the first record of each batch handed over and not done with."""
        self._pressure = Pressure(
            stage=stage_of(group),
            reader=topic.noun,
            partition="all",
            limits=(limits or PressureLimits()).patient(patience_ms / 1000),
            name=f"{group} of {topic.noun}",
            advice="the handler is slower than its log: add replicas, or give it a core of its own",
        )
        self.caught_up = asyncio.Event()
        self._bootstrap = bootstrap
        self._codec = codec
        self._topic = topic
        self._name = topic.name(run)
        self._group = group
        self._joins = joins
        self._numbers = partitions
        self._start: Start = start
        self._wants = wants
        self._patience_ms = patience_ms
        self._unread: set[int] | None = None
        self._stop = threading.Event()
        self._commits: dict[int, int] = {}
        self._commit_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"reader-{topic.noun}", daemon=True)
        self._thread.start()

    @property
    def pressure(self) -> Pressure:
        """How far its handler is behind; calm until the log was read to its end for the first time."""
        return self._pressure

    @property
    def is_idle(self) -> bool:
        """Whether its handler is done with everything that was handed over."""
        return not self._waiting_ns

    async def batches(self) -> AsyncIterator[list[Input]]:
        """Yield batches until closed.

        Raises:
            CrossbookError: the reader failed.
        """
        while not self._stop.is_set():
            found = await self._queue.get()
            if isinstance(found, CrossbookError):
                raise found
            if found:
                yield found
                if self._waiting_ns:
                    self._waiting_ns.popleft()

    def commit(self, item: Input) -> None:
        """Note that everything up to and with `item` is done; committed with the next poll."""
        with self._commit_lock:
            self._commits[item.partition] = max(self._commits.get(item.partition, 0), item.offset + 1)

    async def close(self) -> None:
        """Stop the thread, leave the group."""
        self._stop.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        await asyncio.to_thread(self._thread.join, 10.0)
        self._queue.put_nowait([])
        self._pressure.close()

    def _run(self) -> None:
        try:
            reader = self._open()
            try:
                while not self._stop.is_set():
                    self._turn(reader)
                self._flush_commits(reader, wait=True)
            finally:
                reader.close()
        except CrossbookError as e:
            self._hand_over(e)

    def _turn(self, reader: LogReader) -> None:
        messages, ended = reader.batch(_BATCH, _POLL_S)
        items = []
        for message in messages:
            value = value_bytes(message)
            if value is None:
                continue
            key = key_text(message)
            try:
                if self._wants is not None and not self._wants(
                    key, patiently(self._codec.record_name, value, self._stop.is_set)
                ):
                    continue
                record = patiently(self._codec.decode, value, self._stop.is_set)
            except Reject as e:
                self._pass_over(message, key, value, e)
                continue
            items.append(Input(record, self._topic.noun, message.partition() or 0, message.offset() or 0, key))
        if items:
            self._waiting_ns.append(messages[0].timestamp()[1] * NS_PER_MS)
            self._hand_over(items)
        self._judge_pressure()
        if ended and self._unread is not None:
            self._unread -= {place.partition for place in ended}
            if not self._unread:
                self._loop.call_soon_threadsafe(self.caught_up.set)
        self._flush_commits(reader)

    def _pass_over(self, message: Message, key: str, value: bytes, error: Reject) -> None:
        log.warning("edge.undecodable", topic=self._name, offset=message.offset(), reason=str(error))
        if self._on_unreadable is None:
            return
        try:
            kind = patiently(self._codec.record_name, value, self._stop.is_set)
        except Reject:
            kind = ""
        found = Unreadable(
            topic=self._name,
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            key=key.encode(),
            value=value,
            kafka_ts_ns=message.timestamp()[1] * NS_PER_MS,
            kind=kind,
            error=type(error).__name__,
            reason=str(error),
        )
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._on_unreadable, found)

    def _hand_over(self, found: list[Input] | CrossbookError) -> None:
        # Blocks this thread while the handler is BATCHES_MAX behind: back-pressure reaches the broker.
        try:
            future = asyncio.run_coroutine_threadsafe(self._queue.put(found), self._loop)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._stop.set()
            return
        while not self._stop.is_set():
            try:
                future.result(0.2)
                return
            except TimeoutError:
                if self._queue.full():
                    queues.at_bound(_READER_QUEUE, "stopped polling")
                self._judge_pressure()

    def _judge_pressure(self) -> None:
        """Take in how old what the handler has in hand is; while a log is being read for the first time, nothing."""
        if not self.caught_up.is_set():
            return
        try:
            oldest_ns = self._waiting_ns[0]
        except IndexError:
            oldest_ns = 0
        lag_s = (self._clock.now_ns() - oldest_ns) / NS_PER_S if oldest_ns else 0.0
        self._pressure.observe(lag_s, self._clock.monotonic_s())

    def _flush_commits(self, reader: LogReader, *, wait: bool = False) -> None:
        with self._commit_lock:
            due, self._commits = self._commits, {}
        if due:
            refused = reader.commit([TopicPartition(self._name, p, o) for p, o in due.items()], wait=wait)
            if refused:
                log.warning("commit.refused", topic=self._name, reason=refused)

    def _open(self) -> LogReader:
        if self._joins:
            reader: LogReader

            def assigned(partitions: list[TopicPartition]) -> None:
                self._unread = (self._unread or set()) | {p.partition for p in partitions}
                reader.take(self._places(reader, [p.partition for p in partitions]))

            def dropped(partitions: list[TopicPartition]) -> None:
                if self._unread:
                    self._unread -= {p.partition for p in partitions}
                reader.give_up(partitions)

            reader = LogReader.joining(
                self._bootstrap,
                group=self._group,
                topics=[self._name],
                on_assign=assigned,
                on_revoke=dropped,
                on_lost=dropped,
            )
            reader.partition_count(self._name)
            return reader
        reader = LogReader.assigned(self._bootstrap, group=self._group, positions=[], patience_ms=self._patience_ms)
        numbers = list(self._numbers) if self._numbers is not None else list(range(reader.partition_count(self._name)))
        self._unread = set(numbers)
        reader.take(self._places(reader, numbers))
        return reader

    def _places(self, reader: LogReader, numbers: list[int]) -> list[TopicPartition]:
        if self._start == "committed":
            found = reader.committed([TopicPartition(self._name, number) for number in numbers])
            return [
                TopicPartition(self._name, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in found
            ]
        offset = OFFSET_BEGINNING if self._start == "beginning" else OFFSET_END
        return [TopicPartition(self._name, number, offset) for number in numbers]


def stage_of(group: str) -> str:
    """Return the stage in a group's name, `<run>.<stage>.<log>`."""
    return group.split(".")[1] if "." in group else group
