"""The venue's own dead-man switch: as long as this gateway lives and may trade, it says so; else the venue cancels all.

Polymarket cancels every order of an API key 10 s after its last heartbeat, so a key has **one owner**: of the gateways
that are alive and ready the one whose name comes first. Each heartbeat names the id the last one returned; a new owner
is told the right one by the refusal of a wrong one. A gateway that is stopped (no Beats, no acknowledgements, a halt by
hand) falls silent on purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log, metrics
from core.runtime.clock import Clock
from execute.health import Health
from execute.ports import Caller, Lane, Venue

ATTEMPTS = 2
"""With what we believe the id is, then with what the venue says it is."""


class Heartbeat:
    """Of one account."""

    def __init__(
        self,
        *,
        venue: Venue,
        caller: Caller,
        health: Health,
        clock: Clock,
        interval_s: float,
        is_owner: Callable[[], bool],
    ) -> None:
        """`interval_s` 0: never; `is_owner` says whether no other gateway of this account is to do it."""
        self._venue = venue
        self._caller = caller
        self._health = health
        self._clock = clock
        self._interval_s = interval_s
        self._is_owner = is_owner
        self._id = ""
        self.last_s = 0.0
        """When the venue took the last one, on the monotonic clock; 0: never."""

    async def run(self) -> None:
        """Beat until cancelled; returns where the venue has no such switch."""
        if not self._interval_s or self._venue.heartbeat("") is None:
            return
        beats = False
        while True:
            should = self._is_owner() and not self._health.stop_reason()
            if should != beats:
                beats = should
                log.get().info("gateway.heartbeat", beats=beats)
            if should:
                try:
                    await self.beat()
                except (Reject, Retry, Unknown) as e:
                    metrics.EVENTS.labels("execute", "heartbeat_failed").inc()
                    log.get().warning("gateway.heartbeat_failed", reason=str(e))
            await asyncio.sleep(self._interval_s)

    async def beat(self) -> None:
        """Send one heartbeat."""
        for _ in range(ATTEMPTS):
            request = self._venue.heartbeat(self._id)
            if request is None:
                return
            # Before everything else: a late one cancels every order.
            reply = await self._caller.call(request, lane=Lane.CANCEL)
            self._id = self._venue.read_heartbeat(reply)
            if reply.status == 200:
                self.last_s = self._clock.monotonic_s()
                return
        log.get().warning("gateway.heartbeat_contested", remedy="one gateway an API key: who else beats for it?")
