"""Order book against one made with sortedcontainers, on the same changes; both must end as the same book."""

from __future__ import annotations

import random
from typing import NamedTuple

from sortedcontainers import SortedDict

from benchmarks.measure import Effort, Figure, best_us
from core.domain.book import TOP_LEVELS, Book
from core.domain.errors import InvariantBroken
from core.domain.ids import Version
from derive.quotes import depth_of, quote_of

PEER = "sortedcontainers"
AIM_US = 0.2
LEVELS = 60
MID = 5_000
TICK = 10
NEAR = 0.12
"""Parameter of the distance from the best: most changes are within ten levels, as on the recorded venues."""
NEW_SHARE = 0.1


class Change(NamedTuple):
    """One level's new size; 0 removes it."""

    buy: bool
    price: int
    size: int


class PeerBook:
    """The usual Python book: a sorted dictionary a side, asks by price, bids by negated price."""

    def __init__(self) -> None:
        self.bids = SortedDict()
        self.asks = SortedDict()

    def top(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the best ten levels of both sides."""
        bids = [(-key, size) for key, size in self.bids.items()[:TOP_LEVELS]]
        return bids, self.asks.items()[:TOP_LEVELS]


def new_book() -> Book:
    """Return a book of `LEVELS` levels a side."""
    book = Book()
    steps = range(1, LEVELS + 1)
    book.load(
        [MID - TICK * step for step in steps], [10**6] * LEVELS, [MID + TICK * step for step in steps], [10**6] * LEVELS
    )
    return book


def new_peer() -> PeerBook:
    """Return the same as a peer's book."""
    peer, book = PeerBook(), new_book()
    peer.bids.update({-price: size for price, size in book.bids.levels()})
    peer.asks.update(dict(book.asks.levels()))
    return peer


def changes_of(count: int, new_share: float, seed: int = 1) -> list[Change]:
    """Return changes near the best; `new_share` of them add a level or take one away, the rest change a size."""
    rng = random.Random(seed)
    held = {True: set(range(1, LEVELS + 1)), False: set(range(1, LEVELS + 1))}
    found = []
    for _ in range(count):
        buy = rng.random() < 0.5
        step = min(1 + int(rng.expovariate(NEAR)), LEVELS)
        if rng.random() < new_share:
            size = 0 if step in held[buy] else rng.randint(1, 500) * 10**6
            (held[buy].discard if size == 0 else held[buy].add)(step)
        else:
            if step not in held[buy]:
                step = min(held[buy], key=lambda one: abs(one - step))
            size = rng.randint(1, 500) * 10**6
        found.append(Change(buy, MID - TICK * step if buy else MID + TICK * step, size))
    return found


def apply_ours(book: Book, changes: list[Change]) -> None:
    bids, asks = book.bids.put, book.asks.put
    for buy, price, size in changes:
        (bids if buy else asks)(price, size)


def apply_peer(peer: PeerBook, changes: list[Change]) -> None:
    bids, asks = peer.bids, peer.asks
    for buy, price, size in changes:
        side, key = (bids, -price) if buy else (asks, price)
        if size:
            side[key] = size
        else:
            side.pop(key, None)


def top_ours(book: Book, changes: list[Change]) -> None:
    bids, asks = book.bids, book.asks
    for buy, price, size in changes:
        if (bids if buy else asks).put(price, size):
            bids.top()
            asks.top()


def top_peer(peer: PeerBook, changes: list[Change]) -> None:
    bids, asks, top = peer.bids, peer.asks, peer.top
    for buy, price, size in changes:
        side, key = (bids, -price) if buy else (asks, price)
        if size:
            side[key] = size
        else:
            side.pop(key, None)
        top()


def records_ours(book: Book, changes: list[Change]) -> None:
    bids, asks = book.bids, book.asks
    for offset, (buy, price, size) in enumerate(changes):
        if (bids if buy else asks).put(price, size):
            depth = depth_of(
                book,
                instrument="kalshi:BENCH",
                version=Version(offset, 0),
                exponents=(-4, -6),
                epoch=1,
                recv_ts_ns=offset,
                trail=[1, 2],
            )
            quote_of(depth, version=Version(offset, 1), venue_ts_ns=offset)


def run(effort: Effort) -> list[Figure]:
    """Measure apply, apply and top ten, apply and the records that leave."""
    sizes = changes_of(effort.records, new_share=0.0)
    mixed = changes_of(effort.records, new_share=NEW_SHARE)
    for changes in (sizes, mixed):
        _check_same(changes)
    ours, peer = new_book(), new_peer()
    count = effort.records
    # The mixed list is applied from the same book each time, so that an added level is added each time.
    us = best_us(
        effort.repeats,
        count,
        {
            "size": lambda: apply_ours(ours, sizes),
            "size peer": lambda: apply_peer(peer, sizes),
            "mixed": lambda: apply_ours(new_book(), mixed),
            "mixed peer": lambda: apply_peer(new_peer(), mixed),
            "top": lambda: top_ours(new_book(), mixed),
            "top peer": lambda: top_peer(new_peer(), mixed),
            "records": lambda: records_ours(new_book(), mixed),
        },
    )
    share = f"{NEW_SHARE:.0%} of the changes add or remove a level"
    return [
        Figure("apply, a size changes", us["size"], "us", AIM_US, PEER, us["size peer"], f"{LEVELS} levels a side"),
        Figure("apply, mixed", us["mixed"], "us", AIM_US, PEER, us["mixed peer"], share),
        Figure("apply, then the top ten", us["top"], "us", None, PEER, us["top peer"], "ours only where it changed"),
        Figure("apply, then Depth and Quote", us["records"], "us", note="the records themselves, not encoded"),
    ]


def _check_same(changes: list[Change]) -> None:
    ours, peer = new_book(), new_peer()
    apply_ours(ours, changes)
    apply_peer(peer, changes)
    bids, asks = peer.top()
    if ours.bids.levels()[:TOP_LEVELS] != bids or ours.asks.levels()[:TOP_LEVELS] != list(asks):
        raise InvariantBroken("the two books differ after the same changes")
