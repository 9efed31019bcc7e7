"""State and grid of an instrument each stand by the newest word on them, in whatever order words and descriptions come."""

import itertools

import pytest

from core.runtime.described import SILENCE
from schemas.market import Instrument, Status

GRID = {"tick_from": [10], "tick_to": [9_990], "tick_step": [10]}
NO_WORD_ON_STATE = "UNKNOWN"


def description(recv, status="OPEN", step=100):
    return Instrument(
        instrument="kalshi:T",
        venue="kalshi",
        kind="BINARY",
        status=status,
        title="t",
        event_group="e",
        price_exp=-4,
        size_exp=-6,
        tick_from=[0],
        tick_to=[10_000],
        tick_step=[step],
        size_min=1,
        size_step=1,
        fee_model="QUADRATIC",
        taker_fee_e6=0,
        recv_ts_ns=recv,
    )


def word(recv, status=NO_WORD_ON_STATE, *, venue=0, grid=False):
    return Status(
        instrument="kalshi:T",
        epoch=1,
        frame_no=1,
        index=0,
        status=status,
        price_exp=-4,
        venue_ts_ns=venue,
        recv_ts_ns=recv,
        **(GRID if grid else {}),
    )


def stands(*records):
    """Fold records as the gateway and the strategies do; return state and step of the grid."""
    known, words = None, SILENCE
    for record in records:
        if isinstance(record, Status):
            words = words.hear(record)
        else:
            known = record
    applied = words.applied(known)
    return applied.status, applied.tick_step[0]


def test_tick_change_does_not_make_an_old_state_newer_than_the_description():
    open_word, paused, tick_change = word(100, "OPEN"), description(200, "PAUSED"), word(300, grid=True)
    assert stands(open_word, paused) == ("PAUSED", 100)
    assert stands(open_word, paused, tick_change) == ("PAUSED", 10)


def test_state_does_not_make_an_old_grid_newer_than_the_description():
    old_grid, described, paused = word(100, grid=True), description(200, step=50), word(300, "PAUSED")
    assert stands(old_grid, described, paused) == ("PAUSED", 50)


@pytest.mark.parametrize("venue_of", [lambda recv: 0, lambda recv: recv - 50])
def test_every_order_of_arrival_ends_at_the_same(venue_of):
    records = [
        description(100, "OPEN"),
        word(150, "PAUSED", venue=venue_of(150)),
        word(200, grid=True, venue=venue_of(200)),
        word(250, "OPEN", venue=venue_of(250)),
        word(240, "CLOSED", venue=venue_of(240)),
    ]
    assert {stands(*order) for order in itertools.permutations(records)} == {("OPEN", 10)}


def test_word_that_is_late_by_the_venues_time_changes_only_what_no_newer_word_spoke_of():
    tick_change, late = word(300, grid=True, venue=290), word(310, "PAUSED", venue=280)
    assert stands(description(100), tick_change, late) == ("PAUSED", 10)
    assert stands(description(100), word(300, "OPEN", venue=290), late) == ("OPEN", 100)
    # Where only one states the venue's time, when they were received decides.
    assert stands(description(100), word(300, "OPEN", venue=290), word(310, "PAUSED")) == ("PAUSED", 100)


def test_word_of_the_same_moment_as_the_description_wins():
    assert stands(description(100), word(100, "PAUSED", grid=True)) == ("PAUSED", 10)
