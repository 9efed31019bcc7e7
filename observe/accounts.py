"""What each account must have by our fills, beside what its venue says it has: equal to the unit, or said where not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from observe.fills import NOT_TRADED
from observe.positions import NETTING, Position
from observe.postgres import Postgres

Holdings = dict[tuple[str, str], int]
"""Instrument and outcome -> size; of a venue that nets, YES alone and signed."""


@dataclass
class AccountLine:
    """One venue account."""

    account: str
    as_of: datetime | None
    """of the venue's newest report"""
    venue_cash_e6: int
    our_cash_e6: int
    opening_cash_e6: int
    fees_e6: int = 0
    realised_e6: int = 0
    open_cost_e6: int = 0
    fills: int = 0
    moved_e6: int = 0
    """cash that came or went otherwise than by trading"""
    newest: datetime | None = None
    """the newest fill or payout"""
    holdings: Holdings = field(default_factory=dict)
    """ours, what was there at the opening included"""
    differences: list[str] = field(default_factory=list)

    @property
    def is_late(self) -> bool:
        """Say whether something moved after the venue's report: then a difference means nothing yet."""
        return self.newest is not None and (self.as_of is None or self.newest > self.as_of)


def account_lines(database: Postgres, incarnation: int) -> list[AccountLine]:
    """Return every account of a run, by name.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    wanted = {"incarnation": incarnation, "opening": list(NOT_TRADED)}
    positions: dict[str, dict[str, Position]] = {}
    newest: dict[str, datetime] = {}
    for account, instrument, at, *figures in database.rows(
        "SELECT account, instrument, at, size_e6, cost_e6, realised_e6, fees_e6, no_e6, fills FROM position "
        "WHERE incarnation = %(incarnation)s",
        wanted,
    ):
        positions.setdefault(account, {})[instrument] = Position(*figures)
        newest[account] = max(newest.get(account, at), at)
    moved: dict[str, int] = {
        account: int(cash)
        for account, cash in database.rows(
            "SELECT account, sum(cash_e6) FROM entry WHERE incarnation = %(incarnation)s AND instrument = '' "
            "AND NOT kind = ANY(%(opening)s) GROUP BY account",
            wanted,
        )
    }
    found = []
    for account, opening_cash, opening, cash, holdings, as_of, at in database.rows(
        "SELECT account, opening_cash_e6, opening_holdings, cash_e6, holdings, as_of, at FROM venue_account "
        "WHERE incarnation = %(incarnation)s ORDER BY account",
        wanted,
    ):
        held = positions.get(account, {})
        line = AccountLine(account, as_of or at, cash, 0, opening_cash, newest=newest.get(account))
        line.moved_e6 = moved.get(account, 0)
        _add_up(line, held.values())
        expected = _compare(line, sizes(account, opening), sizes(account, holdings), held)
        line.our_cash_e6 = opening_cash + line.realised_e6 - line.open_cost_e6 - line.fees_e6 + line.moved_e6 - expected
        if line.our_cash_e6 != cash:
            line.differences.insert(0, f"cash: ours {line.our_cash_e6}, the venue's {cash}")
        found.append(line)
    return found


def sizes(account: str, holdings: Iterable[dict[str, Any]]) -> Holdings:
    """Return what a report says is held."""
    nets = account.partition(":")[0] in NETTING
    found: Holdings = {}
    for holding in holdings:
        outcome, size = str(holding["outcome"]), int(holding["size_e6"])
        if nets and outcome == "NO":
            outcome, size = "YES", -size
        key = (str(holding["instrument"]), outcome)
        found[key] = found.get(key, 0) + size
    return found


def _add_up(line: AccountLine, positions: Iterable[Position]) -> None:
    for position in positions:
        line.fees_e6 += position.fees_e6
        line.realised_e6 += position.realised_e6
        line.open_cost_e6 += position.cost_e6
        line.fills += position.fills


def _compare(line: AccountLine, opening: Holdings, theirs: Holdings, held: dict[str, Position]) -> int:
    """Note holdings that differ; return the dollars that were locked in positions since the account was opened."""
    nets = line.account.partition(":")[0] in NETTING
    ours, locked = dict(opening), 0
    for instrument, position in held.items():
        before = opening.get((instrument, "YES"), 0)
        if nets:
            after = ours[instrument, "YES"] = before + position.size_e6
            locked += max(-after, 0) - max(-before, 0)
        else:
            ours[instrument, "YES"] = before + position.size_e6 + position.no_e6
            ours[instrument, "NO"] = opening.get((instrument, "NO"), 0) + position.no_e6
            locked += position.no_e6
    line.holdings = {key: size for key, size in ours.items() if size}
    for key in sorted(ours.keys() | theirs.keys()):
        mine, venues = ours.get(key, 0), theirs.get(key, 0)
        if mine != venues:
            line.differences.append(f"{key[0]} {key[1]}: ours {mine}, the venue's {venues}")
    return locked
