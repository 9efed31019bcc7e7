"""How long, how far and how often a book may do what before it is believed no more. Values, passed to the book task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from core.domain.errors import Misconfigured
from core.runtime.clock import NS_PER_MS


@dataclass(frozen=True)
class TrustLimits:
    """Times in ms of log time. `from_options` reads them from a task's options; the defaults are those of the settings.

    Attributes:
        crossed_ms: a book crossed for longer is wrong; both venues cross for moments between two messages of one match.
        feed_silent_ms: a feed whose last tick is older has stopped.
        hash_sample: one in so many changes that state a hash is recomputed; 0: none.
        behind_venue_ms: a feed whose records come so much later than usual is late; 0: not looked at.
        behind_venue_max_ms: one whose records come so much after the venue's time is late however usual that is; 0: not
            looked at. Both clocks are right to a second or two where orders are sent at all (Kalshi refuses a signature that
            is seconds off), and no price of ten seconds ago is worth trading on.
        silent_floor_ms: no instrument is silent before this; 0: not looked at. See `derive.rhythm`.
        silent_factor: how many times its longest usual pause an instrument may pause.
        silent_learn_ms: how long an instrument must have spoken before its pauses are known.
        audit_before_ms: how much older than the question a REST answer may be: venues answer from caches.
        audit_after_ms: how much later than the answer the stream may bring what the answer already shows.
        audit_strikes: audits in a row that find the same level different before the book is suspect.
    """

    crossed_ms: int = 1_000
    feed_silent_ms: int = 1_000
    hash_sample: int = 4
    behind_venue_ms: int = 2_000
    behind_venue_max_ms: int = 10_000
    silent_floor_ms: int = 60_000
    silent_factor: int = 4
    silent_learn_ms: int = 600_000
    audit_before_ms: int = 2_000
    audit_after_ms: int = 2_000
    audit_strikes: int = 2

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> TrustLimits:
        """Return the limits a task is given; what is not among the options has its default.

        Raises:
            Misconfigured: a value is no whole number of at least 0.
        """
        found = {}
        for one in fields(cls):
            text = options.get(one.name)
            if text is None:
                continue
            if not (text.isascii() and text.isdecimal()):
                raise Misconfigured(f"{one.name}: expected a whole number of at least 0, found {text!r}")
            found[one.name] = int(text)
        return cls(**found)

    @property
    def crossed_ns(self) -> int:
        return self.crossed_ms * NS_PER_MS

    @property
    def feed_silent_ns(self) -> int:
        return self.feed_silent_ms * NS_PER_MS
