"""When a feed gets a successor: its books are suspect, it went quiet, or it grew old; and how often at most.

A successor is live before its predecessor is closed, so a renewal costs the venue a connection and us nothing. What is
renewed again and again waits longer each time; what is merely due never comes for all feeds at once.
"""

from collections import OrderedDict

from core.runtime import metrics
from core.runtime.clock import Clock

PAUSE_S = 10.0
"""Between two renewals of the same thing; doubled up to `PAUSE_S_MAX` while they follow each other."""
PAUSE_S_MAX = 300.0
KEYS_MAX = 10_000
"""Things remembered; the one renewed longest ago is forgotten."""
SCHEDULED_S = 2.0
"""Longest pause between two feeds of one worker that are renewed only because they are due."""
AGE_SPREAD = 0.2
"""Feeds opened together grow old apart: at between 80 % and all of the age that is allowed."""

_JITTER_BITS = 32


class Renewals:
    """Says whether something may be renewed now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._renewed: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._scheduled_from_s = 0.0

    def may(self, key: str) -> bool:
        """Say whether `key` (an instrument, a partition) may be renewed, and count it as renewed if so."""
        now_s = self._clock.monotonic_s()
        last_s, pause_s = self._renewed.get(key, (float("-inf"), PAUSE_S / 2))
        if now_s - last_s < pause_s:
            metrics.EVENTS.labels("ingest", "renewal_put_off").inc()
            return False
        follows = now_s - last_s < 4 * pause_s
        self._renewed[key] = (now_s, min(PAUSE_S_MAX, pause_s * 2) if follows else PAUSE_S)
        self._renewed.move_to_end(key)
        while len(self._renewed) > KEYS_MAX:
            self._renewed.popitem(last=False)
        return True

    def may_scheduled(self, key: str) -> bool:
        """Say the same of a renewal that has time: one at a time, with a pause of no fixed length between two."""
        now_s = self._clock.monotonic_s()
        last_s, pause_s = self._renewed.get(key, (float("-inf"), 0.0))
        if now_s < self._scheduled_from_s or now_s - last_s < pause_s or not self.may(key):
            return False
        self._scheduled_from_s = now_s + SCHEDULED_S * (0.5 + self.draw() / 2)
        return True

    def draw(self) -> float:
        """Return any number from 0 to 1."""
        return self._clock.random_bits(_JITTER_BITS) / 2.0**_JITTER_BITS

    def age_limit_s(self, age_s_max: float) -> float:
        """Return the age at which one feed gets a successor."""
        return age_s_max * (1.0 - AGE_SPREAD * self.draw())
