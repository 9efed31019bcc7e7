"""One level of the live market as paper trading knows it: what it shows, what we took of it, what left it and why is not known yet."""

from collections import deque
from typing import NamedTuple

EXPLAIN_NS = 2_000_000_000
"""How long after a level shrank a trade may still be the reason. A print later than that counts beside what it did to the book."""
SHRUNK_MAX = 16
"""Shrinkings remembered of one level; beyond that the two oldest become one, which may delay a fill and never makes one."""


class Shrunk(NamedTuple):
    """Size that left a level without a trade so far: when, and how old the place in the line was."""

    ts_ns: int
    since_ns: int
    size: int


class Level:
    """What is known of one live level."""

    __slots__ = ("is_unseen", "live", "shrunk", "taken", "untraded")

    def __init__(self) -> None:
        self.live = 0
        self.taken = 0
        self.untraded = 0
        """Of what we took, how much no live trade has gone past: those real orders are still ahead in the real line."""
        self.shrunk: deque[Shrunk] = deque()
        self.is_unseen = False
        """One of ours came to rest while the depth did not reach here: whatever shows first is ahead of it."""

    @property
    def free(self) -> int:
        return self.live - self.taken

    def set(self, live: int) -> None:
        self.live = live
        self.taken = min(self.taken, live)
        self.untraded = min(self.untraded, self.taken)

    def take(self, size: int) -> None:
        self.taken += size
        self.untraded += size

    def remember(self, shrunk: Shrunk) -> None:
        """Keep what shrank for a trade still to be told."""
        self.shrunk.append(shrunk)
        if len(self.shrunk) > SHRUNK_MAX:
            first, second = self.shrunk.popleft(), self.shrunk.popleft()
            # The older place is further ahead: put back there, it is before our orders if either was.
            together = Shrunk(second.ts_ns, min(first.since_ns, second.since_ns), first.size + second.size)
            self.shrunk.appendleft(together)

    def forget(self, now_ns: int) -> None:
        """Drop shrinkings that no trade will explain any more."""
        while self.shrunk and self.shrunk[0].ts_ns < now_ns - EXPLAIN_NS:
            self.shrunk.popleft()

    @property
    def is_blank(self) -> bool:
        return not (self.live or self.shrunk or self.is_unseen)
