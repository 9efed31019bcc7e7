"""Arbitrage over the outcomes of one event, by an approved link of kind EVENT.

* **All bought**: one of these outcomes must win (the link's EXHAUSTIVE flag), so one YES of each pays a dollar, less what
  the table says of voids. Worth it while all asks and fees together cost less.
* **Some sold**: at most one of them wins, so k sold outcomes pay k - 1 dollars, less what the table says of ties. Needs
  no exhaustive list; outcomes without a bid worth its fee are left out.
* **Reported only**: where sold outcomes of a negative-risk event would pay by converting them on chain (whatever the
  table says of ties) but not by holding them, the edge is told as not tradable: conversion is no order kind.

What a set of legs pays is the minimum over the payout table (`edges.Table`) and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from core.domain.errors import MalformedFrame
from core.domain.units import E4_TO_E6, MICRO
from decide.conduct import CONDUCTS, is_open, unit_cost
from decide.edges import Table, table_of
from decide.ports import View
from decide.strategies.edge_trader import EdgeTrader, Found, Pace, Positive, Wish
from decide.strategies.intents import open_leg
from schemas import decision
from schemas.decision import Link
from schemas.derived import Depth
from schemas.enums import Side
from schemas.market import Instrument

LEGS_MIN = 2


class _Offer(NamedTuple):
    """What can be taken of one outcome; `best` is the best price of that side."""

    instrument: Instrument
    depth: Depth
    side: Side
    best: int

    def pays_its_fee(self) -> bool:
        """Say whether a sold contract brings more than its fee."""
        bound = CONDUCTS[self.instrument.venue].fee_bound
        return self.best * E4_TO_E6 > bound(self.instrument, self.best, MICRO, 1)


class Params(Pace, frozen=True, forbid_unknown_fields=True):
    """Parameters: those of every kind of edge, and how many orders one intent may need."""

    leg_order: Wish = "TOGETHER"
    """as of every kind of edge; benchmark `legs` says why it is together here"""
    legs_max: Positive = 12
    """one after the other, more legs leave more time for prices to move; a longer event is not bought, and sold in part"""


@dataclass
class ExhaustiveEvent(EdgeTrader):
    """One running instance."""

    params: Params
    _tables: dict[str, tuple[Link, Table]] = field(default_factory=dict)
    """of links as they were last seen: they follow from the links, so they are not written down"""

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
        open_ones = _open_outcomes(link, view)
        asked = [_Offer(one, depth, "BUY", depth.ask_prices[0]) for one, depth in open_ones if depth.ask_prices]
        bid = [_Offer(one, depth, "SELL", depth.bid_prices[0]) for one, depth in open_ones if depth.bid_prices]
        bid = _dearest([offer for offer in bid if offer.pays_its_fee()], self.params.legs_max)
        found = [one for one in (self._bought(link, asked), self._sold(link, bid)) if one is not None]
        if found:
            return max(found, key=lambda one: one.walk.profit_e6)
        return self._converted(link, bid)

    def _bought(self, link: Link, offers: list[_Offer]) -> Found | None:
        if not link.exhaustive or len(offers) != len(link.instruments) or len(offers) > self.params.legs_max:
            return None
        return self._found(link, offers, self._floor_e6(link, offers))

    def _sold(self, link: Link, offers: list[_Offer]) -> Found | None:
        """Return the best of selling all that have a bid, all but the thinnest, and so on."""
        best: Found | None = None
        while len(offers) >= LEGS_MIN:
            floor_e6 = self._floor_e6(link, offers)
            found = self._found(link, offers, floor_e6)
            if found is not None and (best is None or found.walk.profit_e6 > best.walk.profit_e6):
                best = found
            if found is None and floor_e6 == (len(offers) - 1) * MICRO and _cost_e6(offers) >= floor_e6:
                # Each outcome pays a dollar but for one of them: one less takes its bid away and brings nothing.
                break
            offers = _without_thinnest(offers)
        return best

    def _converted(self, link: Link, offers: list[_Offer]) -> Found | None:
        """Return what k sold outcomes of a negative-risk event bring when they are converted: k - 1 dollars at once."""
        if len(offers) < LEGS_MIN or not all(offer.instrument.neg_risk for offer in offers):
            return None
        if len({offer.instrument.event_group for offer in offers}) != 1:
            return None
        return self._found(link, offers, (len(offers) - 1) * MICRO, tradable=False)

    def _floor_e6(self, link: Link, offers: list[_Offer]) -> int:
        known = self._tables.get(link.id)
        if known is None or known[0] is not link:
            known = self._tables[link.id] = (link, table_of(link))
        return known[1].floor_e6({offer.instrument.instrument: offer.side for offer in offers})

    def _found(self, link: Link, offers: list[_Offer], floor_e6: int, *, tradable: bool = True) -> Found | None:
        """Return the opportunity of taking these; what is not `tradable` does not pay by the link's table."""
        if _cost_e6(offers) >= floor_e6:
            return None
        legs = tuple(open_leg(offer.instrument, offer.side, offer.depth) for offer in offers)
        walked = self.sized(link, legs, floor_e6)
        if walked is None:
            return None
        direction = offers[0].side if tradable else "CONVERT"
        return Found(link, direction, legs, tuple(offer.depth for offer in offers), walked, floor_e6, tradable)


def _open_outcomes(link: Link, view: View) -> list[tuple[Instrument, Depth]]:
    """Return the outcomes that can be traded now, with their usable books."""
    found = []
    for name in link.instruments:
        instrument, depth = view.instrument(name), view.depth(name)
        if instrument is not None and depth is not None and is_open(instrument, view.now_ns):
            found.append((instrument, depth))
    return found


def _cost_e6(offers: Sequence[_Offer]) -> int:
    """Return what one of each costs at the best prices, before fees."""
    return sum(unit_cost(offer.side, offer.best) for offer in offers) * E4_TO_E6


def _dearest(offers: list[_Offer], count: int) -> list[_Offer]:
    """Return at most `count`, those with the best bids, in the order they came."""
    if len(offers) <= count:
        return offers
    ranked = sorted(range(len(offers)), key=lambda place: -offers[place].best)
    return [offers[place] for place in sorted(ranked[:count])]


def _without_thinnest(offers: list[_Offer]) -> list[_Offer]:
    thinnest = min(range(len(offers)), key=lambda place: sum(offers[place].depth.bid_sizes))
    return offers[:thinnest] + offers[thinnest + 1 :]
