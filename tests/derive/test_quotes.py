"""What is shown of a book, and when."""

import pytest

from core.runtime import topics
from core.runtime.flow import BY_KEY
from derive.quotes import imbalance_e6, microprice_e6
from schemas import derived

A = "kalshi:A"
T0 = 1_790_000_000_000_000_000


def test_snapshot_becomes_depth_then_the_quote_that_names_it(log):
    depth, quote = log.write(log.snapshot(venue_ts_ns=11))
    assert type(depth) is derived.Depth
    assert (depth.instrument, depth.state, depth.price_exp, depth.size_exp) == (A, "LIVE", -4, -6)
    assert (depth.bid_prices, depth.bid_sizes) == ([4_700, 4_600], [3, 5])
    assert (depth.ask_prices, depth.ask_sizes) == ([5_200, 5_300], [4, 6])
    assert (depth.version_offset, depth.version_index) == (0, 0)
    assert type(quote) is derived.Quote
    assert (quote.version_offset, quote.version_index) == (0, 1)
    assert (quote.depth_offset, quote.depth_index) == (0, 0)
    assert (quote.state, quote.cause, quote.epoch) == ("LIVE", "", 1)
    assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (4_700, 3, 5_200, 4)
    assert (quote.venue_ts_ns, quote.recv_ts_ns, quote.trail) == (11, T0, [7])
    assert not depth.repeat
    assert not quote.repeat


def test_quotes_and_depths_are_keyed_by_instrument(log):
    log.write(log.snapshot())
    assert [(o.topic, o.key, o.partition) for o in log.outputs] == [(topics.DERIVED_BOOK, A, BY_KEY)] * 2


def test_signed_change_is_added_and_absolute_change_replaces(live):
    _, quote = live.write(live.delta(4_700, 2))
    assert quote.bid_size == 5
    _, quote = live.write(live.delta(4_700, 2, kind="ABSOLUTE"))
    assert quote.bid_size == 2
    _, quote = live.write(live.delta(5_200, -4, side="SELL"))
    assert (quote.ask_price, quote.ask_size) == (5_300, 6)
    assert (quote.version_offset, quote.version_index, quote.depth_offset, quote.depth_index) == (4, 1, 4, 0)


def test_change_below_the_best_price_but_within_ten_levels_is_shown(live):
    depth, quote = live.write(live.delta(4_600, 1))
    assert depth.bid_sizes == [3, 6]
    assert quote.bid_size == 3


def test_change_below_ten_levels_shows_nothing(log):
    log.write(log.snapshot(bids=[(4_700 - n, 1) for n in range(12)]))
    assert log.write(log.delta(4_700 - 11, 5)) == []
    assert log.write(log.delta(4_700 - 20, 5)) == []
    depth, _ = log.write(log.delta(4_700 - 3, 5))
    assert len(depth.bid_prices) == 10


def test_level_that_rises_into_the_top_ten_is_shown(log):
    log.write(log.snapshot(bids=[(4_700 - n, n + 1) for n in range(12)]))
    depth, _ = log.write(log.delta(4_700, -1))
    assert (depth.bid_prices[0], depth.bid_prices[-1], depth.bid_sizes[-1]) == (4_699, 4_690, 11)


def test_change_that_changes_nothing_shows_nothing(live):
    assert live.write(live.delta(4_700, 3, kind="ABSOLUTE")) == []
    assert live.write(live.delta(4_000, 0, kind="ABSOLUTE")) == []
    assert live.write(live.snapshot(frame_no=50)) == []


def test_empty_side_is_a_quote_of_size_zero(log):
    _, quote = log.write(log.snapshot(asks=[]))
    assert (quote.bid_price, quote.ask_price, quote.ask_size) == (4_700, 0, 0)
    assert (quote.imbalance_e6, quote.microprice_e6) == (1_000_000, 0)


def test_book_that_is_not_live_shows_no_price_no_size_no_depth(live):
    (quote,) = live.write(live.reset())
    assert (quote.state, quote.cause) == ("SUSPECT", "expected seq 4, found 6")
    assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (0, 0, 0, 0)
    assert (quote.imbalance_e6, quote.microprice_e6) == (0, 0)
    assert (quote.depth_offset, quote.depth_index) == (-1, -1)


@pytest.mark.parametrize(("bid", "ask", "expected"), [(3, 1, 500_000), (1, 3, -500_000), (2, 2, 0), (0, 0, 0)])
def test_imbalance_is_the_difference_over_the_sum(bid, ask, expected):
    assert imbalance_e6(bid, ask) == expected


def test_microprice_leans_to_the_side_with_less_on_it():
    assert microprice_e6(4_000, 1, 5_000, 1, -4) == 450_000
    assert microprice_e6(4_000, 3, 5_000, 1, -4) == 475_000
    assert microprice_e6(4_000, 1, 5_000, 0, -4) == 0
    assert microprice_e6(123, 1, 125, 1, 0) == 124_000_000
    assert microprice_e6(12_300_000_000, 1, 12_500_000_000, 1, -8) == 124_000_000


def test_every_ten_seconds_a_book_is_repeated_under_its_version(live):
    first = live.outputs[:2]
    for n in range(1, 39):
        live.write(live.tick(ms=250 * n))
    assert not any(getattr(o.record, "repeat", False) for o in live.outputs)
    for n in range(39, 42):
        live.write(live.tick(ms=250 * n))
    repeated = [o for o in live.outputs if getattr(o.record, "repeat", False)]
    assert [type(o.record) for o in repeated] == [derived.Depth, derived.Quote]
    for one, again in zip(first, repeated, strict=True):
        assert again.key == A
        for field in one.record.__struct_fields__:
            if field != "repeat":
                assert getattr(again.record, field) == getattr(one.record, field)


def test_book_that_is_not_live_repeats_its_state(live):
    live.write(live.reset())
    for n in range(1, 45):
        live.write(live.tick(ms=250 * n))
    repeated = [o.record for o in live.outputs if getattr(o.record, "repeat", False)]
    assert [(type(one), one.state) for one in repeated] == [(derived.Quote, "SYNCING")]


def test_trades_and_statuses_are_passed_on_as_they_are(live):
    trade, status = live.trade("t1"), live.status("OPEN", venue_ts_ns=5)
    assert live.write(trade) == [trade]
    assert live.write(status) == [status]
    assert live.outputs[-1].topic == topics.DERIVED_BOOK


def test_tick_is_written_to_the_own_partition_and_at_most_every_100_ms(new_log):
    log = new_log(partition=2)
    times = [0, 30, 99, 100, 101, 250, 260, 500]
    ticks = [(ms, record) for ms in times for record in log.write(log.tick(ms=ms))]
    assert [ms for ms, _ in ticks] == [0, 100, 250, 500]
    assert all(type(record) is derived.Tick for _, record in ticks)
    assert [record.ts_ns - T0 for _, record in ticks] == [0, 100_000_000, 250_000_000, 500_000_000]
    assert {(o.partition, o.record.partition, o.topic.noun) for o in log.outputs} == {(2, 2, "derived.book")}


def test_tick_says_log_time_not_its_own(live):
    live.write(live.delta(4_700, 1, ms=900))
    (tick,) = live.write(live.tick(ms=850))
    assert tick.ts_ns == T0 + 900_000_000


def counted(log):
    return {name: count for name, count in log.task.sizes().items() if count}


def test_books_are_counted_by_state(live):
    assert live.task.sizes() == {
        "books UNKNOWN": 0,
        "books SYNCING": 0,
        "books LIVE": 1,
        "books SUSPECT": 0,
        "books STALE": 0,
        "books DEGRADED": 0,
        "books CLOSED": 0,
        "books PAUSED": 0,
        "stale feed silent": 0,
        "stale instrument silent": 0,
        "stale behind venue": 0,
        "stale crossed": 0,
    }


@pytest.mark.parametrize("status", ["CLOSED", "DETERMINED", "SETTLED"])
def test_a_book_of_a_closed_market_is_counted_as_closed_whatever_became_of_its_feed(live, status):
    live.write(live.status(status, venue_ts_ns=5))
    assert counted(live) == {"books CLOSED": 1}
    live.write(live.reset(closed=True, reason="closed: another feed took over"))
    assert (live.state(), counted(live)) == ("STALE", {"books CLOSED": 1})


def test_a_book_of_a_paused_market_is_counted_as_paused_unless_something_else_is_wrong(live):
    live.write(live.status("PAUSED", venue_ts_ns=5))
    assert counted(live) == {"books PAUSED": 1}
    live.write(live.delta(4_700, -4))
    assert counted(live) == {"books SUSPECT": 1}


def test_stale_books_are_counted_by_cause(live):
    live.write(live.tick(ms=5_000, epoch=2))
    assert live.said() == ("STALE", "feed silent")
    assert counted(live) == {"books STALE": 1, "stale feed silent": 1}


def test_a_depth_says_the_cause_of_its_state_as_the_quote_beside_it_does(log):
    depth, quote = log.write(log.snapshot(degraded=True))
    assert (depth.state, depth.cause) == (quote.state, quote.cause) == ("DEGRADED", "polled")
    log.write(log.tick(ms=1))
    depth, quote = log.write(log.snapshot(epoch=2, ms=2))
    assert (depth.state, depth.cause) == (quote.state, quote.cause) == ("LIVE", "")


def test_the_quote_of_a_dark_book_names_no_depth_so_the_last_one_counts_no_more(live):
    shown = live.depths()[-1]
    dark = live.write(live.delta(4_700, -4))[0]
    assert (dark.state, dark.depth_offset, dark.depth_index) == ("SUSPECT", -1, -1)
    assert live.depths()[-1] == shown
