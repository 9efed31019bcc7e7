"""What is known of the feeds that books come over: whether they tick, and how late their records are.

A feed's lateness is the time between the venue's and our receive time of its changes, above what is usual of the
venue. The usual is the lower quartile of the smallest offsets in the last 30 slices of 10 s. So the two clocks may
differ by a constant; once five minutes are known, a skew that lasts less than one leaves the usual where it was,
whichever way it goes, and one that stays is taken for usual after four: it cannot be told from a clock.

Above an absolute limit (`behind_venue_max_ms`) nothing is usual: such a feed is far behind from its first change on, and
until a change of it comes in less. Silence does not end that: ticks say that the socket is drained, not that the venue is
on time. A feed that falls quiet gets a successor from ingest, which begins anew.
"""

from __future__ import annotations

from collections import deque

import msgspec

from core.domain.trust import BEHIND_VENUE, because
from core.runtime.clock import NS_PER_MS, NS_PER_S

FEED_FORGOTTEN_NS = 60 * NS_PER_S
"""A feed that owns no book is forgotten so long after its last tick, and a tick that is older by then is no news."""
LATE_HELD_NS = 5 * NS_PER_S
"""A feed that was late and then said nothing with a venue time is late no more: its ticks say that it is drained."""
SLICE_NS = 10 * NS_PER_S
SLICES = 30
_FAR = 2**63 - 1


class FeedState(msgspec.Struct, frozen=True, array_like=True):
    """A `Feed` as it is written down."""

    epoch: int
    ticked_ns: int
    silent: bool
    late_ns: int
    far: bool = False


class Feed:
    """One feed: its last tick, whether its ticks have stopped, and when a record of it was late last (0: it is not).

    Attributes:
        far: its last record with a venue's time was above the absolute limit.
    """

    __slots__ = ("epoch", "far", "late_ns", "silent", "ticked_ns")

    def __init__(
        self, epoch: int, ticked_ns: int, *, silent: bool = False, late_ns: int = 0, far: bool = False
    ) -> None:
        self.epoch = epoch
        self.ticked_ns = ticked_ns
        self.silent = silent
        self.late_ns = late_ns
        self.far = far

    def state(self) -> FeedState:
        """Return what is remembered."""
        return FeedState(self.epoch, self.ticked_ns, self.silent, self.late_ns, self.far)

    @classmethod
    def restored(cls, state: FeedState) -> Feed:
        """Return the feed of `state`."""
        return cls(state.epoch, state.ticked_ns, silent=state.silent, late_ns=state.late_ns, far=state.far)


class ClockState(msgspec.Struct, frozen=True, array_like=True):
    """A `VenueClock` as it is written down."""

    low_ns: int
    slice_ns: int
    lows: list[int]


class VenueClock:
    """How far behind a venue's time its records come.

    Attributes:
        low_ns: smallest offset of this slice.
        high_ns: an offset above this is late.
        max_ns: an offset above this is far behind, whatever is usual; `far`: that in words.
    """

    __slots__ = ("_limit_ns", "_lows", "_slice_ns", "far", "high_ns", "low_ns", "max_ns")

    def __init__(self, limit_ms: int, max_ms: int = 0) -> None:
        """`limit_ms`: above what is usual; `max_ms`: in all. 0: not looked at."""
        self._limit_ns = limit_ms * NS_PER_MS
        self.max_ns = max_ms * NS_PER_MS if max_ms else _FAR
        self.far = because(BEHIND_VENUE, f"by more than {max_ms} ms")
        self._lows: deque[int] = deque(maxlen=SLICES)
        self._slice_ns = 0
        self.low_ns = _FAR
        self.high_ns = self.max_ns

    def learn(self, offset_ns: int) -> None:
        """Take an offset below `low_ns`; before the first slice is full it is all that is known."""
        self.low_ns = offset_ns
        if not self._lows:
            self._judge_by(offset_ns)

    def roll(self, now_ns: int) -> None:
        """Begin a new slice if the last one is over."""
        if now_ns - self._slice_ns < SLICE_NS:
            return
        self._slice_ns = now_ns
        if self.low_ns != _FAR:
            self._lows.append(self.low_ns)
            self.low_ns = _FAR
            self._judge_by(sorted(self._lows)[len(self._lows) // 4])

    def _judge_by(self, usual_ns: int) -> None:
        if self._limit_ns:
            self.high_ns = min(usual_ns + self._limit_ns, self.max_ns)

    def state(self) -> ClockState:
        """Return what is remembered."""
        return ClockState(self.low_ns, self._slice_ns, list(self._lows))

    def restore(self, state: ClockState) -> None:
        """Take `state` up."""
        self._slice_ns = state.slice_ns
        self._lows.extend(state.lows)
        if self._lows:
            self._judge_by(sorted(self._lows)[len(self._lows) // 4])
        if state.low_ns != _FAR:
            self.learn(state.low_ns)
