"""All that a book task remembers: books, feeds, clocks, and what is due when. No rules; those stand in `derive.stage`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import get_args

from core.domain.trust import MARKET_CLOSED, MARKET_PAUSED, STALE_CAUSES, cause_in
from core.runtime.clock import NS_PER_S
from core.runtime.flow import StateItems
from derive.audits import Auditor, AuditorState
from derive.checkpoint import (
    ITEM_CODEC,
    TASK_CODEC,
    TASK_ITEM,
    InstrumentItem,
    TaskState,
    item_of,
    restore_book,
)
from derive.feeds import Feed, VenueClock
from derive.limits import TrustLimits
from derive.memories import StatusMemory
from derive.state import AWAITING, InstrumentState
from schemas.enums import BookState

REPEAT_NS = 10 * NS_PER_S
CLOSED_FORGOTTEN_NS = 3_600 * NS_PER_S
"""A book of a closed market is forgotten when nobody has spoken of it, and its feed has not ticked, for so long."""
BOOK_FORGOTTEN_NS = 24 * 3_600 * NS_PER_S
"""The same of any other: its instrument left the catalogue, or nobody has fed it for a day."""
STATUSES_MAX = 100_000
"""Statuses of instruments without a book: a venue's life-cycle channel speaks of all."""


class Shelf:
    """The memory of one task.

    Attributes:
        auditor: what the books did lately, and the audits that wait.
        crossed, waiting: books whose sides cross, and books that want a snapshot.
        log_ns: the task's time.
        checked_ns: log time when what is due was last done; `check_ns`, `survey_ns`, `tick_ns`: when to look again.
    """

    def __init__(self, limits: TrustLimits) -> None:
        self._limits = limits
        self.books: dict[str, InstrumentState] = {}
        self.feeds: dict[int, Feed] = {}
        self.clocks: dict[str, VenueClock] = {}
        self.auditor = Auditor(limits)
        self.crossed: dict[str, InstrumentState] = {}
        self.waiting: dict[str, InstrumentState] = {}
        self.log_ns = 0
        self.checked_ns = 0
        self.check_ns = 0
        self.survey_ns = 0
        self.tick_ns = 0
        self._statuses: OrderedDict[str, tuple[int, StatusMemory]] = OrderedDict()
        self._statuses_changed: set[str] = set()
        self._repeats: list[tuple[int, int, str]] = []

    def book(self, instrument: str, offset: int) -> InstrumentState:
        """Return an instrument's state, a new one at the first call; `offset` is that of the record in hand."""
        state = self.books.get(instrument)
        if state is None:
            state = InstrumentState(instrument, birth=offset, clock=self.clock(instrument.partition(":")[0]))
            self.books[instrument] = state
            known = self._statuses.pop(instrument, None)
            if known is not None:
                self._statuses_changed.discard(instrument)
                state.status = known[1]
        return state

    def clock(self, venue: str) -> VenueClock:
        """Return the clock of a venue."""
        clock = self.clocks.get(venue)
        if clock is None:
            clock = self.clocks[venue] = VenueClock(self._limits.behind_venue_ms, self._limits.behind_venue_max_ms)
        return clock

    def status(self, instrument: str, offset: int) -> StatusMemory:
        """Return the status memory of an instrument that has no book."""
        known = self._statuses.get(instrument)
        if known is None:
            known = (offset, StatusMemory())
            self._keep_status(instrument, *known)
        self._statuses_changed.add(instrument)
        return known[1]

    def _keep_status(self, instrument: str, birth: int, memory: StatusMemory) -> None:
        self._statuses[instrument] = (birth, memory)
        if len(self._statuses) > STATUSES_MAX:
            forgotten, _ = self._statuses.popitem(last=False)
            self._statuses_changed.add(forgotten)

    def forget_unfed(self, offset: int) -> int:
        """Forget the books that nobody has fed for long, in log time; return how many. `offset`: of the record in hand.

        What a dead feed still says of them later may make them anew, but shows nothing: its ticks are old. What was known of
        the market is kept, so that a closed one stays closed. The book was dark before and is said no more.
        """
        now_ns = self.log_ns
        gone = [state for state in self.books.values() if state.fed_ns and now_ns - state.fed_ns > _kept_ns(state)]
        for state in sorted(gone, key=_name):
            name = state.instrument
            del self.books[name]
            self.waiting.pop(name, None)
            self.crossed.pop(name, None)
            self._statuses_changed.add(name)
            if state.status.status != "UNKNOWN":
                # Statuses are let go in the order in which they came here, which is that of a restored state, too.
                self._keep_status(name, offset, state.status)
        return len(gone)

    def sizes(self) -> dict[str, int]:
        """Return how many books are in each state; the runtime shows it and alerts look at it.

        A book that is STALE because its market is closed or paused is counted as CLOSED or PAUSED: nobody waits for it. The
        others that are STALE are counted by cause, too.
        """
        found = {f"books {state}": 0 for state in (*get_args(BookState), "CLOSED", "PAUSED")}
        found |= {f"stale {cause}": 0 for cause in STALE_CAUSES if cause not in (MARKET_CLOSED, MARKET_PAUSED)}
        for book in self.books.values():
            cause = cause_in(book.cause, STALE_CAUSES) if book.state == "STALE" else ""
            if cause == MARKET_CLOSED:
                found["books CLOSED"] += 1
            elif cause == MARKET_PAUSED:
                found["books PAUSED"] += 1
            else:
                found[f"books {book.state}"] += 1
                if cause:
                    found[f"stale {cause}"] += 1
        return found

    # What is due

    def repeat_from(self, state: InstrumentState) -> None:
        """Have a book that is shown for the first time repeated from now on."""
        state.repeat_ns = self.log_ns + REPEAT_NS
        heappush(self._repeats, (state.repeat_ns, state.birth, state.instrument))

    def repeats_due(self) -> Iterator[InstrumentState]:
        """Yield each book whose repeat is due, and have it due again."""
        now_ns = self.log_ns
        while self._repeats and self._repeats[0][0] <= now_ns:
            _, birth, name = heappop(self._repeats)
            state = self.books.get(name)
            if state is None or state.birth != birth:
                continue  # forgotten meanwhile
            heappush(self._repeats, (_next_due(state.repeat_ns, now_ns), birth, name))
            yield state

    def waiting_in_order(self) -> list[InstrumentState]:
        """Return the books that want a snapshot, in the order in which they were named first."""
        return sorted(self.waiting.values(), key=_birth)

    def crossed_in_order(self) -> list[InstrumentState]:
        """Return the books whose sides cross, in that order."""
        return sorted(self.crossed.values(), key=_birth)

    # Checkpoint

    def changed(self) -> list[tuple[str, bytes | None]]:
        """Return the items changed since the last call; see `core.runtime.flow.Checkpointed`."""
        items: list[tuple[str, bytes | None]] = [(TASK_ITEM, TASK_CODEC.encode(self._task_state()))]
        for name in sorted(self._statuses_changed):
            known = self._statuses.get(name)
            if known is not None:
                items.append((name, ITEM_CODEC.encode(InstrumentItem(known[0], known[1].state()))))
            elif name not in self.books:
                items.append((name, None))
        self._statuses_changed.clear()
        for name, state in self.books.items():
            if state.dirty:
                state.dirty = False
                items.append((name, ITEM_CODEC.encode(item_of(state))))
        return items

    def restore(self, items: StateItems) -> None:
        """Take a state up; see `core.runtime.flow.Checkpointed`."""
        found: list[tuple[str, InstrumentItem]] = []
        audits: AuditorState | None = None
        for name, data in items:
            if name == TASK_ITEM:
                task = TASK_CODEC.decode(data)
                self._restore_task(task)
                audits = task.audits
            else:
                found.append((name, ITEM_CODEC.decode(data)))
        found.sort(key=lambda one: (one[1].birth, one[0]))
        for name, item in found:
            if item.book is None:
                self._statuses[name] = (item.birth, StatusMemory.restored(item.status))
                continue
            state = InstrumentState(name, birth=item.birth, clock=self.clock(name.partition(":")[0]))
            restore_book(state, item, item.book, self.feeds)
            state.dirty = False
            self.books[name] = state
            if state.state in AWAITING:
                self.waiting[name] = state
            if state.crossed_ns:
                self.crossed[name] = state
            if state.repeat_ns:
                heappush(self._repeats, (_next_due(state.repeat_ns, self.checked_ns), state.birth, name))
        if audits is not None:
            self.auditor.restore(audits, self.books)
        else:
            self.auditor.forget(self.log_ns)

    def _task_state(self) -> TaskState:
        return TaskState(
            log_ns=self.log_ns,
            check_ns=self.check_ns,
            checked_ns=self.checked_ns,
            survey_ns=self.survey_ns,
            tick_ns=self.tick_ns,
            feeds=[feed.state() for feed in self.feeds.values()],
            clocks={venue: clock.state() for venue, clock in self.clocks.items()},
            audits=self.auditor.state(),
        )

    def _restore_task(self, state: TaskState) -> None:
        self.log_ns, self.check_ns, self.checked_ns = state.log_ns, state.check_ns, state.checked_ns
        self.survey_ns, self.tick_ns = state.survey_ns, state.tick_ns
        self.feeds = {one.epoch: Feed.restored(one) for one in state.feeds}
        for venue, clock in state.clocks.items():
            self.clock(venue).restore(clock)


def _birth(state: InstrumentState) -> int:
    return state.birth


def _name(state: InstrumentState) -> str:
    return state.instrument


def _kept_ns(state: InstrumentState) -> int:
    return CLOSED_FORGOTTEN_NS if state.status.is_closed else BOOK_FORGOTTEN_NS


def _next_due(first_ns: int, now_ns: int) -> int:
    """Return the first of `first_ns`, `first_ns + REPEAT_NS`, … that lies after now."""
    if first_ns > now_ns:
        return first_ns
    return first_ns + ((now_ns - first_ns) // REPEAT_NS + 1) * REPEAT_NS
