"""The auditor's comparison: a book by REST against what the streamed book was at about that time.

A REST answer shows one moment, and which one is not said: the venue may answer from a cache, and the stream may be ahead
of the answer or behind it. So each level is looked at by itself: it is explained if the streamed level had the size the
answer states at any time between `audit_before_ms` before the question and `audit_after_ms` after the answer. What is
not explained yet waits for the changes that are still to come; the verdict is given when log time has passed the window.

    EQUAL      no level differs from the book as it stands
    MOVED      each level that differs had the stated size within the window
    DIFFERENT  a level had not: twice in a row (`audit_strikes`) the same level makes the book SUSPECT
    NOT_LIVE   there was no LIVE book to compare, or not over the whole window, or the history does not reach back, as for a
               question that was answered late

Polymarket's `/book` has served a stale book for a while, so one difference proves nothing; and a book that a fresh
snapshot has just replaced and that is still called different is more likely right than the answer: each SUSPECT without
an agreement in between doubles the strikes that the next one takes.

The history is one list of all changes of all books of the task, bounded by number (`CHANGES_MAX`) and by the window. It
is part of the task's state: a verdict must not depend on where its task was taken up again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import structs

from core.runtime.clock import NS_PER_MS
from derive.limits import TrustLimits
from derive.memories import Level
from derive.state import InstrumentState
from schemas import market
from schemas.enums import AuditVerdict

CHANGES_MAX = 32_768
"""Changes remembered by a task; beyond, the oldest go and the history begins later."""
PENDING_MAX = 1_000
"""Audits that wait for their window; beyond, the oldest is given the verdict that it has so far."""
PENDING_LEVELS_MAX = 50_000
"""Levels they wait for, together; beyond, likewise."""

Change = tuple[int, InstrumentState, bool, int, int]
"""Log time, book, bid side?, price, size before."""


class Finding(NamedTuple):
    """A verdict and what it was given for.

    Attributes:
        levels: how many were compared.
        different: size here and size stated of each level that nothing explains.
        note: why it is NOT_LIVE.
    """

    state: InstrumentState
    audit: market.AuditSnapshot
    verdict: AuditVerdict
    levels: int
    different: dict[Level, tuple[int, int]]
    note: str = ""

    @property
    def detail(self) -> str:
        """The first difference in words."""
        if not self.different:
            return self.note
        (is_bid, price), (here, there) = min(self.different.items())
        side = "bid" if is_bid else "ask"
        return f"expected {here} at {side} {price} as streamed, found {there} by REST"


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """An audit that waits for its window: of whom, until when, over which window, and the levels not explained yet."""

    audit: market.AuditSnapshot
    due_ns: int
    since_ns: int
    levels: int
    unexplained: list[tuple[Level, tuple[int, int]]]


class AuditorState(msgspec.Struct, frozen=True, array_like=True):
    """An `Auditor` as it is written down.

    Attributes:
        changes: log time, place among `instruments`, bid side?, price, size before.
    """

    since_ns: int
    instruments: list[str]
    changes: list[tuple[int, int, bool, int, int]]
    pending: list[Waiting]


class Auditor:
    """The comparisons of one task.

    Attributes:
        changes: what the books did lately, oldest first; the task appends.
    """

    def __init__(self, limits: TrustLimits) -> None:
        self._before_ns = limits.audit_before_ms * NS_PER_MS
        self._after_ns = limits.audit_after_ms * NS_PER_MS
        self._kept_ns = 2 * (self._before_ns + self._after_ns)
        self.changes: deque[Change] = deque(maxlen=CHANGES_MAX)
        self._since_ns = 0
        """Log time before which changes were let go for want of room."""
        self._pending: deque[tuple[InstrumentState, Waiting]] = deque()

    def forget(self, now_ns: int) -> None:
        """Say that nothing is known of the time before `now_ns`: the task was restored without its history."""
        self._since_ns = now_ns

    def state(self) -> AuditorState:
        """Return what is remembered."""
        places: dict[str, int] = {}
        changes = [
            (changed_ns, places.setdefault(state.instrument, len(places)), is_bid, price, before)
            for changed_ns, state, is_bid, price, before in self.changes
        ]
        return AuditorState(self._since_ns, list(places), changes, [waiting for _, waiting in self._pending])

    def restore(self, state: AuditorState, books: Mapping[str, InstrumentState]) -> None:
        """Take up what is remembered of `books`."""
        self._since_ns = state.since_ns
        named = [books[name] for name in state.instruments]
        self.changes.extend(
            (changed_ns, named[place], is_bid, price, before)
            for changed_ns, place, is_bid, price, before in state.changes
        )
        self._pending.extend((books[waiting.audit.instrument], waiting) for waiting in state.pending)

    def trim(self, now_ns: int) -> None:
        """Let go what no window reaches any more."""
        changes, horizon_ns = self.changes, now_ns - self._kept_ns
        self._since_ns = self._begins_ns()
        while changes and changes[0][0] < horizon_ns:
            changes.popleft()

    def begin(self, state: InstrumentState, audit: market.AuditSnapshot, now_ns: int) -> list[Finding]:
        """Compare; return the verdicts that can be given now."""
        if not state.is_right or (audit.price_exp, audit.size_exp) != state.exponents:
            return [Finding(state, audit, "NOT_LIVE", 0, {}, state.cause or "no book of these exponents")]
        different = _differences(state, audit)
        levels = _levels(state, audit)
        if not different:
            return [Finding(state, audit, "EQUAL", levels, {})]
        since_ns = min(audit.asked_ts_ns, now_ns) - self._before_ns
        left = self._unexplained(state, different, since_ns)
        if not left:
            return [Finding(state, audit, "MOVED", levels, {})]
        if max(state.loaded_ns, self._begins_ns()) > since_ns:
            return [Finding(state, audit, "NOT_LIVE", levels, {}, "the book is younger than the question")]
        if now_ns + self._after_ns - self._kept_ns > since_ns:
            # What is trimmed until the verdict would be missing.
            return [Finding(state, audit, "NOT_LIVE", levels, {}, "the question is older than what is remembered")]
        asked = structs.replace(audit, bid_prices=[], bid_sizes=[], ask_prices=[], ask_sizes=[])
        waiting = Waiting(asked, now_ns + self._after_ns, since_ns, levels, sorted(left.items()))
        self._pending.append((state, waiting))
        found = []
        while len(self._pending) > PENDING_MAX or self._pending_levels() > PENDING_LEVELS_MAX:
            found.append(self._end(*self._pending.popleft()))
        return found

    def due(self, now_ns: int) -> list[Finding]:
        """Return the verdicts of audits whose window is over."""
        found = []
        while self._pending and self._pending[0][1].due_ns <= now_ns:
            found.append(self._end(*self._pending.popleft()))
        return found

    def _pending_levels(self) -> int:
        return sum(len(waiting.unexplained) for _, waiting in self._pending)

    def _end(self, state: InstrumentState, waiting: Waiting) -> Finding:
        audit = waiting.audit
        if not state.is_right or max(state.loaded_ns, self._begins_ns()) > waiting.since_ns:
            return Finding(state, audit, "NOT_LIVE", waiting.levels, {}, state.cause or "the book was replaced")
        now = {
            level: (_size_at(state, level), there)
            for level, (_, there) in waiting.unexplained
            if _size_at(state, level) != there
        }
        left = self._unexplained(state, now, waiting.since_ns)
        return Finding(state, audit, "DIFFERENT" if left else "MOVED", waiting.levels, left)

    def _begins_ns(self) -> int:
        """Return the log time before which changes may have been let go for want of room."""
        changes = self.changes
        return max(self._since_ns, changes[0][0] + 1) if len(changes) == CHANGES_MAX else self._since_ns

    def _unexplained(
        self, state: InstrumentState, different: dict[Level, tuple[int, int]], since_ns: int
    ) -> dict[Level, tuple[int, int]]:
        left = dict(different)
        for changed_ns, one, is_bid, price, before in reversed(self.changes):
            if changed_ns < since_ns or not left:
                break
            if one is state:
                found = left.get((is_bid, price))
                if found is not None and found[1] == before:
                    del left[is_bid, price]
        return left


def _differences(state: InstrumentState, audit: market.AuditSnapshot) -> dict[Level, tuple[int, int]]:
    bids = state.book.bids.differences(audit.bid_prices, audit.bid_sizes)
    asks = state.book.asks.differences(audit.ask_prices, audit.ask_sizes)
    return {(True, price): sizes for price, sizes in bids.items()} | {(False, p): sizes for p, sizes in asks.items()}


def _levels(state: InstrumentState, audit: market.AuditSnapshot) -> int:
    return max(len(state.book.bids) + len(state.book.asks), len(audit.bid_prices) + len(audit.ask_prices))


def _size_at(state: InstrumentState, level: Level) -> int:
    is_bid, price = level
    return (state.book.bids if is_bid else state.book.asks).size_at(price)
