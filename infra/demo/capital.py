"""Whether what each strategy held ever cost more than its budget, told from fills alone, apart from who decided.

A lower bound of what a budget counts, so that whatever it finds is real: money reserved for open orders is left out, YES
and NO of one market cancel out, and what completes a saga at a worse price counts at its leg's own limit. A strategy one of
whose settlements failed is not judged: decide takes such a fill back at the average of what is held. The demo's markets do
not resolve: what is held stays until it is sold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from core.domain.units import MICRO
from schemas.decision import Budget, Grant, Saga
from schemas.order import Fill, Settled
from schemas.record import Record

EACH = "*"


@dataclass
class Capital:
    """Budgets of strategies, and the fills of their orders."""

    budgets: dict[str, int] = field(default_factory=dict)
    """strategy, or `*` for each without one of its own -> the largest that was ever allowed, at 1e-6"""
    strategies: dict[str, str] = field(default_factory=dict)
    """of each intent"""
    grants: dict[str, Grant] = field(default_factory=dict)
    firsts: dict[tuple[str, int], Grant] = field(default_factory=dict)
    """(intent, leg) -> its first grant, at the leg's own limit"""
    fills: dict[tuple[str, str], Fill] = field(default_factory=dict)
    failed: set[tuple[str, str]] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case Budget(scope="STRATEGY", notional_max_e6=allowed) if allowed >= 0:
                self.budgets[record.name] = max(allowed, self.budgets.get(record.name, 0))
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
            case _:
                pass

    def exceeded(self) -> Iterable[str]:
        """Return each strategy whose holdings cost more than its budget, with the first fill after which they did."""
        held: dict[tuple[str, str], tuple[int, int]] = {}
        cost: dict[str, int] = {}
        ours = [fill for fill in self.fills.values() if fill.order in self.grants]
        passed_over = {self._strategy(self.fills[place]) for place in self.failed & {*self.fills}}
        for fill in sorted(ours, key=lambda fill: fill.recv_ts_ns):
            grant = self.grants[fill.order]
            strategy = self._strategy(fill)
            place = strategy, fill.instrument
            before = held.get(place, (0, 0))
            held[place] = after = self._moved(before, grant, fill)
            cost[strategy] = cost.get(strategy, 0) + after[1] - before[1]
            allowed = self.budgets.get(strategy, self.budgets.get(EACH, -1))
            if 0 <= allowed < cost[strategy] and strategy not in passed_over:
                passed_over.add(strategy)
                yield f"strategy {strategy}: holds {cost[strategy]} of {allowed} (1e-6) after fill {fill.fill}"

    def _strategy(self, fill: Fill) -> str:
        grant = self.grants.get(fill.order)
        return self.strategies.get(grant.intent, "") if grant is not None else ""

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


def _limit_e6(grant: Grant) -> int:
    yes_e6 = int(grant.price * 10 ** (6 + grant.price_exp))
    return yes_e6 if grant.side == "BUY" else MICRO - yes_e6
