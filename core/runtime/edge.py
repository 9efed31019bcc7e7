"""The edge: asyncio around the same producer and consumers, for what talks to the outside world.

What happened outside becomes a record before anybody acts on it: `send_acked` returns once Kafka has the record. Readers
run on threads of their own and hand decoded batches over in order; a slow handler stops the reader (bounded queue).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition

from core.domain.errors import CrossbookError, Reject, Unavailable
from core.runtime import log as logs
from core.runtime.clock import Clock
from core.runtime.codec import Codec, patiently
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.flow import BY_KEY, Input
from core.runtime.producer import AckingProducer
from core.runtime.topics import Topic
from schemas.record import Record

log = logs.get()

BATCHES_MAX = 64
"""Batches a reader may be ahead of its handler; then it stops polling."""
_BATCH = 500
_POLL_S = 0.1

Start = Literal["beginning", "end", "committed"]
Wants = Callable[[str, str], bool]
"""Takes a key and the full name of a record type."""


class EdgeProducer:
    """The asyncio side of one idempotent producer with a poll thread. Never times a record out."""

    def __init__(self, *, bootstrap: str, codec: Codec, clock: Clock, run: str, stage: str, partitions: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = AckingProducer(
            bootstrap=bootstrap, codec=codec, clock=clock, run=run, stage=stage, partitions=partitions
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
    logged and passed over: an edge acts on what it understands, and the record's own consumer dead-letters it.
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
    ) -> None:
        """Start reading at once; must be made inside a running loop. `partitions` None with `joins` False: all.

        Args:
            wants: says by key and record type what is decoded and handed over; None: everything.
            patience_ms: how late a record may come, so that fewer requests are made (by hand-assigned readers only).
        """
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Input] | CrossbookError] = asyncio.Queue(BATCHES_MAX)
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
                log.warning("edge.undecodable", topic=self._name, offset=message.offset(), reason=str(e))
                continue
            items.append(Input(record, self._topic.noun, message.partition() or 0, message.offset() or 0, key))
        if items:
            self._hand_over(items)
        if ended and self._unread is not None:
            self._unread -= {place.partition for place in ended}
            if not self._unread:
                self._loop.call_soon_threadsafe(self.caught_up.set)
        self._flush_commits(reader)

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
                continue

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
                topic=self._name,
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


@dataclass(frozen=True)
class Share:
    """What a worker is to do: the newest record of each key of the partitions it owns.

    `gained` and `lost` are the partitions that changed since the last share; items change without either.
    """

    partitions: frozenset[int]
    items: dict[str, Record]
    gained: frozenset[int]
    lost: frozenset[int]


class SharedTable:
    """Work shared by adding replicas: members of one group on a compacted topic.

    The partitions a worker owns are its share. Nothing is ever committed; each newly owned partition is read from its
    beginning, and a share is handed over at its first end, and again when it grows, shrinks or changes.
    """

    def __init__(self, *, bootstrap: str, codec: Codec, run: str, topic: Topic, group: str) -> None:
        """Join at once; must be made inside a running loop."""
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Share | CrossbookError | None] = asyncio.Queue()
        self._bootstrap = bootstrap
        self._codec = codec
        self._name = topic.name(run)
        self._group = group
        self._items: dict[int, dict[str, Record]] = {}
        self._unread: set[int] = set()
        self._gained: set[int] = set()
        self._lost: set[int] = set()
        self._changed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"share-{topic.noun}", daemon=True)
        self._thread.start()

    async def shares(self) -> AsyncIterator[Share]:
        """Yield a share whenever it changed and no owned partition is unread.

        Raises:
            CrossbookError: the reader failed.
        """
        while not self._stop.is_set():
            found = await self._queue.get()
            while not self._queue.empty() and isinstance(found, Share):
                newer = self._queue.get_nowait()
                if isinstance(newer, Share):
                    # Only the newest share counts, but what changed on the way must not be forgotten.
                    newer = Share(
                        newer.partitions,
                        newer.items,
                        (found.gained | newer.gained) & newer.partitions,
                        (found.lost | newer.lost) - newer.partitions,
                    )
                found = newer
            if isinstance(found, CrossbookError):
                raise found
            if found is not None:
                yield found

    async def close(self) -> None:
        """Leave the group."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 10.0)
        self._queue.put_nowait(None)

    def _run(self) -> None:
        try:
            reader = self._open()
            try:
                while not self._stop.is_set():
                    self._turn(reader)
            finally:
                reader.close()
        except CrossbookError as e:
            self._tell(e)

    def _open(self) -> LogReader:
        reader: LogReader

        def assigned(partitions: list[TopicPartition]) -> None:
            numbers = {p.partition for p in partitions}
            self._unread |= numbers
            self._gained |= numbers
            self._lost -= numbers
            for number in numbers:
                self._items[number] = {}
            reader.take([TopicPartition(self._name, number, OFFSET_BEGINNING) for number in numbers])

        def dropped(partitions: list[TopicPartition]) -> None:
            numbers = {p.partition for p in partitions}
            self._unread -= numbers
            self._gained -= numbers
            self._lost |= numbers
            for number in numbers:
                self._items.pop(number, None)
            self._changed = True
            reader.give_up(partitions)

        reader = LogReader.joining(
            self._bootstrap, group=self._group, topic=self._name, on_assign=assigned, on_revoke=dropped, on_lost=dropped
        )
        reader.partition_count(self._name)
        return reader

    def _turn(self, reader: LogReader) -> None:
        messages, ended = reader.batch(_BATCH, _POLL_S)
        for message in messages:
            items = self._items.get(message.partition() or 0)
            if items is None:
                continue
            value = value_bytes(message)
            self._changed = True
            if value is None:
                items.pop(key_text(message), None)
                continue
            try:
                items[key_text(message)] = patiently(self._codec.decode, value, self._stop.is_set)
            except Reject as e:
                log.warning("share.undecodable", topic=self._name, offset=message.offset(), reason=str(e))
        for place in ended:
            # An end fires again on kept partitions; only the first one after an assignment is news.
            if place.partition in self._unread:
                self._unread.discard(place.partition)
                self._changed = True
        if self._changed and not self._unread and not messages:
            self._changed = False
            merged = {key: record for items in self._items.values() for key, record in items.items()}
            self._tell(Share(frozenset(self._items), merged, frozenset(self._gained), frozenset(self._lost)))
            self._gained.clear()
            self._lost.clear()

    def _tell(self, found: Share | CrossbookError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, found)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._stop.set()
