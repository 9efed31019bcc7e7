"""`crossbook tail`: records of a topic, decoded, with where they stood and what a sequencer added."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from rich.console import Console
from rich.text import Text

from core.domain.errors import CrossbookError, Misconfigured, Reject, Unavailable
from core.runtime import offsets
from core.runtime.consumer import consumer_config, key_text, value_bytes
from core.runtime.sequenced import unpack
from core.runtime.topics import Topic
from infra.cli.reach import Reach
from schemas.record import Record

TIMEOUT_S = 10.0
BATCH = 500
TEXT_MAX = 300
"""A longer field is cut, on the screen only."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    topic: Topic
    start: str = "-10"
    key: str = ""
    kind: str = ""
    count: int = 0
    """0: no limit"""
    follow: bool = False


class Tail:
    """Reads one topic from where the user said; joins no group and commits nothing."""

    def __init__(self, reach: Reach, wish: Wish) -> None:
        self._reach = reach
        self._wish = wish
        self._name = wish.topic.name(reach.run)
        self._consumer = Consumer(consumer_config(reach.bootstrap, group=f"{reach.run}.tail", joins=False))

    def records(self) -> Iterator[tuple[Message, str, Record | str]]:
        """Yield (message, record type, record or why it cannot be decoded), in the order of arrival.

        Raises:
            Misconfigured: no such topic, or a start that is none.
            Unavailable: Kafka does not answer.
        """
        try:
            found = self._matching(self._messages())
            last = _last_of(self._wish.start)
            if last and not self._wish.follow:
                yield from sorted(found, key=lambda item: item[0].timestamp()[1])[-last:]
                return
            for number, item in enumerate(found, start=1):
                yield item
                if number == self._wish.count:
                    return
        finally:
            self._consumer.close()

    def _matching(self, messages: Iterator[Message]) -> Iterator[tuple[Message, str, Record | str]]:
        wish = self._wish
        for message in messages:
            value = value_bytes(message)
            if wish.key and key_text(message) != wish.key:
                continue
            kind = "tombstone" if value is None else self._kind(value)
            if wish.kind and kind.lower() != wish.kind.lower():
                continue
            yield message, kind, self._decoded(value)

    def _kind(self, value: bytes) -> str:
        try:
            return self._reach.codec.record_name(value).rsplit(".", 1)[-1]
        except Reject:
            return "?"

    def _decoded(self, value: bytes | None) -> Record | str:
        if value is None:
            return ""
        try:
            return self._reach.codec.decode(value)
        except Reject as e:
            return f"{type(e).__name__}: {e}"

    def _messages(self) -> Iterator[Message]:
        places = self._places()
        unread = {place.partition for place in places}
        self._consumer.assign(places)
        while unread or self._wish.follow:
            first = self._consumer.poll(0.2)
            if first is None:
                continue
            for message in [first, *self._consumer.consume(BATCH, 0)]:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                elif error.fatal() or not error.retriable():
                    raise Unavailable(f"{self._name}: {error.str()}")

    def _places(self) -> list[TopicPartition]:
        try:
            meta = self._consumer.list_topics(self._name, timeout=TIMEOUT_S).topics[self._name]
            if meta.error is not None or not meta.partitions:
                raise Misconfigured(f"{self._name} does not exist: `crossbook up --run {self._reach.run}` creates it")
            places = [TopicPartition(self._name, number) for number in meta.partitions]
            start = self._wish.start
            if start not in ("beginning", "end") and not _last_of(start):
                moment = _moment(start)
                return self._consumer.offsets_for_times(
                    [TopicPartition(self._name, place.partition, moment) for place in places], TIMEOUT_S
                )
            for place in places:
                low, high = offsets.edges(self._consumer, place, TIMEOUT_S)
                place.offset = low
                if start == "end":
                    place.offset = high
                elif last := _last_of(start):
                    # Filters look further back: what they leave out does not count.
                    reach = last if not (self._wish.key or self._wish.kind) else high
                    place.offset = max(high - reach, low)
            return places
        except KafkaException as e:
            raise Unavailable(f"Kafka at {self._reach.bootstrap} does not answer ({e}): `crossbook up`") from e


def _last_of(start: str) -> int:
    """Return 20 for "-20", 0 for anything else."""
    return int(start[1:]) if start[:1] == "-" and start[1:].isdecimal() else 0


def _moment(text: str) -> int:
    """Return a time in ms.

    Raises:
        Misconfigured: not a time.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as e:
        raise Misconfigured(f"--from {text!r}: use beginning, end, -20 or a time such as 2026-11-20T14:30:00") from e
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000)


def as_json(message: Message, kind: str, record: Record | str) -> str:
    """Return one line of JSON: where the record stood, its type, its fields; bytes as text where they are text."""
    facts: dict[str, Any] = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "ts_ms": message.timestamp()[1],
        "key": key_text(message),
        "type": kind,
    }
    stamp = _stamp(message)
    if stamp:
        facts["seq"] = stamp
    if isinstance(record, Record):
        facts["record"] = msgspec.to_builtins(record, builtin_types=(bytes,))
    elif record:
        facts["error"] = record
        facts["bytes"] = (value_bytes(message) or b"").hex()
    return json.dumps(facts, default=_text, ensure_ascii=False)


def show(console: Console, message: Message, kind: str, record: Record | str) -> None:
    """Print one record on one line."""
    moment = datetime.fromtimestamp(message.timestamp()[1] / 1e3, tz=UTC)
    line = Text(f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} ", style="dim")
    line.append(f"{message.partition()}@{message.offset()} ", style="dim")
    line.append(f"{kind} ", style="bold cyan" if isinstance(record, Record) else "bold red")
    line.append(f"{key_text(message)} ", style="green")
    stamp = _stamp(message)
    if stamp:
        line.append(f"from {stamp['noun']} {stamp['partition']}@{stamp['offset']} ", style="dim")
    if isinstance(record, Record):
        fields = msgspec.to_builtins(record, builtin_types=(bytes,))
        line.append(" ".join(f"{name}={_short(value)}" for name, value in fields.items() if value not in ("", [], b"")))
    else:
        line.append(record)
    console.print(line, soft_wrap=True, highlight=False)


def _stamp(message: Message) -> dict[str, Any] | None:
    try:
        stamp = unpack(message.headers())
    except CrossbookError:
        return None
    if stamp is None:
        return None
    return {**stamp.source._asdict(), "now_ns": stamp.now_ns}


def _short(value: Any) -> str:
    nested = isinstance(value, (dict, list))
    text = json.dumps(value, default=_text, separators=(",", ":")) if nested else _text(value)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters; --json shows all)"


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
