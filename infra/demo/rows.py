"""Kafka to QuestDB: every record of every sunk topic against the rows, by the tables' own keys.

What market events there must be is computed once more from the raw frames with the pure normaliser, so a hole anywhere
between `raw.frame` and QuestDB shows.
"""

import csv
import io
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.domain.errors import Reject, Unavailable
from core.runtime import topics
from core.runtime.flow import Input, Output, TaskContext
from infra.cli.reach import Reach
from infra.demo.scan import Found
from normalize.stage import FrameTask
from observe.tables import BY_KIND, HOLDINGS, LEGS, Place, Row, Table, belongs, rows
from schemas.market import Instrument
from schemas.raw import Opened

NS_PER_MS = 1_000_000
EXPORT_TIMEOUT_S = 60.0
APPLY_TIMEOUT_S = 60.0
APPLY_PAUSE_S = 0.2
EXAMPLES_MAX = 5
Key = tuple[str, ...]


@dataclass
class RowCheck:
    """Outcome: rows that must be there, rows that are missing, rows that are too many, by table."""

    expected: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    duplicated: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


class KnownTables:
    """The reference tables as the whole of `raw.feed` and `market.instrument` make them."""

    def __init__(self, opened: Mapping[int, Opened], instruments: Mapping[str, Instrument]) -> None:
        self._opened = opened
        self._instruments = instruments

    def opened(self, epoch: int) -> Opened:
        """Return the Opened of an epoch.

        Raises:
            Reject: there is none.
        """
        try:
            return self._opened[epoch]
        except KeyError as e:
            raise Reject(f"no feed has epoch {epoch}") from e

    def instrument(self, instrument: str) -> Instrument | None:
        """Return an instrument's description."""
        return self._instruments.get(instrument)

    def instruments(self) -> Mapping[str, Instrument]:
        """Return all."""
        return self._instruments


def normalized(tables: KnownTables, raw_records: Iterable[Found]) -> Iterator[Output]:
    """Yield the market events the raw records must have become."""
    tasks: dict[int, FrameTask] = {}
    for found in raw_records:
        task = tasks.get(found.partition)
        if task is None:
            task = tasks[found.partition] = FrameTask(TaskContext(partition=found.partition, tables=tables))
        try:
            yield from task.handle(Input(found.record, found.noun, found.partition, found.offset))
        except Reject as e:
            yield from getattr(e, "outputs", ())


class Expected:
    """The keys of the rows there must be, by table."""

    def __init__(self, run: str) -> None:
        self.keys: dict[str, set[Key]] = {}
        self._run = run

    def add(self, found: Found) -> None:
        """Take in one record of a sunk topic."""
        if belongs(found.record.schema_name, found.noun):
            place = Place(found.noun, found.partition, found.offset, found.ts_ms * NS_PER_MS)
            for row in rows(self._run, found.record, place):
                self._add(row)

    def add_event(self, output: Output) -> None:
        """Take in one market event that the raw frames call for."""
        for row in rows(self._run, output.record, Place(topics.MARKET_EVENT.noun, 0, 0, 0)):
            self._add(row)

    def _add(self, row: Row) -> None:
        table = TABLES[row.table]
        values: dict[str, Any] = {**row.symbols, **row.columns}
        self.keys.setdefault(row.table, set()).add(
            (str(row.at.value), *(_text(values.get(name)) for name in table.keys))
        )


TABLES: Mapping[str, Table] = {table.name: table for table in (*BY_KIND.values(), LEGS, HOLDINGS)}


def check(reach: Reach, expected: Expected, since_ns: int) -> RowCheck:
    """Compare with QuestDB, rows of this run that are not older than it.

    Raises:
        Unavailable: QuestDB does not answer.
    """
    wait_applied(reach, expected.keys)
    result = RowCheck()
    for name, wanted in expected.keys.items():
        found: dict[Key, int] = {}
        for key in stored(reach, TABLES[name], since_ns):
            if key[0] == "0" and key not in wanted:
                continue  # of an earlier incarnation of the run
            found[key] = found.get(key, 0) + 1
        result.expected += len(wanted)
        missing = wanted - found.keys()
        lost = len(missing)
        too_many = sum(count - 1 for count in found.values()) + len(found.keys() - wanted)
        if lost:
            result.lost[name] = lost
            result.examples += [f"{name} {' '.join(key)}" for key in sorted(missing)[:EXAMPLES_MAX]]
        if too_many:
            result.duplicated[name] = too_many
    return result


def wait_applied(reach: Reach, tables: Iterable[str], timeout_s: float = APPLY_TIMEOUT_S) -> None:
    """Return when QuestDB shows everything it has acknowledged: rows go to a log first and are applied a moment later.

    Raises:
        Unavailable: it does not get that far in time, or a table's log is suspended.
    """
    wanted = set(tables)
    deadline = time.monotonic() + timeout_s
    while True:
        sql = "SELECT name, suspended, writerTxn, sequencerTxn FROM wal_tables()"
        waiting = []
        for name, suspended, written, acknowledged in export(reach, sql):
            if name in wanted and suspended == "true":
                raise Unavailable(f"QuestDB has suspended the log of table {name}: look at its log")
            if name in wanted and written != acknowledged:
                waiting.append(name)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"QuestDB has not applied what it took for {', '.join(waiting)} in {timeout_s:.0f} s")
        time.sleep(APPLY_PAUSE_S)


def stored(reach: Reach, table: Table, since_ns: int) -> Iterator[Key]:
    """Yield the keys of a table's rows of this run."""
    columns = ", ".join(table.keys)
    # Time 0 is a record's own when its log had no time yet; there is no telling of which incarnation but by its other keys.
    chosen = f"run = '{reach.run}' AND (ts >= {since_ns} OR ts = 0)"
    sql = f"SELECT cast(ts AS long) t, {columns} FROM {table.name} WHERE {chosen}"  # noqa: S608 - names of our own tables
    for line in export(reach, sql):
        yield tuple(line)


def export(reach: Reach, sql: str) -> Iterator[list[str]]:
    """Yield the rows of a query as text, without the header.

    Raises:
        Unavailable: QuestDB does not answer, or refuses.
    """
    url = f"http://{reach.questdb_http}/exp?{urllib.parse.urlencode({'query': sql})}"
    try:
        with urllib.request.urlopen(url, timeout=EXPORT_TIMEOUT_S) as answer:
            lines = csv.reader(io.TextIOWrapper(answer, encoding="utf-8", newline=""))
            next(lines, None)
            yield from lines
    except urllib.error.HTTPError as e:
        raise Unavailable(f"QuestDB refuses {sql[:80]!r}: {e.read().decode(errors='replace')[:200]}") from e
    except OSError as e:
        raise Unavailable(f"QuestDB at {reach.questdb_http} does not answer ({e})") from e


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
