"""What derive remembers of one instrument: its book, which feed owns it, and how far it can be trusted.

Trust, worst first:

    SYNCING  no snapshot yet
    SUSPECT  a gap, a contradiction, a reset or the end of its feed: only a snapshot heals it
    STALE    right but late or not tradable: its feed's ticks stopped, its two sides cross for a moment, its market is
             paused or closed; heals by itself
    LIVE     equal to what the venue sent

Ownership: each book has an owning epoch. A record of a lower epoch is dropped, one of the same must stand above the
last origin, one of a higher is ignored until its snapshot, which takes the book over.
"""

from collections import deque

from core.domain.book import Book
from schemas import derived, market
from schemas.enums import BookState, InstrumentStatus

TRADE_IDS_MAX = 1_024
"""Trade ids kept for an instrument to know a trade that came over two feeds."""
TRADE_EPOCHS_MAX = 4
"""Feeds whose place in an instrument's trades is remembered; what is older than all of them is dropped."""

CLOSED_STATUSES = frozenset({"CLOSED", "DETERMINED", "SETTLED"})


class TradeMemory:
    """Which trades of an instrument were seen: by the venue's id, and by their place within each feed."""

    __slots__ = ("_ids", "_order", "_places")

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int]] = {}
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def is_new(self, trade: market.Trade, *, owner: int) -> bool:
        """Say whether `trade` was not seen, and remember it. Without an id only the `owner` epoch's trades count."""
        if not trade.trade_id and trade.epoch != owner:
            return False
        place = (trade.frame_no, trade.index)
        known = self._places.get(trade.epoch)
        if known is None:
            if len(self._places) >= TRADE_EPOCHS_MAX:
                oldest = min(self._places)
                if trade.epoch < oldest:
                    return False
                del self._places[oldest]
        elif place <= known:
            return False
        self._places[trade.epoch] = place
        if trade.trade_id:
            if trade.trade_id in self._ids:
                return False
            self._remember(trade.trade_id)
        return True

    def _remember(self, trade_id: str) -> None:
        self._ids.add(trade_id)
        self._order.append(trade_id)
        if len(self._order) > TRADE_IDS_MAX:
            self._ids.discard(self._order.popleft())


class StatusMemory:
    """The newest status of an instrument by the venue's time, whichever feed brought it."""

    __slots__ = ("_content", "_epoch", "_place", "_ts_ns", "status")

    def __init__(self) -> None:
        self.status: InstrumentStatus = "UNKNOWN"
        self._ts_ns = -1
        self._epoch = -1
        self._place = (-1, -1)
        self._content: tuple[object, ...] = ()

    def is_new(self, record: market.Status) -> bool:
        """Say whether `record` is newer than what is known and says something else, and remember it."""
        ts_ns = record.venue_ts_ns or record.recv_ts_ns
        place = (record.frame_no, record.index)
        if ts_ns < self._ts_ns or (ts_ns == self._ts_ns and (record.epoch != self._epoch or place <= self._place)):
            return False
        self._ts_ns, self._epoch, self._place = ts_ns, record.epoch, place
        content = (record.status, record.tick_from, record.tick_to, record.tick_step, record.result, record.reason)
        if content == self._content:
            return False
        self._content = content
        if record.status != "UNKNOWN":
            self.status = record.status
        return True


class InstrumentState:
    """One instrument's book with its owner and trust. Changed by `derive.stage` only."""

    __slots__ = (
        "book",
        "cause",
        "crossed_ns",
        "depth",
        "epoch",
        "exponents",
        "frame_no",
        "instrument",
        "place",
        "quote",
        "resync_asked",
        "resync_due_ns",
        "silent",
        "state",
        "status",
        "suspect",
        "synced",
        "trades",
        "venue",
    )

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self.venue = instrument.partition(":")[0]
        self.book = Book()
        self.exponents = (0, 0)
        self.epoch = -1
        self.frame_no = -1
        self.place = -1
        # What trust is judged by.
        self.synced = False
        self.suspect = ""
        self.silent = False
        self.crossed_ns = 0
        self.status = StatusMemory()
        # What was shown last.
        self.state: BookState = "UNKNOWN"
        self.cause = ""
        self.quote: derived.Quote | None = None
        self.depth: derived.Depth | None = None
        # Asking for a snapshot.
        self.resync_asked = 0
        self.resync_due_ns = 0
        self.trades = TradeMemory()

    # hot
    def admits(self, epoch: int, frame_no: int, place: int) -> bool:
        """Say whether a record of this origin is the owner's and above its last, and if so remember the origin."""
        if epoch != self.epoch or (frame_no, place) <= (self.frame_no, self.place):
            return False
        self.frame_no, self.place = frame_no, place
        return True

    def admits_snapshot(self, snapshot: market.BookSnapshot) -> bool:
        """As `admits`, but a snapshot of a higher epoch takes the book over."""
        if snapshot.epoch > self.epoch:
            self.epoch, self.frame_no, self.place = snapshot.epoch, snapshot.frame_no, snapshot.index
            return True
        return self.admits(snapshot.epoch, snapshot.frame_no, snapshot.index)

    def judge(self) -> tuple[BookState, str]:
        """Return the state the book deserves now, and why."""
        if self.suspect:
            return "SUSPECT", self.suspect
        if not self.synced:
            return "SYNCING", "no snapshot yet"
        if self.silent:
            return "STALE", "feed silent"
        if self.status.status in CLOSED_STATUSES:
            return "STALE", "market closed"
        if self.status.status == "PAUSED":
            return "STALE", "market paused"
        if self.crossed_ns:
            return "STALE", "crossed"
        return "LIVE", ""
