"""What a gateway does beside orders: its rate limits, settlements nobody spoke of, the last cancels."""

from __future__ import annotations

import asyncio

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock
from execute.checks import Market
from execute.guards import Jurisdiction, VenueState
from execute.journal import Journal
from execute.limiter import Limiter
from execute.orders import Orders, Tracked
from execute.ports import Caller, Lane, Venue
from execute.views import Held

SETTLEMENT_POLL_S = 10.0
SETTLEMENT_AGE_NS = 15 * NS_PER_S
"""A settlement is asked for when its end was not heard of for so long."""
LAST_CANCEL_S = 3.0
REFRESH_PAUSE_S = 0.5
"""Between two requests to look at the chain again: the venue allows 50 in 10 s."""
REFRESH_MAX = 200
STATUS_POLL_S = 10.0
STANDING_POLL_S = 3_600.0
STANDING_AGAIN_S = 60.0
"""After a question about jurisdiction that was not answered."""
BUDGET_PAUSES_S = (1.0, 5.0, 30.0)


class Upkeep:
    """Of one account."""

    def __init__(self, *, venue: Venue, orders: Orders, journal: Journal, caller: Caller, clock: Clock) -> None:
        self._venue = venue
        self._orders = orders
        self._journal = journal
        self._caller = caller
        self._clock = clock
        self._stale: dict[str, Held] = {}
        """Tokens whose balance changed on chain, by token; the venue does not look by itself."""

    def settled(self, held: Held) -> None:
        """Note that a balance changed on chain; beyond the bound the periodic report has to do."""
        if len(self._stale) < REFRESH_MAX:
            self._stale[held.token] = held

    async def refresh_balances(self) -> None:
        """Let the venue look again at what changed on chain, until cancelled."""
        while self._venue.settles:
            await asyncio.sleep(REFRESH_PAUSE_S)
            if not self._stale:
                continue
            held = self._stale.pop(next(iter(self._stale)))
            request = self._venue.refresh(held)
            if request is None:
                return
            try:
                await self._caller.call(request, lane=Lane.REPORT)
            except (Reject, Retry, Unknown) as e:
                log.get().warning("gateway.balance_not_refreshed", instrument=held.instrument, reason=str(e))

    async def learn_budgets(self, limiter: Limiter) -> None:
        """Use the account's own rate limits, if the venue tells; else what was assumed stays."""
        for pause_s in BUDGET_PAUSES_S:
            try:
                limiter.set(await self._venue.live_budgets(self._caller))
                return
            except (Reject, Retry, Unknown) as e:
                log.get().warning("gateway.budgets_not_read", reason=str(e))
            await asyncio.sleep(pause_s)

    async def watch_status(self, state: VenueState) -> None:
        """Ask now and then whether the venue trades, until cancelled; returns where it has no such page."""
        while True:
            try:
                found = await self._venue.status(self._caller)
                if found is None:
                    return
                state.polled(found.mode, found.why, self._clock.now_ns(), shards_paused=found.shards_paused)
            except (Reject, Retry, Unknown) as e:
                log.get().warning("gateway.status_not_read", reason=str(e))
            await asyncio.sleep(STATUS_POLL_S)

    async def watch_standing(self, jurisdiction: Jurisdiction) -> None:
        """Ask the venue at the start and every hour where this address and account may trade, until cancelled."""
        said = ""
        while self._venue.asks_standing:
            pause_s = STANDING_POLL_S
            try:
                standing = await self._venue.ask_standing(self._caller)
                jurisdiction.hear(standing, self._clock.now_ns())
                if said != f"{standing.verdict} {standing.reason}":
                    said = f"{standing.verdict} {standing.reason}"
                    log.get().info("gateway.standing", verdict=standing.verdict, reason=standing.reason)
            except (Reject, Retry, Unknown) as e:
                log.get().warning("gateway.standing_not_known", reason=str(e))
                pause_s = STANDING_AGAIN_S
            await asyncio.sleep(pause_s)

    async def chase_settlements(self) -> None:
        """Ask for settlements whose end the private stream did not tell, until cancelled."""
        while self._venue.settles:
            await asyncio.sleep(SETTLEMENT_POLL_S)
            await self.settle_once()

    async def settle_once(self) -> None:
        """Ask for every settlement that is overdue."""
        old_ns = self._clock.now_ns() - SETTLEMENT_AGE_NS
        for tracked in self._orders.unsettled():
            if tracked.submitting is None or all(fill.ts_ns > old_ns for fill in tracked.fills.values()):
                continue
            try:
                found = await self._venue.look_up(self._caller, tracked.subject())
            except (Reject, Retry, Unknown) as e:
                log.get().warning("order.not_settled", order=tracked.id, reason=str(e))
                continue
            self._journal.views(found.views, self._clock.now_ns(), order=tracked)

    async def cancel_for_good(self) -> None:
        """Ask once for the cancel of all that rests: nobody will follow it any more."""
        for tracked in self._orders.out():
            if not tracked.venue_order:
                continue
            try:
                async with asyncio.timeout(LAST_CANCEL_S):
                    request = self._venue.cancel(tracked.subject())
                    await self._caller.call(request, lane=Lane.CANCEL, order=tracked.id)
            except (TimeoutError, Reject, Retry, Unknown) as e:
                log.get().error("order.not_cancelled", order=tracked.id, reason=str(e))


def token_of(tracked: Tracked, fill: str, market: Market) -> Held | None:
    """Return the token a fill moved, None where it moved none."""
    instrument, known = market.instruments.get(tracked.instrument), tracked.fills.get(fill)
    if instrument is None or known is None or len(instrument.tokens) != 2 or known.outcome not in {"YES", "NO"}:
        return None
    return Held(tracked.instrument, known.outcome, instrument.tokens[0 if known.outcome == "YES" else 1])


def outcomes_held(orders: Orders, market: Market) -> list[Held]:
    """Return every outcome the account may hold a token of: those its orders were ever filled in."""
    found: dict[str, Held] = {}
    for tracked in orders:
        instrument = market.instruments.get(tracked.instrument)
        if instrument is None or not tracked.fills:
            continue
        filled = {fill.outcome for fill in tracked.fills.values()}
        if len(instrument.tokens) == 2:
            yes, no = instrument.tokens
            if "YES" in filled:
                found[yes] = Held(tracked.instrument, "YES", yes)
            if "NO" in filled:
                found[no] = Held(tracked.instrument, "NO", no)
    return list(found.values())
