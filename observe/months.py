"""The month's books as files: tickets, orders, fills, fees, lots, settlements, entries. The same data give the same bytes.

CSV holds exact decimals and UTC times; Parquet the same as DECIMAL and TIMESTAMP. `manifest.json` names the run, how
many rows each file has and its SHA-256, and whether the month was over when it was written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from core.domain.errors import Misconfigured
from core.domain.units import from_fixed
from core.runtime.clock import Clock, SystemClock
from observe.lots import Trade, lots
from observe.performance import paid
from observe.postgres import Postgres, Row, moment

Format = Literal["csv", "parquet"]
Kind = Literal["text", "int", "flag", "time", "e6"]
DECIMALS = 6


@dataclass(frozen=True)
class Sheet:
    """One file: its columns, and the query that fills it between two moments."""

    name: str
    columns: tuple[tuple[str, Kind], ...]
    query: str = ""


SHEETS = (
    Sheet(
        "tickets",
        (
            *(("decided_at", "time"), ("ticket", "text"), ("strategy", "text"), ("link", "text"), ("legs", "int")),
            *(("expected_profit", "e6"), ("state", "text"), ("reason", "text"), ("cash", "e6"), ("fees", "e6")),
        ),
        "SELECT decided_at, id, strategy, link, legs, profit_e6, coalesce(state, ''), coalesce(reason, ''), "
        "coalesce(cash_e6, 0), coalesce(fees_e6, 0) FROM ticket_now "
        "WHERE incarnation = %(incarnation)s AND decided_at >= %(begin)s AND decided_at < %(end)s ORDER BY 1, 2",
    ),
    Sheet(
        "manual_tickets",
        (
            *(("traded_at", "time"), ("ticket", "text"), ("account", "text"), ("instrument", "text"), ("side", "text")),
            *(("size", "e6"), ("price", "e6"), ("fee", "e6"), ("strategy", "text"), ("reference", "text")),
            *(("who", "text"), ("why", "text"), ("withdrawn", "flag")),
        ),
        "SELECT traded_at, id, account, instrument, side, size_e6, price_e6, fee_e6, strategy, reference, who, why, "
        "withdrawn FROM manual_ticket "
        "WHERE incarnation = %(incarnation)s AND traded_at >= %(begin)s AND traded_at < %(end)s ORDER BY 1, 2",
    ),
    Sheet(
        "orders",
        (
            *(("granted_at", "time"), ("order", "text"), ("ticket", "text"), ("leg", "int"), ("attempt", "int")),
            *(("purpose", "text"), ("account", "text"), ("instrument", "text"), ("side", "text"), ("outcome", "text")),
            *(("limit", "e6"), ("size", "e6"), ("time_in_force", "text"), ("venue_order", "text"), ("status", "text")),
            *(("filled", "e6"), ("fees", "e6")),
        ),
        "SELECT o.granted_at, o.id, o.ticket, o.leg, o.attempt, o.purpose, o.account, o.instrument, o.side, o.outcome, "
        "(o.price * 10::numeric ^ (o.price_exp + 6))::bigint, (o.size * 10::numeric ^ (o.size_exp + 6))::bigint, "
        "o.time_in_force, coalesce(s.venue_order, ''), coalesce(s.status, ''), coalesce(f.size, 0)::bigint, "
        "coalesce(f.fees, 0)::bigint FROM venue_order o "
        "LEFT JOIN LATERAL (SELECT max(venue_order) AS venue_order, "
        "(array_agg(status ORDER BY terminal DESC, log_offset DESC))[1] AS status FROM order_state s "
        "WHERE s.incarnation = o.incarnation AND s.order_id = o.id) s ON true "
        "LEFT JOIN LATERAL (SELECT sum(size_e6) AS size, sum(fee_e6) AS fees FROM fill f "
        "WHERE f.incarnation = o.incarnation AND f.order_id = o.id AND NOT f.failed) f ON true "
        "WHERE o.incarnation = %(incarnation)s AND o.granted_at >= %(begin)s AND o.granted_at < %(end)s ORDER BY 1, 2",
    ),
    Sheet(
        "fills",
        (
            *(("at", "time"), ("account", "text"), ("fill", "text"), ("order", "text"), ("ticket", "text")),
            *(("strategy", "text"), ("instrument", "text"), ("event_group", "text"), ("outcome", "text")),
            *(("token_side", "text"), ("size", "e6"), ("price", "e6"), ("notional", "e6"), ("fee", "e6")),
            *(("asset", "text"), ("liquidity", "text"), ("failed", "flag")),
        ),
        "SELECT at, account, fill, order_id, ticket, strategy, instrument, event_group, outcome, token_side, size_e6, "
        "price_e6, notional_e6, fee_e6, asset, liquidity, failed FROM fill_of "
        "WHERE incarnation = %(incarnation)s AND at >= %(begin)s AND at < %(end)s ORDER BY 1, 2, 3",
    ),
    Sheet(
        "fees",
        (
            *(("day", "text"), ("account", "text"), ("strategy", "text"), ("asset", "text"), ("liquidity", "text")),
            *(("fills", "int"), ("notional", "e6"), ("fees", "e6")),
        ),
        "SELECT to_char(at, 'YYYY-MM-DD'), account, strategy, asset, liquidity, count(*), sum(notional_e6)::bigint, "
        "sum(fee_e6)::bigint FROM fill_of WHERE incarnation = %(incarnation)s AND at >= %(begin)s AND at < %(end)s "
        "AND NOT failed GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
    ),
    Sheet(
        "settlements",
        (
            *(("at", "time"), ("account", "text"), ("fill", "text"), ("settlement", "text"), ("reference", "text")),
            *(("instrument", "text"), ("size", "e6"), ("notional", "e6")),
        ),
        "SELECT s.at, s.account, s.fill, s.settlement, s.reference, coalesce(f.instrument, ''), coalesce(f.size_e6, 0), "
        "coalesce(f.notional_e6, 0) FROM settlement s "
        "LEFT JOIN fill f ON f.incarnation = s.incarnation AND f.account = s.account AND f.fill = s.fill "
        "WHERE s.incarnation = %(incarnation)s AND s.at >= %(begin)s AND s.at < %(end)s ORDER BY 1, 2, 3",
    ),
    Sheet(
        "payouts",
        (
            *(("at", "time"), ("entry", "text"), ("account", "text"), ("instrument", "text"), ("phase", "text")),
            *(("outcome", "text"), ("held", "e6"), ("payout", "e6"), ("expected", "e6"), ("paid", "e6")),
            *(("fees_stated", "e6"), ("reverses", "text"), ("stands", "flag"), ("statement", "text")),
        ),
        "SELECT at, id, account, instrument, phase, outcome, CASE phase WHEN 'PROVISIONAL' THEN held_e6 ELSE -size_e6 END, "
        "nullif(payout_e6, -1), expected_e6, cash_e6, fee_e6, reverses, stands, payout FROM payout "
        "WHERE incarnation = %(incarnation)s AND at >= %(begin)s AND at < %(end)s ORDER BY 1, 2",
    ),
    Sheet(
        "entries",
        (
            *(("at", "time"), ("entry", "text"), ("account", "text"), ("kind", "text"), ("instrument", "text")),
            *(("outcome", "text"), ("size", "e6"), ("cash", "e6"), ("reason", "text")),
        ),
        "SELECT at, id, account, kind, instrument, outcome, size_e6, cash_e6, reason FROM entry "
        "WHERE incarnation = %(incarnation)s AND phase <> 'PROVISIONAL' AND at >= %(begin)s AND at < %(end)s ORDER BY 1, 2",
    ),
)
LOTS = Sheet(
    "lots",
    (
        *(("account", "text"), ("instrument", "text"), ("side", "text"), ("size", "e6"), ("opened_at", "time")),
        *(("open_fill", "text"), ("open_cash", "e6"), ("closed_at", "time"), ("close_fill", "text")),
        *(("close_cash", "e6"), ("realised", "e6"), ("fees", "e6")),
    ),
)


def month_of(text: str) -> tuple[datetime, datetime]:
    """Return the first moment of a month named `2026-11`, and of the next, in UTC.

    Raises:
        Misconfigured: it is no month.
    """
    try:
        begin = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as e:
        raise Misconfigured(f"--month {text!r}: expected a month such as 2026-11") from e
    year, month = divmod(begin.year * 12 + begin.month, 12)
    return begin, datetime(year, month + 1, 1, tzinfo=UTC)


@dataclass
class Export:
    """The job that writes a month, once and when it is told to."""

    database: Postgres
    incarnation: int
    run_name: str
    month: str
    folder: Path
    form: Format = "csv"
    clock: Clock = field(default_factory=SystemClock)
    name: str = "export"
    every_s: float = 0.0
    written: dict[str, int] = field(default_factory=dict)
    complete: bool = False

    def run(self) -> tuple[int, str]:
        """Write the files.

        Raises:
            Misconfigured: no such month, or nothing here writes Parquet.
            Unavailable: PostgreSQL does not answer.
        """
        now = moment(self.clock.now_ns())
        self.written = export(
            self.database, self.incarnation, self.run_name, self.month, self.folder, form=self.form, now=now
        )
        self.complete = now >= month_of(self.month)[1]
        return sum(self.written.values()), f"{self.month} as {self.form}"


def export(
    database: Postgres, incarnation: int, run: str, month: str, folder: Path, *, form: Format, now: datetime
) -> dict[str, int]:
    """Write the month's files into a folder; return how many rows each has.

    Raises:
        Misconfigured: no such month, or nothing here writes Parquet.
        Unavailable: PostgreSQL does not answer.
    """
    begin, end = month_of(month)
    span = {"incarnation": incarnation, "begin": begin, "end": end}
    sheets = [(sheet, database.rows(sheet.query, span)) for sheet in SHEETS]
    sheets.append((LOTS, list(_lots(database, incarnation, begin, end))))
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for sheet, rows in sheets:
        data = _csv(sheet, rows) if form == "csv" else _parquet(sheet, rows)
        _replace(folder / f"{sheet.name}.{form}", data)
        files[f"{sheet.name}.{form}"] = {"rows": len(rows), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {"run": run, "incarnation": incarnation, "month": month, "complete": now >= end, "files": files}
    _replace(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
    return {sheet.name: len(rows) for sheet, rows in sheets}


def _lots(database: Postgres, incarnation: int, begin: datetime, end: datetime) -> Iterator[Row]:
    """Yield the lots that were closed in the month, and those that were open when it ended."""
    for lot in lots(_trades(database, incarnation, end)):
        if lot.closed_at is None or lot.closed_at >= begin:
            yield (*lot[:10], lot.realised_e6, lot.fees_e6)


def _trades(database: Postgres, incarnation: int, end: datetime) -> list[Trade]:
    span = {"incarnation": incarnation, "end": end}
    found: list[tuple[Row, Trade]] = [
        ((at, 0, partition, offset), Trade(account, instrument, fill, at, size, cash, fee))
        for account, instrument, fill, at, size, cash, fee, partition, offset in database.rows(
            "SELECT account, instrument, fill, at, yes_size_e6, yes_cash_e6, fee_e6, log_partition, log_offset FROM fill "
            "WHERE incarnation = %(incarnation)s AND at < %(end)s AND NOT failed",
            span,
        )
    ]
    # One that was taken back later never was: the books of a month are those of what stands when they are written.
    for entry, account, instrument, at, outcome, size, cash, stated, yes_cash, word in database.rows(
        "SELECT id, account, instrument, at, outcome, size_e6, cash_e6, payout, yes_cash_e6, payout_e6 FROM payout "
        "WHERE incarnation = %(incarnation)s AND at < %(end)s AND stands AND phase <> 'PROVISIONAL'",
        span,
    ):
        payout = paid(account, outcome, size, cash, stated, yes_cash, word)
        if payout is not None:
            closed, got, each = payout
            found.append(((at, 1, 0, 0), Trade(account, instrument, entry, at, closed, got, payout_e6=each)))
    return [trade for _, trade in sorted(found, key=lambda pair: pair[0])]


def _csv(sheet: Sheet, rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in sheet.columns])
    kinds = [kind for _, kind in sheet.columns]
    for row in rows:
        writer.writerow([_word(kind, value) for kind, value in zip(kinds, row, strict=True)])
    return text.getvalue().encode()


def _word(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    match kind:
        case "e6":
            return from_fixed(int(value), -DECIMALS)
        case "time":
            return str(value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        case "flag":
            return "true" if value else "false"
        case "text":
            # A spreadsheet would take these for formulas; what a venue calls a thing is nobody's program.
            text = str(value)
            return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
        case _:
            return str(value)


def _parquet(sheet: Sheet, rows: Sequence[Row]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as e:
        raise Misconfigured("Parquet needs pyarrow: `pip install crossbook[archive]`, or --format csv") from e
    from decimal import Decimal

    types = {
        "text": pa.string(),
        "int": pa.int64(),
        "flag": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "e6": pa.decimal128(24, DECIMALS),
    }
    arrays = []
    for number, (_, kind) in enumerate(sheet.columns):
        values = [row[number] for row in rows]
        if kind == "e6":
            values = [None if value is None else Decimal(int(value)).scaleb(-DECIMALS) for value in values]
        arrays.append(pa.array(values, type=types[kind]))
    sink = io.BytesIO()
    table = pa.table(arrays, names=[name for name, _ in sheet.columns])
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
