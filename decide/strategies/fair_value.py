"""A fair value from the book of strangers: what we offer ourselves must not move what we think it is worth. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from core.domain.units import E4_TO_E6, MICRO
from decide.edges import Level
from schemas.derived import Depth

Kind = Literal["microprice", "mid"]
Ours = Mapping[int, int]
"""Price (YES, 1e-4) -> what of that level may be ours, at 1e-6."""


class Top(NamedTuple):
    """The best bid and ask of strangers."""

    bid: Level
    ask: Level

    def fair_e6(self, kind: Kind) -> int:
        """Return the fair value of one YES at 1e-6, rounded down: the middle, or nearer to the side with less on it."""
        bid, ask = self
        if kind == "mid":
            return (bid.price + ask.price) * E4_TO_E6 // 2
        return (bid.price * ask.size + ask.price * bid.size) * E4_TO_E6 // (bid.size + ask.size)


def strangers(depth: Depth, bids: Ours, asks: Ours) -> Top | None:
    """Return the top of a book without what is ours, None where nothing else is on a side."""
    bid = _best(depth.bid_prices, depth.bid_sizes, bids)
    ask = _best(depth.ask_prices, depth.ask_sizes, asks)
    return None if bid is None or ask is None else Top(bid, ask)


def mirrored(fair_e6: int) -> int:
    """Return the fair value of the opposite outcome."""
    return MICRO - fair_e6


def _best(prices: Sequence[int], sizes: Sequence[int], ours: Ours) -> Level | None:
    for price, size in zip(prices, sizes, strict=True):
        left = size - ours.get(price, 0)
        if left > 0:
            return Level(price, left)
    return None
