"""The life of our orders, from grant to the last fill: what the gateways said, each word counted once.

    granted -> submitting -> accepted -> filled | cancelled | expired
                          -> outcome unknown -> any of them
                          -> rejected
    granted -> expired unsent

An order is complete when a terminal event stands in the log and the fills reach the venue's cumulative figure.
"""

from dataclasses import dataclass, field

from core.domain.units import ONE_DOLLAR_E4, ceil_div
from decide.ledger import yes_terms
from schemas.decision import Grant
from schemas.enums import OrderStatus
from schemas.order import Fill, OrderUpdate, Submitting

GATEWAY_REFUSAL = "gateway: "
"""How the reason begins when a gateway's own checks refused an order: its bytes never left."""
NOT_AMENDED = "not amended: "
"""How the reason begins when a gateway says that an order stays as it was."""

Offer = tuple[int, int]
"""YES price and total (what is filled included) at which an order stands."""
NONE: Offer = (0, 0)


@dataclass
class Order:
    """One granted order."""

    grant: Grant
    budget_e6: int = 0
    """what it may use up of its saga's budget, filled in full"""
    status: OrderStatus = "UNKNOWN"
    reason: str = ""
    terminal: bool = False
    stated: int = 0
    """cumulative fill as the venue states it"""
    filled: int = 0
    """sum of the fills seen"""
    failed: int = 0
    """part of them whose settlement failed"""
    cash_e6: int = 0
    """signed cash of the fills that stand, fees aside"""
    yes_notional_e6: int = 0
    """the same fills at their YES prices, unsigned"""
    fees_e6: int = 0
    cancel_sent: bool = False
    ended_ns: int = 0
    """receive time of the event that ended it"""
    writer: str = ""
    """gateway that may send it: that of the first Submitting"""
    heard: bool = False
    """some record about it was read"""
    events: set[str] = field(default_factory=set)
    """ids of what was heard about it: the second time says nothing"""
    stands: Offer = NONE
    """as an amendment left it; NONE: as granted"""
    stands_ns: int = 0
    """the venue's time of that"""
    asked: Offer = NONE
    """what it is to be amended to, while it is not known whether it was"""
    asked_until_ns: int = 0
    """not a byte of that amendment leaves after this"""
    filled_at: dict[int, int] = field(default_factory=dict)
    """YES price -> sum of the fills seen, of one that rests"""
    owed: list[Offer] = field(default_factory=list)
    """what was filled before an amendment, as the venue stated it, and was not seen yet: price and size"""
    expires_s: int = 0
    """when an order that rests ends by itself, as it was last asked for; 0: as granted"""

    def is_new(self, event_id: str) -> bool:
        """Say whether an event is seen for the first time; the second time it is not."""
        if event_id in self.events:
            return False
        self.events.add(event_id)
        return True

    @property
    def complete(self) -> bool:
        """Say whether nothing more is to come. Fills beyond the figure are a surprise that is booked, not waited for."""
        return self.terminal and self.filled >= self.stated

    @property
    def offer(self) -> Offer:
        """Where it stands, as far as was said."""
        return self.stands if self.stands != NONE else (self.grant.price, self.grant.size)

    @property
    def offers(self) -> list[Offer]:
        """Every price and total at which it may stand."""
        return [self.offer, self.asked] if self.asked != NONE else [self.offer]

    @property
    def unfilled(self) -> int:
        """What may still be filled, at the most."""
        return max(max(size for _, size in self.offers) - self.filled, 0)

    def see(self, price: int, size: int) -> None:
        """Count a fill of one that rests; one that was owed at its price is owed no more."""
        self.filled_at[price] = self.filled_at.get(price, 0) + size
        owed = [(at, max(left - size, 0) if at == price else left) for at, left in self.owed]
        self.owed = [(at, left) for at, left in owed if left]

    def amended(self, update: OrderUpdate) -> None:
        """Take where an amendment left it.

        What was filled before is of other prices: what of it was not seen yet is to be paid at those.
        """
        before = self.offer[0]
        if update.price != before:
            seen = self.filled - self.filled_at.get(update.price, 0)
            unseen = update.filled - seen - sum(size for _, size in self.owed)
            if unseen > 0:
                self.owed.append((before, unseen))
        self.stands, self.stands_ns = (update.price, update.size), update.venue_ts_ns
        if self.stands == self.asked:
            self.asked = NONE

    @property
    def effective(self) -> int:
        """What was filled and stands."""
        return self.filled - self.failed

    @property
    def spent_e6(self) -> int:
        """Return what of its saga's budget it holds: all of it while more may be filled, then the share of its fills."""
        if not self.complete:
            return self.budget_e6
        return ceil_div(self.budget_e6 * min(self.filled, self.grant.size), self.grant.size)

    @property
    def was_refused(self) -> bool:
        """Say whether it ended without ever standing on a book."""
        return self.terminal and self.filled == 0 and self.status in {"REJECTED", "EXPIRED_UNSENT"}


@dataclass
class Orders:
    """All orders of one account set."""

    by_id: dict[str, Order] = field(default_factory=dict)
    open_ids: set[str] = field(default_factory=set)
    """not complete"""

    def restore(self, order: Order) -> None:
        """Know an order again."""
        self.by_id[order.grant.id] = order
        if not order.complete:
            self.open_ids.add(order.grant.id)

    def add(self, grant: Grant, budget_e6: int = 0) -> Order:
        """Remember a grant and what of its saga's budget it may use up."""
        order = self.by_id[grant.id] = Order(grant, budget_e6)
        self.open_ids.add(grant.id)
        return order

    def submitting(self, record: Submitting) -> None:
        """Note who may send an order: the first Submitting, unless something was said before it."""
        order = self.by_id.get(record.order)
        if order is not None and order.is_new(record.event_id):
            if not order.heard:
                order.writer = record.writer
            order.heard = True

    def update(self, update: OrderUpdate) -> Order | None:
        """Take one word about an order; None if it changes nothing."""
        order = self.by_id.get(update.order)
        if order is None or not order.is_new(update.event_id):
            return None
        is_first, order.heard = not order.heard, True
        unsent = update.status == "EXPIRED_UNSENT" or update.reason.startswith(GATEWAY_REFUSAL)
        if unsent and not is_first and update.writer != order.writer:
            # Another gateway's opinion: the writer of Submitting may have sent it.
            return None
        order.stated = max(order.stated, update.filled)
        if update.size and update.venue_ts_ns >= order.stands_ns:
            order.amended(update)
        if not order.terminal:
            order.status = update.status
            order.reason = update.reason
            order.terminal = update.terminal
            if update.terminal:
                order.ended_ns = update.recv_ts_ns or update.ts_ns
        self._close(order)
        return order

    def fill(self, fill: Fill, cash_e6: int) -> Order | None:
        """Count one booked fill; None if the order is not ours."""
        order = self.by_id.get(fill.order)
        if order is None:
            return None
        order.filled += fill.size
        if order.grant.post_only:
            order.see(yes_terms(fill)[1] * ONE_DOLLAR_E4 // fill.size if fill.size else 0, fill.size)
        order.cash_e6 += cash_e6
        order.yes_notional_e6 += yes_terms(fill)[1]
        order.fees_e6 += fill.fee_e6
        self._close(order)
        return order

    def fail(self, fill: Fill, cash_e6: int) -> Order | None:
        """Take back one fill whose settlement failed."""
        order = self.by_id.get(fill.order)
        if order is None:
            return None
        order.failed += fill.size
        order.cash_e6 -= cash_e6
        order.yes_notional_e6 -= yes_terms(fill)[1]
        order.fees_e6 -= fill.fee_e6
        return order

    def open_on(self, instrument: str) -> list[Order]:
        """Return the orders on an instrument that are not complete, in the order of their ids."""
        found = (self.by_id[name] for name in sorted(self.open_ids))
        return [order for order in found if order.grant.instrument == instrument]

    def _close(self, order: Order) -> None:
        if order.complete:
            self.open_ids.discard(order.grant.id)
