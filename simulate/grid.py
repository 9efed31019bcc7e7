"""Price grids: which prices a market takes, as mantissas at 1e-4 dollar."""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from core.domain.units import ONE_DOLLAR_E4


class Band(NamedTuple):
    """Prices from `start` to `end` in steps of `step`."""

    start: int
    end: int
    step: int


KALSHI_STRUCTURES: dict[str, tuple[Band, ...]] = {
    "linear_cent": (Band(0, 10_000, 100),),
    "deci_cent": (Band(0, 10_000, 10),),
    "center_centi_edge_centi_cent": (Band(0, 10_000, 1),),
    "tapered_deci_cent": (Band(0, 1_000, 10), Band(1_000, 9_000, 100), Band(9_000, 10_000, 10)),
}


class Grid:
    """The prices of one market, strictly between 0 and 1 dollar."""

    __slots__ = ("_prices", "bands")

    def __init__(self, bands: tuple[Band, ...]) -> None:
        self.bands = bands
        prices = {price for band in bands for price in range(band.start, band.end + 1, band.step)}
        self._prices = sorted(prices - {0, ONE_DOLLAR_E4})

    def __contains__(self, price: int) -> bool:
        at = bisect_left(self._prices, price)
        return at < len(self._prices) and self._prices[at] == price

    def __len__(self) -> int:
        return len(self._prices)

    def below(self, price: int, count: int) -> list[int]:
        """Return up to `count` grid prices at or below `price`, highest first."""
        end = bisect_right(self._prices, price)
        return self._prices[max(0, end - count) : end][::-1]

    def above(self, price: int, count: int) -> list[int]:
        """Return up to `count` grid prices at or above `price`, lowest first."""
        start = bisect_left(self._prices, price)
        return self._prices[start : start + count]


def polymarket_grid(tick_e4: int) -> Grid:
    """Return the grid of one tick size: tick to 1 - tick."""
    return Grid((Band(0, ONE_DOLLAR_E4, tick_e4),))
