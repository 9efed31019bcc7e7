"""Requests for snapshots, at a bounded rate."""

from core.domain.partition import partition_of
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


WORKERS = 4
PARTITIONS = 16


def venue_wide_crew(clock: ManualClock) -> list[Resyncs]:
    """Four workers that own four partitions each and all read the same requests."""
    crew = []
    for number in range(WORKERS):
        share = frozenset(range(number, PARTITIONS, WORKERS))
        resyncs = Resyncs("kalshi", clock, 20)
        resyncs.allot(len(share) / PARTITIONS, lambda name, own=share: partition_of(name, PARTITIONS) in own)
        crew.append(resyncs)
    return crew


def test_four_workers_answer_as_many_requests_a_second_as_one(clock: ManualClock) -> None:
    names = [f"kalshi:{number}" for number in range(400)]
    crew = venue_wide_crew(clock)
    for resyncs in crew:
        for name in names:
            resyncs.take(request(name))
    answered: list[str] = []
    by_second = []
    while len(answered) < len(names):
        found = [name for resyncs in crew for name in resyncs.due()]
        answered += found
        by_second.append(len(found))
        clock.advance(ms=1_000)
        assert len(by_second) < 30, f"{len(answered)} of {len(names)} after 30 s"
    assert sorted(answered) == sorted(names)
    assert max(by_second) <= 20


def test_a_share_that_shrinks_keeps_no_room_and_no_request_of_what_went(clock: ManualClock) -> None:
    resyncs = Resyncs("kalshi", clock, 20)
    for number in range(30):
        resyncs.take(request(f"kalshi:{number}"))
    resyncs.allot(0.25, lambda name: name == "kalshi:29")
    assert resyncs.due() == {"kalshi:29": 5}
    clock.advance(ms=60_000)
    assert resyncs.due() == {}
    resyncs.allot(0.25, lambda name: True)
    for number in range(30):
        resyncs.take(request(f"kalshi:{number}"))
    assert len(resyncs.due()) == 5
