"""Fills, settlements and positions in PostgreSQL: each fill moves a position once, a failed one never did.

Two gateways may write the same fill, and the end of a settlement may be heard before the fill: the first word of each
counts, as in the accounts' own ledger. A failure makes its instrument's position anew from the fills that stand, and so
does an entry that takes another back; the two may be read in any order. What is only provisional moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from observe.positions import Position, locked_e6, yes_terms
from observe.postgres import moment, moment_or_none
from schemas.decision import Entry
from schemas.order import Fill, Settled

Key = tuple[str, str]
"""Account and instrument; of a settlement, account and fill."""

FINAL = frozenset({"CONFIRMED", "FAILED"})
NOT_TRADED = frozenset({"OPENING"})
"""Entries that say what was there before; a position has no cost of it."""

_FILL = """
INSERT INTO fill (incarnation, account, fill, order_id, instrument, outcome, token_side, size_e6, price_e6, notional_e6,
    fee_e6, asset, liquidity, yes_size_e6, yes_cash_e6, failed, log_partition, log_offset, heard_ns, venue_at, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_SETTLEMENT = """
INSERT INTO settlement (incarnation, account, fill, settlement, reference, at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
_POSITION = """
INSERT INTO position (incarnation, account, instrument, size_e6, cost_e6, realised_e6, fees_e6, no_e6, fills, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (incarnation, account, instrument) DO UPDATE SET size_e6 = excluded.size_e6, cost_e6 = excluded.cost_e6,
    realised_e6 = excluded.realised_e6, fees_e6 = excluded.fees_e6, no_e6 = excluded.no_e6, fills = excluded.fills,
    at = greatest(position.at, excluded.at)
"""
_ENTRY = """
INSERT INTO entry (incarnation, id, account, kind, instrument, outcome, size_e6, cash_e6, reason, phase, reverses, payout,
    payout_e6, held_e6, expected_e6, yes_cash_e6, fee_e6, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id
"""


@dataclass
class FillBook:
    """The fills, settlements and entries of one batch."""

    incarnation: int
    fills: list[tuple[Fill, int, int]] = field(default_factory=list)
    finals: list[tuple[Key, str, str, int]] = field(default_factory=list)
    """(account and fill), how it ended, reference, time"""
    entries: list[Entry] = field(default_factory=list)

    def fill(self, record: Fill, partition: int, offset: int) -> None:
        """Take in a fill and where it stood."""
        self.fills.append((record, partition, offset))
        if record.settlement in FINAL:
            self.finals.append(((record.account, record.fill), record.settlement, "", record.ts_ns))

    def settled(self, record: Settled) -> None:
        """Take in the end of a settlement."""
        if record.settlement in FINAL:
            key = (record.account, record.fill)
            self.finals.append((key, record.settlement, record.reference, record.ts_ns))

    def entry(self, record: Entry) -> None:
        """Take in what moved otherwise than by a fill."""
        self.entries.append(record)

    def write(self, connection: Connection[Any]) -> int:
        """Write inside the caller's transaction; return how many rows were new or changed."""
        if not (self.fills or self.finals or self.entries):
            return 0
        known = self._known(connection, {(fill.account, fill.fill) for fill, _, _ in self.fills})
        fresh: dict[Key, tuple[Fill, int, int]] = {}
        for found in self.fills:
            key = (found[0].account, found[0].fill)
            if key not in known:
                fresh.setdefault(key, found)
        with connection.cursor() as cursor:
            cursor.executemany(
                _SETTLEMENT, [(self.incarnation, *key, how, ref, moment(ts)) for key, how, ref, ts in self.finals]
            )
        failed = self._failed(connection, fresh.keys() | {key for key, *_ in self.finals})
        with connection.cursor() as cursor:
            cursor.executemany(_FILL, [self._values(*found, failed=key in failed) for key, found in fresh.items()])
        anew = self._fail(connection, failed - fresh.keys())
        entries = [entry for entry in self.entries if self._add_entry(connection, entry)]
        anew |= {(entry.account, entry.instrument) for entry in entries if entry.reverses and moves(entry)}
        self._move(connection, [found[0] for key, found in fresh.items() if key not in failed], anew, entries)
        return len(fresh) + len(self.finals) + len(entries)

    def _known(self, connection: Connection[Any], keys: set[Key]) -> set[Key]:
        return {
            (account, fill)
            for account, fill in connection.execute(
                "SELECT account, fill FROM fill WHERE incarnation = %s AND (account, fill) IN "
                "(SELECT * FROM unnest(%s::text[], %s::text[]))",
                (self.incarnation, *_columns(keys)),
            )
        }

    def _failed(self, connection: Connection[Any], keys: set[Key]) -> set[Key]:
        return {
            (account, fill)
            for account, fill in connection.execute(
                "SELECT account, fill FROM settlement WHERE incarnation = %s AND settlement = 'FAILED' AND "
                "(account, fill) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
                (self.incarnation, *_columns(keys)),
            )
        }

    def _fail(self, connection: Connection[Any], keys: set[Key]) -> set[Key]:
        """Mark fills as failed; return the positions that are to be made anew."""
        return {
            (account, instrument)
            for account, instrument in connection.execute(
                "UPDATE fill SET failed = true WHERE incarnation = %s AND NOT failed AND (account, fill) IN "
                "(SELECT * FROM unnest(%s::text[], %s::text[])) RETURNING account, instrument",
                (self.incarnation, *_columns(keys)),
            )
        }

    def _values(self, fill: Fill, partition: int, offset: int, *, failed: bool) -> tuple[Any, ...]:
        size, cash, _ = yes_terms(fill)
        heard_ns = fill.recv_ts_ns or fill.ts_ns
        return (
            *(self.incarnation, fill.account, fill.fill, fill.order, fill.instrument, fill.outcome, fill.token_side),
            *(fill.size, fill.price_e6, fill.notional_e6, fill.fee_e6, fill.asset, fill.liquidity, size, cash, failed),
            *(partition, offset, heard_ns, moment_or_none(fill.venue_ts_ns), moment(fill.venue_ts_ns or fill.ts_ns)),
        )

    def _add_entry(self, connection: Connection[Any], entry: Entry) -> bool:
        values = (
            *(self.incarnation, entry.id, entry.account, entry.kind, entry.instrument, entry.outcome, entry.size),
            *(entry.cash_e6, entry.reason, entry.phase, entry.reverses, entry.payout, entry.payout_e6, entry.held),
            *(entry.expected_e6, entry.yes_cash_e6, entry.fee_e6, moment(entry.now_ns)),
        )
        return connection.execute(_ENTRY, values).fetchone() is not None

    def _move(self, connection: Connection[Any], fills: list[Fill], anew: set[Key], entries: list[Entry]) -> None:
        """Move the positions that fills and entries touch; those in `anew` are made of all that stands."""
        entries = [entry for entry in entries if moves(entry)]
        taken_back = self._taken_back(connection, entries)
        times = [((fill.account, fill.instrument), fill.venue_ts_ns or fill.ts_ns) for fill in fills]
        times += [((entry.account, entry.instrument), entry.now_ns) for entry in entries]
        moved: dict[Key, int] = dict.fromkeys(anew, 0)
        for key, at in times:
            moved[key] = max(moved.get(key, 0), at)
        positions = self._positions(connection, moved.keys() - anew)
        for fill in fills:
            key = (fill.account, fill.instrument)
            if key not in anew:
                size, cash, no = yes_terms(fill)
                positions.setdefault(key, Position()).book(size, cash, fill.fee_e6, no)
        for entry in entries:
            key = (entry.account, entry.instrument)
            if key not in anew and entry.id not in taken_back:
                position = positions.setdefault(key, Position())
                if entry.payout:
                    position.trade(entry.size, entry.yes_cash_e6)
                else:
                    apply_entry(position, entry.account, entry.outcome, entry.size, entry.cash_e6)
        for key in anew:
            positions[key] = self._from_all(connection, key)
        with connection.cursor() as cursor:
            cursor.executemany(
                _POSITION,
                [
                    (
                        *(self.incarnation, *key, p.size_e6, p.cost_e6, p.realised_e6, p.fees_e6, p.no_e6, p.fills),
                        moment(moved[key]),
                    )
                    for key, p in positions.items()
                ],
            )

    def _taken_back(self, connection: Connection[Any], entries: list[Entry]) -> set[str]:
        """Return those entries that another one, read before, takes back."""
        found = connection.execute(
            "SELECT reverses FROM entry WHERE incarnation = %s AND reverses = ANY(%s)",
            (self.incarnation, [entry.id for entry in entries]),
        )
        return {name for (name,) in found}

    def _positions(self, connection: Connection[Any], keys: set[Key]) -> dict[Key, Position]:
        return {
            (account, instrument): Position(*figures)
            for account, instrument, *figures in connection.execute(
                "SELECT account, instrument, size_e6, cost_e6, realised_e6, fees_e6, no_e6, fills FROM position "
                "WHERE incarnation = %s AND (account, instrument) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
                (self.incarnation, *_columns(keys)),
            )
        }

    def _from_all(self, connection: Connection[Any], key: Key) -> Position:
        """Make a position of the fills and entries that stand; what takes back a statement, not an entry, is one of them."""
        position = Position()
        for outcome, side, size, yes_size, yes_cash, fee in connection.execute(
            "SELECT outcome, token_side, size_e6, yes_size_e6, yes_cash_e6, fee_e6 FROM fill "
            "WHERE incarnation = %s AND account = %s AND instrument = %s AND NOT failed ORDER BY log_offset",
            (self.incarnation, *key),
        ):
            no = 0 if outcome != "NO" else size if side == "BUY" else -size
            position.book(yes_size, yes_cash, fee, no)
        for outcome, size, cash, payout, yes_cash in connection.execute(
            "SELECT outcome, size_e6, cash_e6, payout, yes_cash_e6 FROM entry e WHERE incarnation = %s AND account = %s "
            "AND instrument = %s AND NOT kind = ANY(%s) AND phase <> 'PROVISIONAL' AND reverses IN ('', payout) AND NOT EXISTS "
            "(SELECT FROM entry r WHERE r.incarnation = e.incarnation AND r.reverses = e.id) ORDER BY at, id",
            (self.incarnation, *key, list(NOT_TRADED)),
        ):
            if payout:
                position.trade(size, yes_cash)
            else:
                apply_entry(position, key[0], outcome, size, cash)
        return position


def moves(entry: Entry) -> bool:
    """Say whether an entry moves a position."""
    return bool(entry.instrument) and entry.kind not in NOT_TRADED and entry.phase != "PROVISIONAL"


def apply_entry(position: Position, account: str, outcome: str, size_e6: int, cash_e6: int) -> None:
    """Move a position by what came or went otherwise than by a fill; a payout is a trade at its price.

    The cash of an entry is the account's: of a position that locks dollars (`locked_e6`), those it frees are in it.
    """
    before = locked_e6(account, position.size_e6, position.no_e6)
    yes_size, no = (-size_e6, size_e6) if outcome == "NO" else (size_e6, 0)
    after = locked_e6(account, position.size_e6 + yes_size, position.no_e6 + no)
    position.no_e6 += no
    position.trade(yes_size, cash_e6 + after - before)


def _columns(keys: set[Key]) -> tuple[list[str], list[str]]:
    ordered = sorted(keys)
    return [first for first, _ in ordered], [second for _, second in ordered]
