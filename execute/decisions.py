"""What decide asks of a gateway: Grants to submit, orders to change and to take back, Beats to hear.

Nothing here waits: what takes time is spawned, and counted before it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log
from core.runtime.clock import Clock
from execute.follow import Follower
from execute.health import Health
from execute.journal import Journal
from execute.orders import Orders, Tracked
from execute.ports import Request
from execute.submission import Refusal, Submitter
from execute.twins import Twins
from schemas.decision import Amend, Beat, Cancel, Grant

IN_FLIGHT_MAX = 64
"""Grants that are being submitted at once; one more is refused, which is a record."""
UNREAD_WAIT_S = 2.0
"""How long a twin has for a Grant this gateway cannot read; longer than any `send_by`."""
STOPPING = "stopping"
STOP_S = 5.0
"""Longest wait for orders between Submitting and their answer."""


class Decisions:
    """Of one gateway."""

    def __init__(
        self,
        *,
        writer: str,
        orders: Orders,
        submitter: Submitter,
        follower: Follower,
        journal: Journal,
        health: Health,
        twins: Twins,
        clock: Clock,
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        """`writer` is this gateway's name; `spawn` runs a coroutine to its end beside everything else."""
        self._writer = writer
        self._orders = orders
        self._submitter = submitter
        self._follower = follower
        self._journal = journal
        self._health = health
        self._twins = twins
        self._clock = clock
        self._spawn = spawn
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def take(self, record: Grant | Cancel | Amend | Beat) -> None:
        """Do what a record of decision.order says."""
        if isinstance(record, Beat):
            self._health.beat(record.now_ns)
        elif isinstance(record, Grant):
            if self._stopping:
                # Left for the next gateway, which finds nothing said of it.
                return
            self._grant(self._orders.grant(record))
        elif isinstance(record, Amend):
            self._amend(record)
        else:
            self._cancel(record)

    async def stop(self) -> None:
        """Take no more Grants, and wait until none is between Submitting and its answer."""
        self._health.fault(STOPPING, "asked to stop")
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._idle.wait()

    async def refuse_unread(self, tracked: Tracked, reason: str) -> None:
        """Refuse a Grant that cannot be read, unless a twin could."""
        if self._twins.one_is_ready():
            await asyncio.sleep(UNREAD_WAIT_S)  # of a newer version perhaps: it may have read it
        if tracked.first is None:
            self._journal.refused(tracked, reason)

    def _amend(self, amend: Amend) -> None:
        tracked = self._orders[amend.order]
        tracked.amended = True
        tracked.amend_until_ns = max(tracked.amend_until_ns, amend.send_by_ns)
        if tracked.terminal or self._clock.now_ns() > amend.send_by_ns:
            return  # of an old log, or too late for anything
        if self._twins.one_is_ready() and tracked.owner not in {"", self._writer}:
            return  # the twin that sent the order is there: two that amend would cross each other
        tracked.amend = amend
        if tracked.submitting is not None and (tracked.left or tracked.owner != self._writer):
            self._follower.start(tracked)
        tracked.changed.set()

    def _grant(self, tracked: Tracked) -> None:
        request = self._submitter.prepare(tracked)
        if request is None:
            return
        if isinstance(request, Request) and self._in_flight >= IN_FLIGHT_MAX:
            self._orders.release(tracked)
            request = Refusal(f"{IN_FLIGHT_MAX} orders are being submitted already")
        if isinstance(request, Refusal):
            # What this gateway cannot send a ready twin may: its Submitting must not come second to our refusal.
            self._spawn(self._submitter.refuse(tracked, request, at_once=not self._twins.one_is_ready()))
            return

        # Counted before it runs: many grants come in one batch.
        self._in_flight += 1
        self._idle.clear()
        self._spawn(self._submit(tracked, request))

    async def _submit(self, tracked: Tracked, request: Request) -> None:
        try:
            left = await self._submitter.submit(tracked, request)
        except (Reject, Retry, Unknown) as e:
            # Nobody may take for unsent what may have left.
            log.get().error("order.not_submitted", order=tracked.id, reason=str(e))
            left = tracked.owner == self._writer
            tracked.left = tracked.left or left
        finally:
            self._orders.release(tracked)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        if left or (tracked.owner and tracked.owner != self._writer):
            self._follower.start(tracked)

    def _cancel(self, cancel: Cancel) -> None:
        tracked = self._orders[cancel.order]
        tracked.cancel = tracked.cancel or cancel
        tracked.instrument = tracked.instrument or cancel.instrument
        if tracked.first is None and not tracked.taken:
            # Nobody has spoken of it: as the first record for its id this ends it for every gateway.
            tracked.taken = True
            self._journal.unsent(tracked, f"cancelled before it was sent: {cancel.reason}")
        elif tracked.submitting is not None and (tracked.left or tracked.owner != self._writer):
            self._follower.start(tracked)
        # Wakes whoever deals with it: the submitter before the bytes, the follower after them.
        tracked.changed.set()
