"""Which feeds a worker should have for its share of the instruments: a pure function.

Instruments of one partition of `raw.instrument-<venue>` go to the feeds of that partition, whose slots are
partition, partition + n, partition + 2n …: so their frames stand on the same partition number of `raw.frame`, and when a
share moves only the feeds of the partitions that moved are touched.

A running feed never gets an instrument more. New ones come on a new feed; where there is a feed with room, the new feed
takes that one's instruments over as well, so that feeds stay few. A feed most of whose instruments have vanished is
replaced by a smaller one, or by none.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Standing(NamedTuple):
    """A feed as it stands, not one that is about to end."""

    slot: int
    partition: int
    instruments: frozenset[str]


class Wanted(NamedTuple):
    """A feed to open; when it is ready those of `replaces` (slots) end."""

    slot: int
    partition: int
    instruments: tuple[str, ...]
    replaces: tuple[int, ...] = ()


class Plan(NamedTuple):
    """What is to change.

    Attributes:
        opens: new feeds.
        drops: slots of feeds whose instruments nobody wants from us any more, without a successor of ours.
        unfed: number of instruments that would need more connections than allowed.
    """

    opens: tuple[Wanted, ...]
    drops: tuple[int, ...]
    unfed: int


def plan_feeds(
    wanted: Mapping[int, Iterable[str]],
    standing: Iterable[Standing],
    taken_slots: Iterable[int],
    *,
    partitions: int,
    per_feed_max: int,
    feeds_max: int,
) -> Plan:
    """Return the changes that bring the standing feeds to the wanted instruments.

    Args:
        wanted: instruments by partition of this worker's share.
        taken_slots: of all feeds that still run, those about to end included.
        partitions: of `raw.instrument-<venue>` and `raw.frame`.
        per_feed_max: instruments of one connection.
        feeds_max: connections of this worker.
    """
    feeds = list(standing)
    taken = set(taken_slots)
    opens: list[Wanted] = []
    drops = [feed.slot for feed in feeds if feed.partition not in wanted]
    count = len(feeds) - len(drops)
    unfed = 0
    for partition in sorted(wanted):
        desired = set(wanted[partition])
        mine = [feed for feed in feeds if feed.partition == partition]
        missing = desired.difference(*(feed.instruments for feed in mine))
        shrunk = [feed for feed in mine if 2 * len(feed.instruments & desired) < len(feed.instruments)]
        replaced = list(shrunk)
        for feed in shrunk:
            missing |= feed.instruments & desired
        if missing:
            rest = [feed for feed in mine if feed not in shrunk]
            roomy = _roomiest(rest, desired, missing, per_feed_max)
            if roomy is not None:
                missing |= roomy.instruments & desired
                replaced.append(roomy)
        if not missing:
            drops.extend(feed.slot for feed in replaced)
            count -= len(replaced)
            continue
        count -= len(replaced)
        slots = tuple(feed.slot for feed in replaced)
        for group in _groups(sorted(missing), per_feed_max):
            if count >= feeds_max:
                unfed += len(group)
                continue
            count += 1
            slot = _free_slot(partition, partitions, taken)
            taken.add(slot)
            opens.append(Wanted(slot, partition, group, slots))
    return Plan(tuple(opens), tuple(drops), unfed)


def _roomiest(feeds: list[Standing], desired: set[str], missing: set[str], per_feed_max: int) -> Standing | None:
    spare = len(missing) % per_feed_max
    if spare == 0:
        return None
    fitting = [feed for feed in feeds if len(feed.instruments & desired) + spare <= per_feed_max]
    return min(fitting, key=lambda feed: (len(feed.instruments), feed.slot), default=None)


def _groups(instruments: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(instruments[first : first + size]) for first in range(0, len(instruments), size)]


def _free_slot(partition: int, partitions: int, taken: set[int]) -> int:
    slot = partition
    while slot in taken:
        slot += partitions
    return slot
