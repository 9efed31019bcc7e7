"""A host that fails is left alone, tried once after its pause, and never asked by too many at a time."""

import asyncio

import pytest

from core.domain.errors import Unavailable
from core.runtime.clock import ManualClock, SystemClock
from ingest.host import BreakerLimits, HostGate, host_of, named_pause_s

PAUSE_S = 0.15


def gate_of(clock, *, failures_max: int = 3, asking_max: int = 2) -> HostGate:
    return HostGate("venue.test", clock, BreakerLimits(failures_max, PAUSE_S), asking_max)


def test_a_host_that_fails_again_and_again_is_left_alone_and_then_tried_once() -> None:
    async def scenario() -> None:
        gate = gate_of(SystemClock())
        gate.failed()
        gate.failed()
        gate.check()
        gate.failed()
        assert gate.is_open
        with pytest.raises(Unavailable, match=r"venue\.test is left alone after 3 failures in a row"):
            gate.check()
        began_s = asyncio.get_running_loop().time()
        async with gate.asking() as may:
            assert may
            assert asyncio.get_running_loop().time() - began_s >= PAUSE_S * 0.9
            # Half open: nobody else while this one tries.
            with pytest.raises(Unavailable):
                gate.check()
            gate.failed()
        assert gate.is_open

    asyncio.run(scenario())


def test_one_success_after_the_pause_lets_everybody_in() -> None:
    async def scenario() -> None:
        gate = gate_of(SystemClock())
        for _ in range(3):
            gate.failed()
        async with gate.asking() as may:
            assert may
            gate.succeeded()
        gate.failed()
        gate.failed()
        gate.check()

    asyncio.run(scenario())


def test_a_trial_that_is_cancelled_is_no_success() -> None:
    async def scenario() -> None:
        gate = gate_of(SystemClock())
        for _ in range(3):
            gate.failed()

        async def trial() -> None:
            async with gate.asking():
                await asyncio.sleep(60)

        task = asyncio.create_task(trial())
        await asyncio.sleep(PAUSE_S * 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Still half open: one failure more is enough.
        gate.failed()
        assert gate.is_open

    asyncio.run(scenario())


def test_a_pause_that_the_venue_named_holds_everybody_at_once() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        gate = gate_of(clock, failures_max=5)
        gate.failed(60.0)
        assert gate.is_open
        clock.advance(ms=59_000)
        assert gate.is_open
        clock.advance(ms=1_000)
        gate.check()

    asyncio.run(scenario())


def test_who_waits_for_leave_can_give_up() -> None:
    async def scenario() -> None:
        gate = gate_of(SystemClock())
        gate.failed(60.0)
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stopped.set)
        async with asyncio.timeout(2), gate.asking(stopped.is_set) as may:
            assert not may

    asyncio.run(scenario())


def test_only_so_many_handshakes_are_under_way() -> None:
    async def scenario() -> int:
        gate = gate_of(SystemClock(), asking_max=2)
        now, most = 0, 0

        async def shake() -> None:
            nonlocal now, most
            async with gate.asking():
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(shake() for _ in range(10)))
        return most

    assert asyncio.run(scenario()) == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("", 0.0), (None, 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("99999", 300.0)]
)
def test_a_pause_is_read_in_seconds_and_bounded(text: str | None, seconds: float) -> None:
    assert named_pause_s(text) == seconds


def test_a_host_is_named_without_scheme_and_path() -> None:
    assert host_of("wss://venue.test:8443/ws/market") == "venue.test:8443"
