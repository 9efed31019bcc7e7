"""The codec against Confluent's own serializers, older writers and damaged bytes."""

import json

import msgspec
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import MalformedFrame, Misconfigured, Unavailable, UnknownSchema
from core.runtime.codec import Codec, FileRegistry, HttpRegistry, patiently
from schemas.market import Tick
from schemas.record import Record, record_types, schema_texts

LONGS = st.integers(-(2**63), 2**63 - 1)


def values_of(avro) -> st.SearchStrategy:
    if isinstance(avro, str):
        return (
            {
                "string": st.text(max_size=20),
                "long": LONGS,
                "int": st.integers(-(2**31), 2**31 - 1),
                "bytes": st.binary(max_size=40),
                "boolean": st.booleans(),
            }[avro]
            if avro in ("string", "long", "int", "bytes", "boolean")
            else st.just("UNKNOWN")
        )
    if avro["type"] == "enum":
        return st.sampled_from(avro["symbols"])
    if avro["type"] == "array":
        return st.lists(values_of(avro["items"]), max_size=3)
    return st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in avro["fields"]})


def records(name: str) -> st.SearchStrategy[Record]:
    schema = json.loads(schema_texts()[name])
    return values_of(schema).map(lambda fields: msgspec.convert(fields, record_types()[name]))


ANY_RECORD = st.sampled_from(sorted(schema_texts())).flatmap(records)
CODEC = Codec(FileRegistry())
TICK = Tick(feed="kalshi-0", venue="kalshi", epoch=1, frame_no=2, recv_ts_ns=3)


@given(ANY_RECORD)
def test_every_record_survives_the_wire(record):
    assert CODEC.decode(CODEC.encode(record)) == record


@given(ANY_RECORD, st.integers(1, 2**60))
def test_a_stamp_is_appended_to_the_trail_and_changes_nothing_else(record, stamp):
    again = CODEC.decode(CODEC.encode(record, stamp))
    if type(record).has_trail:
        assert again.trail == [*record.trail, stamp]
        again = msgspec.structs.replace(again, trail=record.trail)
    assert again == record


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_refused_by_name(data):
    try:
        CODEC.decode(data)
    except (MalformedFrame, UnknownSchema):
        return
    # Whatever did decode must have been a whole record: its own encoding is a prefix of what was read.
    assert data.startswith(CODEC.encode(CODEC.decode(data)))


@pytest.mark.parametrize("name", sorted(schema_texts()))
def test_a_truncated_body_is_refused(name):
    record = _sample(name)
    data = CODEC.encode(record)
    with pytest.raises(MalformedFrame):
        CODEC.decode(data[: len(data) - 1] if len(data) > 6 else data[:4])


def _sample(name: str) -> Record:
    def fill(avro):
        if isinstance(avro, str):
            return {"string": "text", "long": 2**40, "int": 300, "bytes": b"bytes", "boolean": True}.get(
                avro, "UNKNOWN"
            )
        if avro["type"] == "enum":
            return avro["symbols"][-1]
        if avro["type"] == "array":
            return [fill(avro["items"])]
        return {field["name"]: fill(field["type"]) for field in avro["fields"]}

    return msgspec.convert(fill(json.loads(schema_texts()[name])), record_types()[name])


class RegistryWithAnOlderWriter(FileRegistry):
    """Id 9000 is market.Tick as it was before the trail was added; id 9001 a record nobody knows."""

    def text_of(self, schema_id):
        if schema_id == 9000:
            schema = json.loads(schema_texts()["crossbook.market.Tick"])
            schema["fields"] = [f for f in schema["fields"] if f["name"] != "trail"]
            return json.dumps(schema)
        if schema_id == 9001:
            return '{"type":"record","name":"Moon","namespace":"crossbook.market","fields":[]}'
        return super().text_of(schema_id)


def test_a_record_of_an_older_writer_is_resolved_into_the_readers_schema():
    codec = Codec(RegistryWithAnOlderWriter())
    tick = _sample("crossbook.market.Tick")
    body = CODEC.encode(msgspec.structs.replace(tick, trail=[]))[5:-1]  # an empty array is one zero byte at the end
    again = codec.decode(b"\x00" + (9000).to_bytes(4, "big") + body)
    assert again == msgspec.structs.replace(tick, trail=[])


def test_a_record_type_nobody_knows_is_refused_by_name():
    with pytest.raises(UnknownSchema, match=r"crossbook\.market\.Moon"):
        Codec(RegistryWithAnOlderWriter()).decode(b"\x00" + (9001).to_bytes(4, "big"))


def test_unknown_ids_are_fetched_once():
    class Counting(FileRegistry):
        asked = 0

        def text_of(self, schema_id):
            Counting.asked += 1
            return super().text_of(schema_id)

    codec = Codec(Counting())
    data = CODEC.encode(_sample("crossbook.market.Tick"))
    for _ in range(5):
        codec.decode(data)
    assert Counting.asked == 1


def test_a_registry_that_is_down_is_unavailable_and_says_so():
    with pytest.raises(Unavailable, match="does not answer"):
        Codec(HttpRegistry("http://127.0.0.1:9/apis/ccompat/v7")).decode(b"\x00\x00\x00\x00\x01")


@pytest.mark.broker
def test_unregistered_schema_is_named(stack_url):
    with pytest.raises(Misconfigured, match="make dev-stack"):
        HttpRegistry(stack_url).id_of("crossbook.market.Nothing", '{"type":"string"}')


@pytest.fixture(scope="session")
def stack_url(stack) -> str:
    return stack.registry_url


@pytest.mark.broker
@pytest.mark.parametrize("name", sorted(schema_texts()))
def test_confluents_own_classes_read_what_we_write_and_write_what_we_read(name, stack_url):
    client = SchemaRegistryClient({"url": stack_url, "timeout": 10})
    ours = Codec(HttpRegistry(stack_url))
    record = _sample(name)
    fields = msgspec.to_builtins(record, builtin_types=(bytes,))
    context = SerializationContext("any", MessageField.VALUE)
    assert AvroDeserializer(client)(ours.encode(record), context) == fields
    serializer = AvroSerializer(
        client,
        schema_texts()[name],
        conf={
            "auto.register.schemas": False,
            "subject.name.strategy": lambda _, schema_name: schema_name,
        },
    )
    assert serializer(fields, context) == ours.encode(record)
    assert ours.decode(serializer(fields, context)) == record


class Outage(FileRegistry):
    """A registry that is down for its first questions."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def text_of(self, schema_id: int) -> str:
        if self.failures > 0:
            self.failures -= 1
            raise Unavailable("the registry is down")
        return super().text_of(schema_id)


def test_what_this_version_writes_is_read_while_the_registry_is_down():
    codec = Codec(Outage(99))
    codec.warm(Tick)
    assert codec.decode(codec.encode(TICK)) == TICK
    assert codec.record_name(codec.encode(TICK)) == "crossbook.market.Tick"


def test_a_patient_reader_waits_for_the_registry_and_reads_then():
    data = Codec(FileRegistry()).encode(TICK)
    assert patiently(Codec(Outage(2)).decode, data, lambda: False) == TICK


def test_a_patient_reader_gives_up_when_it_is_to_stop():
    data = Codec(FileRegistry()).encode(TICK)
    with pytest.raises(Unavailable):
        patiently(Codec(Outage(99)).decode, data, lambda: True)
