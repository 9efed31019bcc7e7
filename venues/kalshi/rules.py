"""What Kalshi allows and charges: price grid, minimum, fees with their rounding, collateral, rate limits. Pure integers.

Prices at 1e-4 dollar of YES, sizes and money at 1e-6. A fee coefficient is at 1e-6 and has the fee multiplier in it
(`coefficient_e6`): 70,000 is the common taker's 0.07.

Source: docs.kalshi.com getting_started/{fee_rounding,rate_limits}, get-series; the fee schedule effective 2026-02-05.
"""

from typing import Literal, NamedTuple

from core.domain.errors import OffGrid, UnknownSchema
from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div
from venues.kalshi.wire import PriceRange

SIZE_STEP = 10_000
"""Contracts come in hundredths."""
SIZE_MIN = SIZE_STEP

CENT_E6 = 10_000
UNIT_DIRECT_E6 = 100
"""Balances of direct members are kept at $0.0001."""
UNIT_INTERMEDIATED_E6 = CENT_E6
"""Balances behind an intermediary are kept at one cent."""

OPEN_ORDERS_MAX = 200_000
ORDER_GROUP_WINDOW_S = 15


# --- grid


def on_grid(price: int, ranges: list[PriceRange]) -> bool:
    """Say whether an order may have this price: inside (0, 1) and on a step of a band; bands share their bounds."""
    if not 0 < price < ONE_DOLLAR_E4:
        return False
    return any(band.start <= price <= band.end and (price - band.start) % band.step == 0 for band in ranges)


def check_order(*, price: int, size: int, ranges: list[PriceRange]) -> None:
    """Refuse what the venue would refuse as `invalid_price` or `invalid_order_size`.

    Raises:
        OffGrid: the price is not on the market's grid, or the size not a positive number of hundredths.
    """
    if not on_grid(price, ranges):
        raise OffGrid(f"kalshi: price {price}e-4 is not on the grid {[tuple_of(band) for band in ranges]}")
    if size < SIZE_MIN or size % SIZE_STEP:
        raise OffGrid(f"kalshi: expected a size in hundredths of a contract, found {size}e-6")


def tuple_of(band: PriceRange) -> tuple[int, int, int]:
    """Return a band as (start, end, step)."""
    return band.start, band.end, band.step


# --- fees

TAKER_RATE_E6 = 70_000
# By fee type: the maker's share of the taker's rate, in quarters.
_MAKER_QUARTERS = {"quadratic": 0, "quadratic_with_maker_fees": 1, "quadratic_with_combo_maker_fees": 2}


def coefficient_e6(*, fee_type: str, multiplier_e6: int, is_taker: bool) -> int:
    """Return the coefficient of `C x P x (1 - P)` at 1e-6, rounded up.

    That the multiplier scales makers' fees too is inferred, not documented.

    Raises:
        UnknownSchema: a fee type without a formula (`flat` is one: listed, but defined nowhere). No fee can be bounded
            then, so nothing may be traded.
    """
    quarters = _MAKER_QUARTERS.get(fee_type)
    if quarters is None:
        raise UnknownSchema(f"kalshi: expected a quadratic fee type, found {fee_type!r}")
    return ceil_div(TAKER_RATE_E6 * multiplier_e6 * (4 if is_taker else quarters), 4 * MICRO)


def trade_fee(*, price: int, size: int, coefficient_e6: int, unit_e6: int = 1) -> int:
    """Return the model fee of one fill, rounded up to `unit_e6`: 1 is the documented rounding since 2026-09.

    The wire of June 2026 shows $0.0001 (`unit_e6=100`), the published table whole cents (10,000).
    """
    model_e20 = coefficient_e6 * size * price * (ONE_DOLLAR_E4 - price)
    return ceil_div(model_e20, 10**14 * unit_e6) * unit_e6


class FillFee(NamedTuple):
    """What one fill costs beyond its price: `net = trade + rounding - rebate`."""

    trade: int
    rounding: int
    rebate: int

    @property
    def net(self) -> int:
        """The fee as the fill states it."""
        return self.trade + self.rounding - self.rebate


class FeeAccumulator:
    """Fees of one order's fills, taker and maker alike, with the rounding that is paid back over the order's life.

    A fill's cash is cut down to the balance's unit; what was cut is collected, and paid back in whole units, never more
    than the fill's own fee. Whether exactly one collected unit is paid back is not documented; here it is.
    """

    __slots__ = ("collected", "unit_e6")

    def __init__(self, unit_e6: int = UNIT_DIRECT_E6, collected: int = 0) -> None:
        self.unit_e6 = unit_e6
        self.collected = collected

    def fill(self, *, revenue: int, trade_fee: int) -> FillFee:
        """Book one fill; `revenue` is its cash before fees, negative when paid (see `cash_effect`)."""
        unit = self.unit_e6
        cash = revenue - trade_fee
        rounding = cash % unit
        self.collected += rounding
        rebate = min(self.collected // unit, (trade_fee + rounding) // unit) * unit
        self.collected -= rebate
        return FillFee(trade_fee, rounding, rebate)


def fee_bound(*, price: int, size: int, coefficient_e6: int, fills: int = 1, unit_e6: int = UNIT_DIRECT_E6) -> int:
    """Return what an order's fees cannot exceed when it fills at `price` in at most `fills` executions.

    The whole cent above the model fee of the total. On top, each execution can cost up to one balance unit and 1e-6 of
    rounding; for one execution of whole contracts the cent covers that already.
    """
    if not coefficient_e6:
        return 0
    whole = size % MICRO == 0 and unit_e6 <= UNIT_DIRECT_E6
    slack = 0 if fills <= 1 and whole else fills * (unit_e6 + 1)
    model_e20 = coefficient_e6 * size * price * (ONE_DOLLAR_E4 - price) + slack * 10**14
    return ceil_div(model_e20, 10**14 * CENT_E6) * CENT_E6


# --- collateral


class CashEffect(NamedTuple):
    """What a fill does to an account before fees."""

    cash: int
    position: int


def cash_effect(*, position: int, side: Literal["bid", "ask"], price: int, size: int) -> CashEffect:
    """Return the cash (negative: paid) and the signed position (+ YES, - NO) after a fill at a YES `price`.

    A market holds one signed position: what closes pays back, what opens costs `price` (bid) or `1 - price` (ask).
    Collateral returned across the markets of an event (MECNET, DIRECNET) is not part of this; its formula is unpublished.

    Raises:
        OffGrid: the size is not a number of hundredths, so that no exact cash exists.
    """
    if size % SIZE_STEP or size < 0:
        raise OffGrid(f"kalshi: expected a size in hundredths of a contract, found {size}e-6")
    if side == "bid":
        closing = min(size, max(-position, 0))
        return CashEffect(closing - price * size // ONE_DOLLAR_E4, position + size)
    closing = min(size, max(position, 0))
    return CashEffect(closing - (ONE_DOLLAR_E4 - price) * size // ONE_DOLLAR_E4, position - size)


def payout(*, position: int, settlement_price: int) -> int:
    """Return what a position is worth at settlement: 10,000 for YES, 0 for NO, between for a scalar (rounded down)."""
    value = settlement_price if position >= 0 else ONE_DOLLAR_E4 - settlement_price
    return abs(position) * value // ONE_DOLLAR_E4


# --- rate limits


class Bucket(NamedTuple):
    """A token bucket: what it gains a second, and what it holds at most."""

    refill_per_s: int
    capacity: int


class Tier(NamedTuple):
    """The budgets of a usage tier; reads and writes are independent."""

    read: Bucket
    write: Bucket


def _tier(read: int, write: int, *, read_s: int = 1, write_s: int = 3) -> Tier:
    return Tier(Bucket(read, read * read_s), Bucket(write, write * write_s))


TIERS = {
    "basic": _tier(200, 100, read_s=3, write_s=1),
    "advanced": _tier(300, 300, read_s=3),
    "expert": _tier(600, 600),
    "premier": _tier(1_200, 1_200),
    "paragon": _tier(2_400, 2_400),
    "prime": _tier(4_800, 4_800),
    "prestige": _tier(12_000, 9_600),
}
"""As documented; `GET /account/limits` states the account's own (the demo of June 2026: basic reads hold 200)."""

COST_DEFAULT = 10
COST_CREATE = 10
COST_AMEND = 10
COST_CANCEL = 2
COST_READ_ORDER = 2
"""`GET /account/endpoint_costs` states them all. A batch costs the sum of its items and must fit the bucket at once."""


def request_cost(method: str, path: str) -> int:
    """Return the tokens of one request (a batch: of one of its items); the path without its query."""
    if "/portfolio/events/orders" in path:
        return COST_CANCEL if method == "DELETE" else COST_DEFAULT
    if method == "GET" and "/portfolio/orders/" in path and not path.endswith(("queue_positions", "queue_position")):
        return COST_READ_ORDER
    return COST_DEFAULT


def payout_e6(result: str, value: int | None) -> int:
    """Return what one YES pays by a result and a settlement value (1e-4, None: not stated); -1 where that is not said.

    A value that is stated is the payout, whatever the word (scalar, void, or one to come); a plain yes or no needs none.
    Two that contradict each other say nothing.
    """
    plain = {"yes": MICRO, "no": 0}.get(result)
    if value is None:
        return -1 if plain is None else plain
    stated = value * MICRO // ONE_DOLLAR_E4
    return stated if plain in {None, stated} else -1


def is_write(method: str) -> bool:
    """Say which of the two buckets a request draws on."""
    return method != "GET"
