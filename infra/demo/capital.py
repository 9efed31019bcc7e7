"""Whether what was held ever cost more than its budgets, told from fills alone, apart from who decided.

Asked of each strategy, venue, instrument and event, of each market by the Limit's own figure (what strategies hold against
each other cancels out there), and of an event what it loses in its worst state. A lower bound of what a budget counts, so
that whatever it finds is real: money reserved for open orders is left out, YES and NO of one market cancel out, and what completes a saga at a worse price counts at its leg's own limit. What one of whose settlements failed
is not judged: decide takes such a fill back at the average of what is held. A market that was settled binds nothing.
No budget holds an exit back: what it gives up of a guarantee (a leg of a pair that is sold alone) is allowed from then on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.domain.units import MICRO
from infra.demo.payouts import Table, joined, least_e6, table_of
from schemas.decision import Budget, Entry, Grant, Limit, Link, Saga
from schemas.market import Instrument
from schemas.order import Fill, Settled
from schemas.record import Record

EACH = "*"
JUDGED = frozenset({"STRATEGY", "VENUE", "EVENT", "INSTRUMENT"})
Label = tuple[str, str]
"""Scope and name."""
Holding = tuple[str, str]
"""Strategy and instrument."""


@dataclass
class Capital:
    """Budgets, and the fills of orders."""

    budgets: dict[Label, int] = field(default_factory=dict)
    """the largest that was ever allowed, at 1e-6; `*` for each without one of its own"""
    worst: dict[str, int] = field(default_factory=dict)
    """event -> the largest loss of its worst state that was ever allowed"""
    strategies: dict[str, str] = field(default_factory=dict)
    """of each intent"""
    grants: dict[str, Grant] = field(default_factory=dict)
    firsts: dict[tuple[str, int], Grant] = field(default_factory=dict)
    """(intent, leg) -> its first grant, at the leg's own limit"""
    fills: dict[tuple[str, str], Fill] = field(default_factory=dict)
    failed: set[tuple[str, str]] = field(default_factory=set)
    links: dict[str, Link | None] = field(default_factory=dict)
    """None: it was not in force all the time, and what it joins is not judged as one"""
    groups: dict[str, str] = field(default_factory=dict)
    """instrument -> its venue's event"""
    settled: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case Budget():
                self._budget(record)
            case Limit(market_notional_max_e6=allowed):
                self._allow(("MARKET", EACH), allowed)
            case Saga():
                self.strategies[record.id] = record.strategy
            case Grant():
                self.grants.setdefault(record.id, record)
                if record.attempt == 1:
                    self.firsts[record.intent, record.leg] = record
            case Fill():
                self.fills.setdefault((record.account, record.fill), record)
            case Settled(settlement="FAILED"):
                self.failed.add((record.account, record.fill))
            case Entry(kind="SETTLEMENT", instrument=name) if name:
                self.settled.add(name)
            case Link():
                known = self.links.get(record.id, record)
                self.links[record.id] = record if known is not None and record.status == "APPROVED" else None
            case Instrument(event_group=group) if group:
                self.groups[record.instrument] = group
            case _:
                pass

    def exceeded(self) -> Iterable[str]:
        """Return each part whose holdings cost, or may lose, more than was allowed, with the first fill after which they did."""
        events = Events(self.groups, [link for link in self.links.values() if link is not None])
        held: dict[Holding, tuple[int, int]] = {}
        net: dict[Holding, tuple[int, int]] = {}
        cost: dict[Label, int] = {}
        ours = [fill for fill in self.fills.values() if fill.order in self.grants]
        told: set[Label] = set()
        last: dict[Label, int] = {}
        given_up: dict[Label, int] = {}
        for place in self.failed & self.fills.keys():
            told |= self._labels(self.fills[place], events)
        told |= {("WORST", name) for scope, name in told if scope == "EVENT"}
        for fill in sorted(ours, key=lambda fill: fill.recv_ts_ns):
            if fill.instrument in self.settled:
                continue
            more_e6 = self._take(held, self._strategy(fill), fill)
            net_e6 = self._take(net, "", fill)
            for label in sorted(self._labels(fill, events)):
                cost[label] = cost.get(label, 0) + (net_e6 if label[0] == "MARKET" else more_e6)
                found = {label: (cost[label], self._allowed(*label), "holds")}
                if label[0] == "EVENT" and self.worst:
                    loss_e6 = cost[label] - events.least_e6(label[1], held)
                    found["WORST", label[1]] = (loss_e6, self._worst(label[1]), "may lose")
                for one, (used_e6, allowed_e6, does) in found.items():
                    if self._is_exit(fill):
                        given_up[one] = given_up.get(one, 0) + max(used_e6 - max(last.get(one, 0), 0), 0)
                    last[one] = used_e6
                    if 0 <= allowed_e6 < used_e6 - given_up.get(one, 0) and one not in told:
                        told.add(one)
                        yield (
                            f"{label[0].lower()} {label[1]}: {does} {used_e6} of {allowed_e6} (1e-6) "
                            f"after fill {fill.fill}"
                        )

    def _budget(self, budget: Budget) -> None:
        if budget.scope in JUDGED:
            self._allow((budget.scope, budget.name), budget.notional_max_e6)
        if budget.scope == "EVENT" and budget.worst_loss_max_e6 >= 0:
            self.worst[budget.name] = max(budget.worst_loss_max_e6, self.worst.get(budget.name, 0))

    def _allow(self, label: Label, allowed_e6: int) -> None:
        if allowed_e6 >= 0:
            self.budgets[label] = max(allowed_e6, self.budgets.get(label, 0))

    def _allowed(self, scope: str, name: str) -> int:
        """Return the budget of a label, -1 without one; of joined events the largest of its own counts."""
        own = [self.budgets[scope, one] for one in name.split(Events.JOINT) if (scope, one) in self.budgets]
        return max(own) if own else self.budgets.get((scope, EACH), -1)

    def _worst(self, name: str) -> int:
        own = [self.worst[one] for one in name.split(Events.JOINT) if one in self.worst]
        return max(own) if own else self.worst.get(EACH, -1)

    def _labels(self, fill: Fill, events: "Events") -> set[Label]:
        return {
            ("STRATEGY", self._strategy(fill)),
            ("VENUE", fill.instrument.partition(":")[0]),
            ("INSTRUMENT", fill.instrument),
            ("MARKET", fill.instrument),
            ("EVENT", events.name(fill.instrument)),
        }

    def _strategy(self, fill: Fill) -> str:
        grant = self.grants.get(fill.order)
        return self.strategies.get(grant.intent, "") if grant is not None else ""

    def _is_exit(self, fill: Fill) -> bool:
        """Say whether a fill is of an intent that closes what is held: its first order takes back."""
        grant = self.grants[fill.order]
        first = self.firsts.get((grant.intent, grant.leg))
        return first is not None and first.purpose == "UNWIND"

    def _take(self, held: dict[Holding, tuple[int, int]], holder: str, fill: Fill) -> int:
        """Note a fill and return what it adds to the cost of what is held."""
        place = holder, fill.instrument
        before = held.get(place, (0, 0))
        held[place] = after = self._moved(before, self.grants[fill.order], fill)
        return after[1] - before[1]

    def _moved(self, before: tuple[int, int], grant: Grant, fill: Fill) -> tuple[int, int]:
        """Return size in YES (negative: in NO) at -6, and what it cost, after a fill."""
        size, cost_e6 = before
        signed = fill.size if grant.side == "BUY" else -fill.size
        if size * signed < 0:
            closed = min(abs(size), abs(signed))
            cost_e6 -= cost_e6 * closed // abs(size)
            size += closed if signed > 0 else -closed
            signed += -closed if signed > 0 else closed
        if signed:
            cost_e6 += abs(signed) * self._unit_e6(grant, fill) // MICRO
        return size + signed, cost_e6

    def _unit_e6(self, grant: Grant, fill: Fill) -> int:
        """Return what one contract binds at 1e-6: of a leg completed at a worse price, what its own limit would have."""
        yes_e6 = fill.price_e6 if fill.outcome == "YES" else MICRO - fill.price_e6
        unit_e6 = yes_e6 if grant.side == "BUY" else MICRO - yes_e6
        if grant.purpose == "ENTRY" or grant.attempt <= 1:
            return unit_e6
        first = self.firsts.get((grant.intent, grant.leg))
        return unit_e6 if first is None else min(unit_e6, _limit_e6(first))


class Events:
    """Which instruments are of one event: what a venue calls one, and what links in force all the time join to it."""

    JOINT = " + "
    """Between the names of events that links join."""

    def __init__(self, groups: Mapping[str, str], links: Iterable[Link]) -> None:
        self._groups = groups
        self._tables: dict[str, list[Table]] = {}
        self._names: dict[str, str] = {}
        tables = [table_of(link) for link in links]
        for together in joined(_named(table, groups) for table in tables):
            names = sorted({name for table in together for name in table.instruments})
            self._names |= dict.fromkeys(names, self.JOINT.join(names))
        for table in tables:
            self._tables.setdefault(self.name(table.instruments[0]), []).append(table)

    def name(self, instrument: str) -> str:
        """Return the event of an instrument."""
        group = self._groups.get(instrument, instrument)
        return self._names.get(group, group)

    def least_e6(self, event: str, held: Mapping[Holding, tuple[int, int]]) -> int:
        """Return what all that is held of an event pays at the least; YES of one strategy and NO of another are a dollar."""
        sizes: dict[str, tuple[int, int]] = {}
        for (_, instrument), (size, _) in held.items():
            if size and self.name(instrument) == event:
                bought, sold = sizes.get(instrument, (0, 0))
                sizes[instrument] = (bought + max(size, 0), sold + max(-size, 0))
        sure_e6 = sum(min(bought, sold) for bought, sold in sizes.values())
        left = {name: bought - sold for name, (bought, sold) in sizes.items()}
        return sure_e6 + least_e6(left, self._tables.get(event, []))


def _named(table: Table, groups: Mapping[str, str]) -> Table:
    return Table(tuple(groups.get(name, name) for name in table.instruments), ())


def _limit_e6(grant: Grant) -> int:
    yes_e6 = int(grant.price * 10 ** (6 + grant.price_exp))
    return yes_e6 if grant.side == "BUY" else MICRO - yes_e6
