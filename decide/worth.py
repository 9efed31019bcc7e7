"""What positions are worth, and what they pay at the least: linked quantity by its payout table, the rest by its own.

Linked is what an approved link guarantees something for: quantities of its instruments, as many of each, for which its
table, haircut taken, has a floor. What they are worth is the worst row of that table, weak states included: the haircut
only says what may be begun. They are matched link by link in the order of the ids, greedily: any matching is a
bound from below. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from core.domain.units import MICRO
from decide.edges import table_of
from decide.links import instruments_of
from decide.marks import Marks
from schemas.decision import Link
from schemas.enums import Side
from schemas.market import Instrument

Quantities = Mapping[str, int]
"""Instrument -> signed quantity of YES at 1e-6."""


class Matched(NamedTuple):
    """What links guarantee.

    Attributes:
        pays_e6: what the linked quantity pays in its worst state, a sold YES being a NO that was bought.
        value_e6: the same with what is sold counted as owed: less a dollar for each contract that is sold.
        rest: what no link covers.
    """

    pays_e6: int
    value_e6: int
    rest: dict[str, int]


class Worth(NamedTuple):
    """What positions are worth, and which of them have no mark that can be believed."""

    value_e6: int
    stale: tuple[str, ...]


def is_in_force(link: Link, now_ns: int) -> bool:
    """Say whether what a link guarantees may be counted on."""
    return link.status == "APPROVED" and not 0 < link.expires_ts_ns <= now_ns


def match(quantities: Quantities, links: Iterable[Link]) -> Matched:
    """Return what links (in force, in the order of their ids) guarantee of quantities."""
    rest = {name: size for name, size in quantities.items() if size}
    pays_e6 = value_e6 = 0
    for link in links:
        held = [name for name in instruments_of(link) if name in rest]
        if len(held) < 2:
            continue
        table = table_of(link)
        for wanted in ({"BUY", "SELL"}, {"SELL"}, {"BUY"}):
            while True:
                sides = {name: _side(rest[name]) for name in held if name in rest and _side(rest[name]) in wanted}
                if len(sides) < 2 or table.floor_e6(sides) <= 0:
                    break
                worst_e6 = table.worst_e6(sides)
                part = min(abs(rest[name]) for name in sides)
                pays_e6 += worst_e6 * part // MICRO
                sold = sum(side == "SELL" for side in sides.values())
                value_e6 += worst_e6 * part // MICRO - sold * part
                for name, side in sides.items():
                    rest[name] += -part if side == "BUY" else part
                    if not rest[name]:
                        del rest[name]
    return Matched(pays_e6, value_e6, rest)


def worth(quantities: Quantities, links: Iterable[Link], marks: Marks, now_ns: int) -> Worth:
    """Return what quantities are worth: linked ones at their worst case, the rest at the prices they could be sold for."""
    matched = match(quantities, links)
    value_e6 = matched.value_e6 + sum(marks.value_e6(name, size) for name, size in matched.rest.items())
    return Worth(value_e6, tuple(name for name in matched.rest if not marks.is_young(name, now_ns)))


def least_payout(quantities: Quantities, links: Iterable[Link], instruments: Mapping[str, Instrument]) -> int:
    """Return what quantities pay at the least over all outcomes, a sold YES being a NO that was bought.

    Of instruments that no link covers, those of one negative-risk event exclude each other: at most one of them wins.
    Any others are taken as independent.
    """
    matched = match(quantities, links)
    exclusive: dict[str, list[int]] = {}
    for name, size in matched.rest.items():
        instrument = instruments.get(name)
        if instrument is not None and instrument.neg_risk and instrument.event_group:
            exclusive.setdefault(instrument.event_group, []).append(size)
    return matched.pays_e6 + sum(_least_of_one(sizes) for sizes in exclusive.values())


def _least_of_one(sizes: list[int]) -> int:
    """Return the worst of: none of them wins, or any one of them does."""
    none_wins = sum(-size for size in sizes if size < 0)
    return min(none_wins, *(none_wins + size for size in sizes))


def _side(size: int) -> Side:
    return "BUY" if size > 0 else "SELL"
