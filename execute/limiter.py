"""One rate budget for each (account, bucket): cancel > hedge > new > reports, 30 % kept for cancels.

Every request of an account takes its tokens here before it leaves. A lane waits behind the lanes above it; only cancels
may use the last 30 % of a bucket. A waiter gives up at its deadline, so nothing waits for ever.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Mapping

from core.domain.errors import Unavailable
from core.runtime.clock import Clock
from execute.ports import Budget, Lane

CANCEL_SHARE_PERCENT = 30
WAITERS_MAX = 1_000
"""Requests that may queue for one bucket; beyond it they are refused."""
_WAIT_MIN_S = 0.001
_WAIT_MAX_S = 0.25


class Limiter:
    """Token buckets of one account."""

    def __init__(self, budgets: Mapping[str, Budget], clock: Clock) -> None:
        self._clock = clock
        self._buckets = {name: _Bucket(budget, clock.monotonic_s()) for name, budget in budgets.items()}

    def set(self, budgets: Mapping[str, Budget]) -> None:
        """Use what the venue says of its own limits; buckets it does not name stay."""
        for name, budget in budgets.items():
            place = self._buckets[name]
            place.budget = budget
            place.tokens = min(place.tokens, float(budget.capacity))

    async def take(self, bucket: str, cost: int, lane: Lane, *, wait_s: float) -> None:
        """Take `cost` tokens, waiting at most `wait_s` for them.

        Raises:
            Unavailable: the budget did not allow it in time, or too many wait already.
        """
        place = self._buckets[bucket]
        deadline = self._clock.monotonic_s() + wait_s
        if len(place.waiting) >= WAITERS_MAX:
            raise Unavailable(f"rate budget {bucket!r}: {WAITERS_MAX} requests wait already")
        entry = (int(lane), next(place.numbers))
        heapq.heappush(place.waiting, entry)
        try:
            while True:
                now = self._clock.monotonic_s()
                lacking = place.lacking(cost, lane, now)
                if place.waiting[0] == entry and lacking <= 0:
                    place.tokens -= cost
                    return
                if now >= deadline:
                    raise Unavailable(f"rate budget {bucket!r}: no {cost} tokens for {lane.name} within {wait_s:.3f} s")
                pause = min(max(lacking / place.budget.refill_per_s, _WAIT_MIN_S), _WAIT_MAX_S)
                await asyncio.sleep(min(pause, max(deadline - now, 0)))
        finally:
            place.waiting.remove(entry)
            heapq.heapify(place.waiting)

    def drain(self, bucket: str, pause_s: float) -> None:
        """Forget the tokens of a bucket and gain none for `pause_s`: the venue says that we were too fast."""
        place = self._buckets[bucket]
        place.tokens = min(place.tokens, 0)
        place.filled_at_s = max(place.filled_at_s, self._clock.monotonic_s() + pause_s)


class _Bucket:
    def __init__(self, budget: Budget, now_s: float) -> None:
        self.budget = budget
        self.tokens = float(budget.capacity)
        self.filled_at_s = now_s
        self.waiting: list[tuple[int, int]] = []
        self.numbers = itertools.count()

    def lacking(self, cost: int, lane: Lane, now_s: float) -> float:
        """Return how many tokens are missing for this lane, 0 or less when there are enough."""
        if now_s > self.filled_at_s:
            gained = (now_s - self.filled_at_s) * self.budget.refill_per_s
            self.tokens = min(self.tokens + gained, self.budget.capacity)
            self.filled_at_s = now_s
        kept = 0 if lane is Lane.CANCEL else self.budget.capacity * CANCEL_SHARE_PERCENT / 100
        return cost + kept - self.tokens
