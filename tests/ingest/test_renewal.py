"""How often something may be renewed, and what a feed says of itself that makes it due."""

import asyncio
import itertools

from core.runtime.clock import ManualClock
from ingest.conversation import Renew
from ingest.renewal import KEYS_MAX, PAUSE_S, PAUSE_S_MAX, Renewals


def test_what_is_renewed_again_and_again_waits_longer_each_time(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    at_s = []
    for second in range(3_000):
        if renewals.may("polymarket:0xa"):
            at_s.append(second)
        clock.advance(ms=1_000)
    pauses = [later - earlier for earlier, later in itertools.pairwise(at_s)]
    assert pauses[:5] == [10, 20, 40, 80, 160]
    assert set(pauses[5:]) == {int(PAUSE_S_MAX)}


def test_one_bad_book_does_not_hold_up_another(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    assert renewals.may("a")
    assert not renewals.may("a")
    assert renewals.may("b")


def test_after_a_long_peace_the_pause_is_short_again(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    renewals.may("a")
    clock.advance(ms=11_000)
    renewals.may("a")
    clock.advance(ms=200_000)
    assert renewals.may("a")
    clock.advance(ms=int(PAUSE_S * 1_000))
    assert renewals.may("a")


def test_feeds_that_are_merely_due_are_renewed_one_after_the_other(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    due = {f"slot {number}" for number in range(5)}
    at_ms = []
    for step in range(400):
        for key in sorted(due):
            if renewals.may_scheduled(key):
                due.discard(key)
                at_ms.append(step * 50)
                break
        clock.advance(ms=50)
    pauses = [later - earlier for earlier, later in itertools.pairwise(at_ms)]
    assert len(at_ms) == 5
    assert all(1_000 <= pause <= 2_100 for pause in pauses)
    assert len(set(pauses)) > 1


def test_feeds_opened_together_grow_old_apart(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    limits = {renewals.age_limit_s(100.0) for _ in range(50)}
    assert len(limits) == 50
    assert all(80.0 <= limit <= 100.0 for limit in limits)


def test_what_is_remembered_is_bounded(clock: ManualClock) -> None:
    renewals = Renewals(clock)
    for number in range(KEYS_MAX + 10):
        assert renewals.may(str(number))
    assert renewals.may("0")
    assert not renewals.may(str(KEYS_MAX))


def test_pongs_do_not_break_a_feeds_silence_and_frames_do(new_rig) -> None:
    async def scenario() -> None:
        rig = await new_rig()
        rig.wait(3_000)
        assert rig.feed.quiet_s == 3.0
        rig.feed.received(b'{"type":"orderbook_delta"}', rig.clock.now_ns())
        rig.wait(250)
        assert rig.feed.quiet_s == 0.0
        rig.wait(1_000)
        assert rig.feed.quiet_s == 1.0
        assert rig.feed.age_s == 4.25

    asyncio.run(scenario())


def test_requests_for_new_feeds_that_nobody_answered_yet_become_one(new_rig) -> None:
    async def scenario() -> None:
        rig = await new_rig()
        rig.feed.renew(Renew("one", ("kalshi:A",)))
        rig.feed.renew(Renew("two", ("kalshi:B", "kalshi:A")))
        assert rig.feed.renewal == Renew("two", ("kalshi:A", "kalshi:B"))
        rig.feed.renew(Renew("all"))
        rig.feed.renew(Renew("three", ("kalshi:A",)))
        assert rig.feed.renewal == Renew("all")

    asyncio.run(scenario())
