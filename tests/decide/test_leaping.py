"""Time that leaps and processes that freeze do what real ones do."""

import asyncio
import time

import pytest

from tests.leaping import Process, run


def test_a_minute_passes_in_no_time_and_every_clock_shows_it():
    async def main():
        before = (time.time_ns(), time.monotonic(), asyncio.get_running_loop().time())
        await asyncio.sleep(60)
        after = (time.time_ns(), time.monotonic(), asyncio.get_running_loop().time())
        return [(new - old) / scale for old, new, scale in zip(before, after, (1e9, 1, 1), strict=True)]

    began = time.perf_counter()
    assert run(main) == pytest.approx([60, 60, 60], abs=0.01)
    assert time.perf_counter() - began < 5


async def _count(steps):
    while True:
        steps.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.1)


def test_a_frozen_process_takes_no_step_and_goes_on_where_it_stood():
    async def main():
        steps = []
        process = Process()
        with process.inside():
            task = asyncio.create_task(_count(steps))
        await asyncio.sleep(0.35)
        process.freeze()
        frozen = len(steps)
        await asyncio.sleep(5)
        assert len(steps) == frozen == 4
        process.thaw()
        await asyncio.sleep(0.25)
        assert len(steps) > frozen
        task.cancel()

    run(main)


def test_a_timeout_that_passes_while_frozen_is_felt_at_the_thaw():
    async def main():
        felt = []

        async def waits():
            try:
                async with asyncio.timeout(1.0):
                    await asyncio.sleep(100)
            except TimeoutError:
                felt.append(asyncio.get_running_loop().time())

        process = Process()
        with process.inside():
            task = asyncio.create_task(waits())
        await asyncio.sleep(0.5)
        process.freeze()
        await asyncio.sleep(4)
        assert felt == []
        process.thaw()
        await task
        assert felt[0] == pytest.approx(4.5, abs=0.05)

    run(main)


def test_a_killed_process_ends_with_all_it_began_and_nobody_else_does():
    async def main():
        own, children, others = [], [], []
        process = Process()

        async def parent():
            asyncio.get_running_loop().create_task(_count(children))
            await _count(own)

        other = asyncio.create_task(_count(others))
        with process.inside():
            task = asyncio.create_task(parent())
        await asyncio.sleep(0.35)
        process.freeze()
        process.kill()
        done = (len(own), len(children))
        await asyncio.sleep(1)
        assert (len(own), len(children)) == done
        assert task.cancelled()
        assert len(others) > 10
        other.cancel()

    run(main)
