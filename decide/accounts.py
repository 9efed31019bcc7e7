"""The accounts' task: one partition of `decision.account`, in; grants, cancels, beats, sagas and ledger, out. Pure.

It only routes records to what keeps them (`account_set`, `ledger`, `orders`, `claims`), lets `saga_steps.advance` say what is
next, and writes down what changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.partition import partition_of
from core.runtime import log as logs
from core.runtime.described import Words
from core.runtime.flow import Input, Output, StateChanges, StateItems, TaskContext
from decide import beside, exits, leg_order, postings
from decide.account_set import AccountSet, reservation_name
from decide.accounts_state import State
from decide.admission import Refusal, admit, is_exit, trim
from decide.budgets import charge
from decide.conduct import CONDUCTS, is_tradable
from decide.fees import in_force
from decide.grants import make_grant
from decide.ledger import Booked
from decide.orders import Order
from decide.quotes import Quotes, cancel
from decide.rest import rest_of
from decide.saga import HEDGE_WAIT_NS, End, LegState, Place, Saga, Together, rule
from decide.saga_records import record_of, refused
from decide.saga_steps import advance
from decide.settlements import Settlements
from decide.turn import Turn, write_ledger
from decide.waits import pass_time
from decide.watch import Watch
from schemas.decision import Beat, Budget, Clock, Command, Intent, Limit, Link, Posting, Profile, Requote, Ruling
from schemas.derived import Quote, Tick
from schemas.market import Instrument, Notice, Status
from schemas.order import Alive, Fill, OrderUpdate, Payout, Settled, Submitting, VenueReport
from schemas.record import Record

log = logs.get()


class AccountsTask:
    """Decides for the account sets whose log this partition is."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._state = state = State()
        self._known, self._sets, self._set_of, self._refused = state.known, state.sets, state.set_of, state.refused
        self._watch = Watch(state.known, state.marks)
        self._quotes = Quotes(state.known)
        self._settlements = Settlements(state.marks.words)
        self.counters = {"words.forgotten": 0}
        """Of this process, for `/metrics`: no part of the state."""

    def changed(self) -> StateChanges:
        """Return what of the state changed since the last call."""
        return self._state.changed()

    def restore(self, items: StateItems) -> None:
        """Take a state up.

        Raises:
            StateUnreadable: another version wrote it.
        """
        self._state.restore(items)

    def handle(self, item: Input) -> Iterable[Output]:
        """Return what follows from one record of `decision.account`."""
        turn = Turn(item, self._context.incarnation)
        record = item.record
        match record:
            case Clock():
                self._on_clock(record, turn)
            case Quote():
                self._state.marks.quote(record, item.source.partition if item.source else 0, turn.now_ns)
            case Tick():
                self._state.marks.tick(record)
            case Status():
                self._on_status(record, turn)
            case Intent():
                self._on_intent(record, turn)
            case Requote() if self._is_ours(record.account_set):
                accounts = self._set(record.account_set)
                self._go_on(accounts, self._quotes.asked(accounts, record, turn), turn)
            case Submitting() | OrderUpdate() | Fill() | Settled() | Payout() | VenueReport() | Alive():
                owner = self._set_of.get(record.account)
                if owner is not None:
                    self._on_event(record, owner, turn)
            case _:
                self._learn(record, turn)
        return turn.outputs()

    def reserved_e6(self) -> int:
        """Return all money reserved; 0 when no order is open."""
        return sum(account.reserved_e6 for accounts in self._sets.values() for account in accounts.ledgers.values())

    # Configuration

    def _learn(self, record: Record, turn: Turn) -> None:
        match record:
            case Link():
                known = self._known.links.get(record.id)
                if known is None or record.version >= known.version:
                    self._known.links[record.id] = record
                    self._state.changed_known[f"link/{record.id}"] = None
            case Instrument():
                self._know(record)
                self._hear(record, turn)
                self._bind_resting(record.instrument, turn)
            case Notice():
                self._known.instruments.notice(record)
                self._state.changed_known[f"notice/{record.instrument or record.event_group}"] = None
            case Profile() if self._is_ours(record.account_set) and record.venue in CONDUCTS:
                accounts = self._set(record.account_set)
                accounts.add_profile(record)
                self._set_of[record.id] = accounts
            case Limit() if self._is_ours(record.id):
                self._watch.limit(self._set(record.id), record, turn)
                self._take_back(self._set(record.id), turn)
            case Budget() if self._is_ours(record.account_set):
                self._watch.budget(self._set(record.account_set), record, turn)
            case Command() if self._is_ours(record.account_set):
                self._watch.command(self._set(record.account_set), record, turn)
                self._take_back(self._set(record.account_set), turn)
            case Posting() if self._is_ours(record.account_set):
                accounts = self._set(record.account_set)
                moved = postings.enter(accounts, record, turn)
                if moved:
                    self._settlements.follow(accounts.ledgers[record.account], moved, turn)
            case Ruling() if self._is_ours(record.account_set):
                accounts = self._set(record.account_set)
                saga = accounts.sagas.get(record.saga)
                if saga is not None and rule(saga, record):
                    self._advance(accounts, saga, turn)
            case _:
                # Another's, or a record type for readers of later versions.
                return

    def _know(self, instrument: Instrument) -> None:
        """Take a description in, on the grid its market stated since: all else of it is held against links as it was read."""
        name = instrument.instrument
        self._known.instruments[name] = Words(grid=self._state.grids.get(name)).applied(instrument)
        self._state.changed_known[f"instrument/{name}"] = None

    def _bind_resting(self, instrument: str, turn: Turn) -> None:
        """Reserve for what rests there by the fees that are stated now: it may rest a day, and be filled at any moment."""
        for accounts in self._sets.values():
            resting = [saga for saga in accounts.resting() if saga.legs[0].leg.instrument == instrument]
            self._go_on(accounts, resting, turn)

    def _on_status(self, status: Status, turn: Turn) -> None:
        name = status.instrument
        known, before = self._known.instruments.get(name), self._state.grids.get(name)
        after = Words(grid=before).hear(status).grid
        if known is not None and after is not None and after != before:
            self._state.grids[name] = after
            self._state.changed_known[f"grid/{name}"] = None
            self._know(known)
        self._hear(status, turn)

    def _hear(self, said: Instrument | Status, turn: Turn) -> None:
        """Take what a market says it pays."""
        words = self._state.marks.words
        if words.hear(said):
            self._settlements.spoken(self._sets, said.instrument, turn)
        if words.is_full:
            count = words.forget(self._held())
            self.counters["words.forgotten"] += count
            if count:
                log.warning("words.forgotten", count=count, left=len(words.by_instrument))

    def _held(self) -> set[str]:
        """Return the instruments that an account holds, or a strategy."""
        held: set[str] = set()
        for accounts in self._sets.values():
            for ledger in accounts.ledgers.values():
                held |= {key[0] for key, holding in ledger.holdings.items() if holding.size}
            for book in accounts.positions.books.values():
                held |= {instrument for _, instrument in book.open}
        return held

    def _is_ours(self, account_set: str) -> bool:
        return partition_of(account_set, self._context.partitions) == self._context.partition

    def _set(self, name: str) -> AccountSet:
        return self._sets.setdefault(name, AccountSet(name))

    def _take_back(self, accounts: AccountSet, turn: Turn) -> None:
        """Take back what rests where it may not, and the orders that may not even stand to take risk away."""
        self._go_on(accounts, self._quotes.fallen(accounts, turn.now_ns), turn)
        self._cancel_barred(accounts, turn)

    def _cancel_barred(self, accounts: AccountSet, turn: Turn) -> None:
        """Take back the orders that may not even stand to take risk away."""
        for name in sorted(accounts.orders.open_ids):
            order = accounts.orders.by_id[name]
            if accounts.bars(order.grant.account, order.grant.instrument):
                accounts.saga_of(name)  # that its order is taken back belongs to what it remembers
                cancel(order, "HALTED", turn)

    # Time

    def _on_clock(self, clock: Clock, turn: Turn) -> None:
        """Beat for every account, and look again at what waits. Time releases nothing."""
        for name, accounts in sorted(self._sets.items()):
            for account in sorted(accounts.profiles):
                turn.order(account, Beat(account=account, account_set=name, now_ns=clock.now_ns))
            if self._watch.clock(accounts, turn):
                self._cancel_barred(accounts, turn)
            self._go_on(accounts, self._quotes.fallen(accounts, turn.now_ns), turn)
            for leaving in list(exits.due(accounts, self._known, self._state.marks, turn)):
                self._on_intent(leaving, turn)
            for intent in list(accounts.waiting):
                self._advance(accounts, accounts.sagas[intent], turn)

    # Intents

    def _on_intent(self, intent: Intent, turn: Turn) -> None:
        if not self._is_ours(intent.account_set):
            return
        accounts = self._set(intent.account_set)
        if intent.id in accounts.sagas or intent.id in self._refused:
            return
        admitted = admit(intent, accounts, self._known, turn.now_ns)
        if isinstance(admitted, Refusal):
            if admitted is Refusal.SELF_CROSS and is_exit(intent) and not intent.legs[0].rests:
                # It is asked for again; meanwhile what only rests goes out of its way.
                (leaving,) = intent.legs
                in_the_way = self._quotes.clear_way(accounts, "", leaving.instrument, leaving.side, leaving.price)
                self._go_on(accounts, in_the_way, turn)
            self._refused.add(intent.id, turn.now_ns)
            turn.saga(refused(intent, admitted.value, turn))
            return
        # The limit is there: without one the intent was refused.
        budget_e6 = accounts.limit.unwind_budget_e6 if accounts.limit is not None else 0
        legs = tuple(
            LegState(trim(leg, walked), instrument, reduces=leg.reduces)
            for leg, walked, instrument in zip(intent.legs, admitted.walk.legs, admitted.instruments, strict=True)
        )
        chosen = leg_order.choose(intent, admitted.instruments)
        saga = Saga(
            intent,
            legs,
            admitted.walk.size,
            admitted.floor_e6,
            budget_e6,
            rest=rest_of(intent),
            leg_order=chosen.order,
            leg_order_reason=chosen.reason,
        )
        accounts.add_saga(saga)
        for instrument in admitted.instruments:
            charge(accounts.risk, instrument.venue, 1, turn.now_ns)
        for index, leg in enumerate(legs):
            if not leg.leg.rests:
                accounts.claims.take(reservation_name(saga, index), leg.leg)
        accounts.reserve(saga)
        self._advance(accounts, saga, turn)

    # What gateways say

    def _on_event(
        self,
        record: Submitting | OrderUpdate | Fill | Settled | Payout | VenueReport | Alive,
        accounts: AccountSet,
        turn: Turn,
    ) -> None:
        if not isinstance(record, Payout | VenueReport | Alive):
            accounts.saga_of(record.order)
        order = accounts.orders.by_id.get(record.order) if isinstance(record, OrderUpdate | Fill) else None
        held_e6 = beside.held_e6(order) if order is not None else 0
        match record:
            case Submitting():
                accounts.orders.submitting(record)
            case OrderUpdate():
                order = accounts.orders.update(record)
                if order is not None:
                    self._on_update(accounts, order, record, turn)
            case Fill():
                self._on_fill(accounts, record, turn)
            case Settled():
                self._on_settled(accounts, record, turn)
            case Payout():
                self._settlements.stated(accounts, record, turn)
            case VenueReport():
                self._on_report(accounts, record, turn)
            case Alive():
                last = accounts.alive.get(record.account)
                if last is None or record.ts_ns >= last.ts_ns:
                    accounts.alive[record.account] = record
                    accounts.risk.heard(record.account)
        if order is not None and isinstance(record, OrderUpdate | Fill):
            beside.let_go(accounts.ledgers[record.account], held_e6, order, record)

    def _on_update(self, accounts: AccountSet, order: Order, update: OrderUpdate, turn: Turn) -> None:
        stands = update.status in {"ACCEPTED", "OUTCOME_UNKNOWN"} and not order.terminal
        saga = accounts.saga_of(order.grant.id)
        if saga is not None and saga.rest is not None:
            self._quotes.heard(saga, update)
        # Of any other saga an order that may rest is taken back at once when it was not matched in full.
        elif stands and order.grant.time_in_force in {"GTC", "GTD"} and order.stated < order.grant.size:
            cancel(order, "NOT_FILLED_AT_ONCE", turn)
        self._moved(accounts, order.grant.id, turn)

    def _on_fill(self, accounts: AccountSet, fill: Fill, turn: Turn) -> None:
        ledger = accounts.ledgers[fill.account]
        booked = ledger.book(fill)
        if booked is None:
            return
        accounts.orders.fill(fill, booked.cash_e6)
        if booked.is_void:
            self._on_failed(accounts, booked)
        else:
            self._watch.filled(accounts, fill, turn)
            self._settlements.filled(accounts, fill, turn)
            write_ledger(ledger, [booked.key], turn)
        self._moved(accounts, fill.order, turn)

    def _on_settled(self, accounts: AccountSet, settled: Settled, turn: Turn) -> None:
        ledger = accounts.ledgers[settled.account]
        booked = ledger.settle(settled.fill, settled.settlement, settled.venue_ts_ns or settled.ts_ns)
        if booked is None:
            return
        if settled.settlement == "FAILED":
            self._on_failed(accounts, booked)
            self._settlements.follow(ledger, [booked.fill.instrument], turn)
            write_ledger(ledger, [booked.key], turn)
        self._moved(accounts, booked.fill.order, turn)

    def _on_failed(self, accounts: AccountSet, booked: Booked) -> None:
        accounts.orders.fail(booked.fill, booked.cash_e6)
        if not booked.is_void:
            accounts.positions.reverse(accounts.strategy_of(booked.fill.order), booked.fill)
        saga = accounts.saga_of(booked.fill.order)
        if saga is not None:
            saga.failed = True

    def _on_report(self, accounts: AccountSet, report: VenueReport, turn: Turn) -> None:
        ledger = accounts.ledgers[report.account]
        accounts.state_shards(report)
        if not ledger.known:
            postings.open_account(accounts, ledger, report, turn)
            self._settlements.opened(accounts, ledger, turn)
            return
        pass_time(ledger, turn.now_ns)
        if report.as_of_ns <= ledger.moved_ns:
            return
        compared = beside.compare(accounts, report, self._known.instruments, self._state.marks.words, turn.now_ns)
        if ledger.compare(compared.report):
            log.warning("ledger.differs", account=report.account, cash_e6=ledger.cash_e6, stated_e6=report.cash_e6)
        self._settlements.follow(ledger, self._watch.reported(accounts, compared, turn), turn)
        beside.pass_report(ledger, report.as_of_ns)

    # Sagas

    def _moved(self, accounts: AccountSet, order: str, turn: Turn) -> None:
        """Go on after something about an order changed."""
        saga = accounts.saga_of(order)
        if saga is not None:
            self._advance(accounts, saga, turn)

    def _go_on(self, accounts: AccountSet, sagas: Iterable[Saga], turn: Turn) -> None:
        for saga in sagas:
            self._advance(accounts, saga, turn)

    def _advance(self, accounts: AccountSet, saga: Saga, turn: Turn) -> None:
        """Take the saga's next steps if nothing stands in their way, then write down where it is."""
        accounts.changed_sagas.add(saga.intent.id)
        self._refresh(accounts, saga, turn.now_ns)
        accounts.count(saga)
        if saga.rest is not None:
            self._quotes.step(accounts, saga, turn)
        else:
            self._trade(accounts, saga, turn)
        accounts.note_state(saga)
        self._free_claims(accounts, saga)
        accounts.reserve(saga)
        for ledger in {leg.leg.account: accounts.ledgers[leg.leg.account] for leg in saga.legs}.values():
            write_ledger(ledger, [], turn)
        figures = saga.figures(accounts.waiting.get(saga.intent.id, ""))
        if figures != saga.said:
            saga.said = figures
            turn.saga(record_of(saga, figures, turn))

    def _trade(self, accounts: AccountSet, saga: Saga, turn: Turn) -> None:
        blocked: dict[int, str] = {}
        step = advance(saga, turn.now_ns)
        if isinstance(step, Together):
            # Each was asked for everything in this turn, all or none (`admission`): nothing can stand in its way.
            for place in step.places:
                self._place(accounts, saga, place, turn)
            return
        while isinstance(step, Place) and step.leg not in blocked:
            obstacle = self._place(accounts, saga, step, turn)
            if obstacle:
                blocked[step.leg] = obstacle
                accounts.waiting[saga.intent.id] = next(iter(blocked.values()))
            elif not blocked:
                accounts.waiting.pop(saga.intent.id, None)
            step = advance(saga, turn.now_ns, blocked)
        if isinstance(step, End):
            saga.state, saga.reason = step.state, step.reason

    def _refresh(self, accounts: AccountSet, saga: Saga, now_ns: int) -> None:
        """Let what a saga orders and reserves be bound by its instruments as they are now: grid, steps, minimums, fees."""
        for leg in saga.legs:
            known = self._known.instruments.get(leg.leg.instrument)
            # One that cannot be read says nothing an order could be made of: what was known before stays.
            if known is not None and known.tick_step and is_tradable(known):
                leg.instrument = in_force(known, accounts.profiles[leg.leg.account], now_ns)

    def _place(self, accounts: AccountSet, saga: Saga, place: Place, turn: Turn) -> str:
        """Grant the order; or return what stands in its way."""
        saga.state = place.state
        leg = saga.legs[place.leg]
        if place.purpose == "HEDGE" and not leg.hedge_until_ns:
            leg.hedge_until_ns = turn.now_ns + HEDGE_WAIT_NS
        obstacle = "" if saga.state == "FIRST_LEG" else _obstacle(accounts, saga, place, turn.now_ns)
        if obstacle == "SELF_CROSS":
            # What takes risk away does not wait for what only rests.
            in_the_way = self._quotes.clear_way(accounts, saga.intent.id, leg.leg.instrument, place.side, place.price)
            self._go_on(accounts, in_the_way, turn)
        if obstacle:
            return obstacle
        if leg.orders or (place.purpose == "UNWIND" and not leg.reduces):
            # The first order of each leg was counted with the intent.
            charge(accounts.risk, leg.instrument.venue, 1, turn.now_ns)
        grant_id = turn.new_id(place.leg, len(leg.orders) + 1)
        grant = make_grant(
            saga, place, grant_id=grant_id, now_ns=turn.now_ns, recv_ts_ns=turn.recv_ts_ns, trail=turn.trail
        )
        leg.orders.append(accounts.orders.add(grant, place.cost_e6))
        accounts.saga_of_order[grant.id] = saga.intent.id
        turn.order(grant.account, grant)
        return ""

    def _free_claims(self, accounts: AccountSet, saga: Saga) -> None:
        for index, leg in enumerate(saga.legs):
            if (leg.orders or not saga.is_open) and all(order.complete for order in leg.orders):
                ended_ns = max((order.ended_ns for order in saga.orders), default=0)
                accounts.claims.free(reservation_name(saga, index), ended_ns)


def _obstacle(accounts: AccountSet, saga: Saga, place: Place, now_ns: int) -> str:
    """Return what an order has to wait for, empty if nothing."""
    leg = saga.legs[place.leg].leg
    if accounts.bars(leg.account, leg.instrument):
        return "HALTED"
    if not accounts.is_ready(leg.account, now_ns):
        return "GATEWAY"
    if now_ns < saga.legs[place.leg].rests_until_ns():
        return "PAUSE"
    if place.purpose == "UNWIND" and not accounts.sellable(place.size, leg.account, leg.instrument, place.side):
        return "CONFIRMATION"
    if place.purpose == "UNWIND" and accounts.is_leaving(saga, leg, place.size):
        return "EXIT"
    if accounts.crosses_own(leg.instrument, place.side, place.price, but=saga.intent.id):
        return "SELF_CROSS"
    return ""
