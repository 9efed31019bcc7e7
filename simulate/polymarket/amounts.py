"""The order arithmetic the live server enforces, with its texts.

Source: polymarket.md sections 3.3 and 5.3.
"""

from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

from core.domain.units import MICRO, ONE_DOLLAR_E4
from simulate.polymarket.market import PolymarketMarket
from simulate.polymarket.text import PRICES, money_text, size_text

_DIGITS_MAX = 18
_AMOUNT_DECIMALS = {1_000: 3, 100: 4, 50: 5, 25: 6, 10: 5, 1: 6}
"""Decimals of the collateral side by tick."""
GTD_LEAD_S = 180
GTD_EARLY_S = 60
"""An order expires one minute before the time it states."""


class OrderType(StrEnum):
    GTC = "GTC"
    GTD = "GTD"
    FOK = "FOK"
    FAK = "FAK"

    @property
    def is_market(self) -> bool:
        return self in {OrderType.FOK, OrderType.FAK}


class OrderRefused(Exception):
    """An order the server does not take; the text is the contract."""

    def __init__(self, text: str, status: int = 400, order_id: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.order_id = order_id


class Amounts(NamedTuple):
    """An order's meaning: price in the token's own terms, shares, and for a market BUY the money to spend."""

    buys: bool
    price_e4: int
    size_e6: int
    budget_e6: int | None


def read_amounts(
    order: dict[str, Any], order_type: OrderType, market: PolymarketMarket, order_id: str, *, marketable: Any
) -> Amounts:
    """Check the amounts of an order and return what they say.

    Args:
        marketable: asked with the price in the token's terms whether a BUY would trade at once.

    Raises:
        OrderRefused: with the server's text.
    """
    maker, taker = _digits(order["makerAmount"]), _digits(order["takerAmount"])
    if maker <= 0 or taker <= 0:
        raise OrderRefused("Invalid order payload")
    buys = order["side"] == "BUY"
    collateral, shares = (maker, taker) if buys else (taker, maker)
    tick = market.tick_e4
    _check_decimals(collateral, shares, tick, buys=buys, is_market=order_type.is_market)
    price = _price(collateral, shares, tick, order_id, buys=buys, is_market=order_type.is_market)
    if not order_type.is_market and shares < market.size_min_e6:
        minimum = size_text(market.size_min_e6)
        raise OrderRefused(f"order {order_id} is invalid. Size ({size_text(shares)}) lower than the minimum: {minimum}")
    if buys and collateral < MICRO and (order_type.is_market or marketable(price)):
        raise OrderRefused(f"invalid amount for a marketable BUY order (${money_text(collateral)}), min size: $1")
    if buys and order_type.is_market:
        # A market BUY spends money: at better prices than its worst it gets more shares than it asked for.
        return Amounts(buys, price, collateral * ONE_DOLLAR_E4 // tick, collateral)
    return Amounts(buys, price, shares, None)


def fee_e6(size_e6: int, price_e4: int, rate: Fraction) -> int:
    """Return a taker's fee: shares x rate x p x (1 - p), rounded to five decimals (half up)."""
    scaled = size_e6 * price_e4 * (ONE_DOLLAR_E4 - price_e4) * rate.numerator
    unit = ONE_DOLLAR_E4 * ONE_DOLLAR_E4 * 10 * rate.denominator
    return (2 * scaled + unit) // (2 * unit) * 10


def _check_decimals(collateral: int, shares: int, tick_e4: int, *, buys: bool, is_market: bool) -> None:
    places = _AMOUNT_DECIMALS[tick_e4]
    if buys and is_market:
        if collateral % 10_000 or shares % 100:
            raise OrderRefused(
                "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals, "
                "taker amount a max of 4 decimals"
            )
    elif collateral % 10 ** (6 - places) or shares % 10_000:
        collateral_rule, share_rule = f"{places} decimals", "2 decimals"
        word, first, second = ("buy", collateral_rule, share_rule) if buys else ("sell", share_rule, collateral_rule)
        raise OrderRefused(
            f"invalid amounts, the {word} orders maker amount supports a max accuracy of {first}, "
            f"taker amount a max of {second}"
        )


def _price(collateral: int, shares: int, tick_e4: int, order_id: str, *, buys: bool, is_market: bool) -> int:
    exact = Fraction(collateral * ONE_DOLLAR_E4, shares)
    ticks = round(exact / tick_e4)
    price = ticks * tick_e4
    broken = OrderRefused(
        f"order {order_id} is invalid. Price ({_decimal(exact)}) breaks minimum tick size rule: {PRICES[tick_e4]}"
    )
    if not tick_e4 <= price <= ONE_DOLLAR_E4 - tick_e4:
        raise broken
    wanted = Fraction(shares * price, ONE_DOLLAR_E4)
    if wanted == collateral:
        return price
    if buys and is_market:
        # Shares were rounded to four decimals, so the ratio need not be the tick itself.
        if abs(Fraction(collateral * ONE_DOLLAR_E4, price) - shares) < 100:
            return price
        raise broken
    if abs(exact - price) < 1:
        side = "maker" if buys else "taker"
        raise OrderRefused(
            f"the {side} amount for a ${PRICES[price]} order of size {size_text(shares)} "
            f"should be '{money_text(int(wanted))}'"
        )
    raise broken


def _digits(value: Any) -> int:
    if not isinstance(value, str) or not value.isdecimal() or len(value) > _DIGITS_MAX:
        raise OrderRefused("Invalid order payload")
    return int(value)


def _decimal(price_e4: Fraction) -> str:
    return money_text(int(price_e4 * 100))
