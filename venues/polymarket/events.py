"""What Polymarket's market channel says, as exact values.

Prices at 1e-4 dollar of the token named (`asset_id`), sizes at 1e-6, times in ns or ms as the name says (0: not stated).
"""

from typing import Literal

import msgspec

from venues.text import NS_PER_MS

Side = Literal["BUY", "SELL"]
Level = tuple[int, int]
"""Price at 1e-4, size at 1e-6."""


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A token's whole book, best first. It replaces all that was known of the token.

    `tick` 0 and `last_trade_price` None mean not stated (refreshes after trades omit both): keep what was known.
    `last_trade_price` is the venue's text as it enters the hash, `""` when there was no trade.
    `size_min` and `neg_risk` are stated over REST only.
    """

    asset_id: str
    market: str
    bids: list[Level]
    asks: list[Level]
    time_ms: int
    hash: str
    tick: int
    last_trade_price: str | None
    size_min: int | None
    neg_risk: bool | None

    @property
    def time_ns(self) -> int:
        """The venue's time."""
        return self.time_ms * NS_PER_MS


class LevelChange(msgspec.Struct, frozen=True):
    """The new size of one level of one token, 0: gone. BUY is the bid side. `hash` is that of the token's whole book."""

    asset_id: str
    side: Side
    price: int
    size: int
    hash: str
    best_bid: int | None
    best_ask: int | None


class PriceChange(msgspec.Struct, frozen=True):
    """Changes of levels, usually one for each token of the market; repeats occur and are harmless."""

    market: str
    time_ms: int
    changes: list[LevelChange]

    @property
    def time_ns(self) -> int:
        """The venue's time."""
        return self.time_ms * NS_PER_MS


class LastTrade(msgspec.Struct, frozen=True):
    """A public trade; `side` is the aggressor's. There is no trade id, and equal prints within 1 ms are real."""

    asset_id: str
    market: str
    price: int
    size: int
    side: Side
    time_ns: int
    transaction_hash: str


class TickSizeChange(msgspec.Struct, frozen=True):
    """A new tick: orders off its grid are refused from now on."""

    asset_id: str
    market: str
    old_tick: int
    new_tick: int
    time_ns: int


class BestBidAsk(msgspec.Struct, frozen=True):
    """Best prices as the venue states them, sometimes wrong or one-sided: for cross-checks only."""

    asset_id: str
    market: str
    bid: int | None
    ask: int | None
    time_ns: int


class NewMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A new market, sent many times over. `fee_rate_e6` None: not stated (0: free)."""

    id: str
    condition_id: str
    slug: str
    question: str
    token_ids: list[str]
    outcomes: list[str]
    event_id: str
    event_title: str
    tick: int
    active: bool
    fee_rate_e6: int | None
    fee_exponent: int
    time_ns: int


class MarketResolved(msgspec.Struct, frozen=True):
    """A market's outcome."""

    condition_id: str
    token_ids: list[str]
    winning_asset_id: str
    winning_outcome: str
    time_ns: int


class Pong(msgspec.Struct, frozen=True):
    """The answer to our text PING."""


class Unknown(msgspec.Struct, frozen=True):
    """A message whose type we do not know; empty type: it names none and its shape is not unambiguous."""

    event_type: str


Event = Book | PriceChange | LastTrade | TickSizeChange | BestBidAsk | NewMarket | MarketResolved | Pong | Unknown
