"""What an account says about itself at intervals: VenueReport over REST, Alive from here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from core.domain.errors import Reject, Retry, Unknown
from core.runtime.clock import Clock
from execute.guards import Funds
from execute.health import Health
from execute.journal import Journal
from execute.orders import Orders
from execute.ports import Caller, Venue
from execute.views import Held
from schemas.order import Alive, VenueReport

BACKOFF_MAX_S = 60.0
FAULT = "report"
UNREAD = "funds"
FAILURES_MIN = 2
"""Reports that failed in a row before the gateway calls itself not ready."""


class Reporter:
    """Asks for cash, holdings and open orders, with the venue's own time of them."""

    def __init__(
        self,
        *,
        venue: Venue,
        caller: Caller,
        journal: Journal,
        orders: Orders,
        health: Health,
        clock: Clock,
        held: Callable[[], Sequence[Held]],
        interval_s: float,
        funds: Funds,
    ) -> None:
        self._funds = funds
        self._venue = venue
        self._caller = caller
        self._journal = journal
        self._orders = orders
        self._health = health
        self._clock = clock
        self._held = held
        self._interval_s = interval_s

    async def run(self) -> None:
        """Report until cancelled; a venue that does not answer is asked less and less often."""
        pause_s = self._interval_s
        failures = 0
        while True:
            try:
                await self.report()
            except (Retry, Unknown, Reject) as e:
                failures += 1
                # One answer that is lost is no reason to stop trading.
                if failures >= FAILURES_MIN:
                    self._health.fault(FAULT, str(e))
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
            else:
                failures = 0
                self._health.fault(FAULT, "")
                pause_s = self._interval_s
            await asyncio.sleep(pause_s)

    async def report(self) -> None:
        """Ask once, and write the VenueReport once all that is held was read for it."""
        report = await self._venue.report(self._caller, self._held())
        if report.purse is not None:
            self._funds.report(report.purse)
            self._health.fault(UNREAD, "")
        if report.unread:
            # What is left out would be taken for nothing held: the next turns read on.
            return
        names = []
        for venue_order in report.open_orders:
            tracked = self._orders.find(venue_order=venue_order)
            names.append(tracked.id if tracked else venue_order)
        self._journal.report(
            VenueReport(
                account=self._journal.account,
                as_of_ns=report.as_of_ns,
                cash_e6=report.cash_e6,
                holdings=list(report.holdings),
                open_orders=names,
                cash_shards=sorted(report.cash_by_shard),
                shard_cash_e6=[cash_e6 for _, cash_e6 in sorted(report.cash_by_shard.items())],
                ts_ns=self._clock.now_ns(),
            )
        )


def say_alive(*, journal: Journal, health: Health, clock: Clock) -> None:
    """Write one Alive, as things stand."""
    reason = health.not_ready_reason()
    journal.report(
        Alive(account=journal.account, writer=journal.writer, ready=not reason, reason=reason, ts_ns=clock.now_ns())
    )
