"""Whether what was granted stayed within what a human allowed, told from the records alone, apart from who decided."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.domain.units import ceil_div
from schemas.decision import Budget, Grant, Ledger, Limit, Saga
from schemas.record import Record

OPEN = frozenset({"FIRST_LEG", "SECOND_LEG", "UNWINDING", "RESTING"})
EXAMPLES = 10
EACH = "*"
NS_PER_MINUTE = 60_000_000_000


@dataclass
class Budgets:
    """Limits, grants and sagas of a run."""

    limits: dict[str, Limit] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    sagas: dict[tuple[int, int, str], Saga] = field(default_factory=dict)
    """(log partition, log offset, id) -> what was said of a saga there"""
    rates: dict[str, tuple[int, int]] = field(default_factory=dict)
    """venue, or `*` -> the shortest time one order was allowed to take, in ns, and how many at most might come at once"""

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case Limit():
                self.limits[record.id] = record
            case Budget(scope="VENUE", orders_per_min=count) if count > 0:
                every_ns, burst = self.rates.get(record.name, (NS_PER_MINUTE, 0))
                self.rates[record.name] = (
                    min(every_ns, NS_PER_MINUTE // count),
                    max(burst, record.orders_burst or count),
                )
            case Grant():
                self.grants.setdefault(record.id, record)
            case Saga():
                self.sagas[record.log_partition, record.log_offset, record.id] = record
            case _:
                pass

    def exceeded(self) -> list[str]:
        """Return each limit that was passed, in words."""
        return [*self._orders(), *self._open_sagas(), *self._too_fast()]

    def _orders(self) -> Iterable[str]:
        for grant in self.grants.values():
            limit = self.limits.get(grant.account_set)
            if limit is None:
                yield f"grant {grant.id}: no limit of {grant.account_set}, which means HALTED"
            elif grant.purpose == "ENTRY" and notional_e6(grant) > limit.order_notional_max_e6:
                yield (
                    f"grant {grant.id}: {notional_e6(grant)} of {limit.order_notional_max_e6} (1e-6) for one order "
                    f"of {grant.instrument}"
                )

    def _open_sagas(self) -> Iterable[str]:
        is_open: dict[str, set[str]] = {}
        for (_, offset, _), saga in sorted(self.sagas.items(), key=lambda item: item[0]):
            ours = is_open.setdefault(saga.account_set, set())
            if saga.state not in OPEN:
                ours.discard(saga.id)
                continue
            # One that a failed settlement reopened was not let in: it was there.
            is_new = saga.id not in ours and saga.state in {"FIRST_LEG", "RESTING"}
            ours.add(saga.id)
            limit = self.limits.get(saga.account_set)
            if is_new and limit is not None and len(ours) > limit.open_sagas_max:
                yield f"saga {saga.id} at offset {offset}: {len(ours)} of {limit.open_sagas_max} open"

    def _too_fast(self) -> Iterable[str]:
        """Yield the first order of new risk at each venue that came before its rate allowed one.

        A lower bound: only the first order of each intent counts here, what follows it was let in with it.
        """
        firsts: dict[str, Grant] = {}
        for grant in self.grants.values():
            known = firsts.setdefault(grant.intent, grant)
            if (grant.now_ns, grant.id) < (known.now_ns, known.id):
                firsts[grant.intent] = grant
        due_ns: dict[tuple[str, str], int] = {}
        told: set[tuple[str, str]] = set()
        for grant in sorted(firsts.values(), key=lambda grant: grant.now_ns):
            venue = grant.account.partition(":")[0]
            place = grant.account_set, venue
            rate = self.rates.get(venue) or self.rates.get(EACH)
            if rate is None or grant.purpose != "ENTRY" or place in told:
                continue
            every_ns, burst = rate
            due_ns[place] = max(due_ns.get(place, 0), grant.now_ns) + every_ns
            if due_ns[place] > grant.now_ns + burst * every_ns:
                told.add(place)
                yield f"venue {venue}: grant {grant.id} came before its rate allowed it ({NS_PER_MINUTE // every_ns} a minute)"


def notional_e6(grant: Grant) -> int:
    """Return the capital that opening the order at its limit needs, at 1e-6."""
    one = 10**-grant.price_exp
    unit = grant.price if grant.side == "BUY" else one - grant.price
    return ceil_div(unit * grant.size, one)


def leaked(ledger: Mapping[str, Ledger]) -> list[str]:
    """Return the accounts whose money is still reserved although nothing is open any more."""
    return [
        f"{row.account}: {row.reserved_e6} (1e-6)" for row in ledger.values() if not row.instrument and row.reserved_e6
    ]
