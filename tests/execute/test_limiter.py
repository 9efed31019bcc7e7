"""One rate budget an account: who waits for whom."""

import asyncio

import pytest

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from execute.limiter import Limiter
from execute.ports import Budget, Lane


def limiter(refill=100, capacity=100):
    return Limiter({"write": Budget(refill, capacity)}, SystemClock())


async def test_last_thirty_percent_are_kept_for_cancels():
    budget = limiter(refill=1)
    await budget.take("write", 70, Lane.HEDGE, wait_s=0)
    for lane in (Lane.HEDGE, Lane.NEW, Lane.REPORT):
        with pytest.raises(Unavailable, match="write"):
            await budget.take("write", 1, lane, wait_s=0)
    await budget.take("write", 30, Lane.CANCEL, wait_s=0)
    with pytest.raises(Unavailable):
        await budget.take("write", 5, Lane.CANCEL, wait_s=0)


async def test_higher_lane_goes_first_however_late_it_comes():
    budget = limiter(refill=200)
    await budget.take("write", 70, Lane.NEW, wait_s=0)
    went = []

    async def want(lane):
        await budget.take("write", 10, lane, wait_s=2)
        went.append(lane)

    waiting = [asyncio.create_task(want(Lane.REPORT)), asyncio.create_task(want(Lane.NEW))]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(want(Lane.HEDGE)), asyncio.create_task(want(Lane.CANCEL))]
    await asyncio.gather(*waiting)
    assert went == [Lane.CANCEL, Lane.HEDGE, Lane.NEW, Lane.REPORT]


async def test_waiter_gives_up_in_time_and_lets_the_next_pass():
    budget = limiter(refill=50)
    await budget.take("write", 70, Lane.NEW, wait_s=0)
    with pytest.raises(Unavailable, match=r"within 0\.050 s"):
        await budget.take("write", 60, Lane.HEDGE, wait_s=0.05)
    await budget.take("write", 1, Lane.NEW, wait_s=1)


async def test_throttled_bucket_gains_nothing_until_the_pause_is_over():
    budget = limiter(refill=1_000)
    budget.drain("write", 0.2)
    with pytest.raises(Unavailable):
        await budget.take("write", 1, Lane.CANCEL, wait_s=0.1)
    await budget.take("write", 1, Lane.CANCEL, wait_s=1)


async def test_budget_of_the_venue_replaces_the_assumed_one():
    budget = limiter(refill=1, capacity=1_000)
    budget.set({"write": Budget(1, 10)})
    with pytest.raises(Unavailable):
        await budget.take("write", 11, Lane.CANCEL, wait_s=0)
