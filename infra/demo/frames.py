"""Venue to `raw.frame`: every frame the venues sent on a market data connection against what stands on the topic."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.raw import Closed, FeedTick, Frame, Gap, RestBook
from schemas.record import Record

CONTROL_KINDS = frozenset({"PONG"})
"""Answers to keep-alives: the conversation's own, not data."""
MARKET_KINDS = frozenset({"orderbook_snapshot", "orderbook_delta", "dump", "book", "price_change"})
"""A connection that sent one of these carries market data; others are private streams."""


@dataclass
class Feeds:
    """What stands on `raw.frame`: by epoch, frame number -> digest, and which numbers were used at all."""

    digests: dict[int, dict[int, str]] = field(default_factory=dict)
    numbers: dict[int, set[int]] = field(default_factory=dict)
    repeated: int = 0
    """frames that stand there twice"""
    _chunks: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take in one record of `raw.frame`."""
        if isinstance(record, Frame | Gap | FeedTick | RestBook | Closed):
            numbers = self.numbers.setdefault(record.epoch, set())
            if isinstance(record, Frame):
                self._frame(record)
            elif record.frame_no in numbers:
                self.repeated += 1
            numbers.add(record.frame_no)

    def _frame(self, frame: Frame) -> None:
        digests = self.digests.setdefault(frame.epoch, {})
        payload = frame.payload
        if frame.chunks > 1:
            parts = self._chunks.setdefault((frame.epoch, frame.frame_no), [])
            parts.append(payload)
            if len(parts) < frame.chunks:
                return
            payload = b"".join(self._chunks.pop((frame.epoch, frame.frame_no)))
        if frame.frame_no in digests:
            self.repeated += 1
        digests[frame.frame_no] = digest(payload)

    def holes(self) -> int:
        """Return how many frame numbers are missing below the highest of their feed."""
        return sum(max(numbers, default=0) - len(numbers - {0}) for numbers in self.numbers.values())


@dataclass
class FrameCheck:
    """Outcome: frames sent, and how many of them are missing or too many."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0


def digest(payload: bytes) -> str:
    """Return what the truth log keeps of a frame."""
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest()


def check(truth: Iterable[list[Any]], closed: set[int], feeds: Iterable[dict[int, str]]) -> FrameCheck:
    """Compare one venue's truth log with the feeds of that venue.

    A frame that was sent just before a connection ended may not have been read: on a closed connection what is missing
    at the end is not counted.

    Args:
        truth: lines `[connection, ordinal, kind, key, ts_ms, sha1, …]`; ordinal 0: a fault kept it from being sent.
        closed: connections that ended before the flow did.
        feeds: for each epoch of the venue, frame number -> digest.
    """
    sent: dict[int, list[str]] = {}
    market: set[int] = set()
    control: set[str] = set()
    for connection, ordinal, kind, _, _, sha1, *_ in truth:
        if not ordinal:
            continue
        if kind in CONTROL_KINDS:
            control.add(sha1)
            continue
        sent.setdefault(connection, []).append(sha1)
        if kind in MARKET_KINDS:
            market.add(connection)
    read: Counter[str] = Counter()
    for found in feeds:
        read.update(sha1 for sha1 in found.values() if sha1 not in control)
    result = FrameCheck()
    for connection in sorted(market):
        frames = sent[connection]
        if connection in closed:
            while frames and read[frames[-1]] == 0:
                frames.pop()
        for sha1 in frames:
            result.sent += 1
            if read[sha1] > 0:
                read[sha1] -= 1
            else:
                result.lost += 1
    result.duplicated = sum(read.values())
    return result
