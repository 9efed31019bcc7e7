"""A book task's state, written down and taken up again."""

import msgspec
import pytest

from core.domain.errors import CrossbookError
from core.runtime.flow import Checkpointed
from derive import shelf
from derive.checkpoint import ITEM_CODEC, TASK_CODEC
from derive.feeds import FeedState

A, B = "kalshi:A", "kalshi:B"


def items(log):
    return dict(log.task.changed())


def taken_up(log, *, state=None):
    """Return a log like `log` whose task knows what the other has written down."""
    again = type(log)()
    again.task.restore(list((state if state is not None else items(log)).items()))
    again.records, again.frame_no = list(log.records), log.frame_no
    return again


def test_task_offers_its_state(log):
    assert isinstance(log.task, Checkpointed)


def test_first_call_gives_every_item_and_the_next_what_changed_since(live):
    live.write(live.snapshot(instrument=B))
    assert set(items(live)) == {"", A, B}
    assert set(items(live)) == {""}
    live.write(live.delta(4_700, 1))
    assert set(items(live)) == {"", A}
    # A change below what is shown, and one that is refused, change the state too.
    live.write(live.delta(100, 1, instrument=B))
    assert set(items(live)) == {"", B}
    live.write(live.snapshot([(1, 1)], [], epoch=9, degraded=True))
    assert set(items(live)) == {"", A}


def test_what_was_taken_up_counts_as_written(live):
    again = taken_up(live)
    assert set(items(again)) == {""}


def test_new_owners_books_are_live_at_once_without_asking(live):
    again = taken_up(live)
    assert again.task.book(A).state == "LIVE"
    depth, quote = again.write(again.delta(4_700, 1, ms=1))
    assert (quote.state, quote.bid_size, depth.bid_sizes) == ("LIVE", 4, [4, 5])
    assert again.resyncs() == []


def test_suspect_book_goes_on_waiting_and_asking(live):
    live.write(live.reset(ms=10))
    again = taken_up(live)
    again.beat(1_500)
    assert (again.said()[0], len(again.resyncs())) == ("SYNCING", 1)


def test_status_of_an_instrument_without_a_book_is_an_item_and_becomes_the_books(log):
    log.write(log.status("PAUSED", venue_ts_ns=5, instrument=B))
    state = items(log)
    assert set(state) == {"", B}
    again = taken_up(log, state=state)
    assert set(items(again)) == {""}
    again.write(again.snapshot(instrument=B))
    assert again.states(B) == ["STALE"]
    assert set(items(again)) == {"", B}


def test_status_that_is_forgotten_is_removed(log, monkeypatch):
    monkeypatch.setattr(shelf, "STATUSES_MAX", 2)
    for n in range(3):
        log.write(log.status("OPEN", venue_ts_ns=5, instrument=f"kalshi:{n}"))
        changed = items(log)
    assert {name: data is None for name, data in changed.items()} == {"": False, "kalshi:0": True, "kalshi:2": False}


def test_repeats_go_on_at_their_times(live):
    live.beat(4_000)
    again = taken_up(live)
    for one in (live, again):
        del one.outputs[:]
        one.beat(25_000, since_ms=4_000)
    told = [
        [(o.record.recv_ts_ns, o.record.version_offset) for o in one.outputs if getattr(o.record, "repeat", 0)]
        for one in (live, again)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_trades_that_were_seen_are_known(live):
    live.write(live.trade("t1"))
    again = taken_up(live)
    assert again.write(again.trade("t1")) == []
    assert len(again.write(again.trade("t2"))) == 1


@pytest.mark.parametrize("codec", [TASK_CODEC, ITEM_CODEC])
def test_state_of_another_version_is_refused(codec, live):
    name = "" if codec is TASK_CODEC else A
    data = items(live)[name]
    broken = {name: bytes([data[0] + 1]) + data[1:]}
    with pytest.raises(CrossbookError, match="expected version 1, found 2"):
        type(live)().task.restore(list(broken.items()))


def test_item_of_a_busy_instrument_is_small(live):
    for n in range(2_000):
        live.write(live.trade(f"trade-{n:032d}"))
    live.write(live.snapshot([(4_900 - n, 123_456_789) for n in range(100)], []))
    assert len(items(live)[A]) < 12_000


# --- books that are forgotten

HOUR_MS = 3_600_000


def forgetful(log):
    """Close the market of A, end its feed, and keep B alive on another for three hours."""
    log.write(log.status("SETTLED", venue_ts_ns=5))
    log.write(log.reset(ms=1_000, closed=True, reason="closed: another feed took over"))
    log.write(log.snapshot(instrument=B, epoch=2, ms=1_000))
    for ms in range(2_000, 3 * HOUR_MS, 2_000):
        log.write(log.tick(ms=ms, epoch=2))


def test_a_closed_book_without_a_feed_is_forgotten_and_its_status_is_not(live):
    state = items(live)
    forgetful(live)
    assert (live.task.book(A), live.task.book(B).state) == (None, "LIVE")
    state |= items(live)
    assert ITEM_CODEC.decode(state[A]).book is None
    for log in (live, taken_up(live, state=state)):
        ms = 3 * HOUR_MS
        log.write(log.snapshot(ms=ms, epoch=3))
        assert log.said(A) == ("STALE", "market closed")
        log.write(log.tick(ms=ms + 11_000, epoch=3))
        assert log.task.book(A).state == "STALE"


def test_a_book_whose_feed_ticks_or_whose_market_is_open_is_kept(live):
    live.write(live.status("SETTLED", venue_ts_ns=5))
    live.write(live.snapshot(instrument=B, epoch=2))
    for ms in range(2_000, 3 * HOUR_MS, 2_000):
        live.write(live.tick(ms=ms, epoch=1))
    assert live.task.book(A).state == "STALE"
    assert live.task.book(B).state == "STALE"


def test_a_book_that_nobody_feeds_for_a_day_is_forgotten_with_all_that_is_known_of_it(live):
    state = items(live)
    live.write(live.reset(ms=1_000, closed=True, reason="closed: gone"))
    for ms in range(2_000, 25 * HOUR_MS, 5_000):
        live.write(live.tick(ms=ms, epoch=2))
    assert live.task.book(A) is None
    gone = dict(items(live))
    assert gone[A] is None
    state = {name: data for name, data in (state | gone).items() if data is not None}
    for log in (live, taken_up(live, state=state)):
        # What an old feed still says is shown to nobody: its ticks are old.
        log.write(log.snapshot(ms=2_000, epoch=1))
        assert log.state(A) == "STALE"


def test_statuses_are_let_go_in_the_same_order_after_a_restart_though_books_were_forgotten(live, monkeypatch):
    monkeypatch.setattr(shelf, "STATUSES_MAX", 2)
    state = items(live)
    live.write(live.status("OPEN", instrument="kalshi:C", venue_ts_ns=5))
    forgetful(live)
    state |= items(live)
    for log in (live, taken_up(live, state={name: data for name, data in state.items() if data is not None})):
        # C's was known before A's came here: a third makes room by C's, and A is closed still.
        log.write(log.status("OPEN", instrument="kalshi:D", venue_ts_ns=6, ms=3 * HOUR_MS))
        log.write(log.snapshot(ms=3 * HOUR_MS, epoch=3))
        assert log.said(A) == ("STALE", "market closed")


def test_forgetting_is_the_same_with_a_restart_in_between(live):
    again = taken_up(live)
    forgetful(live)
    begun = len(live.outputs)
    forgetful(again)
    assert [o.record for o in again.outputs] == [o.record for o in live.outputs[begun - len(again.outputs) :]]


def test_a_feed_far_behind_is_far_behind_after_a_restart_and_older_states_are_read(live):
    live.write(live.delta(4_700, 1, ms=100, venue_ts_ns=live.records[0].recv_ts_ns - 60_000_000_000))
    assert live.said() == ("STALE", "behind venue: by more than 10000 ms")
    again = taken_up(live)
    for log in (live, again):
        log.beat(15_000)
        assert log.task.book(A).state == "STALE"
    feed = TASK_CODEC.decode(items(live)[""]).feeds[0]
    assert feed.far
    older = msgspec.convert(msgspec.to_builtins(feed)[:4], FeedState)
    assert older == FeedState(feed.epoch, feed.ticked_ns, feed.silent, feed.late_ns, far=False)
