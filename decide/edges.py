"""Two-leg edges, walked through the depth of both books with unreduced integers, net of both venues' fees.

A leg is a side in YES terms of its own instrument: BUY takes asks, SELL takes bids. What a pair of legs is worth at the
least follows from the link's payout table alone (`payout_floor`), so polarity needs no mirrored books: SAME pairs a BUY
with a SELL, OPPOSITE two of a kind.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, fee_max_e6, on_grid, open_cost_e6, unit_cost
from schemas.decision import Link
from schemas.derived import Depth
from schemas.enums import Side
from schemas.market import Instrument

E4_TO_E6 = 100


class Level(NamedTuple):
    """A price (YES, 1e-4) and a size (1e-6)."""

    price: int
    size: int


class OpenLeg(NamedTuple):
    """One leg before it is sized: which side of which instrument, and the levels that can be taken, best first."""

    instrument: Instrument
    side: Side
    levels: Sequence[Level]


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
    legs: tuple[SizedLeg, SizedLeg]
    profit_e6: int

    @property
    def cost_e6(self) -> int:
        """Capital of all legs without fees."""
        return self.legs[0].cost_e6 + self.legs[1].cost_e6

    @property
    def fees_e6(self) -> int:
        """Bound of all fees."""
        return self.legs[0].fee_e6 + self.legs[1].fee_e6


def levels_of(depth: Depth, side: Side) -> list[Level]:
    """Return what `side` can take from a depth, best first."""
    if side == "BUY":
        return [Level(price, size) for price, size in zip(depth.ask_prices, depth.ask_sizes, strict=True)]
    return [Level(price, size) for price, size in zip(depth.bid_prices, depth.bid_sizes, strict=True)]


def payout_floor(link: Link, side_a: Side, side_b: Side) -> int:
    """Return what one contract of each leg pays together in the worst state, at 1e-6."""
    return min(
        (a if side_a == "BUY" else MICRO - a) + (b if side_b == "BUY" else MICRO - b)
        for a, b in zip(link.payout_a_e6, link.payout_b_e6, strict=True)
    )


def walk(first: OpenLeg, second: OpenLeg, *, floor_e6: int, size_max: int, unit_profit_min_e6: int = 0) -> Walk | None:
    """Return the size with the largest guaranteed profit, or None when no size has one.

    Candidates are the sizes at which either book's level ends, and `size_max`: between two of them profit is linear but
    for the fees' rounding. Levels whose contracts bring less than `unit_profit_min_e6` before fees are not walked.

    Args:
        floor_e6: `payout_floor` of the two sides.
        size_max: at 1e-6; also the bound of capital or caps the caller knows of.
    """
    best: Walk | None = None
    step = _common_step(first.instrument, second.instrument)
    for reach in _reaches(first, second, floor_e6=floor_e6, unit_profit_min_e6=unit_profit_min_e6):
        size = min(reach, size_max) // step * step
        sized = size_walk(first, second, size, floor_e6=floor_e6)
        if sized is not None and (best is None or sized.profit_e6 > best.profit_e6):
            best = sized
        if reach >= size_max:
            break
    return best if best is not None and best.profit_e6 > 0 else None


def size_walk(first: OpenLeg, second: OpenLeg, size: int, *, floor_e6: int) -> Walk | None:
    """Return the walk of exactly `size`, None where a venue's minimum, its price grid or the depth do not allow it."""
    legs = (size_leg(first, size), size_leg(second, size))
    if legs[0] is None or legs[1] is None:
        return None
    # Capital is rounded up a leg, so this is at most 2e-6 below the exact figure and never above it.
    profit = floor_e6 * size // MICRO - legs[0].cost_e6 - legs[1].cost_e6 - legs[0].fee_e6 - legs[1].fee_e6
    return Walk(size, (legs[0], legs[1]), profit)


def size_leg(leg: OpenLeg, size: int) -> SizedLeg | None:
    """Return one leg cut to `size`, None where it cannot be ordered."""
    instrument = leg.instrument
    if size <= 0 or size < instrument.size_min or size % instrument.size_step:
        return None
    taken = cut(leg.levels, size)
    if not taken:
        return None
    limit = taken[-1].price
    if not on_grid(instrument, limit) or open_cost_e6(leg.side, limit, size) < instrument.notional_min_e6:
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


def _common_step(a: Instrument, b: Instrument) -> int:
    """Return a step both grids of sizes have: the coarser one where it is a multiple, else their product."""
    low, high = sorted((a.size_step, b.size_step))
    return high if high % low == 0 else low * high


def _reaches(first: OpenLeg, second: OpenLeg, *, floor_e6: int, unit_profit_min_e6: int) -> Iterator[int]:
    """Yield the cumulative sizes at which a level of either side ends, while contracts still bring enough."""
    i = j = reach = 0
    left_i = first.levels[0].size if first.levels else 0
    left_j = second.levels[0].size if second.levels else 0
    while i < len(first.levels) and j < len(second.levels):
        cost = unit_cost(first.side, first.levels[i].price) + unit_cost(second.side, second.levels[j].price)
        if floor_e6 - cost * E4_TO_E6 < max(unit_profit_min_e6, 1):
            return
        part = min(left_i, left_j)
        reach += part
        left_i -= part
        left_j -= part
        if left_i == 0:
            i += 1
            left_i = first.levels[i].size if i < len(first.levels) else 0
        if left_j == 0:
            j += 1
            left_j = second.levels[j].size if j < len(second.levels) else 0
        if part > 0:
            yield reach
