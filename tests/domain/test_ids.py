"""Identities: the same place gives the same id, another place another."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.ids import Origin, Version, order_event_id, record_id, text_id

PLACES = st.tuples(
    st.integers(0, 2**63 - 1),
    st.integers(0, 23),
    st.integers(0, 2**40),
    st.integers(0, 50),
    st.integers(0, 3),
    st.integers(0, 9),
)


@settings(deadline=None)
@given(place=PLACES)
def test_record_id_is_18_letters_and_digits_and_repeats(place):
    made = record_id(*place)
    assert re.fullmatch(r"[0-9A-Za-z]{18}", made)
    assert record_id(*place) == made


@settings(deadline=None)
@given(places=st.lists(PLACES, min_size=2, max_size=20, unique=True))
def test_other_places_have_other_ids(places):
    assert len({record_id(*place) for place in places}) == len(places)


def test_every_part_of_the_place_counts():
    base = (7, 1, 2, 3, 4, 5)
    moved = [tuple(part + (n == m) for m, part in enumerate(base)) for n in range(6)]
    assert len({record_id(*place) for place in [base, *moved]}) == 7
    # Parts are kept apart: 1|12 is not 11|2.
    assert record_id(0, 1, 12, 0) != record_id(0, 11, 2, 0)
    assert text_id("a", "bc") != text_id("ab", "c")


def test_ids_are_pinned():
    # An id that is computed differently tomorrow would repeat what was done today.
    assert record_id(1, 2, 3, 4, 5, 6) == "oEMyhW5mUVBv9u34ED"
    assert order_event_id("o", "FILL", "x") == "0Tj3aEIN6rx4KVTUI2"
    assert text_id("kalshi:A", "polymarket:B") == "hkvKkgQ8KbuvaGKJm8"


def test_two_listeners_write_the_same_order_event():
    assert order_event_id("o1", "FILL", "f9") == order_event_id("o1", "FILL", "f9")
    assert order_event_id("o1", "FILL", "f9") != order_event_id("o1", "FILL", "f8")


@settings(deadline=None)
@given(
    one=st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 9)),
    other=st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 9)),
)
def test_origins_and_versions_order_as_their_parts(one, other):
    assert (Origin(*one) < Origin(*other)) == (one < other)
    assert (Version(*one[:2]) < Version(*other[:2])) == (one[:2] < other[:2])
