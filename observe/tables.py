"""One table for each record type: its columns, its dedup keys, its rows. Pure.

Columns follow the record's fields. This is the glass: prices and sizes become doubles by the record's own exponents,
money stays an exact integer of millionths (`*_e6`), quantities that are always at -6 stand there both ways
(`size`, `size_e6`), times become TIMESTAMP_NS. A trail becomes `hops_us`: microseconds from the receive time to each
stage, so that latency per hop is an ordinary query.

`ts` is the receive time where a record has one, else its own time, else (configuration) Kafka's. With `run` and the
record's identity it forms the dedup key: writing a record twice leaves one row. The same record said again
(`repeat`) is a row of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from questdb import TimestampNanos

from core.domain.errors import Misconfigured, Reject
from core.runtime import topics
from schemas import decision, derived, market, order, raw
from schemas.record import Record

KAFKA_TIME = ""
"""`ts` of a record that states no time."""

TS_NS_MAX = 9_214_646_399_999_999_999
"""QuestDB's largest TIMESTAMP_NS."""

_RENAMED = {
    "index": "place",
    "order": "order_id",
    "fill": "fill_id",
    "partition": "log_partition",
    "ts_ns": "learnt_ns",
}
"""Words that SQL or the designated timestamp keep for themselves."""

_SYMBOLS = frozenset(
    [
        "instrument",
        "feed",
        "venue",
        "worker",
        "account",
        "account_set",
        "strategy",
        "link",
        "cause",
        "kind",
        "writer",
        "asset",
        "currency",
        "entity",
        "event_group",
        "category",
        "buy_instrument",
        "sell_instrument",
        "instrument_a",
        "instrument_b",
        "method",
        "set_by",
    ]
)
"""Text with few values; other text is VARCHAR."""

_PRICES = frozenset(
    ["price", "bid_price", "ask_price", "bid_prices", "ask_prices", "level_prices", "tick_from", "tick_to", "tick_step"]
)
_SIZES = frozenset(["size", "bid_size", "ask_size", "bid_sizes", "ask_sizes", "level_sizes", "size_min", "size_step"])
_MICRO = frozenset(["size", "filled", "filled_first", "filled_second", "unwound"])
"""At -6 in records that carry no exponent."""

PartitionBy = Literal["HOUR", "DAY", "MONTH"]


class Place(NamedTuple):
    """Where a record stood: noun of the topic, partition, offset, Kafka's own time in ns."""

    noun: str
    partition: int
    offset: int
    ts_ns: int


class Row(NamedTuple):
    """One row as the client takes it."""

    table: str
    symbols: dict[str, str | None]
    columns: dict[str, Any]
    at: TimestampNanos


@dataclass(frozen=True)
class Table:
    """How records of one type stand in QuestDB.

    Attributes:
        kind: the record type.
        ts: field of the designated timestamp, or KAFKA_TIME.
        keys: columns that identify the record beside `ts` and `run`.
        partition_by: HOUR for what comes by the thousand a second.
        place: columns `log`, `log_partition`, `log_offset` tell where the record stood.
        inherited: columns a nested record takes from its parent.
        digest: field of which only size and SHA-1 are kept, as `bytes` and `digest`.
    """

    kind: type[Record]
    ts: str
    keys: tuple[str, ...]
    partition_by: PartitionBy = "DAY"
    place: bool = False
    inherited: tuple[str, ...] = ()
    digest: str = ""

    @cached_property
    def name(self) -> str:
        """`<layer>_<record>`, `market_book_delta`."""
        _, layer, noun = self.kind.schema_name.split(".")
        return f"{layer}_{snake(noun)}"

    @cached_property
    def columns(self) -> dict[str, str]:
        """Column name -> QuestDB type, without `ts` and `run`."""
        found = {column.name: column.type for column in self._converted}
        if self.place:
            found |= {"log": "SYMBOL", "log_partition": "LONG", "log_offset": "LONG"}
        if self.inherited:
            found |= (
                {"id": "VARCHAR", "place": "LONG"} if "id" in self.inherited else {"account": "SYMBOL", "place": "LONG"}
            )
        return found

    def ddl(self) -> str:
        """Return the statement that makes the table unless it is there."""
        columns = "".join(f", {name} {kind}" for name, kind in self.columns.items())
        keys = ", ".join(("ts", "run", *self.keys))
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} (ts TIMESTAMP_NS, run SYMBOL{columns}) "
            f"TIMESTAMP(ts) PARTITION BY {self.partition_by} WAL DEDUP UPSERT KEYS({keys})"
        )

    def missing(self, there: Mapping[str, str]) -> list[str]:
        """Return the statements that give a table made by an older version the columns it lacks.

        Args:
            there: its columns: name -> type.

        Raises:
            Misconfigured: a column has another type; nothing is ever converted behind anybody's back.
        """
        wanted = {"ts": "TIMESTAMP_NS", "run": "SYMBOL", **self.columns}
        for name, kind in wanted.items():
            if name in there and there[name] != kind:
                raise Misconfigured(
                    f"QuestDB table {self.name}: expected column {name} of type {kind}, found {there[name]}; "
                    "rename the table or delete it, the sink makes it again"
                )
        return [
            f"ALTER TABLE {self.name} ADD COLUMN IF NOT EXISTS {name} {kind}"
            for name, kind in wanted.items()
            if name not in there
        ]

    def row(self, run: str, record: Record, place: Place) -> Row:
        """Return the record's row.

        Raises:
            Reject: the record's time cannot be a timestamp.
        """
        ts_ns: int = getattr(record, self.ts) if self.ts else place.ts_ns
        return self._row(run, record, place, _timestamp(self, ts_ns), ts_ns)

    def _row(self, run: str, record: Record, place: Place, at: TimestampNanos, ts_ns: int) -> Row:
        symbols: dict[str, str | None] = {"run": run}
        columns: dict[str, Any] = {}
        for name, get, convert, is_symbol in self._plan:
            value = get(record)
            if convert is not None:
                value = convert(record, value)
            if is_symbol:
                if value:
                    symbols[name] = value
            elif value is not None:
                columns[name] = value
        if self.place:
            symbols["log"] = place.noun
            columns["log_partition"] = place.partition
            columns["log_offset"] = place.offset
        return Row(self.name, symbols, columns, at)

    def nested_row(self, run: str, parent: Record, number: int, record: Record, place: Place, parent_ts: str) -> Row:
        """Return the row of the `number`-th nested record of `parent`."""
        ts_ns: int = getattr(parent, parent_ts)
        row = self._row(run, record, place, _timestamp(self, ts_ns), ts_ns)
        for name in self.inherited:
            (row.symbols if self.columns[name] == "SYMBOL" else row.columns)[name] = getattr(parent, name)
        row.columns["place"] = number
        return row

    @cached_property
    def _plan(self) -> list[tuple[str, Callable[[Record], Any], Callable[[Record, Any], Any] | None, bool]]:
        return [
            (column.name, attrgetter(column.field), column.convert, column.type == "SYMBOL")
            for column in self._converted
        ]

    @cached_property
    def _converted(self) -> list[_Column]:
        hints = get_type_hints(self.kind)
        fields = self.kind.__struct_fields__
        base = "recv_ts_ns" if "recv_ts_ns" in fields else self.ts
        found: list[_Column] = []
        for name in fields:
            if name == self.digest:
                found += [_Column("bytes", "LONG", name, _size), _Column("digest", "VARCHAR", name, _digest)]
            elif name not in (self.ts, "price_exp", "size_exp"):
                found += _columns_of(name, hints[name], fields, base)
        return found


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    field: str
    convert: Callable[[Record, Any], Any] | None = None


def _columns_of(name: str, hint: Any, fields: tuple[str, ...], base: str) -> list[_Column]:
    """Return the columns one field becomes; a list of records becomes none (it has a table of its own)."""
    column = _RENAMED.get(name, name)
    if name == "trail":
        return [_Column("hops_us", "DOUBLE[]", name, _hops(base))]
    if get_origin(hint) is Literal:
        return [_Column(column, "SYMBOL", name)]
    if hint is str:
        return [_Column(column, "SYMBOL" if name in _SYMBOLS else "VARCHAR", name)]
    if hint is bytes:
        return [_Column(column, "VARCHAR", name, _text)]
    if hint is bool:
        return [_Column(column, "BOOLEAN", name)]
    if hint is int:
        return _integer_columns(name, column, fields)
    item = get_args(hint)[0]
    if item is str:
        return [_Column(column, "VARCHAR", name, _json)]
    if item is int and not name.endswith("_e6") and name not in _PRICES and name not in _SIZES:
        return [_Column(column, "VARCHAR", name, _json)]  # whole numbers that are no amounts, such as times
    if item is int:
        return [_Column(column.removesuffix("_e6"), "DOUBLE[]", name, _doubles(name))]
    return []


def _integer_columns(name: str, column: str, fields: tuple[str, ...]) -> list[_Column]:
    if name.endswith("_ns"):
        return [_Column(column.removesuffix("_ns"), "TIMESTAMP_NS", name, _time)]
    if name in _PRICES and "price_exp" in fields:
        return [_Column(column, "DOUBLE", name, _scaled("price_exp"))]
    if name in _SIZES and "size_exp" in fields:
        return [_Column(column, "DOUBLE", name, _scaled("size_exp"))]
    if name in _MICRO:
        return [_Column(column, "DOUBLE", name, _micro), _Column(f"{column}_e6", "LONG", name)]
    return [_Column(column, "LONG", name)]


def _scaled(exponent: str) -> Callable[[Record, int], float]:
    get = attrgetter(exponent)

    def convert(record: Record, mantissa: int) -> float:
        exp: int = get(record)
        return mantissa / 10**-exp if exp < 0 else float(mantissa * 10**exp)

    return convert


def _doubles(name: str) -> Callable[[Record, list[int]], Any]:
    if name.endswith("_e6"):
        return lambda _, mantissas: np.array(mantissas, np.float64) / 1e6
    get = attrgetter("price_exp" if name in _PRICES else "size_exp")
    # Dividing by an exact power of ten rounds once; multiplying by 1e-4 would round twice.
    return lambda record, mantissas: np.array(mantissas, np.float64) / 10.0 ** -get(record)


def _hops(base: str) -> Callable[[Record, list[int]], Any]:
    get = attrgetter(base)

    def convert(record: Record, trail: list[int]) -> Any:
        start: int = get(record)
        return np.array([(stamp - start) / 1_000 for stamp in trail], np.float64) if trail else None

    return convert


def _micro(_: Record, mantissa: int) -> float:
    return mantissa / 1_000_000


def _time(_: Record, ns: int) -> TimestampNanos | None:
    return TimestampNanos(ns) if ns > 0 else None


def _text(_: Record, data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _size(_: Record, data: bytes) -> int:
    return len(data)


def _digest(_: Record, data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _json(_: Record, words: list[str] | list[int]) -> str:
    return msgspec.json.encode(words).decode()


def _timestamp(table: Table, ts_ns: int) -> TimestampNanos:
    if not 0 <= ts_ns <= TS_NS_MAX:
        raise Reject(f"{table.name}: {table.ts or 'Kafka time'} {ts_ns} is not a time QuestDB can hold")
    return TimestampNanos(ts_ns)


def snake(noun: str) -> str:
    """Return `BookDelta` as `book_delta`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", noun).lower()


_ORIGIN = ("instrument", "epoch", "frame_no", "place")
_VERSION = ("instrument", "version_offset", "version_index")

TABLES: tuple[Table, ...] = (
    Table(raw.Frame, "recv_ts_ns", ("feed", "epoch", "frame_no", "chunk"), "HOUR", digest="payload"),
    Table(raw.Opened, "recv_ts_ns", ("feed", "log_offset"), place=True),
    Table(raw.Ready, "recv_ts_ns", ("feed", "epoch")),
    Table(raw.Closed, "recv_ts_ns", ("feed", "epoch")),
    Table(market.Instrument, "recv_ts_ns", ("instrument",)),
    Table(market.BookSnapshot, "recv_ts_ns", _ORIGIN, "HOUR"),
    Table(market.BookDelta, "recv_ts_ns", _ORIGIN, "HOUR"),
    Table(market.AuditSnapshot, "recv_ts_ns", _ORIGIN),
    Table(market.Trade, "recv_ts_ns", _ORIGIN),
    Table(market.Status, "recv_ts_ns", _ORIGIN),
    Table(market.Notice, "recv_ts_ns", ("feed", "epoch", "frame_no", "place")),
    Table(market.FeedReset, "recv_ts_ns", ("feed", "epoch", "frame_no", "place")),
    Table(market.Tick, "recv_ts_ns", ("feed", "epoch", "frame_no")),
    Table(derived.Quote, "recv_ts_ns", (*_VERSION, "repeat"), "HOUR"),
    Table(derived.Depth, "recv_ts_ns", (*_VERSION, "repeat"), "HOUR"),
    Table(derived.Audit, "recv_ts_ns", _VERSION),
    Table(derived.Tick, "ts_ns", ("log_partition",)),
    Table(derived.Resync, "ts_ns", _VERSION),
    Table(decision.Strategy, KAFKA_TIME, ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Link, KAFKA_TIME, ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Limit, KAFKA_TIME, ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Budget, KAFKA_TIME, ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Command, "ts_ns", ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Ruling, "ts_ns", ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Posting, "ts_ns", ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Profile, KAFKA_TIME, ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Jurisdiction, "signed_ts_ns", ("id", "log_offset"), "MONTH", place=True),
    Table(decision.ManualTicket, "ts_ns", ("id", "log_offset"), "MONTH", place=True),
    Table(decision.Clock, "now_ns", ("log", "log_partition"), place=True),
    Table(decision.Edge, "now_ns", ("id", "phase")),
    Table(decision.Intent, "now_ns", ("id",)),
    Table(decision.Requote, "now_ns", ("id",)),
    Table(decision.Grant, "now_ns", ("id",)),
    Table(decision.Cancel, "now_ns", ("id",)),
    Table(decision.Amend, "now_ns", ("id",)),
    Table(decision.Beat, "now_ns", ("account",)),
    Table(decision.Ledger, "now_ns", ("id", "log_partition", "log_offset")),
    Table(decision.Entry, "now_ns", ("id",), "MONTH"),
    Table(decision.Standing, "now_ns", ("id", "log_partition", "log_offset")),
    Table(decision.Saga, "now_ns", ("id", "log_partition", "log_offset")),
    Table(order.Submitting, "recv_ts_ns", ("event_id",)),
    Table(order.OrderUpdate, "recv_ts_ns", ("event_id",)),
    Table(order.Fill, "recv_ts_ns", ("event_id",)),
    Table(order.Settled, "recv_ts_ns", ("event_id",)),
    Table(order.Payout, "recv_ts_ns", ("event_id",)),
    Table(order.VenueReport, "ts_ns", ("account",)),
    Table(order.Alive, "ts_ns", ("account", "writer")),
    Table(order.VenueCall, "sent_ts_ns", ("account", "order_id", "path")),
    Table(order.PrivateFrame, "recv_ts_ns", ("account", "log_partition", "log_offset"), place=True),
)

LEGS = Table(decision.Leg, "", ("id", "place"), inherited=("id",))
HOLDINGS = Table(order.Holding, "", ("account", "place"), inherited=("account",))
NESTED: Mapping[type[Record], tuple[str, Table]] = {
    decision.Intent: ("legs", LEGS),
    order.VenueReport: ("holdings", HOLDINGS),
}

BY_KIND: Mapping[type[Record], Table] = {table.kind: table for table in TABLES}


FIRST_HEARD = frozenset(BY_KIND[kind].name for kind in (order.OrderUpdate, order.Fill, order.Settled, order.Payout))
"""Tables of events that two gateways may write under one id with receive times of their own (`observe/first.py`)."""


def belongs(schema_name: str, noun: str) -> bool:
    """Say whether a record of that type on that topic is written.

    Sequenced logs repeat records of other layers byte for byte; those have their row from where they were written.
    Of `raw.frame` only the frames have rows: its Closed stands on `raw.feed` too, and the rest is said by `market.event`.
    """
    if noun == topics.RAW_FRAME.noun:
        return schema_name == raw.Frame.schema_name
    layer = schema_name.split(".")[1]
    return noun.partition(".")[0] == layer and any(table.kind.schema_name == schema_name for table in TABLES)


def rows(run: str, record: Record, place: Place) -> Iterator[Row]:
    """Yield the rows of one record: its own, then one for each record nested in it."""
    table = BY_KIND[type(record)]
    yield table.row(run, record, place)
    nested = NESTED.get(type(record))
    if nested is not None:
        field, child = nested
        for number, item in enumerate(getattr(record, field)):
            yield child.nested_row(run, record, number, item, place, table.ts)


ALL_TABLES: tuple[Table, ...] = (*TABLES, LEGS, HOLDINGS)


def statements() -> list[str]:
    """Return the DDL of every table."""
    return [table.ddl() for table in ALL_TABLES]
