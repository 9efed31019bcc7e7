"""Polymarket's amounts, minimums and fees equal the vectors and the server's rule."""

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import OffGrid
from core.domain.units import to_fixed
from venues.polymarket import rules

TICKS = sorted(rules.TICK_DECIMALS)


@st.composite
def prices_on_ticks(draw: st.DrawFn) -> tuple[int, int]:
    tick = draw(st.sampled_from(TICKS))
    return draw(st.integers(1, 10_000 // tick - 1)) * tick, tick


sizes = st.integers(10_000, 10**12)


@pytest.mark.parametrize(
    ("price", "tick", "valid"),
    [
        (5_600, 100, True),
        (100, 100, True),
        (9_900, 100, True),
        (0, 100, False),
        (10_000, 100, False),
        (5_650, 100, False),
        (1_350, 50, True),
        (1_360, 50, False),
        (4_975, 25, True),
        (4_980, 25, False),
        (123, 1, True),
        (9_999, 1, True),
        (9_990, 10, True),
        (9_995, 10, False),
        (500, 1_000, False),
        (9_000, 1_000, True),
    ],
)
def test_on_grid(price: int, tick: int, valid: bool) -> None:
    assert rules.on_grid(price, tick) is valid


def test_every_amount_vector(vectors: dict[str, Any]) -> None:
    for vector in vectors["amounts"]:
        expected = (vector["makerAmount"], vector["takerAmount"])
        assert amounts(vector, vector["kind"], vector.get("size") or vector.get("amount")) == expected, vector
    assert len(vectors["amounts"]) == 23


def test_where_the_two_clients_differ_ours_is_the_decimal_one(vectors: dict[str, Any]) -> None:
    for kind, quantity in (("limit", "size"), ("market", "amount")):
        examples = vectors["amount_comparison"][kind]["examples"]
        assert len(examples) == 12
        for example in examples:
            seen = amounts(example, kind, example[quantity])
            assert seen == tuple(example["polymarket_client_decimal"]), example
            assert seen != tuple(example["py_clob_client_v2_float"])


def amounts(case: dict[str, Any], kind: str, quantity: str) -> rules.Amounts:
    price, tick, number = to_fixed(case["price"], -4), to_fixed(case["tick"], -4), to_fixed(quantity, -6)
    if kind == "limit":
        return rules.limit_order_amounts(side=case["side"], price=price, size=number, tick=tick)
    return rules.market_order_amounts(side=case["side"], price=price, quantity=number, tick=tick, capped=False)


def test_the_published_example_of_a_limit_order() -> None:
    seen = rules.limit_order_amounts(side="BUY", price=7_000, size=4_384_860_000, tick=1_000)
    assert seen == (3_069_402_000, 4_384_860_000)
    assert rules.limit_order_amounts(side="SELL", price=7_000, size=4_384_860_000, tick=1_000) == seen[::-1]


def test_a_market_buy_is_capped_at_four_decimals_of_shares_on_any_tick() -> None:
    # The client's own 178.57142 and 813.00813 are refused by the server.
    for price, tick, taker in ((560, 10, 178_571_400), (123, 1, 813_008_100)):
        quantity = 10_000_000
        price = price if tick == 10 else 123
        assert rules.market_order_amounts(side="BUY", price=price, quantity=quantity, tick=tick) == (quantity, taker)


@given(prices_on_ticks(), sizes, st.sampled_from(["BUY", "SELL"]))
def test_limit_amounts_are_exact_and_within_the_servers_decimals(place: tuple[int, int], size: int, side: Any) -> None:
    price, tick = place
    maker, taker = rules.limit_order_amounts(side=side, price=price, size=size, tick=tick)
    collateral, shares = (maker, taker) if side == "BUY" else (taker, maker)
    assert collateral * 10_000 == shares * price
    assert shares % 10_000 == 0
    assert 0 <= size - shares < 10_000
    assert collateral % 10 ** (6 - rules.TICK_DECIMALS[tick][2]) == 0


@given(prices_on_ticks(), sizes, st.booleans())
def test_market_buys_follow_the_clients_decimal_rule(place: tuple[int, int], quantity: int, capped: bool) -> None:
    price, tick = place
    decimals = min(rules.TICK_DECIMALS[tick][2], 4) if capped else rules.TICK_DECIMALS[tick][2]
    budget = Decimal(quantity // 10_000) / 100
    exact = budget / (Decimal(price) / 10_000)
    fine = exact.quantize(Decimal(1).scaleb(-decimals - 4), ROUND_UP)
    expected = fine.quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
    seen = rules.market_order_amounts(side="BUY", price=price, quantity=quantity, tick=tick, capped=capped)
    assert seen == (int(budget * 10**6), int(expected * 10**6))


@given(prices_on_ticks(), sizes)
def test_a_taker_order_is_never_worth_more_than_asked(place: tuple[int, int], size: int) -> None:
    price, tick = place
    try:
        maker, taker = rules.taker_order_amounts(side="BUY", price=price, size=size, tick=tick)
    except OffGrid:
        assert size * price // 10_000 < 10_000
        return
    assert maker * 10_000 <= size * price
    assert taker <= size
    assert maker % 10_000 == 0
    assert taker % 100 == 0
    sold, collateral = rules.taker_order_amounts(side="SELL", price=price, size=size, tick=tick)
    assert collateral * 10_000 == sold * price


@pytest.mark.parametrize(
    ("price", "tick", "size"), [(5_650, 100, 10**6), (5_600, 30, 10**6), (5_600, 100, 9_999), (0, 100, 10**6)]
)
def test_amounts_off_the_grid_are_refused(price: int, tick: int, size: int) -> None:
    with pytest.raises(OffGrid, match="polymarket"):
        rules.limit_order_amounts(side="BUY", price=price, size=size, tick=tick)
    with pytest.raises(OffGrid, match="polymarket"):
        rules.market_order_amounts(side="SELL", price=price, quantity=size, tick=tick)


def test_minimums() -> None:
    least = rules.SIZE_MIN_DEFAULT
    rules.check_size(side="BUY", price=100, size=least, size_min=least, marketable=False)
    rules.check_size(side="BUY", price=5_000, size=2_000_000, size_min=least, marketable=True)
    rules.check_size(side="SELL", price=100, size=10_000, size_min=least, marketable=True)
    with pytest.raises(OffGrid, match="lower than the minimum"):
        rules.check_size(side="BUY", price=5_000, size=least - 10_000, size_min=least, marketable=False)
    with pytest.raises(OffGrid, match="one dollar"):
        rules.check_size(side="BUY", price=5_000, size=1_990_000, size_min=least, marketable=True)


# --- fees


@pytest.mark.parametrize(
    ("shares", "rate", "price", "exponent", "fee"),
    [
        (100_000_000, 70_000, 5_000, 1, 1_750_000),
        (100_000_000, 70_000, 500, 1, 332_500),
        (100_000_000, 50_000, 5_000, 1, 1_250_000),
        (100_000_000, 40_000, 9_700, 1, 116_400),
        (1_000_000, 70_000, 10, 1, 70),
        (10_000, 40_000, 100, 1, 0),
        (100_000_000, 250_000, 5_000, 2, 1_562_500),
        (100_000_000, 0, 5_000, 1, 0),
    ],
)
def test_published_fees(shares: int, rate: int, price: int, exponent: int, fee: int) -> None:
    assert rules.taker_fee(price=price, size=shares, rate_e6=rate, exponent=exponent) == fee


def test_every_fee_vector(vectors: dict[str, Any]) -> None:
    for vector in vectors["fees"]:
        seen = rules.taker_fee(
            price=to_fixed(vector["price"], -4),
            size=to_fixed(vector["shares"], -6),
            rate_e6=to_fixed(vector["rate"], -6),
            exponent=vector["exponent"],
        )
        assert seen == to_fixed(vector["fee"], -6), vector
    assert len(vectors["fees"]) == 7


@given(st.integers(1, 9_999), st.lists(st.integers(1, 10**11), min_size=1, max_size=20), st.sampled_from([1, 2]))
def test_the_bound_is_never_below_the_fees_of_all_matches(price: int, matches: list[int], exponent: int) -> None:
    paid = sum(rules.taker_fee(price=price, size=size, rate_e6=70_000, exponent=exponent) for size in matches)
    bound = rules.taker_fee_bound(price=price, size=sum(matches), rate_e6=70_000, exponent=exponent, fills=len(matches))
    assert paid <= bound <= paid + 10 * (len(matches) + 1)


def test_no_rate_has_no_bound_above_zero() -> None:
    assert rules.taker_fee_bound(price=5_000, size=10**9, rate_e6=0, fills=9) == 0


# --- expiry


def test_an_expiration_lies_a_minute_behind_the_life_asked_for() -> None:
    assert rules.gtd_expiration(now_s=1_000, lives_s=120) == 1_180
    with pytest.raises(OffGrid, match="at least 120 s"):
        rules.gtd_expiration(now_s=1_000, lives_s=119)


def test_limits() -> None:
    assert rules.ADDRESS_LIMITS["POST", "/order"] == ((5_000, 10), (120_000, 600))
    assert rules.ADDRESS_LIMITS["DELETE", "/orders"] == ((2_000, 10), (15_000, 600))
    assert rules.SIGNER_TIERS["standard"] == (40, 60, 80, 120)
    assert rules.SIGNER_TIERS["elite"] == (600, 900, 1_200, 1_800)
