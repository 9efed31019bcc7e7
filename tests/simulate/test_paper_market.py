"""What the live market gives to our orders, case by case: nothing twice, nobody overtaken, nothing on a book not trusted."""

import pytest

from simulate.matching import Canceled, CancelReason, Filled, Order, Rested, Side, TimeInForce
from simulate.paper_level import EXPLAIN_NS
from simulate.paper_market import PaperMarket

S = 1_000_000_000
BIDS = [(5_000, 100), (4_900, 50)]
ASKS = [(5_100, 80), (5_200, 40)]


class Clock:
    """Time of the log and of arrivals."""

    def __init__(self):
        self.ns = 100 * S

    def __call__(self):
        return self.ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def market(clock):
    market = PaperMarket(clock)
    market.trust(trusted=True)
    market.depth(BIDS, ASKS, clock.ns)
    return market


def order(name, side, price, size, **fields):
    return Order(name, side, price, size, owner="us", **fields)


def filled(events):
    return [(event.maker.order_id, event.price, event.size) for event in events if isinstance(event, Filled)]


def took(events):
    return sum(event.size for event in events if isinstance(event, Filled))


def test_a_taker_walks_the_shown_levels_and_no_further(market):
    events = market.submit(order("a", Side.BID, 5_200, 500, time_in_force=TimeInForce.IOC))
    assert [(event.price, event.size) for event in events if isinstance(event, Filled)] == [(5_100, 80), (5_200, 40)]
    assert isinstance(events[-1], Canceled)
    assert events[-1].reason is CancelReason.UNFILLED


def test_what_was_taken_stays_taken_while_the_level_stays(market, clock):
    assert took(market.submit(order("a", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))) == 60
    market.depth(BIDS, ASKS, clock.ns + 1)
    assert took(market.submit(order("b", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))) == 20
    assert took(market.submit(order("c", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))) == 0


def test_a_level_that_shrinks_gives_nothing_back(market, clock):
    market.submit(order("a", Side.BID, 5_100, 80, time_in_force=TimeInForce.IOC))
    market.depth(BIDS, [(5_100, 79)], clock.ns + 1)
    assert market.room(Side.ASK, 5_100) == 0


def test_a_level_offers_what_it_grows(market, clock):
    market.submit(order("a", Side.BID, 5_100, 80, time_in_force=TimeInForce.IOC))
    market.depth(BIDS, [(5_100, 95)], clock.ns + 1)
    assert took(market.submit(order("b", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))) == 15


def test_a_level_that_was_gone_is_new(market, clock):
    market.submit(order("a", Side.BID, 5_100, 80, time_in_force=TimeInForce.IOC))
    market.depth(BIDS, [(5_200, 40)], clock.ns + 1)
    market.depth(BIDS, [(5_100, 30), (5_200, 40)], clock.ns + 2)
    assert took(market.submit(order("b", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))) == 30


def test_a_level_out_of_sight_is_not_gone_and_cannot_be_taken(clock):
    market = PaperMarket(clock, depth_max=2)
    market.trust(trusted=True)
    market.depth([], [(5_100, 10), (5_200, 20)], clock.ns)
    assert took(market.submit(order("a", Side.BID, 5_200, 25, time_in_force=TimeInForce.IOC))) == 25
    market.depth([], [(5_000, 5), (5_100, 10)], clock.ns + 1)
    assert took(market.submit(order("b", Side.BID, 5_900, 99, time_in_force=TimeInForce.IOC))) == 5
    market.depth([], [(5_100, 10), (5_200, 20)], clock.ns + 2)
    # Ten were taken of the first, fifteen of the second, and neither was ever seen to go.
    assert took(market.submit(order("c", Side.BID, 5_900, 99, time_in_force=TimeInForce.IOC))) == 5


def test_a_trade_takes_the_queue_ahead_first_and_then_us(market, clock):
    mine = order("mine", Side.BID, 5_000, 30)
    assert isinstance(market.submit(mine)[0], Rested)
    assert market.trade(5_000, 90, Side.ASK, clock.ns + 1) == []
    assert filled(market.trade(5_000, 15, Side.ASK, clock.ns + 2)) == [("mine", 5_000, 5)]
    assert filled(market.trade(5_000, 99, Side.ASK, clock.ns + 3)) == [("mine", 5_000, 25)]


def test_a_trade_through_our_price_fills_us_at_our_price(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    assert filled(market.trade(4_900, 12, Side.ASK, clock.ns + 1)) == [("mine", 5_000, 12)]


def test_an_order_alone_inside_the_spread_is_filled_by_a_trade_at_its_price(market, clock):
    market.submit(order("mine", Side.BID, 5_050, 30))
    assert filled(market.trade(5_050, 10, Side.ASK, clock.ns + 1)) == [("mine", 5_050, 10)]


def test_a_trade_of_the_other_side_or_at_a_worse_place_does_not_fill_us(market, clock):
    market.submit(order("mine", Side.BID, 4_900, 30))
    assert market.trade(4_900, 500, Side.BID, clock.ns + 1) == []
    assert market.trade(5_000, 500, Side.ASK, clock.ns + 2) == []


def test_a_trade_from_before_our_arrival_does_not_fill_us(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    assert market.trade(4_900, 500, Side.ASK, clock.ns) == []
    assert market.trade(5_000, 500, Side.ASK, clock.ns - 1) == []


def test_latency_puts_us_behind_what_is_told_before_a_real_order_had_arrived(clock):
    market = PaperMarket(clock, latency_ns=50)
    market.trust(trusted=True)
    market.depth(BIDS, ASKS, clock.ns)
    market.submit(order("mine", Side.BID, 5_000, 30))
    market.depth([(5_000, 140), (4_900, 50)], ASKS, clock.ns + 49)
    assert market.trade(4_900, 500, Side.ASK, clock.ns + 50) == []
    assert market.trade(5_000, 140, Side.ASK, clock.ns + 60) == []
    assert filled(market.trade(5_000, 1, Side.ASK, clock.ns + 61)) == [("mine", 5_000, 1)]


def test_what_joins_later_stands_behind_us_and_what_leaves_was_behind_us(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    market.depth([(5_000, 160)], ASKS, clock.ns + 1)
    market.depth([(5_000, 100)], ASKS, clock.ns + 2)
    # Sixty came and sixty went: the hundred ahead of us are still there, whatever the venue's own line is.
    far = clock.ns + 2 * EXPLAIN_NS
    assert market.trade(5_000, 100, Side.ASK, far) == []
    assert filled(market.trade(5_000, 7, Side.ASK, far + 1)) == [("mine", 5_000, 7)]


def test_what_leaves_beyond_those_behind_us_was_ahead(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    market.depth([(5_000, 40)], ASKS, clock.ns + 1)
    far = clock.ns + 2 * EXPLAIN_NS
    assert filled(market.trade(5_000, 45, Side.ASK, far)) == [("mine", 5_000, 5)]


@pytest.mark.parametrize("book_first", [True, False])
def test_a_trade_counts_once_whether_its_book_or_its_print_comes_first(market, clock, book_first):
    market.submit(order("mine", Side.BID, 5_000, 30))

    def traded(size, left, at):
        steps = [
            lambda: market.depth([(5_000, left)], ASKS, clock.ns + at),
            lambda: market.trade(5_000, size, Side.ASK, clock.ns + at),
        ]
        return [fill for step in (steps if book_first else steps[::-1]) for fill in filled(step())]

    assert traded(60, 40, 1) == []
    assert traded(40, 0, 2) == []
    assert traded(10, 0, 3) == [("mine", 5_000, 10)]


def test_a_trade_told_after_its_book_reaches_us_past_those_who_joined_behind(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    market.depth([(5_000, 150)], ASKS, clock.ns + 1)
    # The real line lost 110: our 100 ahead and, as we are not in it, 10 of those behind us.
    market.depth([(5_000, 40)], ASKS, clock.ns + 2)
    assert filled(market.trade(5_000, 110, Side.ASK, clock.ns + 3)) == [("mine", 5_000, 10)]
    assert market.level_size(Side.BID, 5_000) == 20 + 40


def test_however_often_a_level_shrinks_before_its_trades_are_told_they_count_once(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    for left in range(99, 49, -1):
        market.depth([(5_000, left)], ASKS, clock.ns + 100 - left)
    for _ in range(50):
        assert market.trade(5_000, 1, Side.ASK, clock.ns + 60) == []
    assert market.trade(5_000, 50, Side.ASK, clock.ns + 61) == []
    assert filled(market.trade(5_000, 2, Side.ASK, clock.ns + 62)) == [("mine", 5_000, 2)]


def test_size_we_took_of_a_level_is_still_ahead_of_our_own_order_there(market, clock):
    market.submit(order("a", Side.BID, 5_100, 50, time_in_force=TimeInForce.IOC))
    market.submit(order("mine", Side.ASK, 5_100, 10))
    assert market.trade(5_100, 80, Side.BID, clock.ns + 1) == []
    assert filled(market.trade(5_100, 4, Side.BID, clock.ns + 2)) == [("mine", 5_100, 4)]


def test_the_live_market_crossing_our_price_fills_us_at_our_price_and_once(market, clock):
    market.submit(order("mine", Side.ASK, 5_050, 30))
    events = market.depth([(5_080, 12), (5_000, 100)], [(5_100, 80)], clock.ns + 1)
    assert filled(events) == [("mine", 5_050, 12)]
    assert market.depth([(5_080, 12), (5_000, 100)], [(5_100, 80)], clock.ns + 2) == []
    assert filled(market.depth([(5_080, 15), (5_000, 100)], [(5_100, 80)], clock.ns + 3)) == [("mine", 5_050, 3)]


@pytest.fixture
def far(clock):
    """A market that an order reaches fifty nanoseconds late."""
    market = PaperMarket(clock, latency_ns=50)
    market.trust(trusted=True)
    market.depth(BIDS, ASKS, clock.ns)
    return market


def test_a_post_only_order_that_a_real_one_would_find_crossed_is_refused_and_never_filled(far, clock):
    mine = order("mine", Side.ASK, 5_050, 30, post_only=True)
    far.submit(mine)
    (refused,) = far.depth([(5_080, 12), (5_000, 100)], [(5_100, 80)], clock.ns + 50)
    assert (refused.order, refused.size, refused.reason) == (mine, 30, CancelReason.POST_ONLY_CROSS)
    assert far.levels(Side.BID) == [(5_080, 12), (5_000, 100)]
    assert far.levels(Side.ASK) == [(5_100, 80)]


def test_an_order_still_on_its_way_takes_the_level_that_crosses_it_at_that_price(far, clock):
    mine = order("mine", Side.ASK, 5_050, 30)
    far.submit(mine)
    events = far.depth([(5_080, 12), (5_060, 5), (5_000, 100)], [(5_100, 80)], clock.ns + 50)
    assert [(event.taker, event.price, event.size) for event in events] == [(mine, 5_080, 12), (mine, 5_060, 5)]
    assert [(why.how, why.price, why.live, why.taken) for why in far.evidence()] == [
        ("took", 5_080, 12, 12),
        ("took", 5_060, 5, 5),
    ]
    assert (far.best_bid(), mine.remaining, far.level_size(Side.ASK, 5_050)) == (5_000, 13, 13)


def test_who_stood_there_meets_a_crossing_level_before_who_is_on_its_way(far, clock):
    far.submit(order("early", Side.ASK, 5_050, 10))
    clock.ns += 100
    far.submit(order("late", Side.ASK, 5_040, 30))
    events = far.depth([(5_080, 12), (5_000, 100)], [(5_100, 80)], clock.ns)
    early, late = events
    assert (early.maker.order_id, early.price, early.size) == ("early", 5_050, 10)
    assert (late.taker.order_id, late.price, late.size) == ("late", 5_080, 2)
    # One that arrived by the time of the depth is a maker like any other.
    later = far.depth([(5_080, 15), (5_000, 100)], [(5_100, 80)], clock.ns + 51)
    assert filled(later) == [("late", 5_040, 3)]


def test_a_book_not_trusted_fills_nothing_and_takes_nobody_but_keeps_what_rests(market, clock):
    mine = order("mine", Side.BID, 5_000, 30)
    market.submit(mine)
    market.trust(trusted=False)
    assert market.trade(4_900, 500, Side.ASK, clock.ns + 1) == []
    assert market.depth([(4_800, 5)], [(4_900, 25)], clock.ns + 2) == []
    taker = order("taker", Side.BID, 5_200, 10, time_in_force=TimeInForce.IOC)
    (refused,) = market.submit(taker)
    assert refused.reason is CancelReason.VENUE
    assert mine.remaining == 30
    # What was heard meanwhile is true once the book is believed again: it crosses us.
    assert filled(market.trust(trusted=True)) == [("mine", 5_000, 25)]


def test_those_ahead_do_not_become_more_while_nobody_looked(market, clock):
    market.submit(order("mine", Side.BID, 5_000, 30))
    market.trust(trusted=False)
    market.depth([(5_000, 300)], ASKS, clock.ns + 1)
    market.trust(trusted=True)
    assert filled(market.trade(5_000, 110, Side.ASK, clock.ns + 2)) == [("mine", 5_000, 10)]


def test_a_book_that_crosses_itself_is_no_book(market, clock):
    market.depth([(5_200, 10)], [(5_100, 10)], clock.ns + 1)
    assert not market.is_trusted
    market.depth(BIDS, ASKS, clock.ns + 2)
    assert market.is_trusted


def test_an_order_out_of_sight_stands_behind_all_that_shows_there_first(clock):
    market = PaperMarket(clock, depth_max=1)
    market.trust(trusted=True)
    market.depth([(5_000, 10)], [], clock.ns)
    market.submit(order("mine", Side.BID, 4_900, 30))
    assert market.trade(4_900, 500, Side.ASK, clock.ns + 1) == []
    market.depth([(4_900, 70)], [], clock.ns + 2)
    assert market.trade(4_900, 70, Side.ASK, clock.ns + 3) == []
    assert filled(market.trade(4_900, 1, Side.ASK, clock.ns + 4)) == [("mine", 4_900, 1)]


def test_an_order_out_of_sight_has_nobody_ahead_once_its_place_is_seen_to_be_empty(clock):
    market = PaperMarket(clock, depth_max=1)
    market.trust(trusted=True)
    market.depth([(5_000, 10)], [], clock.ns)
    market.submit(order("mine", Side.BID, 4_900, 30))
    market.depth([(4_800, 70)], [], clock.ns + 1)
    market.depth([(4_900, 70)], [], clock.ns + 2)
    assert filled(market.trade(4_900, 4, Side.ASK, clock.ns + 3)) == [("mine", 4_900, 4)]


def test_prices_that_are_none_are_passed_over(market, clock):
    market.depth([(5_000, 10), (0, 5)], [(10_000, 5)], clock.ns + 1)
    assert market.trade(0, 5, Side.ASK, clock.ns + 2) == []
    assert market.levels(Side.ASK) == []
    assert market.levels(Side.BID) == [(5_000, 10)]


def test_live_sizes_count_in_whole_lots(clock):
    market = PaperMarket(clock, lot=10)
    market.trust(trusted=True)
    market.depth([], [(5_100, 39)], clock.ns)
    assert took(market.submit(order("a", Side.BID, 5_100, 100, time_in_force=TimeInForce.IOC))) == 30


def test_each_fill_says_why(market, clock):
    market.depth(BIDS, ASKS, clock.ns + 1, "depth:7:0")
    market.submit(order("a", Side.BID, 5_100, 60, time_in_force=TimeInForce.IOC))
    market.submit(order("b", Side.BID, 5_050, 5))
    market.trade(5_000, 8, Side.ASK, clock.ns + 9, "trade:1:2:3")
    first, second = market.evidence()
    assert (first.how, first.live, first.taken, first.cause) == ("took", 80, 60, "depth:7:0")
    assert (second.how, second.price, second.size, second.cause) == ("through", 5_050, 5, "trade:1:2:3")
    assert market.evidence() == []
