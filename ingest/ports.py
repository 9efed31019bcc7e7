"""What ingest asks of the Kafka edge and of the wire, as small protocols; an in-memory log satisfies them in tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from core.runtime.flow import BY_KEY, Input
from core.runtime.topics import Topic
from schemas.record import Record


class Producer(Protocol):
    """An idempotent producer that keeps order within a partition and never times a record out."""

    def send(self, topic: Topic, key: str, record: Record | None, partition: int = BY_KEY) -> None:
        """Queue one record; None is a tombstone.

        Raises:
            Retry: the queue is full; nothing was queued.
        """
        ...

    def stream(self, topic: Topic, key: str, record: Record, partition: int) -> None:
        """Queue one record that the next `send` to its partition vouches for: cheap, for frames.

        Raises:
            Retry: the queue is full; nothing was queued.
        """
        ...

    async def send_acked(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> int:
        """Write one record and return the offset Kafka gave it."""
        ...

    def ack_age_s(self) -> float:
        """Return the age of the oldest record that is not acknowledged, 0 when none."""
        ...


class Reader(Protocol):
    """Reads a topic without a group, in order."""

    caught_up: asyncio.Event

    def batches(self) -> AsyncIterator[list[Input]]:
        """Yield what comes, for ever."""
        ...


class Share(Protocol):
    """What this worker is to feed: the partitions it has, each read to its end, and what stands in them by key."""

    @property
    def partitions(self) -> frozenset[int]:
        """Partitions of `raw.instrument-<venue>`."""
        ...

    @property
    def items(self) -> Mapping[str, Record]:
        """The newest record of each key."""
        ...


class Table(Protocol):
    """A compacted topic whose partitions are shared out among the workers of a group."""

    def shares(self) -> AsyncIterator[Share]:
        """Yield the present share, again whenever it changes."""
        ...

    async def close(self) -> None:
        """Leave the group, so that others take the share over."""
        ...


class Wire(Protocol):
    """An open socket, as a feed sees it. Nothing here waits."""

    def send(self, payload: bytes) -> None:
        """Send one text message."""
        ...

    def ping(self) -> None:
        """Send a protocol ping."""
        ...

    def pause(self) -> None:
        """Stop reading and call the feed's `flush` until it says that reading may go on."""
        ...

    def unread(self) -> int:
        """Return how many bytes have arrived that were not read yet."""
        ...

    def close(self) -> None:
        """Close; nothing is handed on after this."""
        ...
