"""What strategies say: intents, and the legs that take what stands in a depth."""

from collections.abc import Sequence
from typing import NamedTuple

from decide.edges import OpenLeg, SizedLeg, levels_of
from decide.ports import View
from schemas.decision import Intent, Leg
from schemas.derived import Depth
from schemas.enums import LegOrder, Side
from schemas.market import Instrument


class Cause(NamedTuple):
    """What a decision answers."""

    recv_ts_ns: int
    trail: list[int]


def intent_of(
    view: View,
    link: str,
    legs: Sequence[Leg],
    cause: Cause,
    *,
    profit_e6: int = 0,
    edge: str = "",
    leg_order: LegOrder = "ONE_BY_ONE",
) -> Intent:
    """Return what the strategy wants at the record in hand; `link` is the instrument where no link backs it."""
    return Intent(
        id=view.new_id(),
        strategy=view.strategy.id,
        link=link,
        account_set=view.strategy.account_set,
        edge=edge,
        now_ns=view.now_ns,
        legs=list(legs),
        profit_e6=profit_e6,
        input_partition=view.partition,
        input_offset=view.offset,
        recv_ts_ns=cause.recv_ts_ns,
        leg_order=leg_order,
        trail=cause.trail,
    )


def open_leg(instrument: Instrument, side: Side, depth: Depth) -> OpenLeg:
    """Return a leg that may take all of a depth."""
    return OpenLeg(instrument, side, levels_of(depth, side))


def leg_of(leg: OpenLeg, sized: SizedLeg, depth: Depth, account: str) -> Leg:
    """Return the leg of an intent, with what it takes from each level of the depth."""
    return Leg(
        instrument=leg.instrument.instrument,
        account=account,
        side=leg.side,
        price=sized.limit,
        size=sized.size,
        price_exp=leg.instrument.price_exp,
        size_exp=leg.instrument.size_exp,
        fee_max_e6=sized.fee_max_e6,
        version_offset=depth.version_offset,
        version_index=depth.version_index,
        recv_ts_ns=depth.recv_ts_ns,
        level_prices=[level.price for level in sized.taken],
        level_sizes=[level.size for level in sized.taken],
        reduces=leg.reduces,
    )
