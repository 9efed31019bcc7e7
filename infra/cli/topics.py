"""`crossbook topics`: what stands on each topic of a run and how much of it."""

from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined] # re-exported
from rich.console import Console
from rich.table import Table

from core.domain.errors import Misconfigured, Unavailable
from core.runtime.client import kafka_at
from core.runtime.offsets import offsets
from core.runtime.topics import TOPICS, Topic
from infra.cli.reach import Reach

TIMEOUT_S = 10.0
DAY_MS = 86_400_000


class Extent(NamedTuple):
    """One partition: first offset, next offset, bytes on disk (None: the broker's folder is not ours)."""

    partition: int
    low: int
    high: int
    bytes: int | None


def extents(reach: Reach) -> dict[str, list[Extent]]:
    """Return the partitions of the run's topics by full name; `high - low` counts compacted records as if they stood.

    Raises:
        Unavailable: Kafka does not answer.
    """
    admin = AdminClient(kafka_at(reach.bootstrap))
    names = {topic.name(reach.run) for topic in TOPICS}
    try:
        found = admin.list_topics(timeout=TIMEOUT_S).topics
        places = [TopicPartition(name, number) for name in names & set(found) for number in found[name].partitions]
        lows = offsets(admin, places, OffsetSpec.earliest(), TIMEOUT_S)  # type: ignore[no-untyped-call]
        highs = offsets(admin, places, OffsetSpec.latest(), TIMEOUT_S)  # type: ignore[no-untyped-call]
    except KafkaException as e:
        raise Unavailable(f"Kafka at {reach.bootstrap} does not answer ({e}): `crossbook up`") from e
    logs = reach.stack.data / reach.stack.broker_names[0] / "log"
    listed: dict[str, list[Extent]] = {}
    for place in sorted(places, key=lambda place: (place.topic, place.partition)):
        key = (place.topic, place.partition)
        listed.setdefault(place.topic, []).append(
            Extent(place.partition, lows[key], highs[key], _bytes(logs / f"{place.topic}-{place.partition}"))
        )
    return listed


def show_all(reach: Reach, console: Console) -> None:
    """Print a line for each topic of the run.

    Raises:
        Misconfigured: the run has no topics.
    """
    found = extents(reach)
    if not found:
        raise Misconfigured(f"run {reach.run} has no topics: `crossbook up --run {reach.run}` creates them")
    table = Table(title=f"topics of run {reach.run}", title_justify="left", box=None, pad_edge=False)
    for column in ("topic", "record types", "key"):
        table.add_column(column, overflow="fold")
    for column in ("partitions", "records", "size"):
        table.add_column(column, justify="right")
    table.add_column("kept")
    for topic in TOPICS:
        parts = found.get(topic.name(reach.run), [])
        table.add_row(
            topic.noun,
            " ".join(kind.__name__ for kind in topic.records),
            topic.key,
            str(len(parts)),
            f"{sum(part.high - part.low for part in parts):,}",
            _size(_sum(parts)),
            kept(topic),
        )
    console.print(table)


def show_one(reach: Reach, topic: Topic, console: Console) -> None:
    """Print one topic: its records with their fields, its settings, its partitions.

    Raises:
        Misconfigured: the run does not have it.
    """
    name = topic.name(reach.run)
    parts = extents(reach).get(name)
    if parts is None:
        raise Misconfigured(f"{name} does not exist: `crossbook up --run {reach.run}` creates it")
    console.print(f"[bold]{name}[/]  written by {_writer(topic)}, key: {topic.key}, kept: {kept(topic)}")
    records = Table(box=None, pad_edge=False, title="record types", title_justify="left")
    for column in ("type", "what it says", "fields"):
        records.add_column(column, overflow="fold")
    for kind in topic.records:
        records.add_row(kind.__name__, (kind.__doc__ or "").strip(), " ".join(kind.__struct_fields__))
    console.print(records)
    table = Table(box=None, pad_edge=False, title="partitions", title_justify="left")
    for column in ("partition", "first offset", "next offset", "records", "size"):
        table.add_column(column, justify="right")
    for part in parts:
        table.add_row(
            str(part.partition), f"{part.low:,}", f"{part.high:,}", f"{part.high - part.low:,}", _size(part.bytes)
        )
    console.print(table)
    config = _config(reach, name)
    console.print("settings: " + "  ".join(f"{key}={value}" for key, value in sorted(config.items())), highlight=False)


def kept(topic: Topic) -> str:
    """Return how long records stay, in words."""
    if topic.cleanup == "compact":
        return "newest of each key"
    if topic.retention_ms < 0:
        return "for ever"
    days, hours = divmod(topic.retention_ms, DAY_MS)
    return f"{days} d" if days else f"{hours // 3_600_000} h"


def _writer(topic: Topic) -> str:
    writers = {"raw": "ingest", "market": "normalize", "derived": "derive", "decision": "decide", "order": "execute"}
    return writers.get(topic.layer, topic.noun.partition(".")[2] if topic.layer == "dead" else topic.layer)


def _config(reach: Reach, name: str) -> dict[str, str]:
    admin = AdminClient(kafka_at(reach.bootstrap))
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    entries = admin.describe_configs([resource], request_timeout=TIMEOUT_S)[resource].result(TIMEOUT_S)
    return {entry.name: entry.value for entry in entries.values() if not entry.is_default and entry.value is not None}


def _bytes(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    total = 0
    for path in folder.glob("*.log"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # a segment that was just deleted
    return total


def _sum(parts: list[Extent]) -> int | None:
    known = [part.bytes for part in parts if part.bytes is not None]
    return sum(known) if known else None


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1_000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1_000
    return f"{value:.2f} GB"
