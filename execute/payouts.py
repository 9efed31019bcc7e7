"""What settled markets paid, as the venue lists it: read at intervals, one record on order.event for each statement.

The list is asked from the newest payout that was seen, less an overlap: it may be behind itself. A correction may stand
under its old time, so now and then, and at the start, it is asked from far back. What was said stands in the log: after
a restart nothing is said again.
"""

from __future__ import annotations

import asyncio

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log, metrics
from core.runtime.clock import NS_PER_S, Clock
from execute.journal import Journal
from execute.pages import as_far_back_as_read
from execute.ports import Caller, Venue

OVERLAP_NS = 3_600 * NS_PER_S
LOOK_BACK_NS = 30 * 24 * 3_600 * NS_PER_S
"""A correction of what was paid earlier than that is not seen by itself: the cash of a report shows it."""
SWEEP_NS = 600 * NS_PER_S
BACKOFF_MAX_S = 60.0


class Payouts:
    """Reads the list of one account."""

    def __init__(self, *, venue: Venue, caller: Caller, journal: Journal, clock: Clock, interval_s: float) -> None:
        self._venue = venue
        self._caller = caller
        self._journal = journal
        self._clock = clock
        self._interval_s = interval_s
        self._newest_ns = 0
        self._swept_ns = 0

    async def run(self) -> None:
        """Read until cancelled, ever more seldom while the venue does not answer; returns where it lists nothing."""
        pause_s = self._interval_s
        while self._venue.states_payouts:
            try:
                await self.read()
                pause_s = self._interval_s
            except (Retry, Unknown, Reject) as e:
                # Trading needs none of this; accounts freeze what they wait for too long.
                metrics.EVENTS.labels("execute", "payouts_not_read").inc()
                log.get().warning("gateway.payouts_not_read", account=self._journal.account, reason=str(e))
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
            await asyncio.sleep(pause_s)

    async def read(self) -> None:
        """Ask once and write what is new."""
        now_ns = self._clock.now_ns()
        is_sweep = not self._newest_ns or now_ns - self._swept_ns >= SWEEP_NS
        since_ns = now_ns - LOOK_BACK_NS if is_sweep else self._newest_ns - OVERLAP_NS
        # What is too far back to be read is not taken for paid: accounts freeze what they wait for too long.
        views = await as_far_back_as_read(
            lambda since: self._venue.payouts(self._caller, since), since_ns, now_ns, "payouts"
        )
        # Oldest first, so that a market's correction follows what it corrects.
        ordered = sorted(views, key=lambda view: view.venue_ts_ns)
        self._journal.payouts(ordered, self._clock.now_ns())
        if is_sweep:
            self._swept_ns = now_ns
        self._newest_ns = max([self._newest_ns, *(view.venue_ts_ns for view in ordered)])
