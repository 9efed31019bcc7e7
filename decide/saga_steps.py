"""What a saga does next, given what was filled: entries, hedges, what is taken back, what is held. Pure arithmetic.

One by one: the most uncertain leg goes first; each later leg is sized by what stands on all before it. An underfilled
one is tried again at a worse price within the budget; then the legs after it are completed at what it has.

Together (`decide/leg_order.py` says where): all entries leave at once; when all have ended, those that are short of the
fullest are completed at a worse price within the budget, the shortest first, as it bounds the others if it is given up.

Then what any leg has beyond the smallest is unwound within the budget; what is left is held, and said. `advance` decides
on exposures alone, so it is right after any order of events, a failed settlement included. What an exit sold meanwhile, or
a human moved, is neither hedged nor taken back once more.
"""

from collections.abc import Collection

from core.domain.units import MICRO, ONE_DOLLAR_E4, ceil_div
from decide.conduct import (
    CONDUCTS,
    FILLS_PER_LEVEL,
    OPPOSITE,
    on_grid,
    open_cost_e6,
    price_not_better,
    unit_cost,
    worse_price,
)
from decide.saga import HEDGE_WAIT_NS, SLIP_E4_MAX, End, LegState, Place, Reason, Saga, Step, Together
from schemas.enums import Side

HEDGE_ATTEMPTS_MAX = 2
UNWIND_ATTEMPTS_MAX = 2
REFUSALS_MAX = 8
"""Orders of one purpose and leg that gateway or venue may refuse before it is given up."""


def advance(saga: Saga, now_ns: int, blocked: Collection[int] = ()) -> Step | None:
    """Return the next step, None while its orders are not complete.

    Entries go one at a time, each sized by those before, or all at once; hedges one at a time. What is taken back goes
    together, leg by leg: no unwind changes how much of another leg is to be taken back.

    Args:
        saga: as the log left it.
        now_ns: log time.
        blocked: legs no order of which can be granted now; the steps of others are preferred.
    """
    if any(not order.complete for leg in saga.legs for order in leg.entries):
        return None
    if not any(leg.orders for leg in saga.legs):
        entries = tuple(_entry(saga, index) for index in range(len(saga.legs)))
        return Together(entries) if saga.goes_together else entries[0]
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


def _entry(saga: Saga, index: int) -> Place:
    leg = saga.legs[index]
    return Place(index, "UNWIND" if leg.reduces else "ENTRY", leg.leg.side, leg.leg.price, saga.size, "FIRST_LEG", 0)


def _done_reason(saga: Saga) -> Reason:
    first = saga.legs[0]
    if saga.failed:
        return "SETTLEMENT_FAILED"
    if any(leg.unwound for leg in saga.legs):
        return "UNWOUND"
    if first.entered == 0:
        ended = {leg.orders[-1].status for leg in saga.legs if leg.orders}
        if "REJECTED" in ended:
            return "REJECTED"
        return "EXPIRED_UNSENT" if "EXPIRED_UNSENT" in ended else "NOT_FILLED"
    return "FILLED" if first.entered == saga.size else "UNDERFILLED"


def _next_hedge(saga: Saga, now_ns: int) -> Place | None:
    """Return the order of the first leg that is short of what it is to reach and may be tried (again).

    One by one that is what stands on all before it. A leg that is given up bounds those after it: they are completed at
    what it has, so that the least is taken back; of legs that left together the shortest therefore goes first.
    Once anything was taken back nothing is completed any more: it would only be bought again.
    """
    if any(leg.unwound for leg in saga.legs):
        return None
    target = min([saga.reach, *(leg.held for leg in saga.legs if leg.gone)])
    while target > 0:
        short = _short(saga, target)
        places = [_hedge(saga, index, target - saga.legs[index].exposure, now_ns) for index in short]
        given_up = [index for index, place in zip(short, places, strict=True) if place is None]
        first = next((place for place in places if place is not None), None)
        if not given_up or (first is not None and not saga.goes_together and first.leg < given_up[0]):
            return first
        target = saga.legs[given_up[0]].exposure
    return None


def _short(saga: Saga, target: int) -> list[int]:
    """Return the legs that have less than `target`, in the order in which they are completed."""
    short = [index for index, leg in enumerate(saga.legs) if leg.exposure < target]
    return sorted(short, key=lambda index: saga.legs[index].exposure) if saga.goes_together else short


def _hedge(saga: Saga, index: int, missing: int, now_ns: int) -> Place | None:
    """Return the next order of a leg that is short, None when it must not be tried (again).

    Its first attempt is at its own limit; of legs that left together that was the entry.
    """
    leg = saga.legs[index]
    wanted, instrument = leg.leg, leg.instrument
    size = missing // instrument.size_step * instrument.size_step
    attempts = leg.attempts("ENTRY") + leg.attempts("HEDGE")
    if size == 0 or size < instrument.size_min:
        return None
    if attempts >= HEDGE_ATTEMPTS_MAX or leg.refusals("HEDGE") >= REFUSALS_MAX:
        return None
    until_ns = leg.hedge_until_ns or _until_ns(saga)
    if until_ns and now_ns > until_ns:
        return None
    if attempts == 0:
        return _first_hedge(saga, index, size)
    price = _worst_hedge(saga, index, size)
    if price is None:
        return None
    return Place(index, "HEDGE", wanted.side, price, size, "SECOND_LEG", _hedge_cost_e6(saga, index, price, size))


def _first_hedge(saga: Saga, index: int, size: int) -> Place | None:
    """Return a leg's first order: at its own limit, or where the grid has changed since it was admitted, beside it.

    The next worse price trades wherever the limit would; where that is beyond the budget the next better one is offered.
    """
    wanted, instrument = saga.legs[index].leg, saga.legs[index].instrument
    price = price_not_better(instrument, wanted.side, wanted.price)
    if price == wanted.price:
        return Place(index, "HEDGE", wanted.side, price, size, "SECOND_LEG", 0)
    if price is not None and abs(price - wanted.price) <= SLIP_E4_MAX:
        cost_e6 = _hedge_cost_e6(saga, index, price, size)
        if cost_e6 <= _hedge_share_e6(saga):
            return Place(index, "HEDGE", wanted.side, price, size, "SECOND_LEG", cost_e6)
    better = worse_price(instrument, OPPOSITE[wanted.side], wanted.price, 1)
    return None if better is None else Place(index, "HEDGE", wanted.side, better, size, "SECOND_LEG", 0)


def _hedge_share_e6(saga: Saga) -> int:
    """Return what of the budget one hedge may use up: others that are short share it, and are not to be left nothing."""
    return saga.budget_left_e6 // max(len(_short(saga, saga.reach)), 1)


def _until_ns(saga: Saga) -> int:
    """Return until when a leg that was not hedged yet may be: 0 for ever, as its turn only comes.

    Of legs that left together every turn has come. What is heard long after the last order ended is taken back.
    """
    return max(order.ended_ns for order in saga.orders) + HEDGE_WAIT_NS if saga.goes_together else 0


def _hedge_cost_e6(saga: Saga, index: int, price: int, size: int) -> int:
    """Return what of the budget a hedge uses up: what it loses, without what was charged for the other legs' hedges.

    Their prices are part of what the whole loses now, as far as this many of them go.
    """
    charged = 0
    for place, leg in enumerate(saga.legs):
        if place != index and leg.entered > 0:
            spent = sum(order.spent_e6 for order in leg.orders if order.grant.purpose == "HEDGE")
            charged += spent * min(size, leg.entered) // leg.entered
    return max(_hedge_loss_e6(saga, index, price, size) - charged, 0)


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
    left_e6 = _hedge_share_e6(saga)
    price = worse_price(instrument, leg.side, leg.price, 1)
    while price is not None and abs(price - leg.price) <= SLIP_E4_MAX:
        if _hedge_cost_e6(saga, index, price, size) > left_e6:
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
    least = min(leg.held for leg in saga.legs)
    excess = [min(leg.exposure - covered, leg.held - max(least, 0)) for leg in saga.legs]
    found: list[Step] = []
    for budget_e6 in (left_e6 // max(len(over), 1), left_e6):
        found = [_unwind(saga, index, excess[index], budget_e6) for index in over]
        if any(isinstance(step, Place) for step in found):
            break
    return found


def _unwind(saga: Saga, index: int, excess: int, budget_e6: int) -> Step:
    """Return the order that takes `excess` of a leg back, or why it is held."""
    leg = saga.legs[index]
    instrument = leg.instrument
    size = excess // instrument.size_step * instrument.size_step
    if size <= 0:
        return End("DONE", "EXITED" if leg.gone else "DUST")
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
    price = price_not_better(instrument, side, entry)
    while price is not None and abs(price - entry) <= slip_e4:
        if _unwind_loss_e6(leg, side, price, size) > budget_e6:
            break
        found = price
        price = worse_price(instrument, side, price, 1)
    if found is None and not on_grid(instrument, entry):
        # The grid has changed since, and its next worse price is too dear: the next better one is offered.
        better = worse_price(instrument, OPPOSITE[side], entry, 1)
        if better is not None and _unwind_loss_e6(leg, side, better, size) <= budget_e6:
            return better
    return found
