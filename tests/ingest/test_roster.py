"""Who feeds what, as raw.feed tells it."""

from core.runtime.flow import Input
from ingest.roster import FEEDS_MAX, Roster
from schemas.raw import Closed, Opened, Ready


def item(record, offset: int) -> Input:
    return Input(record, "raw.feed", 0, offset, record.feed)


def opened(epoch: int, *instruments: str, venue: str = "kalshi") -> Input:
    record = Opened(feed=f"{venue}-0", venue=venue, worker="w", slot=0, instruments=list(instruments), recv_ts_ns=1)
    return item(record, epoch)


def ready(epoch: int) -> Input:
    return item(Ready(feed="kalshi-0", venue="kalshi", epoch=epoch, recv_ts_ns=1), epoch + 1_000)


def closed(epoch: int) -> Input:
    record = Closed(feed="kalshi-0", venue="kalshi", epoch=epoch, frame_no=9, reason="over", recv_ts_ns=1)
    return item(record, epoch + 2_000)


def roster_of(*items: Input) -> Roster:
    roster = Roster("kalshi")
    for one in items:
        roster.take(one)
    return roster


def test_a_feed_covers_once_it_is_ready() -> None:
    assert not roster_of(opened(5, "A", "B")).is_covered(["A"], 3)
    assert roster_of(opened(5, "A", "B"), ready(5)).is_covered(["A"], 3)


def test_only_higher_epochs_cover() -> None:
    assert not roster_of(opened(5, "A"), ready(5)).is_covered(["A"], 5)


def test_several_feeds_cover_together() -> None:
    roster = roster_of(opened(5, "A"), ready(5), opened(6, "B"), ready(6))
    assert roster.is_covered(["A", "B"], 3)
    assert not roster.is_covered(["A", "B", "C"], 3)


def test_a_closed_feed_covers_nothing() -> None:
    assert not roster_of(opened(5, "A"), ready(5), closed(5)).is_covered(["A"], 3)


def test_feeds_of_another_venue_do_not_count() -> None:
    roster = Roster("kalshi")
    assert roster.take(opened(5, "A", venue="polymarket")) is None
    roster.take(ready(5))
    assert not roster.is_covered(["A"], 3)


def test_feeds_that_never_close_are_forgotten_at_the_bound() -> None:
    roster = roster_of(*(opened(epoch, f"I{epoch}") for epoch in range(FEEDS_MAX + 1)))
    roster.take(ready(0))
    roster.take(ready(1))
    assert not roster.is_covered(["I0"], -1)
    assert roster.is_covered(["I1"], -1)
