"""QuestDB's side of the sink: tables made, batches written, bad rows found.

A flush is one HTTP request; it is taken as a whole or refused as a whole, so a batch that failed is sent again without
care: the tables' dedup keys make the second copy vanish. A refusal names the first bad line.

Rows go through `row()`: measured on two cores, 2.4-3.2 us a row with four symbols and six columns; a DataFrame of the same
rows costs 2.9-4.4 us to build before its 0.4-1.3 us of serialising, and would bring pandas along.

Source: https://questdb.com/docs (ILP over HTTP, deduplication); the error texts were read from a 9.3.4 server.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from questdb import QuestDBError, QuestDBErrorCode, Sender

from core.domain.errors import Misconfigured, Unavailable
from observe.tables import ALL_TABLES, Row, statements

REQUEST_TIMEOUT_MS = 30_000
_DDL_TIMEOUT_S = 10.0
_PREPARE_PAUSE_S = 0.5
_LINE = re.compile(r'"line":\s*(\d+)')
_NO_TABLE = "table does not exist"
# Every other code means that the server could not be asked: the batch waits and is sent again.
_POISON_CODES = frozenset(
    {
        QuestDBErrorCode.InvalidUtf8,
        QuestDBErrorCode.InvalidName,
        QuestDBErrorCode.InvalidTimestamp,
        QuestDBErrorCode.ArrayError,
        QuestDBErrorCode.DecimalError,
    }
)


class Refused(NamedTuple):
    """A row QuestDB will never take."""

    number: int
    """its place in the batch"""
    reason: str


class _BadBatch(Exception):
    def __init__(self, reason: str, line: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class QuestDb:
    """One connection to one server."""

    def __init__(self, http: str) -> None:
        """Remember the address (`host:port`); nothing is connected before `prepare` or `write`."""
        self._http = http
        # protocol_version is given because a server that is down cannot be asked for it (and arrays need 2).
        self._conf = (
            f"http::addr={http};auto_flush=off;protocol_version=2;retry_timeout=0;request_timeout={REQUEST_TIMEOUT_MS};"
        )
        self._sender: Sender | None = None

    def prepare(self, wait_s: float = 0.0) -> None:
        """Make the tables that are missing, and the columns a table of an older version lacks.

        Args:
            wait_s: how long to ask again while the server does not answer.

        Raises:
            Unavailable: the server does not answer.
            Misconfigured: it refuses a statement, or a column is there with another type.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                for statement in statements():
                    self.execute(statement)
                self._complete()
                return
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PREPARE_PAUSE_S)

    def _complete(self) -> None:
        for table in ALL_TABLES:
            columns = self.execute(f"SHOW COLUMNS FROM {table.name}")["dataset"]
            for statement in table.missing({name: kind for name, kind, *_ in columns}):
                self.execute(statement)

    def execute(self, statement: str) -> dict[str, Any]:
        """Run one SQL statement over HTTP and return the parsed answer.

        Raises:
            Unavailable: the server does not answer.
            Misconfigured: it refuses the statement.
        """
        url = f"http://{self._http}/exec?{urllib.parse.urlencode({'query': statement})}"
        try:
            with urllib.request.urlopen(url, timeout=_DDL_TIMEOUT_S) as answer:
                parsed: dict[str, Any] = json.loads(answer.read())
                return parsed
        except urllib.error.HTTPError as e:
            reason = e.read().decode(errors="replace")[:500]
            if e.code >= 500:
                raise Unavailable(f"QuestDB at {self._http} answers HTTP {e.code}: {reason}") from e
            raise Misconfigured(f"QuestDB at {self._http} refuses {statement[:80]!r}: {reason}") from e
        except (OSError, ValueError) as e:
            raise Unavailable(f"QuestDB at {self._http} does not answer ({e}): is the stack up?") from e

    def write(self, rows: Sequence[Row]) -> list[Refused]:
        """Write all rows that can be written and return those that never can; on return QuestDB has acknowledged.

        A bad batch is cut around the line the server names, so each bad row costs two more requests and the good ones
        go through.

        Raises:
            Unavailable: the server could not be asked; the whole batch may be sent again.
        """
        refused: list[Refused] = []
        remade = False
        spans = [(0, len(rows))]
        while spans:
            first, last = spans.pop()
            if first == last:
                continue
            try:
                self._flush(rows[first:last])
            except _BadBatch as bad:
                if _NO_TABLE in bad.reason and not remade:
                    self.prepare()
                    remade = True
                    spans.append((first, last))
                elif last - first == 1:
                    refused.append(Refused(first, bad.reason))
                else:
                    spans += _cut(first, last, bad.line)
        return sorted(refused)

    def close(self) -> None:
        """Drop the connection."""
        if self._sender is not None:
            self._sender.close(flush=False)
            self._sender = None

    def _flush(self, rows: Sequence[Row]) -> None:
        sender = self._sender
        if sender is None:
            sender = Sender.from_conf(self._conf)
            sender.establish()  # type: ignore[no-untyped-call] # the client ships no types for it
            self._sender = sender
        buffer = sender.new_buffer()
        number = 0
        try:
            for number, row in enumerate(rows):  # noqa: B007 - the failing row's number is told
                buffer.row(row.table, symbols=row.symbols, columns=row.columns, at=row.at)
        except (QuestDBError, OverflowError, TypeError, ValueError) as e:
            raise _BadBatch(f"{type(e).__name__}: {e}", number + 1) from e
        try:
            sender.flush(buffer)
        except QuestDBError as e:
            raise self._judged(e) from e

    def _judged(self, error: QuestDBError) -> Exception:
        """Return what a failed flush means: a batch with a bad row, or a server that could not be asked."""
        reason = str(error)
        if error.code in _POISON_CODES or (
            error.code == QuestDBErrorCode.ServerFlushError and '"code":"invalid"' in reason.replace(" ", "")
        ):
            line = _LINE.search(reason)
            return _BadBatch(reason[:1_000], int(line.group(1)) if line else None)
        self.close()
        return Unavailable(f"QuestDB at {self._http} did not take a batch: {reason[:500]}")


def _cut(first: int, last: int, line: int | None) -> list[tuple[int, int]]:
    """Return the spans to try next, the last one first: around the named line, else in halves."""
    if line is not None and 1 <= line <= last - first:
        bad = first + line - 1
        return [(bad + 1, last), (bad, bad + 1), (first, bad)]
    middle = (first + last) // 2
    return [(middle, last), (first, middle)]
