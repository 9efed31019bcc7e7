"""When a feed may say that it is alive.

A tick is due every quarter of a second and is written once everything that had arrived by then was read. Whoever reads a
tick of time t knows that nothing older than t is still in the socket. No clock and no socket here: both are told.
"""

from core.runtime.clock import NS_PER_MS

TICK_MS = 250
LATE_MS_MAX = 1_000
"""A worker that wakes this late was frozen: what it reads now is old, and it must not pass for fresh."""

_TICK_NS = TICK_MS * NS_PER_MS
_LATE_NS_MAX = LATE_MS_MAX * NS_PER_MS


class Pulse:
    """Owes a tick from the moment it is due until the socket was read up to that moment."""

    def __init__(self, now_ns: int) -> None:
        self._due_ns = now_ns + _TICK_NS
        self._owed_bytes: int | None = None
        self._owed_ns = 0

    def is_late(self, now_ns: int) -> bool:
        """Say whether the timer should have struck over a second ago."""
        return now_ns - self._due_ns > _LATE_NS_MAX

    def strike(self, now_ns: int, unread_bytes: int) -> int:
        """The timer struck; return the time of the tick to write, 0 if the socket must be read further first."""
        self._due_ns = now_ns + _TICK_NS
        if self._owed_bytes is None:
            self._owed_bytes = unread_bytes
            self._owed_ns = now_ns
        return self._settle(unread_bytes)

    @property
    def owes(self) -> bool:
        """Say whether a tick waits for the socket."""
        return self._owed_bytes is not None

    def read(self, read_bytes: int, unread_bytes: int) -> int:
        """Some bytes were read and handled; return the time of the tick to write, 0 if none."""
        if self._owed_bytes is None:
            return 0
        self._owed_bytes -= read_bytes
        return self._settle(unread_bytes)

    def _settle(self, unread_bytes: int) -> int:
        # Either nothing is left, or as much was read as lay there when the tick fell due.
        if unread_bytes and self._owed_bytes is not None and self._owed_bytes > 0:
            return 0
        self._owed_bytes = None
        return self._owed_ns
