"""The strategies' task: one shard of `decision.input`, in; edges and intents, out. Pure.

It keeps the newest usable book of each instrument, the configuration of its shard's strategies, and which links have an
intent under way, and calls the strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from core.domain.errors import MalformedFrame, Reject, StateUnreadable
from core.domain.ids import record_id
from core.domain.partition import partition_of
from core.runtime import topics
from core.runtime.flow import Input, Output, StateChanges, StateItems, TaskContext
from decide.fees import in_force
from decide.links import is_lasting, suspended, suspension_key
from decide.ports import Decision, Remembers, StrategyKind
from decide.ports import Strategy as Running
from decide.strategies_state import Book, Slot, State
from schemas.decision import Clock, Edge, Link, Profile, Requote, Saga, Strategy
from schemas.derived import Depth, Quote, Tick
from schemas.market import Instrument, Notice, Status, Trade

TICK_AGE_NS_MAX = 1_000_000_000
"""A quote is not usable when the last tick of its partition is this old."""

OPEN_STATES = frozenset({"FIRST_LEG", "SECOND_LEG", "UNWINDING"})
"""Of sagas that keep their link busy; those that rest do not."""


class _View:
    """`ports.View` of one strategy at one record."""

    def __init__(self, state: State, slot: Slot, item: Input, new_id: Callable[[], str]) -> None:
        self._state = state
        self._slot = slot
        self.strategy = slot.config
        self.now_ns = item.log_ns
        self.partition = item.partition
        self.offset = item.offset
        self.new_id = new_id

    def links(self) -> Sequence[Link]:
        return [link for link in self._state.ready() if not self._has_expired(link)]

    def links_of(self, instrument: str) -> Sequence[Link]:
        return [link for link in self._state.ready_of(instrument) if not self._has_expired(link)]

    def link(self, link: str) -> Link | None:
        found = self._state.ready_link(link)
        return None if found is None or self._has_expired(found) else found

    def instrument(self, instrument: str) -> Instrument | None:
        known = self._state.instruments.get(instrument)
        return None if known is None else in_force(known, self._profile(known.venue), self.now_ns)

    def depth(self, instrument: str) -> Depth | None:
        book = self._state.books.get(instrument)
        if book is None or book.quote is None or book.depth is None or book.quote.state != "LIVE":
            return None
        tick_ns = self._state.ticks.get(book.partition)
        if tick_ns is None or self.now_ns - tick_ns >= TICK_AGE_NS_MAX:
            return None
        named = (book.quote.depth_offset, book.quote.depth_index)
        return book.depth if (book.depth.version_offset, book.depth.version_index) == named else None

    def account(self, venue: str) -> str | None:
        profile = self._profile(venue)
        return None if profile is None else profile.id

    def _profile(self, venue: str) -> Profile | None:
        return self._state.profiles.get((self.strategy.account_set, venue))

    def is_busy(self, link: str) -> bool:
        return link in self._slot.busy

    def may_trade(self) -> bool:
        return self.strategy.status == "RUNNING"

    def may_exit(self) -> bool:
        return self.strategy.status in {"RUNNING", "DRAINING"}

    def _has_expired(self, link: Link) -> bool:
        return 0 < link.expires_ts_ns <= self.now_ns


def _look_again(running: Running, view: _View) -> Iterable[Decision]:
    """Let a strategy end what it began on links that went away, as it does with time."""
    return running.on_timer(view)


class StrategiesTask:
    """Runs the strategies of one shard."""

    def __init__(self, context: TaskContext, kinds: Mapping[str, StrategyKind]) -> None:
        self._context = context
        self._kinds = kinds
        self._state = State()
        self._slots = self._state.slots
        self._ids = 0

    def changed(self) -> StateChanges | None:
        """Return what of the state changed since the last call, None while a strategy does not offer its memory."""
        return self._state.changed() if self._state.can_be_written() else None

    def restore(self, items: StateItems) -> None:
        """Take a state up.

        Raises:
            StateUnreadable: another version wrote it, or a strategy of it cannot be made.
        """
        try:
            self._state.restore(items, self._make)
        except StateUnreadable:
            raise
        except Reject as e:
            raise StateUnreadable(str(e)) from e

    def handle(self, item: Input) -> Iterable[Output]:
        """Return the edges and intents that follow from one record of `decision.input`.

        Raises:
            Reject: a strategy's configuration that does not parse, or names an unknown kind.
        """
        self._ids = 0
        record = item.record
        match record:
            case Tick():
                last = self._state.ticks.get(record.partition, 0)
                self._state.ticks[record.partition] = max(last, record.ts_ns)
                return ()
            case Quote():
                return self._on_quote(record, item)
            case Depth():
                return self._on_depth(record, item)
            case Clock():
                return self._each(item, lambda running, view: running.on_timer(view))
            case Trade():
                return self._each(item, lambda running, view: running.on_trade(record, view))
            case Saga():
                return self._on_saga(record, item)
            case Strategy():
                return self._on_strategy(record, item)
        return self._learn(record, item)

    # The market

    def _on_quote(self, quote: Quote, item: Input) -> Iterable[Output]:
        book = self._state.books.setdefault(quote.instrument, Book())
        last = book.quote
        if last is not None:
            version, newest = (quote.version_offset, quote.version_index), (last.version_offset, last.version_index)
            if version <= newest:
                return ()
        self._state.changed_books.add(quote.instrument)
        book.quote = quote
        book.partition = item.source.partition if item.source is not None else item.partition
        if not self._state.ready_of(quote.instrument) and not self._is_watched(quote.instrument):
            return ()
        return self._each(item, lambda running, view: running.on_quote(quote, view))

    def _on_depth(self, depth: Depth, item: Input) -> Iterable[Output]:
        book = self._state.books.setdefault(depth.instrument, Book())
        last = book.depth
        if last is not None:
            version, newest = (depth.version_offset, depth.version_index), (last.version_offset, last.version_index)
            if version <= newest:
                return ()
        self._state.changed_books.add(depth.instrument)
        book.depth = depth
        return self._each(item, lambda running, view: running.on_depth(depth, view))

    def _is_watched(self, instrument: str) -> bool:
        return any(instrument in slot.config.instruments for slot in self._slots.values())

    # What is known

    def _learn(self, record: object, item: Input) -> Iterable[Output]:
        state = self._state
        match record:
            case Link():
                # Rejected, expired, suspended, or approved anew on other terms: what was begun by it ends here.
                return self._each(item, _look_again) if state.learn_link(record) else ()
            case Instrument():
                return self._ended(state.learn_instrument(record), item)
            case Notice():
                return self._ended(state.learn_notice(record), item)
            case Profile():
                state.profiles[record.account_set, record.venue] = record
            case Status():
                return self._ended(state.learn_status(record), item)
            case _:
                # Another record type is for readers of later versions.
                pass
        return ()

    def _ended(self, struck: Mapping[str, str], item: Input) -> Iterable[Output]:
        """End the edges of links that were struck, and write down what only a human may end."""
        if not struck:
            return ()
        written = [
            Output(topics.DECISION_LINK, suspension_key(name), suspended(self._state.links[name], reason, item.log_ns))
            for name, reason in struck.items()
            if is_lasting(reason)
        ]
        return [*self._each(item, _look_again), *written]

    # Strategies

    def _on_strategy(self, config: Strategy, item: Input) -> Iterable[Output]:
        if partition_of(config.id, self._context.partitions) != self._context.partition:
            return ()
        slot = self._slots.get(config.id)
        if slot is not None and slot.config == config:
            return ()
        running = slot.running if slot is not None else None
        had = (slot.config.kind, slot.config.params) if slot is not None else ("", "")
        is_other = running is None or had != (config.kind, config.params)
        fresh = is_other and config.status in {"RUNNING", "DRAINING"}
        # Made before anything changes: a configuration that does not parse leaves the running one alone.
        made = self._make(config) if fresh else running
        outputs: list[Output] = []
        if (
            slot is not None
            and running is not None
            and slot.config.status != "STOPPED"
            and (fresh or config.status == "STOPPED")
        ):
            view = _View(self._state, slot, item, lambda: self._new_id(item))
            outputs = list(self._published(slot, running.on_stop(view)))
        if fresh and had[0] == config.kind and isinstance(running, Remembers) and isinstance(made, Remembers):
            # Other parameters of the same kind: what it holds and waits for is still so.
            made.recall(running.remember())
        if slot is None:
            slot = self._slots[config.id] = Slot(config, None)
        slot.config = config
        # One that remembers is kept while it is stopped: it hears what becomes of its orders, and knows it later.
        is_kept = config.status != "STOPPED" or (isinstance(made, Remembers) and not is_other)
        slot.running = made if is_kept else None
        return outputs

    def _make(self, config: Strategy) -> Running:
        kind = self._kinds.get(config.kind)
        if kind is None:
            known = ", ".join(sorted(self._kinds))
            raise MalformedFrame(f"strategy {config.id}: kind {config.kind!r} is not installed; known: {known}")
        return kind(config)

    def _on_saga(self, saga: Saga, item: Input) -> Iterable[Output]:
        slot = self._slots.get(saga.strategy)
        if slot is None:
            return ()
        if saga.state in OPEN_STATES:
            # Also one that a failed settlement reopened.
            slot.busy[saga.link] = saga.id
        elif slot.busy.get(saga.link) == saga.id:
            del slot.busy[saga.link]
        if slot.running is None:
            return ()
        view = _View(self._state, slot, item, lambda: self._new_id(item))
        return list(self._published(slot, slot.running.on_outcome(saga, view)))

    def _each(self, item: Input, call: Callable[[Running, _View], Iterable[Decision]]) -> Iterable[Output]:
        outputs: list[Output] = []
        for _, slot in sorted(self._slots.items()):
            if slot.running is not None and slot.config.status != "STOPPED":
                view = _View(self._state, slot, item, lambda: self._new_id(item))
                outputs.extend(self._published(slot, call(slot.running, view)))
        return outputs

    def _published(self, slot: Slot, decisions: Iterable[Decision]) -> Iterator[Output]:
        status = slot.config.status
        for decision in decisions:
            if isinstance(decision, Edge):
                yield Output(topics.DECISION_EDGE, decision.link, decision)
            elif isinstance(decision, Requote):
                # One that is stopped may take back what still rests, and nothing else.
                if status in {"RUNNING", "DRAINING"} or decision.action == "CANCEL":
                    yield Output(topics.DECISION_ACCOUNT, decision.account_set, decision)
            elif status == "RUNNING" or (status == "DRAINING" and all(leg.reduces for leg in decision.legs)):
                if not any(leg.rests for leg in decision.legs):
                    if decision.link in slot.busy:
                        continue
                    slot.busy[decision.link] = decision.id
                yield Output(topics.DECISION_ACCOUNT, decision.account_set, decision)

    def _new_id(self, item: Input) -> str:
        self._ids += 1
        return record_id(self._context.incarnation, item.partition, item.offset, self._ids)
