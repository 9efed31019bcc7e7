"""The saga of 1..n legs: its states, what was asked of each leg, and what its orders did. No log, no capital.

    FIRST_LEG (all legs where they leave together) -> SECOND_LEG (any later leg, any that is completed) -> DONE
                                                   -> UNWINDING -> DONE | HOLDING
    a failed settlement reopens any of them
    RESTING -> DONE: one leg that waits on the book (`decide/quotes.py`)

What it does next is in `decide/saga_steps.py`. A saga of one leg is its entry, or, for a leg that reduces, its exit.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.runtime.clock import NS_PER_MS
from decide.orders import NONE, Offer, Order
from decide.rest import Rest
from schemas.decision import Intent, Leg, Ruling
from schemas.enums import LegOrder, Purpose, SagaState, Side
from schemas.market import Instrument

RETRY_PAUSE_NS = 300 * NS_PER_MS
SLIP_E4_MAX = 500
"""A retried hedge or an unwind goes at most 5 cents beyond the price it falls back from; gateways' collars are as wide."""
HEDGE_WAIT_NS = 3_000 * NS_PER_MS
"""A leg's hedge that could not be granted for this long (gateway silent) gives way to unwinding."""

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
    "HELD",
    "BELOW_MINIMUM",
    "ATTEMPTS",
    "EXITED",
    "SETTLEMENT_FAILED",
]


@dataclass
class LegState:
    """One leg: what was asked of it and what its orders did.

    Attributes:
        hedge_until_ns: after this, a hedge that could not be granted gives way to unwinding; 0 before it is due.
        forgiven: orders that do not count as attempts any more, by a human's word.
        reduces: its one order closes what is held, so what it fills is what was wanted, not what was taken back.
        gone: what of its exposure its strategy held no more when the saga went on last (`AccountSet.count`).
    """

    leg: Leg
    instrument: Instrument
    orders: list[Order] = field(default_factory=list)
    hedge_until_ns: int = 0
    reduces: bool = False
    forgiven: int = 0
    gone: int = 0

    @property
    def entries(self) -> list[Order]:
        """Entries and hedges."""
        return [order for order in self.orders if self.reduces or order.grant.purpose != "UNWIND"]

    @property
    def entered(self) -> int:
        """Filled by entries and hedges."""
        return sum(order.effective for order in self.entries)

    @property
    def unwound(self) -> int:
        """Filled by unwinds."""
        return sum(order.effective for order in self.orders) - self.entered

    @property
    def is_complete(self) -> bool:
        """Say whether none of its orders has anything to come."""
        return all(order.complete for order in self.orders)

    @property
    def exposure(self) -> int:
        """What of the leg stands, as far as the saga knows: exits are sagas of their own."""
        return self.entered - self.unwound

    @property
    def held(self) -> int:
        """What of that its strategy still holds."""
        return self.exposure - self.gone

    @property
    def paid_e6(self) -> int:
        """What the entered part cost to open, at YES prices: the price when bought, its complement when sold."""
        notional = sum(order.yes_notional_e6 for order in self.entries)
        return notional if self.leg.side == "BUY" else self.entered - notional

    @property
    def fees_e6(self) -> int:
        """Fees of the entered part."""
        return sum(order.fees_e6 for order in self.entries)

    def attempts(self, purpose: Purpose) -> int:
        """Return how many orders of that purpose stood on a book."""
        counted = self.orders[self.forgiven :]
        return sum(order.grant.purpose == purpose and not order.was_refused for order in counted)

    def refusals(self, purpose: Purpose) -> int:
        """Return how many orders of that purpose never did."""
        return sum(order.grant.purpose == purpose and order.was_refused for order in self.orders[self.forgiven :])

    def rests_until_ns(self) -> int:
        """Return when the next order may be granted: a refusal that came at once would only come again."""
        return self.orders[-1].ended_ns + RETRY_PAUSE_NS if self.orders and self.orders[-1].was_refused else 0


class Figures(NamedTuple):
    """What a saga says of itself."""

    state: SagaState
    reason: str
    filled: tuple[int, ...]
    standing: tuple[int, ...]
    cash_e6: int
    fees_e6: int
    offer: Offer = NONE


@dataclass
class Saga:
    """One intent under way.

    Attributes:
        size: contracts of each leg that were admitted.
        floor_e6: what one contract of each leg pays together in the worst state.
        budget_e6: what completing at a worse price and unwinding may cost together.
        failed: a settlement of one of its fills failed.
        slip_e4: how far from an entry's limit an unwind may go.
        held: what stood on each leg when a human approved to hold it; empty before.
        ruled_ns: when the last human word on it was said.
        said: what was written down last.
        leg_order: how its entries leave, and `leg_order_reason` why (`decide/leg_order.py`).
        rest: what is wanted of its one leg where that rests; `decide/quotes.py` says what is next, not `advance`.
    """

    intent: Intent
    legs: tuple[LegState, ...]
    size: int
    floor_e6: int
    budget_e6: int
    state: SagaState = "FIRST_LEG"
    reason: str = ""
    failed: bool = False
    said: Figures | None = None
    slip_e4: int = SLIP_E4_MAX
    held: tuple[int, ...] = ()
    ruled_ns: int = 0
    rest: Rest | None = None
    leg_order: LegOrder = "ONE_BY_ONE"
    leg_order_reason: str = ""

    def figures(self, waits_for: str) -> Figures:
        """Return what the saga says of itself now; `waits_for` names what its next order waits for, if anything."""
        return Figures(
            self.state,
            f"WAITS_FOR_{waits_for}" if waits_for else self.reason,
            tuple(leg.entered for leg in self.legs),
            tuple(leg.exposure for leg in self.legs),
            sum(order.cash_e6 for order in self.orders),
            sum(order.fees_e6 for order in self.orders),
            self.offer,
        )

    @property
    def offer(self) -> Offer:
        """Where it is known to rest, NONE if nowhere."""
        last = self.orders[-1] if self.rest is not None and self.orders else None
        if last is None or last.terminal or last.status != "ACCEPTED":
            return NONE
        return last.offer[0], last.offer[1] + self.filled_before

    @property
    def filled_before(self) -> int:
        """What the orders before the last one filled."""
        return sum(order.filled for order in self.orders[:-1])

    @property
    def is_open(self) -> bool:
        """Say whether something is to be done or awaited."""
        return self.state in {"FIRST_LEG", "SECOND_LEG", "UNWINDING", "RESTING"}

    @property
    def orders(self) -> list[Order]:
        """All its orders."""
        return [order for leg in self.legs for order in leg.orders]

    @property
    def budget_left_e6(self) -> int:
        """Return what of the budget no order used up or may still use up."""
        return self.budget_e6 - sum(order.spent_e6 for order in self.orders)

    @property
    def is_waiting_for_orders(self) -> bool:
        """Say whether one of its orders is not complete."""
        return any(not leg.is_complete for leg in self.legs)

    @property
    def goes_together(self) -> bool:
        """Say whether its entries leave together."""
        return self.leg_order == "TOGETHER"

    @property
    def reach(self) -> int:
        """What every leg is to reach: what stands on the first, of legs that leave together the most that does."""
        if self.goes_together:
            return min(max(leg.exposure for leg in self.legs), self.size)
        return self.legs[0].exposure

    @property
    def covered(self) -> int:
        """What stands on every leg."""
        return max(min(leg.exposure for leg in self.legs), 0)

    def planned(self, index: int) -> int:
        """Return what a leg may still be asked for beyond what stands of it, at the most."""
        if (index == 0 and not self.goes_together) or self.state not in {"FIRST_LEG", "SECOND_LEG"}:
            return 0
        leading = self.legs if self.goes_together else self.legs[:1]
        # What completes a leg lifts no other's reach.
        is_known = all(leg.orders and leg.orders[0].complete for leg in leading)
        return max((self.reach if is_known else self.size) - self.legs[index].exposure, 0)


def rule(saga: Saga, ruling: Ruling) -> bool:
    """Take a human's word on a saga that is HOLDING; False if it is not, or the word is not younger than the last."""
    if saga.state != "HOLDING" or ruling.ts_ns <= saga.ruled_ns or ruling.action not in {"HOLD", "UNWIND"}:
        return False
    saga.ruled_ns = ruling.ts_ns
    if ruling.action == "HOLD":
        saga.held = tuple(leg.exposure for leg in saga.legs)
        return True
    saga.held = ()
    saga.budget_e6 += max(ruling.budget_e6, 0)
    saga.slip_e4 = max(ruling.slip_e4, SLIP_E4_MAX)
    for leg in saga.legs:
        # Nothing is completed after so long: entries and hedges stay counted by what they filled, attempts begin anew.
        leg.forgiven = len(leg.orders)
        leg.hedge_until_ns = 1
    return True


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


class Together(NamedTuple):
    """Orders wanted at once, all or none."""

    places: tuple[Place, ...]


Step = Place | Together | End
