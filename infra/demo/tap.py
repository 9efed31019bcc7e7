"""What the live view knows: read from the run's topics by a thread of its own, from their beginning.

It joins no group and commits nothing. Behind by a batch, it looks at a part of the quotes only: the view may be coarse,
the flow may not wait for it.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from core.runtime import topics
from infra.cli.reach import Reach
from infra.demo.tail import Tail
from schemas.decision import Edge, Grant, Ledger, Saga
from schemas.derived import Quote
from schemas.order import Fill, OrderUpdate, Submitting, VenueCall
from schemas.record import Record

TAPPED = (
    topics.DERIVED_BOOK,
    topics.DECISION_EDGE,
    topics.DECISION_ORDER,
    topics.DECISION_SAGA,
    topics.DECISION_LEDGER,
    topics.ORDER_EVENT,
    topics.ORDER_FRAME,
)
WANTED = frozenset(
    kind.schema_name for kind in (Quote, Edge, Grant, Saga, Ledger, Submitting, OrderUpdate, Fill, VenueCall)
)
HOPS = ("ingest", "normalize", "derive", "strategies", "accounts", "gateway", "sent")
SKIP_QUOTES = 4
"""While behind, one quote of so many is looked at."""
SAMPLES_MAX = 4_000


@dataclass
class Figures:
    """What was seen so far; the lists keep the newest samples."""

    states: dict[str, str] = field(default_factory=dict)
    """instrument -> state of its newest quote"""
    hops_us: dict[str, deque[float]] = field(
        default_factory=lambda: {name: deque(maxlen=SAMPLES_MAX) for name in (*HOPS, "socket to order")}
    )
    edges_open: set[str] = field(default_factory=set)
    edges: int = 0
    sagas: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Counter[str]] = field(default_factory=dict)
    """venue account -> sent, filled, rejected, …"""
    fills: Counter[str] = field(default_factory=Counter)
    cash_e6: dict[str, int] = field(default_factory=dict)
    cash_start_e6: dict[str, int] = field(default_factory=dict)
    fees_e6: dict[str, int] = field(default_factory=dict)
    holdings: dict[str, Ledger] = field(default_factory=dict)
    mids: dict[str, float] = field(default_factory=dict)
    """instrument -> mid of its newest LIVE quote, dollars"""

    def worth(self, account: str) -> float:
        """Return cash and holdings of an account at mids, in dollars."""
        held = 0.0
        for row in self.holdings.values():
            if row.account == account and row.size:
                mid = self.mids.get(row.instrument, 0.5)
                held += row.size / 1e6 * (1 - mid if row.outcome == "NO" else mid)
                # A short position's dollar was paid when it was opened.
                held += max(-row.size, 0) / 1e6
        return self.cash_e6.get(account, 0) / 1e6 + held

    def profit(self) -> float:
        """Return what all accounts are worth more than at the start, in dollars."""
        return sum(self.worth(account) - start / 1e6 for account, start in self.cash_start_e6.items())


PATIENCE_MS = 200
"""How late a record may come to the view."""


class Tap:
    """Keeps `figures` up to date."""

    def __init__(self, reach: Reach) -> None:
        self.figures = Figures()
        self._sent: dict[str, Submitting] = {}
        self._entries: set[str] = set()
        self._seen: set[str] = set()
        self._quotes = 0
        self._tail = Tail(
            reach,
            name="tap",
            topics=[topic.name(reach.run) for topic in TAPPED],
            take=lambda record, _: self.take(record),
            wanted=self._is_wanted,
            patience_ms=PATIENCE_MS,
        )

    def start(self) -> None:
        """Begin reading."""
        self._tail.start()

    def stop(self) -> None:
        """End reading."""
        self._tail.stop()

    def _is_wanted(self, kind: str, behind: bool) -> bool:
        if kind == Quote.schema_name:
            self._quotes += 1
            return not behind or self._quotes % SKIP_QUOTES == 0
        return kind in WANTED

    def take(self, record: Record) -> None:
        """Take in one record."""
        figures = self.figures
        match record:
            case Quote():
                self._quote(record)
            case Edge():
                if record.phase == "BEGIN":
                    figures.edges += 1
                    figures.edges_open.add(record.id)
                elif record.phase == "END":
                    figures.edges_open.discard(record.id)
            case Grant():
                if record.purpose == "ENTRY":
                    self._entries.add(record.id)
                    self._hops(record.trail, 3, ("strategies", "accounts"))
            case Saga():
                figures.sagas[record.id] = record.state
            case Ledger():
                self._ledger(record)
            case Submitting():
                self._sent[record.order] = record
                self._count(record.account, "sent", record.order)
                if record.order in self._entries:
                    self._hops(record.trail, 5, ("gateway",))
            case OrderUpdate():
                if record.terminal:
                    self._count(record.account, record.status.lower(), record.order)
            case Fill():
                if record.event_id not in self._seen:
                    self._seen.add(record.event_id)
                    figures.fills[record.account] += 1
            case VenueCall():
                self._call(record)
            case _:
                pass

    def _quote(self, quote: Quote) -> None:
        figures = self.figures
        figures.states[quote.instrument] = quote.state
        if quote.state == "LIVE" and quote.bid_size and quote.ask_size:
            figures.mids[quote.instrument] = (quote.bid_price + quote.ask_price) / 2 / 10**-quote.price_exp
        if not quote.repeat and len(quote.trail) == 3:
            figures.hops_us["ingest"].append((quote.trail[0] - quote.recv_ts_ns) / 1e3)
            self._hops(quote.trail, 1, ("normalize", "derive"))

    def _hops(self, trail: list[int], first: int, names: tuple[str, ...]) -> None:
        for place, name in enumerate(names, start=first):
            if place < len(trail):
                self.figures.hops_us[name].append((trail[place] - trail[place - 1]) / 1e3)

    def _count(self, account: str, what: str, order: str) -> None:
        # Records may be said twice; an order counts once for each thing that can become of it.
        if f"{order}/{what}" not in self._seen:
            self._seen.add(f"{order}/{what}")
            self.figures.orders.setdefault(account, Counter())[what] += 1

    def _ledger(self, row: Ledger) -> None:
        figures = self.figures
        if row.instrument:
            figures.holdings[row.id] = row
        elif row.known:
            figures.cash_start_e6.setdefault(row.account, row.cash_e6)
            figures.cash_e6[row.account] = row.cash_e6
            figures.fees_e6[row.account] = row.fees_e6

    def _call(self, call: VenueCall) -> None:
        submitting = self._sent.pop(call.order, None) if call.order else None
        if submitting is not None and call.order in self._entries and submitting.trail:
            self.figures.hops_us["sent"].append((call.sent_ts_ns - submitting.trail[-1]) / 1e3)
            self.figures.hops_us["socket to order"].append((call.sent_ts_ns - submitting.recv_ts_ns) / 1e3)
