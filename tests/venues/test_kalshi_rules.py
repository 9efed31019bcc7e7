"""Kalshi's grid, fees, collateral and limits equal the published figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import OffGrid, UnknownSchema
from venues.kalshi import rules
from venues.kalshi.wire import PriceRange

LINEAR = [PriceRange(0, 10_000, 100)]
TAPERED = [PriceRange(0, 1_000, 10), PriceRange(1_000, 9_000, 100), PriceRange(9_000, 10_000, 10)]

contracts = st.integers(1, 10**7).map(lambda n: n * 1_000_000)
hundredths = st.integers(1, 10**7).map(lambda n: n * 10_000)
prices = st.integers(1, 9_999)


# --- grid


@pytest.mark.parametrize(
    ("price", "linear", "tapered"),
    [
        (0, False, False),
        (10, False, True),
        (15, False, False),
        (100, True, True),
        (990, False, True),
        (1_000, True, True),
        (1_010, False, False),
        (5_150, False, False),
        (8_990, False, False),
        (9_000, True, True),
        (9_010, False, True),
        (9_990, False, True),
        (9_900, True, True),
        (10_000, False, False),
        (-100, False, False),
    ],
)
def test_on_grid(price: int, linear: bool, tapered: bool) -> None:
    assert (rules.on_grid(price, LINEAR), rules.on_grid(price, TAPERED)) == (linear, tapered)


def test_an_order_off_the_grid_or_finer_than_a_hundredth_is_refused() -> None:
    rules.check_order(price=5_100, size=10_000, ranges=LINEAR)
    with pytest.raises(OffGrid, match="price 5150e-4"):
        rules.check_order(price=5_150, size=1_000_000, ranges=LINEAR)
    for size in (0, -1_000_000, 9_999, 15_000):
        with pytest.raises(OffGrid, match="hundredths"):
            rules.check_order(price=5_100, size=size, ranges=LINEAR)


# --- fees

PUBLISHED = [
    # is_taker, size, price, then the fee at six decimals, at four, and in the published table of cents
    (True, 1_000_000, 5_000, 17_500, 17_500, 20_000),
    (True, 100_000_000, 5_000, 1_750_000, 1_750_000, 1_750_000),
    (True, 100_000_000, 2_500, 1_312_500, 1_312_500, 1_320_000),
    (True, 1_000_000, 100, 693, 700, 10_000),
    (True, 1_000_000, 550, 3_639, 3_700, 10_000),
    (True, 300_000, 5_000, 5_250, 5_300, 10_000),
    (False, 100_000_000, 5_000, 437_500, 437_500, 440_000),
    (False, 100_000_000, 2_500, 328_125, 328_200, 330_000),
]


@pytest.mark.parametrize(("is_taker", "size", "price", "six", "four", "cents"), PUBLISHED)
def test_fees_equal_the_published_table(is_taker: bool, size: int, price: int, six: int, four: int, cents: int) -> None:
    coefficient = rules.coefficient_e6(fee_type="quadratic_with_maker_fees", multiplier_e6=1_000_000, is_taker=is_taker)
    for unit, expected in ((1, six), (100, four), (10_000, cents)):
        assert rules.trade_fee(price=price, size=size, coefficient_e6=coefficient, unit_e6=unit) == expected
    whole = size % 1_000_000 == 0
    bound = rules.fee_bound(price=price, size=size, coefficient_e6=coefficient)
    assert bound == cents if whole else bound >= cents


@pytest.mark.parametrize(
    ("price", "fee"), [(5_200, 17_500), (9_900, 700)], ids=["p52-recorded-0.017500", "p99-recorded-0.000700"]
)
def test_fees_of_the_recorded_fills_are_those_of_the_older_rounding(price: int, fee: int) -> None:
    assert rules.trade_fee(price=price, size=1_000_000, coefficient_e6=70_000, unit_e6=100) == fee
    accumulator = rules.FeeAccumulator()
    paid = accumulator.fill(
        revenue=rules.cash_effect(position=0, side="bid", price=price, size=1_000_000).cash,
        trade_fee=rules.trade_fee(price=price, size=1_000_000, coefficient_e6=70_000),
    )
    # The newest rounding gives a direct member the same total: what the six decimals leave out, the balance takes.
    assert paid.net == fee


@pytest.mark.parametrize(
    ("fee_type", "taker", "maker"),
    [
        ("quadratic", 70_000, 0),
        ("quadratic_with_maker_fees", 70_000, 17_500),
        ("quadratic_with_combo_maker_fees", 70_000, 35_000),
    ],
)
def test_coefficients_by_fee_type(fee_type: str, taker: int, maker: int) -> None:
    for multiplier in (1_000_000, 500_000, 0):
        for is_taker, full in ((True, taker), (False, maker)):
            seen = rules.coefficient_e6(fee_type=fee_type, multiplier_e6=multiplier, is_taker=is_taker)
            assert seen == full * multiplier // 1_000_000


@pytest.mark.parametrize("fee_type", ["flat", "", "cubic"])
def test_a_fee_type_without_a_formula_is_refused(fee_type: str) -> None:
    with pytest.raises(UnknownSchema, match="fee type"):
        rules.coefficient_e6(fee_type=fee_type, multiplier_e6=1_000_000, is_taker=True)


def test_the_documented_example_of_rounding_to_cents() -> None:
    accumulator = rules.FeeAccumulator(unit_e6=rules.UNIT_INTERMEDIATED_E6)
    fee = rules.trade_fee(price=550, size=1_000_000, coefficient_e6=70_000)
    assert fee == 3_639
    assert accumulator.fill(revenue=-55_000, trade_fee=fee) == (3_639, 1_361, 0)


def test_the_documented_example_of_a_rebate() -> None:
    accumulator = rules.FeeAccumulator(unit_e6=rules.UNIT_INTERMEDIATED_E6)
    # Each fill rounds by $0.004: -0.006 of fee leaves -0.01.
    fills = [accumulator.fill(revenue=0, trade_fee=6_000) for _ in range(3)]
    assert [fill.rounding for fill in fills] == [4_000, 4_000, 4_000]
    assert [fill.rebate for fill in fills] == [0, 0, 10_000]
    assert accumulator.collected == 2_000
    assert fills[2].net == 0


@given(
    st.lists(st.tuples(prices, hundredths, st.sampled_from(["bid", "ask"])), min_size=1, max_size=30),
    st.sampled_from([100, 10_000]),
)
def test_every_fill_leaves_the_balance_on_its_unit_and_never_pays_a_fee_back(
    fills: list[tuple[int, int, str]], unit: int
) -> None:
    accumulator = rules.FeeAccumulator(unit_e6=unit)
    position = 0
    for price, size, side in fills:
        cash, position = rules.cash_effect(position=position, side=side, price=price, size=size)
        fee = rules.trade_fee(price=price, size=size, coefficient_e6=70_000)
        paid = accumulator.fill(revenue=cash, trade_fee=fee)
        assert (cash - paid.net) % unit == 0
        assert paid.net >= 0
        assert 0 <= paid.rounding < unit
        assert accumulator.collected >= 0


@given(prices, st.lists(hundredths, min_size=1, max_size=20), st.sampled_from([17_500, 35_000, 70_000]))
def test_the_bound_is_never_below_the_exact_fees(price: int, sizes: list[int], coefficient: int) -> None:
    accumulator = rules.FeeAccumulator()
    paid = 0
    for size in sizes:
        cash = rules.cash_effect(position=0, side="bid", price=price, size=size).cash
        fee = rules.trade_fee(price=price, size=size, coefficient_e6=coefficient)
        paid += accumulator.fill(revenue=cash, trade_fee=fee).net
    bound = rules.fee_bound(price=price, size=sum(sizes), coefficient_e6=coefficient, fills=len(sizes))
    assert paid <= bound
    assert bound % rules.CENT_E6 == 0


@given(prices, contracts, st.sampled_from([17_500, 70_000]))
def test_the_bound_of_one_fill_of_whole_contracts_is_the_next_cent(price: int, size: int, coefficient: int) -> None:
    cash = rules.cash_effect(position=0, side="ask", price=price, size=size).cash
    fee = rules.trade_fee(price=price, size=size, coefficient_e6=coefficient)
    paid = rules.FeeAccumulator().fill(revenue=cash, trade_fee=fee).net
    bound = rules.fee_bound(price=price, size=size, coefficient_e6=coefficient)
    assert fee <= paid <= bound < fee + rules.CENT_E6


@given(prices, contracts)
def test_fees_are_the_same_for_yes_and_no(price: int, size: int) -> None:
    one = rules.trade_fee(price=price, size=size, coefficient_e6=70_000)
    assert one == rules.trade_fee(price=10_000 - price, size=size, coefficient_e6=70_000)


# --- collateral


@pytest.mark.parametrize(
    ("position", "side", "price", "size", "cash", "after"),
    [
        (0, "bid", 5_200, 1_000_000, -520_000, 1_000_000),
        (0, "ask", 5_200, 1_000_000, -480_000, -1_000_000),
        (1_000_000, "ask", 5_200, 1_000_000, 520_000, 0),
        (-1_000_000, "bid", 5_200, 1_000_000, 480_000, 0),
        (1_000_000, "ask", 5_200, 3_000_000, 520_000 - 960_000, -2_000_000),
        (-1_000_000, "bid", 5_200, 3_000_000, 480_000 - 1_040_000, 2_000_000),
        (1_000_000, "bid", 100, 10_000, -100, 1_010_000),
    ],
    ids=["open-yes", "open-no", "close-yes", "close-no", "yes-to-no", "no-to-yes", "add-a-hundredth"],
)
def test_cash_effect(position: int, side: str, price: int, size: int, cash: int, after: int) -> None:
    assert rules.cash_effect(position=position, side=side, price=price, size=size) == (cash, after)


@given(st.lists(st.tuples(prices, hundredths, st.sampled_from(["bid", "ask"])), max_size=30), st.integers(0, 10_000))
def test_cash_and_payout_equal_profit_and_loss_however_positions_net(
    fills: list[tuple[int, int, str]], settlement: int
) -> None:
    cash = position = profit = 0
    for price, size, side in fills:
        moved, position = rules.cash_effect(position=position, side=side, price=price, size=size)
        cash += moved
        sign = 1 if side == "bid" else -1
        profit += sign * size * (settlement - price) // 10_000
    assert cash + rules.payout(position=position, settlement_price=settlement) == profit


def test_a_size_finer_than_a_hundredth_has_no_exact_cash() -> None:
    with pytest.raises(OffGrid, match="hundredths"):
        rules.cash_effect(position=0, side="bid", price=5_000, size=5_000)


# --- limits


def test_request_costs() -> None:
    orders = "/trade-api/v2/portfolio/events/orders"
    assert rules.request_cost("POST", orders) == 10
    assert rules.request_cost("DELETE", f"{orders}/abc") == 2
    assert rules.request_cost("POST", f"{orders}/abc/amend") == 10
    assert rules.request_cost("GET", "/trade-api/v2/portfolio/orders/abc") == 2
    assert rules.request_cost("GET", "/trade-api/v2/portfolio/orders") == 10
    assert rules.request_cost("GET", "/trade-api/v2/portfolio/orders/queue_positions") == 10
    assert [rules.is_write(method) for method in ("GET", "POST", "DELETE")] == [False, True, True]


def test_tiers() -> None:
    assert rules.TIERS["basic"] == ((200, 600), (100, 100))
    assert rules.TIERS["advanced"] == ((300, 900), (300, 900))
    assert rules.TIERS["prestige"] == ((12_000, 12_000), (9_600, 28_800))
