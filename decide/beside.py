"""What of a venue's report can be compared while orders are out, and while money that was entered has yet to come. Pure.

Holdings are compared of every instrument without an open order: what may fill there is on its way to us, or is not, and
nobody can tell. Cash is compared but for an interval: from all open orders resting with their whole collateral taken out
of the report (or filled as dearly as they may), to none of it taken out and what closes filled as well as it may. What
an order let go of lately belongs to it still, as a report may be older than that word; so does what a human entered and
no report has shown yet (`postings`). Within the interval nothing is a difference; what lies beyond it is one like any
other. With nothing out the interval is a point, and every figure is compared.

The result is a report that states what we count where nothing can be said, for `reconciliation` to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from core.domain.units import ONE_DOLLAR_E4, ceil_div
from decide.account_set import AccountSet
from decide.conduct import open_cost_e6, resting_fee_e6
from decide.ledger import Account, Difference, Freed, HoldingKey
from decide.marks import PayoutWords
from decide.orders import Order
from decide.payouts import DECIDED
from schemas.decision import Grant
from schemas.enums import Outcome
from schemas.market import Instrument
from schemas.order import Fill, Holding, OrderUpdate, VenueReport

FREED_REPORTS = 2
"""Reports that may still show what an order has let go of: one that was on its way, and that of a twin gateway."""
FREED_MAX = 64
"""Words that let go of money and are kept apart; beyond it the oldest two count as one, for as long as the later."""
COMING_NS_MAX = 24 * 3_600 * 1_000_000_000
"""Log time in which reports have to show what a human entered."""


class Span(NamedTuple):
    """What a figure of a report may be beyond ours, at the least and at the most: cash, or a holding."""

    low_e6: int
    high_e6: int

    @property
    def is_exact(self) -> bool:
        """Say whether it is known to the unit."""
        return self.low_e6 == self.high_e6 == 0

    def outside_e6(self, cash_e6: int) -> int:
        """Return what of a difference it does not explain."""
        return min(cash_e6 - self.low_e6, 0) or max(cash_e6 - self.high_e6, 0)


class Compared(NamedTuple):
    """A report as far as it can be compared.

    Attributes:
        report: with our own figures where nothing can be said.
        unsure: instruments that are left out of it.
        is_exact: its cash is the venue's to the unit.
    """

    report: VenueReport
    unsure: frozenset[str]
    is_exact: bool


def compare(
    accounts: AccountSet, report: VenueReport, instruments: Mapping[str, Instrument], words: PayoutWords, now_ns: int
) -> Compared:
    """Return what can be compared of a report that is later than our last fill; it also says what has come by now."""
    ledger = accounts.ledgers[report.account]
    orders = [accounts.orders.by_id[name] for name in sorted(accounts.orders.open_ids)]
    orders = [order for order in orders if order.grant.account == ledger.name]
    found = ledger.difference(report)
    bound = _span(accounts, ledger, orders, report)
    waits = ledger.waits.values()
    low_e6, high_e6 = sum(one.low_e6 for one in waits), sum(one.high_e6 for one in waits)
    if _see_coming(ledger, found, orders, Span(bound.low_e6 + low_e6, bound.high_e6 + high_e6), now_ns):
        ledger.shown(report.as_of_ns)
    span = Span(bound.low_e6 - ledger.coming_in_e6, bound.high_e6 + ledger.coming_out_e6)
    unsure = {order.grant.instrument for order in orders}
    unsure |= {one.key[0] for one in ledger.coming if one.key[0]}
    target_e6 = 0
    if not span.is_exact and not ledger.states_payouts:
        for key in sorted(found.sizes):
            if not is_gone_for_good(ledger, key, found.sizes[key], instruments.get(key[0])):
                continue
            payout_e6 = words.payout_e6(key[0])
            if payout_e6 < 0:
                # The cash alone says what it paid, and does not say that now.
                unsure.add(key[0])
            elif key[0] not in unsure:
                target_e6 += ledger.expected_e6(key, payout_e6)
    cash_e6 = found.cash_e6
    if not span.is_exact:
        # What a human accepted of the cash is taken when it is known how much it is.
        is_left = accounts.risk.accepted.get(ledger.name, False)
        cash_e6 = target_e6 if is_left else target_e6 + span.outside_e6(cash_e6 - target_e6)
    ledger.unsure = dict.fromkeys(sorted(unsure), True)
    if cash_e6 == found.cash_e6 and not unsure:
        return Compared(report, frozenset(), span.is_exact)
    stated = VenueReport(
        account=report.account,
        as_of_ns=report.as_of_ns,
        cash_e6=ledger.cash_e6 + cash_e6,
        holdings=[*(held for held in report.holdings if held.instrument not in unsure), *_ours(ledger, unsure)],
        open_orders=report.open_orders,
        ts_ns=report.ts_ns,
    )
    return Compared(stated, frozenset(unsure), span.is_exact)


def let_go(ledger: Account, before_e6: int, order: Order, said: OrderUpdate | Fill) -> None:
    """Note that an order holds less than before a word about it: reports may show what it held for a while.

    What was filled is paid for: no report that is compared is older than a fill. A sale of tokens holds no cash.
    """
    if not (ledger.nets or buys_token(order.grant)):
        return
    at_ns = said.venue_ts_ns or said.ts_ns
    filled = said.size if isinstance(said, Fill) else 0
    freed_e6 = before_e6 - held_e6(order) - open_cost_e6(order.grant.side, _dearest(order), filled)
    if freed_e6 <= 0:
        return
    ledger.freed.append(Freed(freed_e6, at_ns, 0))
    if len(ledger.freed) > FREED_MAX:
        first, second, *rest = ledger.freed
        merged = Freed(
            first.cash_e6 + second.cash_e6, max(first.at_ns, second.at_ns), min(first.reports, second.reports)
        )
        ledger.freed = [merged, *rest]


def held_e6(order: Order) -> int:
    """Return the most that an order may keep out of a report's cash, or take out of it, fees aside."""
    if order.complete:
        return 0
    return open_cost_e6(order.grant.side, _dearest(order), order.unfilled)


def pass_report(ledger: Account, as_of_ns: int) -> None:
    """Note that a report was compared: what no later one can show is forgotten."""
    seen = (one._replace(reports=one.reports + 1) for one in ledger.freed)
    ledger.freed = [one for one in seen if one.reports < FREED_REPORTS or one.at_ns >= as_of_ns]
    ledger.moved_since = {}


def is_gone_for_good(ledger: Account, key: HoldingKey, size: int, described: Instrument | None) -> bool:
    """Say whether a holding is gone altogether of a market that is determined."""
    ended = key in ledger.provisional or (described is not None and described.status in DECIDED)
    return ended and ledger.holding(*key).size == -size


# --- the interval


def _span(accounts: AccountSet, ledger: Account, orders: Sequence[Order], report: VenueReport) -> Span:
    low_e6 = -sum(one.cash_e6 for one in ledger.freed)
    high_e6 = 0
    by_instrument: dict[str, list[Order]] = {}
    for order in orders:
        by_instrument.setdefault(order.grant.instrument, []).append(order)
        low_e6 -= _fee_left_e6(accounts, order)
        if ledger.nets or buys_token(order.grant):
            low_e6 -= held_e6(order)
    for instrument, own in sorted(by_instrument.items()):
        size = ledger.holding(instrument, "YES").size
        high_e6 += netted_most_e6(size, own) if ledger.nets else _sold_most_e6(own)
    return Span(low_e6, high_e6)


def netted_most_e6(size: int, orders: Iterable[Order]) -> int:
    """Return the most cash that any filling of orders on one market can bring to a signed position, rounded up.

    Buying `b` and selling `s` brings q·s - p·b - short' + short, where short' = max(s - b - size, 0): the least of two
    straight lines. So its most is the least, over a share k of the second line, of what each order brings at k; and as
    that is made of straight pieces between prices, one of those is it.
    """
    buys = [(_cheapest(order), order.unfilled) for order in orders if order.grant.side == "BUY"]
    sells = [(_cheapest(order), order.unfilled) for order in orders if order.grant.side == "SELL"]
    shares = {0, ONE_DOLLAR_E4, *(price for price, _ in (*buys, *sells))}
    most = min(
        sum(max(price - share, 0) * left for price, left in sells)
        + sum(max(share - price, 0) * left for price, left in buys)
        + share * size
        for share in shares
    )
    return ceil_div(most, ONE_DOLLAR_E4) + max(-size, 0)


def _sold_most_e6(orders: Iterable[Order]) -> int:
    """Return the most that sales of tokens can bring."""
    sales = (order for order in orders if not buys_token(order.grant))
    return sum(order.unfilled - open_cost_e6(order.grant.side, _cheapest(order), order.unfilled) for order in sales)


def buys_token(grant: Grant) -> bool:
    """Say whether an order buys the token it names."""
    side = grant.token_side
    return side == "BUY"


def _dearest(order: Order) -> int:
    """Return the YES price at which an order may fill that is worst for us."""
    prices = [price for price, _ in (*order.offers, *order.owed)]
    return max(prices) if order.grant.side == "BUY" else min(prices)


def _cheapest(order: Order) -> int:
    """Return the one that is best for us: of an order that may take, any; else one at which it stood."""
    buys = order.grant.side == "BUY"
    if not order.grant.post_only:
        return 0 if buys else ONE_DOLLAR_E4
    prices = [price for price, _ in (*order.offers, *order.owed)]
    return min(prices) if buys else max(prices)


def _fee_left_e6(accounts: AccountSet, order: Order) -> int:
    """Return the most that its fills to come may be charged."""
    grant = order.grant
    if not grant.post_only:
        return max(grant.fee_max_e6 - order.fees_e6, 0)
    leg = accounts.sagas[accounts.saga_of_order[grant.id]].legs[grant.leg]
    most_e6 = max(resting_fee_e6(leg.instrument, price, size) for price, size in order.offers)
    return max(most_e6 - order.fees_e6, 0)


# --- what has yet to come


def _see_coming(ledger: Account, found: Difference, orders: Sequence[Order], bound: Span, now_ns: int) -> bool:
    """Forget what a report shows by now, and what was waited for too long; say whether there was any."""
    left = []
    for one in ledger.coming:
        same = [other for other in ledger.coming if other.key == one.key]
        if one.key[0]:
            filling, entered = _filling(ledger, orders, one.key), [other.size for other in same]
            is_there = _has_come(one.size, entered, found.sizes.get(one.key, 0), filling)
        else:
            is_there = _has_come(one.cash_e6, [other.cash_e6 for other in same], found.cash_e6, bound)
        if not is_there and now_ns - one.entered_ns < COMING_NS_MAX:
            left.append(one)
        elif one.size > 0 and not ledger.nets:
            ledger.holdings[one.key].sellable += one.size
    before, ledger.coming = ledger.coming, left
    return len(left) < len(before)


def _filling(ledger: Account, orders: Iterable[Order], key: HoldingKey) -> Span:
    """Return what fills that are not heard of yet may have taken from a holding, and added to it."""
    low = high = 0
    for order in orders:
        grant = order.grant
        if ledger.key_of(grant.instrument, grant.outcome) != key:
            continue
        if grant.side == "BUY" if ledger.nets else buys_token(grant):
            high += order.unfilled
        else:
            low -= order.unfilled
    return Span(low, high)


def _has_come(amount: int, entered: Sequence[int], found: int, bound: Span) -> bool:
    """Say whether a report shows what was entered: it is as we count, and could not be so without that.

    What orders or a late payout can explain as well shows nothing, nor do amounts in and out, all `entered`, that may both have yet to move.
    """
    if bound.is_exact or bound.outside_e6(found):
        return not found
    if amount > 0:
        return found + amount + sum(min(one, 0) for one in entered) > bound.high_e6
    return found + amount + sum(max(one, 0) for one in entered) < bound.low_e6


# --- parts


def _ours(ledger: Account, names: Iterable[str]) -> list[Holding]:
    """Return what we count of some instruments, as a venue would state it."""
    wanted, stated = {*names}, []
    for (instrument, outcome), holding in ledger.holdings.items():
        if instrument in wanted and holding.size:
            told: Outcome = "NO" if ledger.nets and holding.size < 0 else outcome
            size = abs(holding.size) if ledger.nets else holding.size
            stated.append(Holding(instrument=instrument, outcome=told, size=size))
    return stated
