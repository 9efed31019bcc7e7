"""What holdings pay in the worst state that approved payout tables allow, told from the records alone, apart from who decided.

Tables that name an instrument in common must agree about it; states in which they do not are left out, and what no table
names may pay nothing. So the result is never less than what whoever decides may count on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from core.domain.units import MICRO
from schemas.decision import Link


class Table(NamedTuple):
    """What one YES of each of some instruments pays, state by state, at 1e-6."""

    instruments: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


def table_of(link: Link) -> Table:
    """Return the payout table of a link, its states that may pay less left out as it has them."""
    weak = set(link.weak_states)
    if link.kind == "PAIR":
        names: tuple[str, ...] = (link.instrument_a, link.instrument_b)
        rows: list[tuple[int, ...]] = list(zip(link.payout_a_e6, link.payout_b_e6, strict=True))
    else:
        names, width = tuple(link.instruments), len(link.instruments)
        rows = [tuple(link.payouts_e6[first : first + width]) for first in range(0, len(link.payouts_e6), width)]
    return Table(names, tuple(row for state, row in zip(link.states, rows, strict=True) if state not in weak))


def least_e6(quantities: Mapping[str, int], tables: Sequence[Table]) -> int:
    """Return what quantities (YES at -6, negative: NO) pay at the least."""
    return sum(min(_payouts(quantities, group, {}), default=0) for group in joined(tables))


def joined(tables: Iterable[Table]) -> list[list[Table]]:
    """Return the tables in groups that share no instrument; in each group those with the most instruments come first."""
    groups: list[tuple[set[str], list[Table]]] = []
    for table in tables:
        names, members = set(table.instruments), [table]
        apart = []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                members = [*group[1], *members]
            else:
                apart.append(group)
        groups = [*apart, (names, members)]
    return [sorted(members, key=lambda table: -len(table.instruments)) for _, members in groups]


def _payouts(quantities: Mapping[str, int], tables: Sequence[Table], paid: Mapping[str, int]) -> Iterator[int]:
    """Yield what quantities pay in each joint state."""
    if not tables:
        yield sum(
            (size * paid[name] if size > 0 else -size * (MICRO - paid[name])) // MICRO
            for name, size in quantities.items()
            if name in paid
        )
        return
    first, *others = tables
    for row in first.rows:
        said = dict(zip(first.instruments, row, strict=True))
        if all(paid.get(name, value) == value for name, value in said.items()):
            yield from _payouts(quantities, others, {**paid, **said})
