"""Whether this gateway may send, and why not."""

from __future__ import annotations

from collections.abc import Callable

from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock

START = "start"
"""Fault of a gateway that has not read its logs yet."""
CLOCK = "clock"
"""Fault of a gateway whose clock is behind that of accounts, on another host: old news looks young to it."""
CLOCK_BEHIND_MAX_NS = 50_000_000


class Health:
    """Faults by name, the age of the last Beat, the age of the oldest unacknowledged record.

    Late Beats or acknowledgements stop the gateway: it sends nothing new and cancels what rests. Any other fault makes
    it not ready: it takes no entry, but still hedges and unwinds.
    """

    def __init__(self, *, clock: Clock, ack_age_s: Callable[[], float], stop_after_s: float) -> None:
        self._clock = clock
        self._ack_age_s = ack_age_s
        self._stop_after_s = stop_after_s
        # The first Beat has as long as any other.
        self._began_ns = self._beat_ns = clock.now_ns()
        self._beats = 0
        self._faults: dict[str, str] = {START: "reading the logs"}
        self._stopped = ""
        self._by_hand = ""

    def halt_by_hand(self, reason: str) -> None:
        """Stop for a reason somebody gave on this machine; an empty one lets it go on."""
        self._by_hand = reason

    def beat(self, now_ns: int) -> None:
        """Note a Beat of accounts, made at `now_ns` by their clock; one from the future says that ours is behind."""
        own_ns = self._clock.now_ns()
        behind = now_ns - own_ns > CLOCK_BEHIND_MAX_NS
        words = "this host's clock is behind that of accounts by more than 50 ms: `chronyc tracking` on both hosts"
        self.fault(CLOCK, words if behind else "")
        # Never younger than it was heard, also after our clock was set back: it would stay young for as long after
        # accounts died.
        self._beat_ns = min(max(self._beat_ns, now_ns), own_ns)
        self._beats += 1

    def fault(self, name: str, reason: str) -> None:
        """Note a fault, or with an empty reason that it is over. Logged once for each change."""
        before = self._faults.get(name, "")
        if reason == before:
            return
        if reason:
            self._faults[name] = reason
            log.get().warning("gateway.fault", fault=name, reason=reason)
        else:
            del self._faults[name]
            log.get().info("gateway.fault_over", fault=name)

    def stop_reason(self) -> str:
        """Return why nothing new may be sent and what rests must go, empty if it may stay."""
        if self._by_hand:
            return self._by_hand
        # Without an age in the words: a reason that changes all the time is a new fault each time.
        if (self._clock.now_ns() - self._beat_ns) / NS_PER_S > self._stop_after_s:
            return f"the last Beat is more than {self._stop_after_s} s old"
        if self._ack_age_s() > self._stop_after_s:
            return f"Kafka has acknowledged nothing for {self._stop_after_s} s"
        return ""

    def not_ready_reason(self) -> str:
        """Return why no entry may be sent, empty if it may."""
        stop = self.stop_reason()
        if stop:
            return stop
        if not self._beats:
            return "no Beat was read yet"
        return "; ".join(f"{name}: {reason}" for name, reason in self._faults.items())

    def is_stopped(self) -> bool:
        """Say whether it is stopped now, and log the moment it changes."""
        reason = self.stop_reason()
        if bool(reason) != bool(self._stopped):
            if (
                reason
                and not self._by_hand
                and self._beat_ns == self._began_ns
                and self._ack_age_s() <= self._stop_after_s
            ):
                # Accounts did not begin yet, or this one reads what they said before: nothing broke.
                log.get().info("gateway.stopped", reason="no Beat since the start")
            elif reason:
                log.get().error("gateway.stopped", reason=reason)
            else:
                log.get().info("gateway.resumed")
        self._stopped = reason
        return bool(reason)
