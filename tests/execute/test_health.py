"""What the clocks of two hosts do to the question whether a gateway may send."""

import pytest

from core.runtime.clock import NS_PER_MS, NS_PER_S, ManualClock
from execute.health import START, Health


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def health(clock):
    found = Health(clock=clock, ack_age_s=lambda: 0.0, stop_after_s=2.0)
    found.fault(START, "")
    return found


def test_clock_that_is_a_little_behind_that_of_accounts_is_usual(health, clock):
    health.beat(clock.now_ns() + 50 * NS_PER_MS)
    assert health.not_ready_reason() == ""


def test_clock_that_is_behind_takes_no_entry_until_it_is_set(health, clock):
    health.beat(clock.now_ns() + 51 * NS_PER_MS)
    assert "clock is behind that of accounts" in health.not_ready_reason()
    assert health.stop_reason() == ""
    clock.advance(ns=60 * NS_PER_MS)
    health.beat(clock.now_ns())
    assert health.not_ready_reason() == ""


def test_beat_from_the_future_is_no_younger_than_it_was_heard(health, clock):
    health.beat(clock.now_ns() + 30 * NS_PER_S)
    clock.advance(ns=2 * NS_PER_S)
    assert health.stop_reason() == ""
    clock.advance(ns=1)
    assert "last Beat" in health.stop_reason()


def test_clock_that_is_ahead_finds_every_beat_late(health, clock):
    clock.advance(ns=2 * NS_PER_S + 1)
    health.beat(clock.now_ns() - 2 * NS_PER_S - 1)
    assert "last Beat" in health.stop_reason()


def test_beats_are_not_young_for_as_long_as_the_clock_was_set_back(health, clock):
    health.beat(clock.now_ns())
    clock.advance(ns=-60 * NS_PER_S)
    health.beat(clock.now_ns())
    clock.advance(ns=2 * NS_PER_S + 1)
    assert "last Beat" in health.stop_reason()
