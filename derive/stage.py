"""The book task: one partition of `market.event` to `derived.book` and `derived.resync`.

Log time is the largest receive time seen; what is due with time is looked at when it advances, so a record that is in
the log twice causes nothing. The order within one record: time first, then the record, then what time says of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

import msgspec

from core.domain.errors import Resync
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.flow import Input, Output, TaskContext
from derive.books import apply_delta, load_snapshot, show_dark, show_live
from derive.state import CLOSED_STATUSES, InstrumentState, StatusMemory
from schemas import derived, market
from schemas.record import Record

FEED_SILENT_NS = NS_PER_S
"""A feed whose last tick is older than this has stopped."""
FEED_FORGOTTEN_NS = 60 * NS_PER_S
CROSSED_NS = NS_PER_S
"""A book that stays crossed for longer is wrong; both venues cross for moments between two messages of one match."""
TICK_NS = 100 * NS_PER_MS
"""At most one derived.Tick in this much log time."""
CHECK_NS = 50 * NS_PER_MS
REPEAT_NS = 10 * NS_PER_S
RESYNC_FIRST_NS = NS_PER_S
"""How long a book waits for its feed's own recovery before it asks; doubled with each asking."""
RESYNC_MAX_NS = 30 * NS_PER_S
STATUSES_MAX = 100_000

_BOOK = topics.DERIVED_BOOK
_RESYNC = topics.DERIVED_RESYNC


class BookTask:
    """Books, trust, quotes of the instruments of one partition. Implements `core.runtime.flow.Task`.

    Attributes:
        counters: what happened, by name; the runtime exports them.
    """

    def __init__(self, context: TaskContext) -> None:
        self.counters: dict[str, int] = {}
        self._partition = context.partition
        self._books: dict[str, InstrumentState] = {}
        self._statuses: OrderedDict[str, StatusMemory] = OrderedDict()
        """Of instruments without a book: a venue's life-cycle channel speaks of all."""
        self._feeds: dict[int, int] = {}
        """Last tick of each epoch."""
        self._silent: set[int] = set()
        self._crossed: dict[str, InstrumentState] = {}
        self._waiting: dict[str, InstrumentState] = {}
        """Books that want a snapshot."""
        self._repeats: deque[tuple[int, InstrumentState]] = deque()
        self._log_ns = 0
        self._check_ns = 0
        self._tick_ns = 0
        self._offset = 0
        self._cause: Record
        self._out: list[Output] = []
        self._handlers: dict[type[Record], Callable[..., None]] = {
            market.BookDelta: self._on_delta,
            market.BookSnapshot: self._on_snapshot,
            market.Trade: self._on_trade,
            market.Status: self._on_status,
            market.FeedReset: self._on_reset,
            market.Tick: self._on_tick,
        }

    # hot
    def handle(self, item: Input) -> Iterable[Output]:
        """Return what follows from one market record."""
        record = item.record
        handler = self._handlers.get(type(record))
        if handler is None:
            self._count(f"unknown.{type(record).__name__}")
            return ()
        out = self._out = []
        self._cause = record
        self._offset = item.offset
        recv_ns: int = record.recv_ts_ns  # type: ignore[attr-defined]  # every market record has one
        if recv_ns > self._log_ns:
            self._log_ns = recv_ns
            if recv_ns >= self._check_ns and type(record) is not market.Tick:
                self._on_time()
        handler(record)
        return out

    @property
    def log_ns(self) -> int:
        """The task's time."""
        return self._log_ns

    def book(self, instrument: str) -> InstrumentState | None:
        """Return what is known of an instrument, for tests and inspection."""
        return self._books.get(instrument)

    # Market records

    # hot
    def _on_delta(self, delta: market.BookDelta) -> None:
        state = self._state(delta.instrument)
        if not state.admits(delta.epoch, delta.frame_no, delta.index):
            self._count("delta.dropped")
            if delta.epoch > state.epoch and state.state == "UNKNOWN":
                self._show(state)
            return
        if state.suspect:
            return
        try:
            touched = apply_delta(state, delta)
        except Resync as e:
            self._suspect(state, str(e))
            return
        if touched:
            self._after_change(state, delta.venue_ts_ns)

    def _on_snapshot(self, snapshot: market.BookSnapshot) -> None:
        state = self._state(snapshot.instrument)
        epoch_before = state.epoch
        if not state.admits_snapshot(snapshot):
            self._count("snapshot.dropped")
            return
        if state.epoch != epoch_before:
            self._feeds.setdefault(state.epoch, snapshot.recv_ts_ns)
            state.silent = self._is_silent(state.epoch)
            if state.silent and state.epoch not in self._silent:
                self._silent.add(state.epoch)
                self._hear(state.epoch, silent=True)
        try:
            changed = load_snapshot(state, snapshot)
        except Resync as e:
            self._suspect(state, str(e))
            return
        state.synced, state.suspect = True, ""
        if changed or state.epoch != epoch_before or state.state != "LIVE":
            self._after_change(state, snapshot.venue_ts_ns)

    def _on_trade(self, trade: market.Trade) -> None:
        state = self._state(trade.instrument)
        if state.trades.is_new(trade, owner=state.epoch):
            self._out.append(Output(_BOOK, trade.instrument, trade))
        else:
            self._count("trade.dropped")

    def _on_status(self, status: market.Status) -> None:
        name = status.instrument
        state = self._books.get(name)
        memory = state.status if state is not None else self._statuses.setdefault(name, StatusMemory())
        if len(self._statuses) > STATUSES_MAX:
            self._statuses.popitem(last=False)
        if not memory.is_new(status):
            self._count("status.dropped")
            return
        self._out.append(Output(_BOOK, name, status))
        if state is not None and state.state != "UNKNOWN":
            self._show(state)

    def _on_reset(self, reset: market.FeedReset) -> None:
        named = (
            [self._books[name] for name in reset.instruments if name in self._books]
            if reset.instruments
            else [state for state in self._books.values() if state.epoch == reset.epoch]
        )
        # What spans a whole feed its worker has seen itself and is recovering from: wait before asking.
        wait_ns = 0 if reset.instruments else RESYNC_FIRST_NS
        for state in named:
            if state.admits(reset.epoch, reset.frame_no, reset.index):
                self._suspect(state, reset.reason, wait_ns=wait_ns)

    def _on_tick(self, tick: market.Tick) -> None:
        epoch, ticked_ns = tick.epoch, tick.recv_ts_ns
        last = self._feeds.get(epoch)
        if (last is not None and ticked_ns <= last) or self._log_ns - ticked_ns > FEED_FORGOTTEN_NS:
            self._count("tick.dropped")
            return
        self._feeds[epoch] = ticked_ns
        if (last is None or epoch in self._silent) and not self._is_silent(epoch):
            self._silent.discard(epoch)
            self._hear(epoch, silent=False)
        if self._log_ns < self._tick_ns:
            return
        # Nobody may read this tick before the silence of others is said.
        self._on_time()
        self._tick_ns = self._log_ns + TICK_NS
        alive = derived.Tick(partition=self._partition, ts_ns=self._log_ns, trail=tick.trail)
        self._out.append(Output(_BOOK, "", alive, self._partition))

    # Time

    def _on_time(self) -> None:
        """Do what is due. Runs when log time has advanced, never for a record that was seen before."""
        now = self._log_ns
        self._check_ns = now + CHECK_NS
        for epoch, last in list(self._feeds.items()):
            if now - last > FEED_SILENT_NS and epoch not in self._silent:
                self._silent.add(epoch)
                self._hear(epoch, silent=True)
            if now - last > FEED_FORGOTTEN_NS:
                # Its books keep their mark; a tick after all would clear it.
                del self._feeds[epoch]
                self._silent.discard(epoch)
        for state in list(self._crossed.values()):
            if now - state.crossed_ns > CROSSED_NS:
                self._suspect(state, f"crossed for more than {CROSSED_NS // NS_PER_MS} ms")
        for state in self._waiting.values():
            if now >= state.resync_due_ns:
                self._ask(state)
        while self._repeats and self._repeats[0][0] <= now:
            _, state = self._repeats.popleft()
            self._repeats.append((now + REPEAT_NS, state))
            self._repeat(state)

    def _is_silent(self, epoch: int) -> bool:
        last = self._feeds.get(epoch)
        return last is None or self._log_ns - last > FEED_SILENT_NS

    def _hear(self, epoch: int, *, silent: bool) -> None:
        for state in self._books.values():
            if state.epoch == epoch and state.silent != silent:
                state.silent = silent
                self._show(state)

    def _repeat(self, state: InstrumentState) -> None:
        for record in (state.depth, state.quote):
            if record is not None:
                self._out.append(Output(_BOOK, state.instrument, msgspec.structs.replace(record, repeat=True)))

    # Trust

    # hot
    def _after_change(self, state: InstrumentState, venue_ts_ns: int) -> None:
        if state.book.crossed:
            if not state.crossed_ns:
                state.crossed_ns = max(self._log_ns, 1)
                self._crossed[state.instrument] = state
        elif state.crossed_ns:
            state.crossed_ns = 0
            del self._crossed[state.instrument]
        elif state.state == "LIVE" and not state.silent:
            self._emit_live(state, venue_ts_ns)
            return
        self._show(state, venue_ts_ns)

    def _suspect(self, state: InstrumentState, cause: str, *, wait_ns: int = 0) -> None:
        if state.suspect:
            return
        state.suspect = cause
        state.resync_asked = 0
        state.resync_due_ns = self._log_ns + wait_ns
        if state.crossed_ns:
            state.crossed_ns = 0
            del self._crossed[state.instrument]
        self._count("book.suspected")
        self._show(state)
        if not wait_ns:
            self._ask(state)

    def _show(self, state: InstrumentState, venue_ts_ns: int = 0) -> None:
        """Say the state the book has now, if it was said differently before."""
        verdict = state.judge()
        if verdict == (state.state, state.cause):
            return
        if state.state == "UNKNOWN":
            self._repeats.append((self._log_ns + REPEAT_NS, state))
        state.state, state.cause = verdict
        if verdict[0] in {"SUSPECT", "SYNCING"}:
            if state.instrument not in self._waiting:
                self._waiting[state.instrument] = state
                state.resync_due_ns = max(state.resync_due_ns, self._log_ns + RESYNC_FIRST_NS * (not state.suspect))
        else:
            self._waiting.pop(state.instrument, None)
        if verdict[0] == "LIVE":
            self._emit_live(state, venue_ts_ns)
        else:
            quote = show_dark(state, self._cause, self._offset, len(self._out))
            self._out.append(Output(_BOOK, state.instrument, quote))

    def _emit_live(self, state: InstrumentState, venue_ts_ns: int) -> None:
        out = self._out
        depth, quote = show_live(state, self._cause, self._offset, len(out), venue_ts_ns=venue_ts_ns)
        out.append(Output(_BOOK, state.instrument, depth))
        out.append(Output(_BOOK, state.instrument, quote))

    def _ask(self, state: InstrumentState) -> None:
        """Ask ingest for a snapshot: again after 1, 2, 4 ... 30 s of log time while there is none."""
        state.resync_due_ns = self._log_ns + min(RESYNC_FIRST_NS << min(state.resync_asked, 5), RESYNC_MAX_NS)
        state.resync_asked += 1
        if state.status.status in CLOSED_STATUSES:
            return
        self._count("resync.asked")
        self._out.append(
            Output(
                _RESYNC,
                state.instrument,
                derived.Resync(
                    instrument=state.instrument,
                    venue=state.venue,
                    epoch=state.epoch,
                    version_offset=self._offset,
                    version_index=len(self._out),
                    cause=state.cause,
                    ts_ns=self._log_ns,
                    trail=self._cause.trail,  # type: ignore[attr-defined]
                ),
            )
        )

    # Small things

    def _state(self, instrument: str) -> InstrumentState:
        state = self._books.get(instrument)
        if state is None:
            state = self._books[instrument] = InstrumentState(instrument)
            state.status = self._statuses.pop(instrument, state.status)
        return state

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
