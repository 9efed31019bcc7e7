"""A degraded feed: books asked for by REST, one after the other, while no socket of the venue can be had.

It is declared: its Opened says so, its books are `RestBook(POLL)`, and it never says Ready, so nobody's socket feed ends
for it. Nothing is opened before REST has answered once. Ticks stand on its log only while polls succeed. It ends once a
socket feed is ready, or one of a higher epoch was begun and failed: that one may have taken books over, and what is
polled under the older epoch would not be heard any more.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from core.domain.errors import Reject, Unavailable
from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.backoff import Backoff
from ingest.conversation import NOTHING, PUBLISH_ONLY, Actions
from ingest.feed import Feed, FeedSpec
from ingest.ports import Producer
from ingest.pulse import TICK_MS
from ingest.rest import RestClient
from ingest.venue import Books

FRESH_S_MIN = 2.0
"""How long a successful poll vouches for the feed, at least; else as long as three rounds take."""
ROOM_S = 0.05
PAUSE_FIRST_S = 0.5
PAUSE_S_MAX = 10.0
"""Between two polls that fail."""


class _Quiet:
    """The conversation of a feed that has no socket."""

    missing = 0
    odd = 0

    def opened(self, now_ns: int) -> Actions:
        return NOTHING

    def received(self, frame: bytes, now_ns: int) -> Actions:
        return PUBLISH_ONLY

    def beat(self, now_ns: int) -> Actions:
        return NOTHING

    def resync(self, requests: Mapping[str, int], now_ns: int) -> Actions:
        return NOTHING


class _Pendulum:
    """Strikes a feed's timer; for the feed it is the wire, "unread" while no poll succeeds."""

    def __init__(self, clock: Clock, fresh_s: float) -> None:
        self._clock = clock
        self._fresh_s = fresh_s
        self._answered_s = float("-inf")
        self._feed: Feed | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._room_timer: asyncio.TimerHandle | None = None

    def begin(self, feed: Feed) -> None:
        self._feed = feed
        self._timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._strike)

    def answered(self) -> None:
        self._answered_s = self._clock.monotonic_s()

    def send(self, payload: bytes) -> None:
        raise RuntimeError(f"a polled feed has no wire to say {len(payload)} bytes on")

    def ping(self) -> None:
        raise RuntimeError("a polled feed has no wire to ping")

    def pause(self) -> None:
        if self._room_timer is None and self._feed is not None:
            self._room_timer = asyncio.get_running_loop().call_later(ROOM_S, self._look_for_room)

    def unread(self) -> int:
        return 0 if self._clock.monotonic_s() - self._answered_s < self._fresh_s else 1 << 62

    def close(self) -> None:
        for timer in (self._timer, self._room_timer):
            if timer is not None:
                timer.cancel()
        self._feed = None

    def _strike(self) -> None:
        if self._feed is not None:
            self._timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._strike)
            self._feed.strike()

    def _look_for_room(self) -> None:
        self._room_timer = None
        if self._feed is not None and not self._feed.flush():
            self.pause()


class Polling:
    """One degraded feed, from its first answer to its end."""

    def __init__(
        self,
        spec: FeedSpec,
        subjects: Mapping[str, str],
        *,
        books: Books,
        rest: RestClient,
        producer: Producer,
        clock: Clock,
        per_s: float,
    ) -> None:
        """Take `subjects`: instrument by what the venue calls it. `per_s`: requests a second."""
        self.spec = spec
        self.feed: Feed | None = None
        self.polls = 0
        """Requests that were answered."""
        self._subjects = subjects
        self._turn = list(subjects)
        self._books = books
        self._rest = rest
        self._producer = producer
        self._clock = clock
        self._pause_s = 1.0 / per_s
        self._backoff = Backoff(clock, first_s=PAUSE_FIRST_S, max_s=PAUSE_S_MAX)
        self._stopped = asyncio.Event()

    @property
    def epoch(self) -> int:
        """Of the feed, -1 before REST has answered."""
        return self.feed.epoch if self.feed is not None else -1

    def stop(self, reason: str) -> None:
        """End now."""
        self._stopped.set()
        if self.feed is not None:
            self.feed.end(reason)

    async def run(self) -> None:
        """Poll until stopped, or until the feed ends for a reason of its own."""
        rounds = max(1, -(-len(self._turn) // max(1, self._books.batch_max)))
        pendulum = _Pendulum(self._clock, max(FRESH_S_MIN, 3 * self._pause_s * rounds))
        try:
            while not self._stopped.is_set() and (self.feed is None or not self.feed.over):
                asked_ns = self._clock.now_ns()
                found = await self._ask()
                if found is None:
                    await self._wait(max(self._pause_s, self._backoff.next_s()))
                    continue
                self._backoff.reset()
                if self._stopped.is_set():
                    break
                await self._write(found, asked_ns, pendulum)
                await self._wait(self._pause_s)
        finally:
            self.stop("the polling stops")
            pendulum.close()

    async def _write(self, found: Mapping[str, bytes], asked_ns: int, pendulum: _Pendulum) -> None:
        recv_ns = self._clock.now_ns()
        self.polls += 1
        metrics.EVENTS.labels("ingest", "poll").inc()
        if self.feed is None:
            feed = Feed(self.spec, _Quiet(), self._producer, self._clock)
            await feed.open()
            self.feed = feed
            feed.begin(pendulum)
            pendulum.begin(feed)
            if self._stopped.is_set():
                return  # while Kafka was away: nothing is shown of it, and its end is said
            log.get().warning(
                "feed.degraded", feed=self.spec.name, epoch=feed.epoch, instruments=len(self.spec.instruments)
            )
        pendulum.answered()
        self.feed.wakes(self._clock.now_ns())
        for subject, payload in found.items():
            if subject in self._subjects:
                self.feed.rest_book(self._subjects[subject], "POLL", payload, asked_ns, recv_ns)

    async def _ask(self) -> Mapping[str, bytes] | None:
        count = max(1, self._books.batch_max)
        some: Sequence[str] = self._turn[:count]
        self._turn = self._turn[count:] + self._turn[:count]
        try:
            return await self._books.fetch(self._rest, some, tries=1)
        except (Unavailable, Reject) as e:
            metrics.EVENTS.labels("ingest", "poll_failed").inc()
            log.get().debug("poll.failed", feed=self.spec.name, reason=str(e))
            return None

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
