"""Which frame of which feed is which line of a venue's truth.

A feed is one connection, and both are in order: the feed of an epoch belongs to the connection that sent most of its
digests, and its frames are found on that connection one after the other. What a connection sent before the last found
frame and the feed does not hold is lost; after it, it may never have been read. What a feed holds and no connection sent
is foreign. A feed that holds nothing (`match_empty`) read a connection that no other claims.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infra.demo.frames import CONTROL_KINDS, MARKET_KINDS
from schemas.raw import Opened


class Sent(NamedTuple):
    """One line of `frames-<venue>.jsonl`: a frame a connection sent, or (ordinal 0) was kept from sending.

    Attributes:
        versions: (market, version) of each book the frame speaks of, in the order of the frame.
        fault: what a fault did to it, (id, what), else None.
        ts_ms: the venue's time of it, 0 where it has none.
    """

    ordinal: int
    kind: str
    digest: str
    versions: tuple[tuple[str, int], ...]
    fault: tuple[int, str] | None
    ts_ms: int = 0

    @property
    def is_sent(self) -> bool:
        """Say whether it left."""
        return self.ordinal > 0


def read_sent(lines: Iterable[Sequence[Any]]) -> dict[int, list[Sent]]:
    """Return the frames of each connection that carries market data, in order, keep-alives left out."""
    found: dict[int, list[Sent]] = {}
    market: set[int] = set()
    for connection, ordinal, kind, key, ts_ms, digest, versions, fault in lines:
        if kind in CONTROL_KINDS:
            continue
        if kind in MARKET_KINDS:
            market.add(connection)
        said = tuple((item[0], item[1]) if isinstance(item, list) else (key, item) for item in versions)
        did = None if fault is None else (fault[0], fault[1])
        found.setdefault(connection, []).append(Sent(ordinal, kind, digest, said, did, ts_ms))
    return {connection: frames for connection, frames in found.items() if connection in market}


@dataclass
class Match:
    """One feed and its connection.

    Attributes:
        places: frame number -> place among the connection's lines.
        foreign: frame numbers that are not there.
        lost: places before the last found one that were sent and the feed does not hold.
        unread: how many were sent after the last found one.
    """

    epoch: int
    connection: int | None
    places: dict[int, int] = field(default_factory=dict)
    foreign: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    unread: int = 0


def match(sent: Mapping[int, Sequence[Sent]], feeds: Mapping[int, Mapping[int, str]]) -> dict[int, Match]:
    """Return for each feed (epoch -> frame number -> digest) where its frames were sent."""
    owners: dict[str, list[int]] = {}
    for connection, frames in sent.items():
        for digest in {frame.digest for frame in frames if frame.is_sent}:
            owners.setdefault(digest, []).append(connection)
    return {epoch: _match_one(epoch, digests, sent, owners) for epoch, digests in feeds.items() if digests}


def match_empty(
    sent: Mapping[int, Sequence[Sent]], claimed: Iterable[int], opened: Mapping[int, Opened]
) -> dict[int, Match]:
    """Return for feeds that hold no frame the connection each must have read, where there is one.

    A feed is opened when its connection stands and before it asks for anything: it is the first connection nobody else
    claims that spoke of its books after it was opened.

    Args:
        claimed: connections of feeds that hold frames.
        opened: feeds without a frame, by epoch.
    """
    taken = set(claimed)
    free = {connection: frames for connection, frames in sent.items() if connection not in taken}
    found: dict[int, Match] = {}
    for epoch, one in sorted(opened.items()):
        if one.degraded:
            continue  # polled: it has no connection
        books = {name.partition(":")[2] for name in one.instruments}
        for connection, frames in sorted(free.items()):
            first_ms = min((frame.ts_ms for frame in frames if frame.is_sent and frame.ts_ms), default=0)
            spoke = any(market in books for frame in frames if frame.is_sent for market, _ in frame.versions)
            if spoke and first_ms * 1_000_000 >= one.recv_ts_ns:
                found[epoch] = Match(epoch, connection, unread=sum(frame.is_sent for frame in frames))
                del free[connection]
                break
    return found


def _match_one(
    epoch: int, digests: Mapping[int, str], sent: Mapping[int, Sequence[Sent]], owners: Mapping[str, Sequence[int]]
) -> Match:
    votes = Counter(owner for digest in digests.values() for owner in owners.get(digest, ()))
    if not votes:
        return Match(epoch, None, foreign=sorted(digests))
    connection = votes.most_common(1)[0][0]
    frames = sent[connection]
    found = Match(epoch, connection)
    waiting: dict[str, list[int]] = {}
    for place in range(len(frames) - 1, -1, -1):
        if frames[place].is_sent:
            waiting.setdefault(frames[place].digest, []).append(place)
    last = -1
    for number in sorted(digests):
        places = waiting.get(digests[number], [])
        while places and places[-1] <= last:
            places.pop()
        if places:
            last = found.places[number] = places.pop()
        else:
            found.foreign.append(number)
    held = set(found.places.values())
    found.lost = [place for place in range(last) if frames[place].is_sent and place not in held]
    found.unread = sum(1 for frame in frames[last + 1 :] if frame.is_sent)
    return found
