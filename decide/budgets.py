"""What parts of an account set may use: by strategy, event, category, venue and shard, and how many orders a minute.

A budget counts what holdings cost and what sagas have reserved; an intent is admitted if that and all its legs stay
within every budget it touches. An event is what its venues call one, together with the events that links join to it:
its worst case is what is bound less what the worst outcome pays, and of what is only reserved nothing is sure to pay.
Exits bind nothing and are not asked about (`admission`). Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_S
from decide.account_set import AccountSet
from decide.links import instruments_of
from decide.risk import Place, Risk, budget_of
from decide.worth import is_in_force, least_payout
from schemas.decision import Budget, Intent, Link
from schemas.enums import Scope
from schemas.market import Instrument

SCOPES: Sequence[Scope] = ("STRATEGY", "EVENT", "CATEGORY", "VENUE", "SHARD", "INSTRUMENT")
NS_PER_MINUTE = 60 * NS_PER_S
_JOINT = " + "
"""Between the names of events that links join."""
Over = Literal["STRATEGY", "EVENT", "CATEGORY", "VENUE", "SHARD", "INSTRUMENT", "WORST_LOSS", "RATE"]


class Need(NamedTuple):
    """What one leg of an intent would bind: its cost and largest fee."""

    account: str
    instrument: Instrument
    money_e6: int


class Bound(NamedTuple):
    """Money that is bound by one holding or one reservation."""

    strategy: str
    instrument: str
    cost_e6: int
    reserved_e6: int


class Usage(NamedTuple):
    """What of one budget is used."""

    notional_e6: int
    worst_loss_e6: int


class Knowledge(Protocol):
    """What budgets need to know of the log: links and instruments by id."""

    @property
    def links(self) -> Mapping[str, Link]:
        """Return the links, whatever their status."""
        ...

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """Return the instruments."""
        ...


def refuse(intent: Intent, needs: Sequence[Need], accounts: AccountSet, known: Knowledge, now_ns: int) -> Over | None:
    """Return which budget an intent would go beyond, None if it stays within all of them."""
    risk = accounts.risk
    if not risk.budgets:
        return None
    view = View(accounts, known, now_ns, [need.instrument.instrument for need in needs])
    limited = {scope for scope, _ in risk.budgets}
    asked: dict[Place, int] = {}
    for need in needs:
        for scope in (scope for scope in SCOPES if scope in limited):
            place = (scope, view.label(scope, intent.strategy, need.instrument.instrument))
            asked[place] = asked.get(place, 0) + need.money_e6
    for (scope, name), money_e6 in asked.items():
        budget = view.budget(scope, name)
        if budget is None or (budget.notional_max_e6 < 0 and budget.worst_loss_max_e6 < 0):
            continue
        used = view.usage(scope, name)
        if 0 <= budget.notional_max_e6 < used.notional_e6 + money_e6:
            return scope  # type: ignore[return-value]  # one of SCOPES
        if scope == "EVENT" and 0 <= budget.worst_loss_max_e6 < used.worst_loss_e6 + money_e6:
            return "WORST_LOSS"
    counts: dict[str, int] = {}
    for need in needs:
        counts[need.instrument.venue] = counts.get(need.instrument.venue, 0) + 1
    within = all(rate_allows(risk, venue, count, now_ns) for venue, count in counts.items())
    return None if within else "RATE"


# --- order rates


def rate_allows(risk: Risk, venue: str, count: int, now_ns: int) -> bool:
    """Say whether so many orders may be granted at a venue now."""
    rate = _rate(risk, venue)
    if rate is None:
        return True
    every_ns, burst = rate
    return max(risk.due_ns.get(venue, 0), now_ns) + count * every_ns <= now_ns + burst * every_ns


def charge(risk: Risk, venue: str, count: int, now_ns: int) -> None:
    """Count orders against a venue's rate, also beyond it: what takes risk away is not held back, new risk then waits."""
    rate = _rate(risk, venue)
    if rate is not None:
        risk.due_ns[venue] = max(risk.due_ns.get(venue, 0), now_ns) + count * rate[0]


def _rate(risk: Risk, venue: str) -> tuple[int, int] | None:
    """Return the time one order takes and how many may come at once, None without a limit."""
    budget = budget_of(risk.budgets, "VENUE", [venue])
    if budget is None or budget.orders_per_min < 0:
        return None
    # None a minute: no time is long enough, and nothing may come at once.
    if budget.orders_per_min == 0:
        return NS_PER_MINUTE, 0
    return NS_PER_MINUTE // budget.orders_per_min, budget.orders_burst or budget.orders_per_min


# --- what is used


class View:
    """What is bound in an account set at one moment; `beside` names instruments that count though nothing binds them."""

    def __init__(self, accounts: AccountSet, known: Knowledge, now_ns: int, beside: Sequence[str] = ()) -> None:
        self._risk = accounts.risk
        self._accounts = accounts
        self._known = known
        self._bound = list(_bound(accounts, known))
        events = any(scope == "EVENT" for scope, _ in self._risk.budgets)
        self._in_force = _in_force(known, now_ns) if events else []
        self._sums: dict[Scope, dict[str, tuple[int, int]]] = {}
        self._events = self._join({*beside, *(bound.instrument for bound in self._bound)})

    def label(self, scope: Scope, strategy: str, instrument: str) -> str:
        """Return the name under which a budget of that scope counts an instrument of a strategy."""
        if scope == "STRATEGY":
            return strategy
        if scope == "INSTRUMENT":
            return instrument
        if scope == "EVENT":
            return self._events.get(instrument, instrument)
        described = self._known.instruments.get(instrument)
        if scope == "VENUE":
            return described.venue if described is not None else instrument.partition(":")[0]
        if described is None:
            return ""
        return described.category if scope == "CATEGORY" else f"{described.venue}/{described.exchange_index}"

    def budget(self, scope: Scope, name: str) -> Budget | None:
        """Return the budget that holds for a label. Of joined events the first that has one of its own counts."""
        return budget_of(self._risk.budgets, scope, name.split(_JOINT) if scope == "EVENT" else [name])

    def usage(self, scope: Scope, name: str) -> Usage:
        """Return what of a label is used."""
        cost_e6, reserved_e6 = self._of(scope).get(name, (0, 0))
        worst_e6 = 0
        if scope == "EVENT":
            instruments = {bound.instrument for bound in self._bound if self.label(scope, "", bound.instrument) == name}
            worst_e6 = max(cost_e6 - self._least_payout(instruments), 0) + reserved_e6
        return Usage(cost_e6 + reserved_e6, worst_e6)

    def _of(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """Return cost and reservations of each label of a scope."""
        sums = self._sums.get(scope)
        if sums is None:
            sums = self._sums[scope] = {}
            for bound in self._bound:
                label = self.label(scope, bound.strategy, bound.instrument)
                cost_e6, reserved_e6 = sums.get(label, (0, 0))
                sums[label] = (cost_e6 + bound.cost_e6, reserved_e6 + bound.reserved_e6)
        return sums

    def _least_payout(self, instruments: set[str]) -> int:
        """Return what all that is held of some instruments pays at the least."""
        bought: dict[str, int] = {}
        sold: dict[str, int] = {}
        for book in self._accounts.positions.books.values():
            for (_, instrument), position in book.open.items():
                if instrument in instruments:
                    one = bought if position.size > 0 else sold
                    one[instrument] = one.get(instrument, 0) + abs(position.size)
        # What one strategy bought and another sold is YES and NO of one market: a dollar, whatever happens.
        sure_e6 = sum(min(size, sold.get(name, 0)) for name, size in bought.items())
        quantities = {name: bought.get(name, 0) - sold.get(name, 0) for name in sorted({*bought, *sold})}
        return sure_e6 + least_payout(quantities, self._in_force, self._known.instruments)

    def whole(self) -> Usage:
        """Return what of the whole set is bound."""
        return Usage(sum(bound.cost_e6 + bound.reserved_e6 for bound in self._bound), 0)

    def event_named(self, group: str) -> str:
        """Return the event that a venue's event is part of."""
        return next((event for event in self._events.values() if group in event.split(_JOINT)), group)

    def labels(self, scope: Scope) -> list[str]:
        """Return the labels of a scope in which something is bound."""
        return sorted(self._of(scope))

    def _join(self, instruments: set[str]) -> dict[str, str]:
        """Return the event of each instrument: the names of those that links join, sorted."""
        if not any(scope == "EVENT" for scope, _ in self._risk.budgets):
            return {}
        return _join(instruments, self._in_force, self._known.instruments)


def bound_instruments(accounts: AccountSet, known: Knowledge) -> set[str]:
    """Return the instruments in which something is bound."""
    return {bound.instrument for bound in _bound(accounts, known)}


def joined_to(event: str, known: Knowledge, now_ns: int, beside: Iterable[str] = ()) -> list[str]:
    """Return the names of the events that count as one with a venue's event, its own among them, sorted.

    Args:
        event: name of a budget of an event.
        known: links and instruments.
        now_ns: which links are in force then.
        beside: instruments that are bound already: links that touch them join events as well.
    """
    own = {name for name, described in known.instruments.items() if described.event_group == event} or {event}
    return _join({*own, *beside}, _in_force(known, now_ns), known.instruments)[min(own)].split(_JOINT)


def _in_force(known: Knowledge, now_ns: int) -> list[Link]:
    return [link for _, link in sorted(known.links.items()) if is_in_force(link, now_ns)]


def _join(names: Collection[str], links: Iterable[Link], instruments: Mapping[str, Instrument]) -> dict[str, str]:
    """Return the event of each instrument: the names of those that links of any of them join, sorted."""
    parent: dict[str, str] = {}

    def group(instrument: str) -> str:
        described = instruments.get(instrument)
        return described.event_group if described is not None and described.event_group else instrument

    def root(one: str) -> str:
        while parent.setdefault(one, one) != one:
            one = parent[one]
        return one

    wanted = {*names}
    for name in wanted:
        root(group(name))
    for link in links:
        joined = instruments_of(link)
        if wanted.intersection(joined):
            first, *others = (root(group(name)) for name in joined)
            for other in others:
                parent[root(other)] = root(first)
    members: dict[str, list[str]] = {}
    for one in sorted(parent):
        members.setdefault(root(one), []).append(one)
    return {name: _JOINT.join(members[root(group(name))]) for name in wanted}


def _bound(accounts: AccountSet, known: Knowledge) -> Iterator[Bound]:
    for strategy, book in accounts.positions.books.items():
        for (_, instrument), position in book.open.items():
            described = known.instruments.get(instrument)
            lost_e6 = 0 if position.size > 0 else MICRO
            if described is not None and described.status == "SETTLED" and described.payout_e6 == lost_e6:
                continue  # its tokens may stay for ever, as nobody redeems them
            yield Bound(strategy, instrument, position.cost_e6, 0)
    for account in sorted(accounts.ledgers):
        for name, money_e6 in accounts.ledgers[account].reserved.items():
            intent, _, index = name.rpartition("/")
            saga = accounts.sagas[intent]
            yield Bound(saga.intent.strategy, saga.legs[int(index)].leg.instrument, 0, money_e6)
