"""Edges of 1..n legs, walked through the depth of all books with unreduced integers, net of every venue's fees.

A leg is a side in YES terms of its own instrument: BUY takes asks, SELL takes bids. What legs are worth together at the
least follows from the link's payout table alone (`Table`), so polarity needs no mirrored books: SAME pairs a BUY with
a SELL, OPPOSITE two of a kind; the outcomes of an event are all bought, or any of them sold.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import lcm
from typing import NamedTuple

from core.domain.units import E4_TO_E6, MICRO, ONE_DOLLAR_E4, ceil_div
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, OPPOSITE, fee_max_e6, on_grid, open_cost_e6, unit_cost
from decide.links import State, instruments_of, states_of
from schemas.decision import Link
from schemas.derived import Depth
from schemas.enums import Side
from schemas.market import Instrument

NS_PER_DAY = 86_400 * 1_000_000_000
NS_PER_YEAR = 365 * NS_PER_DAY
RELEASE_AFTER_CLOSE_NS: Mapping[str, int] = {"kalshi": 7 * NS_PER_DAY, "polymarket": 14 * NS_PER_DAY}
"""From an instrument's close until its capital is free again, at the worst. No venue states a bound, so these are ours:
Kalshi's settlement timer with a dispute and an amendment; Polymarket's proposal, two disputes, the vote, redemption."""


class Level(NamedTuple):
    """A price (YES, 1e-4) and a size (1e-6)."""

    price: int
    size: int


class OpenLeg(NamedTuple):
    """One leg before it is sized: which side of which instrument, and the levels that can be taken, best first.

    One that `reduces` closes what is held: it may be smaller than the venue's minimum, as it trades at once.
    """

    instrument: Instrument
    side: Side
    levels: Sequence[Level]
    reduces: bool = False


class SizedLeg(NamedTuple):
    """One leg of a sized edge.

    Attributes:
        limit: the worst level's price.
        taken: what is taken from each level.
        cost_e6: capital for opening at the levels' prices, rounded up.
        fee_e6: bound of the fees at the levels' prices.
        fee_max_e6: bound of the fees wherever up to the limit it fills.
    """

    limit: int
    taken: tuple[Level, ...]
    cost_e6: int
    fee_e6: int
    fee_max_e6: int

    @property
    def size(self) -> int:
        """Sum over the levels."""
        return sum(level.size for level in self.taken)


class Walk(NamedTuple):
    """A sized edge: all money at 1e-6, profit guaranteed in every state of the link, after fees."""

    size: int
    legs: tuple[SizedLeg, ...]
    profit_e6: int

    @property
    def cost_e6(self) -> int:
        """Capital of all legs without fees."""
        return sum(leg.cost_e6 for leg in self.legs)

    @property
    def fees_e6(self) -> int:
        """Bound of all fees."""
        return sum(leg.fee_e6 for leg in self.legs)


def levels_of(depth: Depth, side: Side) -> list[Level]:
    """Return what `side` can take from a depth, best first."""
    if side == "BUY":
        return [Level(price, size) for price, size in zip(depth.ask_prices, depth.ask_sizes, strict=True)]
    return [Level(price, size) for price, size in zip(depth.bid_prices, depth.bid_sizes, strict=True)]


class Table(NamedTuple):
    """What a link pays, ready to be asked.

    Attributes:
        columns: instrument -> its place in each row.
        rows: for each state what one YES of each instrument pays, at 1e-6.
        strong: the rows of states that are not weak; all rows where no state is, or the haircut or the cap is missing.
        haircut_e6: taken off the strong minimum; 0 where no state is weak.
    """

    columns: dict[str, int]
    rows: list[tuple[int, ...]]
    strong: list[tuple[int, ...]]
    haircut_e6: int

    def floor_e6(self, sides: Mapping[str, Side]) -> int:
        """Return what counts as guaranteed for one contract of each leg (instrument -> side) together, at 1e-6.

        0 when the table is not whole: nothing is guaranteed.
        """
        worst = self.worst_e6(sides)
        if not self.haircut_e6:
            return worst
        return max(worst, self._least_e6(self.strong, sides) - self.haircut_e6)

    def worst_e6(self, sides: Mapping[str, Side]) -> int:
        """Return the same with weak states counted as they pay: what is left when the worst of them comes."""
        return self._least_e6(self.rows, sides)

    def _least_e6(self, rows: list[tuple[int, ...]], sides: Mapping[str, Side]) -> int:
        bought = [self.columns[name] for name, side in sides.items() if side == "BUY" and name in self.columns]
        sold = [self.columns[name] for name, side in sides.items() if side != "BUY" and name in self.columns]
        return _least_e6(rows, bought, sold)


def _least_e6(rows: list[tuple[int, ...]], bought: list[int], sold: list[int]) -> int:
    whole = len(sold) * MICRO
    return min((whole + sum(row[at] for at in bought) - sum(row[at] for at in sold) for row in rows), default=0)


def table_of(link: Link) -> Table:
    """Return a link's payouts.

    Of an event that nobody approved as exhaustive, "none of these" is a state too. Weak states do not count where a
    human named both the haircut that stands for them and the cap.
    """
    try:
        states = states_of(link)
    except ValueError:
        return Table({}, [], [], 0)
    if link.kind == "EVENT" and not link.exhaustive:
        states.append(State("none of these", (0,) * len(link.instruments)))
    rows = [state.pays_e6 for state in states]
    columns = {name: column for column, name in enumerate(instruments_of(link))}
    strong = [state.pays_e6 for state in states if state.name not in link.weak_states]
    if len(strong) == len(rows) or not strong or link.haircut_e6 <= 0 or link.cap_e6 <= 0:
        return Table(columns, rows, rows, 0)
    return Table(columns, rows, strong, link.haircut_e6)


def floor_of(link: Link, sides: Mapping[str, Side]) -> int:
    """Return what counts as guaranteed for one contract of each leg (instrument -> side) together, at 1e-6."""
    return table_of(link).floor_e6(sides)


def worst_of(link: Link, sides: Mapping[str, Side]) -> int:
    """Return what one contract of each leg pays together in the worst state, weak ones included: what can be lost to."""
    return table_of(link).worst_e6(sides)


def payout_floor(link: Link, side_a: Side, side_b: Side) -> int:
    """Return the same of a pair."""
    return floor_of(link, {link.instrument_a: side_a, link.instrument_b: side_b})


def walk(*legs: OpenLeg, floor_e6: int, size_max: int, unit_profit_min_e6: int = 0) -> Walk | None:
    """Return the size with the largest guaranteed profit, or None when no size has one.

    Candidates are the sizes at which a level of any book ends, and `size_max`: between two of them profit is linear but
    for the fees' rounding. Levels whose contracts bring less than `unit_profit_min_e6` before fees are not walked.

    Args:
        floor_e6: `floor_of` the sides.
        size_max: at 1e-6; also the bound of capital or caps the caller knows of.
    """
    best: Walk | None = None
    # A step all grids of sizes have.
    step = lcm(*(leg.instrument.size_step for leg in legs))
    for reach in _reaches(legs, floor_e6=floor_e6, unit_profit_min_e6=unit_profit_min_e6):
        size = min(reach, size_max) // step * step
        sized = size_walk(legs, size, floor_e6=floor_e6)
        if sized is not None and (best is None or sized.profit_e6 > best.profit_e6):
            best = sized
        if reach >= size_max:
            break
    return best if best is not None and best.profit_e6 > 0 else None


def size_walk(legs: Sequence[OpenLeg], size: int, *, floor_e6: int) -> Walk | None:
    """Return the walk of exactly `size`, None where a venue's minimum, its price grid or the depth do not allow it."""
    sized: list[SizedLeg] = []
    for leg in legs:
        one = size_leg(leg, size)
        if one is None:
            return None
        sized.append(one)
    # Capital is rounded up a leg, so this is at most 1e-6 a leg below the exact figure and never above it.
    profit = floor_e6 * size // MICRO - sum(leg.cost_e6 + leg.fee_e6 for leg in sized)
    return Walk(size, tuple(sized), profit)


def release_ns(instruments: Sequence[Instrument]) -> int:
    """Return when the last of their capital is free again in the worst case, 0 where one states no close."""
    if not all(instrument.close_ts_ns for instrument in instruments):
        return 0
    return max(one.close_ts_ns + RELEASE_AFTER_CLOSE_NS[one.venue] for one in instruments)


def annual_e6(profit_e6: int, capital_e6: int, now_ns: int, release_ts_ns: int) -> int:
    """Return profit over capital scaled to a year, millionths, rounded down; 0 where the release is not known."""
    left_ns = release_ts_ns - now_ns
    return profit_e6 * MICRO * NS_PER_YEAR // (capital_e6 * left_ns) if left_ns > 0 and capital_e6 > 0 else 0


def size_leg(leg: OpenLeg, size: int) -> SizedLeg | None:
    """Return one leg cut to `size`, None where it cannot be ordered."""
    instrument = leg.instrument
    if size <= 0 or size % instrument.size_step or (size < instrument.size_min and not leg.reduces):
        return None
    taken = cut(leg.levels, size)
    if not taken:
        return None
    limit = taken[-1].price
    # What closes sells the other token: its money is what the opposite side would have paid for it.
    token_side = OPPOSITE[leg.side] if leg.reduces else leg.side
    if not on_grid(instrument, limit) or open_cost_e6(token_side, limit, size) < instrument.notional_min_e6:
        return None
    bound = CONDUCTS[instrument.venue].fee_bound
    return SizedLeg(
        limit=limit,
        taken=taken,
        cost_e6=ceil_div(sum(unit_cost(leg.side, price) * part for price, part in taken), ONE_DOLLAR_E4),
        fee_e6=sum(bound(instrument, price, part, FILLS_PER_LEVEL) for price, part in taken),
        fee_max_e6=fee_max_e6(instrument, limit, taken[0].price, size, FILLS_PER_LEVEL * len(taken)),
    )


def cut(levels: Sequence[Level], size: int) -> tuple[Level, ...]:
    """Return the first levels up to `size` together, the last one cut; empty when they do not reach it."""
    taken = []
    for price, available in levels:
        part = min(available, size)
        if part > 0:
            taken.append(Level(price, part))
            size -= part
        if size == 0:
            return tuple(taken)
    return ()


def _reaches(legs: Sequence[OpenLeg], *, floor_e6: int, unit_profit_min_e6: int) -> Iterator[int]:
    """Yield the cumulative sizes at which a level of any leg ends, while contracts still bring enough."""
    if not legs:
        return
    # A level of nothing (all of it is taken already) is no level.
    levels = [[level for level in leg.levels if level.size > 0] for leg in legs]
    places, reach = [0] * len(legs), 0
    left = [found[0].size if found else 0 for found in levels]
    while all(place < len(found) for place, found in zip(places, levels, strict=True)):
        at = zip(legs, levels, places, strict=True)
        cost = sum(unit_cost(leg.side, found[place].price) for leg, found, place in at)
        if floor_e6 - cost * E4_TO_E6 < max(unit_profit_min_e6, 1):
            return
        part = min(left)
        reach += part
        for number, found in enumerate(levels):
            left[number] -= part
            if left[number] == 0:
                places[number] += 1
                left[number] = found[places[number]].size if places[number] < len(found) else 0
        yield reach
