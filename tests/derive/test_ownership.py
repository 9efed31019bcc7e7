"""Streamed and polled feeds over one book; feeds that are forgotten; what a Depth says of its origin."""

import pytest

from core.domain import trust

A = "kalshi:A"
T0 = 1_790_000_000_000_000_000


def polled(log, price=4_000, *, ms=0.0, epoch=2, **place):
    return log.write(log.snapshot([(price, 1)], [], ms=ms, epoch=epoch, degraded=True, **place))


def streamed(log, price=4_500, *, ms=0.0, epoch=1, **place):
    return log.write(log.snapshot([(price, 1)], [], ms=ms, epoch=epoch, **place))


def best(log):
    quote = log.quotes()[-1]
    return quote.state, quote.bid_price, quote.epoch


# --- a polled book is shown and marked


def test_polled_book_shows_its_price_as_degraded(log):
    depth, quote = polled(log)
    assert (depth.state, quote.state, quote.cause) == ("DEGRADED", "DEGRADED", trust.POLLED)
    assert (quote.bid_price, quote.bid_size, depth.bid_prices) == (4_000, 1, [4_000])
    assert (quote.depth_offset, quote.depth_index) == (depth.version_offset, depth.version_index)
    _, quote = polled(log, 4_100)
    assert (quote.state, quote.bid_price) == ("DEGRADED", 4_100)
    assert log.resyncs() == []


def test_poll_that_says_the_same_is_not_said_again(log):
    polled(log)
    assert polled(log) == []


def test_polled_book_is_stale_when_its_feed_stops_and_suspect_when_it_ends(log):
    polled(log)
    log.beat(1_500, epochs=[9])
    assert log.said() == ("STALE", trust.FEED_SILENT)
    log.write(log.tick(ms=1_600, epoch=2))
    assert log.said() == ("DEGRADED", trust.POLLED)
    log.write(log.reset(ms=1_700, epoch=2, closed=True, reason="closed: answers again"))
    assert log.said() == ("SUSPECT", "closed: answers again")


# --- who owns the book


def test_streamed_book_of_a_higher_epoch_takes_a_polled_one_over(log):
    polled(log, epoch=2)
    streamed(log, epoch=3)
    assert best(log) == ("LIVE", 4_500, 3)
    assert polled(log, 4_001, epoch=2) == []


def test_polled_feed_that_opens_later_does_not_displace_a_live_book(log):
    streamed(log, epoch=1)
    assert polled(log, epoch=2) == []
    assert best(log) == ("LIVE", 4_500, 1)
    log.write(log.delta(4_500, 5))
    assert log.quotes()[-1].bid_size == 6


@pytest.mark.parametrize("state", ["suspect", "silent"])
def test_polled_feed_takes_over_where_the_stream_fails(log, state):
    streamed(log, epoch=1)
    if state == "suspect":
        log.write(log.reset(ms=1))
    else:
        log.beat(2_000, epochs=[2])
    polled(log, epoch=2, ms=2_010)
    assert best(log) == ("DEGRADED", 4_000, 2)


@pytest.mark.parametrize("cause", ["crossed", "paused", "late"])
def test_polled_feed_does_not_take_over_what_heals_by_itself(log, cause):
    log.write(log.snapshot())
    if cause == "crossed":
        log.write(log.delta(5_250, 1, ms=10))
    elif cause == "paused":
        log.write(log.status("PAUSED", venue_ts_ns=5))
    else:
        for late_ms, ms in ((0, 10), (5_000, 20)):
            log.write(log.delta(4_700, 1, ms=ms, venue_ts_ns=T0 + (ms - late_ms) * 1_000_000))
    assert log.state() == "STALE"
    assert polled(log, epoch=2, ms=30) == []


def test_recovered_stream_takes_its_book_back_from_a_polled_feed_of_a_higher_epoch(log):
    streamed(log, epoch=1, frame_no=10)
    log.write(log.reset(epoch=1, frame_no=11))
    polled(log, epoch=2, frame_no=1)
    assert log.write(log.delta(4_500, 1, epoch=1, frame_no=12)) == []
    streamed(log, 4_600, epoch=1, frame_no=13)
    assert best(log) == ("LIVE", 4_600, 1)
    assert polled(log, epoch=2, frame_no=2) == []


def test_old_words_of_a_stream_do_not_take_a_polled_book_over(log):
    streamed(log, epoch=1, frame_no=10)
    log.write(log.reset(epoch=1, frame_no=20))
    polled(log, epoch=2)
    # A restarted normalise says again what it said before the end of the feed, and the end itself.
    assert streamed(log, epoch=1, frame_no=10) == []
    assert streamed(log, epoch=1, frame_no=19) == []
    log.write(log.reset(epoch=1, frame_no=30, closed=True, reason="closed: end"))
    assert streamed(log, epoch=1, frame_no=25) == []
    assert best(log) == ("DEGRADED", 4_000, 2)


def test_old_words_of_a_polled_feed_do_not_take_a_suspect_book_over(log):
    polled(log, epoch=2, frame_no=5)
    streamed(log, epoch=3)
    log.write(log.reset(epoch=3))
    assert polled(log, 3_000, epoch=2, frame_no=4) == []
    assert log.state() == "SUSPECT"
    polled(log, 4_100, epoch=2, frame_no=6)
    assert best(log) == ("DEGRADED", 4_100, 2)


# --- feeds that are forgotten


def test_tick_older_than_a_minute_is_no_news_of_a_forgotten_feed(log):
    log.write(log.tick(ms=0, epoch=7))
    log.beat(70_000, epochs=[1])
    assert set(log.task._shelf.feeds) == {1}
    before = len(log.outputs)
    log.write(log.tick(ms=250, epoch=7))
    assert (set(log.task._shelf.feeds), len(log.outputs)) == ({1}, before)
    assert log.task.counters["tick.dropped"] == 1


def test_tick_that_is_late_by_less_is_news(log):
    log.beat(70_000, epochs=[1])
    log.write(log.tick(ms=20_000, epoch=7))
    assert set(log.task._shelf.feeds) == {1, 7}


def test_feed_that_owns_a_book_is_never_forgotten_so_its_repeated_ticks_are_known(live):
    live.beat(500)
    live.beat(200_000, epochs=[2])
    assert live.said() == ("STALE", trust.FEED_SILENT)
    # What was in the log before is in it again: it must heal nothing.
    live.write(live.tick(ms=500))
    live.write(live.tick(ms=199_990, epoch=2))
    assert live.said() == ("STALE", trust.FEED_SILENT)
    live.write(live.tick(ms=200_100))
    assert live.said() == ("LIVE", "")


def test_feed_is_forgotten_once_another_has_taken_its_books(live):
    live.beat(1_000)
    live.write(live.snapshot(epoch=2, ms=1_100))
    live.beat(80_000, since_ms=1_000, epochs=[2])
    assert set(live.task._shelf.feeds) == {2}


# --- a Depth names what it was made of


def test_depth_names_the_last_record_applied_to_its_book(log):
    depth, _ = log.write(log.snapshot(frame_no=10, index=3))
    assert (depth.epoch, depth.book_frame_no, depth.book_index) == (1, 10, 3)
    depth, _ = log.write(log.delta(4_700, 1, frame_no=12, index=1))
    assert (depth.book_frame_no, depth.book_index) == (12, 1)
    # Below the ten that are shown, a change is applied and not shown.
    for n in range(10):
        log.write(log.delta(4_000 - n, 1, frame_no=13 + n))
    log.write(log.delta(100, 1, frame_no=50))
    log.write(log.status("PAUSED", venue_ts_ns=5))
    _, depth, _ = log.write(log.status("OPEN", venue_ts_ns=6))
    assert (depth.book_frame_no, depth.book_index) == (50, 0)


def test_depth_that_heals_with_a_late_feed_names_the_change_that_healed_it(live):
    live.write(live.delta(4_700, 1, ms=10, venue_ts_ns=T0))
    live.write(live.delta(4_700, 1, ms=500, venue_ts_ns=T0 - 5_000_000_000))
    assert live.said() == ("STALE", trust.BEHIND_VENUE)
    delta = live.delta(4_700, 1, ms=510, venue_ts_ns=T0 + 500_000_000)
    depth, quote = live.write(delta)
    assert (depth.book_frame_no, depth.bid_sizes[0], quote.state) == (delta.frame_no, 6, "LIVE")
