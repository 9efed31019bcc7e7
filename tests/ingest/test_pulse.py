"""A tick is written only when everything that had arrived by its time was read."""

from core.runtime.clock import NS_PER_MS
from ingest.pulse import LATE_MS_MAX, TICK_MS, Pulse

T0 = 1_790_000_000_000_000_000
TICK_NS = TICK_MS * NS_PER_MS


def test_a_drained_socket_ticks_when_due() -> None:
    pulse = Pulse(T0)
    assert pulse.strike(T0 + TICK_NS, 0) == T0 + TICK_NS
    assert not pulse.owes


def test_unread_bytes_hold_the_tick_back_until_they_are_read() -> None:
    pulse = Pulse(T0)
    assert pulse.strike(T0 + TICK_NS, 1_000) == 0
    assert pulse.owes
    # More has arrived meanwhile; what counts is what lay there when the tick fell due.
    assert pulse.read(600, 5_000) == 0
    assert pulse.read(400, 5_000) == T0 + TICK_NS
    assert pulse.read(400, 5_000) == 0


def test_an_empty_socket_settles_it_whatever_was_counted() -> None:
    pulse = Pulse(T0)
    pulse.strike(T0 + TICK_NS, 1_000)
    assert pulse.read(1, 0) == T0 + TICK_NS


def test_a_tick_that_is_owed_is_not_owed_twice() -> None:
    pulse = Pulse(T0)
    pulse.strike(T0 + TICK_NS, 1_000)
    assert pulse.strike(T0 + 2 * TICK_NS, 9_000) == 0
    assert pulse.read(1_000, 9_000) == T0 + TICK_NS


def test_a_timer_that_strikes_over_a_second_late_is_late() -> None:
    pulse = Pulse(T0)
    edge = T0 + TICK_NS + LATE_MS_MAX * NS_PER_MS
    assert not pulse.is_late(edge)
    assert pulse.is_late(edge + 1)
    pulse.strike(T0 + TICK_NS, 0)
    assert not pulse.is_late(edge + 1)
