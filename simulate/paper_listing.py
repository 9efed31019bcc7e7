"""Markets of the paper venues, made of `market.instrument`: the venue's own names, grids, fees and delays, so that gateways address them unchanged."""

from fractions import Fraction
from functools import lru_cache

from core.domain.errors import Misconfigured
from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from schemas.market import Instrument
from simulate.grid import Band, Grid, polymarket_grid
from simulate.kalshi.market import KalshiMarket, Rules
from simulate.paper_market import PaperMarket
from simulate.polymarket.market import PolymarketMarket
from simulate.universe import LinkedMarket
from venues.kalshi.rules import TAKER_RATE_E6

_KALSHI_FEES = {0: "quadratic", 1: "quadratic_with_maker_fees", 2: "quadratic_with_combo_maker_fees"}
"""By the maker's share of the taker's coefficient, in quarters."""


class NotListed(Misconfigured):
    """An instrument no paper market can be made of; the message says why."""


@lru_cache(maxsize=256)
def grid_of(bands: tuple[tuple[int, int, int], ...]) -> Grid:
    """Return the grid of price bands; thousands of markets share a few."""
    return Grid(tuple(Band(*band) for band in bands))


def bands_of(froms: list[int], tos: list[int], steps: list[int]) -> tuple[tuple[int, int, int], ...]:
    """Return price bands as records state them.

    Raises:
        NotListed: they contradict themselves.
    """
    if not (len(froms) == len(tos) == len(steps)) or not froms or min(steps) <= 0:
        raise NotListed(f"expected price bands with a start, an end and a step each, found {froms}, {tos}, {steps}")
    return tuple(zip(froms, tos, steps, strict=True))


def kalshi_market(instrument: Instrument, book: PaperMarket) -> KalshiMarket:
    """Return the Kalshi market of an instrument on its live book.

    Raises:
        NotListed: it states no grid, or fees the simulated venue cannot charge.
    """
    _check(instrument)
    if instrument.fee_model != "QUADRATIC":
        raise NotListed(f"{instrument.instrument}: expected quadratic fees, found {instrument.fee_model}")
    taker = instrument.taker_fee_e6
    quarters = Fraction(4 * instrument.maker_fee_e6, taker) if taker else Fraction(0)
    fee_type = _KALSHI_FEES.get(int(quarters)) if quarters.denominator == 1 else None
    if fee_type is None:
        raise NotListed(f"{instrument.instrument}: maker fee {instrument.maker_fee_e6} of {taker} is no known fee type")
    grid = grid_of(bands_of(instrument.tick_from, instrument.tick_to, instrument.tick_step))
    ticker = instrument.instrument.partition(":")[2]
    event = instrument.event_group.partition(":")[2]
    linked = _linked(instrument, kalshi_ticker=ticker, kalshi_event=event)
    market = KalshiMarket(linked, Rules(fee_type, Fraction(taker, TAKER_RATE_E6), "linear_cent", grid), book)
    market.exchange_index = instrument.exchange_index
    return market


def polymarket_market(instrument: Instrument, book: PaperMarket) -> PolymarketMarket:
    """Return the Polymarket market of an instrument on its live book.

    Raises:
        NotListed: it names no tokens, has no tick, or fees the simulated venue cannot charge.
    """
    _check(instrument)
    if len(instrument.tokens) != 2:
        raise NotListed(f"{instrument.instrument}: expected two tokens, found {len(instrument.tokens)}")
    charges = instrument.taker_fee_e6 != 0
    if instrument.fee_model == "UNKNOWN" or (charges and (instrument.fee_exponent != 1 or instrument.maker_fee_e6)):
        raise NotListed(f"{instrument.instrument}: its fees are not those of takers at exponent 1")
    ((_, _, tick),) = bands_of(instrument.tick_from, instrument.tick_to, instrument.tick_step)
    linked = _linked(instrument, condition=instrument.instrument.partition(":")[2], tick=tick)
    market = PolymarketMarket(linked, book)
    market.size_min_e6 = instrument.size_min
    return market


def set_grid(market: KalshiMarket | PolymarketMarket, bands: tuple[tuple[int, int, int], ...]) -> None:
    """Give a market the grid that the live venue now has; what rests stays."""
    if isinstance(market, KalshiMarket):
        market.grid = grid_of(bands)
    elif bands[0][2] != market.tick_e4:
        market.tick_e4 = bands[0][2]
        market.grid = polymarket_grid(market.tick_e4)


def _check(instrument: Instrument) -> None:
    if instrument.kind != "BINARY":
        raise NotListed(f"{instrument.instrument}: expected a binary market, found {instrument.kind}")
    exponents = (instrument.price_exp, instrument.size_exp)
    if exponents != (PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP):
        raise NotListed(f"{instrument.instrument}: expected exponents -4 and -6, found {exponents}")


def _linked(
    instrument: Instrument, *, kalshi_ticker: str = "", kalshi_event: str = "", condition: str = "", tick: int = 100
) -> LinkedMarket:
    yes, no = instrument.tokens if len(instrument.tokens) == 2 else ("", "")
    return LinkedMarket(
        key=instrument.instrument,
        place=0,
        kalshi_series="",
        kalshi_event=kalshi_event,
        kalshi_ticker=kalshi_ticker,
        kalshi_market_id=instrument.instrument,
        condition_id=condition,
        question_id=condition,
        yes_token=yes,
        no_token=no,
        inverted=False,
        neg_risk=instrument.neg_risk,
        tick_e4=tick,
        fee_type="",
        # Decimal, exact: the venue's pages state a number, and the simulated venue reads it as a fraction.
        fee_rate=f"{instrument.taker_fee_e6 // 1_000_000}.{instrument.taker_fee_e6 % 1_000_000:06d}",
        delayed=instrument.taker_delay_ms > 0,
    )
