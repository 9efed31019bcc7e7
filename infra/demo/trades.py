"""Orders, fills and accounts: the venues' own books against ours."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.decision import Entry, Grant, Ledger, Saga, Strategy
from schemas.order import Fill, OrderUpdate, Submitting, VenueCall
from schemas.record import Record

UNSENT = frozenset({"EXPIRED_UNSENT"})
OUTCOMES = ("sent", "filled", "rejected", "cancelled", "open", "expired_unsent")


@dataclass
class Ours:
    """What our logs say of orders and accounts."""

    grants: dict[str, Grant] = field(default_factory=dict)
    submitted: dict[str, Submitting] = field(default_factory=dict)
    outcomes: dict[str, set[str]] = field(default_factory=dict)
    """order -> its terminal states"""
    fills: dict[str, Fill] = field(default_factory=dict)
    """event id -> fill"""
    calls: dict[str, VenueCall] = field(default_factory=dict)
    """order -> the first request that sent it"""
    strategies: dict[str, str] = field(default_factory=dict)
    """intent -> whose it is"""
    refused: dict[str, str] = field(default_factory=dict)
    """intent -> why it was"""
    traders: set[str] = field(default_factory=set)
    """strategies that were RUNNING"""
    settled: set[str] = field(default_factory=set)
    """instruments of which the ledger says what they paid"""
    ledger: dict[str, Ledger] = field(default_factory=dict)
    opening_e6: dict[str, int] = field(default_factory=dict)
    """venue account -> cash of its first known line"""
    ledger_place: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case Grant():
                self.grants.setdefault(record.id, record)
            case Submitting():
                self.submitted.setdefault(record.order, record)
            case OrderUpdate() if record.terminal:
                self.outcomes.setdefault(record.order, set()).add(record.status)
            case Fill():
                self.fills.setdefault(record.event_id, record)
            case VenueCall() if record.order and record.method == "POST":
                first = self.calls.get(record.order)
                if first is None or record.sent_ts_ns < first.sent_ts_ns:
                    self.calls[record.order] = record
            case Saga():
                self.strategies[record.id] = record.strategy
                if record.state == "REFUSED":
                    self.refused[record.id] = record.reason
            case Strategy(status="RUNNING"):
                self.traders.add(record.id)
            case Entry(kind="SETTLEMENT", phase="FINAL", instrument=name) if name:
                self.settled.add(name)
            case Ledger():
                self._ledger(record)
            case _:
                pass

    def _ledger(self, row: Ledger) -> None:
        place = (row.log_partition, row.log_offset)
        if place >= self.ledger_place.get(row.id, (-1, -1)):
            self.ledger[row.id] = row
            self.ledger_place[row.id] = place
        if not row.instrument and row.known:
            self.opening_e6.setdefault(row.account, row.cash_e6)

    def orders(self) -> dict[str, dict[str, int]]:
        """Return what became of the orders, by venue; an order that a venue filled in part counts as filled."""
        return self._orders(lambda submitting: submitting.account.partition(":")[0])

    def orders_by_strategy(self) -> dict[str, dict[str, int]]:
        """Return the same by strategy, with each that was to trade, also where it sent none."""
        none = dict.fromkeys(OUTCOMES, 0)
        return dict(sorted((dict.fromkeys(self.traders, none) | self._orders(self._strategy)).items()))

    def idle(self) -> list[str]:
        """Return the strategies that were to trade and sent no order."""
        return [name for name, counts in self.orders_by_strategy().items() if not counts["sent"]]

    def _strategy(self, submitting: Submitting) -> str:
        grant = self.grants.get(submitting.order)
        return self.strategies.get(grant.intent, "?") if grant is not None else "?"

    def _orders(self, place: Callable[[Submitting], str]) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        filled = {fill.order for fill in self.fills.values()}
        for order, submitting in self.submitted.items():
            counter = found.setdefault(place(submitting), Counter())
            states = self.outcomes.get(order, set())
            if states & UNSENT:
                counter["expired_unsent"] += 1
                continue
            counter["sent"] += 1
            if order in filled:
                counter["filled"] += 1
            elif "REJECTED" in states:
                counter["rejected"] += 1
            elif states:
                counter["cancelled"] += 1
            else:
                counter["open"] += 1
        return {name: {one: counter[one] for one in OUTCOMES} for name, counter in sorted(found.items())}

    def latencies_us(self, since_ns: int) -> list[float]:
        """Return socket to order of the entries: from the frame that triggered them to the write of the request."""
        return sorted(
            (call.sent_ts_ns - grant.recv_ts_ns) / 1e3
            for order, call in self.calls.items()
            if (grant := self.grants.get(order)) is not None and grant.purpose == "ENTRY"
            if call.sent_ts_ns >= since_ns
        )

    def spreads_us(self, since_ns: int) -> list[float]:
        """Return how far the requests of entries are apart that left together: of each saga all of whose entries left."""
        granted: dict[str, list[str]] = {}
        for order, grant in self.grants.items():
            if grant.purpose == "ENTRY" and grant.attempt == 1:  # a quote that is granted anew is the same leg
                granted.setdefault(grant.intent, []).append(order)
        sent = (
            [self.calls[order].sent_ts_ns for order in entries]
            for entries in granted.values()
            if len(entries) > 1 and all(order in self.calls for order in entries)
        )
        return sorted((max(times) - min(times)) / 1e3 for times in sent if min(times) >= since_ns)


@dataclass
class FillCheck:
    """Fills and orders the venues know against rows in QuestDB."""

    fills: int = 0
    lost: int = 0
    duplicated: int = 0
    sent_twice: int = 0
    """orders a venue accepted more than once, or that it took and we did not submit"""


def check_fills(
    truth: Iterable[Mapping[str, Any]], stored: Iterable[tuple[str, str, int]], ours: Ours, account: str
) -> FillCheck:
    """Compare the venues' fills and orders with ours, by trade and order: what was filled must be there to the last unit.

    Our records split a Polymarket trade by the resting orders it met, `<trade>:<resting order>`; the venue's log has
    one line for it.

    Args:
        truth: lines of the simulators' `orders.jsonl`.
        stored: `fill_id`, `order_id`, `size_e6` of every row of `order_fill`, as often as it stands there.
        account: name of the account at the venues.
    """
    result = FillCheck()
    names = {order: {submitting.venue_order} for order, submitting in ours.submitted.items()}
    for order, grant in ours.grants.items():
        if order in names:
            names[order].add(grant.client_id)
    of_venue = {name: order for order, known in names.items() for name in known if name}
    wanted: Counter[tuple[str, str]] = Counter()
    accepted: Counter[str] = Counter()
    for fact in truth:
        if fact.get("account") != account:
            continue
        name = str(fact.get("client_order_id") or fact.get("order_id"))
        if fact["event"] == "filled":
            wanted[fact["trade_id"], of_venue.get(name, name)] += fact["size_e6"]
        elif fact["event"] == "accepted":
            accepted[name] += 1
    found: Counter[tuple[str, str]] = Counter()
    for fill_id, order, size in stored:
        found[fill_id.partition(":")[0], order] += size
    result.fills = len(wanted)
    result.lost = sum(1 for key, size in wanted.items() if found[key] < size)
    result.duplicated = sum(1 for key, size in found.items() if size > wanted[key])
    result.sent_twice = sum(1 for name, count in accepted.items() if count > 1 or name not in of_venue)
    return result


def compare_accounts(
    ours: Ours, venues: Mapping[str, Any], account: str, tokens: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return what differs between our ledger and the venues' own accounts, nothing when they are equal.

    Args:
        venues: the answer of `/sim/accounts`.
        tokens: Polymarket token -> (instrument, outcome).
    """
    differences: list[str] = []
    for venue, states in venues.items():
        state = next(state for state in states if state["account"] == account)
        name = f"{venue}:{account}"
        cash = ours.ledger.get(name)
        if cash is None:
            differences.append(f"{name}: no ledger line")
            continue
        _compare(differences, f"{name} cash", cash.cash_e6, state["cash_e6"])
        _compare(differences, f"{name} fees", cash.fees_e6, state["fees_e6"])
        _compare(differences, f"{name} opening cash", ours.opening_e6.get(name), state["cash_start_e6"])
        theirs = {key: size for key, size in holdings(venue, state, tokens).items() if size}
        held: dict[tuple[str, str], int] = {
            (row.instrument, row.outcome if venue == "polymarket" else "YES"): row.size
            for row in ours.ledger.values()
            if row.account == name and row.instrument and row.size
        }
        for key in sorted(theirs.keys() | held.keys()):
            _compare(differences, f"{name} {key[0]} {key[1]}", held.get(key, 0), theirs.get(key, 0))
    return differences


def holdings(venue: str, state: Mapping[str, Any], tokens: Mapping[str, tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return what a venue says an account holds: (instrument, outcome) -> size at -6, signed where it nets."""
    if venue == "kalshi":
        return {(f"kalshi:{ticker}", "YES"): found["size_e6"] for ticker, found in state["positions"].items()}
    # What is not settled yet stands among the tokens, too.
    return {tokens.get(token, (token, "?")): size for token, size in state["tokens"].items()}


def profit_e6(cash_e6: int, start_e6: int, holdings: Mapping[tuple[str, str], int], mids_e6: Mapping[str, int]) -> int:
    """Return what an account gained: cash, and holdings at mids (one half where there is none)."""
    worth = 0
    for (instrument, outcome), size in holdings.items():
        mid = mids_e6.get(instrument, 500_000)
        worth += size * (1_000_000 - mid if outcome == "NO" else mid) // 1_000_000
        if size < 0:
            # A short position's dollar was paid when it was opened.
            worth += -size
    return cash_e6 - start_e6 + worth


def _compare(differences: list[str], what: str, ours: int | None, theirs: int) -> None:
    if ours != theirs:
        differences.append(f"{what}: ours {ours}, the venue's {theirs}")
