"""Consumers: how a log is read.

A group reads one topic under KIP-848 (`group.protocol=consumer`). Batches come as one blocking `poll` and what else is
there at once: `consume(n, timeout)` with n > 1 would wait the timeout out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from core.domain.errors import Misconfigured, Unavailable
from core.runtime import offsets
from core.runtime.client import kafka_at
from core.runtime.hearing import Hearing

SEQ_HEADER = "seq"
_FATAL = (KafkaError._FATAL, KafkaError._FENCED)
_TRIMMED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


PATIENT_BYTES = 1_048_576
"""A patient consumer is answered before its time when so much waits."""

LARGE_BYTES = 8_388_608

EDGES_TIMEOUT_S = 10.0


def consumer_config(
    bootstrap: str, *, group: str, joins: bool, reset: str = "earliest", patience_ms: int = 0, ends: bool = True
) -> dict[str, object]:
    """Return the settings of every consumer; `joins` asks for membership (KIP-848), else partitions are assigned.

    With `patience_ms` the broker answers that seldom instead of at every record: for readers beside the flow, whose
    requests would take processor time from those within it. Without `ends` nothing is said when a partition is read to
    its end, which under light load would be after every record.
    """
    config: dict[str, object] = {
        **kafka_at(bootstrap),
        "group.id": group,
        "client.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": reset,
        "enable.partition.eof": ends,
        "fetch.queue.backoff.ms": 5,
        "fetch.error.backoff.ms": 50,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 32_768,
        "reconnect.backoff.max.ms": 1_000,
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
    }
    if joins:
        config["group.protocol"] = "consumer"
    if patience_ms:
        config["fetch.min.bytes"] = PATIENT_BYTES
        config["fetch.wait.max.ms"] = patience_ms
    return config


class LogReader:
    """One consumer: membership of a group on one topic, or partitions assigned by hand. Not for sharing over threads."""

    def __init__(self, consumer: Consumer, on_trimmed: Callable[[TopicPartition], None] | None = None) -> None:
        self._consumer = consumer
        self._on_trimmed = on_trimmed
        self._hearing = Hearing(consumer)

    @classmethod
    def joining(
        cls,
        bootstrap: str,
        *,
        group: str,
        topics: Sequence[str],
        on_assign: Callable[[list[TopicPartition]], None],
        on_revoke: Callable[[list[TopicPartition]], None],
        on_lost: Callable[[list[TopicPartition]], None],
        on_uncommitted: Callable[[list[TopicPartition], str], None] | None = None,
        reset: str = "earliest",
        patience_ms: int = 0,
        ends: bool = True,
    ) -> LogReader:
        """Join `group` on `topics`. The callbacks run inside `batch`; `on_assign` must call `take`.

        One topic for whoever remembers: equal partitions of several would not stay together.

        `on_uncommitted` is told of the offsets of a `commit` that Kafka did not take, and why.
        """

        def committed(error: KafkaError | None, partitions: list[TopicPartition]) -> None:
            failed = partitions if error is not None else [place for place in partitions if place.error is not None]
            if failed and on_uncommitted is not None:
                on_uncommitted(failed, str(error or failed[0].error))

        config = consumer_config(bootstrap, group=group, joins=True, reset=reset, patience_ms=patience_ms, ends=ends)
        reader = cls(Consumer(config | {"on_commit": committed}))
        reader._consumer.subscribe(
            list(topics),
            on_assign=lambda _, partitions: on_assign(partitions),
            on_revoke=lambda _, partitions: on_revoke(partitions),
            on_lost=lambda _, partitions: on_lost(partitions),
        )
        return reader

    @classmethod
    def assigned(
        cls,
        bootstrap: str,
        *,
        group: str,
        positions: Sequence[TopicPartition],
        reset: str = "earliest",
        patience_ms: int = 0,
        ends: bool = True,
        on_trimmed: Callable[[TopicPartition], None] | None = None,
        large: bool = False,
    ) -> LogReader:
        """Read `positions` by hand, without membership; `group` names it for committed offsets only.

        `large` fetches in big pieces, for a topic that is read to its end at once.

        With `reset` "error", `on_trimmed` is called inside `batch` for a partition that no longer holds the offset it
        was to be read at, and may `move` it; without it such a partition ends the reading.
        """
        config = consumer_config(bootstrap, group=group, joins=False, reset=reset, patience_ms=patience_ms, ends=ends)
        if large:
            # Its other questions wait behind a fetch, and its end is said after one that brought nothing.
            config |= {"fetch.message.max.bytes": LARGE_BYTES, "fetch.wait.max.ms": 10}
        reader = cls(Consumer(config), on_trimmed)
        if positions:
            reader.take(list(positions))
        return reader

    def take(self, positions: list[TopicPartition]) -> None:
        """Accept newly assigned partitions at these offsets."""
        self._consumer.incremental_assign(positions)
        self._hearing.begin(positions)

    def give_up(self, partitions: list[TopicPartition]) -> None:
        """Let revoked partitions go."""
        self._consumer.incremental_unassign(partitions)
        self._hearing.end(partitions)

    def move(self, position: TopicPartition) -> None:
        """Go on reading one partition elsewhere."""
        self._consumer.incremental_unassign([TopicPartition(position.topic, position.partition)])
        self._consumer.incremental_assign([position])
        self._hearing.begin([position])

    def batch(self, records_max: int, timeout_s: float) -> tuple[list[Message], list[TopicPartition]]:
        """Return what is there (waiting up to `timeout_s` for the first) and the partitions read to their end.

        Raises:
            Misconfigured: the topic or group is not usable as it stands.
            Unavailable: the client has failed, or hears a partition no more; a new one may read on.
        """
        self._hearing.look()
        first = self._consumer.poll(timeout_s)
        if first is None:
            return [], []
        messages = [first]
        if records_max > 1:
            messages += self._consumer.consume(records_max - 1, 0)
        good = []
        ended = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.append(TopicPartition(message.topic() or "", message.partition() or 0, message.offset() or 0))
            elif error.code() in _TRIMMED and self._on_trimmed is not None:
                self._on_trimmed(TopicPartition(message.topic() or "", message.partition() or 0))
            else:
                _judge(error)
        return good, ended

    def committed(self, partitions: list[TopicPartition], timeout_s: float = 10.0) -> list[TopicPartition]:
        """Return the group's committed offsets (negative where there is none)."""
        try:
            return list(self._consumer.committed(partitions, timeout_s))
        except KafkaException as e:
            raise Unavailable(f"committed offsets cannot be read: {e}") from e

    def commit(self, offsets: list[TopicPartition], *, wait: bool = False) -> str:
        """Commit; returns the reason when Kafka refuses (a newer owner has the partition), else an empty text.

        Without `wait` what Kafka says is known later: `on_uncommitted`.
        """
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as e:
            return str(e)
        return ""

    def edges(self, partition: TopicPartition, *, cached: bool = False) -> tuple[int, int]:
        """Return (first offset, next offset to be written) of a partition; `cached` as this consumer last heard of them.

        Raises:
            Unavailable: nobody says so within `EDGES_TIMEOUT_S`.
        """
        try:
            if cached:
                low, high = self._consumer.get_watermark_offsets(partition, cached=True)
                return int(low), int(high)
            return offsets.edges(self._consumer, partition, EDGES_TIMEOUT_S)
        except KafkaException as e:
            raise Unavailable(f"{partition.topic} [{partition.partition}]: offsets cannot be read: {e}") from e

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Fetch nothing from these until `resume`."""
        self._consumer.pause(partitions)
        self._hearing.pause(partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Fetch from these again."""
        self._consumer.resume(partitions)
        self._hearing.resume(partitions)

    def seek(self, place: TopicPartition) -> bool:
        """Go on reading at another offset; False while fetching has not begun: ask again."""
        try:
            self._consumer.seek(place)
        except KafkaException as e:
            if e.args[0].code() == KafkaError._STATE:
                return False
            raise Unavailable(f"{place.topic} [{place.partition}]: cannot seek {place.offset}: {e}") from e
        return True

    def partition_count(self, topic: str, timeout_s: float = 10.0) -> int:
        """Return how many partitions a topic has.

        Raises:
            Misconfigured: there is no such topic.
            Unavailable: Kafka does not answer.
        """
        try:
            found = self._consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        except KafkaException as e:
            raise Unavailable(f"Kafka does not answer: {e}") from e
        if found.error is not None or not found.partitions:
            raise Misconfigured(f"topic {topic} does not exist: run `make dev-stack` (it creates the topics of a run)")
        return len(found.partitions)

    def close(self) -> None:
        """Leave the group and close."""
        self._consumer.close()


def from_beginning(topic: str, partitions: int) -> list[TopicPartition]:
    """Return all partitions of a topic at their beginning."""
    return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)]


def key_text(message: Message) -> str:
    """Return a message's key as text."""
    key = message.key()
    if key is None:
        return ""
    return key if isinstance(key, str) else key.decode(errors="replace")


def value_bytes(message: Message) -> bytes | None:
    """Return a message's value, None for a tombstone."""
    value = message.value()
    return value.encode() if isinstance(value, str) else value


def _judge(error: KafkaError) -> None:
    code = error.code()
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        raise Misconfigured(f"{error.str()}: run `make dev-stack` (it creates the topics of a run)")
    if code in _TRIMMED:
        raise Misconfigured(f"a log that must be whole is not: {error.str()}")
    if code in _FATAL or error.fatal():
        raise Unavailable(f"Kafka consumer failed: {error.str()}")
    # Anything else (a broker down, a coordinator moving) librdkafka retries by itself, with backoff.
