"""When a book is believed: SYNCING, LIVE, STALE, SUSPECT."""

from itertools import pairwise

import pytest

from derive.voice import RESYNC_PATIENT

A, B = "kalshi:A", "kalshi:B"
T0 = 1_790_000_000_000_000_000


def beat(log, until_ms, *, since_ms=0, epoch=1):
    """Let a feed tick every 250 ms."""
    for ms in range(since_ms + 250, until_ms + 1, 250):
        log.write(log.tick(ms=ms, epoch=epoch))


# --- who owns a book


def test_change_before_any_snapshot_makes_the_book_syncing(log):
    (quote,) = log.write(log.delta(4_700, 1))
    assert (quote.state, quote.bid_size, quote.cause) == ("SYNCING", 0, "no snapshot")
    assert log.write(log.delta(4_700, 1)) == []


def test_record_of_a_lower_epoch_is_dropped(log):
    log.write(log.snapshot(epoch=5))
    assert log.write(log.delta(4_700, 1, epoch=4)) == []
    assert log.write(log.snapshot(bids=[(1, 1)], epoch=4)) == []
    assert log.write(log.reset(epoch=4)) == []
    assert log.state() == "LIVE"


def test_record_of_the_owning_epoch_must_stand_above_the_last_origin(log):
    log.write(log.snapshot(frame_no=10, index=3))
    assert log.write(log.delta(4_700, 1, frame_no=10, index=3)) == []
    assert log.write(log.delta(4_700, 1, frame_no=9, index=9)) == []
    assert log.write(log.delta(4_700, 1, frame_no=10, index=4))[1].bid_size == 4
    assert log.write(log.delta(4_700, 1, frame_no=11))[1].bid_size == 5


def test_higher_epoch_is_ignored_until_its_snapshot_takes_the_book_over(log):
    log.write(log.snapshot(epoch=1, frame_no=90))
    assert log.write(log.delta(4_700, 1, epoch=2, frame_no=1)) == []
    assert log.write(log.delta(4_700, 1, epoch=1, frame_no=91))[1].bid_size == 4
    _, quote = log.write(log.snapshot(epoch=2, frame_no=2))
    assert (quote.epoch, quote.bid_size) == (2, 3)
    assert log.write(log.delta(4_700, 1, epoch=1, frame_no=92)) == []
    assert log.write(log.delta(4_700, 1, epoch=2, frame_no=3))[1].bid_size == 4


def test_late_close_of_the_old_feed_does_no_harm(log):
    log.write(log.snapshot(epoch=1))
    log.write(log.snapshot(epoch=2))
    assert log.write(log.reset(epoch=1, closed=True)) == []
    assert log.state() == "LIVE"


# --- what makes it suspect


def test_reset_of_the_feed_makes_all_its_books_suspect_and_only_a_snapshot_heals(log):
    log.write(log.snapshot())
    log.write(log.snapshot(instrument=B))
    log.write(log.snapshot(instrument="kalshi:C", epoch=2))
    log.write(log.reset())
    assert [log.state(A), log.state(B), log.state("kalshi:C")] == ["SUSPECT", "SUSPECT", "LIVE"]
    assert log.write(log.delta(4_700, 1)) == []
    _, quote = log.write(log.snapshot(bids=[(4_800, 9)]))
    assert (quote.state, quote.bid_price, quote.bid_size) == ("LIVE", 4_800, 9)
    assert log.state(B) == "SUSPECT"


def test_reset_of_one_instrument_leaves_the_others(log):
    log.write(log.snapshot())
    log.write(log.snapshot(instrument=B))
    log.write(log.reset(B, "kalshi:UNKNOWN"))
    assert [log.state(A), log.state(B)] == ["LIVE", "SUSPECT"]


def test_snapshot_from_before_the_reset_does_not_heal(log):
    log.write(log.snapshot(frame_no=1))
    log.write(log.reset(frame_no=5))
    assert log.write(log.snapshot(frame_no=4)) == []
    assert log.write(log.snapshot(frame_no=5, index=0)) == []
    assert log.state() == "SUSPECT"
    log.write(log.snapshot(frame_no=6))
    assert log.state() == "LIVE"


def test_level_below_zero_makes_the_book_suspect(live):
    quote, resync = live.write(live.delta(4_700, -4))
    assert quote.state == "SUSPECT"
    assert quote.cause == "negative level: expected a level of at least 0 at 4700, found 3 and a change to -1"
    assert (resync.instrument, resync.venue, resync.epoch, resync.cause) == (A, "kalshi", 1, quote.cause)


@pytest.mark.parametrize("wrong", [{"side": "UNKNOWN"}, {"kind": "UNKNOWN"}, {"price_exp": -2}])
def test_change_that_cannot_follow_the_snapshot_makes_the_book_suspect(live, wrong):
    live.write(live.delta(4_700, 1, **wrong))
    assert live.state() == "SUSPECT"


@pytest.mark.parametrize("bids", [[(4_700, 0)], [(4_700, -1)], [(4_700, 1), (4_700, 2)]])
def test_snapshot_that_is_no_book_makes_it_suspect(live, bids):
    live.write(live.snapshot(bids=bids))
    assert live.state() == "SUSPECT"


def test_end_of_the_feed_makes_its_books_suspect_and_the_next_feed_heals_them(live):
    live.write(live.reset(closed=True, reason="socket closed"))
    assert (live.state(), live.quotes()[-1].cause) == ("SUSPECT", "socket closed")
    live.write(live.snapshot(epoch=2))
    assert live.state() == "LIVE"


# --- a crossed book


def test_crossed_book_shows_no_price_and_heals_by_itself_within_a_second(live):
    (dark,) = live.write(live.delta(5_250, 1, ms=10))
    assert (dark.state, dark.cause) == ("STALE", "crossed")
    beat(live, 750)
    depth, quote = live.write(live.delta(5_200, -4, side="SELL", ms=900))
    assert (quote.state, quote.bid_price, quote.ask_price) == ("LIVE", 5_250, 5_300)
    assert depth.ask_prices == [5_300]


def test_locked_book_counts_as_crossed(live):
    live.write(live.delta(5_200, 1, ms=10))
    assert live.state() == "STALE"


def test_book_that_stays_crossed_for_more_than_a_second_is_suspect(live):
    live.write(live.delta(5_250, 1, ms=10))
    beat(live, 1_000)
    assert live.state() == "STALE"
    beat(live, 1_250, since_ms=1_000)
    assert (live.state(), live.quotes()[-1].cause) == ("SUSPECT", "crossed for more than 1000 ms")
    live.write(live.delta(5_250, -1, ms=1_300))
    assert live.state() == "SYNCING"


def test_each_crossing_has_its_own_second(live):
    for n in range(4):
        live.write(live.delta(5_250, 1, ms=n * 700))
        live.write(live.tick(ms=n * 700 + 1))
        live.write(live.delta(5_250, -1, ms=n * 700 + 300))
        live.write(live.tick(ms=n * 700 + 301))
    assert live.state() == "LIVE"
    assert "SUSPECT" not in live.states()


# --- a feed that falls silent


def test_feed_whose_ticks_stop_makes_its_books_stale_and_they_heal_by_themselves(live):
    live.write(live.snapshot(instrument=B, epoch=2))
    beat(live, 1_000, epoch=2)
    assert (live.state(A), live.state(B)) == ("LIVE", "LIVE")
    beat(live, 1_250, since_ms=1_000, epoch=2)
    assert (live.state(A), live.quotes(A)[-1].cause) == ("STALE", "feed silent")
    assert live.state(B) == "LIVE"
    # What arrives meanwhile is applied: the book is right, only late.
    assert live.write(live.delta(4_700, 4, ms=1_300)) == []
    depth, quote = live.write(live.tick(ms=1_400))[:2]
    assert (quote.state, quote.bid_size) == ("LIVE", 7)
    assert depth.bid_sizes == [7, 5]


def test_silence_is_said_before_a_tick_that_would_hide_it(live):
    records = live.write(live.tick(ms=5_000, epoch=2))
    assert [getattr(record, "state", "tick") for record in records] == ["STALE", "tick"]


def test_ticks_that_come_too_late_do_not_heal(live):
    live.write(live.tick(ms=5_000, epoch=2))
    assert live.write(live.tick(ms=3_000)) == []
    assert live.state() == "STALE"
    live.write(live.tick(ms=4_900))
    assert live.state() == "LIVE"


def test_snapshot_over_a_silent_feed_is_stale_until_the_feed_ticks(live):
    live.write(live.tick(ms=5_000, epoch=2))
    live.write(live.reset(ms=5_000))
    live.write(live.snapshot(ms=100, frame_no=900))
    assert (live.state(), live.quotes()[-1].cause) == ("STALE", "feed silent")


def test_takeover_by_a_snapshot_that_is_late_is_stale_until_its_feed_ticks(live):
    beat(live, 5_000)
    live.write(live.snapshot(epoch=2, ms=1_000))
    assert (live.state(), live.quotes()[-1].cause) == ("STALE", "feed silent")
    live.write(live.tick(ms=5_010, epoch=2))
    assert live.state() == "LIVE"


def test_feed_that_was_silent_for_minutes_still_heals(live):
    beat(live, 120_000, epoch=2)
    assert live.state() == "STALE"
    live.write(live.tick(ms=120_100))
    assert live.state() == "LIVE"


def test_takeover_by_a_feed_that_speaks_heals_staleness(live):
    beat(live, 3_000, epoch=2)
    assert live.state() == "STALE"
    live.write(live.snapshot(epoch=2, ms=3_001))
    assert live.state() == "LIVE"


# --- status


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("PAUSED", "market paused"),
        ("CLOSED", "market closed"),
        ("DETERMINED", "market closed"),
        ("SETTLED", "market closed"),
    ],
)
def test_market_that_does_not_trade_shows_no_price(live, status, cause):
    _, quote = live.write(live.status(status, venue_ts_ns=5))
    assert (quote.state, quote.cause) == ("STALE", cause)
    _, depth, quote = live.write(live.status("OPEN", venue_ts_ns=6))
    assert (quote.state, quote.bid_price) == ("LIVE", 4_700)
    assert depth.bid_prices[0] == 4_700


def test_status_that_comes_before_the_book_counts(log):
    log.write(log.status("PAUSED", venue_ts_ns=5))
    log.write(log.snapshot())
    assert log.states() == ["STALE"]


def test_newest_status_by_venue_time_wins_whichever_feed_brings_it(live):
    assert live.write(live.status("PAUSED", venue_ts_ns=50, epoch=9))
    assert live.write(live.status("OPEN", venue_ts_ns=40, epoch=1)) == []
    assert live.write(live.status("PAUSED", venue_ts_ns=50, epoch=3)) == []
    assert live.state() == "STALE"
    # Said again by another feed a little later: nothing new.
    assert live.write(live.status("PAUSED", venue_ts_ns=51, epoch=3)) == []
    assert live.write(live.status("OPEN", venue_ts_ns=60, epoch=3))
    assert live.state() == "LIVE"


def test_status_unknown_leaves_the_state_as_it_is(live):
    live.write(live.status("PAUSED", venue_ts_ns=5))
    assert len(live.write(live.status("UNKNOWN", venue_ts_ns=6, reason="close_date_updated"))) == 1
    assert live.state() == "STALE"


# --- asking for a snapshot


def asked_at_ms(log):
    return [(resync.ts_ns - T0) // 1_000_000 for resync in log.resyncs()]


def test_suspect_book_asks_at_once_and_again_with_growing_pauses(live):
    live.write(live.delta(4_700, -4, ms=0))
    beat(live, 100_000)
    times = asked_at_ms(live)
    # Each at the first tick after 1, 2, 4, 8, 16, 30, 30 s.
    assert times == [0, 1_250, 3_250, 7_250, 15_250, 31_250, 61_250, 91_250]


def test_reset_of_a_whole_feed_leaves_its_worker_a_second_to_recover(live):
    live.write(live.reset())
    assert live.resyncs() == []
    beat(live, 5_000)
    assert asked_at_ms(live) == [1_250, 2_250, 4_250]


def test_snapshot_ends_the_asking(live):
    live.write(live.delta(4_700, -4))
    live.write(live.snapshot(ms=500))
    beat(live, 10_000)
    assert asked_at_ms(live) == [0]


def test_book_without_a_snapshot_asks_too(log):
    log.write(log.delta(4_700, 1))
    beat(log, 1_500)
    assert asked_at_ms(log) == [1_000]


def test_a_dead_book_asks_ever_more_seldom(live):
    live.write(live.delta(4_700, -4, ms=0))
    for ms in range(0, 24 * 3_600_000, 5_000):
        live.write(live.tick(ms=ms + 1))
    times = asked_at_ms(live)
    assert 140 < len(times) < 160
    assert times[RESYNC_PATIENT - 1] < 1.1 * 3_600_000
    assert all(3_600_000 <= later - earlier <= 3_605_000 for earlier, later in pairwise(times[-10:]))
    # A new reason to ask is asked for at once again.
    live.write(live.snapshot(ms=86_400_000))
    live.write(live.delta(4_700, -4, ms=86_400_001))
    live.beat(86_404_000, since_ms=86_400_000)
    assert [ms - 86_400_000 for ms in asked_at_ms(live)[len(times) :]] == [1, 1_250, 3_250]


def test_closed_market_asks_for_nothing(live):
    live.write(live.status("SETTLED", venue_ts_ns=5))
    live.write(live.delta(4_700, -4))
    beat(live, 10_000)
    assert live.resyncs() == []
    assert live.said() == ("STALE", "market closed")
    # It was not right all the while, and if the market opens again it says so and asks.
    live.write(live.status("OPEN", venue_ts_ns=6, ms=10_100))
    assert live.state() == "SUSPECT"
    beat(live, 11_000, since_ms=10_100)
    assert len(live.resyncs()) == 1


def test_second_contradiction_keeps_the_first_cause(live):
    live.write(live.delta(4_700, -4))
    cause = live.quotes()[-1].cause
    assert live.write(live.reset(A)) == []
    assert live.quotes()[-1].cause == cause


# --- trades


def test_trade_with_an_id_passes_once_whichever_feed_brings_it(live):
    assert live.write(live.trade("t1", epoch=1))
    assert live.write(live.trade("t1", epoch=2)) == []
    assert live.write(live.trade("t2", epoch=2))


def test_trade_without_an_id_passes_by_its_place_in_the_owning_feed(live):
    assert live.write(live.trade(frame_no=100))
    assert live.write(live.trade(frame_no=100)) == []
    assert live.write(live.trade(frame_no=100, index=1))
    assert live.write(live.trade(epoch=2)) == []


def test_trades_do_not_move_the_books_origin(live):
    live.write(live.trade("t1", frame_no=100))
    assert live.write(live.delta(4_700, 1, frame_no=99))


def test_trade_memory_is_bounded_and_old_feeds_are_dropped(live):
    for epoch in range(10, 16):
        live.write(live.trade(f"t{epoch}", epoch=epoch))
    assert live.write(live.trade("late", epoch=9)) == []
    for n in range(2_000):
        assert live.write(live.trade(f"x{n}", epoch=15))
    assert live.write(live.trade("x1999", epoch=14)) == []


def test_record_of_an_unknown_kind_is_counted(log, live):
    assert log.write(live.quotes()[0]) == []
    assert log.task.counters == {"unknown.Quote": 1}
