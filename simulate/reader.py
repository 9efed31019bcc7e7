"""What a client would hold who takes every frame at its word, and the first frame that contradicts it.

Kalshi numbers its frames: a number that is not the next one contradicts. Polymarket does not: each change and each book
carries a hash of the true book, so a client is contradicted by the first of a market he holds wrongly. To know that, the
client's book is rebuilt from the market's history from the moment something was missing or came too late.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulate.history import Book, Stated, put

if TYPE_CHECKING:
    from simulate.sockets import Connection, Frame
    from simulate.truth import Mark

BookAt = Callable[[str, int], Book | None]
Tell = Callable[["Connection", int, str, str, "Mark | None"], None]
"""`(connection, ordinal, market, by, mark of the frame)`."""


class NumberReader:
    """Follows the numbers of each sid of one connection."""

    def __init__(self, contradicted: Tell) -> None:
        self._contradicted = contradicted
        self._last: dict[int, int] = {}

    # hot: once for each frame of each connection
    def see(self, connection: "Connection", frame: "Frame", ordinal: int, mark: "Mark | None") -> None:
        """Take one sent frame."""
        seq = frame.seq
        if not seq:
            return
        last = self._last.get(frame.sid)
        if seq != (last or 0) + 1:
            self._contradicted(connection, ordinal, frame.key, "seq", mark)
            seq = max(seq, last or 0)
        self._last[frame.sid] = seq


class HashReader:
    """Follows the books of one connection by what is stated of them."""

    def __init__(self, book_at: BookAt, contradicted: Tell, healed: Tell) -> None:
        self._book_at = book_at
        self._contradicted = contradicted
        self._healed = healed
        self._held: dict[str, int] = {}
        """Version a client holds who missed nothing."""
        self._wrong: dict[str, Book] = {}
        """Books of clients who missed something."""

    # hot: once for each frame of each connection
    def see(self, connection: "Connection", frame: "Frame", ordinal: int, mark: "Mark | None") -> None:
        """Take one sent frame."""
        for said in frame.stated:
            held = self._held.get(said.key)
            if said.side is None:
                self._whole(connection, said, held, ordinal, mark)
            elif held is not None:
                if said.key not in self._wrong and held <= said.version <= held + 1:
                    self._held[said.key] = said.version
                else:
                    self._change(connection, said, held, ordinal, mark)

    def _whole(
        self, connection: "Connection", said: Stated, held: int | None, ordinal: int, mark: "Mark | None"
    ) -> None:
        self._held[said.key] = said.version
        was_wrong = self._wrong.pop(said.key, None) is not None
        if held is not None and said.version < held:
            self._contradicted(connection, ordinal, said.key, "timestamp", mark)
        elif was_wrong:
            self._healed(connection, ordinal, said.key, "book", mark)

    def _change(self, connection: "Connection", said: Stated, held: int, ordinal: int, mark: "Mark | None") -> None:
        client = self._wrong.get(said.key)
        if client is None:
            client = self._book_at(said.key, held)
        true = self._book_at(said.key, said.version)
        self._held[said.key] = max(held, said.version)
        if client is None or true is None or said.side is None:
            return
        put(client, said.side, said.price, said.size)
        if client != true:
            self._wrong[said.key] = client
            self._contradicted(connection, ordinal, said.key, "hash", mark)
        elif said.version >= held:
            self._wrong.pop(said.key, None)
            self._healed(connection, ordinal, said.key, "change", mark)
        else:
            # A late change of a level that moved on: whether the rest is right shows with the next one.
            self._wrong[said.key] = client
