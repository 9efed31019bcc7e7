"""Thousands of resting orders away from the best prices, placed and taken away without a word on any stream."""

from simulate.grid import Grid
from simulate.history import History
from simulate.matching import Event, Matcher, Order, Side
from simulate.truth import TruthLog

MARGIN_E4 = 300
"""How far from the best prices the nearest stands: nothing of it is traded while quotes move a little."""
SIZE_E6 = 7_000_000


class Flood:
    """The orders that make one market's book huge."""

    def __init__(self, venue: str, key: str, matcher: Matcher, history: History, truth: TruthLog) -> None:
        self._venue = venue
        self._key = key
        self._matcher = matcher
        self._history = history
        self._truth = truth
        self._orders: list[Order] = []

    def place(self, grid: Grid, levels: int) -> int:
        """Rest one order at each of up to `levels` prices, half of them on either side; return how many rest."""
        matcher = self._matcher
        bid, ask = matcher.best_bid() or 5_000, matcher.best_ask() or 5_000
        bids = grid.below(bid - MARGIN_E4, levels)
        asks = grid.above(ask + MARGIN_E4, levels)
        half = max(levels // 2, levels - len(asks))
        for side, prices in ((Side.BID, bids[:half]), (Side.ASK, asks[: levels - min(half, len(bids))])):
            for price in prices:
                order = Order(f"flood-{side.value}-{price}", side, price, SIZE_E6)
                self._note(matcher.submit(order))
                self._orders.append(order)
        return len(self._orders)

    def take_away(self) -> None:
        """Cancel what still rests."""
        for order in self._orders:
            self._note(self._matcher.cancel(order))
        self._orders.clear()

    def _note(self, events: list[Event]) -> None:
        for event in events:
            change = self._history.note(event)
            if change is not None:
                self._truth.level(self._venue, self._key, change)
