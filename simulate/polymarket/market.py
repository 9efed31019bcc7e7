"""One Polymarket market: a single book in YES that both tokens mirror, and the hash of either token's book."""

import hashlib
from fractions import Fraction
from typing import NamedTuple

from core.domain.units import MICRO, ONE_DOLLAR_E4, from_fixed
from simulate.grid import polymarket_grid
from simulate.history import History
from simulate.matching import Matcher, Side
from simulate.polymarket.text import PRICES, level_text
from simulate.universe import LinkedMarket

MIN_ORDER_SIZE = 5


class TokenBook(NamedTuple):
    """One token's book as text: what is sent, and what is hashed."""

    bids: str
    asks: str
    hash: str
    best_bid: str
    best_ask: str


class PolymarketMarket:
    """State of one listed market."""

    def __init__(self, linked: LinkedMarket, matcher: Matcher | None = None) -> None:
        """List a market; without `matcher` with an empty book of its own."""
        self.linked = linked
        self.condition_id = linked.condition_id
        self.tokens = (linked.yes_token, linked.no_token)
        self.neg_risk = linked.neg_risk
        self.size_min_e6 = MIN_ORDER_SIZE * MICRO
        self.fee_rate = Fraction(linked.fee_rate)
        self.tick_e4 = linked.tick_e4
        self.grid = polymarket_grid(linked.tick_e4)
        self.matcher = matcher if matcher is not None else Matcher()
        self.history = History()
        self.accepting = True
        self.closed = False
        self.resolution = ""
        """The oracle's word: proposed, then resolved."""
        self.paid_e4: int | None = None
        """What one YES token is redeemed for, once it is resolved."""
        self.last_price = ""
        """Of whichever token traded last, with three decimals at least; never complemented for the other token."""

    @property
    def tick_text(self) -> str:
        return PRICES[self.tick_e4]

    def outcome(self, token: str) -> str:
        """Return the outcome a token stands for."""
        return "Yes" if token == self.tokens[0] else "No"

    def other(self, token: str) -> str:
        """Return the complementary token."""
        return self.tokens[1] if token == self.tokens[0] else self.tokens[0]

    def set_tick(self, tick_e4: int) -> None:
        """Change the grid; resting orders stay."""
        self.tick_e4 = tick_e4
        self.grid = polymarket_grid(tick_e4)

    def note_trade(self, token_price_e4: int) -> None:
        """Remember the last price, of the token that traded."""
        self.last_price = from_fixed(token_price_e4, -4, places_min=3)

    # hot: twice for each change of each book
    def book(self, token: str, now_ms: int) -> TokenBook:
        """Return one token's book with its hash at `now_ms`."""
        bids = self.matcher.levels(Side.BID)
        asks = self.matcher.levels(Side.ASK)
        # Ascending bids and descending asks: the best of either side is last. Mirrored, the order stays right.
        if token == self.tokens[0]:
            bid_text = ",".join([level_text(price, size) for price, size in reversed(bids)])
            ask_text = ",".join([level_text(price, size) for price, size in reversed(asks)])
            best_bid = PRICES[bids[0][0]] if bids else "0"
            best_ask = PRICES[asks[0][0]] if asks else "1"
        else:
            bid_text = ",".join([level_text(ONE_DOLLAR_E4 - price, size) for price, size in reversed(asks)])
            ask_text = ",".join([level_text(ONE_DOLLAR_E4 - price, size) for price, size in reversed(bids)])
            best_bid = PRICES[ONE_DOLLAR_E4 - asks[0][0]] if asks else "0"
            best_ask = PRICES[ONE_DOLLAR_E4 - bids[0][0]] if bids else "1"
        hashed = (
            f'{{"market":"{self.condition_id}","asset_id":"{token}","timestamp":"{now_ms}","hash":"",'
            f'"bids":[{bid_text}],"asks":[{ask_text}],"min_order_size":"{MIN_ORDER_SIZE}",'
            f'"tick_size":"{self.tick_text}","neg_risk":{"true" if self.neg_risk else "false"},'
            f'"last_trade_price":"{self.last_price}"}}'
        )
        digest = hashlib.sha1(hashed.encode(), usedforsecurity=False).hexdigest()
        return TokenBook(bid_text, ask_text, digest, best_bid, best_ask)

    def rest_book(self, token: str, now_ms: int) -> str:
        """Return the body of `GET /book`, which carries all ten hashed fields."""
        book = self.book(token, now_ms)
        return (
            f'{{"market":"{self.condition_id}","asset_id":"{token}","timestamp":"{now_ms}","hash":"{book.hash}",'
            f'"bids":[{book.bids}],"asks":[{book.asks}],"min_order_size":"{MIN_ORDER_SIZE}",'
            f'"tick_size":"{self.tick_text}","neg_risk":{"true" if self.neg_risk else "false"},'
            f'"last_trade_price":"{self.last_price}"}}'
        )
