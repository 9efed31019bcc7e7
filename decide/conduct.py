"""How an order of each venue behaves, as far as money cares: netting, settlement, order kind, token, fee bound.

The figures themselves are the venues' own (`venues/*/rules.py`, `market.Instrument`); here they meet one shape.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from core.domain.units import MICRO, ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, ceil_div
from core.runtime.clock import NS_PER_S
from schemas.enums import Outcome, Side, TimeInForce
from schemas.market import Instrument
from venues.kalshi import rules as kalshi_rules
from venues.polymarket import rules as polymarket_rules

EXPIRY_MARGIN_S = 5
"""Beyond the least life a venue allows: our clocks, and the order's way to it."""
FILLS_PER_LEVEL = 10
"""Executions of one order at one price that a fee bound allows for; each may round up by itself."""

RATE_KEPT_PERCENT = 30
"""Of each rate budget; gateways keep it for cancels."""

OPPOSITE: Mapping[Side, Side] = {"BUY": "SELL", "SELL": "BUY"}


class FeeBound(Protocol):
    """What the fees of taking `size` at `price` (YES, 1e-4) cannot exceed, at 1e-6."""

    def __call__(self, instrument: Instrument, price: int, size: int, fills: int) -> int: ...


class Conduct(NamedTuple):
    """One venue's ways.

    Attributes:
        nets: one signed position per market, on one book; otherwise YES and NO are tokens held apart.
        settles_later: a fill may still fail, and what was bought is sellable only once confirmed.
        delays_takers: an order that would trade may be held back for seconds before it does.
        together_max: orders that the gateway's least rate budget lets go at once.
        rank: the lower goes first in a multi-leg order: the leg whose outcome is least certain.
        time_in_force: of every order that is to trade at once; GTC is cancelled when it is not matched in full at once.
        amends: changes an order that rests under its id; else it is taken back and another one granted.
        expires_s: what to state (epoch seconds) so that an order granted at a time (ns) ends by itself at a second, or
            as soon after it as the venue can.
        states_payouts: lists what each settled market paid; elsewhere its reports alone show that.
    """

    nets: bool
    settles_later: bool
    delays_takers: bool
    together_max: int
    rank: int
    time_in_force: TimeInForce
    fee_bound: FeeBound
    amends: bool
    expires_s: Callable[[int, int], int]
    states_payouts: bool


class Token(NamedTuple):
    """What is bought or sold: the outcome, the side in that outcome's terms, the venue's id of it."""

    outcome: Outcome
    side: Side
    token: str


def _kalshi_fee(instrument: Instrument, price: int, size: int, fills: int) -> int:
    return kalshi_rules.fee_bound(price=price, size=size, coefficient_e6=instrument.taker_fee_e6, fills=fills)


def _polymarket_fee(instrument: Instrument, price: int, size: int, fills: int) -> int:
    return polymarket_rules.taker_fee_bound(
        price=price, size=size, rate_e6=instrument.taker_fee_e6, exponent=instrument.fee_exponent, fills=fills
    )


def _kalshi_burst() -> int:
    tokens = kalshi_rules.TIERS["basic"].write.capacity * (100 - RATE_KEPT_PERCENT) // 100
    return tokens // kalshi_rules.COST_CREATE


def _kalshi_expiry(now_ns: int, at_s: int) -> int:
    return at_s


def _polymarket_expiry(now_ns: int, at_s: int) -> int:
    now_s = ceil_div(now_ns, NS_PER_S)
    least_s = polymarket_rules.GTD_LEAD_S - polymarket_rules.GTD_EARLY_S + EXPIRY_MARGIN_S
    return polymarket_rules.gtd_expiration(now_s=now_s, lives_s=max(at_s - now_s, least_s))


CONDUCTS: Mapping[str, Conduct] = {
    "kalshi": Conduct(
        nets=True,
        settles_later=False,
        delays_takers=False,
        together_max=_kalshi_burst(),
        rank=1,
        time_in_force="IOC",
        fee_bound=_kalshi_fee,
        amends=True,
        expires_s=_kalshi_expiry,
        states_payouts=True,
    ),
    "polymarket": Conduct(
        nets=False,
        settles_later=True,
        delays_takers=True,
        together_max=0,
        rank=0,
        time_in_force="GTC",
        fee_bound=_polymarket_fee,
        amends=False,
        expires_s=_polymarket_expiry,
        states_payouts=False,
    ),
}


def is_tradable(instrument: Instrument) -> bool:
    """Say whether costs and fees of this instrument can be bounded at all: a known venue, exponents and fee model."""
    return (
        instrument.venue in CONDUCTS
        and instrument.kind == "BINARY"
        and instrument.price_exp == PREDICTION_PRICE_EXP
        and instrument.size_exp == PREDICTION_SIZE_EXP
        and instrument.fee_model != "UNKNOWN"
        and instrument.size_step > 0
        and (CONDUCTS[instrument.venue].nets or len(instrument.tokens) == 2)
    )


def is_open(instrument: Instrument, now_ns: int) -> bool:
    """Say whether an instrument can be traded now, as far as its description says."""
    has_closed = 0 < instrument.close_ts_ns <= now_ns
    return instrument.status == "OPEN" and not has_closed and is_tradable(instrument)


def choose_token(instrument: Instrument, side: Side, *, closing: bool) -> Token:
    """Return what to trade for a YES `side`: opening always buys a token, closing sells the one that is held."""
    if CONDUCTS[instrument.venue].nets:
        return Token("NONE", side, "")
    if closing:
        held_yes = side == "SELL"
        return Token("YES" if held_yes else "NO", "SELL", instrument.tokens[0 if held_yes else 1])
    return Token("YES" if side == "BUY" else "NO", "BUY", instrument.tokens[0 if side == "BUY" else 1])


def unit_cost(side: Side, price: int) -> int:
    """Return what opening one contract costs at 1e-4 dollar: the price when bought, its complement when sold."""
    return price if side == "BUY" else ONE_DOLLAR_E4 - price


def open_cost_e6(side: Side, price: int, size: int) -> int:
    """Return the capital that opening `size` at the limit `price` needs, rounded up."""
    return ceil_div(unit_cost(side, price) * size, ONE_DOLLAR_E4)


def fee_max_e6(instrument: Instrument, limit: int, best: int, size: int, fills: int) -> int:
    """Return the largest fee of `size` filled anywhere between `best` and `limit`: fees peak at one half."""
    half = ONE_DOLLAR_E4 // 2
    low, high = min(limit, best), max(limit, best)
    worst = half if low <= half <= high else (low if low > half else high)
    return CONDUCTS[instrument.venue].fee_bound(instrument, worst, size, fills)


def resting_fee_e6(instrument: Instrument, price: int, size: int) -> int:
    """Return the largest fee of an order that rests: a taker's, and an execution for every contract."""
    return fee_max_e6(instrument, price, price, size, max(FILLS_PER_LEVEL, ceil_div(size, MICRO)))


# --- the price grid


def on_grid(instrument: Instrument, price: int) -> bool:
    """Say whether an order may have this YES price."""
    return 0 < price < ONE_DOLLAR_E4 and any(
        low <= price <= high and (price - low) % step == 0
        for low, high, step in zip(instrument.tick_from, instrument.tick_to, instrument.tick_step, strict=True)
    )


def tick_at(instrument: Instrument, price: int) -> int:
    """Return the step of the grid at a YES price, 1 where it states none."""
    bands = zip(instrument.tick_from, instrument.tick_to, instrument.tick_step, strict=True)
    return next((step for low, high, step in bands if low <= price <= high), 1)


def worse_price(instrument: Instrument, side: Side, price: int, step: int) -> int | None:
    """Return the nearest price on the grid that is at least `step` worse for `side`, None where the grid ends."""
    move = 1 if side == "BUY" else -1
    candidate = price + move * step
    while 0 < candidate < ONE_DOLLAR_E4:
        if on_grid(instrument, candidate):
            return candidate
        candidate += move
    return None


def price_not_better(instrument: Instrument, side: Side, price: int) -> int | None:
    """Return a price if it is on the grid, else the nearest that is worse for `side`: it trades wherever that would."""
    return price if on_grid(instrument, price) else worse_price(instrument, side, price, 1)
