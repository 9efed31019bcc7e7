"""Other gateways of the same account, as order.event shows them: who lives, who may trade, who comes first by name."""

from __future__ import annotations

from core.runtime.clock import NS_PER_S, Clock
from schemas.order import Alive

TWIN_AGE_MAX_NS = 2 * NS_PER_S
"""A gateway that said nothing for so long sends nothing either."""


class Twins:
    """Of one gateway."""

    def __init__(self, writer: str, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self.alive_ns = 0
        """Newest sign of life of any gateway of this account that came before our own first word."""
        self._ready: dict[str, int] = {}
        """When each gateway of this account that is ready last said so."""
        self._ready_ns = 0
        """When another gateway of this account last said that it can trade."""

    def hear(self, record: Alive, *, before_us: bool) -> None:
        """Take in a sign of life of another gateway; `before_us`: it was written before our own first word."""
        if before_us:
            self.alive_ns = max(self.alive_ns, record.ts_ns)
        if record.ready:
            self._ready_ns = max(self._ready_ns, record.ts_ns)
            self._ready[record.writer] = record.ts_ns
        else:
            self._ready.pop(record.writer, None)

    def one_is_ready(self) -> bool:
        """Say whether another gateway lately said that it can trade."""
        return self._clock.now_ns() - self._ready_ns <= TWIN_AGE_MAX_NS

    def we_come_first(self) -> bool:
        """Say whether no ready gateway of this account comes before this one by name."""
        alive_ns = self._clock.now_ns() - TWIN_AGE_MAX_NS
        self._ready = {writer: ts_ns for writer, ts_ns in self._ready.items() if ts_ns > alive_ns}
        return all(self._writer < writer for writer in self._ready)
