"""How long to wait before trying again: exponential with full jitter."""

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
