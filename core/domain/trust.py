"""Why a book is not LIVE, in one place: `Quote.cause` starts with one of these words, then may come `: ` and details.

SYNCING   no snapshot
SUSPECT   gap, hash, negative level, crossed, closed, tick size, unparseable, audit: only a snapshot heals it
STALE     feed silent, instrument silent, behind venue, market closed, market paused, crossed (within its limit)
DEGRADED  polled: a book by REST, shown and marked, and not traded by default
"""

from collections.abc import Iterable

NO_SNAPSHOT = "no snapshot"

GAP = "gap"
HASH = "hash"
NEGATIVE_LEVEL = "negative level"
CROSSED = "crossed"
CLOSED = "closed"
TICK_SIZE = "tick size"
UNPARSEABLE = "unparseable"
AUDIT = "audit"

FEED_SILENT = "feed silent"
INSTRUMENT_SILENT = "instrument silent"
BEHIND_VENUE = "behind venue"
MARKET_CLOSED = "market closed"
MARKET_PAUSED = "market paused"

POLLED = "polled"

SUSPECT_CAUSES = (GAP, HASH, NEGATIVE_LEVEL, CROSSED, CLOSED, TICK_SIZE, UNPARSEABLE, AUDIT)
STALE_CAUSES = (FEED_SILENT, INSTRUMENT_SILENT, BEHIND_VENUE, MARKET_CLOSED, MARKET_PAUSED, CROSSED)
CAUSES = (NO_SNAPSHOT, *SUSPECT_CAUSES, *STALE_CAUSES[:-1], POLLED)
"""Every word once."""


def because(cause: str, detail: str = "") -> str:
    """Return the text of a cause: the word, then the detail. A detail that starts with the word already is the text."""
    if not detail:
        return cause
    return detail if cause_in(detail, (cause,)) else f"{cause}: {detail}"


def cause_in(text: str, causes: Iterable[str] = CAUSES) -> str:
    """Return which of `causes` a text starts with, the longest; empty if none."""
    found = (word for word in causes if text == word or text.startswith((f"{word}:", f"{word} ")))
    return max(found, key=len, default="")
