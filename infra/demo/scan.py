"""Whole topics of a run, read from the first record to what stands at the moment of asking."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # re-exported

from core.domain.errors import Unavailable
from core.runtime.client import kafka_at
from core.runtime.consumer import consumer_config, value_bytes
from core.runtime.offsets import offsets
from core.runtime.topics import Topic
from infra.cli.reach import Reach
from schemas.record import Record

TIMEOUT_S = 20.0
IDLE_S_MAX = 20.0
BATCH = 1_000


class Found(NamedTuple):
    """One record with where it stood."""

    record: Record
    noun: str
    partition: int
    offset: int
    ts_ms: int
    message: Message


def messages(reach: Reach, topics: Iterable[Topic]) -> Iterator[tuple[Topic, Message]]:
    """Yield every message of the topics, in order within a partition.

    Raises:
        Unavailable: Kafka stops answering before the end.
    """
    by_name = {topic.name(reach.run): topic for topic in topics}
    consumer = Consumer(consumer_config(reach.bootstrap, group=f"{reach.run}.scan", joins=False))
    try:
        known = consumer.list_topics(timeout=TIMEOUT_S).topics
        places = [
            TopicPartition(name, number, OFFSET_BEGINNING)
            for name in by_name
            if name in known
            for number in known[name].partitions
        ]
        unread = {(place.topic, place.partition) for place in places}
        consumer.assign(places)
        while unread:
            first = consumer.poll(IDLE_S_MAX)
            if first is None:
                raise Unavailable(f"Kafka at {reach.bootstrap} sent nothing for {IDLE_S_MAX:.0f} s")
            for message in [first, *consumer.consume(BATCH, 0)]:
                error = message.error()
                if error is None:
                    yield by_name[message.topic() or ""], message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard((message.topic() or "", message.partition() or 0))
                elif not error.retriable():
                    raise Unavailable(f"{message.topic()}: {error.str()}")
    finally:
        consumer.close()


def records(reach: Reach, topics: Iterable[Topic]) -> Iterator[Found]:
    """Yield every record of the topics, decoded."""
    decode = reach.codec.decode
    for topic, message in messages(reach, topics):
        value = value_bytes(message)
        if value is not None:
            yield Found(
                decode(value),
                topic.noun,
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message,
            )


def ends(reach: Reach, topics: Iterable[Topic]) -> dict[str, dict[int, int]]:
    """Return the next offset of every partition of the topics, by noun."""
    admin = AdminClient(kafka_at(reach.bootstrap))
    by_name = {topic.name(reach.run): topic for topic in topics}
    known = admin.list_topics(timeout=TIMEOUT_S).topics
    places = [TopicPartition(name, number) for name in by_name if name in known for number in known[name].partitions]
    found: dict[str, dict[int, int]] = {}
    for (name, number), end in offsets(admin, places, OffsetSpec.latest(), TIMEOUT_S).items():  # type: ignore[no-untyped-call]
        found.setdefault(by_name[name].noun, {})[number] = end
    return found


def left(reach: Reach, group: str, topics: Iterable[Topic]) -> int:
    """Return how many records of the topics a group has not committed past; a partition without a commit counts whole."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    chosen = list(topics)
    admin = AdminClient(kafka_at(reach.bootstrap))
    name = f"{reach.run}.{group}"
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(TIMEOUT_S)
    committed = {(p.topic, p.partition): p.offset for p in answer.topic_partitions or [] if p.offset >= 0}
    names = {topic.noun: topic.name(reach.run) for topic in chosen}
    return sum(
        max(end - committed.get((names[noun], number), 0), 0)
        for noun, places in ends(reach, chosen).items()
        for number, end in places.items()
    )
