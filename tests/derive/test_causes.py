"""Each cause of distrust: what brings it, the word it is said with, and what ends it."""

import pytest

from core.domain import trust
from core.domain.errors import Misconfigured
from core.runtime.settings import load
from derive.limits import TrustLimits
from derive.settings import DeriveSettings

A, B = "kalshi:A", "kalshi:B"
T0 = 1_790_000_000_000_000_000
MS = 1_000_000


# --- SUSPECT: only a snapshot heals


@pytest.mark.parametrize(
    "reason",
    [
        "gap: sid 1: expected seq 4, found 6",
        "closed: keep-alive missed",
        "tick size 100e-4 became 10e-4",
        "unparseable: rejected orderbook_delta",
    ],
)
def test_reset_is_said_with_its_cause_and_costs_the_books_of_the_subscription_their_prices(live, reason):
    live.write(live.snapshot(instrument=B))
    live.write(live.snapshot(instrument="kalshi:C", epoch=2))
    live.write(live.reset(reason=reason))
    assert live.said(A) == live.said(B) == ("SUSPECT", reason)
    assert trust.cause_in(reason, trust.SUSPECT_CAUSES)
    dark = live.quotes(A)[-1]
    assert (dark.bid_size, dark.ask_size, dark.depth_offset) == (0, 0, -1)
    assert live.said("kalshi:C") == ("LIVE", "")
    live.write(live.snapshot())
    assert (live.said(A), live.said(B)[0]) == (("LIVE", ""), "SUSPECT")


def test_level_below_zero(live):
    live.write(live.delta(4_700, -4))
    assert trust.cause_in(live.said()[1]) == trust.NEGATIVE_LEVEL


@pytest.mark.parametrize("wrong", [{"side": "UNKNOWN"}, {"kind": "UNKNOWN"}, {"price_exp": -2}])
def test_change_that_does_not_belong_to_the_snapshot_is_a_gap(live, wrong):
    live.write(live.delta(4_700, 1, **wrong))
    assert trust.cause_in(live.said()[1]) == trust.GAP


def test_book_crossed_for_longer_than_its_limit(new_log):
    log = new_log(crossed_ms=300).live()
    log.write(log.delta(5_250, 1, ms=10))
    assert log.said() == ("STALE", trust.CROSSED)
    log.write(log.tick(ms=250))
    assert log.said() == ("STALE", trust.CROSSED)
    log.write(log.tick(ms=500))
    assert log.said() == ("SUSPECT", "crossed for more than 300 ms")


def test_suspect_book_is_syncing_once_it_has_asked_and_says_since_when(live):
    live.write(live.reset(ms=10, reason="gap: expected 4, found 6"))
    live.beat(1_000)
    assert (live.said(), live.resyncs()) == (("SUSPECT", "gap: expected 4, found 6"), [])
    live.beat(1_250, since_ms=1_000)
    assert [one.cause for one in live.resyncs()] == ["gap: expected 4, found 6"]
    assert live.said() == ("SYNCING", "no snapshot: since gap: expected 4, found 6")
    live.write(live.snapshot(ms=1_300))
    assert live.states() == ["LIVE", "SUSPECT", "SYNCING", "LIVE"]


def test_suspect_book_of_a_closed_market_does_not_claim_to_wait(live):
    live.write(live.status("CLOSED", venue_ts_ns=5))
    live.write(live.reset(reason="closed: end"))
    live.beat(3_000)
    assert (live.said(), live.resyncs()) == (("STALE", "market closed"), [])


# --- STALE: heals by itself


def test_feed_whose_ticks_stop(new_log):
    log = new_log(feed_silent_ms=500).live()
    log.beat(500, epochs=[2])
    assert log.said() == ("LIVE", "")
    log.beat(750, since_ms=500, epochs=[2])
    assert log.said() == ("STALE", trust.FEED_SILENT)
    log.write(log.tick(ms=760))
    assert log.said() == ("LIVE", "")


def spoken(log, ms, *, late_ms=0, instrument=A, epoch=1, skew_ms=0):
    """Write a change that the venue says to have happened `late_ms` before it came."""
    venue_ts_ns = T0 + int((ms - 40 - late_ms + skew_ms) * MS)
    return log.write(log.delta(4_700, 1, ms=ms, venue_ts_ns=venue_ts_ns, instrument=instrument, epoch=epoch))


def test_records_far_behind_the_venues_time_make_their_feed_stale_until_they_come_in_time(live):
    live.write(live.snapshot(instrument=B))
    live.write(live.snapshot(instrument="kalshi:C", epoch=2))
    spoken(live, 100)
    live.beat(1_000, epochs=[1, 2])
    quote = spoken(live, 1_100, late_ms=2_500)[0]
    assert (quote.state, quote.cause) == ("STALE", trust.BEHIND_VENUE)
    assert (live.said(B), live.said("kalshi:C")) == (("STALE", trust.BEHIND_VENUE), ("LIVE", ""))
    assert spoken(live, 1_150, late_ms=2_400) == []
    spoken(live, 1_200, late_ms=10)
    assert (live.said(A), live.said(B)) == (("LIVE", ""), ("LIVE", ""))
    # What came late was applied: the book is right, and names the change it holds last.
    depth = live.depths()[-1]
    assert (depth.bid_sizes[0], depth.book_frame_no) == (7, live.frame_no)


def test_lateness_ends_when_the_feed_says_nothing_late_any_more(live):
    spoken(live, 100)
    spoken(live, 200, late_ms=3_000)
    live.beat(5_000)
    assert live.said() == ("STALE", trust.BEHIND_VENUE)
    live.beat(5_500, since_ms=5_000)
    assert live.said() == ("LIVE", "")


@pytest.mark.parametrize("skew_ms", [-9_000, 9_000, 3_600_000])
def test_constant_skew_of_the_venues_clock_is_no_lateness(live, skew_ms):
    for n in range(100):
        spoken(live, 100 + n, skew_ms=skew_ms)
    assert set(live.states()) == {"LIVE"}


FAR = "behind venue: by more than 10000 ms"


def test_lateness_above_the_absolute_limit_is_never_taken_for_usual(live):
    for second in range(2_000):
        live.write(live.tick(ms=1_000 * second))
        spoken(live, 1_000 * second, late_ms=600_000 if second >= 300 else 0)
        assert live.said() == (("STALE", FAR) if second >= 300 else ("LIVE", "")), second
    live.write(live.tick(ms=2_000_000))
    spoken(live, 2_000_000)
    assert live.said() == ("LIVE", "")


def test_the_absolute_limit_holds_from_the_first_change(live):
    spoken(live, 100, late_ms=10_100)
    assert live.said() == ("STALE", FAR)


def test_a_feed_far_behind_does_not_recover_by_saying_nothing(live):
    spoken(live, 100, late_ms=60_000)
    live.beat(30_000)
    assert live.said() == ("STALE", FAR)
    live.write(live.snapshot(ms=30_100, epoch=2))
    assert live.said() == ("LIVE", "")


def test_a_feed_less_far_behind_is_late_by_the_relative_limit(live):
    spoken(live, 100)
    spoken(live, 200, late_ms=60_000)
    spoken(live, 300, late_ms=4_000)
    assert live.said() == ("STALE", trust.BEHIND_VENUE)
    live.beat(6_000)
    assert live.said() == ("LIVE", "")


def test_both_limits_are_settings_of_the_task(new_log):
    log = new_log(behind_venue_ms=0, behind_venue_max_ms=500).live()
    spoken(log, 100, late_ms=440)
    assert log.said() == ("LIVE", "")
    spoken(log, 200, late_ms=470)
    assert log.said() == ("STALE", "behind venue: by more than 500 ms")


@pytest.mark.parametrize("skew_ms", [-5_000, 5_000])
def test_skew_of_some_seconds_leaves_no_trace_once_it_is_over(live, skew_ms):
    for second in range(600):
        live.write(live.tick(ms=1_000 * second))
        spoken(live, 1_000 * second, skew_ms=skew_ms if 300 <= second < 350 else 0)
        expected = "STALE" if skew_ms < 0 and 300 <= second < 350 else "LIVE"
        assert live.said()[0] == expected


def test_path_that_stays_longer_is_usual_after_some_minutes(live):
    for second in range(700):
        live.write(live.tick(ms=1_000 * second))
        spoken(live, 1_000 * second, late_ms=4_000 if second >= 300 else 0)
        if 300 <= second < 500:
            assert live.said() == ("STALE", trust.BEHIND_VENUE)
    assert live.said() == ("LIVE", "")


def test_nothing_is_late_where_lateness_is_off(new_log):
    log = new_log(behind_venue_ms=0, behind_venue_max_ms=0).live()
    spoken(log, 100)
    spoken(log, 200, late_ms=1_000_000)
    assert log.said() == ("LIVE", "")


# --- STALE: an instrument that is silent


def talk(log, until_s, *, since_s=0, every_s=1, instruments=(A, B), epoch=1):
    """Let a feed tick and its instruments speak."""
    for second in range(since_s + 1, until_s + 1):
        log.write(log.tick(ms=1_000 * second, epoch=epoch))
        if second % every_s == 0:
            for instrument in instruments:
                log.write(log.delta(4_700, 1, ms=1_000 * second + 10, instrument=instrument, epoch=epoch))


@pytest.fixture
def watched(new_log):
    """Two books that speak every second, watched for their learning period of 30 s; silent beyond 10 s at least."""
    log = new_log(silent_floor_ms=10_000, silent_factor=4, silent_learn_ms=30_000).live()
    log.write(log.snapshot(instrument=B))
    talk(log, 40)
    return log


def test_instrument_that_is_silent_beyond_its_measure_while_its_peer_speaks(watched):
    talk(watched, 49, since_s=40, instruments=[B])
    assert watched.said(A) == ("LIVE", "")
    talk(watched, 53, since_s=49, instruments=[B])
    state, cause = watched.said(A)
    assert (state, trust.cause_in(cause)) == ("STALE", trust.INSTRUMENT_SILENT)
    assert cause.startswith("instrument silent: expected to hear of it within 10.0 s, found 1")
    assert watched.said(B) == ("LIVE", "")
    # The venue is asked for its word, once.
    assert [one.instrument for one in watched.resyncs()] == [A]
    talk(watched, 300, since_s=53, instruments=[B])
    assert (watched.said(A)[0], len(watched.resyncs())) == ("STALE", 1)
    watched.write(watched.delta(1_000, 1, ms=300_500))
    assert watched.said(A) == ("LIVE", "")


def test_silent_instrument_is_live_again_by_a_snapshot_that_says_the_same(watched):
    talk(watched, 60, since_s=40, instruments=[B])
    held = watched.task.book(A).book
    watched.write(watched.snapshot(held.bids.levels(), held.asks.levels(), ms=60_100))
    assert watched.said(A) == ("LIVE", "")


def test_silent_instrument_is_live_again_by_an_audit_that_finds_it_right(watched):
    talk(watched, 60, since_s=40, instruments=[B])
    assert watched.said(A)[0] == "STALE"
    held = watched.task.book(A).book
    watched.write(watched.audit(held.bids.levels(), held.asks.levels(), ms=60_100))
    assert (watched.audits()[-1].verdict, watched.said(A)) == ("EQUAL", ("LIVE", ""))


def test_feed_that_is_quiet_as_a_whole_makes_nobody_silent(watched):
    talk(watched, 600, since_s=40, instruments=[])
    assert (watched.said(A), watched.said(B)) == (("LIVE", ""), ("LIVE", ""))


def test_instrument_on_another_feed_is_no_peer(watched):
    watched.write(watched.snapshot(instrument="kalshi:C", epoch=2, ms=40_000))
    for second in range(41, 120):
        watched.write(watched.tick(ms=1_000 * second))
        talk(watched, second, since_s=second - 1, instruments=["kalshi:C"], epoch=2)
    assert watched.said(A) == ("LIVE", "")


def test_instrument_that_often_pauses_may_pause(new_log):
    log = new_log(silent_floor_ms=10_000, silent_factor=4, silent_learn_ms=30_000).live()
    log.write(log.snapshot(instrument=B))
    for second in range(1, 400):
        log.write(log.tick(ms=1_000 * second))
        log.write(log.delta(4_700, 1, ms=1_000 * second + 10, instrument=B))
        if second % 20 == 0 and second <= 200:
            log.write(log.delta(4_700, 1, ms=1_000 * second + 10))
        if second < 275:
            assert log.said(A) == ("LIVE", "")
    # Four times twenty seconds after the last one.
    assert trust.cause_in(log.said(A)[1]) == trust.INSTRUMENT_SILENT


def test_thousands_of_quiet_books_stay_live_by_default_beside_one_that_never_rests(new_log):
    log = new_log()
    quiet = [f"kalshi:Q{n}" for n in range(400)]
    for name in [*quiet, B]:
        log.write(log.snapshot(instrument=name))
    talk(log, 1_500, instruments=[B])
    assert {log.task.book(name).state for name in quiet} == {"LIVE"}


def test_silence_is_not_looked_at_where_it_is_off(new_log):
    log = new_log(silent_floor_ms=0, silent_learn_ms=1_000).live()
    log.write(log.snapshot(instrument=B))
    talk(log, 20)
    talk(log, 400, since_s=20, instruments=[B])
    assert log.said(A) == ("LIVE", "")


# --- what is not LIVE shows nothing


def test_every_word_is_said_by_one_of_the_tests_above_or_beside():
    said_here = {
        *(trust.GAP, trust.CLOSED, trust.TICK_SIZE, trust.UNPARSEABLE, trust.NEGATIVE_LEVEL, trust.CROSSED),
        *(trust.FEED_SILENT, trust.BEHIND_VENUE, trust.INSTRUMENT_SILENT, trust.NO_SNAPSHOT),
    }
    beside = {trust.HASH, trust.AUDIT, trust.POLLED, trust.MARKET_CLOSED, trust.MARKET_PAUSED}
    assert said_here | beside == set(trust.CAUSES)


# --- limits


def test_limits_come_as_text_and_have_defaults():
    assert TrustLimits.from_options({}) == TrustLimits()
    limits = TrustLimits.from_options({"hash_sample": "1", "crossed_ms": "250", "stranger": "x"})
    assert (limits.hash_sample, limits.crossed_ns, limits.audit_strikes) == (1, 250_000_000, 2)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "１"])
def test_limit_that_is_no_number_is_refused(text):
    with pytest.raises(Misconfigured, match="hash_sample: expected a whole number of at least 0"):
        TrustLimits.from_options({"hash_sample": text})


def test_settings_hand_every_limit_on(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_SILENT_FLOOR_MS", "5000")
    settings = load(DeriveSettings, hash_sample=1)
    assert TrustLimits.from_options(settings.options) == TrustLimits(silent_floor_ms=5_000, hash_sample=1)
