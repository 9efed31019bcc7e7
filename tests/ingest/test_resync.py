"""Requests for snapshots, at a bounded rate."""

from core.runtime.clock import ManualClock
from core.runtime.flow import Input
from ingest.resync import PENDING_MAX, Resyncs
from schemas.derived import Resync


def request(instrument: str, ts_ns: int = 5, venue: str = "kalshi") -> Input:
    record = Resync(
        instrument=instrument, venue=venue, epoch=1, version_offset=1, version_index=0, cause="gap", ts_ns=ts_ns
    )
    return Input(record, "derived.resync", 0, 0, instrument)


def test_requests_of_one_instrument_are_one_with_the_newest_time(clock: ManualClock) -> None:
    resyncs = Resyncs("kalshi", clock, 10)
    for ts_ns in (5, 9, 7):
        resyncs.take(request("kalshi:A", ts_ns))
    assert resyncs.due() == {"kalshi:A": 9}
    assert resyncs.due() == {}


def test_other_venues_are_not_our_business(clock: ManualClock) -> None:
    resyncs = Resyncs("kalshi", clock, 10)
    resyncs.take(request("polymarket:0x1", venue="polymarket"))
    assert resyncs.due() == {}


def test_the_rate_is_bounded_and_nothing_is_forgotten(clock: ManualClock) -> None:
    resyncs = Resyncs("kalshi", clock, 10)
    for number in range(25):
        resyncs.take(request(f"kalshi:{number}"))
    assert len(resyncs.due()) == 10
    assert resyncs.due() == {}
    clock.advance(ms=500)
    assert len(resyncs.due()) == 5
    clock.advance(ms=60_000)
    assert len(resyncs.due()) == 10


def test_what_waits_is_bounded(clock: ManualClock) -> None:
    resyncs = Resyncs("kalshi", clock, 1_000_000)
    for number in range(PENDING_MAX + 5):
        resyncs.take(request(f"kalshi:{number}"))
    assert len(resyncs.due()) == PENDING_MAX
