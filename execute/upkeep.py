"""What a gateway does beside orders: its rate limits, settlements nobody spoke of, the last cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock
from execute.checks import Market
from execute.guards import Jurisdiction, VenueState
from execute.health import Health
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
REFRESH_TRIES_MAX = 10
"""Then the venue's own figure has to do."""
STATUS_POLL_S = 10.0
STANDING_POLL_S = 3_600.0
STANDING_AGAIN_S = 60.0
"""After a question about jurisdiction that was not answered."""
ACCOUNT = "account"
"""Fault of an account that is not set as this gateway needs it."""
ACCOUNT_POLL_S = 3_600.0
ACCOUNT_AGAIN_S = 60.0
ACCOUNT_FIRST_S = 2.0
"""Between two tries while it was never answered: no entry is taken until then."""
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
        self._refused: dict[str, int] = {}
        """token -> how often the venue was asked in vain"""

    def settled(self, held: Held) -> None:
        """Note that a balance changed on chain; beyond the bound the periodic report has to do."""
        if len(self._stale) < REFRESH_MAX:
            self._stale[held.token] = held

    @property
    def stale(self) -> Container[str]:
        """The tokens whose balance the venue is still to be told to look at."""
        return self._stale.keys()

    async def refresh_balances(self) -> None:
        """Let the venue look again at what changed on chain, until cancelled."""
        while self._venue.settles:
            await asyncio.sleep(REFRESH_PAUSE_S)
            if not self._stale:
                continue
            held = next(iter(self._stale.values()))
            request = self._venue.refresh(held)
            if request is None:
                return
            why = ""
            try:
                reply = await self._caller.call(request, lane=Lane.REPORT)
                if reply.status != 200:
                    why = f"answered {reply.status}"
            except (Reject, Retry, Unknown) as e:
                why = str(e)
            self._looked(held, why)

    def _looked(self, held: Held, why_not: str) -> None:
        """Note that the venue looked at the chain, or why not: it is asked again after the others, not for ever."""
        if self._stale.get(held.token) is not held:
            return  # it changed meanwhile
        del self._stale[held.token]
        if not why_not:
            self._refused.pop(held.token, None)
            return
        log.get().warning("gateway.balance_not_refreshed", instrument=held.instrument, reason=why_not)
        tries = self._refused[held.token] = self._refused.pop(held.token, 0) + 1
        if tries < REFRESH_TRIES_MAX:
            self._stale[held.token] = held
        else:
            del self._refused[held.token]

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

    async def watch_account(self, health: Health) -> None:
        """Ask at the start and every hour whether the account is set as this gateway needs it, until cancelled.

        Until the first answer that is a fault; a later question without one leaves the last verdict.
        """
        health.fault(ACCOUNT, "how it is set is not known yet: the venue was not heard on it")
        again_s = ACCOUNT_FIRST_S
        while True:
            pause_s = ACCOUNT_POLL_S
            try:
                health.fault(ACCOUNT, await self._venue.account_fault(self._caller))
                again_s = ACCOUNT_AGAIN_S
            except (Reject, Retry, Unknown) as e:
                log.get().warning("gateway.account_not_checked", reason=str(e))
                pause_s = again_s
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


def outcomes_held(orders: Orders, market: Market, *, waits: Container[str] = frozenset()) -> list[Held]:
    """Return every outcome the account may hold a token of: those its orders were ever filled in.

    `waits` are the tokens whose balance the venue is still to be told to look at.
    """
    found: list[Held] = []
    for (name, outcome), moves in orders.moves.items():
        instrument = market.instruments.get(name)
        if instrument is None or len(instrument.tokens) != 2 or outcome not in {"YES", "NO"}:
            continue
        token = instrument.tokens[0 if outcome == "YES" else 1]
        is_over = instrument.status in {"DETERMINED", "SETTLED"}
        found.append(Held(name, outcome, token, moves.size, moves.moved_ns, token in waits, is_over))
    return found
