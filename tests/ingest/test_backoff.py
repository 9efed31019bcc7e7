"""Pauses between attempts."""

from core.runtime.clock import ManualClock
from ingest.backoff import Backoff


def test_pauses_stay_under_a_limit_that_doubles_up_to_the_maximum(clock: ManualClock) -> None:
    backoff = Backoff(clock, first_s=0.5, max_s=4.0)
    limits = [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    pauses = [backoff.next_s() for _ in limits]
    assert all(0 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_after_a_success_pauses_are_short_again(clock: ManualClock) -> None:
    backoff = Backoff(clock, first_s=0.5, max_s=1_000.0)
    for _ in range(8):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_the_exponent_never_overflows(clock: ManualClock) -> None:
    backoff = Backoff(clock, first_s=0.5, max_s=30.0)
    assert all(backoff.next_s() <= 30.0 for _ in range(5_000))
