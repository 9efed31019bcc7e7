"""What a venue's normaliser is asked and answers. Implement `Normaliser` for a new venue."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from core.domain.errors import MalformedFrame, Reject
from core.domain.trust import UNPARSEABLE, because
from schemas import market, raw
from schemas.record import Record

AFTER_FRAME = 2**31 - 1
"""Place of a reset that follows everything else of its frame."""


_LONG_MAX = 2**63 - 1


# hot
def stated_ns(venue_ns: int) -> int:
    """Return a venue's time as a record can hold it: before 1970 it is not stated (0), after 2262 the last instant."""
    return venue_ns if 0 <= venue_ns <= _LONG_MAX else (0 if venue_ns < 0 else _LONG_MAX)


def stated_int(number: int, what: str) -> int:
    """Return a small whole number of a venue.

    Raises:
        MalformedFrame: below zero, or wider than 32 bits.
    """
    if not 0 <= number < 2**31:
        raise MalformedFrame(f"{what}: expected a small whole number, found {number}")
    return number


def distrust(error: Reject, what: str) -> str:
    """Return why the books that a rejected message could have changed are suspect; `what` was rejected."""
    return because(UNPARSEABLE, f"rejected {what}: {error}")


class FrameContext(NamedTuple):
    """Where a frame came from.

    Attributes:
        listed: instruments the feed was opened for.
    """

    feed: str
    venue: str
    epoch: int
    frame_no: int
    recv_ts_ns: int
    trail: list[int]
    listed: frozenset[str]

    def reset(self, reason: str, *instruments: str, place: int = AFTER_FRAME) -> market.FeedReset:
        """Return the reset of `instruments`, of all books of the feed if none is named."""
        return market.FeedReset(
            feed=self.feed,
            venue=self.venue,
            epoch=self.epoch,
            frame_no=self.frame_no,
            index=place,
            instruments=list(instruments),
            reason=reason,
            recv_ts_ns=self.recv_ts_ns,
            trail=self.trail,
        )


class Normalized(NamedTuple):
    """What follows from one frame.

    Attributes:
        records: market records in order; with an error they include the resets of what it could have changed.
        error: why the frame, or a part of it, is rejected.
    """

    records: list[Record]
    error: Reject | None = None


class Normaliser(Protocol):
    """One venue's frames and REST books to market records."""

    def normalize_frame(self, payload: bytes, frame: FrameContext) -> Normalized:
        """Return what follows from one whole frame.

        Raises:
            Retry: a listed instrument is not described yet; ask again with the same frame.
        """
        ...

    def normalize_rest(self, answer: raw.RestBook, frame: FrameContext) -> market.AuditSnapshot | market.BookSnapshot:
        """Return what a REST answer states, as evidence or as a polled book (`normalize.rest_books.stated`).

        Raises:
            Retry: as `normalize_frame`.
            Reject: the answer is no book of its instrument.
        """
        ...


class Describer(Protocol):
    """One venue's description of an instrument to ours."""

    def __call__(self, description: raw.Description) -> market.Instrument:
        """Return the instrument.

        Raises:
            Reject: the description is not what the venue's protocol says.
        """
        ...


class Counter:
    """Counts by name, with a bound on the names that venues can invent."""

    NAMES_MAX = 256

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def __call__(self, name: str) -> None:
        """Count one `name`."""
        if name not in self.counts and len(self.counts) >= self.NAMES_MAX:
            name = "other"
        self.counts[name] = self.counts.get(name, 0) + 1
