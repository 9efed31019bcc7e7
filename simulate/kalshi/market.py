"""One Kalshi market: its book, its grid and the numbers of its summary."""

from fractions import Fraction
from typing import NamedTuple

from simulate.grid import KALSHI_STRUCTURES, Grid
from simulate.history import History
from simulate.matching import Matcher
from simulate.universe import KALSHI_SERIES, LinkedMarket

CLOSE_S = 1_924_991_940
"""2030-12-31T23:59:00Z."""


class Rules(NamedTuple):
    """What a market's series decides: fees and price grid."""

    fee_type: str
    multiplier: Fraction
    structure: str
    grid: Grid


class KalshiMarket:
    """State of one listed market."""

    def __init__(self, linked: LinkedMarket, rules: Rules | None = None, matcher: Matcher | None = None) -> None:
        """List a market; without `rules` those of its series, without `matcher` an empty book of its own."""
        self.linked = linked
        self.ticker = linked.kalshi_ticker
        self.market_id = linked.kalshi_market_id
        self.fee_type, self.multiplier, self.structure, self.grid = rules or _rules_of(linked.kalshi_series)
        self.matcher = matcher if matcher is not None else Matcher()
        self.history = History()
        self.status = "active"
        self.result = ""
        self.value_e4: int | None = None
        """What one YES pays, once it is determined."""
        self.close_s = CLOSE_S
        """When it closes, seconds since the epoch."""
        self.exchange_index = 0
        """The shard it trades on."""
        self.last_price_e4 = 0
        self.last_size_e6 = 0
        self.volume_e6 = 0
        self.top: tuple[int, int, int, int] = (0, 0, 0, 0)
        """Best bid and its size, best ask and its size, as the ticker channel last told."""

    def set_structure(self, structure: str) -> None:
        """Change the grid; resting orders stay."""
        self.structure = structure
        self.grid = Grid(KALSHI_STRUCTURES[structure])


def _rules_of(series: str) -> Rules:
    fee_type, multiplier, structure = KALSHI_SERIES[series]
    return Rules(fee_type, Fraction(multiplier), structure, Grid(KALSHI_STRUCTURES[structure]))
