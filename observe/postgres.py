"""PostgreSQL's side of the desk: one connection, its tables brought up to date, its errors told apart.

Steps (`observe/migrations`) are done by whoever comes first, in one transaction under an advisory lock that dies with
its session: a process that is killed in the middle leaves nothing half done and nothing locked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection

from core.domain.errors import Misconfigured, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 60_000
_LOCK = 0x63726F7373
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = tuple[Any, ...]


class Postgres:
    """One connection, made when it is first needed and again after it was lost. Not for sharing over threads."""

    def __init__(self, url: str, *, name: str = "crossbook") -> None:
        """Remember where; `name` is what the server shows of this session."""
        self._url = url
        self._name = name
        self._connection: Connection[Row] | None = None

    def prepare(self) -> None:
        """Bring the tables up to date; idempotent, and safe beside others who do the same.

        Raises:
            Unavailable: the server does not answer.
            Misconfigured: it refuses, or its tables are newer than this program.
        """
        import sqlalchemy
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config(attributes={})
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            engine = sqlalchemy.create_engine(
                "postgresql+psycopg://", creator=self._connect, poolclass=sqlalchemy.NullPool
            )
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as e:
            raise Misconfigured(f"PostgreSQL's tables are newer than this program, or not ours: {e}") from e
        except sqlalchemy.exc.OperationalError as e:
            raise Unavailable(f"PostgreSQL was lost while its tables were made: {e.orig}") from e
        except sqlalchemy.exc.DBAPIError as e:
            raise Misconfigured(f"PostgreSQL refuses to make the tables: {e.orig}") from e

    @contextmanager
    def transaction(self) -> Iterator[Connection[Row]]:
        """Give the connection inside one transaction: all of it is done, or nothing.

        Raises:
            Unavailable: the server does not answer, or was lost; whether a commit under way was done is not known.
        """
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        try:
            with self._connection.transaction():
                yield self._connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as e:
            self.close()
            raise Unavailable(f"PostgreSQL was lost: {str(e).strip()}") from e

    def rows(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """Return all rows of one query.

        Raises:
            Unavailable: the server does not answer.
            Misconfigured: the tables are not there yet.
        """
        try:
            with self.transaction() as connection:
                return connection.execute(statement.encode(), parameters).fetchall()
        except psycopg.errors.UndefinedTable as e:
            raise Misconfigured("PostgreSQL has no tables of ours yet: `python -m observe postgres` makes them") from e

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Connection[Row]:
        try:
            return psycopg.connect(
                self._url,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name=self._name,
                options=f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS}",
            )
        except psycopg.OperationalError as e:
            raise Unavailable(f"PostgreSQL does not answer ({_first_line(e)}): is the stack up?") from e
        except psycopg.ProgrammingError as e:
            raise Misconfigured("CROSSBOOK_POSTGRES_URL is not an address psycopg can read") from e


def moment(ns: int) -> datetime:
    """Return ns since the epoch as PostgreSQL keeps times: to the microsecond, cut."""
    return _EPOCH + timedelta(microseconds=ns // 1_000)


def moment_or_none(ns: int) -> datetime | None:
    """Return a time, None where the record states none."""
    return moment(ns) if ns > 0 else None


def ns_of(at: datetime) -> int:
    """Return ns since the epoch."""
    passed = at - _EPOCH
    return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1_000


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
