"""Connections that are open and warm before an order needs one: it pays for no handshake.

Every `interval_s` the cheapest read of the venue goes over `connections` connections at once, each its own: those that
are open are used before the venue's patience with idle ones ends, and what is missing is opened. The legs of a saga that
leave together find one each. The moment the venue closes one, the next round begins (after a pause: a venue that closes
all at once is not stormed).
"""

from __future__ import annotations

import asyncio
import contextlib

from core.domain.errors import CrossbookError, Reject, Retry, Unknown
from core.runtime import log, metrics
from execute.calls import Http
from execute.ports import Lane, Venue

PAUSE_MIN_S = 0.5
"""Between two rounds, whatever the venue closes; doubled each time it closes one within that, up to the interval."""
PATIENCE_SHARE = 0.5
"""Of the time the venue says it keeps an idle connection, a round comes after so much at the latest."""


class Warmth:
    """Of one account."""

    def __init__(self, *, venue: Venue, http: Http, connections: int, interval_s: float) -> None:
        """`connections` 0: none is kept warm."""
        self._venue = venue
        self._http = http
        self._connections = connections
        self._interval_s = interval_s
        self._failing = False

    async def run(self) -> None:
        """Keep them warm until cancelled."""
        pause_s = PAUSE_MIN_S
        while self._connections:
            self._http.thinned.clear()
            await self.round()
            await asyncio.sleep(pause_s)
            if self._http.thinned.is_set():
                # It does not keep them: asking it ever again at once would only cost.
                pause_s = min(pause_s * 2, self._interval_s)
                continue
            pause_s = PAUSE_MIN_S
            rest_s = min(self._interval_s, self._http.patience_s * PATIENCE_SHARE) - pause_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(rest_s, 0)):
                    await self._http.thinned.wait()

    async def round(self) -> None:
        """Use every connection once; one that fails is no matter of any order."""
        requests = [self._venue.touch() for _ in range(self._connections)]
        try:
            # Signed before any leaves: then all leave in one turn of the loop, and no two find the same connection.
            proofs = [await self._http.signatures.sign(request) for request in requests]
        except Reject as e:
            self._say(e)
            return
        calls = (
            self._http.call(request, lane=Lane.REPORT, headers=proof)
            for request, proof in zip(requests, proofs, strict=True)
        )
        found = await asyncio.gather(*calls, return_exceptions=True)
        errors = [one for one in found if isinstance(one, BaseException)]
        for one in errors:
            if not isinstance(one, Retry | Unknown | Reject):
                raise one
        self._say(next((one for one in errors if isinstance(one, CrossbookError)), None))

    def _say(self, error: CrossbookError | None) -> None:
        if error is not None:
            metrics.EVENTS.labels("execute", "connection_not_warmed").inc()
        if error is not None and not self._failing:
            log.get().warning("gateway.connections_cold", reason=str(error))
        self._failing = error is not None
