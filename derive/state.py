"""What derive remembers of one instrument: its book, which feed owns it, and how far it can be trusted.

Trust, worst first (the words of the causes stand in `core.domain.trust`):

    SUSPECT   a gap, a contradiction, a reset or the end of its feed: only a snapshot heals it
    SYNCING   a snapshot is awaited: there was none yet, or a suspect book has asked for one
    STALE     right but late or not tradable: its feed's ticks stopped or its records come late, it is silent beyond its
              own measure, its two sides cross for a moment, its market is paused; heals by itself. Or its market is
              closed, and then nothing else is said of it
    DEGRADED  polled by REST: shown and marked so
    LIVE      equal to what the venue sent

Ownership: each book has an owning epoch. A record of a lower epoch is dropped, one of the same must stand above the
last origin, one of a higher is ignored until its snapshot, which takes the book over.

Streamed and polled feeds are two ranks, each with its own last origin. A streamed snapshot that is news to its rank
takes a polled book over whatever the epochs; a polled one takes a streamed book over only while that book cannot be
LIVE: it is suspect, awaits its snapshot, or its feed has stopped.
"""

from __future__ import annotations

from core.domain.book import Book
from core.domain.trust import (
    BEHIND_VENUE,
    CROSSED,
    FEED_SILENT,
    INSTRUMENT_SILENT,
    MARKET_CLOSED,
    MARKET_PAUSED,
    NO_SNAPSHOT,
    POLLED,
    because,
    cause_in,
)
from derive.feeds import Feed, VenueClock
from derive.memories import StatusMemory, Strikes, TradeMemory
from derive.proof import HashProof
from derive.rhythm import Rhythm
from schemas import derived, market
from schemas.enums import BookState

SHOWN = frozenset({"LIVE", "DEGRADED"})
"""States that show a price."""
AWAITING = frozenset({"SUSPECT", "SYNCING"})
"""States that only a snapshot ends."""

_NOWHERE = (-1, -1, -1)
_NO_FEED = Feed(-1, 0)
_NO_CLOCK = VenueClock(0)


class InstrumentState:
    """One instrument's book with its owner and trust. Changed by `derive.stage` only."""

    __slots__ = (
        "applied",
        "at",
        "birth",
        "book",
        "cause",
        "clock",
        "crossed_ns",
        "degraded",
        "depth",
        "dirty",
        "epoch",
        "exponents",
        "feed",
        "instrument",
        "loaded_ns",
        "other",
        "proof",
        "quote",
        "repeat_ns",
        "resync_asked",
        "resync_due_ns",
        "rhythm",
        "state",
        "status",
        "strikes",
        "suspect",
        "synced",
        "trades",
        "unfinished",
        "venue",
    )

    def __init__(self, instrument: str, *, birth: int = -1, clock: VenueClock = _NO_CLOCK) -> None:
        """`birth`: offset of the record that named the instrument first; books are told of things in this order."""
        self.instrument = instrument
        self.venue = instrument.partition(":")[0]
        self.birth = birth
        self.book = Book()
        self.exponents = (0, 0)
        self.applied = (-1, -1)
        """Frame number and place of the last record that the book holds."""
        # Who owns it: the last origin of the owning rank, and of the other.
        self.epoch = -1
        self.at = (-1, -1)
        self.degraded = False
        self.other = _NOWHERE
        # What trust is judged by.
        self.feed = _NO_FEED
        self.clock = clock
        self.synced = False
        self.suspect = ""
        self.crossed_ns = 0
        self.unfinished = False
        """Within a message of several changes: nothing is shown before its last, and its hash, has come."""
        self.loaded_ns = 0
        """Log time of the snapshot that made it right; what it was before is not known."""
        self.status = StatusMemory()
        self.rhythm = Rhythm()
        self.proof: HashProof | None = None
        self.strikes = Strikes()
        # What was shown last.
        self.state: BookState = "UNKNOWN"
        self.cause = ""
        self.quote: derived.Quote | None = None
        self.depth: derived.Depth | None = None
        self.repeat_ns = 0
        """Its repeats are due at this log time and every `REPEAT_NS` after it; 0: not shown yet."""
        # Asking for a snapshot.
        self.resync_asked = 0
        self.resync_due_ns = 0
        self.trades = TradeMemory()
        self.dirty = True
        """Changed since its state was written down."""

    @property
    def is_right(self) -> bool:
        """Whether the book is what the stream made it, on time and of a market that trades: fit to be compared."""
        return self.state == "LIVE" or (
            self.state == "STALE" and cause_in(self.cause) in (INSTRUMENT_SILENT, CROSSED) and not self.degraded
        )

    @property
    def fed_ns(self) -> int:
        """Log time when somebody fed it last: a record of its book, a tick of its feed; 0 if nothing was said of it yet."""
        return max(self.rhythm.heard_ns, self.feed.ticked_ns, self.repeat_ns)

    # hot
    def admits(self, epoch: int, at: tuple[int, int]) -> bool:
        """Say whether a record of this origin is the owner's and above its last, and if so remember the origin."""
        if epoch != self.epoch or at <= self.at:
            return False
        self.at = at
        return True

    def admits_snapshot(self, snapshot: market.BookSnapshot) -> bool:
        """As `admits`, but one that is news to its rank may take the book over."""
        origin = (snapshot.epoch, snapshot.frame_no, snapshot.index)
        owner = (self.epoch, *self.at)
        if snapshot.degraded == self.degraded or self.epoch < 0:
            if origin <= owner:
                return False
        else:
            if origin <= self.other:
                return False
            if snapshot.degraded and not self._is_free:
                # Said once is said: its repeat must not take over later.
                self.other = origin
                return False
            self.other = owner
        self.epoch, self.at = snapshot.epoch, (snapshot.frame_no, snapshot.index)
        self.degraded = snapshot.degraded
        return True

    def admits_reset(self, reset: market.FeedReset) -> bool:
        """As `admits`; a reset of the rank that does not own the book is remembered, so nothing before it counts."""
        if reset.epoch == self.other[0]:
            self.other = max(self.other, (reset.epoch, reset.frame_no, reset.index))
        return self.admits(reset.epoch, (reset.frame_no, reset.index))

    @property
    def _is_free(self) -> bool:
        return bool(self.suspect) or not self.synced or self.feed.silent

    def judge(self) -> tuple[BookState, str]:
        """Return the state the book deserves now, and why."""
        if self.status.is_closed:
            # First: nobody waits for it, whatever became of its feed. What it is short of shows if the market opens again.
            return "STALE", MARKET_CLOSED
        if self.suspect:
            if self.resync_asked:
                return "SYNCING", because(NO_SNAPSHOT, f"since {self.suspect}")
            return "SUSPECT", self.suspect
        if not self.synced:
            return "SYNCING", NO_SNAPSHOT
        if self.feed.silent:
            return "STALE", FEED_SILENT
        if self.feed.late_ns:
            return "STALE", self.clock.far if self.feed.far else BEHIND_VENUE
        if self.status.status == "PAUSED":
            return "STALE", MARKET_PAUSED
        if self.crossed_ns:
            return "STALE", CROSSED
        if self.rhythm.silent:
            return "STALE", self.rhythm.silent
        if self.degraded:
            return "DEGRADED", POLLED
        return "LIVE", ""
