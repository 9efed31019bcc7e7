"""What a venue says when it does not do what was asked."""

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What a refusal tells about the request that caused it."""

    REJECTED = "rejected"
    """It was not done, and repeating it as it is would fail again."""
    DUPLICATE = "duplicate"
    """The venue already has an order with this id."""
    NOT_FOUND = "not-found"
    """No such open order; it may have been executed."""
    THROTTLED = "throttled"
    """It was not done; too many requests."""
    PAUSED = "paused"
    """It was not done; the venue or the market takes no such request now."""
    UNAUTHORIZED = "unauthorized"
    """It was not done; key, signature, clock or permission."""
    UNKNOWN = "unknown"
    """It cannot be known whether it was done: look up."""


class VenueError(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's error answer, whichever of its shapes it came in. A value, not an exception.

    `code` is the venue's own word, or `http_<status>` where it sends none.
    """

    status: int
    code: str
    message: str
    details: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    retry_after_s: int = 0
