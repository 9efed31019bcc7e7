"""Records to rows of PostgreSQL: what each record type writes, and how a second copy of it changes nothing.

No order between topics is assumed: a fill may be read before the grant of its order, a saga before its intent. Tables are
joined when they are asked. Within an account, fills and settlements are taken in the order of `order.event`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from psycopg import Connection
from psycopg.types.json import Jsonb

from core.runtime import topics
from core.runtime.clock import NS_PER_MS
from observe.fills import FillBook
from observe.postgres import moment, moment_or_none
from schemas import decision, market, order
from schemas.record import Record

Values = tuple[Any, ...]

AUDITED = frozenset(
    topic.noun
    for topic in (
        topics.DECISION_STRATEGY,
        topics.DECISION_LINK,
        topics.DECISION_LIMIT,
        topics.DECISION_PROFILE,
        topics.DECISION_JURISDICTION,
        topics.DECISION_TICKET,
    )
)
"""Logs only a human's word stands on: all of it is audited, whatever its type."""

READ: tuple[topics.Topic, ...] = (
    topics.MARKET_INSTRUMENT,
    topics.DECISION_STRATEGY,
    topics.DECISION_LINK,
    topics.DECISION_LIMIT,
    topics.DECISION_PROFILE,
    topics.DECISION_JURISDICTION,
    topics.DECISION_TICKET,
    topics.DECISION_ACCOUNT,
    topics.DECISION_ORDER,
    topics.DECISION_LEDGER,
    topics.DECISION_SAGA,
    topics.ORDER_EVENT,
)

WANTED: Mapping[str, frozenset[type[Record]]] = {
    topics.MARKET_INSTRUMENT.noun: frozenset({market.Instrument}),
    # What else stands there are copies.
    topics.DECISION_ACCOUNT.noun: frozenset({decision.Intent}),
    topics.DECISION_ORDER.noun: frozenset({decision.Grant}),
    topics.DECISION_LEDGER.noun: frozenset({decision.Ledger, decision.Entry}),
    topics.DECISION_SAGA.noun: frozenset({decision.Saga}),
    topics.ORDER_EVENT.noun: frozenset(
        {order.Submitting, order.OrderUpdate, order.Fill, order.Settled, order.VenueReport}
    ),
}
_WANTED_NAMES = {noun: frozenset(kind.schema_name for kind in kinds) for noun, kinds in WANTED.items()}


def is_wanted(noun: str, schema_name: str) -> bool:
    """Say whether a record of that type on that topic becomes rows."""
    return noun in AUDITED or schema_name in _WANTED_NAMES.get(noun, ())


class Place(NamedTuple):
    """Where a record stood."""

    topic: str
    noun: str
    partition: int
    offset: int
    ts_ms: int
    key: str


@dataclass(frozen=True)
class Insert:
    """One statement: a row, and what becomes of a row that is there already."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    newer: tuple[str, ...] = ()
    """Columns that say which of two rows is newer; the other columns are then taken from that. Empty: the first stays."""

    @cached_property
    def statement(self) -> str:
        """The SQL, with a place for each column."""
        columns = ("incarnation", *self.columns)
        places = ", ".join(["%s"] * len(columns))
        head = f"INSERT INTO {self.table} AS old ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of ours
        conflict = f"ON CONFLICT (incarnation, {', '.join(self.key)})"
        if not self.newer:
            return f"{head} {conflict} DO NOTHING"
        changes = ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in self.key)
        old, new = (", ".join(f"{side}.{name}" for name in self.newer) for side in ("old", "excluded"))
        return f"{head} {conflict} DO UPDATE SET {changes} WHERE ({new}) >= ({old})"


INSTRUMENT = Insert(
    "instrument",
    ("instrument", "venue", "title", "event_group", "category", "status", "closes_at"),
    ("instrument",),
    newer=("instrument",),
)
TICKET = Insert(
    "ticket",
    (
        *("id", "strategy", "link", "account_set", "edge", "legs", "profit_e6", "input_partition", "input_offset"),
        "decided_at",
    ),
    ("id",),
)
LEG = Insert(
    "ticket_leg",
    (
        *("ticket", "leg", "account", "instrument", "side", "price", "size", "price_exp", "size_exp", "fee_max_e6"),
        "reduces",
    ),
    ("ticket", "leg"),
)
STATE = Insert(
    "ticket_state",
    (
        *("ticket", "log_partition", "log_offset", "state", "reason", "filled_e6", "standing_e6", "unwound_e6"),
        *("cash_e6", "fees_e6", "strategy", "at"),
    ),
    ("ticket", "log_partition", "log_offset"),
)
ORDER = Insert(
    "venue_order",
    (
        *("id", "ticket", "leg", "attempt", "purpose", "account", "instrument", "side", "outcome", "token_side"),
        *("price", "size", "price_exp", "size_exp", "time_in_force", "client_id", "granted_at", "send_by"),
    ),
    ("id",),
)
ORDER_STATE = Insert(
    "order_state",
    (
        *("event_id", "order_id", "account", "status", "terminal", "venue_order", "filled_e6", "reason"),
        *("log_partition", "log_offset", "at"),
    ),
    ("event_id",),
)
LEDGER = Insert(
    "ledger",
    (
        *("id", "account", "instrument", "outcome", "size_e6", "cash_e6", "reserved_e6", "fees_e6", "cost_e6"),
        *("provisional_e6", "known", "log_partition", "log_offset", "at"),
    ),
    ("id",),
    newer=("log_partition", "log_offset"),
)
AUDIT = Insert(
    "audit",
    ("topic", "partition", "log_offset", "kind", "subject", "who", "second", "why", "said", "at"),
    ("topic", "partition", "log_offset"),
)
MANUAL = Insert(
    "manual_ticket",
    (
        *("id", "account", "instrument", "side", "size_e6", "price_e6", "fee_e6", "strategy", "reference"),
        *("who", "why", "withdrawn", "traded_at", "at"),
    ),
    ("id",),
    newer=("at",),
)
REJECTED = Insert(
    "rejected", ("topic", "partition", "log_offset", "error", "reason"), ("topic", "partition", "log_offset")
)

REPORT = """
INSERT INTO venue_account AS old (incarnation, account, opening_cash_e6, opening_holdings, cash_e6, holdings, open_orders,
    reports, as_of, at)
VALUES (%(incarnation)s, %(account)s, %(cash)s, %(holdings)s, %(cash)s, %(holdings)s, %(orders)s, 1, %(as_of)s, %(at)s)
ON CONFLICT (incarnation, account) DO UPDATE SET cash_e6 = excluded.cash_e6, holdings = excluded.holdings,
    open_orders = excluded.open_orders, reports = old.reports + 1, as_of = excluded.as_of, at = excluded.at
"""


@dataclass
class Rows:
    """The rows of a batch, by statement, in the order of the log; money that moves goes through a `FillBook`."""

    incarnation: int
    inserts: dict[Insert, list[Values]] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    book: FillBook = field(init=False)

    def __post_init__(self) -> None:
        self.book = FillBook(self.incarnation)

    def add(self, record: Record | None, place: Place) -> None:
        """Take in one record that is wanted, or a tombstone (None)."""
        if place.noun in AUDITED:
            self._insert(AUDIT, _audit(record, place))
        if record is not None:
            make = _MAKERS.get(type(record))
            if make is not None:
                make(self, record, place)

    def reject(self, place: Place, error: str, reason: str) -> None:
        """Note a record that becomes no row."""
        clean = reason.replace("\x00", "\ufffd")[:1_000]
        self._insert(REJECTED, (place.topic, place.partition, place.offset, error, clean))

    def write(self, connection: Connection[Any]) -> int:
        """Write all rows inside the caller's transaction; return how many there were."""
        count = 0
        with connection.cursor() as cursor:
            for insert, values in self.inserts.items():
                cursor.executemany(insert.statement.encode(), values)
                count += len(values)
            for report in self.reports:
                cursor.execute(REPORT.encode(), report)
        return count + len(self.reports) + self.book.write(connection)

    def _insert(self, insert: Insert, values: Values) -> None:
        self.inserts.setdefault(insert, []).append((self.incarnation, *values))

    # One method a record type

    def _instrument(self, record: market.Instrument, _: Place) -> None:
        closes = moment_or_none(record.close_ts_ns)
        self._insert(
            INSTRUMENT,
            (
                *(record.instrument, record.venue, record.title, record.event_group, record.category, record.status),
                closes,
            ),
        )

    def _intent(self, record: decision.Intent, _: Place) -> None:
        self._insert(
            TICKET,
            (
                *(record.id, record.strategy, record.link, record.account_set, record.edge, len(record.legs)),
                *(record.profit_e6, record.input_partition, record.input_offset, moment(record.now_ns)),
            ),
        )
        for number, leg in enumerate(record.legs):
            self._insert(
                LEG,
                (
                    *(record.id, number, leg.account, leg.instrument, leg.side, leg.price, leg.size),
                    *(leg.price_exp, leg.size_exp, leg.fee_max_e6, leg.reduces),
                ),
            )

    def _saga(self, record: decision.Saga, _: Place) -> None:
        filled = record.filled_e6 or [record.filled_first, record.filled_second]
        self._insert(
            STATE,
            (
                *(record.id, record.log_partition, record.log_offset, record.state, record.reason),
                *(filled, record.standing_e6, record.unwound, record.cash_e6, record.fees_e6, record.strategy),
                moment(record.now_ns),
            ),
        )

    def _grant(self, record: decision.Grant, _: Place) -> None:
        self._insert(
            ORDER,
            (
                *(record.id, record.intent, record.leg, record.attempt, record.purpose, record.account),
                *(record.instrument, record.side, record.outcome, record.token_side, record.price, record.size),
                *(record.price_exp, record.size_exp, record.time_in_force, record.client_id),
                *(moment(record.now_ns), moment(record.send_by_ns)),
            ),
        )

    def _submitting(self, record: order.Submitting, place: Place) -> None:
        self._insert(
            ORDER_STATE,
            (
                *(record.event_id, record.order, record.account, "SUBMITTING", False, record.venue_order, 0, ""),
                *(place.partition, place.offset, moment(record.ts_ns)),
            ),
        )

    def _update(self, record: order.OrderUpdate, place: Place) -> None:
        self._insert(
            ORDER_STATE,
            (
                *(record.event_id, record.order, record.account, record.status, record.terminal, record.venue_order),
                *(record.filled, record.reason, place.partition, place.offset, moment(record.ts_ns)),
            ),
        )

    def _fill(self, record: order.Fill, place: Place) -> None:
        self.book.fill(record, place.partition, place.offset)

    def _settled(self, record: order.Settled, _: Place) -> None:
        self.book.settled(record)

    def _entry(self, record: decision.Entry, _: Place) -> None:
        self.book.entry(record)

    def _report(self, record: order.VenueReport, _: Place) -> None:
        holdings = [{"instrument": h.instrument, "outcome": h.outcome, "size_e6": h.size} for h in record.holdings]
        self.reports.append(
            {
                "incarnation": self.incarnation,
                "account": record.account,
                "cash": record.cash_e6,
                "holdings": Jsonb(holdings),
                "orders": record.open_orders,
                "as_of": moment_or_none(record.as_of_ns),
                "at": moment(record.ts_ns),
            }
        )

    def _ledger(self, record: decision.Ledger, _: Place) -> None:
        self._insert(
            LEDGER,
            (
                *(record.id, record.account, record.instrument, record.outcome, record.size, record.cash_e6),
                *(record.reserved_e6, record.fees_e6, record.cost_e6, record.provisional_e6, record.known),
                *(record.log_partition, record.log_offset, moment(record.now_ns)),
            ),
        )

    def _manual(self, record: decision.ManualTicket, _: Place) -> None:
        self._insert(
            MANUAL,
            (
                *(record.id, record.account, record.instrument, record.side, record.size, record.price_e6),
                *(record.fee_e6, record.strategy, record.reference, record.set_by, record.reason, record.withdrawn),
                *(moment(record.traded_ts_ns), moment(record.ts_ns)),
            ),
        )


_MAKERS: Mapping[type[Record], Callable[[Rows, Any, Place], None]] = {
    market.Instrument: Rows._instrument,
    decision.Intent: Rows._intent,
    decision.Saga: Rows._saga,
    decision.Grant: Rows._grant,
    decision.Ledger: Rows._ledger,
    decision.Entry: Rows._entry,
    decision.ManualTicket: Rows._manual,
    order.Submitting: Rows._submitting,
    order.OrderUpdate: Rows._update,
    order.Fill: Rows._fill,
    order.Settled: Rows._settled,
    order.VenueReport: Rows._report,
}


def _audit(record: Record | None, place: Place) -> Values:
    at = moment(getattr(record, "ts_ns", 0) or getattr(record, "signed_ts_ns", 0) or place.ts_ms * NS_PER_MS)
    who = first_word(record, ("set_by", "approved_by", "signed_by"))
    second = first_word(record, ("approved_by",))
    if isinstance(record, decision.Link) and record.status == "APPROVED":
        who, second = second, who
    kind = type(record).__name__ if record is not None else "Removed"
    said = Jsonb(msgspec.to_builtins(record)) if record is not None else None
    why = first_word(record, ("reason",))
    return (
        *(place.topic, place.partition, place.offset, kind, place.key, who),
        *(second if second != who else "", why, said, at),
    )


def first_word(record: Record | None, names: Iterable[str]) -> str:
    """Return the first of these fields that says something."""
    return next((str(value) for name in names if (value := getattr(record, name, ""))), "")
