"""Positions from fills: size, average cost, realised profit. Pure.

Everything is counted in YES: buying NO at q is selling YES at 1 - q, so that one signed number says what is open at
every venue, and a YES and a NO held together are nothing (they are worth a dollar whatever happens). `cost_e6` is the
signed cash of what is open, so that always

    realised_e6 - cost_e6 = the sum of the YES cash of all fills

to the unit: the whole of a profit is in one of the two. Fees are counted beside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.domain.units import MICRO
from schemas.order import Fill

NETTING = frozenset({"kalshi"})
"""Venues with one signed position a market; elsewhere YES and NO are tokens held apart."""


@dataclass
class Position:
    """What one account has of one instrument, at 1e-6."""

    size_e6: int = 0
    cost_e6: int = 0
    realised_e6: int = 0
    fees_e6: int = 0
    no_e6: int = 0
    fills: int = 0

    def trade(self, size_e6: int, cash_e6: int) -> int:
        """Move by a signed YES size and its signed cash; return what that realised."""
        against = self.size_e6 * size_e6 < 0
        closing = min(abs(size_e6), abs(self.size_e6)) if against else 0
        realised = 0
        if closing:
            # Rounded once each; what is cut off stays in the part that remains.
            released = _part(self.cost_e6, closing, abs(self.size_e6))
            cash_closing = _part(cash_e6, closing, abs(size_e6))
            realised = cash_closing - released
            self.cost_e6 -= released
            cash_e6 -= cash_closing
        self.size_e6 += size_e6
        self.cost_e6 -= cash_e6
        self.realised_e6 += realised
        return realised

    def book(self, size_e6: int, cash_e6: int, fee_e6: int, no_e6: int) -> int:
        """Move by a fill in YES terms, with its fee and the NO tokens it moved; return what that realised."""
        self.fees_e6 += fee_e6
        self.no_e6 += no_e6
        self.fills += 1
        return self.trade(size_e6, cash_e6)

    def value_e6(self, mark_e6: int) -> int:
        """Return the signed YES cash that closing at `mark_e6` would bring."""
        return self.size_e6 * mark_e6 // MICRO

    def unrealised_e6(self, mark_e6: int) -> int:
        """Return what closing at `mark_e6` would realise."""
        return self.value_e6(mark_e6) - self.cost_e6


def yes_terms(fill: Fill) -> tuple[int, int, int]:
    """Return (signed size in YES, signed cash at the YES price without the fee, NO tokens moved)."""
    side = fill.token_side
    buys = side == "BUY"
    if fill.outcome != "NO":
        return (fill.size, -fill.notional_e6, 0) if buys else (-fill.size, fill.notional_e6, 0)
    yes_notional = fill.size - fill.notional_e6
    return (-fill.size, yes_notional, fill.size) if buys else (fill.size, -yes_notional, -fill.size)


def fold(fills: Iterable[tuple[int, int, int, int]]) -> Position:
    """Return the position after fills of (size, cash, fee, NO tokens), in their order."""
    position = Position()
    for size_e6, cash_e6, fee_e6, no_e6 in fills:
        position.book(size_e6, cash_e6, fee_e6, no_e6)
    return position


def locked_e6(account: str, size_e6: int, no_e6: int) -> int:
    """Return the dollars that lie in a position beside its YES cash: one for each contract short or NO token held."""
    return max(-size_e6, 0) if account.partition(":")[0] in NETTING else no_e6


def _part(amount: int, numerator: int, denominator: int) -> int:
    """Return the share of a signed amount, rounded towards zero, exact when it is the whole."""
    share = abs(amount) * numerator // denominator
    return share if amount >= 0 else -share
