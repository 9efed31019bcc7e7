"""Whether an instrument is silent while its peers speak.

Most books of a prediction market are quiet, and some are quiet for days: no bound in seconds tells a dead subscription
from a quiet market. So an instrument is measured by itself. A learning period ends with the first record that comes
`silent_learn_ms` or more after its start; the longest pause of the last whole period and of the present one is its
usual one. It is silent only when

* it has spoken for a whole period: one that fell quiet before, as most do, is not judged at all,
* it has said nothing for longer than `silent_factor` times its usual pause, and not less than `silent_floor_ms`,
* and another book of its feed has spoken that much later than it did.

With the defaults (60 s, 4, 10 min) a book must never have paused for more than 15 s in ten minutes before a minute's
silence is noticed; one that pauses for five minutes may pause for twenty. A whole feed that is quiet at night makes
nobody silent. A market whose game is over falls silent once, is asked for once, and is LIVE again by the answer; the
pause is usual from then on, so the next alarm takes four times as long. Silence itself is learnt only when somebody has
ended it: a record of the book, or an audit that found the book right.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.domain.trust import INSTRUMENT_SILENT, because
from core.runtime.clock import NS_PER_MS, NS_PER_S
from derive.limits import TrustLimits

_UNKNOWN = -1
"""The longest pause before the first whole period."""


class RhythmState(msgspec.Struct, frozen=True, array_like=True):
    """A `Rhythm` as it is written down."""

    heard_ns: int
    pause_ns: int
    pause_before_ns: int
    period_ns: int
    silent: str


class Rhythm:
    """When an instrument spoke last and how long it pauses.

    Attributes:
        heard_ns: log time of the last record of its book, 0 before the first.
        pause_ns: longest pause of this period.
        silent: why it is called silent, empty if it is not.
    """

    __slots__ = ("_pause_before_ns", "_period_ns", "heard_ns", "pause_ns", "silent")

    def __init__(self) -> None:
        self.heard_ns = 0
        self.pause_ns = 0
        self._pause_before_ns = _UNKNOWN
        self._period_ns = 0
        self.silent = ""

    # hot
    def hear(self, now_ns: int) -> None:
        """Note that somebody spoke of the instrument."""
        heard_ns = self.heard_ns
        self.heard_ns = now_ns
        self.silent = ""
        if not heard_ns:
            self._period_ns = now_ns
        elif now_ns - heard_ns > self.pause_ns:
            self.pause_ns = now_ns - heard_ns

    def roll(self, learn_ns: int) -> bool:
        """Begin a new period if a record has ended this one; say whether it did."""
        if self.heard_ns - self._period_ns < learn_ns:
            return False
        self._period_ns = self.heard_ns
        self._pause_before_ns = self.pause_ns
        self.pause_ns = 0
        return True

    def silence(self, now_ns: int, peers_ns: int, limits: TrustLimits) -> str:
        """Return why the instrument is silent, empty if it is not; a peer spoke last at `peers_ns`."""
        quiet_ns = now_ns - self.heard_ns
        if quiet_ns <= limits.silent_floor_ms * NS_PER_MS or self._pause_before_ns == _UNKNOWN:
            return ""
        usual_ns = max(self.pause_ns, self._pause_before_ns)
        limit_ns = max(limits.silent_floor_ms * NS_PER_MS, limits.silent_factor * usual_ns)
        if quiet_ns <= limit_ns or peers_ns - self.heard_ns <= limit_ns:
            return ""
        return because(
            INSTRUMENT_SILENT,
            f"expected to hear of it within {limit_ns / NS_PER_S:.1f} s, found {quiet_ns / NS_PER_S:.1f} s of silence",
        )

    def state(self) -> RhythmState:
        """Return what is remembered."""
        return RhythmState(self.heard_ns, self.pause_ns, self._pause_before_ns, self._period_ns, self.silent)

    @classmethod
    def restored(cls, state: RhythmState) -> Rhythm:
        """Return the rhythm of `state`."""
        rhythm = cls()
        rhythm.heard_ns, rhythm.pause_ns = state.heard_ns, state.pause_ns
        rhythm._pause_before_ns, rhythm._period_ns = state.pause_before_ns, state.period_ns
        rhythm.silent = state.silent
        return rhythm


def newest_by_feed(heard: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return when each feed's books were heard of last, from (epoch, heard) of each."""
    newest: dict[int, int] = {}
    for epoch, heard_ns in heard:
        if heard_ns >= newest.get(epoch, 0):
            newest[epoch] = heard_ns
    return newest
