"""What is remembered beside an instrument's book: trades that were seen, its newest status, what auditors found."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from schemas import market
from schemas.enums import InstrumentStatus

TRADE_IDS_MAX = 1_024
"""Trade ids kept for an instrument to know a trade that came over two feeds."""
TRADE_EPOCHS_MAX = 4
"""Feeds whose place in an instrument's trades is remembered; what is older than all of them is dropped."""
_DIGEST_BYTES = 8

CLOSED_STATUSES = frozenset({"CLOSED", "DETERMINED", "SETTLED"})

PATIENCE_MAX = 5
"""Doublings of the strikes an auditor needs."""

Level = tuple[bool, int]
"""Bid side?, price."""


class TradesState(msgspec.Struct, frozen=True, array_like=True):
    """A `TradeMemory` as it is written down."""

    places: dict[int, tuple[int, int]]
    ids: bytes


class TradeMemory:
    """Which trades of an instrument were seen: by the venue's id, and by their place within each feed.

    Ids are kept as 8 bytes each: two different ones of the newest 1,024 look the same once in 10^13 trades.
    """

    __slots__ = ("_ids", "_order", "_places")

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int]] = {}
        self._ids: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def is_new(self, trade: market.Trade, *, owner: int) -> bool:
        """Say whether `trade` was not seen, and remember it. Without an id only the `owner` epoch's trades count."""
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
        # Its place counts in any case: what was not taken must not be taken when it is said again.
        self._places[trade.epoch] = place
        if not trade.trade_id and trade.epoch != owner:
            return False
        if trade.trade_id:
            digest = blake2b(trade.trade_id.encode(), digest_size=_DIGEST_BYTES).digest()
            if digest in self._ids:
                return False
            self._remember(digest)
        return True

    def _remember(self, digest: bytes) -> None:
        self._ids.add(digest)
        self._order.append(digest)
        if len(self._order) > TRADE_IDS_MAX:
            self._ids.discard(self._order.popleft())

    def state(self) -> TradesState:
        """Return what is remembered."""
        return TradesState(dict(self._places), b"".join(self._order))

    @classmethod
    def restored(cls, state: TradesState) -> TradeMemory:
        """Return a memory of `state`."""
        memory = cls()
        memory._places = dict(state.places)
        for digest in _cut(state.ids):
            memory._remember(digest)
        return memory


def _cut(ids: bytes) -> Iterator[bytes]:
    for start in range(0, len(ids), _DIGEST_BYTES):
        yield ids[start : start + _DIGEST_BYTES]


class StatusState(msgspec.Struct, frozen=True, array_like=True):
    """A `StatusMemory` as it is written down."""

    status: InstrumentStatus
    ts_ns: int
    epoch: int
    place: tuple[int, int]
    content: tuple[str, list[int], list[int], list[int], str, str]


class StatusMemory:
    """The newest status of an instrument by the venue's time, whichever feed brought it."""

    __slots__ = ("_content", "_epoch", "_place", "_ts_ns", "status")

    def __init__(self) -> None:
        self.status: InstrumentStatus = "UNKNOWN"
        self._ts_ns = -1
        self._epoch = -1
        self._place = (-1, -1)
        self._content: tuple[str, list[int], list[int], list[int], str, str] = ("", [], [], [], "", "")

    @property
    def is_closed(self) -> bool:
        """Whether the market trades no more."""
        return self.status in CLOSED_STATUSES

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

    def state(self) -> StatusState:
        """Return what is remembered."""
        return StatusState(self.status, self._ts_ns, self._epoch, self._place, self._content)

    @classmethod
    def restored(cls, state: StatusState) -> StatusMemory:
        """Return a memory of `state`."""
        memory = cls()
        memory.status, memory._ts_ns, memory._epoch = state.status, state.ts_ns, state.epoch
        memory._place, memory._content = state.place, state.content
        return memory


class StrikesState(msgspec.Struct, frozen=True, array_like=True):
    """A `Strikes` as it is written down."""

    count: int
    levels: list[Level]
    patience: int
    place: tuple[int, int]


class Strikes:
    """How often in a row audits found the same level of a book different."""

    __slots__ = ("_count", "_levels", "_patience", "_place")

    def __init__(self) -> None:
        self._count = 0
        self._levels: frozenset[Level] = frozenset()
        self._patience = 0
        self._place = (-1, -1)

    def is_new(self, audit: market.AuditSnapshot) -> bool:
        """Say whether `audit` was not seen, and remember it."""
        place = (audit.epoch, audit.frame_no)
        if place <= self._place:
            return False
        self._place = place
        return True

    def agree(self) -> None:
        """Note an audit that found the book right."""
        self._count = self._patience = 0

    def differ(self, levels: frozenset[Level], limit: int) -> bool:
        """Note an audit that found `levels` different; say whether that makes `limit`, doubled by each time before."""
        common = self._levels & levels
        self._count, self._levels = (self._count + 1, common) if self._count and common else (1, levels)
        if self._count < limit << self._patience:
            return False
        self._count = 0
        self._patience = min(self._patience + 1, PATIENCE_MAX)
        return True

    def state(self) -> StrikesState:
        """Return what is remembered."""
        return StrikesState(self._count, sorted(self._levels), self._patience, self._place)

    @classmethod
    def restored(cls, state: StrikesState) -> Strikes:
        """Return the strikes of `state`."""
        strikes = cls()
        strikes._count, strikes._levels = state.count, frozenset(state.levels)
        strikes._patience, strikes._place = state.patience, state.place
        return strikes
