"""Identity and order of records, in one place.

* `market.*` records carry their origin `(epoch, frame_no, index)`.
* `derived.*` records carry their version `(offset in market.event, index)`.
* `decision.*` records have an id made of the place in the log that caused them.
* order events have an id made of what happened, so two listeners write the same event.

Ids hold nothing of wall-clock time or of the process that computed them: the same log gives the same ids.
"""

import hashlib
from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS = 18
_ID_SPACE = len(_ALPHABET) ** _ID_CHARS


class Origin(NamedTuple):
    """Where a market record came from: the feed's epoch, the frame's number, the place within the frame."""

    epoch: int
    frame_no: int
    place: int


class Version(NamedTuple):
    """Which market record a derived record follows: its offset, and the place among that record's outputs."""

    offset: int
    place: int


def record_id(incarnation: int, partition: int, offset: int, index: int, leg: int = 0, attempt: int = 0) -> str:
    """Return 18 characters of `[0-9A-Za-z]` for the `index`-th decision made on one record of one log.

    `incarnation` is that of the run whose log was read, so a replay computes the ids of its source.
    """
    return _short_hash(f"{incarnation}/{partition}/{offset}/{index}/{leg}/{attempt}")


def order_event_id(order_id: str, kind: str, reference: str) -> str:
    """Return the id of an order event; `reference` is the venue's fill id or the cumulative quantity."""
    return _short_hash(f"{order_id}/{kind}/{reference}")


def text_id(*parts: str) -> str:
    """Return an 18-character id for a thing that is named by words (a link, a strategy's shard entry)."""
    return _short_hash("\x1f".join(parts))


def _short_hash(text: str) -> str:
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big") % _ID_SPACE
    chars = []
    for _ in range(_ID_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        chars.append(_ALPHABET[digit])
    return "".join(chars)
