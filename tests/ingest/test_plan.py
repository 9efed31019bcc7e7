"""Which feeds a share asks for."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.plan import Standing, Wanted, plan_feeds


def plan(wanted, standing=(), taken=None, *, partitions=4, per_feed_max=3, feeds_max=10):
    taken = [feed.slot for feed in standing] if taken is None else taken
    return plan_feeds(wanted, standing, taken, partitions=partitions, per_feed_max=per_feed_max, feeds_max=feeds_max)


def names(*numbers: int) -> frozenset[str]:
    return frozenset(f"v:{number:03d}" for number in numbers)


def test_instruments_of_one_partition_go_to_slots_of_that_partition() -> None:
    found = plan({1: names(1, 2, 3, 4), 3: names(5)})
    assert [(o.slot, o.partition, len(o.instruments)) for o in found.opens] == [(1, 1, 3), (5, 1, 1), (3, 3, 1)]


def test_a_share_that_did_not_change_asks_for_nothing() -> None:
    assert plan({0: names(1, 2)}, [Standing(0, 0, names(1, 2))]) == ((), (), 0)


def test_a_new_instrument_comes_on_a_new_feed_that_takes_over_one_with_room() -> None:
    found = plan({0: names(1, 2, 3)}, [Standing(0, 0, names(1, 2))])
    assert found.opens == (Wanted(4, 0, ("v:001", "v:002", "v:003"), (0,)),)
    assert found.drops == ()


def test_a_new_instrument_leaves_full_feeds_alone() -> None:
    found = plan({0: names(1, 2, 3, 4)}, [Standing(0, 0, names(1, 2, 3))])
    assert found.opens == (Wanted(4, 0, ("v:004",)),)


def test_a_partition_that_moved_away_drops_its_feeds() -> None:
    found = plan({0: names(1)}, [Standing(0, 0, names(1)), Standing(2, 2, names(7))])
    assert found == ((), (2,), 0)


def test_a_feed_most_of_whose_instruments_vanished_is_replaced() -> None:
    found = plan({0: names(1)}, [Standing(0, 0, names(1, 2, 3))])
    assert found.opens == (Wanted(4, 0, ("v:001",), (0,)),)


def test_a_feed_without_any_instrument_left_is_dropped() -> None:
    assert plan({0: []}, [Standing(0, 0, names(1, 2))]) == ((), (0,), 0)


def test_one_vanished_instrument_of_many_is_left_to_be_silent() -> None:
    assert plan({0: names(1, 2)}, [Standing(0, 0, names(1, 2, 3))]) == ((), (), 0)


def test_what_the_connections_do_not_carry_is_said() -> None:
    found = plan({0: names(*range(10))}, feeds_max=2)
    assert len(found.opens) == 2
    assert found.unfed == 4


def test_a_slot_that_is_still_running_out_is_not_used_again() -> None:
    found = plan({0: names(1)}, taken=[0, 4])
    assert found.opens[0].slot == 8


universe = st.sets(st.integers(0, 40))


@given(wanted=universe, standing=st.lists(universe, max_size=4), per_feed_max=st.integers(1, 9))
def test_what_stays_and_what_opens_carries_every_instrument_within_the_limits(wanted, standing, per_feed_max) -> None:
    seen: set[int] = set()
    feeds = []
    for number, instruments in enumerate(standing):
        own = sorted(instruments - seen)[:per_feed_max]
        seen |= set(own)
        if own:
            feeds.append(Standing(4 * number, 0, names(*own)))
    found = plan({0: names(*wanted)}, feeds, per_feed_max=per_feed_max, feeds_max=1_000)
    gone = set(found.drops) | {slot for opened in found.opens for slot in opened.replaces}
    carried = [feed.instruments for feed in feeds if feed.slot not in gone]
    carried += [frozenset(opened.instruments) for opened in found.opens]
    assert names(*wanted) <= frozenset().union(*carried) if carried else not wanted
    assert all(len(opened.instruments) <= per_feed_max for opened in found.opens)
    assert not {opened.slot for opened in found.opens} & {feed.slot for feed in feeds}
    assert len({opened.slot for opened in found.opens}) == len(found.opens)
    # Nobody is fed twice by feeds that stay.
    assert sum(len(instruments) for instruments in carried) == len(frozenset().union(*carried, frozenset()))
    # Done once, there is nothing left to do.
    after = [feed for feed in feeds if feed.slot not in gone]
    after += [Standing(opened.slot, 0, frozenset(opened.instruments)) for opened in found.opens]
    assert plan({0: names(*wanted)}, after, per_feed_max=per_feed_max, feeds_max=1_000) == ((), (), 0)
