"""One row for one order event, whoever heard it.

Two gateways of an account, or one that hears a fill on its stream and again over REST, may write the same event twice:
one id, two receive times. The designated timestamp is part of every dedup key, so the second would be a row of its own.
The rule: the time that was heard first, in the order of the log, stays. An event this process has not seen is looked up
in QuestDB, so the rule survives a restart and holds while the log is written again from its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from questdb import TimestampNanos

from core.domain.errors import Unavailable
from core.runtime.clock import NS_PER_S
from observe.tables import FIRST_HEARD, Row

EVENTS_MAX = 200_000
"""Events whose first time is kept at hand; QuestDB has them all."""
APART_NS_MAX = 25 * 3_600 * NS_PER_S
"""A gateway asks its venue at most 24 hours back, so no event is heard again later than that."""
ASKED_MAX = 500

Query = Callable[[str], dict[str, Any]]


class FirstHeard:
    """The first time of each order event."""

    def __init__(self, query: Query, run: str) -> None:
        """`query` runs one SQL statement and returns QuestDB's parsed answer."""
        self._query = query
        self._run = run
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._must_settle = True

    def others_wrote(self) -> None:
        """Note that another process may just have written: what it wrote is asked for once QuestDB shows all of it."""
        self._must_settle = True

    def settle(self, rows: list[Row]) -> list[Row]:
        """Return the rows with the time each order event was heard first.

        Raises:
            Unavailable: QuestDB does not answer, or does not show yet what it has acknowledged.
        """
        wanted = [(number, row, str(row.columns["event_id"])) for number, row in _watched(rows)]
        if not wanted:
            return rows
        self._look_up([(row, event) for _, row, event in wanted if (row.table, event) not in self._known])
        settled = list(rows)
        for number, row, event in wanted:
            at_ns = self._known.setdefault((row.table, event), row.at.value)
            self._known.move_to_end((row.table, event))
            if at_ns != row.at.value:
                settled[number] = row._replace(at=TimestampNanos(at_ns))
        while len(self._known) > EVENTS_MAX:
            self._known.popitem(last=False)
        return settled

    def _look_up(self, unknown: Sequence[tuple[Row, str]]) -> None:
        if not unknown:
            return
        if self._must_settle:
            self._require_applied()
            self._must_settle = False
        for table in sorted({row.table for row, _ in unknown}):
            asked = [(row, event) for row, event in unknown if row.table == table]
            for first in range(0, len(asked), ASKED_MAX):
                self._ask(table, asked[first : first + ASKED_MAX])

    def _ask(self, table: str, asked: Sequence[tuple[Row, str]]) -> None:
        low = _text(min(row.at.value for row, _ in asked) - APART_NS_MAX)
        high = _text(max(row.at.value for row, _ in asked) + APART_NS_MAX)
        events = ", ".join(f"'{event}'" for event in sorted({event for _, event in asked}))
        answer = self._query(
            f"SELECT event_id, cast(ts AS LONG) FROM {table} WHERE ts BETWEEN '{low}' AND '{high}' "  # noqa: S608 - ids and names of ours
            f"AND run = '{self._run}' AND event_id IN ({events})"
        )
        for event, at_ns in answer["dataset"]:
            self._known.setdefault((table, str(event)), int(at_ns))

    def _require_applied(self) -> None:
        """Raise while acknowledged rows of these tables are not visible to queries yet."""
        answer = self._query("SELECT name, writerTxn, sequencerTxn FROM wal_tables()")
        for name, written, acknowledged in answer["dataset"]:
            if name in FIRST_HEARD and int(written) < int(acknowledged):
                raise Unavailable(f"QuestDB shows {name} up to {written} of {acknowledged} transactions")


def _watched(rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    return ((number, row) for number, row in enumerate(rows) if row.table in FIRST_HEARD)


def _text(ns: int) -> str:
    # Microseconds are enough for a bound, and years before 1970 do not happen.
    moment = datetime.fromtimestamp(max(ns, 0) // NS_PER_S, UTC) + timedelta(seconds=1)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
