"""Kalshi's fees: quadratic model, up to a micro-dollar, balances aligned to $0.0001, an accumulator for each order.

Source: kalshi.md section 5 (fee_rounding pages of 2026-10).
"""

from fractions import Fraction

from core.domain.units import ONE_DOLLAR_E4, ceil_div

BALANCE_UNIT_E6 = 100
"""Balances of direct members are whole multiples of $0.0001."""
_TAKER = Fraction(7, 100)
_MAKER_FACTOR = {
    "quadratic": Fraction(0),
    "quadratic_with_maker_fees": Fraction(1, 4),
    "quadratic_with_combo_maker_fees": Fraction(1, 2),
}


def trade_fee(size_e6: int, price_e4: int, *, fee_type: str, multiplier: Fraction, is_taker: bool) -> int:
    """Return the model fee of one fill in micro-dollars, rounded up."""
    factor = multiplier * _TAKER * (1 if is_taker else _MAKER_FACTOR[fee_type])
    volume = size_e6 * price_e4 * (ONE_DOLLAR_E4 - price_e4)
    return ceil_div(volume * factor.numerator, ONE_DOLLAR_E4 * ONE_DOLLAR_E4 * factor.denominator)


class FeeAccumulator:
    """Collects the rounding fees of one order and gives whole units back."""

    __slots__ = ("held_e6",)

    def __init__(self) -> None:
        self.held_e6 = 0

    def charge(self, revenue_e6: int, fee_e6: int) -> int:
        """Return the net fee of a fill whose signed cash without fees is `revenue_e6`.

        At exactly one unit held the unit is given back; the venue's rule at equality is not published.
        """
        rounding = (revenue_e6 - fee_e6) % BALANCE_UNIT_E6
        self.held_e6 += rounding
        gross = fee_e6 + rounding
        rebate = min(self.held_e6, gross) // BALANCE_UNIT_E6 * BALANCE_UNIT_E6
        self.held_e6 -= rebate
        return gross - rebate
