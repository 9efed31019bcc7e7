"""Records to bytes and back, against confluent's own AvroSerializer and AvroDeserializer over their in-memory registry.

Both use fastavro underneath and write the same bytes, which is checked before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from benchmarks import samples
from benchmarks.measure import Effort, Figure, best_us
from core.domain.errors import InvariantBroken
from core.runtime.codec import PREFIX_BYTES, Codec, FileRegistry
from derive.stage import BookTask
from schemas.record import Record, schema_texts

PEER_OUT = "confluent AvroSerializer"
PEER_IN = "confluent AvroDeserializer"
CONTEXT = SerializationContext("bench", MessageField.VALUE)


class Peer:
    """Confluent's serializers of one record type, from and to the same record class."""

    def __init__(self, kind: type[Record]) -> None:
        client = SchemaRegistryClient.new_client({"url": "mock://benchmarks"})
        text = schema_texts()[kind.schema_name]
        strategy = {"subject.name.strategy": lambda _, schema_name: schema_name}
        fields_of = msgspec.structs.asdict

        def fields(record: Any, _: SerializationContext) -> dict[str, Any]:
            return fields_of(record)

        def made(found: dict[str, Any], _: SerializationContext) -> Record:
            return kind(**found)

        self.encode: Callable[..., bytes] = AvroSerializer(client, text, fields, conf=strategy)
        self.decode: Callable[..., Record] = AvroDeserializer(client, text, made, conf=strategy)


def records() -> dict[str, Record]:
    """Return one record of each measured type, as the stages make them."""
    frame = samples.raw_records("kalshi", samples.kalshi_frames(1))[0]
    task = BookTask(samples.context())
    for item in samples.opening():
        list(task.handle(item))
    delta = samples.delta_inputs(1)[0]
    depth, quote = (output.record for output in task.handle(delta))
    return {"Frame": frame, "BookDelta": delta.record, "Depth": depth, "Quote": quote}


def run(effort: Effort) -> list[Figure]:
    """Measure both directions of each record type."""
    codec = Codec(FileRegistry())
    figures = []
    for name, record in records().items():
        peer = Peer(type(record))
        data, peer_data = codec.encode(record), peer.encode(record, CONTEXT)
        if data[PREFIX_BYTES:] != peer_data[PREFIX_BYTES:] or peer.decode(peer_data, CONTEXT) != record:
            raise InvariantBroken(f"{name}: the two codecs do not write the same bytes")
        us = best_us(
            effort.repeats,
            effort.records,
            {
                "out": _many(effort.records, codec.encode, record, 1),
                "out peer": _many(effort.records, peer.encode, record, CONTEXT),
                "in": _many(effort.records, codec.decode, data),
                "in peer": _many(effort.records, peer.decode, peer_data, CONTEXT),
            },
        )
        size = f"{len(data)} bytes"
        figures += [
            Figure(f"encode {name}", us["out"], "us", None, PEER_OUT, us["out peer"], size),
            Figure(f"decode {name}", us["in"], "us", None, PEER_IN, us["in peer"], size),
        ]
    return figures


def _many(count: int, call: Callable[..., object], *arguments: object) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(count):
            call(*arguments)

    return all_of_them
