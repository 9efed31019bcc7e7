"""Two-venue arbitrage: buy an outcome where it is cheap, sell it where it is dear, by an approved link.

One saga at a time per link; after a saga or a refusal the link rests for `cooldown_ms`. The leg whose outcome is least
certain goes first (`conduct.rank`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from core.domain.errors import MalformedFrame
from core.domain.units import ONE_DOLLAR_E4
from core.runtime.flow import StateCodec
from decide.conduct import CONDUCTS, is_open
from decide.edges import OpenLeg, SizedLeg, Walk, levels_of, payout_floor, walk
from decide.ports import Decision, View
from schemas import decision
from schemas.decision import Edge, Intent, Leg, Link, Saga
from schemas.derived import Depth, Quote
from schemas.enums import EdgePhase, Side
from schemas.market import Trade

NS_PER_MS = 1_000_000
E4_TO_E6 = 100


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters, as JSON in `decision.Strategy.params`; money and sizes at 1e-6."""

    min_profit_e6: int = 100_000
    """of a whole intent, after fees"""
    min_profit_per_contract_e6: int = 0
    """before fees, of the worst level walked"""
    size_max: int = 50_000_000
    cooldown_ms: int = 1_000
    """a link rests this long after a saga or a refusal"""
    holding_rest_ms: int = 60_000
    """and this long after a saga that could not be balanced"""
    refresh_ms: int = 250
    """at most one REFRESH of an edge in this time"""


class _Direction(NamedTuple):
    side_a: Side
    side_b: Side


_DIRECTIONS = {
    "SAME": (_Direction("BUY", "SELL"), _Direction("SELL", "BUY")),
    "OPPOSITE": (_Direction("BUY", "BUY"), _Direction("SELL", "SELL")),
}


class _Found(NamedTuple):
    """An opportunity: legs in the order a, b of the link."""

    direction: _Direction
    legs: tuple[OpenLeg, OpenLeg]
    depths: tuple[Depth, Depth]
    walk: Walk


@dataclass
class _Active:
    """An edge that has begun."""

    record: Edge
    direction: _Direction
    said_ns: int


class _Memory(msgspec.Struct, frozen=True):
    active: list[tuple[str, Edge, _Direction, int]]
    """link, edge, direction, when it was last said; in the order in which they began"""
    rests_until_ns: dict[str, int]


_MEMORY = StateCodec(_Memory, 1)


@dataclass
class CrossVenue:
    """One running instance."""

    params: Params
    _active: dict[str, _Active] = field(default_factory=dict)
    _rests_until_ns: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: decision.Strategy) -> "CrossVenue":
        """Return an instance with the parameters of `config`.

        Raises:
            MalformedFrame: the parameters are not JSON, name an unknown one, or have a wrong type.
        """
        try:
            return cls(msgspec.json.decode(config.params or "{}", type=Params))
        except msgspec.MsgspecError as e:
            raise MalformedFrame(f"strategy {config.id} (cross_venue): params: {e}") from e

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
            found = self._find(link, view)
            active = self._active.get(link.id)
            if active is not None and (found is None or found.direction != active.direction):
                yield self._end(link.id, view, quote.recv_ts_ns, quote.trail)
            if found is None:
                continue
            edge = self._tell(link, found, quote, view)
            if edge is not None:
                yield edge
            if self._may_act(link.id, view):
                intent = self._intent(link, found, quote, view)
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
        for name in list(self._active):
            link = view.link(name)
            if link is None or view.depth(link.instrument_a) is None or view.depth(link.instrument_b) is None:
                yield self._end(name, view, view.now_ns, [])

    def on_stop(self, view: View) -> Iterator[Decision]:
        """End all edges."""
        for name in list(self._active):
            yield self._end(name, view, view.now_ns, [])

    # Finding

    def _find(self, link: Link, view: View) -> _Found | None:
        """Return the better direction with enough profit, None if neither has it."""
        sides = (view.instrument(link.instrument_a), view.instrument(link.instrument_b))
        depths = (view.depth(link.instrument_a), view.depth(link.instrument_b))
        if sides[0] is None or sides[1] is None or depths[0] is None or depths[1] is None:
            return None
        if not (is_open(sides[0], view.now_ns) and is_open(sides[1], view.now_ns)):
            return None
        best: _Found | None = None
        for direction in _DIRECTIONS.get(link.polarity, ()):
            legs = (
                OpenLeg(sides[0], direction.side_a, levels_of(depths[0], direction.side_a)),
                OpenLeg(sides[1], direction.side_b, levels_of(depths[1], direction.side_b)),
            )
            walked = walk(
                *legs,
                floor_e6=payout_floor(link, *direction),
                size_max=self.params.size_max,
                unit_profit_min_e6=self.params.min_profit_per_contract_e6,
            )
            if walked is None or walked.profit_e6 < self.params.min_profit_e6:
                continue
            if best is None or walked.profit_e6 > best.walk.profit_e6:
                best = _Found(direction, legs, (depths[0], depths[1]), walked)
        return best

    def _may_act(self, link: str, view: View) -> bool:
        return view.may_trade() and not view.is_busy(link) and view.now_ns >= self._rests_until_ns.get(link, 0)

    # Records

    def _tell(self, link: Link, found: _Found, quote: Quote, view: View) -> Edge | None:
        """Begin the edge, or refresh it when it changed and the last word is old enough."""
        active = self._active.get(link.id)
        if active is None:
            edge = _edge(link, found, quote, view, edge_id=view.new_id(), phase="BEGIN", begin_ns=view.now_ns)
        else:
            if view.now_ns - active.said_ns < self.params.refresh_ms * NS_PER_MS:
                return None
            edge = _edge(
                link, found, quote, view, edge_id=active.record.id, phase="REFRESH", begin_ns=active.record.begin_ns
            )
            if (edge.size, edge.profit_e6) == (active.record.size, active.record.profit_e6):
                return None
        self._active[link.id] = _Active(edge, found.direction, view.now_ns)
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

    def _intent(self, link: Link, found: _Found, quote: Quote, view: View) -> Intent | None:
        legs = []
        for leg, sized, depth in zip(found.legs, found.walk.legs, found.depths, strict=True):
            account = view.account(leg.instrument.venue)
            if account is None:
                return None
            legs.append((CONDUCTS[leg.instrument.venue].rank, _leg(leg, sized, depth, account)))
        legs.sort(key=lambda ranked: ranked[0])
        return Intent(
            id=view.new_id(),
            strategy=view.strategy.id,
            link=link.id,
            account_set=view.strategy.account_set,
            edge=self._active[link.id].record.id,
            now_ns=view.now_ns,
            legs=[leg for _, leg in legs],
            profit_e6=found.walk.profit_e6,
            input_partition=view.partition,
            input_offset=view.offset,
            recv_ts_ns=quote.recv_ts_ns,
            trail=quote.trail,
        )


def _leg(leg: OpenLeg, sized: SizedLeg, depth: Depth, account: str) -> Leg:
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
    )


def _edge(
    link: Link, found: _Found, quote: Quote, view: View, *, edge_id: str, phase: EdgePhase, begin_ns: int
) -> Edge:
    """Return the edge in terms of YES of instrument a: with OPPOSITE polarity, prices of b are mirrored."""
    a_buys = found.direction.side_a == "BUY"
    bought, sold = (0, 1) if a_buys else (1, 0)
    names = (link.instrument_a, link.instrument_b)
    size = found.walk.size
    # The bought leg costs its price; the sold one costs the complement of its price, whichever token that is.
    buy_e6 = found.walk.legs[bought].cost_e6 * 1_000_000 // size
    sell_e6 = ONE_DOLLAR_E4 * E4_TO_E6 - found.walk.legs[sold].cost_e6 * 1_000_000 // size
    return Edge(
        id=edge_id,
        strategy=view.strategy.id,
        link=link.id,
        phase=phase,
        buy_instrument=names[bought],
        sell_instrument=names[sold],
        size=size,
        buy_price_e6=buy_e6,
        sell_price_e6=sell_e6,
        cost_e6=found.walk.cost_e6 + found.walk.fees_e6,
        fees_e6=found.walk.fees_e6,
        profit_e6=found.walk.profit_e6,
        begin_ns=begin_ns,
        now_ns=view.now_ns,
        input_partition=view.partition,
        input_offset=view.offset,
        recv_ts_ns=quote.recv_ts_ns,
        trail=quote.trail,
    )
