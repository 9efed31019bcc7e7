"""What is wanted of an intent whose one leg rests on the book, and how far it may go without another word."""

from dataclasses import dataclass

from core.runtime.clock import NS_PER_MS
from schemas.decision import Intent, Requote

REST_S_MAX = 86_400
"""A leg may be asked to rest this long at the most, by one word."""
CHANGES_MAX = 200
"""Amendments of one saga; then it is taken back, and its strategy begins another."""
ORDERS_MAX = 16
"""Orders of one saga, each granted when the one before it was taken back for it."""


@dataclass
class Rest:
    """The newest word of the strategy, and what became of it.

    Attributes:
        price: YES price at 1e-4.
        size: the total: what is filled and what is to remain.
        expires_s: taken back then, and gone at the venue then or a little later.
        heard_ns: when its strategy spoke of it last, by the strategy's log.
        asked_at: offset in `decision.input` behind the newest Requote that was taken; older ones are repeats.
        recv_ts_ns: of what that word was based on, as `version_offset` and `version_index` are of its Depth.
        pulled: why it is taken back; then nothing is granted or amended any more.
        again: its order is taken back so that another can be granted in its place.
        changes: how often it was amended.
    """

    price: int
    size: int
    expires_s: int
    silence_ms: int
    heard_ns: int
    recv_ts_ns: int
    version_offset: int
    version_index: int
    asked_at: int = -1
    pulled: str = ""
    again: bool = False
    changes: int = 0

    def is_silent(self, now_ns: int) -> bool:
        """Say whether its strategy did not speak of it for longer than it asked to be borne with."""
        return 0 < self.silence_ms * NS_PER_MS < now_ns - self.heard_ns

    def take(self, word: Requote) -> None:
        """Take what the strategy wants now."""
        self.price, self.size, self.expires_s = word.price, word.size, word.expires_s
        self.recv_ts_ns = word.recv_ts_ns
        self.version_offset, self.version_index = word.version_offset, word.version_index


def rest_of(intent: Intent) -> Rest | None:
    """Return what an intent wants to rest, None if its leg does not."""
    leg = intent.legs[0]
    if not leg.rests:
        return None
    return Rest(
        price=leg.price,
        size=leg.size,
        expires_s=leg.expires_s,
        silence_ms=leg.silence_ms,
        heard_ns=intent.now_ns,
        recv_ts_ns=intent.recv_ts_ns,
        version_offset=leg.version_offset,
        version_index=leg.version_index,
    )
