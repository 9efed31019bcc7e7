"""What the accounts' task does about limits, beat by beat: it judges, reconciles, and writes down how things stand.

Nothing is written for an account set that has no more than the plain figures of a Limit record.
"""

from typing import cast

from core.domain.units import ONE_DOLLAR_E4
from core.runtime import log as logs
from decide import risk
from decide.account_set import AccountSet
from decide.admission import Known
from decide.beside import Compared
from decide.budgets import SCOPES, View, bound_instruments, joined_to
from decide.ledger import yes_terms
from decide.marks import Marks
from decide.reconciliation import Frozen, reconcile
from decide.risk import EACH, JUDGED_EVERY_NS, WHOLE, Place, Stop, budget_before
from decide.settlements import Said, write_entry
from decide.turn import Turn, write_ledger
from schemas.decision import Budget, Command, Limit, Standing
from schemas.order import Fill

log = logs.get()


class Watch:
    """Looks after the limits of all account sets of one log."""

    def __init__(self, known: Known, marks: Marks) -> None:
        """`known` and `marks` are those of the task: it fills them."""
        self._known = known
        self._marks = marks

    # What humans say

    def limit(self, accounts: AccountSet, record: Limit, turn: Turn) -> None:
        """Take a limit record, unless it allows more and the one before it asks two people for that."""
        if self._may_raise(accounts, accounts.limit, record):
            accounts.limit = record
            self._write(accounts, turn)

    def budget(self, accounts: AccountSet, record: Budget, turn: Turn) -> None:
        """Take a budget, under the same rule; a first one for its place is held against the one in force until now."""
        joined: list[str] = []
        if record.scope == "EVENT":
            joined = joined_to(record.name, self._known, turn.now_ns, bound_instruments(accounts, self._known))
        before = budget_before(accounts.risk.budgets, (record.scope, record.name), joined)
        if self._may_raise(accounts, before, record):
            accounts.risk.budget(record)
            self._write(accounts, turn)

    def command(self, accounts: AccountSet, record: Command, turn: Turn) -> None:
        """Take a command."""
        accounts.risk.command(record)
        self._write(accounts, turn)

    def _may_raise(self, accounts: AccountSet, before: Limit | Budget | None, after: Limit | Budget) -> bool:
        needs_two = accounts.limit is not None and accounts.limit.two_people
        if before is None or not needs_two or risk.is_signed(after):
            return True
        raised = risk.allows_more(before, after)
        if raised:
            log.warning("limit.not_raised", id=after.id, raises=raised, set_by=after.set_by, needs="a second person")
        return not raised

    # What happens

    def clock(self, accounts: AccountSet, turn: Turn) -> bool:
        """Let time pass; return True when something was stopped by it."""
        own = accounts.risk
        before = (own.whole(accounts.limit).state, len(own.stopped))
        own.tick(turn.now_ns, accounts.profiles, accounts.limit)
        if turn.now_ns - own.judged_ns >= JUDGED_EVERY_NS:
            self._judge(accounts, turn.now_ns)
            self._write(accounts, turn)
        after = (own.whole(accounts.limit).state, len(own.stopped))
        if before != after:
            self._write(accounts, turn)
        return before != after

    def _judge(self, accounts: AccountSet, now_ns: int) -> None:
        own = accounts.risk
        if own.is_loss_limited(accounts.limit):
            own.judge(
                now_ns, accounts.limit, accounts.positions, self._marks, self._known.links, self._known.instruments
            )
        else:
            # Where losses are not limited nothing is marked; a limit that is set later counts from then.
            own.judged_ns, own.day, own.days, own.entered = now_ns, 0, {}, {}

    def filled(self, accounts: AccountSet, fill: Fill, turn: Turn) -> None:
        """Count a fill for its strategy; it is a mark until a quote comes."""
        accounts.positions.book(accounts.strategy_of(fill.order), fill)
        if fill.size > 0 and accounts.risk.is_loss_limited(accounts.limit):
            self._marks.fill(fill.instrument, yes_terms(fill)[1] * ONE_DOLLAR_E4 // fill.size, turn.now_ns)

    def reported(self, accounts: AccountSet, compared: Compared, turn: Turn) -> list[str]:
        """Reconcile with what can be compared of a report, and write down what that changed.

        Returns:
            The instruments whose holdings moved.
        """
        report = compared.report
        ledger = accounts.ledgers[report.account]
        # That nothing is said of them now does not mean that they agree.
        left = {*compared.unsure} | ({ledger.name} if not compared.is_exact else set())
        accepted = dict.fromkeys(sorted(left & accounts.risk.accepted.keys()), True)
        differing = dict.fromkeys(sorted(left & accounts.risk.differing.keys()), True)
        verdicts = reconcile(accounts, compared, self._known.instruments, self._marks.words, turn.now_ns)
        accounts.risk.accepted |= accepted
        accounts.risk.differing |= differing
        if not verdicts:
            return []
        keys = []
        for verdict in verdicts:
            if isinstance(verdict, Frozen):
                log.warning("ledger.frozen", account=ledger.name, what=verdict.instrument or "cash", why=verdict.reason)
                continue
            if verdict.instrument:
                keys.append((verdict.instrument, verdict.outcome))
            said = Said(
                verdict.kind,
                verdict.instrument,
                verdict.outcome,
                reason=verdict.reason,
                as_of_ns=report.as_of_ns,
                size=verdict.size,
                cash_e6=verdict.cash_e6,
                phase=verdict.phase,
                payout_e6=verdict.payout_e6,
            )
            write_entry(ledger, said, turn)
        write_ledger(ledger, keys, turn)
        self._write(accounts, turn)
        return [instrument for instrument, _ in keys]

    # How it stands

    def _write(self, accounts: AccountSet, turn: Turn) -> None:
        """Write the standings that changed."""
        own, limit = accounts.risk, accounts.limit
        is_plain = not own.budgets and not own.commands and not own.stopped and not own.said
        if is_plain and not own.is_loss_limited(limit) and own.whole(limit).cause.partition(" ")[0] != "SILENCE":
            return
        view = View(accounts, self._known, turn.now_ns)
        for place in [WHOLE, *self._places(accounts, view)]:
            stop = own.whole(limit) if place == WHOLE else own.standing(place)
            self._write_one(accounts, place, stop, view, turn)

    def _places(self, accounts: AccountSet, view: View) -> list[Place]:
        """Return the places with a word of their own, and those that a budget for each counts. Not all events: many.

        What was said of a place once is said again when it changed, though nothing is bound there any more.
        """
        own = accounts.risk
        each = [
            scope for scope in SCOPES if scope not in {"EVENT", "INSTRUMENT"} and (scope, EACH) in accounts.risk.budgets
        ]
        counted: list[Place] = [(scope, label) for scope in each for label in view.labels(scope)]
        said = [cast("Place", tuple(name.split("|", 2)[1:])) for name in own.said]
        return sorted({*own.places(), *counted, *said} - {WHOLE})

    def _write_one(self, accounts: AccountSet, place: Place, stop: Stop, view: View, turn: Turn) -> None:
        scope, name = place
        own, limit = accounts.risk, accounts.limit
        budget = None if place == WHOLE else view.budget(scope, name)
        used = (
            view.whole() if place == WHOLE else view.usage(scope, view.event_named(name) if scope == "EVENT" else name)
        )
        day = own.days.get(name) if scope == "STRATEGY" else None
        pnl_e6, stale = (day.pnl_e6, day.stale) if day is not None else (0, 0)
        loss_max_e6 = budget.day_loss_max_e6 if budget is not None else -1
        if place == WHOLE:
            pnl_e6, stale = own.day_pnl_e6(), sum(one.stale for one in own.days.values())
            loss_max_e6 = limit.day_loss_halt_e6 if limit is not None else -1
        notional_max_e6 = budget.notional_max_e6 if budget is not None else -1
        worst_max_e6 = budget.worst_loss_max_e6 if budget is not None else -1
        figures = (stop.state, stop.cause, *used, notional_max_e6, worst_max_e6, pnl_e6, loss_max_e6, stale)
        standing_id = f"{accounts.name}|{scope}|{name}"
        if own.said.get(standing_id) == figures:
            return
        own.said[standing_id] = figures
        turn.ledger(
            Standing(
                id=standing_id,
                account_set=accounts.name,
                scope=scope,
                name=name,
                state=stop.state,
                cause=stop.cause,
                notional_e6=used.notional_e6,
                notional_max_e6=notional_max_e6,
                worst_loss_e6=used.worst_loss_e6,
                worst_loss_max_e6=worst_max_e6,
                day_pnl_e6=pnl_e6,
                day_loss_max_e6=loss_max_e6,
                stale=stale,
                now_ns=turn.now_ns,
                log_partition=turn.item.partition,
                log_offset=turn.item.offset,
                trail=turn.trail,
            )
        )
