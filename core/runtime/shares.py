"""Work that is shared by adding replicas: which instruments a worker is to look after, as its group tells it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from core.domain.errors import CrossbookError, Reject
from core.runtime import log as logs
from core.runtime import queues
from core.runtime.codec import Codec, patiently
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.topics import Topic
from schemas.record import Record

log = logs.get()

SHARES_MAX = 16
"""Shares nobody has taken yet; then the oldest is merged into the next."""
_SHARE_QUEUE = "shares"
_BATCH = 500
_POLL_S = 0.1


@dataclass(frozen=True)
class Share:
    """What a worker is to do: the newest record of each key of the partitions it owns.

    `gained` and `lost` are the partitions that changed since the last share; items change without either.
    """

    partitions: frozenset[int]
    items: dict[str, Record]
    gained: frozenset[int]
    lost: frozenset[int]

    def after(self, older: Share) -> Share:
        """Return this share with what changed on the way to `older`: only the newest counts, no change is forgotten."""
        return Share(
            self.partitions,
            self.items,
            (older.gained | self.gained) & self.partitions,
            (older.lost | self.lost) - self.partitions,
        )


class SharedTable:
    """Work shared by adding replicas: members of one group on a compacted topic.

    The partitions a worker owns are its share. Nothing is ever committed; each newly owned partition is read from its
    beginning, and a share is handed over at its first end, and again when it grows, shrinks or changes.
    """

    def __init__(self, *, bootstrap: str, codec: Codec, run: str, topic: Topic, group: str) -> None:
        """Join at once; must be made inside a running loop."""
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Share | CrossbookError | None] = asyncio.Queue(SHARES_MAX)
        queues.watch(_SHARE_QUEUE, self._queue, asyncio.Queue.qsize, SHARES_MAX)
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
                found = newer.after(found) if isinstance(newer, Share) else newer
            if isinstance(found, CrossbookError):
                raise found
            if found is not None:
                yield found

    async def close(self) -> None:
        """Leave the group."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 10.0)
        self._offer(None)

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
            self._bootstrap,
            group=self._group,
            topics=[self._name],
            on_assign=assigned,
            on_revoke=dropped,
            on_lost=dropped,
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
            self._loop.call_soon_threadsafe(self._offer, found)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._stop.set()

    def _offer(self, found: Share | CrossbookError | None) -> None:
        if self._queue.full():
            queues.at_bound(_SHARE_QUEUE, "merged")
            merged = self._queue.get_nowait()
            for newer in [*(self._queue.get_nowait() for _ in range(self._queue.qsize())), found]:
                merged = newer.after(merged) if isinstance(newer, Share) and isinstance(merged, Share) else newer
            found = merged
        self._queue.put_nowait(found)
