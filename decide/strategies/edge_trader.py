"""What strategies of guaranteed edges share: an opportunity told from begin to end, and intended once at a time.

A kind says only where it finds an opportunity (`find`); the rest is here: edges begin, refresh and end; one saga at a
time per link; after a saga or a refusal the link rests. Legs go in the order in which they are least certain: first by
venue (`conduct.rank`), then the one with the least depth at its limit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import msgspec

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_MS
from core.runtime.flow import StateCodec
from decide.conduct import CONDUCTS
from decide.edges import OpenLeg, SizedLeg, Walk, annual_e6, release_ns, walk
from decide.ports import Decision, View
from decide.strategies.intents import Cause, intent_of, leg_of
from schemas.decision import Edge, Intent, Link, Saga
from schemas.derived import Depth, Quote
from schemas.enums import EdgePhase, Side
from schemas.market import Instrument, Trade

CAP_TRIES = 4
"""Sizes tried below a link's cap before the opportunity is left."""

Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Wish = Literal["ONE_BY_ONE", "TOGETHER"]


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of every kind of edge, as JSON in `decision.Strategy.params`; money and sizes at 1e-6."""

    min_profit_e6: Natural = 100_000
    """of a whole intent, after fees"""
    min_profit_per_contract_e6: Natural = 0
    """before fees, of the worst level walked"""
    min_annual_e6: Natural = 0
    """profit over capital, scaled to a year, millionths; above 0 an edge whose release is not known is not traded"""
    size_max: Positive = 50_000_000
    cooldown_ms: Natural = 1_000
    """a link rests this long after a saga or a refusal"""
    holding_rest_ms: Natural = 60_000
    """and this long after a saga that could not be balanced"""
    refresh_ms: Natural = 250
    """at most one REFRESH of an edge in this time"""
    leg_order: Wish = "ONE_BY_ONE"
    """TOGETHER: all legs at once where every venue answers at once and its fills cannot fail, else one by one"""


class Found(NamedTuple):
    """An opportunity.

    Attributes:
        direction: edges of one link that differ in it are different edges.
        legs: in the order of the link's instruments; those of an event may leave some out.
        tradable: False is reported and never intended.
    """

    link: Link
    direction: str
    legs: tuple[OpenLeg, ...]
    depths: tuple[Depth, ...]
    walk: Walk
    floor_e6: int
    tradable: bool = True

    def in_order(self) -> list[int]:
        """Return the places of the legs in the order of execution."""

        def uncertainty(place: int) -> tuple[int, int, int]:
            leg, sized = self.legs[place], self.walk.legs[place]
            reached = [level.size for level in leg.levels if not _is_worse(leg.side, level.price, sized.limit)]
            return CONDUCTS[leg.instrument.venue].rank, sum(reached), place

        return sorted(range(len(self.legs)), key=uncertainty)

    @property
    def capital_e6(self) -> int:
        """All the money the legs need."""
        return self.walk.cost_e6 + self.walk.fees_e6

    @property
    def release_ts_ns(self) -> int:
        """When the last of it is free again in the worst case, 0 if that is not known."""
        return release_ns([leg.instrument for leg in self.legs])

    def annual_e6(self, now_ns: int) -> int:
        """Return what the edge would bring in a year, millionths of its capital."""
        return annual_e6(self.walk.profit_e6, self.capital_e6, now_ns, self.release_ts_ns)


def _is_worse(side: Side, price: int, limit: int) -> bool:
    return price > limit if side == "BUY" else price < limit


@dataclass
class _Active:
    """An edge that has begun."""

    record: Edge
    direction: str
    said_ns: int


class _Memory(msgspec.Struct, frozen=True):
    active: list[tuple[str, Edge, str, int]]
    """link, edge, direction, when it was last said; in the order in which they began"""
    rests_until_ns: dict[str, int]


_MEMORY = StateCodec(_Memory, 2)


@dataclass
class EdgeTrader(ABC):
    """One running instance of a kind."""

    params: Pace
    _active: dict[str, _Active] = field(default_factory=dict)
    _rests_until_ns: dict[str, int] = field(default_factory=dict)

    @abstractmethod
    def find(self, link: Link, view: View) -> Found | None:
        """Return the link's best opportunity worth telling, None if there is none."""

    def remember(self) -> bytes:
        """Return edges that have begun, and how long links rest."""
        active = [(link, found.record, found.direction, found.said_ns) for link, found in self._active.items()]
        return _MEMORY.encode(_Memory(active, self._rests_until_ns))

    def recall(self, memory: bytes) -> None:
        """Go on with them.

        Raises:
            StateUnreadable: another version wrote it.
        """
        known = _MEMORY.decode(memory)
        self._active = {link: _Active(record, direction, said_ns) for link, record, direction, said_ns in known.active}
        self._rests_until_ns = dict(known.rests_until_ns)

    def on_quote(self, quote: Quote, view: View) -> Iterator[Decision]:
        """Look at every link of the instrument."""
        for link in view.links_of(quote.instrument):
            found = self.find(link, view)
            active = self._active.get(link.id)
            if active is not None and (found is None or found.direction != active.direction):
                yield self._end(link.id, view, quote.recv_ts_ns, quote.trail)
            if found is None:
                continue
            edge = self._tell(found, quote, view)
            if edge is not None:
                yield edge
            if self._may_act(found, view):
                intent = self._intent(found, quote, view)
                if intent is not None:
                    yield intent

    def on_depth(self, depth: Depth, view: View) -> Iterable[Decision]:
        """Wait for its quote."""
        return ()

    def on_trade(self, trade: Trade, view: View) -> Iterable[Decision]:
        """Books say it all."""
        return ()

    def on_outcome(self, saga: Saga, view: View) -> Iterable[Decision]:
        """Let the link rest, whatever came of it."""
        rest_ms = self.params.holding_rest_ms if saga.state == "HOLDING" else self.params.cooldown_ms
        self._rests_until_ns[saga.link] = view.now_ns + rest_ms * NS_PER_MS
        return ()

    def on_timer(self, view: View) -> Iterator[Decision]:
        """End edges whose books became unusable or whose link went away, in silence."""
        for name, active in list(self._active.items()):
            if view.link(name) is None or any(view.depth(leg) is None for leg in active.record.instruments):
                yield self._end(name, view, view.now_ns, [])

    def on_stop(self, view: View) -> Iterator[Decision]:
        """End all edges."""
        for name in list(self._active):
            yield self._end(name, view, view.now_ns, [])

    # What kinds find with

    def sized(self, link: Link, legs: tuple[OpenLeg, ...], floor_e6: int) -> Walk | None:
        """Return the best size within the parameters and the link's cap, None if it does not bring enough."""
        size_max = self.params.size_max
        for _ in range(CAP_TRIES):
            found = walk(
                *legs,
                floor_e6=floor_e6,
                size_max=size_max,
                unit_profit_min_e6=self.params.min_profit_per_contract_e6,
            )
            if found is None or found.profit_e6 < self.params.min_profit_e6:
                return None
            capital = found.cost_e6 + found.fees_e6
            if not 0 < link.cap_e6 < capital:
                return found
            # Better levels go first, so this share of the size is within the cap but for what fees round up.
            size_max = found.size * link.cap_e6 // capital
        return None

    # Records

    def _may_act(self, found: Found, view: View) -> bool:
        link, least = found.link.id, self.params.min_annual_e6
        return (
            found.tradable
            and view.may_trade()
            and not view.is_busy(link)
            and view.now_ns >= self._rests_until_ns.get(link, 0)
            and (least == 0 or found.annual_e6(view.now_ns) >= least)
        )

    def _tell(self, found: Found, quote: Quote, view: View) -> Edge | None:
        """Begin the edge, or refresh it when it changed and the last word is old enough."""
        name = found.link.id
        active = self._active.get(name)
        if active is None:
            edge = _edge(found, quote, view, edge_id=view.new_id(), phase="BEGIN", begin_ns=view.now_ns)
        else:
            if view.now_ns - active.said_ns < self.params.refresh_ms * NS_PER_MS:
                return None
            record = active.record
            edge = _edge(found, quote, view, edge_id=record.id, phase="REFRESH", begin_ns=record.begin_ns)
            if (edge.size, edge.profit_e6, edge.instruments) == (record.size, record.profit_e6, record.instruments):
                return None
        self._active[name] = _Active(edge, found.direction, view.now_ns)
        return edge

    def _end(self, link: str, view: View, recv_ts_ns: int, trail: list[int]) -> Edge:
        active = self._active.pop(link)
        return msgspec.structs.replace(
            active.record,
            phase="END",
            now_ns=view.now_ns,
            input_partition=view.partition,
            input_offset=view.offset,
            recv_ts_ns=recv_ts_ns,
            trail=trail,
        )

    def _intent(self, found: Found, quote: Quote, view: View) -> Intent | None:
        legs = []
        for place in found.in_order():
            leg = found.legs[place]
            account = view.account(leg.instrument.venue)
            if account is None:
                return None
            legs.append(leg_of(leg, found.walk.legs[place], found.depths[place], account))
        return intent_of(
            view,
            found.link.id,
            legs,
            Cause(quote.recv_ts_ns, quote.trail),
            profit_e6=found.walk.profit_e6,
            edge=self._active[found.link.id].record.id,
            leg_order=self.params.leg_order,
        )


def _edge(found: Found, quote: Quote, view: View, *, edge_id: str, phase: EdgePhase, begin_ns: int) -> Edge:
    legs = [(found.legs[place], found.walk.legs[place]) for place in found.in_order()]
    buy, sell, buy_e6, sell_e6 = _prices(found)
    return Edge(
        id=edge_id,
        strategy=view.strategy.id,
        link=found.link.id,
        phase=phase,
        buy_instrument=buy,
        sell_instrument=sell,
        size=found.walk.size,
        buy_price_e6=buy_e6,
        sell_price_e6=sell_e6,
        cost_e6=found.capital_e6,
        fees_e6=found.walk.fees_e6,
        profit_e6=found.walk.profit_e6,
        begin_ns=begin_ns,
        now_ns=view.now_ns,
        input_partition=view.partition,
        input_offset=view.offset,
        recv_ts_ns=quote.recv_ts_ns,
        instruments=[leg.instrument.instrument for leg, _ in legs],
        sides=[leg.side for leg, _ in legs],
        prices_e6=[_average_e6(leg, sized) for leg, sized in legs],
        costs_e6=[sized.cost_e6 + sized.fee_e6 for _, sized in legs],
        places=[_place(leg.instrument) for leg, _ in legs],
        release_ts_ns=found.release_ts_ns,
        annual_e6=found.annual_e6(view.now_ns),
        tradable=found.tradable,
        trail=quote.trail,
    )


def _prices(found: Found) -> tuple[str, str, int, int]:
    """Return what is bought where, sold where, and at what.

    Of a pair in terms of YES of the bought instrument: with OPPOSITE polarity the other's prices are mirrored. Of an
    event no names; bought is what one of each leg costs together, sold what they pay at the least.
    """
    size, sized = found.walk.size, found.walk.legs
    if found.link.kind == "EVENT":
        return "", "", found.walk.cost_e6 * MICRO // size, found.floor_e6
    bought, sold = (0, 1) if found.legs[0].side == "BUY" else (1, 0)
    names = [leg.instrument.instrument for leg in found.legs]
    # The bought leg costs its price; the sold one costs the complement of its price, whichever token that is.
    buy_e6, rest_e6 = (sized[place].cost_e6 * MICRO // size for place in (bought, sold))
    return names[bought], names[sold], buy_e6, MICRO - rest_e6


def _average_e6(leg: OpenLeg, sized: SizedLeg) -> int:
    paid_e6 = sized.cost_e6 * MICRO // sized.size
    return paid_e6 if leg.side == "BUY" else MICRO - paid_e6


def _place(instrument: Instrument) -> str:
    """Return where the capital for an instrument must lie: at Kalshi each exchange is a shard with money of its own."""
    return f"{instrument.venue}/{instrument.exchange_index}" if instrument.venue == "kalshi" else instrument.venue
