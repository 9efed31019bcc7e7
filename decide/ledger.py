"""What a venue account has, counted by us: cash, holdings, fees, reservations. Exact to the venue's last unit.

Opening figures are those of the account's first report; from then on fills and settlements move them, once per venue
fill id and once per statement of a payout, and later reports are compared only. What a determined market is to pay is
kept beside, in no figure of cash. Kalshi nets: one signed number per market, and cash is the signed flow of
trades less one dollar per contract short. Polymarket holds YES and NO tokens apart, and only confirmed ones can be sold.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from core.domain.units import MICRO
from decide.payouts import Paid, Provisional
from decide.shards import Shards
from schemas.enums import Outcome, Settlement
from schemas.order import Fill, VenueReport

HoldingKey = tuple[str, Outcome]
"""Instrument and outcome; where a venue nets, the outcome is YES and the size signed."""

REPORTS_DIFFERING_MAX = 2
"""Reports in a row, each with nothing in flight, that may differ before it is said."""


@dataclass
class Holding:
    """What is held of one outcome at 1e-6; `cost_e6` is what the held part cost to open, fees aside."""

    size: int = 0
    sellable: int = 0
    cost_e6: int = 0


class Difference(NamedTuple):
    """What a report states beyond what we count."""

    cash_e6: int
    sizes: dict[HoldingKey, int]


class Seen(NamedTuple):
    """A difference, and the report it was seen with."""

    difference: Difference
    as_of_ns: int


class Wait(NamedTuple):
    """How long something was waited for of a market, and what reports may show beyond our cash until they show what was booked."""

    seen_ns: int
    """log time up to which it is counted"""
    waited_ns: int = 0
    low_e6: int = 0
    high_e6: int = 0


class Freed(NamedTuple):
    """Money an order held until a word about it (at a time): reports may show it held for a while."""

    cash_e6: int
    at_ns: int
    reports: int
    """that were compared since"""


class Coming(NamedTuple):
    """What a human entered and no report has shown yet: cash (no instrument), or a holding."""

    key: HoldingKey
    size: int
    cash_e6: int
    entered_ns: int


class Booked(NamedTuple):
    """What one fill did, so that a failed settlement can take it back."""

    fill: Fill
    key: HoldingKey
    cash_e6: int
    """without the fee"""
    cost_e6: int
    is_void: bool = False
    """its settlement had failed before it was heard of: nothing moved"""


@dataclass
class Account:
    """One venue account."""

    name: str
    nets: bool
    settles_later: bool
    states_payouts: bool = False
    known: bool = False
    opened_ns: int = 0
    """the venue's time of the first report: what was paid before is in it"""
    opening_cash_e6: int = 0
    cash_e6: int = 0
    shards: Shards = field(default_factory=Shards)
    """where of the venue's exchanges it lies"""
    fees_e6: int = 0
    holdings: dict[HoldingKey, Holding] = field(default_factory=dict)
    differs: int = 0
    """reports in a row that differed with nothing in flight"""
    moved_ns: int = 0
    """the venue's time of the newest fill or settlement: no older report is compared"""
    seen_difference: Seen | None = None
    """of the last report that was compared, if it differed"""
    moved_since: dict[str, bool] = field(default_factory=dict)
    """instruments whose holdings moved since that report; "": cash alone"""
    unsure: dict[str, bool] = field(default_factory=dict)
    """instruments that were left out of it (`beside`)"""
    freed: list[Freed] = field(default_factory=list)
    """money that orders held lately"""
    posted: dict[str, bool] = field(default_factory=dict)
    """ids of what humans entered"""
    coming: list[Coming] = field(default_factory=list)
    """what of that no report has shown yet"""
    waits: dict[str, Wait] = field(default_factory=dict)
    """instrument -> how long its payout, or that reports show it, was waited for (`waits`)"""
    taken: dict[str, int] = field(default_factory=dict)
    """settled instrument -> as-of time of the report whose figures a human took before its payout was stated"""
    said: tuple[bool, int, int, int, int] = (False, 0, 0, 0, 0)
    """what was written down last: known, cash, reserved, fees, provisional"""
    provisional: dict[HoldingKey, Provisional] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    """reservation (intent and leg) -> money"""
    _booked: dict[str, Booked] = field(default_factory=dict)
    _final: dict[str, Settlement] = field(default_factory=dict)
    """fill -> CONFIRMED or FAILED, also of fills not seen yet"""
    _unsettled: set[str] = field(default_factory=set)
    """fills whose settlement is to come"""
    changed_fills: set[str] = field(default_factory=set)
    """fills that are not written down as they are"""
    _paid: dict[str, Paid] = field(default_factory=dict)
    """instrument -> what it paid by the venue's statement"""
    changed_paid: set[str] = field(default_factory=set)
    """instruments whose payouts are not written down as they are"""

    # Reservations

    @property
    def reserved_e6(self) -> int:
        """All money reserved."""
        return sum(self.reserved.values())

    def usable_e6(self, capital_e6: int) -> int:
        """Return cash that may be reserved: with `capital_e6` above 0, as if the account had opened with that."""
        excess = max(self.opening_cash_e6 - capital_e6, 0) if capital_e6 > 0 else 0
        return self.cash_e6 - self.coming_in_e6 - excess - self.reserved_e6

    @property
    def coming_in_e6(self) -> int:
        """Cash that was entered, and that the venue has yet to show."""
        return sum(one.cash_e6 for one in self.coming if one.cash_e6 > 0)

    @property
    def coming_out_e6(self) -> int:
        """Cash that was entered as gone, and that the venue shows still."""
        return -sum(one.cash_e6 for one in self.coming if one.cash_e6 < 0)

    def reserve(self, name: str, amount_e6: int) -> None:
        """Set a reservation; 0 ends it."""
        if amount_e6 > 0:
            self.reserved[name] = amount_e6
        else:
            self.reserved.pop(name, None)

    # Holdings

    def holding(self, instrument: str, outcome: Outcome) -> Holding:
        """Return a holding, empty if there is none."""
        return self.holdings.get(self.key_of(instrument, outcome), Holding())

    def key_of(self, instrument: str, outcome: Outcome) -> HoldingKey:
        """Return where an outcome is counted."""
        return (instrument, "YES" if self.nets else outcome)

    def cost_of(self, instrument: str) -> int:
        """Return what is held of an instrument cost, all outcomes."""
        return sum(holding.cost_e6 for key, holding in self.holdings.items() if key[0] == instrument)

    # What moves them

    def open(self, report: VenueReport) -> list[HoldingKey]:
        """Take cash and holdings from the first report; return the holdings it names.

        What was held before has no cost here: it was paid for before this log began.
        """
        self.known = True
        self.opened_ns = report.as_of_ns
        self.opening_cash_e6 = self.cash_e6 = report.cash_e6
        for key, size in self._sizes(report).items():
            self.holdings[key] = Holding(size=size, sellable=max(size, 0))
        return list(self.holdings)

    def difference(self, report: VenueReport) -> Difference:
        """Return what a report states beyond what we count."""
        theirs = self._sizes(report)
        sizes = {key: theirs.get(key, 0) - self.holding(*key).size for key in {*theirs, *self.holdings}}
        return Difference(report.cash_e6 - self.cash_e6, {key: size for key, size in sizes.items() if size})

    def is_newer(self, report: VenueReport) -> bool:
        """Say whether a report is later than the last one that differed."""
        return self.seen_difference is None or report.as_of_ns > self.seen_difference.as_of_ns

    def lasts(self, difference: Difference, report: VenueReport) -> bool:
        """Note what of a report is to be explained; say whether the one before it left the same, nothing having moved."""
        seen, self.seen_difference = self.seen_difference, Seen(difference, report.as_of_ns)
        return seen is not None and seen.difference == difference and self.is_still(difference)

    def shown(self, as_of_ns: int) -> None:
        """Note that a report shows what reports did not need to show yet: an older one says nothing."""
        self.moved_ns = max(self.moved_ns, as_of_ns - 1)

    def is_still(self, found: Difference) -> bool:
        """Say whether nothing that differs moved since the report before: a holding, or anything that moves the cash.

        What moved where orders are out is not compared: the cash explains it by what they hold.
        """
        if any(instrument in self.moved_since for instrument, _ in found.sizes):
            return False
        return not found.cash_e6 or all(name in self.unsure for name in self.moved_since)

    def heal(self, key: HoldingKey, size: int, cash_e6: int) -> None:
        """Take the venue's figures: move a holding (at no cost; what is gone takes its share of the cost with it) and cash."""
        self.cash_e6 += cash_e6
        if not size:
            return
        holding = self.holdings.setdefault(key, Holding())
        after = holding.size + size
        if abs(after) < abs(holding.size):
            holding.cost_e6 = holding.cost_e6 * abs(after) // abs(holding.size)
        holding.size = after
        holding.sellable = max(after, 0) if self.nets else max(holding.sellable + size, 0)
        self.differs = 0

    @property
    def has_unsettled(self) -> bool:
        """Say whether the settlement of some fill is to come."""
        return self.settles_later and bool(self._unsettled)

    def compare(self, report: VenueReport) -> bool:
        """Count a later report that differs; return True when that is to be said (once per series)."""
        ours = {key: holding.size for key, holding in self.holdings.items() if holding.size}
        theirs = {key: size for key, size in self._sizes(report).items() if size}
        if report.cash_e6 == self.cash_e6 and ours == theirs:
            self.differs = 0
            return False
        self.differs += 1
        return self.differs == REPORTS_DIFFERING_MAX

    def book(self, fill: Fill) -> Booked | None:
        """Move cash and holding by a fill; None if it was booked before."""
        final: Settlement | None = self._final.get(fill.fill)
        if fill.fill in self._booked:
            return None
        key = self.key_of(fill.instrument, fill.outcome)
        self.changed_fills.add(fill.fill)
        if "FAILED" in {final, fill.settlement}:
            self._final[fill.fill] = "FAILED"
            void = self._booked[fill.fill] = Booked(fill, key, 0, 0, is_void=True)
            return void
        if self.nets:
            cash_e6, cost_e6 = self._book_netted(key, fill)
        else:
            is_final = "CONFIRMED" in {final, fill.settlement} or not self.settles_later
            cash_e6, cost_e6 = self._book_token(key, fill, is_final=is_final)
            if is_final:
                self._final[fill.fill] = "CONFIRMED"
            else:
                self._unsettled.add(fill.fill)
        at_ns = fill.venue_ts_ns or fill.ts_ns
        self._moved(fill.instrument, at_ns)
        self.cash_e6 += cash_e6 - fill.fee_e6
        self.shards.move(fill.instrument, cash_e6 - fill.fee_e6, at_ns, bound_e6=opening_e6(fill) + fill.fee_e6)
        self.fees_e6 += fill.fee_e6
        booked = self._booked[fill.fill] = Booked(fill, key, cash_e6, cost_e6)
        return booked

    def settle(self, fill_id: str, settlement: Settlement, ts_ns: int) -> Booked | None:
        """Note the end of a fill's settlement; return the fill if that changed what is held or sellable."""
        if settlement not in {"CONFIRMED", "FAILED"} or fill_id in self._final:
            return None
        self.changed_fills.add(fill_id)
        self._final[fill_id] = settlement
        self._unsettled.discard(fill_id)
        booked = self._booked.get(fill_id)
        if booked is None:
            return None
        self._moved(booked.fill.instrument, ts_ns)
        if settlement == "CONFIRMED":
            if bought_token(booked.fill) and not self.nets:
                self.holdings[booked.key].sellable += booked.fill.size
        else:
            self._reverse(booked, ts_ns)
        return booked

    def is_settled(self, fill_id: str) -> bool:
        """Say whether a fill's settlement has ended (at once where the venue settles as it matches)."""
        return self.nets or not self.settles_later or fill_id in self._final

    # What settled markets pay

    @property
    def provisional_e6(self) -> int:
        """What determined markets are to pay, all together."""
        return sum(one.expected_e6 for one in self.provisional.values())

    def expected_e6(self, key: HoldingKey, payout_e6: int) -> int:
        """Return the cash a holding brings when one YES pays `payout_e6`, rounded down."""
        size = self.holding(*key).size
        pays_yes = key[1] == "YES" and size > 0
        return abs(size) * (payout_e6 if pays_yes else MICRO - payout_e6) // MICRO

    def pay(self, instrument: str, size: int, revenue_e6: int, ts_ns: int) -> tuple[int, int]:
        """Close `size` of YES (negative: of NO) for cash, where the venue nets; return what moved: cash and cost.

        It is a trade at the payout, so that a fill that is heard of later still ends where it would have.
        """
        holding = self.holdings.setdefault((instrument, "YES"), Holding())
        before, after = holding.size, holding.size - size
        short_change = max(-after, 0) - max(-before, 0)
        # Of a short its dollar is paid out of what was locked.
        cash_e6 = revenue_e6 - max(-size, 0) - short_change
        closing = min(abs(size), abs(before)) if (size > 0) == (before > 0) else 0
        cost_e6 = holding.cost_e6 * closing // abs(before) if closing else 0
        holding.size, holding.sellable = after, max(after, 0)
        holding.cost_e6 -= cost_e6
        self.cash_e6 += cash_e6
        self.shards.move(instrument, cash_e6, ts_ns)
        self._moved(instrument, ts_ns)
        return cash_e6, cost_e6

    def unpay(self, paid: Paid, ts_ns: int) -> int:
        """Take a payout back as of a time; return what that moved of cash."""
        holding = self.holdings.setdefault((paid.payout.instrument, "YES"), Holding())
        before, after = holding.size, holding.size + paid.size
        short_change = max(-after, 0) - max(-before, 0)
        cash_e6 = max(-paid.size, 0) - paid.payout.revenue_e6 - short_change
        holding.size, holding.sellable = after, max(after, 0)
        holding.cost_e6 += paid.cost_e6
        self.cash_e6 += cash_e6
        self.shards.move(paid.payout.instrument, cash_e6, ts_ns)
        self.moved_since[paid.payout.instrument] = True
        return cash_e6

    def paid(self, instrument: str) -> Paid | None:
        """Return what a market paid by the venue's statement, None if it stated nothing."""
        return self._paid.get(instrument)

    def has_paid(self, instrument: str) -> bool:
        """Say whether a market's payout is in the figures."""
        paid = self._paid.get(instrument)
        return paid is not None and (bool(paid.entry) or paid.in_opening)

    def note_paid(self, paid: Paid) -> None:
        """Remember what a market paid."""
        self._paid[paid.payout.instrument] = paid
        self.changed_paid.add(paid.payout.instrument)

    def restore_paid(self, paid: Paid) -> None:
        """Know a payout again; it moves nothing."""
        self._paid[paid.payout.instrument] = paid

    def all_paid(self) -> list[Paid]:
        """Return what every market paid, by their names."""
        return [paid for _, paid in sorted(self._paid.items())]

    # What is written down

    def without_fills(self) -> "Account":
        """Return a copy that knows no fill and no payout: they are written down one by one."""
        return replace(self, _booked={}, _final={}, _unsettled=set(), changed_fills=set(), _paid={}, changed_paid=set())

    def known_fill(self, fill_id: str) -> tuple[Booked | None, Settlement | None]:
        """Return what one fill did, and how its settlement ended."""
        return self._booked.get(fill_id), self._final.get(fill_id)

    def take_fills(self, other: "Account") -> None:
        """Know the fills and payouts that `other` knows."""
        self._booked, self._final, self._unsettled = other._booked, other._final, other._unsettled
        self._paid = other._paid

    def restore_fill(self, fill_id: str, booked: Booked | None, final: Settlement | None) -> None:
        """Know a fill again; it moves nothing."""
        if booked is not None:
            self._booked[fill_id] = booked
        if final is not None:
            self._final[fill_id] = final
        else:
            # Whether this venue settles later may not be known yet: `has_unsettled` asks.
            self._unsettled.add(fill_id)

    # Parts

    def _moved(self, instrument: str, ts_ns: int) -> None:
        self.moved_ns = max(self.moved_ns, ts_ns)
        self.moved_since[instrument] = True

    def _sizes(self, report: VenueReport) -> dict[HoldingKey, int]:
        sizes: dict[HoldingKey, int] = {}
        for held in report.holdings:
            key = self.key_of(held.instrument, held.outcome)
            signed = -held.size if self.nets and held.outcome == "NO" else held.size
            sizes[key] = sizes.get(key, 0) + signed
        return sizes

    def _book_netted(self, key: HoldingKey, fill: Fill) -> tuple[int, int]:
        """Move a signed position; return cash and the change of its cost."""
        buys, notional = yes_terms(fill)
        holding = self.holdings.setdefault(key, Holding())
        before, after = holding.size, holding.size + (fill.size if buys else -fill.size)
        short_change = max(-after, 0) - max(-before, 0)
        cash_e6 = (-notional if buys else notional) - short_change
        against = -before if buys else before
        closing = min(fill.size, max(against, 0))
        released = holding.cost_e6 * closing // against if closing else 0
        cost_e6 = opening_e6(fill) * (fill.size - closing) // fill.size - released
        holding.size = after
        holding.sellable = max(after, 0)
        holding.cost_e6 += cost_e6
        return cash_e6, cost_e6

    def _book_token(self, key: HoldingKey, fill: Fill, *, is_final: bool) -> tuple[int, int]:
        holding = self.holdings.setdefault(key, Holding())
        if bought_token(fill):
            holding.size += fill.size
            holding.sellable += fill.size if is_final else 0
            holding.cost_e6 += fill.notional_e6
            return -fill.notional_e6, fill.notional_e6
        released = holding.cost_e6 * min(fill.size, holding.size) // holding.size if holding.size > 0 else 0
        holding.size -= fill.size
        holding.sellable -= fill.size
        holding.cost_e6 -= released
        return fill.notional_e6, -released

    def _reverse(self, booked: Booked, ts_ns: int) -> None:
        """Take a failed fill back, fee included."""
        fill = booked.fill
        holding = self.holdings[booked.key]
        buys = yes_terms(fill)[0] if self.nets else bought_token(fill)
        holding.size += -fill.size if buys else fill.size
        if not buys:
            holding.sellable += fill.size
        holding.cost_e6 = max(holding.cost_e6 - booked.cost_e6, 0)
        self.cash_e6 += fill.fee_e6 - booked.cash_e6
        self.shards.move(fill.instrument, fill.fee_e6 - booked.cash_e6, ts_ns)
        self.fees_e6 -= fill.fee_e6


def yes_terms(fill: Fill) -> tuple[bool, int]:
    """Return whether a fill buys YES, and its notional at the YES price: buying NO at q sells YES at 1 - q."""
    buys = bought_token(fill)
    return (not buys, fill.size - fill.notional_e6) if fill.outcome == "NO" else (buys, fill.notional_e6)


def opening_e6(fill: Fill) -> int:
    """Return what a fill costs that opens, fee aside: its price, or what a sold contract locks beyond it."""
    buys, notional_e6 = yes_terms(fill)
    return notional_e6 if buys else fill.size - notional_e6


def bought_token(fill: Fill) -> bool:
    """Say whether the fill bought the token it names."""
    side = fill.token_side
    return side == "BUY"
