"""Costs, fee bounds, tokens and price grids of both venues."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decide.conduct import CONDUCTS, choose_token, fee_max_e6, is_open, is_tradable, on_grid, open_cost_e6, worse_price
from venues.kalshi import rules as kalshi_rules
from venues.polymarket import rules as polymarket_rules

ONE = 1_000_000
CENT = 10_000

splits = st.lists(st.integers(1, 500), min_size=1, max_size=10)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 99), splits)
def test_bound_covers_kalshis_fees_however_an_order_is_filled(make, cents, hundredths):
    price = cents * 100
    accumulator, charged = kalshi_rules.FeeAccumulator(), 0
    for part in hundredths:
        size = part * 10_000
        fee = kalshi_rules.trade_fee(price=price, size=size, coefficient_e6=70_000)
        charged += accumulator.fill(revenue=-price * size // 10_000, trade_fee=fee).net
    bound = CONDUCTS["kalshi"].fee_bound(make.instrument(make.KALSHI), price, sum(hundredths) * 10_000, len(hundredths))
    assert charged <= bound


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 99), splits)
def test_bound_covers_polymarkets_fees_however_an_order_is_filled(make, cents, hundredths):
    price = cents * 100
    charged = sum(
        polymarket_rules.taker_fee(price=price, size=part * 10_000, rate_e6=40_000, exponent=1) for part in hundredths
    )
    size = sum(hundredths) * 10_000
    bound = CONDUCTS["polymarket"].fee_bound(make.instrument(make.POLY), price, size, len(hundredths))
    assert charged <= bound


@pytest.mark.parametrize(
    ("venue", "contracts", "price", "published_e6", "slack_e6"),
    [
        # Kalshi's table: taker .07, to the cent above; Polymarket's examples at .07: 1.75 and .3325.
        ("kalshi", 100, 5_000, 1_750_000, CENT),
        ("kalshi", 100, 2_500, 1_312_500, CENT),
        ("kalshi", 1, 100, 693, CENT),
        ("polymarket", 100, 5_000, 1_750_000, 10),
        ("polymarket", 100, 500, 332_500, 10),
    ],
)
def test_bound_is_close_to_the_published_fee(make, venue, contracts, price, published_e6, slack_e6):
    name = make.KALSHI if venue == "kalshi" else make.POLY
    instrument = make.instrument(name, taker_fee_e6=70_000)
    bound = CONDUCTS[venue].fee_bound(instrument, price, contracts * ONE, 1)
    assert published_e6 <= bound <= published_e6 + slack_e6


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_largest_fee_covers_every_price_between_best_and_limit(make, one, two, between):
    low, high = sorted((one, two))
    price = min(max(between, low), high) * 100
    instrument = make.instrument(make.KALSHI)
    largest = fee_max_e6(instrument, low * 100, high * 100, 10 * ONE, 3)
    assert CONDUCTS["kalshi"].fee_bound(instrument, price, 10 * ONE, 3) <= largest


def test_opening_costs_the_price_or_its_complement():
    assert open_cost_e6("BUY", 4_000, 10 * ONE) == 4_000_000
    assert open_cost_e6("SELL", 4_000, 10 * ONE) == 6_000_000
    assert open_cost_e6("BUY", 3_333, 1) == 1


def test_short_yes_on_polymarket_buys_the_no_token_and_closing_sells_it(make):
    instrument = make.instrument(make.POLY)
    assert choose_token(instrument, "BUY", closing=False) == ("YES", "BUY", f"{make.POLY}/yes")
    assert choose_token(instrument, "SELL", closing=False) == ("NO", "BUY", f"{make.POLY}/no")
    assert choose_token(instrument, "SELL", closing=True) == ("YES", "SELL", f"{make.POLY}/yes")
    assert choose_token(instrument, "BUY", closing=True) == ("NO", "SELL", f"{make.POLY}/no")


def test_kalshi_has_one_book_and_no_token(make):
    instrument = make.instrument(make.KALSHI)
    assert choose_token(instrument, "SELL", closing=False) == ("NONE", "SELL", "")
    assert choose_token(instrument, "SELL", closing=True) == ("NONE", "SELL", "")


def test_worse_price_steps_over_bands_of_the_grid(make):
    tapered = make.instrument(
        make.KALSHI, tick_from=[0, 1_000, 9_000], tick_to=[1_000, 9_000, 10_000], tick_step=[10, 100, 10]
    )
    assert on_grid(tapered, 990)
    assert not on_grid(tapered, 1_010)
    assert worse_price(tapered, "BUY", 990, 1) == 1_000
    assert worse_price(tapered, "BUY", 1_000, 1) == 1_100
    assert worse_price(tapered, "SELL", 1_100, 1) == 1_000
    assert worse_price(tapered, "SELL", 10, 1) is None


@pytest.mark.parametrize(
    "changes", [dict(kind="SPOT"), dict(price_exp=-2), dict(fee_model="UNKNOWN"), dict(tokens=[]), dict(size_step=0)]
)
def test_instrument_whose_costs_cannot_be_bounded_is_not_tradable(make, changes):
    assert is_tradable(make.instrument(make.POLY))
    assert not is_tradable(make.instrument(make.POLY, **changes))


def test_instrument_is_open_until_its_close(make):
    instrument = make.instrument(make.POLY, close_ts_ns=make.START_NS)
    assert is_open(instrument, make.START_NS - 1)
    assert not is_open(instrument, make.START_NS)
    assert not is_open(make.instrument(make.POLY, status="PAUSED"), make.START_NS)
