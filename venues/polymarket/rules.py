"""What Polymarket allows and charges: ticks, order amounts, minimums, fees, expiry, rate limits. Pure integers.

Prices at 1e-4 dollar, sizes and money at 1e-6 (which is also the chain's unit of amounts). Source: docs.polymarket.com
/trading/*, /api-reference/rate-limits, /resources/error-codes; py-clob-client-v2 issue 99 for the market-order caps.
Amounts follow the server's rule and the decimal SDK; the float SDK loses 0.01 share in 6 % of cases.
"""

from typing import Literal, NamedTuple

from core.domain.errors import OffGrid
from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div

Side = Literal["BUY", "SELL"]
OrderType = Literal["GTC", "GTD", "FOK", "FAK"]

SHARE_STEP = 10_000
"""Orders come in hundredths of a share, and market-buy budgets in cents."""
SIZE_MIN_DEFAULT = 5 * MICRO
"""`orderMinSize` of nearly every market; it behaves as shares, though pages contradict each other."""
MARKETABLE_NOTIONAL_MIN = MICRO
"""A BUY that would trade at once must be worth one dollar."""
BATCH_MAX = 15
CANCEL_BATCH_MAX = 1_000


# --- ticks

# Tick -> decimals of price, size and collateral.
TICK_DECIMALS = {1_000: (1, 2, 3), 100: (2, 2, 4), 50: (3, 2, 5), 25: (4, 2, 6), 10: (3, 2, 5), 1: (4, 2, 6)}


def on_grid(price: int, tick: int) -> bool:
    """Say whether an order may have this price: a multiple of the tick, between the tick and one dollar less it."""
    return tick <= price <= ONE_DOLLAR_E4 - tick and price % tick == 0


def check_price(price: int, tick: int) -> None:
    """Refuse what the venue answers with "breaks minimum tick size rule".

    Raises:
        OffGrid: an unknown tick, or a price that is not on it.
    """
    if tick not in TICK_DECIMALS:
        raise OffGrid(f"polymarket: expected a tick of {sorted(TICK_DECIMALS)}e-4, found {tick}e-4")
    if not on_grid(price, tick):
        raise OffGrid(f"polymarket: price {price}e-4 is not on the grid of {tick}e-4")


# --- amounts


class Amounts(NamedTuple):
    """What an order signs, in millionths. BUY: maker pays collateral, taker gives shares; SELL: the reverse."""

    maker: int
    taker: int


def limit_order_amounts(*, side: Side, price: int, size: int, tick: int) -> Amounts:
    """Return the amounts of a resting order (GTC, GTD); shares are cut down to hundredths.

    Raises:
        OffGrid: the price is not on the tick, or nothing remains.
    """
    check_price(price, tick)
    shares = size - size % SHARE_STEP
    if shares <= 0:
        raise OffGrid(f"polymarket: a size of {size}e-6 is below 0.01 share")
    # Exact: hundredths of a share times a price of four decimals fit six.
    collateral = shares * price // ONE_DOLLAR_E4
    return Amounts(collateral, shares) if side == "BUY" else Amounts(shares, collateral)


def market_order_amounts(*, side: Side, price: int, quantity: int, tick: int, capped: bool = True) -> Amounts:
    """Return the amounts of an order that trades at once (FOK, FAK); `price` is the worst acceptable one.

    BUY: `quantity` is collateral, cut down to cents; what it buys is at least the taker amount, more at a better price.
    SELL: `quantity` is shares, cut down to hundredths. The server takes at most 4 decimals of shares from a market BUY
    whatever the tick; `capped=False` gives the SDK's amounts, which it refuses on fine ticks.

    Raises:
        OffGrid: the price is not on the tick, or nothing remains.
    """
    check_price(price, tick)
    maker = quantity - quantity % SHARE_STEP
    if maker <= 0:
        raise OffGrid(f"polymarket: a quantity of {quantity}e-6 is below 0.01")
    if side == "SELL":
        return Amounts(maker, maker * price // ONE_DOLLAR_E4)
    decimals = TICK_DECIMALS[tick][2]
    if capped:
        decimals = min(decimals, 4)
    # The SDK's rule: up at four decimals more, then down. It differs from plain "down" where a quotient ends in nines.
    fine = ceil_div(maker * ONE_DOLLAR_E4 * 10 ** (decimals + 4), price * MICRO)
    shares = fine // 10_000 * 10 ** (6 - decimals)
    if shares <= 0:
        raise OffGrid(f"polymarket: {maker}e-6 buys nothing at {price}e-4")
    return Amounts(maker, shares)


def taker_order_amounts(*, side: Side, price: int, size: int, tick: int) -> Amounts:
    """Return the amounts of a FOK or FAK order for at most `size` shares at `price` or better.

    A market BUY is a budget: it is cut down to cents here, and at a better price it buys more than `size`.
    """
    quantity = size if side == "SELL" else size * price // ONE_DOLLAR_E4
    return market_order_amounts(side=side, price=price, quantity=quantity, tick=tick)


def check_size(*, side: Side, price: int, size: int, size_min: int, marketable: bool) -> None:
    """Refuse what the venue would: below the market's minimum, or a marketable BUY below one dollar.

    Raises:
        OffGrid: either of them.
    """
    if size < size_min and not marketable:
        raise OffGrid(f"polymarket: size {size}e-6 is lower than the minimum of {size_min}e-6")
    if marketable and side == "BUY" and price * size < MARKETABLE_NOTIONAL_MIN * ONE_DOLLAR_E4:
        raise OffGrid(f"polymarket: a marketable BUY of {size}e-6 at {price}e-4 is below the minimum of one dollar")


# --- fees

FEE_UNIT_E6 = 10
"""Fees are kept to five decimals."""


def taker_fee(*, price: int, size: int, rate_e6: int, exponent: int = 1) -> int:
    """Return a taker's fee of one match at 1e-6: `shares x rate x (p (1 - p))^exponent`, to five decimals, half up.

    Makers pay none. Source: docs.polymarket.com/trading/fees. How exactly a half is rounded is not documented.
    """
    numerator, unit = _fee_ratio(price=price, size=size, rate_e6=rate_e6, exponent=exponent)
    return (2 * numerator + unit) // (2 * unit) * FEE_UNIT_E6


def taker_fee_bound(*, price: int, size: int, rate_e6: int, exponent: int = 1, fills: int = 1) -> int:
    """Return what the fees of `size` shares at `price` cannot exceed in at most `fills` matches."""
    numerator, unit = _fee_ratio(price=price, size=size, rate_e6=rate_e6, exponent=exponent)
    return ceil_div(2 * numerator + (fills * unit if numerator else 0), 2 * unit) * FEE_UNIT_E6


def _fee_ratio(*, price: int, size: int, rate_e6: int, exponent: int) -> tuple[int, int]:
    """Return the exact fee as a ratio, in units of five decimals."""
    curve = (price * (ONE_DOLLAR_E4 - price)) ** exponent
    return size * rate_e6 * curve, 10 ** (12 - 5 + 8 * exponent)


# --- expiry

GTD_LEAD_S = 180
"""An expiration must lie at least this far ahead when the order arrives."""
GTD_EARLY_S = 60
"""An order ends this long before the expiration it states."""


def gtd_expiration(*, now_s: int, lives_s: int) -> int:
    """Return the expiration to state (epoch seconds) so that an order lives `lives_s` seconds.

    Raises:
        OffGrid: shorter than the venue allows, 120 s.
    """
    if lives_s + GTD_EARLY_S < GTD_LEAD_S:
        raise OffGrid(f"polymarket: an order lives at least {GTD_LEAD_S - GTD_EARLY_S} s, found {lives_s} s")
    return now_s + lives_s + GTD_EARLY_S


# --- rate limits


class Window(NamedTuple):
    """At most `requests` within `seconds`, counted over a sliding window by address."""

    requests: int
    seconds: int


ADDRESS_LIMITS: dict[tuple[str, str], tuple[Window, ...]] = {
    ("*", "*"): (Window(9_000, 10),),
    ("GET", "/book"): (Window(1_500, 10),),
    ("POST", "/books"): (Window(500, 10),),
    ("GET", "/prices-history"): (Window(1_000, 10),),
    ("GET", "/tick-size"): (Window(200, 10),),
    ("GET", "/data/orders"): (Window(500, 10),),
    ("GET", "/data/trades"): (Window(500, 10),),
    ("GET", "/balance-allowance"): (Window(200, 10),),
    ("GET", "/balance-allowance/update"): (Window(50, 10),),
    ("POST", "/order"): (Window(5_000, 10), Window(120_000, 600)),
    ("DELETE", "/order"): (Window(5_000, 10), Window(120_000, 600)),
    ("POST", "/orders"): (Window(2_000, 10), Window(21_000, 600)),
    ("DELETE", "/orders"): (Window(2_000, 10), Window(15_000, 600)),
    ("DELETE", "/cancel-all"): (Window(250, 10), Window(6_000, 600)),
    ("DELETE", "/cancel-market-orders"): (Window(1_500, 10), Window(21_000, 600)),
}
"""CLOB, by address; excess is delayed, then answered 429."""
GAMMA_LIMITS = {"/markets": Window(300, 10), "/events": Window(500, 10), "*": Window(4_000, 10)}


class SignerTier(NamedTuple):
    """A signer's two token buckets: rate a second and burst, for orders and for cancels."""

    orders_per_s: int
    orders_burst: int
    cancels_per_s: int
    cancels_burst: int


SIGNER_TIERS = {
    "standard": SignerTier(40, 60, 80, 120),
    "copper": SignerTier(60, 90, 120, 180),
    "bronze": SignerTier(80, 120, 160, 240),
    "silver": SignerTier(200, 300, 400, 600),
    "gold": SignerTier(400, 600, 800, 1_200),
    "platinum": SignerTier(450, 675, 900, 1_350),
    "diamond": SignerTier(525, 787, 1_050, 1_575),
    "elite": SignerTier(600, 900, 1_200, 1_800),
}
"""By signer since 2026-07-24, cost = orders or ids; a request above the burst can never pass."""
