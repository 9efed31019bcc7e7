"""What a venue's WebSocket protocol asks for, without a socket: frames in, actions out.

A conversation belongs to one connection and is thrown away with it. It says what to do in the order in which it is to be
done: a gap is said before the frame that reveals it, which nobody may apply to a book that is still believed.

How a book that is suspect gets a new snapshot is the venue's rule, and the answer to `resync`:

* Kalshi: `get_snapshot` on the same subscription; the answers take their place in its sequence.
* Polymarket: a fresh subscription on another connection (`Renew`); repeating one brings no book.
* A venue whose snapshot comes by REST beside the stream (Binance: buffer the changes, fetch the depth, drop what is older,
  replay the rest) needs one action more: fetch this path, and hand the answer to `received` as if it had come on the
  wire. The changes stand on the log meanwhile, so the log is the buffer: it is the normaliser that drops what is older than
  the snapshot. Neither venue here asks for it; their REST books are evidence (`audit`) and never enter a stream's book.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class Publish(msgspec.Struct, frozen=True):
    """Write the frame in hand to the log.

    Attributes:
        overtaken: the venue's sequence says that later frames came before it: it may change no book.
    """

    overtaken: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a text message to the venue."""

    payload: bytes


class Ping(msgspec.Struct, frozen=True):
    """Send a protocol ping; the pong shows that the venue is there."""


class Gap(msgspec.Struct, frozen=True):
    """The venue's sequence skipped: the books of `instruments` (empty: all of the feed) are suspect from here on."""

    reason: str
    instruments: tuple[str, ...] = ()


class Complete(msgspec.Struct, frozen=True):
    """Every instrument of the feed has had its snapshot."""


class Renew(msgspec.Struct, frozen=True):
    """Open a new feed beside this one: fresh books, where a subscription brings them only once.

    Attributes:
        instruments: whose books are wanted, so that few of many can come on a small feed; empty: all of the feed, which
            ends when the new one is ready.
    """

    reason: str
    instruments: tuple[str, ...] = ()


class Reconnect(msgspec.Struct, frozen=True):
    """This connection is of no more use.

    Attributes:
        fewer: the venue refuses so many instruments on one connection.
        refused: the venue refuses us; trying again soon would not help.
    """

    reason: str
    fewer: bool = False
    refused: bool = False


Action = Publish | Send | Ping | Gap | Complete | Renew | Reconnect
Actions = Sequence[Action]

PUBLISH_ONLY: Actions = (Publish(),)
"""The answer to nearly every frame; compared by identity, so that the hot path does nothing else."""
NOTHING: Actions = ()


class Conversation(Protocol):
    """One venue's protocol on one connection."""

    def opened(self, now_ns: int) -> Actions:
        """Return what is said first."""
        ...

    def received(self, frame: bytes, now_ns: int) -> Actions:
        """Return what follows from one frame. Hot: 100,000 frames a second and worker."""
        ...

    def beat(self, now_ns: int) -> Actions:
        """Return what is due; called every quarter of a second."""
        ...

    def resync(self, requests: Mapping[str, int], now_ns: int) -> Actions:
        """Return what gets new snapshots; `requests`: when each instrument's was asked for, void if one came since."""
        ...

    @property
    def missing(self) -> int:
        """Number of instruments without a snapshot so far."""
        ...

    @property
    def odd(self) -> int:
        """Number of frames that could not be read or are of an unknown type."""
        ...
