"""Requests for new snapshots (`derived.resync`), handed to the feeds that can answer them, at a bounded rate.

Every worker of a venue reads all requests; each takes those of its own share and spends its own part of the rate on them,
so the venue is asked as often whether one worker feeds it or eight. What a feed asks for by itself after a skip of its
sequence is bounded where that is decided, in `ingest.kalshi` and `ingest.renewal`.
"""

from collections.abc import Callable, Mapping

from core.runtime import metrics, queues
from core.runtime.clock import Clock
from core.runtime.flow import Input
from schemas.derived import Resync

PENDING_MAX = 10_000
"""Instruments waiting for their turn; above it requests are dropped, counted, and asked again by derive."""
BURST_S = 1.0

Ask = Callable[[Mapping[str, int]], None]
"""Hands on requests: when each instrument's was made."""


class Resyncs:
    """Collects requests by instrument and lets a bounded number through."""

    def __init__(self, venue: str, clock: Clock, per_s: float) -> None:
        self._venue = venue
        self._clock = clock
        self._per_s = per_s
        self._part = 1.0
        self._is_ours: Callable[[str], bool] = _everything
        self._room = per_s * BURST_S
        self._filled_s = clock.monotonic_s()
        self._pending: dict[str, int] = {}
        queues.watch("resync requests", self, lambda own: len(own._pending), PENDING_MAX)

    def allot(self, part: float, is_ours: Callable[[str], bool]) -> None:
        """Use this part of the venue's rate (0 to 1) for the instruments that `is_ours` names, from now on.

        Requests that wait and are not ours any more are let go: whoever has the share reads the next ones.
        """
        self._part, self._is_ours = part, is_ours
        self._room = min(self._room, self._room_max)
        self._pending = {name: asked_ns for name, asked_ns in self._pending.items() if is_ours(name)}

    def take(self, item: Input) -> None:
        """Note one record."""
        record = item.record
        if not isinstance(record, Resync) or record.venue != self._venue or not self._is_ours(record.instrument):
            return
        if record.instrument not in self._pending and len(self._pending) >= PENDING_MAX:
            metrics.EVENTS.labels("ingest", "resync_dropped").inc()
            queues.at_bound("resync requests", "dropped the request")
            return
        self._pending[record.instrument] = max(record.ts_ns, self._pending.get(record.instrument, 0))

    def due(self) -> dict[str, int]:
        """Return the requests whose turn it is."""
        now_s = self._clock.monotonic_s()
        per_s = self._per_s * self._part
        self._room = min(self._room_max, self._room + (now_s - self._filled_s) * per_s)
        self._filled_s = now_s
        count = min(int(self._room), len(self._pending))
        if count == 0:
            return {}
        self._room -= count
        metrics.EVENTS.labels("ingest", "resync").inc(count)
        return {instrument: self._pending.pop(instrument) for instrument in list(self._pending)[:count]}

    @property
    def _room_max(self) -> float:
        return max(1.0, self._per_s * self._part * BURST_S)


def _everything(_: str) -> bool:
    return True
