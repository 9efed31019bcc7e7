"""A reader beside the flow that goes on whatever becomes of the servers: for those who look at a run and judge it."""

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from core.domain.errors import CrossbookError, Reject
from core.runtime.consumer import LogReader, value_bytes
from infra.cli.reach import Reach
from schemas.record import Record

BATCH = 500
POLL_S = 0.1
PAUSE_S = 0.5
"""Before a server that did not answer is asked again."""


class Tail:
    """A thread that reads topics from their beginning, joins no group and commits nothing."""

    def __init__(
        self,
        reach: Reach,
        *,
        name: str,
        topics: Sequence[str],
        take: Callable[[Record, int], None],
        wanted: Callable[[str, bool], bool],
        patience_ms: int = 0,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            name: of the thread and of the client.
            topics: their names on Kafka.
            take: is given each record and its partition.
            wanted: says of the name of a record's schema, and whether a whole batch came, if it is decoded at all.
            patience_ms: see `consumer_config`.
        """
        self._reach = reach
        self._name = name
        self._topics = list(topics)
        self._take = take
        self._wanted = wanted
        self._patience_ms = patience_ms
        self._next: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._read()
            except CrossbookError as e:
                # A broker or the registry is away, or the client has gone deaf: a new one goes on where this one was.
                if str(e) != told:
                    print(f"{self._name} begins again: {e}", flush=True)
                told = str(e)
                self._stop.wait(PAUSE_S)

    def _read(self) -> None:
        reader = LogReader.assigned(
            self._reach.bootstrap,
            group=f"{self._reach.run}.{self._name}",
            positions=[],
            patience_ms=self._patience_ms,
            ends=False,
        )
        try:
            reader.take(
                [
                    TopicPartition(topic, number, self._next.get((topic, number), OFFSET_BEGINNING))
                    for topic in self._topics
                    for number in range(reader.partition_count(topic))
                ]
            )
            while not self._stop.is_set():
                messages, _ = reader.batch(BATCH, POLL_S)
                for message in messages:
                    self._look(message, behind=len(messages) == BATCH)
                    self._next[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        finally:
            reader.close()

    def _look(self, message: Message, *, behind: bool) -> None:
        value = value_bytes(message)
        if value is None:
            return
        try:
            if self._wanted(self._reach.codec.record_name(value), behind):
                self._take(self._reach.codec.decode(value), message.partition() or 0)
        except Reject:
            return  # whose log it is, dead-letters it
