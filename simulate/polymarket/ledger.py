"""Polymarket accounts: collateral, tokens, open orders, trades."""

import copy
from typing import Any

import msgspec

from core.domain.units import ONE_DOLLAR_E4
from simulate.credentials import PolymarketWallet
from simulate.matching import Order, Side
from simulate.polymarket.amounts import OrderType
from simulate.polymarket.market import PolymarketMarket


class OwnOrder:
    """A client's order: the engine's, and what the venue remembers about it."""

    __slots__ = (
        "account",
        "body",
        "buys",
        "created_ns",
        "engine",
        "market",
        "order_id",
        "order_type",
        "original_e6",
        "price_e4",
        "spent_e6",
        "status",
        "token",
        "trades",
    )

    def __init__(
        self,
        account: "PolymarketAccount",
        market: PolymarketMarket,
        order_id: str,
        token: str,
        body: dict[str, Any],
        *,
        buys: bool,
        price_e4: int,
        original_e6: int,
        order_type: OrderType,
        engine: Order,
        now_ns: int,
    ) -> None:
        self.account = account
        self.market = market
        self.order_id = order_id
        self.token = token
        self.body = body
        self.buys = buys
        self.price_e4 = price_e4
        self.original_e6 = original_e6
        """Shares, but for a market BUY the money to spend, as the venue shows it."""
        self.order_type = order_type
        self.engine = engine
        self.created_ns = now_ns
        self.status = "LIVE"
        self.spent_e6 = 0
        self.trades: list[str] = []

    def as_of(self) -> "OwnOrder":
        """Return a copy that stays as the order is now."""
        taken = copy.copy(self)
        taken.engine, taken.trades = copy.copy(self.engine), list(self.trades)
        return taken

    @property
    def side(self) -> str:
        return "BUY" if self.buys else "SELL"

    def token_price(self, yes_price_e4: int) -> int:
        """Return a price of the YES book in the terms of this order's token."""
        return yes_price_e4 if self.token == self.market.tokens[0] else ONE_DOLLAR_E4 - yes_price_e4


class MakerFill(msgspec.Struct, frozen=True):
    """One maker's part of a trade; `own` is None for the flow's orders."""

    own: OwnOrder | None
    order_id: str
    owner: str
    address: str
    token: str
    side: str
    price_e4: int
    size_e6: int


class Trade(msgspec.Struct):
    """One match: a taker with the makers of one price. Settles through `status`."""

    trade_id: str
    market: PolymarketMarket
    taker: OwnOrder | None
    taker_order_id: str
    taker_owner: str
    taker_address: str
    token: str
    side: str
    price_e4: int
    size_e6: int
    fee_e6: int
    bucket: int
    makers: list[MakerFill]
    transaction: str
    matched_ns: int
    yes_price_e4: int
    status: str = "MATCHED"
    updated_ns: int = 0
    is_ghost: bool = False
    """The private stream says nothing of how its settlement goes."""

    def parties(self) -> "list[tuple[OwnOrder, str, int, int]]":
        """Return each client's order of it with token, size and fee."""
        found = [(self.taker, self.token, self.size_e6, self.fee_e6)] if self.taker is not None else []
        return found + [(maker.own, maker.token, maker.size_e6, 0) for maker in self.makers if maker.own is not None]

    def accounts(self) -> "list[PolymarketAccount]":
        """Return the accounts that take part, each once."""
        found = [self.taker.account] if self.taker is not None else []
        found.extend(maker.own.account for maker in self.makers if maker.own is not None)
        return list({account.name: account for account in found}.values())


class PolymarketAccount:
    """One wallet with its API key."""

    def __init__(self, wallet: PolymarketWallet, collateral_e6: int) -> None:
        self.wallet = wallet
        self.name = wallet.account
        self.collateral_start_e6 = collateral_e6
        self.collateral_e6 = collateral_e6
        self.fees_e6 = 0
        self.tokens: dict[str, int] = {}
        self.unsettled: dict[str, int] = {}
        """Bought and not yet mined: held, but not to be sold."""
        self.orders: dict[str, OwnOrder] = {}
        self.open: dict[str, OwnOrder] = {}
        self.attempts: dict[str, int] = {}
        self.trades: list[Trade] = []
        self.heartbeat_id = ""
        self.heartbeat_at = 0.0

    def as_of(self) -> "PolymarketAccount":
        """Return a copy that stays as the account is now."""
        taken = copy.copy(self)
        taken.orders = {name: own.as_of() for name, own in self.orders.items()}
        taken.open = {name: taken.orders[name] for name in self.open}
        taken.tokens, taken.unsettled = dict(self.tokens), dict(self.unsettled)
        taken.trades = [copy.copy(trade) for trade in self.trades]
        return taken

    def committed_e6(self) -> int:
        """Return the collateral that open BUY orders hold."""
        return sum(
            own.engine.budget_e6
            if own.engine.budget_e6 is not None
            else own.engine.remaining * own.price_e4 // ONE_DOLLAR_E4
            for own in self.open.values()
            if own.buys
        )

    def free_e6(self) -> int:
        """Return the collateral a new BUY may use."""
        return self.collateral_e6 - self.committed_e6()

    def free_shares(self, token: str) -> int:
        """Return how much of a token a new SELL may use."""
        promised = sum(own.engine.remaining for own in self.open.values() if not own.buys and own.token == token)
        return self.tokens.get(token, 0) - self.unsettled.get(token, 0) - promised

    def book_fill(self, own: OwnOrder, yes_price_e4: int, size_e6: int, fee_e6: int) -> None:
        """Move collateral and tokens of one execution."""
        cost = own.token_price(yes_price_e4) * size_e6 // ONE_DOLLAR_E4
        held = self.tokens.get(own.token, 0)
        if own.buys:
            self.collateral_e6 -= cost
            self.tokens[own.token] = held + size_e6
            self.unsettled[own.token] = self.unsettled.get(own.token, 0) + size_e6
        else:
            self.collateral_e6 += cost
            self.tokens[own.token] = held - size_e6
        own.spent_e6 += cost
        self.collateral_e6 -= fee_e6
        self.fees_e6 += fee_e6

    def reverse_fill(self, own: OwnOrder, yes_price_e4: int, size_e6: int, fee_e6: int) -> None:
        """Take one execution back: its settlement failed before it was mined."""
        cost = own.token_price(yes_price_e4) * size_e6 // ONE_DOLLAR_E4
        if own.buys:
            self.collateral_e6 += cost
            self.tokens[own.token] -= size_e6
            self.unsettled[own.token] -= size_e6
        else:
            self.collateral_e6 -= cost
            self.tokens[own.token] = self.tokens.get(own.token, 0) + size_e6
        self.collateral_e6 += fee_e6
        self.fees_e6 -= fee_e6

    def settle(self, token: str, size_e6: int) -> None:
        """Let bought shares be sold."""
        self.unsettled[token] -= size_e6


def engine_side(*, buys: bool, is_yes: bool) -> Side:
    """Return the side of the YES book: buying NO is selling YES."""
    return Side.BID if buys is is_yes else Side.ASK


def account_state(account: PolymarketAccount) -> dict[str, Any]:
    """Return an account as `/sim/accounts` shows it: `tokens` are settled, what is bought and not yet mined is not in it."""
    return {
        "account": account.name,
        "address": account.wallet.address,
        "api_key": account.wallet.api_key,
        "cash_start_e6": account.collateral_start_e6,
        "cash_e6": account.collateral_e6,
        "reserved_e6": account.committed_e6(),
        "fees_e6": account.fees_e6,
        "tokens": {token: held - account.unsettled.get(token, 0) for token, held in account.tokens.items()},
        "unsettled": {token: size for token, size in account.unsettled.items() if size},
        "open_orders": [
            {
                "order_id": own.order_id,
                "token_id": own.token,
                "side": own.side,
                "price_e4": own.price_e4,
                "remaining_e6": own.engine.remaining,
            }
            for own in account.open.values()
        ],
        "orders": len(account.orders),
        "trades": len(account.trades),
    }
