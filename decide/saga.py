"""The two-leg saga as a state machine: what to do next, given what was filled. Pure arithmetic, no log, no capital.

    FIRST_LEG -> SECOND_LEG -> DONE
                            -> UNWINDING -> DONE | HOLDING
    a failed settlement reopens any of them

The first leg is the uncertain one; the second is sized by its fill. An underfilled second leg is tried again at a worse
price within the budget; then the excess of the first is unwound within the budget; what is left is held, and said.
`advance` decides on exposures alone, so it is right after any order of events, a failed settlement included.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, OPPOSITE, on_grid, open_cost_e6, unit_cost, worse_price
from decide.orders import Order
from schemas.decision import Intent, Leg
from schemas.enums import Purpose, SagaState, Side
from schemas.market import Instrument

NS_PER_MS = 1_000_000
HEDGE_ATTEMPTS_MAX = 2
UNWIND_ATTEMPTS_MAX = 2
REFUSALS_MAX = 8
"""Orders of one purpose and leg that gateway or venue may refuse before it is given up."""
RETRY_PAUSE_NS = 300 * NS_PER_MS
SLIP_E4_MAX = 500
"""A retried hedge or an unwind goes at most 5 cents beyond the price it falls back from; gateways' collars are as wide."""
HEDGE_WAIT_NS = 3_000 * NS_PER_MS
"""A hedge that could not be granted for this long (gateway silent) gives way to unwinding."""

Reason = Literal[
    "",
    "FILLED",
    "NOT_FILLED",
    "REJECTED",
    "EXPIRED_UNSENT",
    "UNDERFILLED",
    "UNWOUND",
    "DUST",
    "OVER_BUDGET",
    "OVERSOLD",
    "BELOW_MINIMUM",
    "ATTEMPTS",
    "SETTLEMENT_FAILED",
]


@dataclass
class LegState:
    """One leg: what was asked of it and what its orders did."""

    leg: Leg
    instrument: Instrument
    orders: list[Order] = field(default_factory=list)

    @property
    def entered(self) -> int:
        """Filled by entries and hedges."""
        return sum(order.effective for order in self.orders if order.grant.purpose != "UNWIND")

    @property
    def unwound(self) -> int:
        """Filled by unwinds."""
        return sum(order.effective for order in self.orders if order.grant.purpose == "UNWIND")

    @property
    def exposure(self) -> int:
        """What of the leg stands."""
        return self.entered - self.unwound

    @property
    def paid_e6(self) -> int:
        """What the entered part cost to open, at YES prices: the price when bought, its complement when sold."""
        entries = [order for order in self.orders if order.grant.purpose != "UNWIND"]
        notional = sum(order.yes_notional_e6 for order in entries)
        return notional if self.leg.side == "BUY" else self.entered - notional

    @property
    def fees_e6(self) -> int:
        """Fees of the entered part."""
        return sum(order.fees_e6 for order in self.orders if order.grant.purpose != "UNWIND")

    def attempts(self, purpose: Purpose) -> int:
        """Return how many orders of that purpose stood on a book."""
        return sum(order.grant.purpose == purpose and not order.was_refused for order in self.orders)

    def refusals(self, purpose: Purpose) -> int:
        """Return how many orders of that purpose never did."""
        return sum(order.grant.purpose == purpose and order.was_refused for order in self.orders)

    def rests_until_ns(self) -> int:
        """Return when the next order may be granted: a refusal that came at once would only come again."""
        return self.orders[-1].ended_ns + RETRY_PAUSE_NS if self.orders and self.orders[-1].was_refused else 0


class Figures(NamedTuple):
    """What a saga says of itself."""

    state: SagaState
    reason: str
    filled_first: int
    filled_second: int
    unwound: int
    cash_e6: int
    fees_e6: int


@dataclass
class Saga:
    """One intent under way.

    Attributes:
        size: contracts of each leg that were admitted.
        floor_e6: what one contract of each leg pays together in the worst state.
        budget_e6: what completing at a worse price and unwinding may cost together.
        hedge_until_ns: after this, a hedge that could not be granted gives way to unwinding; 0 before it is due.
        failed: a settlement of one of its fills failed.
        said: what was written down last.
    """

    intent: Intent
    legs: tuple[LegState, LegState]
    size: int
    floor_e6: int
    budget_e6: int
    state: SagaState = "FIRST_LEG"
    reason: Reason = ""
    hedge_until_ns: int = 0
    failed: bool = False
    said: Figures | None = None

    def figures(self, waits_for: str) -> Figures:
        """Return what the saga says of itself now; `waits_for` names what its next order waits for, if anything."""
        return Figures(
            self.state,
            f"WAITS_FOR_{waits_for}" if waits_for else self.reason,
            self.legs[0].entered,
            self.legs[1].entered,
            self.legs[0].unwound + self.legs[1].unwound,
            sum(order.cash_e6 for order in self.orders),
            sum(order.fees_e6 for order in self.orders),
        )

    @property
    def is_open(self) -> bool:
        """Say whether something is to be done or awaited."""
        return self.state in {"FIRST_LEG", "SECOND_LEG", "UNWINDING"}

    @property
    def orders(self) -> list[Order]:
        """All its orders."""
        return self.legs[0].orders + self.legs[1].orders

    @property
    def budget_left_e6(self) -> int:
        """Return what of the budget no order used up or may still use up."""
        return self.budget_e6 - sum(order.spent_e6 for order in self.orders)

    @property
    def is_waiting_for_orders(self) -> bool:
        """Say whether one of its orders is not complete."""
        return any(not order.complete for order in self.orders)


class Place(NamedTuple):
    """Order wanted: `price` is the YES limit, `cost_e6` what of the budget it may use."""

    leg: int
    purpose: Purpose
    side: Side
    price: int
    size: int
    state: SagaState
    cost_e6: int


class End(NamedTuple):
    """Nothing more to do."""

    state: SagaState
    reason: Reason


Step = Place | End


def advance(saga: Saga, now_ns: int) -> Step | None:
    """Return the next step, None while its orders are not complete."""
    if saga.is_waiting_for_orders:
        return None
    first, second = saga.legs
    if not first.orders:
        leg = first.leg
        return Place(0, "ENTRY", leg.side, leg.price, saga.size, "FIRST_LEG", 0)
    excess = first.exposure - second.exposure
    # A late fill of an order thought dead, or a failed settlement after an unwind, can sell more than was bought:
    # then there is nothing to take back, and a person must look.
    if (first if excess > 0 else second).exposure <= 0 and excess:
        return End("HOLDING", "OVERSOLD")
    if excess > 0:
        return _hedge(saga, excess, now_ns) or _unwind(saga, 0, excess)
    if excess < 0:
        return _unwind(saga, 1, -excess)
    return End("DONE", _done_reason(saga))


def _done_reason(saga: Saga) -> Reason:
    first, second = saga.legs
    if saga.failed:
        return "SETTLEMENT_FAILED"
    if first.unwound or second.unwound:
        return "UNWOUND"
    if first.entered == 0:
        status = first.orders[-1].status
        if status == "REJECTED":
            return "REJECTED"
        return "EXPIRED_UNSENT" if status == "EXPIRED_UNSENT" else "NOT_FILLED"
    return "FILLED" if first.entered == saga.size else "UNDERFILLED"


def _hedge(saga: Saga, excess: int, now_ns: int) -> Place | None:
    """Return the second leg's next order, None when it must not be tried (again)."""
    second = saga.legs[1]
    instrument = second.instrument
    size = excess // instrument.size_step * instrument.size_step
    attempts = second.attempts("HEDGE")
    if size == 0 or size < instrument.size_min or saga.legs[0].unwound:
        return None
    if attempts >= HEDGE_ATTEMPTS_MAX or second.refusals("HEDGE") >= REFUSALS_MAX:
        return None
    if saga.hedge_until_ns and now_ns > saga.hedge_until_ns:
        return None
    leg = second.leg
    if attempts == 0:
        return Place(1, "HEDGE", leg.side, leg.price, size, "SECOND_LEG", 0)
    price = _worst_hedge(saga, size)
    if price is None:
        return None
    return Place(1, "HEDGE", leg.side, price, size, "SECOND_LEG", max(_hedge_loss_e6(saga, price, size), 0))


def _hedge_loss_e6(saga: Saga, price: int, size: int) -> int:
    """Return what completing `size` at `price` would lose in the worst state (negative: gains), fees included."""
    first, second = saga.legs
    paid = ceil_div((first.paid_e6 + first.fees_e6) * size, first.entered)
    fee = CONDUCTS[second.instrument.venue].fee_bound(second.instrument, price, size, FILLS_PER_LEVEL)
    return paid + open_cost_e6(second.leg.side, price, size) + fee - saga.floor_e6 * size // MICRO


def _worst_hedge(saga: Saga, size: int) -> int | None:
    """Return the worst price within budget and slip, at least one step worse than the leg's own."""
    leg, instrument = saga.legs[1].leg, saga.legs[1].instrument
    found: int | None = None
    left_e6 = saga.budget_left_e6
    price = worse_price(instrument, leg.side, leg.price, 1)
    while price is not None and abs(price - leg.price) <= SLIP_E4_MAX:
        if _hedge_loss_e6(saga, price, size) > left_e6:
            break
        found = price
        price = worse_price(instrument, leg.side, price, 1)
    return found


def _unwind(saga: Saga, index: int, excess: int) -> Step:
    """Return the order that takes back what the other leg does not cover, or why it is held."""
    leg = saga.legs[index]
    instrument = leg.instrument
    size = excess // instrument.size_step * instrument.size_step
    if size == 0:
        return End("DONE", "DUST")
    if leg.attempts("UNWIND") >= UNWIND_ATTEMPTS_MAX or leg.refusals("UNWIND") >= REFUSALS_MAX:
        return End("HOLDING", "ATTEMPTS")
    side = OPPOSITE[leg.leg.side]
    price = _worst_unwind(saga, leg, side, size)
    if price is None:
        return End("HOLDING", "OVER_BUDGET")
    # A size below the minimum is taken where it trades at once, which is what an unwind is for; too little money is not.
    if unit_cost(leg.leg.side, price) * size < instrument.notional_min_e6 * ONE_DOLLAR_E4:
        return End("HOLDING", "BELOW_MINIMUM")
    return Place(index, "UNWIND", side, price, size, "UNWINDING", max(_unwind_loss_e6(leg, side, price, size), 0))


def _unwind_loss_e6(leg: LegState, side: Side, price: int, size: int) -> int:
    """Return what taking `size` back at `price` loses against what it cost, the new fee included."""
    paid = ceil_div(leg.paid_e6 * size, leg.entered)
    # Selling YES at p gets p; buying YES back gets the complement of p out of the dollar that stands for it.
    gets = (price if side == "SELL" else ONE_DOLLAR_E4 - price) * size // ONE_DOLLAR_E4
    return paid - gets + CONDUCTS[leg.instrument.venue].fee_bound(leg.instrument, price, size, FILLS_PER_LEVEL)


def _worst_unwind(saga: Saga, leg: LegState, side: Side, size: int) -> int | None:
    """Return the worst price within budget and slip of the entry's limit."""
    instrument, entry = leg.instrument, leg.leg.price
    found: int | None = None
    left_e6 = saga.budget_left_e6
    price: int | None = entry if on_grid(instrument, entry) else worse_price(instrument, side, entry, 1)
    while price is not None and abs(price - entry) <= SLIP_E4_MAX:
        if _unwind_loss_e6(leg, side, price, size) > left_e6:
            break
        found = price
        price = worse_price(instrument, side, price, 1)
    return found
