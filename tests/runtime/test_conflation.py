"""What may be left out of a window, and what must not."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime.codec import Codec, FileRegistry
from core.runtime.conflation import DEPTH, OTHER, QUOTE, TICK, Head, Held, Peek, Waiting
from schemas import derived, market

NO_DEPTH = (-1, -1)


@dataclass(frozen=True)
class Said:
    """One record of one source partition."""

    offset: int
    key: bytes
    head: Head
    live: bool = True


def conflate(records):
    waiting = Waiting()
    for record in records:
        waiting.add(record.offset, record.key, record.head, record)
    kept = [record for _, record in waiting.take()]
    assert waiting.dropped == len(records) - len(kept)
    return kept


def depth(offset, version, key=b"A"):
    return Said(offset, key, Head(DEPTH, (version, 0)))


def quote(offset, version, key=b"A", *, live=True):
    return Said(offset, key, Head(QUOTE, (version, 1), (version, 0) if live else NO_DEPTH), live)


def other(offset, key=b"A"):
    return Said(offset, key, Head(OTHER))


def tick(offset):
    return Said(offset, b"", Head(TICK))


def offsets(records):
    return [record.offset for record in records]


def test_the_newest_quote_of_each_instrument_stays_with_its_depth():
    told = [depth(0, 1), quote(1, 1), depth(2, 1, b"B"), quote(3, 1, b"B"), depth(4, 5), quote(5, 5)]
    assert offsets(conflate(told)) == [2, 3, 4, 5]


def test_trades_and_statuses_stay_all_and_in_order():
    told = [other(0), depth(1, 1), quote(2, 1), other(3), depth(4, 2), quote(5, 2), other(6)]
    assert offsets(conflate(told)) == [0, 3, 4, 5, 6]


def test_only_the_newest_tick_stays():
    assert offsets(conflate([tick(0), other(1), tick(2), tick(3), other(4)])) == [1, 3, 4]


def test_a_depth_whose_quote_is_still_to_come_stays_beside_the_pair_before_it():
    assert offsets(conflate([depth(0, 1), quote(1, 1), depth(2, 2)])) == [0, 1, 2]


def test_a_dark_quote_takes_the_place_of_the_live_one_and_its_depth():
    assert offsets(conflate([depth(0, 1), quote(1, 1), quote(2, 2, live=False)])) == [2]


def test_a_live_quote_on_a_healed_book_takes_the_place_of_a_dark_one():
    assert offsets(conflate([quote(0, 1, live=False), depth(1, 2), quote(2, 2)])) == [1, 2]


def test_an_old_live_quote_said_again_by_a_thawed_twin_does_not_push_a_dark_one_out():
    told = [quote(0, 7, live=False), depth(1, 5), quote(2, 5), depth(3, 6), quote(4, 6)]
    assert offsets(conflate(told)) == [0]


def test_a_repeat_is_left_out_beside_what_it_repeats():
    assert offsets(conflate([depth(0, 3), quote(1, 3), depth(2, 3), quote(3, 3)])) == [0, 1]


def test_a_quote_of_the_same_depth_keeps_that_depth():
    second = Said(2, b"A", Head(QUOTE, (9, 0), (3, 0)))
    assert offsets(conflate([depth(0, 3), quote(1, 3), second])) == [0, 2]


def test_a_depth_that_comes_after_its_quote_stays():
    assert offsets(conflate([quote(0, 3), depth(1, 3), quote(2, 3)])) == [0, 1]


@st.composite
def histories(draw):
    """Return what one or two twins write of a few instruments: the same pairs in the same order, interleaved."""
    books = {}
    for key in (b"A", b"B", b"C"):
        version, written = 0, []
        for _ in range(draw(st.integers(0, 6))):
            version += draw(st.integers(1, 3))
            written.append((version, draw(st.booleans())))
        books[key] = written
    writers = []
    for _ in range(draw(st.integers(1, 2))):
        records = []
        for key, written in books.items():
            start = draw(st.integers(0, len(written)))
            for version, live in written[start:] if start else written:
                records.append(
                    [depth(0, version, key), quote(0, version, key)] if live else [quote(0, version, key, live=False)]
                )
                if draw(st.integers(0, 3)) == 0:
                    records.append([other(0, key)])
        # The order within a key stays; keys and ticks are mixed.
        order = draw(st.permutations(range(len(records))))
        by_key = {}
        for group in records:
            by_key.setdefault(group[-1].key, []).append(group)
        mixed = []
        for number in order:
            key = records[number][-1].key
            mixed.extend(by_key[key].pop(0))
            if draw(st.integers(0, 4)) == 0:
                mixed.append(tick(0))
        writers.append(mixed)
    merged = []
    while any(writers):
        chosen = draw(st.sampled_from([number for number, left in enumerate(writers) if left]))
        merged.append(writers[chosen].pop(0))
    return [Said(offset, said.key, said.head, said.live) for offset, said in enumerate(merged)]


def windows(records, cuts):
    edges = [0, *sorted({min(cut, len(records)) for cut in cuts}), len(records)]
    return [records[a:b] for a, b in itertools.pairwise(edges)]


def believed(records):
    """Return what a reader that drops old versions holds of each instrument: (quote, the depth it names or None)."""
    quotes, depths = {}, {}
    for record in records:
        memory = {QUOTE: quotes, DEPTH: depths}.get(record.head.kind)
        if memory is None:
            continue
        known = memory.get(record.key)
        if known is None or record.head.version > known.head.version:
            memory[record.key] = record
    found = {}
    for key, said in quotes.items():
        named = depths.get(key)
        fits = named is not None and named.head.version == said.head.names
        found[key] = (said.head.version, said.live, named.head.version if fits else None)
    return found


@settings(max_examples=200)
@given(histories(), st.lists(st.integers(0, 60), max_size=4))
def test_a_reader_of_conflated_windows_ends_where_a_reader_of_everything_ends(records, cuts):
    kept = [record for window in windows(records, cuts) for record in conflate(window)]
    assert believed(kept) == believed(records)


@settings(max_examples=200)
@given(histories(), st.lists(st.integers(0, 60), max_size=4))
def test_offsets_rise_and_nothing_is_left_out_that_may_not_be(records, cuts):
    kept = [record for window in windows(records, cuts) for record in conflate(window)]
    assert offsets(kept) == sorted(set(offsets(kept)))
    assert [r for r in kept if r.head.kind == OTHER] == [r for r in records if r.head.kind == OTHER]
    ticks = [r for r in records if r.head.kind == TICK]
    assert [r for r in kept if r.head.kind == TICK][-1:] == ticks[-1:]


@settings(max_examples=200)
@given(histories(), st.lists(st.integers(0, 60), max_size=4))
def test_a_quote_is_never_kept_without_the_depth_it_names(records, cuts):
    stood = {(r.key, r.head.version) for r in records if r.head.kind == DEPTH}
    before, newest = set(), {}
    for window in windows(records, cuts):
        for record in conflate(window):
            if record.head.kind == DEPTH:
                before.add((record.key, record.head.version))
            elif record.head.kind == QUOTE and record.head.version > newest.get(record.key, (-1, -1)):
                # An old one, said again by a twin, is dropped by readers with or without its depth.
                newest[record.key] = record.head.version
                named = (record.key, record.head.names)
                assert named not in stood or named in before


@settings(max_examples=200)
@given(histories())
def test_at_most_one_quote_of_each_instrument_stays_and_it_is_the_newest(records):
    newest = {}
    for record in records:
        if record.head.kind == QUOTE:
            newest[record.key] = max(newest.get(record.key, (-1, -1)), record.head.version)
    kept = [r for r in conflate(records) if r.head.kind == QUOTE]
    assert {r.key: r.head.version for r in kept} == newest
    assert len(kept) == len(newest)


@settings(max_examples=200)
@given(histories())
def test_what_is_conflated_is_not_conflated_further(records):
    once = conflate(records)
    assert conflate(once) == once


def test_a_window_of_several_partitions_tells_since_when_it_waits():
    held = Held()
    assert held.since_ns == 0
    held.add(("derived.book", 0, 7), b"A", Head(OTHER), "x", 100)
    held.add(("derived.book", 1, 3), b"B", quote(3, 1, b"B").head, "y", 50)
    held.add(("derived.book", 1, 4), b"B", quote(4, 2, b"B").head, "z", 60)
    assert held.since_ns == 100
    assert len(held) == 2
    assert held.take() == ([("derived.book", 0, 7, "x"), ("derived.book", 1, 4, "z")], 1)
    assert held.since_ns == 0
    assert held.take() == ([], 0)


LONGS = st.integers(-(2**62), 2**62)


def a_quote(instrument, version, names):
    return derived.Quote(
        instrument=instrument,
        version_offset=version[0],
        version_index=version[1],
        depth_offset=names[0],
        depth_index=names[1],
        state="LIVE",
        price_exp=-4,
        size_exp=-6,
        bid_price=1,
        bid_size=1,
        ask_price=2,
        ask_size=1,
        epoch=1,
        recv_ts_ns=1,
    )


@given(st.text(max_size=300), LONGS, st.integers(-(2**31), 2**31 - 1), LONGS, st.integers(-(2**31), 2**31 - 1))
def test_the_head_of_a_quote_is_what_its_fields_say(instrument, offset, index, depth_offset, depth_index):
    codec = Codec(FileRegistry())
    record = a_quote(instrument, (offset, index), (depth_offset, depth_index))
    assert Peek(codec)(codec.encode(record)) == Head(QUOTE, (offset, index), (depth_offset, depth_index))


def test_the_head_of_other_records_is_what_they_are():
    codec = Codec(FileRegistry())
    peek = Peek(codec)
    shown = derived.Depth(
        instrument="kalshi:A",
        version_offset=300,
        version_index=2,
        state="LIVE",
        price_exp=-4,
        size_exp=-6,
        bid_prices=[1],
        bid_sizes=[1],
        ask_prices=[],
        ask_sizes=[],
        epoch=1,
        recv_ts_ns=1,
    )
    assert peek(codec.encode(shown)) == Head(DEPTH, (300, 2))
    assert peek(codec.encode(derived.Tick(partition=1, ts_ns=5))).kind == TICK
    status = market.Status(
        instrument="kalshi:A", epoch=1, frame_no=1, index=0, status="OPEN", price_exp=-4, recv_ts_ns=1
    )
    assert peek(codec.encode(status)).kind == OTHER


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\xff\xff", b"\x01abcd and more"])
def test_what_cannot_be_read_is_passed_on_as_it_is(value):
    assert Peek(Codec(FileRegistry()))(value).kind == OTHER


def test_a_body_that_ends_too_early_is_passed_on_as_it_is():
    codec = Codec(FileRegistry())
    data = codec.encode(a_quote("kalshi:A", (1, 2), (3, 4)))
    assert Peek(codec)(data[:8]).kind == OTHER


class OtherOrder(FileRegistry):
    """A registry of writers that put the version of a Quote elsewhere."""

    def text_of(self, schema_id):
        return (
            super().text_of(schema_id).replace('"version_offset", "type": "long"', '"version_offset", "type": "string"')
        )


def test_a_writer_that_puts_the_version_elsewhere_is_passed_on_as_it_is():
    data = Codec(FileRegistry()).encode(a_quote("kalshi:A", (1, 2), (3, 4)))
    assert Peek(Codec(FileRegistry()))(data).kind == QUOTE
    assert OtherOrder().text_of(int.from_bytes(data[1:5], "big")) != FileRegistry().text_of(
        int.from_bytes(data[1:5], "big")
    )
    assert Peek(Codec(OtherOrder()))(data).kind == OTHER
