"""What became of one market's book, level by level: versions for the truth log, and the way back for faults.

Version 0 is the empty book; each change of one level makes the next. A frame that states a book, or a change of it,
names the version a reader of that frame holds afterwards (`Stated`), so truth and what was delivered can be compared
without knowing when anything arrived.
"""

from collections import deque
from typing import NamedTuple

from simulate.matching import NEVER_RESTED, Event, Filled, Matcher, Rested, Side

CHANGES_MAX = 20_000
"""How many changes of a market can be undone: minutes of the busiest one."""

Book = dict[tuple[Side, int], int]
"""Size at 1e-6 by side and price at 1e-4, in YES terms; levels of size 0 are absent."""


class Stated(NamedTuple):
    """What a frame says of one market's book, in YES terms: the level that changed, or the whole book (`side` None).

    `size` is the level's size after the change, `version` the book's version after it.
    """

    key: str
    version: int
    side: Side | None = None
    price: int = 0
    size: int = 0


class Change(NamedTuple):
    """One level's size before and after a version."""

    version: int
    side: Side
    price: int
    before: int
    after: int


class History:
    """Versions of one market's book."""

    __slots__ = ("_changes", "version")

    def __init__(self) -> None:
        self.version = 0
        self._changes: deque[Change] = deque(maxlen=CHANGES_MAX)

    # hot: each change of each book
    def note(self, event: Event) -> Change | None:
        """Number what an event did to the book; None when it did nothing to it."""
        if isinstance(event, Filled):
            order, price, before = event.maker, event.price, event.level + event.size
        elif isinstance(event, Rested):
            order, price, before = event.order, event.order.price, event.level - event.size
        elif event.level == NEVER_RESTED:
            return None
        else:
            order, price, before = event.order, event.order.price, event.level + event.size
        self.version += 1
        change = Change(self.version, order.side, price, before, event.level)
        self._changes.append(change)
        return change

    def book_at(self, version: int, matcher: Matcher) -> Book | None:
        """Return the book as it was at a version, None when that is too long ago.

        Args:
            matcher: the market's book at the newest version.
        """
        book = book_of(matcher)
        if version < self.version - len(self._changes):
            return None
        for change in reversed(self._changes):
            if change.version <= version:
                break
            put(book, change.side, change.price, change.before)
        return book


def book_of(matcher: Matcher) -> Book:
    """Return what rests in a matcher."""
    return {(side, price): size for side in Side for price, size in matcher.levels(side)}


def put(book: Book, side: Side, price: int, size: int) -> None:
    """Set one level; 0 takes it away."""
    if size:
        book[side, price] = size
    else:
        book.pop((side, price), None)
