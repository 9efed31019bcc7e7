"""A feed: the records of one connection, numbered from 1 without a hole under one epoch.

Opened is acknowledged before anything else is written; its offset on `raw.feed` is the epoch. Then frames, gaps and ticks
follow in the order in which they were read, and Closed is the last. When Kafka does not take them any more the feed ends
and writes nothing more, not even Closed: a hole would be worse than an end.

No socket and no timer here: a `Wire` calls `received`, `chunk_read` and `strike`, and is told what to send.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.domain.errors import InvariantBroken, Retry
from core.runtime import log, metrics
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.topics import RAW_FEED, RAW_FRAME
from ingest.conversation import (
    PUBLISH_ONLY,
    Actions,
    Complete,
    Conversation,
    Gap,
    Ping,
    Publish,
    Reconnect,
    Renew,
    Send,
)
from ingest.ports import Producer, Wire
from ingest.pulse import Pulse
from schemas import raw
from schemas.raw import FeedTick, Frame, RestBook
from schemas.record import Record

CHUNK_BYTES = 900_000
"""A frame above this is written in chunks under one number; Kafka takes messages of 1 MiB."""
FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A frame above this ends the feed."""
UNACKED_S_MAX = 5.0
"""When the oldest record that Kafka has not acknowledged is this old, the feed ends."""

Purpose = Literal["AUDIT", "POLL"]

EVENTS = metrics.EVENTS
_FROZEN = "the worker's own tick is over a second late"


@dataclass(frozen=True)
class FeedSpec:
    """Which feed: its place and its instruments.

    Attributes:
        partition: of `raw.frame`, slot modulo its count.
        silence_s_max: without a frame or pong for this long there are no ticks and the feed ends.
        venue_wide: carries what concerns all instruments of the venue, too.
        degraded: its books are polled by REST.
    """

    venue: str
    slot: int
    partition: int
    worker: str
    instruments: tuple[str, ...]
    silence_s_max: float = 15.0
    venue_wide: bool = False
    degraded: bool = False

    @property
    def name(self) -> str:
        """`<venue>-<slot>`."""
        return f"{self.venue}-{self.slot}"


@dataclass(frozen=True)
class FeedEnd:
    """Why a feed ended.

    Attributes:
        fewer: the venue refuses so many instruments on one connection.
        refused: the venue refuses us; trying again soon would not help.
        frozen: this process did not run for over a second; others may feed its share by now.
        was_ready: all of its instruments had their snapshots.
    """

    reason: str
    fewer: bool = False
    refused: bool = False
    frozen: bool = False
    was_ready: bool = False


@dataclass
class FeedCounts:
    """What a feed has written; moved to the metrics with each strike of its timer."""

    frames: int = 0
    payload_bytes: int = 0
    gaps: int = 0
    ticks: int = 0
    chunked: int = 0
    paused: int = 0
    odd: int = 0
    moved: dict[str, int] = field(default_factory=dict)


class Feed:
    """One connection's way to the log."""

    def __init__(self, spec: FeedSpec, conversation: Conversation, producer: Producer, clock: Clock) -> None:
        self.spec = spec
        self.name = spec.name
        self.epoch = -1
        self.counts = FeedCounts()
        self.ended: asyncio.Future[FeedEnd] = asyncio.get_running_loop().create_future()
        self.renewal: Renew | None = None
        """Set when a new feed should be opened beside this one; whoever opens it takes this back."""
        self.is_ready = False
        self._conversation = conversation
        self._producer = producer
        self._clock = clock
        self._wire: Wire | None = None
        self._pulse = Pulse(0)
        self._heard_ns = 0
        self._frame_no = 0
        self._unsent: deque[Record] = deque()
        self._unsent_since_s = 0.0
        self._complete_s: float | None = None
        self._over = False
        self._begun_s = clock.monotonic_s()
        self._spoke_s = self._begun_s
        self._frames_seen = 0

    async def open(self) -> int:
        """Write Opened and return the epoch Kafka gave it. Nothing else is written before."""
        spec = self.spec
        opened = raw.Opened(
            feed=self.name,
            venue=spec.venue,
            worker=spec.worker,
            slot=spec.slot,
            instruments=list(spec.instruments),
            recv_ts_ns=self._clock.now_ns(),
            degraded=spec.degraded,
        )
        self.epoch = await self._producer.send_acked(RAW_FEED, self.name, opened)
        return self.epoch

    def begin(self, wire: Wire) -> None:
        """Take the connection over and say what is said first."""
        if self.epoch < 0:
            raise InvariantBroken(f"{self.name}: begun before its Opened was acknowledged")
        now_ns = self._clock.now_ns()
        self._wire = wire
        self._heard_ns = now_ns
        self._begun_s = self._spoke_s = self._clock.monotonic_s()
        self._pulse = Pulse(now_ns)
        self._perform(self._conversation.opened(now_ns), b"", now_ns)

    @property
    def over(self) -> bool:
        """Say whether the feed has ended."""
        return self._over

    @property
    def age_s(self) -> float:
        """Return the seconds since the feed began."""
        return self._clock.monotonic_s() - self._begun_s

    @property
    def quiet_s(self) -> float:
        """Return the seconds without a frame that was worth writing, to a quarter of a second; pongs are none."""
        return self._clock.monotonic_s() - self._spoke_s

    @property
    def has_room(self) -> bool:
        """Say whether the log takes records; what can be left out is left out meanwhile."""
        return not self._over and not self._unsent

    # hot: 100k frames/s/worker (benchmarks/frames.py)
    def received(self, payload: bytes, now_ns: int) -> None:
        """Handle one frame that was read at `now_ns`."""
        actions = self._conversation.received(payload, now_ns)
        if actions is not PUBLISH_ONLY:
            self._perform(actions, payload, now_ns)
        elif not self._over:
            self._publish(payload, now_ns)

    def wakes(self, now_ns: int) -> bool:
        """Say whether what was just read may be used; ends the feed when the process was frozen meanwhile."""
        if self._over:
            return False
        if self._pulse.is_late(now_ns):
            self.end(_FROZEN, frozen=True)
            return False
        self._heard_ns = now_ns
        return True

    def chunk_read(self, read_bytes: int) -> None:
        """The wire handed on all frames of one read."""
        if self._pulse.owes and not self._over and self._wire is not None and not self._unsent:
            self._tick(self._pulse.read(read_bytes, self._wire.unread()))

    def strike(self) -> None:
        """The wire's timer struck (every `TICK_MS`): tick if the socket is drained, and look after the rest."""
        now_ns = self._clock.now_ns()
        if self._over or self._wire is None:
            return
        if self._pulse.is_late(now_ns):
            self.end(_FROZEN, frozen=True)
            return
        if now_ns - self._heard_ns > self.spec.silence_s_max * NS_PER_S:
            self.end(f"no frame and no pong for {self.spec.silence_s_max:g} s")
            return
        if self._producer.ack_age_s() > UNACKED_S_MAX or self._unsent_age_s() > UNACKED_S_MAX:
            self._end_silently(f"a frame is not acknowledged after {UNACKED_S_MAX:g} s")
            return
        tick_ns = self._pulse.strike(now_ns, self._wire.unread() if not self._unsent else 1 << 62)
        self._tick(tick_ns)
        if not self._over:
            self._perform(self._conversation.beat(now_ns), b"", now_ns)
        if self.counts.frames != self._frames_seen:
            self._frames_seen = self.counts.frames
            self._spoke_s = self._clock.monotonic_s()
        self._tell_ready(now_ns)
        self._move_counts()

    def rest_book(self, instrument: str, purpose: Purpose, payload: bytes, asked_ns: int, recv_ns: int) -> bool:
        """Write a book as the venue's REST answered it, in its place among the frames; return whether it was written.

        Too large for one record: counted and left out, for it is evidence, and no chunks are foreseen for it.
        """
        if not self.has_room:
            return False
        if len(payload) > CHUNK_BYTES:
            EVENTS.labels("ingest", "rest_book_too_large").inc()
            return False
        self._frame_no += 1
        self._write(
            RestBook(
                feed=self.name,
                venue=self.spec.venue,
                epoch=self.epoch,
                frame_no=self._frame_no,
                instrument=instrument,
                purpose=purpose,
                asked_ts_ns=asked_ns,
                recv_ts_ns=recv_ns,
                payload=payload,
            )
        )
        return True

    def flush(self) -> bool:
        """Queue what waits for room; return whether reading may go on."""
        while self._unsent and not self._over:
            try:
                self._put(self._unsent[0])
            except Retry:
                return False
            self._unsent.popleft()
        return True

    def resync(self, requests: Mapping[str, int]) -> None:
        """Get new snapshots, as the venue's protocol does it; `requests`: when each instrument's was asked for."""
        if not self._over and self._wire is not None:
            now_ns = self._clock.now_ns()
            self._perform(self._conversation.resync(requests, now_ns), b"", now_ns)

    def renew(self, renew: Renew) -> None:
        """Ask for a new feed beside this one; two requests that nobody answered yet become one."""
        if self.renewal is None or not renew.instruments:
            self.renewal = renew
        elif self.renewal.instruments:
            both = dict.fromkeys((*self.renewal.instruments, *renew.instruments))
            self.renewal = Renew(renew.reason, tuple(both))

    def end(self, reason: str, *, fewer: bool = False, refused: bool = False, frozen: bool = False) -> None:
        """End the feed: Closed is its last record, on both topics."""
        if self._over:
            return
        if self._unsent:
            # Their numbers are taken: a Closed behind them would stand behind a hole.
            self._end_silently(reason)
            return
        now_ns = self._clock.now_ns()
        self._frame_no += 1
        self._write(self._closed(reason, now_ns))
        if not self._unsent:
            try:
                self._producer.send(RAW_FEED, self.name, self._closed(reason, now_ns))
            except Retry:
                log.get().warning("feed.close_unsaid", feed=self.name, epoch=self.epoch)
        self._finish(FeedEnd(reason, fewer, refused, frozen, self.is_ready))

    def _end_silently(self, reason: str) -> None:
        EVENTS.labels("ingest", "feed_cut").inc()
        self._finish(FeedEnd(reason, was_ready=self.is_ready))

    def _finish(self, end: FeedEnd) -> None:
        self._over = True
        self._unsent.clear()
        self._move_counts()
        if self._wire is not None:
            self._wire.close()
        if not self.ended.done():
            self.ended.set_result(end)

    def _closed(self, reason: str, now_ns: int) -> raw.Closed:
        return raw.Closed(
            feed=self.name,
            venue=self.spec.venue,
            epoch=self.epoch,
            frame_no=self._frame_no,
            reason=reason,
            recv_ts_ns=now_ns,
        )

    def _perform(self, actions: Actions, payload: bytes, now_ns: int) -> None:
        for action in actions:
            if self._over or self._wire is None:
                return
            match action:
                case Publish(overtaken):
                    self._publish(payload, now_ns, overtaken=overtaken)
                case Send(message):
                    self._wire.send(message)
                case Ping():
                    self._wire.ping()
                case Gap() as gap:
                    self._gap(gap, now_ns)
                case Complete():
                    self._complete_s = self._clock.monotonic_s()
                case Renew() as renew:
                    self.renew(renew)
                case Reconnect(reason, fewer, refused):
                    self.end(reason, fewer=fewer, refused=refused)

    def _publish(self, payload: bytes, now_ns: int, *, overtaken: bool = False) -> None:
        self.counts.frames += 1
        self._frame_no += 1
        size = len(payload)
        if size <= CHUNK_BYTES:
            self._write(
                Frame(
                    feed=self.name,
                    venue=self.spec.venue,
                    epoch=self.epoch,
                    frame_no=self._frame_no,
                    recv_ts_ns=now_ns,
                    payload=payload,
                    overtaken=overtaken,
                )
            )
        elif size <= FRAME_BYTES_MAX:
            self._publish_chunks(payload, now_ns, overtaken=overtaken)
        else:
            self._frame_no -= 1
            self.end(too_large(size))

    def _publish_chunks(self, payload: bytes, now_ns: int, *, overtaken: bool) -> None:
        self.counts.chunked += 1
        starts = range(0, len(payload), CHUNK_BYTES)
        for chunk, start in enumerate(starts):
            self._write(
                Frame(
                    feed=self.name,
                    venue=self.spec.venue,
                    epoch=self.epoch,
                    frame_no=self._frame_no,
                    chunk=chunk,
                    chunks=len(starts),
                    recv_ts_ns=now_ns,
                    payload=payload[start : start + CHUNK_BYTES],
                    overtaken=overtaken,
                )
            )

    def _gap(self, gap: Gap, now_ns: int) -> None:
        self.counts.gaps += 1
        self._frame_no += 1
        log.get().warning("feed.gap", feed=self.name, epoch=self.epoch, reason=gap.reason)
        self._write(
            raw.Gap(
                feed=self.name,
                venue=self.spec.venue,
                epoch=self.epoch,
                frame_no=self._frame_no,
                instruments=list(gap.instruments),
                reason=gap.reason,
                recv_ts_ns=now_ns,
            )
        )

    def _tick(self, tick_ns: int) -> None:
        if not tick_ns:
            return
        self.counts.ticks += 1
        self._frame_no += 1
        self._write(
            FeedTick(
                feed=self.name,
                venue=self.spec.venue,
                epoch=self.epoch,
                frame_no=self._frame_no,
                recv_ts_ns=tick_ns,
            )
        )

    def _write(self, record: Record) -> None:
        if not self._unsent:
            try:
                self._put(record)
                return
            except Retry:
                self.counts.paused += 1
                self._unsent_since_s = self._clock.monotonic_s()
                if self._wire is not None:
                    self._wire.pause()
        # Bounded by what one read brings: the wire reads no further until `flush`.
        self._unsent.append(record)

    def _put(self, record: Record) -> None:
        # Frames are vouched for by the ticks, gaps and the end that follow them on the same partition.
        if type(record) is Frame:
            self._producer.stream(RAW_FRAME, self.name, record, self.spec.partition)
        else:
            self._producer.send(RAW_FRAME, self.name, record, self.spec.partition)

    def _unsent_age_s(self) -> float:
        return self._clock.monotonic_s() - self._unsent_since_s if self._unsent else 0.0

    def _tell_ready(self, now_ns: int) -> None:
        if self._complete_s is None or self.is_ready or self._over or self._unsent:
            return
        # The oldest unacknowledged record is younger than the last snapshot: the snapshots are acknowledged.
        if self._producer.ack_age_s() >= self._clock.monotonic_s() - self._complete_s:
            return
        ready = raw.Ready(feed=self.name, venue=self.spec.venue, epoch=self.epoch, recv_ts_ns=now_ns)
        try:
            self._producer.send(RAW_FEED, self.name, ready)
        except Retry:
            return
        self.is_ready = True
        log.get().info("feed.ready", feed=self.name, epoch=self.epoch, instruments=len(self.spec.instruments))

    def _move_counts(self) -> None:
        self.counts.odd = self._conversation.odd
        for name in ("frames", "gaps", "ticks", "chunked", "paused", "odd"):
            count = getattr(self.counts, name)
            moved = self.counts.moved.get(name, 0)
            if count > moved:
                EVENTS.labels("ingest", name).inc(count - moved)
                self.counts.moved[name] = count


def too_large(size: int) -> str:
    """Return why a feed ends that is sent such a frame."""
    return f"a frame of {size} bytes, above the limit of {FRAME_BYTES_MAX}"
