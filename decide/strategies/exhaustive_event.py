"""Arbitrage over the outcomes of one event, by an approved link of kind EVENT.

* **All bought**: one of these outcomes must win (the link's EXHAUSTIVE flag), so one YES of each pays a dollar, less what
  the table says of voids. Worth it while all asks and fees together cost less.
* **Some sold**: at most one of them wins, so k sold outcomes pay k - 1 dollars, less what the table says of ties. Needs
  no exhaustive list; outcomes without a bid worth its fee are left out.
* **Reported only**: where sold outcomes of a negative-risk event would pay by converting them on chain (whatever the
  table says of ties) but not by holding them, the edge is told as not tradable: conversion is no order kind.

What a set of legs pays is the minimum over the payout table (`edges.floor_of`) and nothing else.
"""

from collections.abc import Sequence

import msgspec

from core.domain.errors import MalformedFrame
from core.domain.units import MICRO
from decide.conduct import CONDUCTS, is_open, unit_cost
from decide.edges import E4_TO_E6, OpenLeg, floor_of
from decide.ports import View
from decide.strategies.edge_trader import EdgeTrader, Found, Pace, Positive, open_leg
from schemas import decision
from schemas.decision import Link
from schemas.derived import Depth
from schemas.enums import Side

LEGS_MIN = 2
_Leg = tuple[OpenLeg, Depth]


class Params(Pace, frozen=True, forbid_unknown_fields=True):
    """Parameters: those of every kind of edge, and how many orders one intent may need."""

    legs_max: Positive = 12
    """legs go one after the other: more legs, more time for prices to move; a longer event is not bought, and sold in
    part"""


class ExhaustiveEvent(EdgeTrader):
    """One running instance."""

    params: Params

    @classmethod
    def from_config(cls, config: decision.Strategy) -> "ExhaustiveEvent":
        """Return an instance with the parameters of `config`.

        Raises:
            MalformedFrame: the parameters are not JSON, name an unknown one, or have a wrong type.
        """
        try:
            return cls(msgspec.json.decode(config.params or "{}", type=Params))
        except msgspec.MsgspecError as e:
            raise MalformedFrame(f"strategy {config.id} (exhaustive_event): params: {e}") from e

    def find(self, link: Link, view: View) -> Found | None:
        """Return the better side with enough profit; one that needs conversion only if neither has it."""
        if link.kind != "EVENT":
            return None
        found = [one for one in (self._bought(link, view), self._sold(link, view)) if one is not None]
        if found:
            return max(found, key=lambda one: one.walk.profit_e6)
        return self._converted(link, view)

    def _bought(self, link: Link, view: View) -> Found | None:
        if not link.exhaustive or len(link.instruments) > self.params.legs_max:
            return None
        legs = _legs(link, "BUY", view)
        return self._found(link, legs) if len(legs) == len(link.instruments) else None

    def _sold(self, link: Link, view: View) -> Found | None:
        """Return the best of selling all that have a bid, all but the thinnest, and so on."""
        legs = _dearest(_legs(link, "SELL", view), self.params.legs_max)
        best: Found | None = None
        while len(legs) >= LEGS_MIN:
            found = self._found(link, legs)
            if found is not None and (best is None or found.walk.profit_e6 > best.walk.profit_e6):
                best = found
            legs = _without_thinnest(legs)
        return best

    def _converted(self, link: Link, view: View) -> Found | None:
        """Return what k sold outcomes of a negative-risk event bring when they are converted: k - 1 dollars at once."""
        legs = _dearest(_legs(link, "SELL", view), self.params.legs_max)
        if len(legs) < LEGS_MIN or not all(leg.instrument.neg_risk for leg, _ in legs):
            return None
        if len({leg.instrument.event_group for leg, _ in legs}) != 1:
            return None
        return self._found(link, legs, floor_e6=(len(legs) - 1) * MICRO)

    def _found(self, link: Link, legs: Sequence[_Leg], *, floor_e6: int | None = None) -> Found | None:
        """Return the opportunity of these legs; `floor_e6` given is not the table's, so it is not tradable."""
        sides = {leg.instrument.instrument: leg.side for leg, _ in legs}
        floor = floor_of(link, sides) if floor_e6 is None else floor_e6
        best_e6 = sum(unit_cost(leg.side, leg.levels[0].price) for leg, _ in legs) * E4_TO_E6
        if best_e6 >= floor:
            return None
        opened = tuple(leg for leg, _ in legs)
        walked = self.sized(link, opened, floor)
        if walked is None:
            return None
        direction = opened[0].side if floor_e6 is None else "CONVERT"
        return Found(link, direction, opened, tuple(depth for _, depth in legs), walked, floor, floor_e6 is None)


def _legs(link: Link, side: Side, view: View) -> list[_Leg]:
    """Return the outcomes that can be taken now; sold ones only where a contract brings more than its fee."""
    found: list[_Leg] = []
    for name in link.instruments:
        instrument, depth = view.instrument(name), view.depth(name)
        if instrument is None or depth is None or not is_open(instrument, view.now_ns):
            continue
        leg = open_leg(instrument, side, depth)
        if not leg.levels:
            continue
        best = leg.levels[0].price
        fee_e6 = CONDUCTS[instrument.venue].fee_bound(instrument, best, MICRO, 1)
        if side == "BUY" or best * E4_TO_E6 > fee_e6:
            found.append((leg, depth))
    return found


def _dearest(legs: list[_Leg], count: int) -> list[_Leg]:
    """Return at most `count` legs, those with the best bids, in the order they came."""
    if len(legs) <= count:
        return legs
    ranked = sorted(range(len(legs)), key=lambda place: -legs[place][0].levels[0].price)
    return [legs[place] for place in sorted(ranked[:count])]


def _without_thinnest(legs: list[_Leg]) -> list[_Leg]:
    thinnest = min(range(len(legs)), key=lambda place: sum(level.size for level in legs[place][0].levels))
    return legs[:thinnest] + legs[thinnest + 1 :]
