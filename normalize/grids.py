"""Which prices a book may hold: the tick table of an instrument as a set, shared by all that have the same table.

The table's newest version and what a feed said of a change only ever add prices: both venues keep orders that rest on
an older grid.
"""

from functools import lru_cache

from core.domain.errors import OffGrid
from core.domain.units import ONE_DOLLAR_E4
from schemas import market

EVERY_PRICE = frozenset(range(1, ONE_DOLLAR_E4))
"""Of an instrument that states no table."""

Bands = tuple[tuple[int, int, int], ...]
"""(from, to, step); both ends belong to the band."""


@lru_cache(maxsize=256)
def grid_of(bands: Bands) -> frozenset[int]:
    """Return the prices of a tick table, strictly between 0 and one dollar."""
    if not bands:
        return EVERY_PRICE
    return frozenset(
        price for start, end, step in bands for price in range(start, end + 1, step) if 0 < price < ONE_DOLLAR_E4
    )


def bands_of(record: market.Instrument | market.Status) -> Bands:
    """Return the tick table a record carries."""
    return tuple(zip(record.tick_from, record.tick_to, record.tick_step, strict=True))


def off_grid(instrument: str, price: int, grid: frozenset[int]) -> OffGrid:
    """Return the error of a price that is on no grid the instrument is known to have had."""
    below = max((p for p in grid if p < price), default=0)
    above = min((p for p in grid if p > price), default=ONE_DOLLAR_E4)
    return OffGrid(f"{instrument}: expected a price on its tick table, found {price}e-4 between {below} and {above}")
