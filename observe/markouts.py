"""Mark-outs: what the market said of each fill one second, ten seconds, a minute and ten minutes later.

The gain is that of the position the fill made, at the mid of the quote that stood then, without the fee: a strategy
whose gains fall with the horizon pays others for their knowledge. Times are ours: from the fill's frame on our socket to the
receive time of the quote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_MS, NS_PER_S, Clock
from observe.marks import Mark, Marks
from observe.postgres import Postgres

HORIZONS_MS = (1_000, 10_000, 60_000, 600_000)
FILLS_MAX = 100
"""Mark-outs noted in one run of the job; each is one question to QuestDB."""
BEHIND_NS = 2 * NS_PER_S
"""A quote is looked up when quotes so much newer can be seen: those of one moment come by several partitions."""
SILENT_NS = 60 * NS_PER_S
"""Or when so much time has passed: in a market that is silent no newer quote comes."""

_DUE = """
SELECT f.account, f.fill, f.instrument, f.yes_size_e6, f.yes_cash_e6, f.heard_ns, h.ms
FROM fill f CROSS JOIN unnest(%(horizons)s::int[]) WITH ORDINALITY AS h (ms, place)
WHERE f.incarnation = %(incarnation)s AND f.marks < 4 AND h.place = f.marks + 1
    AND f.heard_ns + h.ms::bigint * 1000000 <= %(until)s
ORDER BY f.heard_ns + h.ms::bigint * 1000000 LIMIT %(most)s
"""
_MARK = """
INSERT INTO mark_out (incarnation, account, fill, horizon_ms, state, bid_e6, ask_e6, gain_e6)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_COUNT = "UPDATE fill SET marks = %s WHERE incarnation = %s AND account = %s AND fill = %s AND marks = %s"


@dataclass
class MarkOuts:
    """The job."""

    database: Postgres
    marks: Marks
    clock: Clock
    incarnation: int
    name: str = "mark-outs"
    every_s: float = 2.0

    def run(self) -> tuple[int, str]:
        """Note what has come due, the oldest first."""
        now_ns = self.clock.now_ns()
        due = self._due(now_ns)
        if not due:
            return 0, ""
        until_ns = max(self.marks.newest_ns() - BEHIND_NS, now_ns - SILENT_NS)
        found: list[tuple[Any, ...]] = []
        for account, fill, instrument, size, cash, heard_ns, horizon_ms in due:
            at_ns = heard_ns + horizon_ms * NS_PER_MS
            if at_ns <= until_ns:
                mark = self.marks.at(instrument, at_ns)
                found.append(
                    (account, fill, horizon_ms, mark.state, mark.bid_e6, mark.ask_e6, gain_e6(mark, size, cash))
                )
        with self.database.transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(_MARK, [(self.incarnation, *row) for row in found])
            places = [HORIZONS_MS.index(row[2]) for row in found]
            cursor.executemany(
                _COUNT,
                [
                    (place + 1, self.incarnation, row[0], row[1], place)
                    for place, row in zip(places, found, strict=True)
                ],
            )
        return len(found), f"{sum(1 for row in found if row[-1] is None)} without a price"

    def _due(self, now_ns: int) -> list[tuple[Any, ...]]:
        return self.database.rows(
            _DUE,
            {
                "horizons": list(HORIZONS_MS),
                "incarnation": self.incarnation,
                "until": now_ns - BEHIND_NS,
                "most": FILLS_MAX,
            },
        )


def gain_e6(mark: Mark, size_e6: int, cash_e6: int) -> int | None:
    """Return what a fill of this signed YES size and cash has gained at the mid, None without one."""
    mid = mark.mid_e6
    return None if mid is None else cash_e6 + size_e6 * mid // MICRO
