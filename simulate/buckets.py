"""Token buckets, as both venues limit requests."""

import time


class TokenBucket:
    """`rate` tokens a second up to `capacity`; all or nothing."""

    __slots__ = ("_at", "_tokens", "capacity", "rate")

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self._tokens = capacity
        self._at = time.monotonic()

    def take(self, cost: float) -> bool:
        """Take `cost` tokens, or nothing; tell whether they were there."""
        self._fill()
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def debit(self, cost: float) -> None:
        """Take tokens afterwards; the balance may go below zero."""
        self._fill()
        self._tokens -= cost

    def remaining(self) -> int:
        """Return the whole tokens left."""
        self._fill()
        return int(self._tokens)

    def wait_s(self, cost: float) -> float:
        """Return how long until `cost` tokens are there."""
        self._fill()
        return max(0.0, (cost - self._tokens) / self.rate)

    def _fill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self.capacity, self._tokens + (now - self._at) * self.rate)
        self._at = now
