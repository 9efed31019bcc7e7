"""The matching engine, by hand-made cases."""

import pytest

from core.domain.errors import InvariantBroken
from simulate.matching import (
    NEVER_RESTED,
    Canceled,
    CancelReason,
    Filled,
    Matcher,
    Order,
    Rested,
    Side,
    TimeInForce,
)

_numbers = iter(range(1_000_000))


def order(side: Side, price: int, size: int, **fields) -> Order:
    return Order(f"o{next(_numbers)}", side, price, size, **fields)


def book_with_asks() -> tuple[Matcher, list[Order]]:
    """0.52 x 10 and then 5 at the same price, 0.53 x 20."""
    book = Matcher()
    asks = [order(Side.ASK, 5_200, 10), order(Side.ASK, 5_200, 5), order(Side.ASK, 5_300, 20)]
    for ask in asks:
        book.submit(ask)
    return book, asks


def test_first_at_a_price_is_filled_first_and_at_its_own_price():
    book, asks = book_with_asks()
    taker = order(Side.BID, 5_400, 12)
    events = book.submit(taker)
    assert events == [
        Filled(asks[0], taker, 5_200, 10, 5),
        Filled(asks[1], taker, 5_200, 2, 3),
    ]
    assert book.levels(Side.ASK) == [(5_200, 3), (5_300, 20)]


def test_remainder_rests_at_its_limit():
    book, _asks = book_with_asks()
    taker = order(Side.BID, 5_200, 20)
    events = book.submit(taker)
    assert events[-1] == Rested(taker, 5, 5)
    assert book.best_bid() == 5_200
    assert book.best_ask() == 5_300


def test_ioc_cancels_what_it_cannot_fill():
    book, _ = book_with_asks()
    taker = order(Side.BID, 5_200, 20, time_in_force=TimeInForce.IOC)
    assert book.submit(taker)[-1] == Canceled(taker, 5, NEVER_RESTED, CancelReason.UNFILLED)
    assert book.best_bid() is None


def test_fok_takes_nothing_when_it_cannot_take_all():
    book, _ = book_with_asks()
    killed = order(Side.BID, 5_200, 16, time_in_force=TimeInForce.FOK)
    assert book.submit(killed) == [Canceled(killed, 16, NEVER_RESTED, CancelReason.KILLED)]
    assert book.level_size(Side.ASK, 5_200) == 15
    whole = order(Side.BID, 5_300, 16, time_in_force=TimeInForce.FOK)
    assert sum(event.size for event in book.submit(whole)) == 16


def test_post_only_that_crosses_never_enters():
    book, _ = book_with_asks()
    maker = order(Side.BID, 5_200, 1, post_only=True)
    assert book.submit(maker) == [Canceled(maker, 1, NEVER_RESTED, CancelReason.POST_ONLY_CROSS)]
    assert isinstance(book.submit(order(Side.BID, 5_100, 1, post_only=True))[0], Rested)


def test_meeting_ones_own_order_cancels_the_taker_and_keeps_earlier_fills():
    book = Matcher()
    stranger = order(Side.ASK, 5_200, 3)
    mine = order(Side.ASK, 5_200, 10, owner="me")
    book.submit(stranger)
    book.submit(mine)
    taker = order(Side.BID, 5_200, 8, owner="me")
    assert book.submit(taker) == [
        Filled(stranger, taker, 5_200, 3, 10),
        Canceled(taker, 5, NEVER_RESTED, CancelReason.SELF_TRADE),
    ]
    assert mine.remaining == 10


def test_taker_may_cancel_ones_own_resting_order_and_go_on():
    book = Matcher()
    mine = order(Side.ASK, 5_200, 10, owner="me")
    stranger = order(Side.ASK, 5_200, 3)
    book.submit(mine)
    book.submit(stranger)
    taker = order(Side.BID, 5_200, 3, owner="me", cancels_own=True, time_in_force=TimeInForce.FOK)
    assert book.submit(taker) == [
        Canceled(mine, 10, 3, CancelReason.SELF_TRADE),
        Filled(stranger, taker, 5_200, 3, 0),
    ]


def test_reduced_order_keeps_its_place_in_the_line():
    book, asks = book_with_asks()
    assert book.reduce(asks[0], 4) == [Canceled(asks[0], 4, 11, CancelReason.USER)]
    taker = order(Side.BID, 5_200, 1)
    assert book.submit(taker)[0] == Filled(asks[0], taker, 5_200, 1, 10)


def test_cancelling_twice_is_nothing():
    book, asks = book_with_asks()
    assert len(book.cancel(asks[2])) == 1
    assert book.cancel(asks[2]) == []
    assert book.levels(Side.ASK) == [(5_200, 15)]


def test_dated_order_leaves_at_its_time():
    book = Matcher()
    dated = order(Side.BID, 4_000, 7, time_in_force=TimeInForce.GTD, expires_ns=1_000)
    book.submit(dated)
    assert book.expire(999) == []
    assert book.expire(1_000) == [Canceled(dated, 7, 0, CancelReason.EXPIRED)]
    assert book.levels(Side.BID) == []


def test_budget_buys_more_where_it_is_cheaper_and_in_whole_hundredths():
    book = Matcher()
    book.submit(order(Side.ASK, 5_000, 10_000_000))
    book.submit(order(Side.ASK, 5_300, 90_000_000))
    # $10: 10 shares at 0.50 cost 5.00; the other 5.00 buy 9.43 at 0.53 (4.9979), 0.0021 stays.
    taker = order(Side.BID, 5_600, 10**12, time_in_force=TimeInForce.IOC, budget_e6=10_000_000)
    fills = book.submit(taker)
    assert [(fill.price, fill.size) for fill in fills] == [(5_000, 10_000_000), (5_300, 9_430_000)]
    assert taker.budget_e6 == 2_100
    assert taker.remaining == 0


def test_budget_for_no_pays_the_complement():
    book = Matcher()
    book.submit(order(Side.BID, 6_000, 100_000_000))
    # Buying NO at 0.40 is hitting the YES bid at 0.60: $2 buy 5 shares.
    taker = order(Side.ASK, 5_500, 10**12, time_in_force=TimeInForce.IOC, budget_e6=2_000_000, pays_no=True)
    assert [(fill.price, fill.size) for fill in book.submit(taker)] == [(6_000, 5_000_000)]


@pytest.mark.parametrize(("price", "size"), [(0, 1), (10_000, 1), (5_000, 0)], ids=["at 0", "at 1", "no size"])
def test_impossible_order_is_refused_by_name(price, size):
    with pytest.raises(InvariantBroken, match="expected"):
        order(Side.BID, price, size)
