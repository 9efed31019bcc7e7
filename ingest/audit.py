"""The auditor: REST books of what the feeds stream, as evidence on the log.

In the background and slowly: instruments round robin, and first those whose resync was just asked for, within this
worker's part of the rate that is set for the venue. What is answered is written among the frames of the feed that streams
the instrument, so that its place says what the stream had said by then. Derive compares and never applies; here nothing
is compared, and a venue that does not answer costs nothing but the evidence.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from core.domain.errors import Reject, Unavailable
from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.backoff import Backoff
from ingest.feed import Feed
from ingest.rest import RestClient
from ingest.venue import Books

FIRST_MAX = 1_000
"""Instruments that wait to be looked at before the others; above it the oldest waits for its ordinary turn."""
FIRST_AFTER_S = 1.0
"""A resync is given this long to bring its snapshot before the book is looked at."""
PAUSE_S_MAX = 60.0
"""Longest pause after a venue that does not answer."""
IDLE_S = 0.5

_JITTER_BITS = 32

Carrier = Callable[[str], tuple[Feed, str] | None]
"""Returns the ready feed that streams an instrument and what the venue calls it, None if there is none."""


class Auditor:
    """Asks for one book after the other."""

    def __init__(
        self, carrier: Carrier, instruments: Callable[[], Iterable[str]], books: Books, rest: RestClient, clock: Clock
    ) -> None:
        """`instruments`: what is streamed now; asked for at the beginning of each round."""
        self._carrier = carrier
        self._instruments = instruments
        self._books = books
        self._rest = rest
        self._clock = clock
        self._per_s = 0.0
        self._round: deque[str] = deque()
        self._first: OrderedDict[str, float] = OrderedDict()
        self._backoff = Backoff(clock, first_s=1.0, max_s=PAUSE_S_MAX)

    def pace(self, per_s: float) -> None:
        """Ask so many books a second from now on, 0: none."""
        self._per_s = per_s

    def hurry(self, instruments: Iterable[str]) -> None:
        """Look at these before the others."""
        due_s = self._clock.monotonic_s() + FIRST_AFTER_S
        for instrument in instruments:
            self._first.setdefault(instrument, due_s)
            if len(self._first) > FIRST_MAX:
                self._first.popitem(last=False)

    async def run(self) -> None:
        """Audit until cancelled."""
        while True:
            if self._per_s <= 0:
                await asyncio.sleep(IDLE_S)
                continue
            pause_s = 1.0 / self._per_s
            # Workers that start together do not ask together.
            await asyncio.sleep(pause_s * (0.5 + self._clock.random_bits(_JITTER_BITS) / 2.0**_JITTER_BITS))
            instrument = self._next()
            if instrument is not None and not await self.look_at(instrument):
                await asyncio.sleep(self._backoff.next_s())

    async def look_at(self, instrument: str) -> bool:
        """Ask for one book and write the answer; return False if the venue does not answer."""
        carried = self._carrier(instrument)
        if carried is None:
            return True
        feed, subject = carried
        asked_ns = self._clock.now_ns()
        try:
            found = await self._books.fetch(self._rest, [subject], tries=1)
        except (Unavailable, Reject) as e:
            metrics.EVENTS.labels("ingest", "audit_failed").inc()
            log.get().debug("audit.failed", instrument=instrument, reason=str(e))
            return False
        self._backoff.reset()
        payload = found.get(subject)
        # Evidence asked for under one epoch says nothing about another.
        if (
            payload is not None
            and feed.has_room
            and feed.rest_book(instrument, "AUDIT", payload, asked_ns, self._clock.now_ns())
        ):
            metrics.EVENTS.labels("ingest", "audit").inc()
        return True

    def _next(self) -> str | None:
        if self._first:
            instrument, due_s = next(iter(self._first.items()))
            if self._clock.monotonic_s() >= due_s:
                del self._first[instrument]
                return instrument
        if not self._round:
            self._round.extend(self._instruments())
        return self._round.popleft() if self._round else None
