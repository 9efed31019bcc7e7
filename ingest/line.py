"""A line: one slot's feed, and after its end the next one under a new epoch, until the line is not wanted any more."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from core.domain.errors import Unavailable
from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.backoff import Backoff
from ingest.connection import HandshakeRefused, open_connection
from ingest.conversation import Conversation
from ingest.feed import Feed, FeedEnd, FeedSpec
from ingest.host import HostGate
from ingest.ports import Producer
from ingest.settings import IngestSettings
from ingest.venue import Venue

STABLE_S = 10.0
"""A feed that lived this long and was ready worked: the next pause is short again."""
WELL_S = 1.0
"""While Kafka's oldest acknowledgement is later than this no new feed is opened."""
FROZEN_PAUSE_S = 2.0
"""A worker that was frozen may have lost its share; it hears of it within this time."""
FEWER_MIN = 20
"""So few instruments are not too many for any venue: if they are refused, or stay away, it is for another reason."""
_LOOK_S = 0.1
_REFUSALS = frozenset({401, 403})


@dataclass(frozen=True)
class Surroundings:
    """What all lines of a worker share."""

    venue: Venue
    producer: Producer
    clock: Clock
    settings: IngestSettings
    gate: HostGate
    """Of the host of the sockets."""
    say_refused: Callable[[str], None]


class Line:
    """Keeps one set of instruments fed. The set never changes."""

    def __init__(
        self, spec: FeedSpec, subjects: dict[str, str], around: Surroundings, *, is_patch: bool = False
    ) -> None:
        """`is_patch`: brings new books for a few instruments of another line, which goes on; ends when that is renewed."""
        self.spec = spec
        self.is_patch = is_patch
        self.instruments = frozenset(spec.instruments)
        self.feed: Feed | None = None
        self.too_many = False
        """The venue refuses so many instruments on one connection."""
        self.retiring_since_s: float | None = None
        self.needed: frozenset[str] = frozenset()
        self.overlap_s_max = 0.0
        self.last_epoch = -1
        """Of the newest feed, running or not."""
        self.subjects = subjects
        self._down_since_s = around.clock.monotonic_s()
        self._around = around
        self._stopped = asyncio.Event()
        settings = around.settings
        self._backoff = Backoff(around.clock, first_s=settings.feed_backoff_first_s, max_s=settings.feed_backoff_s_max)

    @property
    def is_ready(self) -> bool:
        """Say whether each instrument had its snapshot acknowledged."""
        return self.feed is not None and self.feed.is_ready

    @property
    def epoch(self) -> int:
        """Of the running feed, -1 while there is none."""
        return self.feed.epoch if self.feed is not None else -1

    @property
    def down_s(self) -> float:
        """Return the seconds without a socket: 0 while there is one, else since a feed was ready last."""
        return 0.0 if self.feed is not None else self._around.clock.monotonic_s() - self._down_since_s

    def retire(self, needed: frozenset[str], overlap_s_max: float) -> None:
        """End once others have `needed`, or after `overlap_s_max`."""
        if self.retiring_since_s is None:
            self.retiring_since_s = self._around.clock.monotonic_s()
        self.needed = needed
        self.overlap_s_max = overlap_s_max

    def stop(self, reason: str) -> None:
        """End now."""
        self._stopped.set()
        if self.feed is not None:
            self.feed.end(reason)

    async def run(self) -> None:
        """Feed until stopped."""
        try:
            while not self._stopped.is_set():
                await self._turn()
        finally:
            self.stop("the worker stops")

    async def _turn(self) -> None:
        clock = self._around.clock
        began_s = clock.monotonic_s()
        end = await self._attempt()
        metrics.EVENTS.labels("ingest", "feed_ended").inc()
        if self._stopped.is_set():
            return
        if end.was_ready and clock.monotonic_s() - began_s > STABLE_S:
            self._backoff.reset()
        pause_s = self._around.settings.feed_refused_pause_s if end.refused else self._backoff.next_s()
        if end.frozen:
            pause_s = max(pause_s, FROZEN_PAUSE_S)
        log.get().warning("feed.ended", feed=self.spec.name, reason=end.reason, pause_s=round(pause_s, 2))
        if (end.fewer and (self.is_patch or len(self.instruments) > FEWER_MIN)) or self.retiring_since_s is not None:
            # A patch whose books do not come is no proof of anything: they are asked for again when they are missed.
            self.too_many = end.fewer and not self.is_patch
            self._stopped.set()
            return
        try:
            await asyncio.wait_for(self._stopped.wait(), pause_s)
        except TimeoutError:
            return

    async def _attempt(self) -> FeedEnd:
        around = self._around
        while around.producer.ack_age_s() > WELL_S:  # noqa: ASYNC110 - the producer has no event for it
            await asyncio.sleep(_LOOK_S)
        async with around.gate.asking(self._stopped.is_set) as may:
            if not may or self._stopped.is_set():
                return FeedEnd("not wanted any more")
            try:
                headers = around.venue.headers(around.clock.now_ns())
                connection = await open_connection(around.venue.url, headers, around.clock)
            except HandshakeRefused as e:
                refused = e.status in _REFUSALS
                if refused:
                    around.say_refused(str(e))
                around.gate.failed(around.settings.feed_refused_pause_s if refused else e.wait_s)
                return FeedEnd(str(e), refused=refused)
            except Unavailable as e:
                around.gate.failed()
                return FeedEnd(str(e))
            around.gate.succeeded()
        feed = Feed(self.spec, self._new_conversation(), around.producer, around.clock)
        try:
            self.last_epoch = await feed.open()
            self.feed = feed
            connection.begin(feed)
            if self._stopped.is_set():
                feed.end("not wanted any more")
            return await feed.ended
        finally:
            feed.end("the worker stops")
            self.feed = None
            if feed.is_ready:
                self._down_since_s = around.clock.monotonic_s()
            connection.close()

    def _new_conversation(self) -> Conversation:
        around = self._around
        return around.venue.new_conversation(dict(self.subjects), self.spec.venue_wide, around.clock.random_bits)
