"""The saga of 1..n legs as a state machine: what to do next, given what was filled. Pure arithmetic, no log, no capital.

    FIRST_LEG -> SECOND_LEG (any later leg) -> DONE
                                            -> UNWINDING -> DONE | HOLDING
    a failed settlement reopens any of them
    RESTING -> DONE: one leg that waits on the book (`decide/quotes.py`)

Legs go one after the other, the most uncertain first; each later leg is sized by what stands on all before it. An
underfilled one is tried again at a worse price within the budget; then the legs after it are completed at what it has,
and what any leg has beyond the smallest is unwound within the budget; what is left is held, and said. A saga of one leg
is its entry, or, for a leg that reduces, its exit. `advance` decides on exposures alone, so it is right after any order
of events, a failed settlement included.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div
from core.runtime.clock import NS_PER_MS
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, OPPOSITE, on_grid, open_cost_e6, unit_cost, worse_price
from decide.orders import NONE, Offer, Order
from decide.rest import Rest
from schemas.decision import Intent, Leg, Ruling
from schemas.enums import Purpose, SagaState, Side
from schemas.market import Instrument

HEDGE_ATTEMPTS_MAX = 2
UNWIND_ATTEMPTS_MAX = 2
REFUSALS_MAX = 8
"""Orders of one purpose and leg that gateway or venue may refuse before it is given up."""
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
    "SETTLEMENT_FAILED",
]


@dataclass
class LegState:
    """One leg: what was asked of it and what its orders did.

    Attributes:
        hedge_until_ns: after this, a hedge that could not be granted gives way to unwinding; 0 before it is due.
        forgiven: orders that do not count as attempts any more, by a human's word.
        reduces: its one order closes what is held, so what it fills is what was wanted, not what was taken back.
    """

    leg: Leg
    instrument: Instrument
    orders: list[Order] = field(default_factory=list)
    hedge_until_ns: int = 0
    reduces: bool = False
    forgiven: int = 0

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
        """What of the leg stands."""
        return self.entered - self.unwound

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
    def covered(self) -> int:
        """What stands on every leg."""
        return max(min(leg.exposure for leg in self.legs), 0)

    def planned(self, index: int) -> int:
        """Return what a later leg may still be asked for beyond what stands of it, at the most."""
        if index == 0 or self.state not in {"FIRST_LEG", "SECOND_LEG"}:
            return 0
        first, leg = self.legs[0], self.legs[index]
        reach = first.exposure if first.orders and first.is_complete else self.size
        return max(reach - leg.exposure, 0)


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


Step = Place | End


def advance(saga: Saga, now_ns: int, blocked: Collection[int] = ()) -> Step | None:
    """Return the next step, None while its orders are not complete.

    Entries and hedges go one at a time: each is sized by those before. What is taken back goes together, leg by leg:
    no unwind changes how much of another leg is to be taken back.

    Args:
        saga: as the log left it.
        now_ns: log time.
        blocked: legs no order of which can be granted now; the steps of others are preferred.
    """
    if any(not order.complete for leg in saga.legs for order in leg.entries):
        return None
    first = saga.legs[0]
    if not first.orders:
        return Place(
            0, "UNWIND" if first.reduces else "ENTRY", first.leg.side, first.leg.price, saga.size, "FIRST_LEG", 0
        )
    if saga.held and saga.held == tuple(leg.exposure for leg in saga.legs) and not saga.is_waiting_for_orders:
        return End("DONE", "HELD")
    hedge = None if saga.is_waiting_for_orders else _next_hedge(saga, now_ns)
    if hedge is not None:
        return hedge
    found = _unwinds(saga)
    places = [step for step in found if isinstance(step, Place)]
    if places:
        return next((place for place in places if place.leg not in blocked), places[0])
    if saga.is_waiting_for_orders:
        return None
    # A late fill of an order thought dead, or a failed settlement after an unwind, can sell more than was bought:
    # then there is nothing to take back, and a person must look.
    if any(leg.exposure < 0 for leg in saga.legs):
        return End("HOLDING", "OVERSOLD")
    ends = [step for step in found if isinstance(step, End)]
    held = [end for end in ends if end.state == "HOLDING"]
    return (held or ends or [End("DONE", _done_reason(saga))])[0]


def _done_reason(saga: Saga) -> Reason:
    first = saga.legs[0]
    if saga.failed:
        return "SETTLEMENT_FAILED"
    if any(leg.unwound for leg in saga.legs):
        return "UNWOUND"
    if first.entered == 0:
        status = first.orders[-1].status
        if status == "REJECTED":
            return "REJECTED"
        return "EXPIRED_UNSENT" if status == "EXPIRED_UNSENT" else "NOT_FILLED"
    return "FILLED" if first.entered == saga.size else "UNDERFILLED"


def _next_hedge(saga: Saga, now_ns: int) -> Place | None:
    """Return the order of the first later leg that is short of what stands on all before it and may be tried (again).

    A leg that is given up bounds those after it: they are completed at what it has, so that the least is taken back.
    Once anything was taken back nothing is completed any more: it would only be bought again.
    """
    if any(leg.unwound for leg in saga.legs):
        return None
    target = saga.legs[0].exposure
    for index in range(1, len(saga.legs)):
        if target <= 0:
            return None
        leg = saga.legs[index]
        if target > leg.exposure:
            place = _hedge(saga, index, target - leg.exposure, now_ns)
            if place is not None:
                return place
            target = leg.exposure
    return None


def _hedge(saga: Saga, index: int, missing: int, now_ns: int) -> Place | None:
    """Return a later leg's next order, None when it must not be tried (again)."""
    leg = saga.legs[index]
    wanted, instrument = leg.leg, leg.instrument
    size = missing // instrument.size_step * instrument.size_step
    attempts = leg.attempts("HEDGE")
    if size == 0 or size < instrument.size_min:
        return None
    if attempts >= HEDGE_ATTEMPTS_MAX or leg.refusals("HEDGE") >= REFUSALS_MAX:
        return None
    if leg.hedge_until_ns and now_ns > leg.hedge_until_ns:
        return None
    if attempts == 0:
        return Place(index, "HEDGE", wanted.side, wanted.price, size, "SECOND_LEG", 0)
    price = _worst_hedge(saga, index, size)
    if price is None:
        return None
    loss_e6 = max(_hedge_loss_e6(saga, index, price, size), 0)
    return Place(index, "HEDGE", wanted.side, price, size, "SECOND_LEG", loss_e6)


def _hedge_loss_e6(saga: Saga, index: int, price: int, size: int) -> int:
    """Return what completing `size` of one leg at `price` would lose in the worst state (negative: gains), fees included.

    The other legs count at what they cost, and at their limits where they have not been entered yet.
    """
    leg = saga.legs[index]
    others = sum(_share_e6(other, size) for place, other in enumerate(saga.legs) if place != index)
    fee = CONDUCTS[leg.instrument.venue].fee_bound(leg.instrument, price, size, FILLS_PER_LEVEL)
    return others + open_cost_e6(leg.leg.side, price, size) + fee - saga.floor_e6 * size // MICRO


def _share_e6(leg: LegState, size: int) -> int:
    """Return what `size` of a leg cost, or will at its limit, fees included."""
    if leg.entered > 0:
        return ceil_div((leg.paid_e6 + leg.fees_e6) * size, leg.entered)
    return open_cost_e6(leg.leg.side, leg.leg.price, size) + ceil_div(leg.leg.fee_max_e6 * size, leg.leg.size)


def _worst_hedge(saga: Saga, index: int, size: int) -> int | None:
    """Return the worst price within budget and slip, at least one step worse than the leg's own."""
    leg, instrument = saga.legs[index].leg, saga.legs[index].instrument
    found: int | None = None
    left_e6 = saga.budget_left_e6
    price = worse_price(instrument, leg.side, leg.price, 1)
    while price is not None and abs(price - leg.price) <= SLIP_E4_MAX:
        if _hedge_loss_e6(saga, index, price, size) > left_e6:
            break
        found = price
        price = worse_price(instrument, leg.side, price, 1)
    return found


def _unwinds(saga: Saga) -> list[Step]:
    """Return what takes back, or holds, what each leg has beyond the smallest; legs whose orders are out are left out.

    They share what is left of the budget, so that all can leave together; where a share is too little for any of them,
    each is offered all of it.
    """
    left_e6, covered = saga.budget_left_e6, saga.covered
    over = [index for index, leg in enumerate(saga.legs) if leg.exposure > covered and leg.is_complete]
    found: list[Step] = []
    for budget_e6 in (left_e6 // max(len(over), 1), left_e6):
        found = [_unwind(saga, index, saga.legs[index].exposure - covered, budget_e6) for index in over]
        if any(isinstance(step, Place) for step in found):
            break
    return found


def _unwind(saga: Saga, index: int, excess: int, budget_e6: int) -> Step:
    """Return the order that takes `excess` of a leg back, or why it is held."""
    leg = saga.legs[index]
    instrument = leg.instrument
    size = excess // instrument.size_step * instrument.size_step
    if size == 0:
        return End("DONE", "DUST")
    if leg.attempts("UNWIND") >= UNWIND_ATTEMPTS_MAX or leg.refusals("UNWIND") >= REFUSALS_MAX:
        return End("HOLDING", "ATTEMPTS")
    side = OPPOSITE[leg.leg.side]
    price = _worst_unwind(leg, side, size, budget_e6, saga.slip_e4)
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


def _worst_unwind(leg: LegState, side: Side, size: int, budget_e6: int, slip_e4: int) -> int | None:
    """Return the worst price within budget and slip of the entry's limit."""
    instrument, entry = leg.instrument, leg.leg.price
    found: int | None = None
    price: int | None = entry if on_grid(instrument, entry) else worse_price(instrument, side, entry, 1)
    while price is not None and abs(price - entry) <= slip_e4:
        if _unwind_loss_e6(leg, side, price, size) > budget_e6:
            break
        found = price
        price = worse_price(instrument, side, price, 1)
    return found
