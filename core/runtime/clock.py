"""The only place that reads a clock or makes a random number. What needs either is handed a `Clock`."""

from __future__ import annotations

import secrets
import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Time and randomness of the outside world, for edges and sequencers."""

    def now_ns(self) -> int:
        """Return the wall clock in ns since the epoch."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go back, for waiting."""
        ...

    def random_bits(self, bits: int) -> int:
        """Return that many random bits."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def random_bits(self, bits: int) -> int:
        return secrets.randbits(bits)


class ManualClock:
    """A clock that moves only when told, and whose random numbers are a counted sequence."""

    def __init__(self, now_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._now_ns = now_ns
        self._draws = 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_s(self) -> float:
        return self._now_ns / NS_PER_S

    def random_bits(self, bits: int) -> int:
        self._draws += 1
        return (self._draws * 0x9E3779B97F4A7C15) & ((1 << bits) - 1)

    def advance(self, *, ms: int = 0, ns: int = 0) -> None:
        """Move the clock forward."""
        self._now_ns += ms * NS_PER_MS + ns
