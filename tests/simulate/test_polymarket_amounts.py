"""The server's order arithmetic, by the published vectors and by what it refuses."""

from fractions import Fraction

import pytest

from simulate.polymarket.amounts import OrderRefused, OrderType, fee_e6, read_amounts
from simulate.polymarket.market import PolymarketMarket
from simulate.universe import make_universe


def read(side: str, maker: int, taker: int, *, kind: str = "GTC", tick: int = 100, marketable: bool = False):
    market = PolymarketMarket(make_universe(1, 1, inverted_share=0, neg_risk_share=0, delayed_share=0)[0])
    market.set_tick(tick)
    order = {"side": side, "makerAmount": str(maker), "takerAmount": str(taker)}
    return read_amounts(order, OrderType(kind), market, "0xabc", marketable=lambda price: marketable)


@pytest.mark.parametrize(
    ("tick", "side", "maker", "taker", "price"),
    [
        (1_000, "BUY", 14_728_000, 21_040_000, 7_000),
        (100, "BUY", 11_782_400, 21_040_000, 5_600),
        (100, "SELL", 33_330_000, 18_998_100, 5_700),
        (50, "BUY", 4_499_550, 33_330_000, 1_350),
        (25, "SELL", 7_770_000, 3_865_575, 4_975),
        (10, "BUY", 1_218_510_720, 1_234_560_000, 9_870),
        (1, "BUY", 15_185_088, 1_234_560_000, 123),
    ],
)
def test_limit_orders_of_the_vectors_are_read(tick, side, maker, taker, price):
    amounts = read(side, maker, taker, tick=tick)
    assert (amounts.price_e4, amounts.budget_e6) == (price, None)
    assert amounts.size_e6 == (taker if side == "BUY" else maker)


@pytest.mark.parametrize(
    ("tick", "maker", "taker", "price"),
    [
        (1_000, 100_000_000, 200_000_000, 5_000),
        (100, 100_000_000, 178_571_400, 5_600),
        (100, 33_330_000, 58_473_600, 5_700),
        (1, 10_000_000, 813_008_100, 123),
    ],
)
def test_market_buys_of_the_vectors_are_budgets(tick, maker, taker, price):
    amounts = read("BUY", maker, taker, kind="FAK", tick=tick)
    assert (amounts.price_e4, amounts.budget_e6) == (price, maker)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"side": "BUY", "maker": 10_000_000, "taker": 178_571_420, "kind": "FAK", "tick": 10},
            (
                "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals, "
                "taker amount a max of 4 decimals"
            ),
        ),
        (
            {"side": "BUY", "maker": 11_782_450, "taker": 21_040_000},
            (
                "invalid amounts, the buy orders maker amount supports a max accuracy of 4 decimals, "
                "taker amount a max of 2 decimals"
            ),
        ),
        (
            {"side": "BUY", "maker": 1_178_241, "taker": 21_040_000, "tick": 10},
            (
                "invalid amounts, the buy orders maker amount supports a max accuracy of 5 decimals, "
                "taker amount a max of 2 decimals"
            ),
        ),
        (
            {"side": "BUY", "maker": 5_650_000, "taker": 10_000_000},
            "order 0xabc is invalid. Price (0.565) breaks minimum tick size rule: 0.01",
        ),
        (
            {"side": "BUY", "maker": 9_950_000, "taker": 10_000_000},
            "order 0xabc is invalid. Price (0.995) breaks minimum tick size rule: 0.01",
        ),
        (
            {"side": "SELL", "maker": 19_690_000, "taker": 4_330_000},
            "the taker amount for a $0.22 order of size 19.69 should be '4.3318'",
        ),
        (
            {"side": "BUY", "maker": 2_450_000, "taker": 4_900_000},
            "order 0xabc is invalid. Size (4.9) lower than the minimum: 5",
        ),
        (
            {"side": "BUY", "maker": 900_000, "taker": 9_000_000, "marketable": True},
            "invalid amount for a marketable BUY order ($0.9), min size: $1",
        ),
    ],
    ids=["market decimals", "limit decimals", "fine tick", "off tick", "above grid", "rounded", "small", "below $1"],
)
def test_wrong_amounts_are_refused_with_the_documented_text(arguments, text):
    with pytest.raises(OrderRefused) as refused:
        read(**arguments)
    assert refused.value.text == text


@pytest.mark.parametrize("amount", ["-1", "1.5", "", "1e6", "9" * 40, None, 5])
def test_amounts_that_are_no_whole_numbers_are_an_invalid_payload(amount):
    market = PolymarketMarket(make_universe(1, 1, inverted_share=0, neg_risk_share=0, delayed_share=0)[0])
    order = {"side": "BUY", "makerAmount": amount, "takerAmount": "1"}
    with pytest.raises(OrderRefused, match="Invalid order payload"):
        read_amounts(order, OrderType.GTC, market, "0xabc", marketable=lambda price: False)


@pytest.mark.parametrize(
    ("shares_e6", "rate", "price_e4", "fee"),
    [
        (100_000_000, "0.07", 5_000, 1_750_000),
        (100_000_000, "0.07", 500, 332_500),
        (100_000_000, "0.04", 9_700, 116_400),
        (1_000_000, "0.07", 10, 70),
        (10_000, "0.04", 100, 0),
    ],
)
def test_fees_of_the_vectors(shares_e6, rate, price_e4, fee):
    assert fee_e6(shares_e6, price_e4, Fraction(rate)) == fee
