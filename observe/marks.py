"""What an instrument was worth: quotes as QuestDB keeps them. Only a LIVE book has a price.

Doubles become integers at 1e-6 again here; they came from integers of four decimals, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from core.domain.units import MICRO

Query = Callable[[str], Mapping[str, Any]]
"""Runs one SQL statement on QuestDB and returns its parsed answer; raises Unavailable or Misconfigured."""

ASKED_MAX = 200
"""Instruments in one question: it travels in an address."""
_FIELDS = "state, bid_price, bid_size, ask_price, ask_size"


class Mark(NamedTuple):
    """Best bid and ask at one moment, 1e-6; None: nobody quotes that side, or the book was not to be trusted."""

    state: str
    bid_e6: int | None = None
    ask_e6: int | None = None

    @property
    def mid_e6(self) -> int | None:
        """The middle, where both sides are quoted; half a millionth is cut."""
        if self.bid_e6 is None or self.ask_e6 is None:
            return None
        return (self.bid_e6 + self.ask_e6) // 2

    def closing_e6(self, size_e6: int) -> int | None:
        """Return the price at which a position of this sign could be closed."""
        return self.bid_e6 if size_e6 > 0 else self.ask_e6


NEVER = Mark("NONE")
"""No quote was ever seen."""


class Marks:
    """The quotes of one run, not older than the run itself (an earlier one may have had its name)."""

    def __init__(self, query: Query, run: str, since_ns: int) -> None:
        """Remember whom to ask."""
        self._query = query
        self._chosen = f"run = '{run}' AND ts >= {since_ns}"

    def newest_ns(self) -> int:
        """Return the time of the newest quote that can be seen, 0 where there is none."""
        rows = self._quotes("cast(ts AS LONG)", "", "ORDER BY ts DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def at(self, instrument: str, ns: int) -> Mark:
        """Return the quote that stood at a time."""
        chosen = f"AND ts <= {ns} AND instrument = {_text(instrument)}"
        rows = self._quotes(_FIELDS, chosen, "ORDER BY ts DESC LIMIT 1")
        return _mark(rows[0]) if rows else NEVER

    def latest(self, instruments: Iterable[str]) -> dict[str, Mark]:
        """Return the newest quote of each instrument that has one."""
        names = sorted(set(instruments))
        found: dict[str, Mark] = {}
        for first in range(0, len(names), ASKED_MAX):
            asked = ", ".join(_text(name) for name in names[first : first + ASKED_MAX])
            chosen, last = f"AND instrument IN ({asked})", "LATEST ON ts PARTITION BY instrument"
            for instrument, *fields in self._quotes(f"instrument, {_FIELDS}", chosen, last):
                found[str(instrument)] = _mark(fields)
        return found

    def _quotes(self, fields: str, chosen: str, last: str) -> list[list[Any]]:
        statement = f"SELECT {fields} FROM derived_quote WHERE {self._chosen} {chosen} {last}"  # noqa: S608 - names of ours
        rows: list[list[Any]] = self._query(statement)["dataset"]
        return rows


def _mark(fields: list[Any]) -> Mark:
    state, bid, bid_size, ask, ask_size = fields
    if state != "LIVE":
        return Mark(str(state))
    return Mark("LIVE", _micro(bid) if bid_size else None, _micro(ask) if ask_size else None)


def _micro(price: float) -> int:
    return round(price * MICRO)


def _text(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"
