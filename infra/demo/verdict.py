"""The check at the end: from the venues' own truth log to QuestDB, and the figures of `build/demo.json`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from core.runtime import topics
from core.runtime.topics import TOPICS
from infra.cli.reach import Reach
from infra.demo import frames, rows, scan, trades
from infra.demo.budgets import EXAMPLES, Budgets, leaked
from infra.demo.capital import Capital
from infra.demo.cast import ACCOUNT
from infra.demo.stops import Stops
from infra.demo.world import World
from observe.stage import sunk_topics
from observe.tables import BY_KIND
from schemas.control import Run
from schemas.decision import Grant
from schemas.derived import Quote
from schemas.market import Instrument
from schemas.raw import Frame, Opened
from schemas.record import Record
from venues import VENUES

SUNK_LAYERS = ("raw", "market", "derived", "decision", "order")
HOPS = ("ingest", "normalize", "derive")


@dataclass
class Window:
    """The measured time: after the warm-up, until the flow stopped; ns since the epoch."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.end_ns - self.begin_ns) / 1e9

    def holds(self, ts_ns: int) -> bool:
        """Say whether a time lies in it."""
        return self.begin_ns <= ts_ns < self.end_ns


class Witness(Protocol):
    """Who sees every record of the pass, too."""

    def add(self, found: scan.Found) -> None:
        """Take in one record of a sunk topic."""
        ...

    def add_event(self, record: Record) -> None:
        """Take in one market event as the pure normaliser makes it of the raw frames."""
        ...


@dataclass
class Seen:
    """Everything one pass over the topics gathers."""

    expected: rows.Expected
    feeds: frames.Feeds = field(default_factory=frames.Feeds)
    ours: trades.Ours = field(default_factory=trades.Ours)
    budgets: Budgets = field(default_factory=Budgets)
    capital: Capital = field(default_factory=Capital)
    stops: Stops = field(default_factory=Stops)
    opened: dict[int, Opened] = field(default_factory=dict)
    instruments: dict[str, Instrument] = field(default_factory=dict)
    mids_e6: dict[str, int] = field(default_factory=dict)
    frames_in_window: int = 0
    hops_us: dict[str, list[float]] = field(default_factory=dict)


def verdict(reach: Reach, run: Run, world: World, window: Window) -> dict[str, Any]:
    """Return the content of `demo.json`.

    Raises:
        Unavailable: a server does not answer.
    """
    return judge(reach, run, world, window, gather(reach, window))


def gather(reach: Reach, window: Window, witness: Witness | None = None) -> Seen:
    """Read every topic once, and normalize the raw frames again.

    Raises:
        Unavailable: Kafka does not answer.
    """
    seen = Seen(rows.Expected(reach.run))
    _read_tables(reach, seen)
    raw_records = _gather(reach, seen, window, witness)
    tables = rows.KnownTables(seen.opened, seen.instruments)
    for output in rows.normalized(tables, raw_records):
        if type(output.record) in BY_KIND:
            seen.expected.add_event(output)
            if witness is not None:
                witness.add_event(output.record)
    return seen


def judge(reach: Reach, run: Run, world: World, window: Window, seen: Seen) -> dict[str, Any]:
    """Compare what was gathered with QuestDB and the venues.

    Raises:
        Unavailable: a server does not answer.
    """
    row_check = rows.check(reach, seen.expected, run.created_ts_ns)
    frame_checks = {venue: _frames(world, venue, seen) for venue in VENUES}
    fills = _fills(reach, run, world, seen.ours)
    differences = trades.compare_accounts(seen.ours, world.accounts(), ACCOUNT, tokens_of(world))
    exceeded, leaks = [*seen.budgets.exceeded(), *seen.capital.exceeded()], leaked(seen.ours.ledger)
    stops = seen.stops.found()
    lost = {
        "frames": sum(check.lost for check in frame_checks.values()) + seen.feeds.holes(),
        "rows": sum(row_check.lost.values()),
        "fills": fills.lost,
    }
    duplicated = {
        "frames": sum(check.duplicated for check in frame_checks.values()) + seen.feeds.repeated,
        "rows": sum(row_check.duplicated.values()),
        "fills": fills.duplicated,
        "orders": fills.sent_twice,
    }
    return {
        "run": reach.run,
        "incarnation": run.incarnation,
        "seconds": round(window.seconds, 1),
        "topics": {
            noun: sum(offsets.values()) for noun, offsets in scan.ends(reach, TOPICS).items() if sum(offsets.values())
        },
        "lost": sum(lost.values()),
        "duplicated": sum(duplicated.values()),
        "orders": seen.ours.orders(),
        "orders_by_strategy": seen.ours.orders_by_strategy(),
        "idle_strategies": seen.ours.idle(),
        "socket_to_order_us": _quantiles(seen.ours.latencies_us(window.begin_ns)),
        "legs_apart_us": _quantiles(seen.ours.spreads_us(window.begin_ns)),
        "accounts_match": not differences,
        "reservations_leaked": len(leaks),
        "orders_doubled": fills.sent_twice,
        "budgets_exceeded": len(exceeded),
        "stops": len(stops),
        "rate_per_s": round(seen.frames_in_window / window.seconds, 1) if window.seconds > 0 else 0,
        "detail": {
            "lost": lost,
            "duplicated": duplicated,
            "lost_rows_by_table": row_check.lost,
            "duplicated_rows_by_table": row_check.duplicated,
            "lost_rows": row_check.examples,
            "frames": {venue: asdict(check) for venue, check in frame_checks.items()},
            "rows": row_check.expected,
            "fills": fills.fills,
            "account_differences": differences[:20],
            "refused": dict(Counter(seen.ours.refused.values()).most_common()),
            "settled": sorted(seen.ours.settled),
            "budget_examples": [*leaks, *exceeded, *stops][:EXAMPLES],
            "accounts": _accounts(seen, world),
            "hops_us": {name: _quantiles(sorted(values)) for name, values in seen.hops_us.items()},
        },
    }


def _read_tables(reach: Reach, seen: Seen) -> None:
    for found in scan.records(reach, [topics.RAW_FEED, topics.MARKET_INSTRUMENT]):
        if isinstance(found.record, Opened):
            seen.opened[found.offset] = found.record
        elif isinstance(found.record, Instrument):
            seen.instruments[found.record.instrument] = found.record


def _gather(reach: Reach, seen: Seen, window: Window, witness: Witness | None) -> list[scan.Found]:
    """Read every topic once; return the raw records, which are normalized again."""
    raw_records = []
    for found in scan.records(reach, sunk_topics(SUNK_LAYERS)):
        record = found.record
        seen.expected.add(found)
        if witness is not None:
            witness.add(found)
        if found.noun == topics.RAW_FRAME.noun:
            seen.feeds.add(record)
            raw_records.append(found)
            if isinstance(record, Frame) and window.holds(record.recv_ts_ns):
                seen.frames_in_window += 1
            continue
        if found.noun != topics.DECISION_ACCOUNT.noun:  # its order events are copies
            seen.ours.add(record)
            seen.budgets.add(record)
            seen.capital.add(record)
            seen.stops.add(record)
        _measure(record, found.noun, seen, window)
    return raw_records


def _measure(record: Record, noun: str, seen: Seen, window: Window) -> None:
    if isinstance(record, Quote) and noun == topics.DERIVED_BOOK.noun:
        if record.state == "LIVE" and record.bid_size and record.ask_size:
            # At -4; kept to the half of a tick at -6.
            seen.mids_e6[record.instrument] = (record.bid_price + record.ask_price) * 50
        if not record.repeat and len(record.trail) == len(HOPS) and window.holds(record.recv_ts_ns):
            for name, later, earlier in zip(HOPS, record.trail, [record.recv_ts_ns, *record.trail], strict=False):
                seen.hops_us.setdefault(name, []).append((later - earlier) / 1e3)
    elif isinstance(record, Grant) and record.purpose == "ENTRY" and window.holds(record.recv_ts_ns):
        for name, place in (("strategies", 3), ("accounts", 4)):
            if place < len(record.trail):
                seen.hops_us.setdefault(name, []).append((record.trail[place] - record.trail[place - 1]) / 1e3)


def _frames(world: World, venue: str, seen: Seen) -> frames.FrameCheck:
    closed = {
        fact["connection"]
        for fact in world.truth("connections.jsonl")
        if fact["venue"] == venue and fact["event"] == "closed"
    }
    epochs = [epoch for epoch, opened in seen.opened.items() if opened.venue == venue]
    feeds = [seen.feeds.digests.get(epoch, {}) for epoch in epochs]
    return frames.check(world.truth(f"frames-{venue}.jsonl"), closed, feeds)


def _fills(reach: Reach, run: Run, world: World, ours: trades.Ours) -> trades.FillCheck:
    sql = f"SELECT fill_id, order_id, size_e6 FROM order_fill WHERE run = '{reach.run}' AND ts >= {run.created_ts_ns}"  # noqa: S608
    stored = [(fill, order, int(size)) for fill, order, size in rows.export(reach, sql)]
    return trades.check_fills(world.truth("orders.jsonl"), stored, ours, ACCOUNT)


def tokens_of(world: World) -> dict[str, tuple[str, str]]:
    """Return the instrument and outcome of every Polymarket token of the links."""
    found: dict[str, tuple[str, str]] = {}
    for pair in world.links():
        polymarket = pair["polymarket"]
        instrument = f"polymarket:{polymarket['condition_id']}"
        found[polymarket["yes_token_id"]] = (instrument, "YES")
        found[polymarket["no_token_id"]] = (instrument, "NO")
    return found


def _accounts(seen: Seen, world: World) -> dict[str, dict[str, int]]:
    """Return cash, fees and gain of each account, ours and the venue's, at 1e-6."""
    tokens = tokens_of(world)
    found = {}
    for venue, states in world.accounts().items():
        state = next(state for state in states if state["account"] == ACCOUNT)
        name = f"{venue}:{ACCOUNT}"
        cash = seen.ours.ledger.get(name)
        held: dict[tuple[str, str], int] = {
            (row.instrument, row.outcome): row.size
            for row in seen.ours.ledger.values()
            if row.account == name and row.instrument and row.size
        }
        start = state["cash_start_e6"]
        found[name] = {
            "cash_e6": cash.cash_e6 if cash else 0,
            "venue_cash_e6": state["cash_e6"],
            "fees_e6": cash.fees_e6 if cash else 0,
            "venue_fees_e6": state["fees_e6"],
            "profit_e6": trades.profit_e6(cash.cash_e6 if cash else 0, start, held, seen.mids_e6),
            "venue_profit_e6": trades.profit_e6(
                state["cash_e6"], start, trades.holdings(venue, state, tokens), seen.mids_e6
            ),
        }
    return found


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 of sorted values, and how many there are."""
    ordered = list(values)
    if not ordered:
        return {"p50": 0.0, "p99": 0.0, "p999": 0.0, "n": 0}

    def at(part: float) -> float:
        return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)], 1)

    return {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "n": len(ordered)}
