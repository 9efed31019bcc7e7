"""PostgreSQL for commands: the newest incarnation of a run, and what its instruments were worth."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from core.domain.errors import CrossbookError, Misconfigured
from core.domain.units import MONEY_EXP, from_fixed
from infra.cli.reach import Reach
from observe.marks import Mark, Marks
from observe.postgres import Postgres, ns_of


class Desk(NamedTuple):
    """An open database and the run a command is about."""

    database: Postgres
    run: str
    incarnation: int
    created_at: datetime
    questdb_http: str

    def marks(self, instruments: Iterable[str]) -> dict[str, Mark]:
        """Return the newest quotes; without QuestDB none, which is said on standard error."""
        from observe.questdb import QuestDb

        names = set(instruments)
        if not names:
            return {}
        try:
            marks = Marks(QuestDb(self.questdb_http).execute, self.run, ns_of(self.created_at))
            return marks.latest(names)
        except CrossbookError as e:
            print(f"crossbook: what is open is not marked: {e}", file=sys.stderr)
            return {}


def open_desk(reach: Reach) -> Desk:
    """Return the desk of a run.

    Raises:
        Unavailable: PostgreSQL does not answer.
        Misconfigured: it holds nothing of this run.
    """
    database = Postgres(reach.postgres_url, name="crossbook command")
    found = database.rows("SELECT incarnation, created_at FROM current_run WHERE name = %(run)s", {"run": reach.run})
    if not found:
        raise Misconfigured(
            f"PostgreSQL holds nothing of run {reach.run}: `python -m observe postgres` writes it (CROSSBOOK_RUN names the run)"
        )
    incarnation, created_at = found[0]
    return Desk(database, reach.run, incarnation, created_at, reach.questdb_http)


def money(amount_e6: int | None) -> str:
    """Return an amount in dollars, two decimals at least and never rounded; empty for None."""
    return "" if amount_e6 is None else from_fixed(int(amount_e6), MONEY_EXP, places_min=2)


def clock_time(at: datetime | None) -> str:
    """Return a time as people read it, in UTC."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def moment_named(text: str, now: datetime) -> datetime:
    """Return the moment a user means by `-2h`, `-3d`, `-15m` or an ISO time (UTC unless it says otherwise).

    Raises:
        Misconfigured: neither.
    """
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text.startswith("-") and text[-1:] in units and text[1:-1].isdecimal():
        return now - timedelta(**{units[text[-1]]: int(text[1:-1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError as e:
        raise Misconfigured(f"{text!r} is no time: use -2h, -3d or 2026-11-21T14:00") from e
    return at if at.tzinfo else at.replace(tzinfo=UTC)
