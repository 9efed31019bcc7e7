"""The made encoders write fastavro's bytes, for every record type."""

import io
import json

import fastavro
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.runtime.avro import MEMO_MAX, _Memo, encoder_of, long
from schemas.market import BookDelta, BookSnapshot
from schemas.record import Record, record_types, schema_texts

LONGS = st.integers(-(2**63), 2**63 - 1)
PREFIX = b"\x00\x00\x00\x00\x07"


def values_of(avro) -> st.SearchStrategy:
    match avro:
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values_of(items), max_size=12)
        case {"fields": fields}:
            return st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in fields})
        case "string":
            return st.text(max_size=100)
        case "bytes":
            return st.binary(max_size=9_000)
        case "boolean":
            return st.booleans()
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "long":
            return LONGS
    return st.just("UNKNOWN")  # an enum that was described earlier in the schema


def by_fastavro(name: str, record: Record) -> bytes:
    out = io.BytesIO()
    schema = fastavro.parse_schema(json.loads(schema_texts()[name]), named_schemas={})
    fastavro.schemaless_writer(out, schema, msgspec.to_builtins(record, builtin_types=(bytes,)))
    return PREFIX + out.getvalue()


@pytest.mark.parametrize("name", sorted(schema_texts()))
@given(data=st.data())
def test_every_record_has_fastavros_bytes(name, data):
    schema = json.loads(schema_texts()[name])
    record = msgspec.convert(data.draw(values_of(schema)), record_types()[name])
    assert encoder_of(schema, PREFIX)(record, 0) == by_fastavro(name, record)


def written(number: int) -> bytes:
    """The definition: zigzag, then seven bits a byte, least first."""
    n = (number << 1) ^ (number >> 63)
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


@given(LONGS)
@example(2**63 - 1)
@example(-(2**63))
def test_a_number_is_written_as_avro_defines_it(number):
    assert long(number) == written(number)


@pytest.mark.parametrize("bits", range(1, 63))
def test_numbers_at_the_edges_of_a_group_are_right(bits):
    for number in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1):
        assert long(number) == written(number)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**80])
def test_a_number_beyond_64_bits_is_refused(number):
    with pytest.raises(OverflowError, match="64 bits"):
        long(number)


def test_a_word_the_enum_does_not_have_is_refused():
    schema = json.loads(schema_texts()["crossbook.market.BookDelta"])
    delta = BookDelta(
        instrument="kalshi:A",
        epoch=1,
        frame_no=1,
        index=0,
        price_exp=-4,
        size_exp=-6,
        side="SIDEWAYS",
        kind="SIGNED",
        price=1,
        size=1,
        recv_ts_ns=1,
    )
    with pytest.raises(ValueError, match="'SIDEWAYS' is not one of UNKNOWN, BUY, SELL"):
        encoder_of(schema, PREFIX)(delta, 0)


def test_a_stamp_ends_the_trail_and_leaves_the_record_alone():
    name = "crossbook.market.BookSnapshot"
    snapshot = BookSnapshot(
        instrument="kalshi:A",
        epoch=1,
        frame_no=1,
        index=0,
        price_exp=-4,
        size_exp=-6,
        bid_prices=[1],
        bid_sizes=[2],
        ask_prices=[],
        ask_sizes=[],
        recv_ts_ns=1,
        trail=[5],
    )
    stamped = encoder_of(json.loads(schema_texts()[name]), PREFIX)(snapshot, 9)
    assert stamped == by_fastavro(name, msgspec.structs.replace(snapshot, trail=[5, 9]))
    assert snapshot.trail == [5]


def test_remembered_numbers_are_bounded():
    memo = _Memo()
    for number in range(MEMO_MAX + 10):
        assert memo[number] == written(number)
    assert len(memo) <= MEMO_MAX
