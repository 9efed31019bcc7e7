"""One host of a venue: how many may ask it at a time, and whether it is left alone.

The circuit breaker is the `circuitbreaker` package: closed, open after so many failures in a row, half open after its
pause. Around it stand what a venue asks for besides: a bounded number of questions under way, one trial while half open,
and the pause a venue named itself (a refused key, `Retry-After`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker  # type: ignore[import-untyped]

from core.domain.errors import Unavailable
from core.runtime import log, metrics
from core.runtime.clock import Clock

LOOK_S = 0.05
"""How often those who wait for leave look again."""
NAMED_PAUSE_S_MAX = 300.0
"""The longest pause that is believed when a venue names one."""


@dataclass(frozen=True)
class BreakerLimits:
    """When a host is left alone.

    Attributes:
        failures_max: in a row, over all connections and requests to the host.
        pause_s: without any attempt; then one may try.
    """

    failures_max: int = 5
    pause_s: float = 15.0


class HostGate:
    """Keeps a host that refuses everybody from being asked by everybody."""

    def __init__(self, host: str, clock: Clock, limits: BreakerLimits, asking_max: int) -> None:
        """`asking_max`: handshakes or requests under way at a time."""
        self.host = host
        self._clock = clock
        self._breaker = CircuitBreaker(limits.failures_max, limits.pause_s, Unavailable, host)
        self._paused_until_s = 0.0
        self._places = asyncio.Semaphore(asking_max)
        self._asking = 0

    @property
    def is_open(self) -> bool:
        """Say whether nobody may try now (an open breaker lets nothing through)."""
        return bool(self._breaker.opened) or self._clock.monotonic_s() < self._paused_until_s

    def check(self) -> None:
        """Let pass who would rather do something else than wait.

        Raises:
            Unavailable: the host is left alone.
        """
        if not self._may_try():
            raise Unavailable(f"{self.host} is left alone after {self._breaker.failure_count} failures in a row")

    @asynccontextmanager
    async def asking(self, given_up: Callable[[], bool] = lambda: False) -> AsyncIterator[bool]:
        """Wait for leave to ask; False if the waiting was given up, then nobody may be asked."""
        async with self._places:
            while not self._may_try():
                if given_up():
                    yield False
                    return
                await asyncio.sleep(LOOK_S)
            self._asking += 1
            try:
                yield True
            finally:
                self._asking -= 1

    def succeeded(self) -> None:
        """The host answered as it should."""
        self._breaker.reset()

    def failed(self, pause_s: float = 0.0) -> None:
        """The host did not; above the limit everybody pauses, and for `pause_s` if the host named it."""
        was_open = self.is_open
        self._paused_until_s = max(self._paused_until_s, self._clock.monotonic_s() + pause_s)
        # The breaker counts what is raised inside it, and a task that is cancelled inside would pass for a success.
        with contextlib.suppress(Unavailable), self._breaker:
            raise Unavailable(self.host)
        if self.is_open and not was_open:
            metrics.EVENTS.labels("ingest", "host_paused").inc()
            log.get().warning("host.paused", host=self.host, failures=self._breaker.failure_count, named_s=pause_s)

    def _may_try(self) -> bool:
        if self.is_open:
            return False
        return not (self._breaker.state == STATE_HALF_OPEN and self._asking)


def host_of(url: str) -> str:
    """Return the name a host is spoken of by: without scheme and path."""
    return urlsplit(url).netloc or url


def named_pause_s(retry_after: str | None) -> float:
    """Return the seconds of a `Retry-After`, 0 where none is stated in seconds, at most `NAMED_PAUSE_S_MAX`."""
    text = retry_after or ""
    return min(float(text), NAMED_PAUSE_S_MAX) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0
