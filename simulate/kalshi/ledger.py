"""Kalshi accounts: cash exact to a micro-dollar, one net position a market, orders and fills."""

import copy
from typing import Any

import msgspec

from core.domain.units import ONE_DOLLAR_E4
from simulate.kalshi.fees import FeeAccumulator, trade_fee
from simulate.kalshi.market import KalshiMarket
from simulate.matching import Order, Side


class Position(msgspec.Struct):
    """A signed position: above zero YES, below zero NO. `cost_e6` is what the open part cost."""

    size_e6: int = 0
    cost_e6: int = 0
    realized_e6: int = 0
    fees_e6: int = 0
    traded_e6: int = 0
    volume_e6: int = 0
    updated_ns: int = 0


class OwnOrder:
    """A client's order: the engine's, and what the venue remembers about it."""

    __slots__ = (
        "account",
        "accumulator",
        "body",
        "canceled_e6",
        "client_order_id",
        "created_ns",
        "engine",
        "fees_e6",
        "fill_cost_e6",
        "market",
        "reason",
        "resting",
        "updated_ns",
    )

    def __init__(
        self,
        account: "KalshiAccount",
        engine: Order,
        market: KalshiMarket,
        client_order_id: str,
        body: dict[str, Any],
        now_ns: int,
    ) -> None:
        self.account = account
        self.engine = engine
        self.market = market
        self.client_order_id = client_order_id
        self.body = body
        self.created_ns = now_ns
        self.updated_ns = now_ns
        self.accumulator = FeeAccumulator()
        self.resting = False
        self.canceled_e6 = 0
        self.reason = ""
        self.fees_e6 = {True: 0, False: 0}
        self.fill_cost_e6 = {True: 0, False: 0}

    def as_of(self) -> "OwnOrder":
        """Return a copy that stays as the order is now."""
        taken = copy.copy(self)
        taken.engine = copy.copy(self.engine)
        taken.fees_e6, taken.fill_cost_e6 = dict(self.fees_e6), dict(self.fill_cost_e6)
        return taken

    @property
    def remaining_e6(self) -> int:
        return self.engine.remaining if self.resting else 0

    @property
    def status(self) -> str:
        if self.resting:
            return "resting"
        return "executed" if self.engine.filled == self.engine.size else "canceled"


class Fill(msgspec.Struct, frozen=True):
    """One execution of one account's order."""

    trade_id: str
    order: OwnOrder
    price_e4: int
    size_e6: int
    fee_e6: int
    is_taker: bool
    post_position_e6: int
    at_ns: int


class Payment(msgspec.Struct, frozen=True):
    """What a market paid an account: the signed position, and the cash in whole cents."""

    result: str
    size_e6: int
    revenue_cents: int
    cost_e6: int
    fees_e6: int
    value_e4: int
    at_ns: int


class KalshiAccount:
    """One member."""

    def __init__(self, name: str, user_id: str, cash_e6: int) -> None:
        self.name = name
        self.user_id = user_id
        self.exchange_index = 0
        """The shard its money lies on: on any other it has none."""
        self.nets_events = False
        """Its setting of collateral return across events; what that would do to its cash is not simulated."""
        self.cash_start_e6 = cash_e6
        self.cash_e6 = cash_e6
        self.fees_e6 = 0
        self.positions: dict[str, Position] = {}
        self.orders: dict[str, OwnOrder] = {}
        self.resting: dict[str, OwnOrder] = {}
        self.by_client_id: dict[str, OwnOrder] = {}
        self.attempts: dict[str, int] = {}
        self.fills: list[Fill] = []
        self.settlements: dict[str, Payment] = {}
        """What each market paid, as last corrected."""

    def as_of(self) -> "KalshiAccount":
        """Return a copy that stays as the account is now."""
        taken = copy.copy(self)
        taken.orders = {name: own.as_of() for name, own in self.orders.items()}
        taken.resting = {name: taken.orders[name] for name in self.resting}
        taken.positions = {ticker: copy.copy(position) for ticker, position in self.positions.items()}
        taken.fills = list(self.fills)
        taken.settlements = dict(self.settlements)
        return taken

    def position(self, ticker: str) -> Position:
        """Return the position of a market, made on first use."""
        position = self.positions.get(ticker)
        if position is None:
            position = self.positions[ticker] = Position()
        return position

    def book_fill(
        self, order: OwnOrder, trade_id: str, price_e4: int, size_e6: int, *, is_taker: bool, now_ns: int
    ) -> Fill:
        """Move cash, position and fees of one execution."""
        market = order.market
        buys_yes = order.engine.side is Side.BID
        cost = price_e4 * size_e6 // ONE_DOLLAR_E4
        fee = order.accumulator.charge(
            -cost if buys_yes else cost,
            trade_fee(size_e6, price_e4, fee_type=market.fee_type, multiplier=market.multiplier, is_taker=is_taker),
        )
        position = self.position(market.ticker)
        self.cash_e6 += _settle(position, buys_yes=buys_yes, price_e4=price_e4, size_e6=size_e6) - fee
        self.fees_e6 += fee
        position.fees_e6 += fee
        position.traded_e6 += cost if buys_yes else size_e6 - cost
        position.volume_e6 += size_e6
        position.updated_ns = now_ns
        order.fees_e6[is_taker] += fee
        order.fill_cost_e6[is_taker] += cost if buys_yes else size_e6 - cost
        order.updated_ns = now_ns
        order.reason = "Trade"
        fill = Fill(trade_id, order, price_e4, size_e6, fee, is_taker, position.size_e6, now_ns)
        self.fills.append(fill)
        return fill

    def reserved_e6(self, extra: Order | None = None, extra_ticker: str = "") -> int:
        """Return the collateral that resting orders (and `extra`) hold back."""
        books: dict[tuple[str, Side], list[tuple[int, int]]] = {}
        for own in self.resting.values():
            key = (own.market.ticker, own.engine.side)
            books.setdefault(key, []).append((own.engine.price, own.engine.remaining))
        if extra is not None:
            books.setdefault((extra_ticker, extra.side), []).append((extra.price, extra.remaining))
        return sum(
            _collateral(side, levels, self.positions[ticker].size_e6 if ticker in self.positions else 0)
            for (ticker, side), levels in books.items()
        )

    def can_afford(self, order: Order, market: KalshiMarket, fee_e6: int) -> bool:
        """Tell whether cash covers all resting orders and this one with its fee."""
        return self.reserved_e6(order, market.ticker) + fee_e6 <= self.cash_e6


def _settle(position: Position, *, buys_yes: bool, price_e4: int, size_e6: int) -> int:
    """Apply one execution to a net position; return the signed cash without fees.

    Opening costs p for YES and 1 - p for NO; closing pays the other side of it: a YES and a NO together are a dollar.
    """
    held = -position.size_e6 if buys_yes else position.size_e6
    closing = min(size_e6, max(held, 0))
    opening = size_e6 - closing
    unit = price_e4 if buys_yes else ONE_DOLLAR_E4 - price_e4
    proceeds = (ONE_DOLLAR_E4 - unit) * closing // ONE_DOLLAR_E4
    if closing:
        released = position.cost_e6 * closing // held
        position.cost_e6 -= released
        position.realized_e6 += proceeds - released
    opened = unit * opening // ONE_DOLLAR_E4
    position.cost_e6 += opened
    position.size_e6 += size_e6 if buys_yes else -size_e6
    return proceeds - opened


def _collateral(side: Side, levels: list[tuple[int, int]], position_e6: int) -> int:
    """Return what one side's resting orders of one market hold back; what closes a position holds nothing."""
    bid = side is Side.BID
    free = max(-position_e6 if bid else position_e6, 0)
    total = 0
    for price, size in sorted(levels, reverse=bid):
        closing = min(size, free)
        free -= closing
        total += (price if bid else ONE_DOLLAR_E4 - price) * (size - closing) // ONE_DOLLAR_E4
    return total
