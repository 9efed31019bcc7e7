"""Making a run: its topics, its incarnation, and the schemas in the registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined] # re-exported from C

from core.domain.errors import Misconfigured, Unavailable
from core.runtime.client import kafka_at
from core.runtime.clock import Clock, SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import Output
from core.runtime.offsets import offsets
from core.runtime.producer import Publisher
from core.runtime.topics import CONTROL_RUN, TOPICS, Topic
from schemas.control import Run
from schemas.record import schema_texts

COMPATIBILITY = "FULL_TRANSITIVE"
LIVE_REPLICAS_MIN = 3
_TIMEOUT_S = 20.0
_BROKER_TIMEOUT_S = 5.0
_METADATA_PAUSE_S = 0.05
_INCARNATION_BITS = 48


def register_schemas(registry_url: str) -> int:
    """Register every schema under its own name (RecordNameStrategy) and return how many there are.

    Raises:
        Misconfigured: the registry refuses one as incompatible.
        Unavailable: the registry does not answer.
    """
    registry = HttpRegistry(registry_url)
    for subject, text in schema_texts().items():
        registry.register(subject, text)
        registry.set_compatibility(subject, COMPATIBILITY)
    return len(schema_texts())


def ensure_topics(bootstrap: str, run: str, partitions: int, replication: int = 0) -> int:
    """Create what is missing of a run's topics; return how many were created.

    Args:
        bootstrap: Kafka.
        run: whose topics.
        partitions: of the hot ones.
        replication: how many brokers hold a record; 0 takes the brokers' own default.

    Raises:
        Misconfigured: a topic exists with another partition count (it never changes within a run).
        Unavailable: Kafka does not answer.
    """
    admin = AdminClient(kafka_at(bootstrap))
    existing = _topics_of(admin, run)
    wanted = {topic.name(run): topic for topic in TOPICS}
    for name, topic in wanted.items():
        count = partitions if topic.partitions == "hot" else 1
        if name in existing and existing[name] != count:
            raise Misconfigured(f"{name} has {existing[name]} partitions, the settings say {count}: use a new run")
    replication = replication or default_replication(admin)
    missing = [
        _new_topic(name, topic, partitions, replication) for name, topic in wanted.items() if name not in existing
    ]
    if missing:
        for name, future in admin.create_topics(missing, operation_timeout=_TIMEOUT_S).items():
            try:
                future.result(_TIMEOUT_S)
            except KafkaException as e:
                if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise Unavailable(f"topic {name} cannot be created: {e}") from e
        _wait_until(admin, run, lambda there: wanted.keys() <= there, "topics are created but not visible")
    return len(missing)


def default_replication(admin: AdminClient) -> int:
    """Return how many brokers hold a record of a topic that says nothing about it: 3 on the stack of three brokers.

    Raises:
        Unavailable: no broker says so.
    """
    try:
        brokers = admin.list_topics(timeout=_TIMEOUT_S).brokers
    except KafkaException as e:
        raise Unavailable(f"Kafka does not answer ({e}): is the stack up? `make dev-stack`") from e
    for number in brokers:
        asked = ConfigResource(ConfigResource.Type.BROKER, str(number))
        try:
            found = admin.describe_configs([asked], request_timeout=_BROKER_TIMEOUT_S)[asked].result(_TIMEOUT_S)
            return int(found["default.replication.factor"].value)
        except KafkaException:
            continue  # one that just died stays listed for two seconds
    raise Unavailable("no broker says what its default.replication.factor is; are they up?")


def delete_run(bootstrap: str, run: str) -> int:
    """Delete a run's topics and consumer groups; return how many topics. Never for `live`.

    Raises:
        Misconfigured: the run is live.
    """
    if run == "live":
        raise Misconfigured("the run live is never deleted by a program; delete its topics by hand if you mean it")
    admin = AdminClient(kafka_at(bootstrap))
    names = [name for name in _topics_of(admin, run) if name in {topic.name(run) for topic in TOPICS}]
    groups = [
        group.group_id
        for group in admin.list_consumer_groups(request_timeout=_TIMEOUT_S).result(_TIMEOUT_S).valid
        if group.group_id.startswith(f"{run}.")
    ]
    _settle(admin.delete_consumer_groups(groups, request_timeout=_TIMEOUT_S) if groups else {})
    _settle(admin.delete_topics(names, operation_timeout=_TIMEOUT_S) if names else {})
    _wait_until(admin, run, lambda there: not there & set(names), "topics are deleted but still visible")
    return len(names)


def create_run(
    *,
    bootstrap: str,
    registry_url: str,
    run: str,
    partitions: int,
    replication: int = 0,
    source: str = "",
    clock: Clock | None = None,
) -> Run:
    """Create a run (topics and a fresh incarnation) or return the one that exists.

    Raises:
        Misconfigured: `live` with fewer than three replicas; another partition count.
        Unavailable: Kafka or the registry does not answer.
    """
    clock = clock or SystemClock()
    ensure_topics(bootstrap, run, partitions, replication)
    codec = Codec(HttpRegistry(registry_url))
    known = find_run(bootstrap, codec, run, clock)
    if known is not None:
        return known
    # 48 bits stay exact in every tool that reads JSON numbers as doubles.
    made = Run(
        run=run,
        incarnation=clock.random_bits(_INCARNATION_BITS),
        created_ts_ns=clock.now_ns(),
        partitions=partitions,
        source=source,
    )
    publisher = Publisher(
        bootstrap=bootstrap, codec=codec, clock=clock, run=run, stage="control", partitions=partitions
    )
    publisher.publish(Output(CONTROL_RUN, run, made))
    if not publisher.wait_acknowledged(_TIMEOUT_S):
        raise Unavailable(f"Kafka at {bootstrap} did not acknowledge the run record of {run}")
    return made


def find_run(bootstrap: str, codec: Codec, run: str, clock: Clock, timeout_s: float = _TIMEOUT_S) -> Run | None:
    """Return the run's record, None if it has none yet.

    Raises:
        Misconfigured: the run has no topics.
        Unavailable: Kafka does not answer.
    """
    name = CONTROL_RUN.name(run)
    reader = LogReader.assigned(bootstrap, group=f"{run}.control", positions=[])
    try:
        reader.partition_count(name, timeout_s)
        reader.take(from_beginning(name, 1))
        deadline = clock.monotonic_s() + timeout_s
        found = None
        while clock.monotonic_s() < deadline:
            messages, ended = reader.batch(10, 0.1)
            for message in messages:
                value = value_bytes(message)
                record = codec.decode(value) if value else None
                if isinstance(record, Run):
                    found = record
            if ended:
                return found
        raise Unavailable(f"{name} cannot be read within {timeout_s} s")
    finally:
        reader.close()


def group_lag(bootstrap: str, run: str) -> dict[str, dict[str, int]]:
    """Return records not yet committed past, by consumer group and topic of a run."""
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # re-exported

    admin = AdminClient(kafka_at(bootstrap))
    groups = [
        group.group_id
        for group in admin.list_consumer_groups(request_timeout=_TIMEOUT_S).result(_TIMEOUT_S).valid
        if group.group_id.startswith(f"{run}.")
    ]
    lags: dict[str, dict[str, int]] = {}
    for group in groups:
        places = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(_TIMEOUT_S)
        committed = [p for p in places.topic_partitions or [] if p.offset >= 0]
        if not committed:
            continue
        asked = [TopicPartition(p.topic, p.partition) for p in committed]
        ends = offsets(admin, asked, OffsetSpec.latest(), _TIMEOUT_S)  # type: ignore[no-untyped-call] # untyped in the client
        for place in committed:
            lag = max(ends[place.topic, place.partition] - place.offset, 0)
            by_topic = lags.setdefault(group, {})
            by_topic[place.topic] = by_topic.get(place.topic, 0) + lag
    return lags


def _wait_until(admin: AdminClient, run: str, holds: Callable[[Set[str]], bool], complaint: str) -> None:
    """Return once metadata shows what was done: the broker answers before every part of it knows."""
    for _ in range(int(_TIMEOUT_S / _METADATA_PAUSE_S)):
        if holds(_topics_of(admin, run).keys()):
            return
        time.sleep(_METADATA_PAUSE_S)
    raise Unavailable(f"run {run}: {complaint} after {_TIMEOUT_S} s")


def _topics_of(admin: AdminClient, run: str) -> dict[str, int]:
    try:
        found = admin.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as e:
        raise Unavailable(f"Kafka does not answer ({e}): is the stack up? `make dev-stack`") from e
    return {name: len(meta.partitions) for name, meta in found.items() if name.startswith(f"{run}.")}


def _new_topic(name: str, topic: Topic, partitions: int, replication: int) -> NewTopic:
    if name.startswith("live.") and topic.layer in ("decision", "order") and replication < LIVE_REPLICAS_MIN:
        raise Misconfigured(f"{name} needs {LIVE_REPLICAS_MIN} replicas, the settings say {replication}")
    config = {"cleanup.policy": topic.cleanup, "retention.ms": str(topic.retention_ms)}
    if topic.cleanup == "compact":
        config |= {"retention.ms": "-1", "segment.ms": "600000", "min.cleanable.dirty.ratio": "0.2"}
    config |= topic.config
    if replication > 1:
        config["min.insync.replicas"] = str(replication - 1)
    return NewTopic(
        name,
        num_partitions=partitions if topic.partitions == "hot" else 1,
        replication_factor=replication,
        config=config,
    )


def _settle(futures: Mapping[str, Future[Any]]) -> None:
    for future in futures.values():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as e:
            if e.args[0].code() not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise Unavailable(str(e)) from e
