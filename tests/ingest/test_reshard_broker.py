"""Workers join, are killed and freeze: each instrument has exactly one current epoch again within seconds."""

import asyncio

import pytest

from benchmarks.reshard import Coverage, play
from schemas.raw import Closed, FeedTick, Opened, Ready

S = 1_000_000_000


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_workers_that_come_die_and_freeze_leave_each_instrument_one_current_epoch(stack, record_property) -> None:
    found = asyncio.run(play(stack.bootstrap, stack.registry_url, "test-reshard", markets=40))
    for one in found:
        print(f"{one.what}: exact after {one.exact_s:.2f} s, of it uncovered {one.uncovered_s:.2f} s")
        record_property(f"{one.what}: exact_s", round(one.exact_s, 2))
        record_property(f"{one.what}: uncovered_s", round(one.uncovered_s, 2))
    assert len(found) == 5
    # Who joins takes over beside who was there: nothing is uncovered meanwhile but by a tick that came late.
    assert found[1].uncovered_s < 3.0
    assert all(one.exact_s < 45 for one in found)


def test_coverage_counts_feeds_that_are_ready_open_and_ticking() -> None:
    coverage = Coverage()
    opened = Opened(feed="kalshi-0", venue="kalshi", worker="w", slot=0, instruments=["a", "b"], recv_ts_ns=S)
    both = frozenset({"a", "b"})
    coverage.take(opened, 3, "raw.feed")
    coverage.take(FeedTick(feed="kalshi-0", venue="kalshi", epoch=3, frame_no=1, recv_ts_ns=10 * S), 0, "raw.frame")
    assert coverage.counts(both, 10 * S) == (0, 0)
    coverage.take(Ready(feed="kalshi-0", venue="kalshi", epoch=3, recv_ts_ns=10 * S), 4, "raw.feed")
    assert coverage.counts(both, 10 * S) == (1, 1)
    assert coverage.counts(both | {"c"}, 10 * S) == (0, 1)
    assert coverage.counts(both, 11 * S) == (0, 0)
    closed = Closed(feed="kalshi-0", venue="kalshi", epoch=3, frame_no=2, reason="x", recv_ts_ns=10 * S)
    coverage.take(closed, 5, "raw.feed")
    assert coverage.counts(both, 10 * S) == (0, 0)
