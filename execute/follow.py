"""An order after its bytes left: followed until it is terminal and every fill the venue counts is known.

One small loop for each order, whoever sent it: look up what is unknown, cancel what is to go, ask now and then for what
rests, fetch fills that are missing. The private stream is usually faster; this is what holds when it is not. Whatever
it is at, it gives up as soon as the order is to go: nothing else of an order is as urgent as taking it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from core.domain.errors import OutcomeUnknown, Reject, Retry, Unknown
from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock
from execute.calls import TooLate
from execute.health import Health
from execute.journal import Journal
from execute.orders import Tracked, shrinks
from execute.ports import Caller, Lane, Reply, Request, Venue
from execute.views import Lookup, OrderView
from schemas.decision import Amend, Cancel, Grant
from schemas.order import Submitting
from venues.refusal import Outcome

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0
CANCEL_PAUSE_MAX_S = 1.0
RENEW_QUIET_NS = 5 * NS_PER_S
"""After an Amend may last have been sent nothing is renewed for so long."""
QUIET_S = 1.0
"""The gateway that claimed an order may still be at it for so long after `send_by`: another one asks no earlier."""


class Follower:
    """Follows the orders of one account."""

    def __init__(
        self,
        *,
        venue: Venue,
        journal: Journal,
        caller: Caller,
        health: Health,
        clock: Clock,
        open_poll_s: float,
        why_not_amend: Callable[[Tracked, Amend], str],
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        """`spawn` runs a coroutine to its end beside everything else; `why_not_amend` are the checks of a changed order."""
        self._why_not_amend = why_not_amend
        self._doubted: set[str] = set()
        """Amends that may have been done although no answer said so."""
        self._venue = venue
        self._journal = journal
        self._caller = caller
        self._health = health
        self._clock = clock
        self._open_poll_s = open_poll_s
        self._spawn = spawn

    def start(self, tracked: Tracked) -> None:
        """Follow an order, once."""
        if not tracked.followed and not tracked.complete:
            tracked.followed = True
            self._spawn(self._follow(tracked))

    async def _follow(self, tracked: Tracked) -> None:
        last_s = self._clock.monotonic_s()
        # Of an order this process sent the answer is known; of any other nothing is, so it is asked for at once. And what
        # came while the answer was awaited (the stream had told) is done at once.
        rests = tracked.left and tracked.answered and tracked.amend is None and not self._is_to_go(tracked)
        due_s = last_s + self._open_poll_s if rests else last_s
        pause_s = PAUSE_MIN_S
        try:
            while not tracked.complete:
                tracked.changed.clear()
                now_s = self._clock.monotonic_s()
                wait_s = max(due_s - now_s, self._quiet_s(tracked))
                if wait_s <= 0:
                    went, amend = self._can_go(tracked), tracked.amend
                    await self._step_unless_to_go(tracked)
                    last_s = self._clock.monotonic_s()
                    if (self._can_go(tracked) and not went) or tracked.amend not in (None, amend):
                        # It came while something else was under way.
                        due_s, pause_s = last_s, PAUSE_MIN_S
                        continue
                    rests = tracked.answered and not tracked.terminal and not self._is_to_go(tracked)
                    rests = rests and tracked.amend is None
                    due_s = last_s + (self._open_poll_s if rests else pause_s)
                    pause_s = min(pause_s * 2, CANCEL_PAUSE_MAX_S if self._is_to_go(tracked) else PAUSE_MAX_S)
                    continue
                try:
                    async with asyncio.timeout(wait_s):
                        await tracked.changed.wait()
                except TimeoutError:
                    continue
                pause_s = PAUSE_MIN_S
                hurries = self._is_to_go(tracked) or tracked.amend is not None
                if tracked.terminal or hurries or not tracked.answered:
                    # What changed may need a step soon: the fills of a terminal order, a Cancel. A fill of a resting
                    # order needs none.
                    grace_s = 0.0 if hurries else self._clock.monotonic_s() - last_s
                    due_s = min(due_s, last_s + PAUSE_MIN_S + grace_s)
        finally:
            tracked.followed = False

    def _is_to_go(self, tracked: Tracked) -> bool:
        return not tracked.terminal and (tracked.cancel is not None or bool(self._health.stop_reason()))

    def _can_go(self, tracked: Tracked) -> bool:
        return self._is_to_go(tracked) and bool(tracked.venue_order)

    def _quiet_s(self, tracked: Tracked) -> float:
        """Return for how long an order is another gateway's to ask for: that one may be just sending it."""
        if tracked.answered or tracked.left or tracked.terminal or tracked.submitting is None:
            return 0.0
        quiet_until_ns = tracked.submitting.send_by_ns + int(QUIET_S * NS_PER_S)
        return (quiet_until_ns - self._clock.now_ns()) / NS_PER_S

    async def _step_unless_to_go(self, tracked: Tracked) -> None:
        """Take a step; any but the cancel itself is given up where it stands once the order is to go."""
        if self._can_go(tracked):
            await self._step(tracked)
            return
        step = asyncio.ensure_future(self._step(tracked))
        try:
            while not step.done() and not self._can_go(tracked):
                tracked.changed.clear()
                changed = asyncio.ensure_future(tracked.changed.wait())
                try:
                    await asyncio.wait((step, changed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            step.cancel()
            await asyncio.wait((step,))
        if not step.cancelled():
            step.result()

    async def _step(self, tracked: Tracked) -> None:
        try:
            if self._can_go(tracked):
                await self._cancel(tracked)
            elif tracked.amend is not None and tracked.venue_order and tracked.answered and not tracked.terminal:
                await self._amend(tracked, tracked.amend)
            else:
                await self._renew(tracked, await self._look_up(tracked))
        except (Retry, Unknown, Reject) as e:
            log.get().warning("order.not_known", order=tracked.id, reason=str(e))

    async def _cancel(self, tracked: Tracked) -> None:
        subject = tracked.subject()
        request = self._venue.cancel(subject)
        reply = await self._caller.call(request, lane=Lane.CANCEL, order=tracked.id)
        answer = self._venue.read_cancel(subject, reply)
        self._journal.views(answer.views, reply.recv_ts_ns, order=tracked)
        if not any(getattr(view, "terminal", False) for view in answer.views):
            # Cancelled already, executed, or never arrived: the answer is the same for all.
            await self._look_up(tracked)

    async def _amend(self, tracked: Tracked, amend: Amend) -> None:
        """Change an order that rests; what stands then is looked up, whatever the answer says, unless the stream told."""
        reason = self._why_not_amend(tracked, amend)
        # Of an entry it goes with the entries: quotes that move must not keep a hedge from its `send_by`.
        entry = tracked.grant is not None and tracked.grant.purpose == "ENTRY"
        stood_ns = tracked.stands_ns
        if not reason:
            assert tracked.grant is not None, "checked above"
            request = self._venue.amend(tracked.subject(), amend)
            if request is None:
                self._replace(tracked, amend)
                return
            try:
                reply = await self._caller.call(
                    request,
                    lane=Lane.NEW if entry and not shrinks(tracked.grant, amend) else Lane.HEDGE,
                    order=tracked.id,
                    send_by_ns=amend.send_by_ns,
                    why_not=lambda: self._why_not_amend(tracked, amend),
                )
            except TooLate as e:
                reason = str(e)
            except (OutcomeUnknown, asyncio.CancelledError):
                # Given up for a Cancel it may be done, too.
                self._doubted.add(amend.id)
                raise
            else:
                # Without an outcome the same bytes may be sent again: the size is the total.
                if reply.status >= 400:
                    error = self._venue.refusal(reply)
                    if error.outcome is Outcome.UNKNOWN:
                        self._doubted.add(amend.id)
                        return
                    reason = f"venue: {error.code}: {error.message}"
        if tracked.amend is amend:
            tracked.amend = None
        if reason and amend.id not in self._doubted:
            self._journal.amend_refused(tracked, amend, reason)
        self._doubted.discard(amend.id)
        if reason or tracked.stands_ns <= stood_ns or tracked.stands != (amend.price, amend.size):
            await self._look_up(tracked, _Behind(self._caller, Lane.REPORT) if entry else None)

    def _replace(self, tracked: Tracked, amend: Amend) -> None:
        """Cancel what cannot be amended: its last event says what was filled, what is to follow is a new Grant."""
        tracked.amend = None
        tracked.cancel = tracked.cancel or Cancel(
            id=amend.id,
            order=amend.order,
            account=amend.account,
            instrument=amend.instrument,
            reason=f"{self._venue.name} amends nothing: cancelled, to be granted anew ({amend.reason})",
            now_ns=amend.now_ns,
            recv_ts_ns=amend.recv_ts_ns,
        )
        tracked.changed.set()

    async def _renew(self, tracked: Tracked, found: Lookup) -> None:
        """Put off the expiry of an order that rests as its Grant says; it is looked at every `open_poll_s`."""
        grant = tracked.grant
        if grant is None or grant.time_in_force != "GTC" or tracked.amend is not None or tracked.terminal:
            return
        if self._is_to_go(tracked) or not _stands_as_granted(found, grant):
            return
        if self._clock.now_ns() < tracked.amend_until_ns + RENEW_QUIET_NS:
            return  # lists lag: what they show may be older than an amendment that is done
        request = self._venue.renew(tracked.subject(), self._clock.now_ns())
        if request is None:
            return
        reply = await self._caller.call(request, lane=Lane.HEDGE, order=tracked.id)
        if reply.status >= 400:
            error = self._venue.refusal(reply)
            log.get().warning("order.not_renewed", order=tracked.id, reason=f"{error.code}: {error.message}")

    async def _look_up(self, tracked: Tracked, caller: Caller | None = None) -> Lookup:
        submitting = tracked.submitting
        assert isinstance(submitting, Submitting), "only what was submitted is followed"
        if not tracked.answered:
            self._journal.unknown(tracked, "submitted, and no outcome is known")
        subject = tracked.subject()
        found = await self._venue.look_up(caller or self._caller, subject)
        self._journal.views(found.views, self._clock.now_ns(), order=tracked)
        arrives_by_ns = max(submitting.send_by_ns, submitting.ts_ns) + int(self._venue.acceptance_window_s * NS_PER_S)
        # What has no name yet (a Submitting without one, its Grant unread) is not found because of that.
        is_named = bool(subject.client_id or subject.venue_order)
        is_over = is_named and found.as_of_ns > arrives_by_ns
        if is_over and not found.found and not tracked.terminal and not tracked.answered:
            self._journal.never_arrived(tracked, found.as_of_ns)
        return found


class _Behind:
    """A `Caller` whose requests go in one lane, whichever they ask for."""

    def __init__(self, caller: Caller, lane: Lane) -> None:
        self._caller = caller
        self._lane = lane

    async def call(
        self,
        request: Request,
        *,
        lane: Lane,
        order: str = "",
        send_by_ns: int = 0,
        headers: Mapping[str, str] | None = None,
        why_not: Callable[[], str] | None = None,
    ) -> Reply:
        """Send one request; see `ports.Caller`."""
        return await self._caller.call(
            request, lane=self._lane, order=order, send_by_ns=send_by_ns, headers=headers, why_not=why_not
        )


def _stands_as_granted(found: Lookup, grant: Grant) -> bool:
    # A renewal repeats price and total: on an older view of them it would undo an amendment.
    return any(
        isinstance(view, OrderView)
        and view.status == "ACCEPTED"
        and view.filled < view.size
        and (view.price, view.size) == (grant.price, grant.size)
        for view in found.views
    )
