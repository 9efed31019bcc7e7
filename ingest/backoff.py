"""How long to wait before trying again: exponential with full jitter for one feed, a breaker for a whole host."""

import asyncio
from dataclasses import dataclass

from core.runtime import log
from core.runtime.clock import Clock

_JITTER_BITS = 32


class Backoff:
    """Waiting times of one thing that is tried again and again."""

    def __init__(self, clock: Clock, *, first_s: float, max_s: float) -> None:
        self._clock = clock
        self._first_s = first_s
        self._max_s = max_s
        self._tries = 0

    def next_s(self) -> float:
        """Return the next pause: anything between nothing and twice as much as before, up to the maximum."""
        limit = min(self._max_s, self._first_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return limit * self._clock.random_bits(_JITTER_BITS) / 2.0**_JITTER_BITS

    def reset(self) -> None:
        """It worked: begin with the shortest pause again."""
        self._tries = 0


@dataclass(frozen=True)
class BreakerLimits:
    """When a host is left alone.

    Attributes:
        failures_max: in a row, over all connections to the host.
        pause_s: without any attempt; then one may try.
    """

    failures_max: int = 5
    pause_s: float = 15.0


class Breaker:
    """Keeps a host that refuses everybody from being asked by everybody."""

    def __init__(self, host: str, clock: Clock, limits: BreakerLimits, connecting_max: int) -> None:
        """`connecting_max`: handshakes under way at a time."""
        self._host = host
        self._clock = clock
        self._limits = limits
        self._failures = 0
        self._open_until_s = 0.0
        self._gate = asyncio.Semaphore(connecting_max)

    @property
    def is_open(self) -> bool:
        """Say whether nobody may try now."""
        return self._clock.monotonic_s() < self._open_until_s

    async def __aenter__(self) -> None:
        """Wait for leave to try."""
        await self._gate.acquire()
        try:
            while self.is_open:  # noqa: ASYNC110 - a clock, not an event, opens it
                await asyncio.sleep(min(1.0, max(0.0, self._open_until_s - self._clock.monotonic_s())))
        except asyncio.CancelledError:
            self._gate.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Let the next one try."""
        self._gate.release()

    def succeeded(self) -> None:
        """The host answered as it should."""
        self._failures = 0

    def failed(self, pause_s: float = 0.0) -> None:
        """The host did not; above the limit, or with a `pause_s` of its own, everybody pauses."""
        self._failures += 1
        if not pause_s and self._failures >= self._limits.failures_max:
            pause_s = self._limits.pause_s
        if pause_s and not self.is_open:
            self._open_until_s = self._clock.monotonic_s() + pause_s
            log.get().warning("host.paused", host=self._host, failures=self._failures, pause_s=pause_s)
