"""Two-instrument arbitrage: buy an outcome where it is cheap, sell it where it is dear, by an approved link of a pair.

The pair may stand at two venues, or at one: two markets of one venue that complement each other are an OPPOSITE pair.
"""

from typing import NamedTuple

import msgspec

from core.domain.errors import MalformedFrame
from decide.conduct import is_open
from decide.edges import payout_floor
from decide.ports import View
from decide.strategies.edge_trader import EdgeTrader, Found, Pace
from decide.strategies.intents import open_leg
from schemas import decision
from schemas.decision import Link
from schemas.enums import Side


class Params(Pace, frozen=True, forbid_unknown_fields=True):
    """Parameters: those of every kind of edge."""


class _Direction(NamedTuple):
    side_a: Side
    side_b: Side


_DIRECTIONS = {
    "SAME": (_Direction("BUY", "SELL"), _Direction("SELL", "BUY")),
    "OPPOSITE": (_Direction("BUY", "BUY"), _Direction("SELL", "SELL")),
}


class CrossVenue(EdgeTrader):
    """One running instance."""

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

    def find(self, link: Link, view: View) -> Found | None:
        """Return the better direction with enough profit, None if neither has it."""
        if link.kind == "EVENT":
            return None
        a, b = view.instrument(link.instrument_a), view.instrument(link.instrument_b)
        depths = (view.depth(link.instrument_a), view.depth(link.instrument_b))
        if a is None or b is None or depths[0] is None or depths[1] is None:
            return None
        if not (is_open(a, view.now_ns) and is_open(b, view.now_ns)):
            return None
        best: Found | None = None
        for direction in _DIRECTIONS.get(link.polarity, ()):
            legs = (open_leg(a, direction.side_a, depths[0]), open_leg(b, direction.side_b, depths[1]))
            floor_e6 = payout_floor(link, *direction)
            walked = self.sized(link, legs, floor_e6)
            if walked is not None and (best is None or walked.profit_e6 > best.walk.profit_e6):
                best = Found(link, "/".join(direction), legs, (depths[0], depths[1]), walked, floor_e6)
        return best
