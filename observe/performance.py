"""Daily performance of each strategy on each account, from its fills: pure folding, and the job that notes it.

A day is a UTC day of the venue's time. Realised profit belongs to the day on which it was made, a payout to the
strategies that held what was paid. What is open is marked at the price it could be closed at, if its book is LIVE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from core.domain.portions import portions
from core.domain.units import MICRO
from core.runtime.clock import Clock
from observe.marks import Mark, Marks
from observe.positions import Position, locked_e6
from observe.postgres import Postgres, moment

Who = tuple[str, str]
"""Account and strategy."""


class Trade(NamedTuple):
    """A fill in YES terms, or (without a strategy) a payout of an instrument to the whole account.

    A payout (`payout_e6` is not None) closes all that is open: at its own cash, if it names the size that it closed, so
    that what strategies get adds up to what the venue paid; else at its price.
    """

    at: datetime
    account: str
    strategy: str
    instrument: str
    event_group: str
    size_e6: int
    cash_e6: int
    fee_e6: int = 0
    payout_e6: int | None = None


@dataclass
class Day:
    """What one strategy did on one account on one day."""

    fills: int = 0
    volume_e6: int = 0
    fees_e6: int = 0
    realised_e6: int = 0
    open_cost_e6: int = 0


@dataclass
class Book:
    """The positions of every strategy, and its days."""

    positions: dict[tuple[str, str, str], Position] = field(default_factory=dict)
    """account, strategy, instrument"""
    events: dict[str, str] = field(default_factory=dict)
    """instrument -> event group"""
    days: dict[tuple[date, str, str], Day] = field(default_factory=dict)
    costs: dict[Who, int] = field(default_factory=dict)

    def add(self, trade: Trade) -> None:
        """Take in one trade; they come in their order."""
        self.events.setdefault(trade.instrument, trade.event_group)
        if trade.payout_e6 is not None:
            self._pay(trade, trade.payout_e6)
            return
        position = self.positions.setdefault((trade.account, trade.strategy, trade.instrument), Position())
        day = self._moved(trade.at, (trade.account, trade.strategy), position, trade.size_e6, trade.cash_e6)
        position.fees_e6 += trade.fee_e6
        position.fills += 1
        day.fills += 1
        day.volume_e6 += abs(trade.cash_e6)
        day.fees_e6 += trade.fee_e6

    def unrealised(
        self, marks: Mapping[str, Mark], payouts: Mapping[tuple[str, str], int] | None = None
    ) -> dict[Who, tuple[int, int]]:
        """Return (profit of what is open at its closing price, positions without one) by account and strategy.

        `payouts`: what determined markets are to pay (`provisional`): it counts before any price.
        """
        found: dict[Who, tuple[int, int]] = {}
        for (account, strategy, instrument), position in self.positions.items():
            if position.size_e6:
                gain, missing = found.get((account, strategy), (0, 0))
                price = (payouts or {}).get((account, instrument))
                if price is None and instrument in marks:
                    price = marks[instrument].closing_e6(position.size_e6)
                if price is None:
                    missing += 1
                else:
                    gain += position.unrealised_e6(price)
                found[account, strategy] = gain, missing
        return found

    def _pay(self, trade: Trade, payout_e6: int) -> None:
        """Close what strategies hold, by their names: as accounts do (`decide/positions.py`), to the unit."""
        keys = sorted(
            key
            for key, position in self.positions.items()
            if (key[0], key[2]) == (trade.account, trade.instrument) and position.size_e6
        )
        paid = closing_e6([self.positions[key].size_e6 for key in keys], trade.size_e6, trade.cash_e6, payout_e6)
        for key, cash_e6 in zip(keys, paid, strict=True):
            self._moved(trade.at, key[:2], self.positions[key], -self.positions[key].size_e6, cash_e6)

    def _moved(self, at: datetime, who: Who, position: Position, size_e6: int, cash_e6: int) -> Day:
        before = position.cost_e6
        realised = position.trade(size_e6, cash_e6)
        day = self.days.setdefault((at.date(), *who), Day())
        day.realised_e6 += realised
        self.costs[who] = self.costs.get(who, 0) + position.cost_e6 - before
        day.open_cost_e6 = self.costs[who]
        return day


def fold(trades: Iterable[Trade]) -> Book:
    """Return the book after all trades."""
    book = Book()
    for trade in trades:
        book.add(trade)
    return book


_FILLS = """
SELECT at, account, strategy, instrument, event_group, yes_size_e6, yes_cash_e6, fee_e6, log_partition, log_offset
FROM fill_of WHERE incarnation = %(incarnation)s AND NOT failed AND at < %(until)s
"""
_PAYOUTS = """
SELECT at, account, instrument, outcome, size_e6, cash_e6, payout, yes_cash_e6, payout_e6 FROM payout
WHERE incarnation = %(incarnation)s AND stands AND phase <> 'PROVISIONAL' AND at < %(until)s
"""
_PROVISIONAL = """
SELECT account, instrument, payout_e6 FROM payout
WHERE incarnation = %(incarnation)s AND stands AND phase = 'PROVISIONAL'
"""


def trades(database: Postgres, incarnation: int, until: datetime) -> list[Trade]:
    """Return all fills and payouts of a run before a time, in their order.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    wanted: dict[str, Any] = {"incarnation": incarnation, "until": until}
    found: list[tuple[tuple[Any, ...], Trade]] = []
    for at, account, strategy, instrument, event, size, cash, fee, partition, offset in database.rows(_FILLS, wanted):
        found.append(((at, 0, partition, offset), Trade(at, account, strategy, instrument, event, size, cash, fee)))
    for at, account, instrument, outcome, size, cash, stated, yes_cash, word in database.rows(_PAYOUTS, wanted):
        payout = paid(account, outcome, size, cash, stated, yes_cash, word)
        if payout is not None:
            closed, got, each = payout
            found.append(((at, 1, 0, 0), Trade(at, account, "", instrument, "", closed, got, payout_e6=each)))
    return [trade for _, trade in sorted(found, key=lambda pair: pair[0])]


def provisional(database: Postgres, incarnation: int) -> dict[tuple[str, str], int]:
    """Return what one YES is to pay by account and instrument, of markets that are determined and have not paid.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    found = database.rows(_PROVISIONAL, {"incarnation": incarnation})
    return {(account, instrument): payout for account, instrument, payout in found}


def paid(
    account: str, outcome: str, size_e6: int, cash_e6: int, statement: str, yes_cash_e6: int, word_e6: int
) -> tuple[int, int, int] | None:
    """Return what one entry paid: (change of YES, signed cash at its price, what one YES got); None if it says nothing.

    Of positions that cancel out nothing is paid: they end at the market's own word.
    """
    if not size_e6:
        return (0, 0, word_e6) if word_e6 >= 0 else None
    if not statement:
        size_e6, no = (-size_e6, size_e6) if outcome == "NO" else (size_e6, 0)
        # Of a short or of NO the locked dollars come back with the payout of the other side.
        yes_cash_e6 = cash_e6 - locked_e6(account, -size_e6, -no)
    return size_e6, yes_cash_e6, abs(yes_cash_e6) * MICRO // abs(size_e6)


def payout_e6(account: str, outcome: str, size_e6: int, cash_e6: int) -> int | None:
    """Return what one YES was paid, from what an account was paid for what it gave up; None if it gave up nothing."""
    found = paid(account, outcome, size_e6, cash_e6, "", 0, -1)
    return None if found is None else found[2]


def closing_e6(sizes: Sequence[int], paid_size_e6: int, cash_e6: int, payout_e6: int) -> list[int]:
    """Return the signed cash that closes each of some positions of one market, in their order: shares of all that was paid.

    `paid_size_e6` is the change of YES that `cash_e6` was paid for (what of it is not among `sizes` has its share, too);
    0: each is closed at `payout_e6`.
    """
    if not paid_size_e6:
        return portions([size * payout_e6 for size in sizes], MICRO)
    rest = -paid_size_e6 - sum(sizes)
    return portions([size * cash_e6 for size in (*sizes, rest)], -paid_size_e6)[:-1]


@dataclass
class Performance:
    """The job: notes every day that has trades, and today's prices of what is open."""

    database: Postgres
    marks: Marks
    clock: Clock
    incarnation: int
    name: str = "performance"
    every_s: float = 30.0

    def __post_init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._book = Book()

    def run(self) -> tuple[int, str]:
        """Fold what is new since the last run from the beginning; note days and prices."""
        now = moment(self.clock.now_ns())
        seen = self.database.rows(
            "SELECT count(*), count(*) FILTER (WHERE failed), count(*) FILTER (WHERE ticket = '') FROM fill_of "
            "WHERE incarnation = %(i)s",
            {"i": self.incarnation},
        )[0]
        paid = self.database.rows("SELECT count(*) FROM entry WHERE incarnation = %(i)s", {"i": self.incarnation})[0]
        if (*seen, *paid) != self._seen:
            self._book = fold(trades(self.database, self.incarnation, now))
            self._seen = (*seen, *paid)
        book = self._book
        held = {instrument for (_, _, instrument), position in book.positions.items() if position.size_e6}
        expected = provisional(self.database, self.incarnation) if held else {}
        open_now = book.unrealised(self.marks.latest(held) if held else {}, expected)
        rows = [
            (self.incarnation, *key, day.fills, day.volume_e6, day.fees_e6, day.realised_e6, day.open_cost_e6)
            for key, day in book.days.items()
        ]
        with self.database.transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(_DAY, rows)
            days = [list(column) for column in zip(*book.days, strict=True)] or [[], [], []]
            cursor.execute(_NOTHING, (self.incarnation, *days))
            cursor.execute(_NONE_OPEN, (self.incarnation, now.date()))
            cursor.executemany(
                _OPEN,
                [
                    (self.incarnation, now.date(), *who, book.costs.get(who, 0), gain, missing)
                    for who, (gain, missing) in open_now.items()
                ],
            )
        return len(rows) + len(open_now), f"{len(rows)} days, {len(open_now)} open"


_DAY = """
INSERT INTO performance (incarnation, day, account, strategy, fills, volume_e6, fees_e6, realised_e6, open_cost_e6,
    unrealised_e6, unmarked) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0)
ON CONFLICT (incarnation, day, account, strategy) DO UPDATE SET fills = excluded.fills, volume_e6 = excluded.volume_e6,
    fees_e6 = excluded.fees_e6, realised_e6 = excluded.realised_e6, open_cost_e6 = excluded.open_cost_e6, noted_at = now()
"""
_NOTHING = """
UPDATE performance SET fills = 0, volume_e6 = 0, fees_e6 = 0, realised_e6 = 0 WHERE incarnation = %s
AND (fills <> 0 OR realised_e6 <> 0)
AND NOT (day, account, strategy) IN (SELECT * FROM unnest(%s::date[], %s::text[], %s::text[]))
"""
"""Of days on which nothing happened after all: what made them was taken back."""
_NONE_OPEN = "UPDATE performance SET unrealised_e6 = 0, unmarked = 0 WHERE incarnation = %s AND day = %s"
_OPEN = """
INSERT INTO performance (incarnation, day, account, strategy, fills, volume_e6, fees_e6, realised_e6, open_cost_e6,
    unrealised_e6, unmarked) VALUES (%s, %s, %s, %s, 0, 0, 0, 0, %s, %s, %s)
ON CONFLICT (incarnation, day, account, strategy) DO UPDATE SET unrealised_e6 = excluded.unrealised_e6,
    unmarked = excluded.unmarked, noted_at = now()
"""
