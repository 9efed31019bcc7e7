"""Pauses between attempts, and the breaker of a host."""

import asyncio

from core.runtime.clock import ManualClock
from ingest.backoff import Backoff, Breaker, BreakerLimits


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


def test_a_host_that_fails_again_and_again_is_left_alone(clock: ManualClock) -> None:
    async def scenario() -> None:
        breaker = Breaker("h", clock, BreakerLimits(failures_max=3, pause_s=15.0), 2)
        for _ in range(2):
            breaker.failed()
        assert not breaker.is_open
        breaker.failed()
        assert breaker.is_open
        clock.advance(ms=15_000)
        assert not breaker.is_open
        # One may try; if it fails the host is left alone again.
        breaker.failed()
        assert breaker.is_open

    asyncio.run(scenario())


def test_a_success_forgets_the_failures(clock: ManualClock) -> None:
    async def scenario() -> None:
        breaker = Breaker("h", clock, BreakerLimits(failures_max=2), 2)
        breaker.failed()
        breaker.succeeded()
        breaker.failed()
        assert not breaker.is_open

    asyncio.run(scenario())


def test_a_refused_key_stops_every_feed_of_the_host_at_once(clock: ManualClock) -> None:
    async def scenario() -> None:
        breaker = Breaker("h", clock, BreakerLimits(failures_max=5), 2)
        breaker.failed(60.0)
        assert breaker.is_open
        clock.advance(ms=59_000)
        assert breaker.is_open

    asyncio.run(scenario())


def test_only_so_many_handshakes_are_under_way() -> None:
    async def scenario() -> int:
        breaker = Breaker("h", ManualClock(), BreakerLimits(), 2)
        now, most = 0, 0

        async def shake() -> None:
            nonlocal now, most
            async with breaker:
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(shake() for _ in range(10)))
        return most

    assert asyncio.run(scenario()) == 2
