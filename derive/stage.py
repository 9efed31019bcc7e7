"""The book task: one partition of `market.event` to `derived.book` and `derived.resync`.

Log time is the largest receive time seen; what is due with time is looked at when it advances, so a record that is in
the log twice causes nothing. The order within one record: time first, then the record, then what time says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core.domain.errors import Resync
from core.domain.trust import AUDIT, CROSSED, GAP, HASH, because
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.flow import Input, Output, StateChanges, StateItems, TaskContext
from derive.audits import Finding
from derive.books import apply_delta, contradiction, load_snapshot
from derive.feeds import FEED_FORGOTTEN_NS, LATE_HELD_NS, Feed
from derive.limits import TrustLimits
from derive.proof import HashProof, is_sampled
from derive.rhythm import newest_by_feed
from derive.state import SHOWN, InstrumentState
from derive.voice import RESYNC_FIRST_NS, Voice
from schemas import derived, market
from schemas.record import Record

TICK_NS = 100 * NS_PER_MS
"""At most one derived.Tick in this much log time."""
CHECK_NS = 50 * NS_PER_MS
SURVEY_NS = 5 * NS_PER_S
"""What looks at every book is done at most once in this much log time, or ten times in the shortest silence."""

_BOOK = topics.DERIVED_BOOK


class BookTask(Voice):
    """Books and trust of one partition's instruments. Implements `core.runtime.flow.Task` and `Checkpointed`."""

    def __init__(self, context: TaskContext) -> None:
        super().__init__(TrustLimits.from_options(context.options))
        self._partition = context.partition
        self._survey_ns = max(min(SURVEY_NS, self._limits.silent_floor_ms * NS_PER_MS // 10), NS_PER_S)
        self._auditor = self._shelf.auditor
        self._changes = self._auditor.changes
        self._handlers: dict[type[Record], Callable[..., None]] = {
            market.BookDelta: self._on_delta,
            market.BookSnapshot: self._on_snapshot,
            market.AuditSnapshot: self._on_audit,
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
        shelf = self._shelf
        if recv_ns > shelf.log_ns:
            shelf.log_ns = recv_ns
            if recv_ns >= shelf.check_ns and type(record) is not market.Tick:
                self._on_time()
        handler(record)
        return out

    def changed(self) -> StateChanges:
        """Return the items of state that changed since the last call."""
        return self._shelf.changed()

    def restore(self, items: StateItems) -> None:
        """Take a state up, before the first `handle`."""
        self._shelf.restore(items)

    @property
    def log_ns(self) -> int:
        """The task's time."""
        return self._shelf.log_ns

    def book(self, instrument: str) -> InstrumentState | None:
        """Return what is known of an instrument, for tests and inspection."""
        return self._books.get(instrument)

    def sizes(self) -> dict[str, int]:
        """Return how many books are in each state; see `Shelf.sizes`."""
        return self._shelf.sizes()

    # Market records

    # hot
    def _on_delta(self, delta: market.BookDelta) -> None:
        state = self._books.get(delta.instrument) or self._shelf.book(delta.instrument, self._offset)
        if not state.admits(delta.epoch, (delta.frame_no, delta.index)):
            self._count("delta.dropped")
            if delta.epoch != state.epoch:
                self._on_foreign_delta(state, delta)
            return
        state.dirty = True
        proof = state.proof if delta.hash else None
        if proof is not None and not self._is_next(state, proof, delta):
            return
        if state.suspect:
            return
        now_ns = self._shelf.log_ns
        rhythm = state.rhythm
        # As Rhythm.hear, whose call would cost more than it does; whoever is silent has paused for longer than ever.
        if now_ns - rhythm.heard_ns > rhythm.pause_ns:
            rhythm.hear(now_ns)
        else:
            rhythm.heard_ns = now_ns
        try:
            touched = apply_delta(state, delta, now_ns, self._changes)
        except Resync as e:
            self._suspect(state, contradiction(e))
            return
        if proof is not None and not self._is_proven(state, proof, delta):
            return
        feed, clock, venue_ns, turned = state.feed, state.clock, delta.venue_ts_ns, False
        if venue_ns:
            late_ns = delta.recv_ts_ns - venue_ns
            if late_ns < clock.low_ns or late_ns > clock.high_ns or feed.late_ns:
                turned = self._on_lateness(state, late_ns)
        if delta.more or state.unfinished:
            state.unfinished = delta.more
            touched = True
        if turned:
            self._after_change(state, venue_ns)
            self._tell(feed)
        elif touched:
            # While LIVE, whatever else could change the verdict has been said when it happened.
            if state.state != "LIVE" or state.crossed_ns or state.book.crossed or state.unfinished:
                self._after_change(state, venue_ns)
            else:
                self._emit_book(state, venue_ns)
        elif state.state == "STALE":
            self._show(state, venue_ns)

    def _on_foreign_delta(self, state: InstrumentState, delta: market.BookDelta) -> None:
        """Note a change by a feed that does not own the book but may take it over: a book older than it must not."""
        if delta.epoch > state.epoch and state.state == "UNKNOWN":
            self._show(state)
        if delta.hash and (delta.epoch > state.epoch or delta.epoch == state.other[0]):
            state.dirty = True
            state.proof = state.proof or HashProof(delta.instrument)
            state.proof.place(delta.epoch, delta.hash, delta.venue_ts_ns)

    def _on_snapshot(self, snapshot: market.BookSnapshot) -> None:
        state = self._shelf.book(snapshot.instrument, self._offset)
        epoch_before = state.epoch
        # Even what is refused is remembered, so that its repeat is known.
        state.dirty = True
        if self._is_overtaken(state, snapshot):
            self._count("snapshot.overtaken")
            return
        if not state.admits_snapshot(snapshot):
            self._count("snapshot.dropped")
            return
        if state.epoch != epoch_before:
            state.feed = self._feed(state.epoch, snapshot.recv_ts_ns)
        if snapshot.hash and snapshot.token and not self._is_in_order(state, snapshot):
            return
        now_ns = self._shelf.log_ns
        state.rhythm.hear(now_ns)
        try:
            changed = load_snapshot(state, snapshot, now_ns, self._changes)
        except Resync as e:
            self._suspect(state, contradiction(e))
            return
        state.synced, state.suspect, state.unfinished = True, "", False
        if state.proof is not None and snapshot.token:
            self._count("hash.proven" if state.proof.take(snapshot, state.book) else "hash.unproven")
        if changed or state.epoch != epoch_before or state.state not in SHOWN:
            self._after_change(state, snapshot.venue_ts_ns)

    def _on_audit(self, audit: market.AuditSnapshot) -> None:
        state = self._shelf.book(audit.instrument, self._offset)
        if not state.strikes.is_new(audit):
            self._count("audit.dropped")
            return
        state.dirty = True
        for finding in self._auditor.begin(state, audit, self._shelf.log_ns):
            self._find(finding)

    def _on_trade(self, trade: market.Trade) -> None:
        state = self._shelf.book(trade.instrument, self._offset)
        state.dirty = True
        if not state.trades.is_new(trade, owner=state.epoch):
            self._count("trade.dropped")
            return
        self._out.append(Output(_BOOK, trade.instrument, trade))
        if state.proof is not None and state.proof.trade(trade.price):
            self._count("hash.proven")

    def _on_status(self, status: market.Status) -> None:
        name = status.instrument
        state = self._books.get(name)
        memory = state.status if state is not None else self._shelf.status(name, self._offset)
        if state is not None:
            state.dirty = True
        if not memory.is_new(status):
            self._count("status.dropped")
            return
        self._out.append(Output(_BOOK, name, status))
        if state is None:
            return
        if state.proof is not None and status.tick_step:
            state.proof.learn_tick(status.tick_step[0])
        if state.state != "UNKNOWN":
            self._show(state)

    def _on_reset(self, reset: market.FeedReset) -> None:
        named = (
            [self._books[name] for name in reset.instruments if name in self._books]
            if reset.instruments
            else [state for state in self._books.values() if reset.epoch in (state.epoch, state.other[0])]
        )
        # What spans a whole feed its worker has seen itself and is recovering from: wait before asking.
        wait_ns = 0 if reset.instruments else RESYNC_FIRST_NS
        for state in named:
            state.dirty = True
            if state.admits_reset(reset):
                self._suspect(state, reset.reason, wait_ns=wait_ns)

    def _on_tick(self, tick: market.Tick) -> None:
        shelf, epoch, ticked_ns = self._shelf, tick.epoch, tick.recv_ts_ns
        feed = shelf.feeds.get(epoch)
        if (feed is not None and ticked_ns <= feed.ticked_ns) or shelf.log_ns - ticked_ns > FEED_FORGOTTEN_NS:
            self._count("tick.dropped")
            return
        if feed is None:
            self._feed(epoch, ticked_ns)
        else:
            feed.ticked_ns = ticked_ns
            if feed.silent and not self._is_silent(feed):
                feed.silent = False
                self._tell(feed)
        if shelf.log_ns < shelf.tick_ns:
            return
        # Nobody may read this tick before the silence of others is said.
        self._on_time()
        shelf.tick_ns = shelf.log_ns + TICK_NS
        alive = derived.Tick(partition=self._partition, ts_ns=shelf.log_ns, trail=tick.trail)
        self._out.append(Output(_BOOK, "", alive, self._partition))

    # Time

    def _on_time(self) -> None:
        """Do what is due. Runs when log time has advanced, never for a record that was seen before."""
        shelf = self._shelf
        now_ns = shelf.checked_ns = shelf.log_ns
        shelf.check_ns = now_ns + CHECK_NS
        for feed in list(shelf.feeds.values()):
            stopped = not feed.silent and self._is_silent(feed)
            caught_up = feed.late_ns and not feed.far and now_ns - feed.late_ns > LATE_HELD_NS
            if stopped or caught_up:
                feed.silent = feed.silent or stopped
                feed.late_ns = 0 if caught_up else feed.late_ns
                self._tell(feed)
        if shelf.waiting:
            for state in shelf.waiting_in_order():
                if now_ns >= state.resync_due_ns:
                    self._ask(state)
                if state.state == "SUSPECT":
                    self._show(state)
        if shelf.crossed:
            for state in shelf.crossed_in_order():
                if now_ns - state.crossed_ns > self._limits.crossed_ns:
                    self._suspect(state, because(CROSSED, f"crossed for more than {self._limits.crossed_ms} ms"))
        for finding in self._auditor.due(now_ns):
            self._find(finding)
        for state in shelf.repeats_due():
            self._repeat(state)
        if now_ns >= shelf.survey_ns:
            shelf.survey_ns = now_ns + self._survey_ns
            self._survey(now_ns)

    def _survey(self, now_ns: int) -> None:
        """Do what looks at every book, or may wait."""
        shelf, limits = self._shelf, self._limits
        self._auditor.trim(now_ns)
        gone = shelf.forget_unfed(self._offset)
        if gone:
            self._count("book.forgotten", gone)
        for clock in shelf.clocks.values():
            clock.roll(now_ns)
        heard = newest_by_feed((state.epoch, state.rhythm.heard_ns) for state in self._books.values())
        for epoch, feed in list(shelf.feeds.items()):
            # One that owns books keeps them marked; a tick after all would clear it.
            if epoch not in heard and now_ns - feed.ticked_ns > FEED_FORGOTTEN_NS:
                del shelf.feeds[epoch]
        if not limits.silent_floor_ms:
            return
        for state in self._books.values():
            rhythm = state.rhythm
            if rhythm.roll(limits.silent_learn_ms * NS_PER_MS):
                state.dirty = True
            if state.state == "LIVE":
                rhythm.silent = rhythm.silence(now_ns, heard[state.epoch], limits)
                if rhythm.silent:
                    self._count("instrument.silent")
                    self._show(state)
                    # Once: the snapshot it brings is the venue's own word.
                    self._ask(state)

    def _feed(self, epoch: int, spoke_ns: int) -> Feed:
        """Return a feed, marked if it is silent already."""
        feed = self._shelf.feeds.get(epoch)
        if feed is None:
            feed = self._shelf.feeds[epoch] = Feed(epoch, spoke_ns)
        if not feed.silent and self._is_silent(feed):
            feed.silent = True
            self._tell(feed)
        return feed

    def _is_silent(self, feed: Feed) -> bool:
        return self._shelf.log_ns - feed.ticked_ns > self._limits.feed_silent_ns

    def _on_lateness(self, state: InstrumentState, late_ns: int) -> bool:
        """Weigh how late a change came; say whether that makes its feed late or ends it."""
        clock, feed = state.clock, state.feed
        if late_ns < clock.low_ns:
            clock.learn(late_ns)
        before = (bool(feed.late_ns), feed.far)
        feed.late_ns, feed.far = self._shelf.log_ns if late_ns > clock.high_ns else 0, late_ns > clock.max_ns
        return before != (bool(feed.late_ns), feed.far)

    # Trust

    def _is_overtaken(self, state: InstrumentState, snapshot: market.BookSnapshot) -> bool:
        """Say whether a book that would take over is older than changes its own feed has sent before it."""
        if snapshot.epoch == state.epoch or state.proof is None or not snapshot.hash or not snapshot.token:
            return False
        return snapshot.venue_ts_ns < state.proof.newest_ns(snapshot.epoch)

    def _is_in_order(self, state: InstrumentState, snapshot: market.BookSnapshot) -> bool:
        """Say whether a book with a hash may replace the one held: not if its own connection has sent newer things."""
        proof = state.proof = state.proof or HashProof(snapshot.instrument)
        place = proof.place(snapshot.epoch, snapshot.hash, snapshot.venue_ts_ns)
        if place == "known":
            self._count("snapshot.resent")
        elif place == "late":
            self._suspect(
                state, because(GAP, "expected a book no older than what came before it"), wait_ns=RESYNC_FIRST_NS
            )
        return place == "new"

    # hot
    def _is_next(self, state: InstrumentState, proof: HashProof, delta: market.BookDelta) -> bool:
        """Say whether a change with a hash may be applied to what its connection sent before it."""
        place = proof.place(delta.epoch, delta.hash, delta.venue_ts_ns)
        if place == "new":
            return True
        if place == "known":
            self._count("delta.resent")
            return False
        if not proof.proven:
            return True
        self._suspect(
            state, because(GAP, "expected a change no older than what came before it"), wait_ns=RESYNC_FIRST_NS
        )
        return False

    def _is_proven(self, state: InstrumentState, proof: HashProof, delta: market.BookDelta) -> bool:
        """Compare the venue's hash with the book's, where it is this change's turn; on a mismatch the book is suspect."""
        if delta.more or not is_sampled(delta, self._limits.hash_sample):
            return True
        found = proof.check(delta, state.book)
        self._count("hash.unproven" if found is None else "hash.proven" if found else "hash.mismatch")
        if found is not False:
            return True
        # The venue's refresh after a trade may be on its way.
        detail = f"expected {delta.hash}, found another after {delta.side} {delta.size} at {delta.price}"
        self._suspect(state, because(HASH, detail), wait_ns=RESYNC_FIRST_NS)
        return False

    def _find(self, finding: Finding) -> None:
        """Publish what an audit found, and let it count."""
        state, audit = finding.state, finding.audit
        self._count(f"audit.{finding.verdict.lower()}")
        found = derived.Audit(
            instrument=audit.instrument,
            version_offset=self._offset,
            version_index=len(self._out),
            epoch=state.epoch,
            verdict=finding.verdict,
            levels=finding.levels,
            levels_different=len(finding.different),
            detail=finding.detail,
            asked_ts_ns=audit.asked_ts_ns,
            recv_ts_ns=audit.recv_ts_ns,
            trail=audit.trail,
        )
        self._out.append(Output(_BOOK, audit.instrument, found))
        state.dirty = True
        if finding.verdict == "DIFFERENT":
            if state.strikes.differ(frozenset(finding.different), self._limits.audit_strikes):
                self._suspect(state, because(AUDIT, finding.detail))
        elif finding.verdict != "NOT_LIVE":
            state.strikes.agree()
            state.rhythm.hear(self._shelf.log_ns)
            self._show(state)
