"""One Kalshi market: its book, its grid and the numbers of its summary."""

from fractions import Fraction

from simulate.grid import KALSHI_STRUCTURES, Grid
from simulate.history import History
from simulate.matching import Matcher
from simulate.universe import KALSHI_SERIES, LinkedMarket


class KalshiMarket:
    """State of one listed market."""

    def __init__(self, linked: LinkedMarket) -> None:
        self.linked = linked
        self.ticker = linked.kalshi_ticker
        self.market_id = linked.kalshi_market_id
        self.fee_type, multiplier, self.structure = KALSHI_SERIES[linked.kalshi_series]
        self.multiplier = Fraction(multiplier)
        self.grid = Grid(KALSHI_STRUCTURES[self.structure])
        self.matcher = Matcher()
        self.history = History()
        self.status = "active"
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
