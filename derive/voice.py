"""What the book task says: states, quotes and depth of its books, requests for snapshots. When, is in `derive.stage`."""

from __future__ import annotations

import msgspec

from core.runtime import topics
from core.runtime.clock import NS_PER_S
from core.runtime.flow import BY_KEY, Output
from derive.feeds import Feed
from derive.limits import TrustLimits
from derive.quotes import dark_quote, depth_of, quote_of
from derive.shelf import Shelf
from derive.state import AWAITING, SHOWN, InstrumentState
from schemas import derived
from schemas.enums import BookState
from schemas.record import Record

RESYNC_FIRST_NS = NS_PER_S
"""How long a book waits for its feed's own recovery before it asks; doubled with each asking."""
RESYNC_MAX_NS = 30 * NS_PER_S
RESYNC_PATIENT = 120
"""So many askings for one book, about an hour, at most `RESYNC_MAX_NS` apart; then the pause doubles again up to
`RESYNC_RARE_NS`: what has brought no snapshot for an hour is most likely fed by nobody."""
RESYNC_RARE_NS = 3_600 * NS_PER_S

_BOOK = topics.DERIVED_BOOK
_RESYNC = topics.DERIVED_RESYNC
_new = tuple.__new__


class Voice:
    """The outputs of one record, as they are made.

    Attributes:
        counters: what happened, by name; the runtime exports them.
    """

    def __init__(self, limits: TrustLimits) -> None:
        self.counters: dict[str, int] = {}
        self._limits = limits
        self._shelf = Shelf(limits)
        self._books = self._shelf.books
        self._offset = 0
        self._cause: Record
        self._out: list[Output] = []

    # hot
    def _after_change(self, state: InstrumentState, venue_ts_ns: int) -> None:
        if state.unfinished:
            pass
        elif state.book.crossed:
            if not state.crossed_ns:
                state.crossed_ns = max(self._shelf.log_ns, 1)
                self._shelf.crossed[state.instrument] = state
        elif state.crossed_ns:
            self._uncross(state)
        self._show(state, venue_ts_ns, changed=True)

    def _uncross(self, state: InstrumentState) -> None:
        if state.crossed_ns:
            state.crossed_ns = 0
            del self._shelf.crossed[state.instrument]

    def _suspect(self, state: InstrumentState, cause: str, *, wait_ns: int = 0) -> None:
        if state.suspect:
            return
        state.dirty = True
        state.unfinished = False
        state.suspect = cause
        state.resync_asked = 0
        state.resync_due_ns = self._shelf.log_ns + wait_ns
        self._uncross(state)
        self._count("book.suspected")
        self._show(state)
        if not wait_ns:
            self._ask(state)

    def _show(self, state: InstrumentState, venue_ts_ns: int = 0, *, changed: bool = False) -> None:
        """Say the state the book has now if another was said before, or the book if it is shown and `changed`."""
        verdict = state.judge()
        if state.unfinished and verdict[0] in SHOWN:
            return
        if verdict != (state.state, state.cause):
            self._turn(state, *verdict)
        elif not changed or state.state not in SHOWN:
            return
        if state.state in SHOWN:
            self._emit_book(state, venue_ts_ns)
        else:
            self._emit_dark(state)

    def _turn(self, state: InstrumentState, verdict: BookState, cause: str) -> None:
        if state.state == "UNKNOWN":
            self._shelf.repeat_from(state)
        state.dirty = True
        state.state, state.cause = verdict, cause
        waiting = self._shelf.waiting
        if verdict not in AWAITING:
            waiting.pop(state.instrument, None)
        elif state.instrument not in waiting:
            waiting[state.instrument] = state
            first_ns = self._shelf.log_ns + RESYNC_FIRST_NS * (not state.suspect)
            state.resync_due_ns = max(state.resync_due_ns, first_ns)

    # hot
    def _emit_book(self, state: InstrumentState, venue_ts_ns: int) -> None:
        """Say the Depth and the Quote of a book that shows prices."""
        out, offset, cause, instrument = self._out, self._offset, self._cause, state.instrument
        place = len(out)
        depth = depth_of(
            state.book,
            instrument=instrument,
            version=(offset, place),
            exponents=state.exponents,
            epoch=state.epoch,
            recv_ts_ns=cause.recv_ts_ns,  # type: ignore[attr-defined]  # every market record has both
            trail=cause.trail,  # type: ignore[attr-defined]
            origin=state.applied,
            state=state.state,
            cause=state.cause,
        )
        quote = quote_of(depth, version=(offset, place + 1), venue_ts_ns=venue_ts_ns)
        state.depth, state.quote = depth, quote
        # As Output(...), without its constructor in Python: twice for each change that is shown.
        out.append(_new(Output, (_BOOK, instrument, depth, BY_KEY)))
        out.append(_new(Output, (_BOOK, instrument, quote, BY_KEY)))

    def _emit_dark(self, state: InstrumentState) -> None:
        """Say the Quote of a book that shows no price. It names no Depth, so the last one counts no more."""
        quote = dark_quote(
            instrument=state.instrument,
            version=(self._offset, len(self._out)),
            state=state.state,
            cause=state.cause,
            exponents=state.exponents,
            epoch=state.epoch,
            recv_ts_ns=self._cause.recv_ts_ns,  # type: ignore[attr-defined]
            trail=self._cause.trail,  # type: ignore[attr-defined]
        )
        state.depth, state.quote = None, quote
        self._out.append(Output(_BOOK, state.instrument, quote))

    def _ask(self, state: InstrumentState) -> None:
        """Ask ingest for a snapshot: again after 1, 2, 4 ... 30 s of log time while there is none, later ever more seldom."""
        now_ns = self._shelf.log_ns
        state.dirty = True
        state.resync_due_ns = now_ns + _pause_ns(state.resync_asked)
        if state.status.is_closed:
            return
        state.resync_asked += 1
        self._count("resync.asked")
        asked = derived.Resync(
            instrument=state.instrument,
            venue=state.venue,
            epoch=state.epoch,
            version_offset=self._offset,
            version_index=len(self._out),
            cause=state.cause,
            ts_ns=now_ns,
            trail=self._cause.trail,  # type: ignore[attr-defined]
        )
        self._out.append(Output(_RESYNC, state.instrument, asked))

    def _count(self, name: str, count: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + count

    def _tell(self, feed: Feed) -> None:
        """Say of each book of a feed what the feed's state makes of it."""
        for state in self._books.values():
            if state.feed is feed:
                self._show(state)

    def _repeat(self, state: InstrumentState) -> None:
        for record in (state.depth, state.quote):
            if record is not None:
                self._out.append(Output(_BOOK, state.instrument, msgspec.structs.replace(record, repeat=True)))


def _pause_ns(asked: int) -> int:
    """Return how long to wait after an asking that `asked` others came before."""
    if asked < RESYNC_PATIENT:
        return min(RESYNC_FIRST_NS << min(asked, 5), RESYNC_MAX_NS)
    return min(RESYNC_MAX_NS << min(asked - RESYNC_PATIENT + 1, 7), RESYNC_RARE_NS)
