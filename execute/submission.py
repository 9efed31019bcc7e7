"""From a Grant to bytes at the venue, at most once.

1. Nothing stands on order.event for it, it is not late, not cancelled, and the checks agree.
2. The exact body is built and written as Submitting; Kafka acknowledges it, and it is read back as the first record of
   any type for this order, with our own writer id.
3. `send_by`, Cancel, the stop conditions, the book, the law and the venue's state are looked at again when a connection is there, just before the
   write: Kafka, the rate budget and the connection took their time.
4. The answer becomes a record. Where there is none, the order is followed until it is known (`follow.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from core.domain.errors import CrossbookError, OutcomeUnknown, Reject, Retry
from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock
from execute.calls import TooLate
from execute.checks import Limits, Market, refuse, refuse_book
from execute.guards import Guards
from execute.health import Health
from execute.journal import Journal
from execute.orders import Orders, Tracked, shrinks
from execute.ports import Caller, Lane, Request, Venue
from execute.signing import at_once
from execute.views import Answer, Mode, OrderView
from schemas.decision import Amend, Grant
from schemas.order import Submitting
from venues.refusal import Outcome

AGAIN_PAUSE_S = 0.05
"""Between two attempts to get the same bytes to the venue before `send_by`."""
ATTEMPTS_MAX = 5


class Refusal(NamedTuple):
    """Why this gateway does not send an order."""

    reason: str


class Submitter:
    """Submits the orders of one account."""

    def __init__(
        self,
        *,
        venue: Venue,
        orders: Orders,
        market: Market,
        limits: Limits,
        journal: Journal,
        caller: Caller,
        health: Health,
        clock: Clock,
        guards: Guards,
        sign: Callable[[Request], asyncio.Future[dict[str, str]]] | None = None,
    ) -> None:
        """`sign` makes the headers of a request without holding the loop; None: on the loop, where nobody waits for it."""
        self._sign = sign or (lambda request: at_once(lambda: venue.headers(request, clock.now_ns())))
        self._venue = venue
        self._guards = guards
        self._orders = orders
        self._market = market
        self._limits = limits
        self._journal = journal
        self._caller = caller
        self._health = health
        self._clock = clock

    def prepare(self, tracked: Tracked) -> Request | Refusal | None:
        """Decide on a Grant; returns the request to submit, why not, or None where nothing is to be done.

        Never waits.
        """
        grant = tracked.grant
        if grant is None or tracked.taken or tracked.first is not None:
            return None
        tracked.taken = True
        unsent = self._why_unsent(tracked, grant)
        if unsent:
            self._journal.unsent(tracked, unsent)
            return None
        reason = self._health.stop_reason()
        if not reason and grant.purpose == "ENTRY":
            reason = self._health.not_ready_reason()
        now = self._clock.now_ns()
        reason = reason or refuse(
            grant, market=self._market, orders=self._orders, limits=self._limits, now_ns=now, guards=self._guards
        )
        if reason:
            return Refusal(reason)
        instrument = self._market.instruments[grant.instrument]
        try:
            request = self._venue.build(grant, instrument)
        except Reject as e:
            return Refusal(str(e))
        # Counted here: the next Grant of the same batch is decided on before this one's Submitting is read back.
        self._orders.hold(tracked, now)
        self._guards.funds.sent(grant, instrument, now)
        return request

    async def refuse(self, tracked: Tracked, refusal: Refusal, *, at_once: bool) -> None:
        """Write a refusal: at once, or after `send_by` if nobody has spoken of the order until then."""
        if not at_once and tracked.grant is not None:
            await asyncio.sleep(self._left_s(tracked.grant))
        if tracked.first is None:
            self._journal.refused(tracked, refusal.reason)

    async def submit(self, tracked: Tracked, request: Request) -> bool:
        """Claim the order and send it; return whether bytes may have left."""
        grant = tracked.grant
        assert grant is not None, "prepared before"
        record = self._journal.submitting(
            tracked, method=request.method, path=request.path, body=request.body, venue_order=request.venue_order
        )
        claim = asyncio.ensure_future(self._journal.claim(record))
        claim.add_done_callback(_log_failure)
        # Lets the record go to the producer before the signature takes its time; they go on beside each other.
        await asyncio.sleep(0)
        signing = self._sign(request)
        try:
            async with asyncio.timeout(self._left_s(grant)):
                await asyncio.shield(claim)
                while tracked.first is None:
                    tracked.changed.clear()
                    await tracked.changed.wait()
        except (TimeoutError, Retry) as e:
            signing.cancel()
            self._journal.unsent(tracked, f"its Submitting was not read back before send_by {e}".rstrip())
            return False
        if not _is_ours(tracked, record):
            signing.cancel()
            log.get().info("order.claimed_by_other", order=tracked.id, owner=tracked.owner)
            return False
        try:
            async with asyncio.timeout(self._left_s(grant)):
                headers = await signing
        except (TimeoutError, Reject) as e:
            # Not a byte left, and its Submitting stands: said by its own writer, this ends the order.
            self._journal.unsent(
                tracked, f"cannot be signed: {e}" if isinstance(e, Reject) else "not signed before send_by"
            )
            return False
        return await self._send(tracked, grant, request, headers)

    async def _send(self, tracked: Tracked, grant: Grant, request: Request, headers: dict[str, str]) -> bool:
        lane = Lane.NEW if grant.purpose == "ENTRY" else Lane.HEDGE
        reason = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await asyncio.sleep(AGAIN_PAUSE_S)
            if tracked.answered:
                # The private stream was faster than the answer.
                return True
            reason = self._why_not_now(tracked, grant)
            if reason:
                break
            try:
                # A repeat is signed anew: its headers carry the time, the body stays the same.
                reply = await self._caller.call(
                    request,
                    lane=lane,
                    order=tracked.id,
                    send_by_ns=grant.send_by_ns,
                    headers=None if attempt else headers,
                    why_not=lambda: self._why_not_now(tracked, grant),
                )
            except TooLate as e:
                reason = str(e)
                break
            except OutcomeUnknown as e:
                self._doubt(tracked, str(e))
                continue
            except Retry as e:
                # Not a byte left: no connection, or no budget.
                reason = str(e)
                continue
            answer = self._venue.read_answer(grant, request, reply)
            self._hear(answer)
            if answer.refusal is None and answer.views:
                tracked.left = tracked.answered = True
                self._journal.views(answer.views, reply.recv_ts_ns, order=tracked)
                return True
            words = "an answer that says nothing of the order"
            if answer.error is not None:
                words = f"{answer.error.message} {answer.error.details}".strip()
            if answer.refusal is Outcome.THROTTLED and not tracked.left:
                reason = f"venue: {words}"
                continue
            if answer.refusal in {None, Outcome.UNKNOWN}:
                self._doubt(tracked, words)
                continue
            if not tracked.left and answer.refusal is not Outcome.DUPLICATE:
                self._reject(tracked, answer.error.code if answer.error else "", words, reply.recv_ts_ns)
                return False
            # After bytes whose fate is unknown a refusal may be about the repeat only (a duplicate id, cash that is
            # bound already): what became of the first is looked up.
            self._doubt(tracked, words)
            break
        if tracked.left:
            return True
        self._journal.unsent(tracked, reason)
        return False

    def _hear(self, answer: Answer) -> None:
        """Learn from an answer what concerns the next orders, too."""
        now = self._clock.now_ns()
        if answer.error is None:
            self._guards.venue_state.heard(Mode.OPEN, "", now)
            return
        mode = self._venue.mode(answer.error)
        if mode is not None:
            self._guards.venue_state.heard(mode, answer.error.message, now, wait_s=answer.error.retry_after_s)
        standing = self._venue.standing(answer.error)
        if standing is not None:
            self._guards.jurisdiction.hear(standing, now)

    def _doubt(self, tracked: Tracked, reason: str) -> None:
        tracked.left = True
        if not tracked.answered:
            self._journal.unknown(tracked, reason)

    def _reject(self, tracked: Tracked, code: str, words: str, recv_ts_ns: int) -> None:
        view = OrderView(venue_order="", status="REJECTED", filled=0, reason=f"venue: {code}: {words}")
        self._journal.views([view], recv_ts_ns, order=tracked)

    def _why_unsent(self, tracked: Tracked, grant: Grant) -> str:
        if tracked.cancel is not None:
            return f"cancelled before it was sent: {tracked.cancel.reason}"
        late_ns = self._clock.now_ns() - grant.send_by_ns
        return f"send_by passed {late_ns / NS_PER_S:.3f} s ago" if late_ns > 0 else ""

    def _why_not_now(self, tracked: Tracked, grant: Grant) -> str:
        """Return what became of a checked order since, that its bytes must not leave; empty if nothing."""
        now = self._clock.now_ns()
        instrument = self._market.instruments[grant.instrument]
        return (
            self._why_unsent(tracked, grant)
            or self._health.stop_reason()
            or refuse_book(grant.instrument, market=self._market, limits=self._limits, now_ns=now)
            or self._guards.jurisdiction.why_not(grant, instrument, now)
            or self._guards.venue_state.why_not(grant, instrument, now)
        )

    def why_not_amend(self, tracked: Tracked, amend: Amend) -> str:
        """Return why an order must not be changed so: the checks of a new order of what is to stand, empty if none."""
        grant, now = tracked.grant, self._clock.now_ns()
        if grant is None:
            return "its Grant is not known any more"
        if now > amend.send_by_ns:
            return f"send_by passed {(now - amend.send_by_ns) / NS_PER_S:.3f} s ago"
        if (amend.price_exp, amend.size_exp) != (grant.price_exp, grant.size_exp):
            return f"expected exponents {grant.price_exp}, {grant.size_exp}, found {amend.price_exp}, {amend.size_exp}"
        if amend.size <= tracked.filled:
            return f"the total {amend.size} is not above what is filled, {tracked.filled}: cancel it"
        wanted = msgspec.structs.replace(grant, price=amend.price, size=amend.size)
        if grant.purpose == "ENTRY" and shrinks(grant, amend):
            # Money and limits were looked at.
            wanted = msgspec.structs.replace(wanted, purpose="HEDGE")
        reason = self._health.stop_reason()
        if not reason and wanted.purpose == "ENTRY":
            reason = self._health.not_ready_reason()
        return reason or refuse(
            wanted, market=self._market, orders=self._orders, limits=self._limits, now_ns=now, guards=self._guards
        )

    def _left_s(self, grant: Grant) -> float:
        return max((grant.send_by_ns - self._clock.now_ns()) / NS_PER_S, 0.0)


def _is_ours(tracked: Tracked, record: Submitting) -> bool:
    first = tracked.first
    return isinstance(first, Submitting) and first.event_id == record.event_id and first.writer == record.writer


def _log_failure(claim: asyncio.Future[int]) -> None:
    if not claim.cancelled() and isinstance(claim.exception(), CrossbookError):
        log.get().warning("submitting.not_written", reason=str(claim.exception()))
