"""Kalshi's matching and bookkeeping: orders in, book changes, trades and private messages out."""

import asyncio
import time
import uuid
from typing import Any, NamedTuple, cast

from simulate.history import Stated
from simulate.kalshi.fees import trade_fee
from simulate.kalshi.ledger import Fill, KalshiAccount, OwnOrder
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.statements import Fees, Statements
from simulate.kalshi.stream import KalshiStream
from simulate.kalshi.text import average_text, count_text, price_ranges
from simulate.matching import (
    NEVER_RESTED,
    Canceled,
    CancelReason,
    Event,
    Filled,
    Order,
    Rested,
    Side,
    TimeInForce,
)
from simulate.mishaps import Mishaps
from simulate.truth import TruthLog
from simulate.universe import LinkedMarket

_REASON_TEXT = {
    CancelReason.USER: "Decrease",
    CancelReason.UNFILLED: "",
    CancelReason.KILLED: "",
    CancelReason.POST_ONLY_CROSS: "PostOnlyCrossCancel",
    CancelReason.SELF_TRADE: "SelfTradeCancel",
    CancelReason.EXPIRED: "ExpiryCancel",
    CancelReason.VENUE: "HaltCancel",
    CancelReason.CLOSED: "CloseCancel",
}


class OrderRefused(Exception):
    """An order the exchange does not take: HTTP status and body."""

    def __init__(self, status: int, code: str, details: str = "") -> None:
        super().__init__(f"{status} {code} {details}".rstrip())
        self.status = status
        error: dict[str, str] = {"code": code, "message": code.replace("_", " ")}
        if details:
            error["details"] = details
        self.body = {"error": error}


class NewOrder(NamedTuple):
    """A parsed V2 create request."""

    ticker: str
    client_order_id: str
    side: Side
    price_e4: int
    size_e6: int
    time_in_force: TimeInForce
    post_only: bool
    expires_ns: int
    body: dict[str, Any]


class KalshiExchange:
    """All markets and accounts."""

    mishaps: Mishaps

    def __init__(
        self,
        universe: list[LinkedMarket],
        account_names: list[str],
        cash_e6: int,
        stream: KalshiStream,
        truth: TruthLog,
    ) -> None:
        self.markets = [KalshiMarket(linked) for linked in universe]
        self.by_ticker = {market.ticker: market for market in self.markets}
        self.statements = Statements(self.markets)
        self.accounts = {name: KalshiAccount(name, str(uuid.uuid4()), cash_e6) for name in account_names}
        self.trading = True
        self._stream = stream
        self._truth = truth

    def list_market(self, market: KalshiMarket) -> None:
        """Add a market that opens later than the exchange."""
        self.markets.append(market)
        self.by_ticker[market.ticker] = market

    def create(self, account: KalshiAccount, new: NewOrder) -> dict[str, Any]:
        """Place an order and return the 201 body.

        Raises:
            OrderRefused: with the venue's status and body.
        """
        if new.client_order_id:
            attempts = account.attempts
            attempts[new.client_order_id] = attempts.get(new.client_order_id, 0) + 1
        market = self._check(account, new)
        now_ns = time.time_ns()
        order = Order(
            str(uuid.uuid4()),
            new.side,
            new.price_e4,
            new.size_e6,
            owner=account.name,
            time_in_force=new.time_in_force,
            post_only=new.post_only,
            expires_ns=new.expires_ns,
            cancels_own=new.body.get("self_trade_prevention_type") == "maker",
        )
        if new.post_only and market.matcher.crosses(new.side, new.price_e4):
            raise OrderRefused(400, "invalid_order", "post only cross")
        worst_fee = trade_fee(
            new.size_e6, new.price_e4, fee_type=market.fee_type, multiplier=market.multiplier, is_taker=True
        )
        # Money is looked for on the market's own shard only.
        if account.exchange_index != market.exchange_index or not account.can_afford(order, market, worst_fee):
            raise OrderRefused(400, "insufficient_balance")
        own = OwnOrder(account, order, market, new.client_order_id, new.body, now_ns)
        order.tag = (account, own)
        account.orders[order.order_id] = own
        if new.client_order_id:
            account.by_client_id[new.client_order_id] = own
        self._truth.note("orders", venue="kalshi", event="accepted", account=account.name, **_identity(own))
        withdrawn = self.mishaps.strike("reject_after_accept", account.name, market.ticker)
        if withdrawn is not None:
            self._never_enter(own, withdrawn["delay_ms"])
            return _created(own, now_ns)
        self.apply(market, self.mishaps.thin(market.matcher, order, account.name, market.ticker))
        self.apply(market, market.matcher.submit(order))
        return _created(own, now_ns)

    def _never_enter(self, own: OwnOrder, delay_ms: int) -> None:
        """Acknowledge an order that does not reach the book: it is taken out later, or at once if it may not rest."""
        self._rested(own.engine)
        self._stream.user_order(own.account, own)
        if own.engine.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            self.withdraw(own, CancelReason.VENUE)
        else:
            asyncio.get_running_loop().call_later(delay_ms / 1_000, self.withdraw, own, CancelReason.VENUE)

    def withdraw(self, own: OwnOrder, reason: CancelReason) -> None:
        """Take out an order that counts as resting and stands on no book."""
        if own.resting:
            self._canceled(Canceled(own.engine, own.engine.remaining, NEVER_RESTED, reason), time.time_ns())
            self._stream.user_order(own.account, own)

    def cancel(self, account: KalshiAccount, own: OwnOrder) -> dict[str, Any]:
        """Cancel a resting order and return the 200 body.

        Raises:
            OrderRefused: 404 when it does not rest (any more).
        """
        if not own.resting:
            raise OrderRefused(404, "not_found")
        reduced = own.engine.remaining
        self.apply(own.market, own.market.matcher.cancel(own.engine))
        self.withdraw(own, CancelReason.USER)
        body = {
            "order_id": own.engine.order_id,
            "reduced_by": count_text(reduced),
            "ts_ms": time.time_ns() // 1_000_000,
        }
        if own.client_order_id:
            body["client_order_id"] = own.client_order_id
        return body

    def cancel_all(self, account: KalshiAccount) -> None:
        """Cancel everything the account has resting."""
        for own in list(account.resting.values()):
            self.cancel(account, own)

    def amend(self, account: KalshiAccount, own: OwnOrder, *, price_e4: int, total_e6: int, expires_ns: int) -> None:
        """Change a resting order under its id; only a smaller size or another expiry keep its place in the line.

        Raises:
            OrderRefused: cash does not cover it.
        """
        engine, market = own.engine, own.market
        before = (engine.price, engine.size, engine.remaining)
        engine.price, engine.size, engine.remaining = price_e4, total_e6, total_e6 - engine.filled
        short = account.reserved_e6() > account.cash_e6
        engine.price, engine.size, engine.remaining = before
        if short:
            raise OrderRefused(400, "insufficient_balance")
        own.updated_ns, own.reason = time.time_ns(), "Amend"
        # What leaves its level is no cancel of the owner's order: nobody is told of one.
        tag, engine.tag = engine.tag, None
        if price_e4 == engine.price and total_e6 <= engine.size:
            self.apply(market, market.matcher.reduce(engine, engine.size - total_e6))
            market.matcher.redate(engine, expires_ns)
            engine.tag, engine.size = tag, total_e6
        else:
            self.apply(market, market.matcher.cancel(engine))
            engine.tag, engine.price, engine.size, engine.expires_ns = tag, price_e4, total_e6, expires_ns
            engine.remaining = total_e6 - engine.filled
            own.resting = False
            account.resting.pop(engine.order_id, None)
            self.apply(market, market.matcher.submit(engine))
        self._truth.note("orders", venue="kalshi", event="amended", account=account.name, **_identity(own))
        self._stream.user_order(account, own)

    def expire(self) -> None:
        """Cancel what has passed its time."""
        now_ns = time.time_ns()
        for market in self.markets:
            # One by one: each is told with the book as it is right after it.
            for order in market.matcher.due(now_ns):
                self.apply(market, market.matcher.cancel(order, CancelReason.EXPIRED))

    def set_status(self, ticker: str, status: str) -> None:
        """Change a market's status and tell it; what rests is cancelled when trading resumes, as the venue does."""
        market = self.by_ticker[ticker]
        if status == "active" and market.status != "active":
            for account in self.accounts.values():
                for own in [own for own in account.resting.values() if own.market is market]:
                    self.apply(market, market.matcher.cancel(own.engine, CancelReason.VENUE))
        market.status = status
        event_type = {"active": "activated", "inactive": "deactivated"}.get(status, status)
        self._stream.lifecycle(market, {"event_type": event_type, "is_deactivated": status != "active"})

    def set_override(self, event: str, fees: Fees) -> None:
        """Change an event's fees and tell it."""
        self._stream.event_fees(self.statements.set_override(event, fees))

    def set_close(self, ticker: str, close_s: int) -> None:
        """Change when a market closes and tell it."""
        market = self.by_ticker[ticker]
        market.close_s = close_s
        self._stream.lifecycle(market, {"event_type": "close_date_updated", "close_ts": close_s})

    def tell_lifecycle(self, market: KalshiMarket, fields: dict[str, Any]) -> None:
        """Tell what happened in a market's life."""
        self._stream.lifecycle(market, fields)

    def tell_position(self, account: KalshiAccount, market: KalshiMarket) -> None:
        """Tell an account its position."""
        self._stream.position(account, market)

    def set_structure(self, market: KalshiMarket, structure: str) -> None:
        """Change a market's price grid and tell it; resting orders stay, as the venue keeps them on a refinement."""
        market.set_structure(structure)
        fields = {"price_level_structure": structure, "price_ranges": price_ranges(market.grid)}
        self._stream.lifecycle(market, {"event_type": "price_level_structure_updated", **fields})

    # hot: each change of each book
    def apply(self, market: KalshiMarket, events: list[Event]) -> int:
        """Report what happened in a market to everybody it concerns; return the number of public messages."""
        now_ns = time.time_ns()
        messages = 0
        for event in events:
            stated = self._note(market, event)
            if isinstance(event, Filled):
                messages += self._filled(market, event, stated, now_ns)
            elif isinstance(event, Rested):
                self._stream.delta(market, event.order, event.size, now_ns, stated)
                messages += 1
                if event.order.tag is not None:
                    self._rested(event.order)
            else:
                if event.level != NEVER_RESTED:
                    self._stream.delta(market, event.order, -event.size, now_ns, stated)
                    messages += 1
                if event.order.tag is not None:
                    self._canceled(event, now_ns)
        if events:
            messages += self._stream.ticker(market, now_ns)
        self._report_takers(events)
        return messages

    def _check(self, account: KalshiAccount, new: NewOrder) -> KalshiMarket:
        market = self.by_ticker.get(new.ticker)
        if market is None:
            raise OrderRefused(404, "not_found")
        if not self.trading:
            raise OrderRefused(409, "trading_is_paused")
        if market.status != "active":
            raise OrderRefused(400, "MARKET_INACTIVE")
        if new.client_order_id in account.by_client_id:
            raise OrderRefused(409, "order_already_exists")
        if new.price_e4 not in market.grid:
            raise OrderRefused(400, "invalid_price")
        if new.size_e6 <= 0 or new.size_e6 % 10_000:
            raise OrderRefused(400, "invalid_order_size")
        return market

    def _note(self, market: KalshiMarket, event: Event) -> tuple[Stated, ...]:
        change = market.history.note(event)
        if change is None:
            return ()
        self._truth.level("kalshi", market.ticker, change)
        return (Stated(market.ticker, change.version, change.side, change.price, change.after),)

    def _filled(self, market: KalshiMarket, event: Filled, stated: tuple[Stated, ...], now_ns: int) -> int:
        trade_id = str(uuid.uuid4())
        market.last_price_e4 = event.price
        market.last_size_e6 = event.size
        market.volume_e6 += event.size
        self._stream.delta(market, event.maker, -event.size, now_ns, stated)
        self._stream.trade(market, trade_id, event.price, event.size, event.taker.side, now_ns)
        for order, is_taker in ((event.maker, False), (event.taker, True)):
            if order.tag is None:
                continue
            account, own = _owner(order)
            fill = account.book_fill(own, trade_id, event.price, event.size, is_taker=is_taker, now_ns=now_ns)
            if own.resting and order.remaining == 0:
                own.resting = False
                account.resting.pop(order.order_id, None)
            self._truth.note(
                "orders", venue="kalshi", event="filled", account=account.name, **_identity(own), **fill_fact(fill)
            )
            self._stream.fill(account, fill)
            self._stream.position(account, market)
            if not is_taker:
                self._stream.user_order(account, own)
        return 2

    def _rested(self, order: Order) -> None:
        account, own = _owner(order)
        own.resting = True
        account.resting[order.order_id] = own

    def _canceled(self, event: Canceled, now_ns: int) -> None:
        account, own = _owner(event.order)
        own.canceled_e6 += event.size
        own.resting = False
        own.reason = _REASON_TEXT[event.reason]
        own.updated_ns = now_ns
        account.resting.pop(event.order.order_id, None)
        self._truth.note(
            "orders",
            venue="kalshi",
            event="canceled",
            account=account.name,
            reason=event.reason,
            size_e6=event.size,
            **_identity(own),
        )
        if event.level != NEVER_RESTED:
            self._stream.user_order(account, own)

    def _report_takers(self, events: list[Event]) -> None:
        """Tell the owner of an incoming order its state once, after everything that happened to it."""
        told: set[str] = set()
        for event in events:
            order = event.taker if isinstance(event, Filled) else event.order
            incoming = isinstance(event, Filled | Rested) or event.level == NEVER_RESTED
            if order.tag is not None and incoming and order.order_id not in told:
                told.add(order.order_id)
                self._stream.user_order(*_owner(order))


def _owner(order: Order) -> tuple[KalshiAccount, OwnOrder]:
    return cast("tuple[KalshiAccount, OwnOrder]", order.tag)


def _identity(own: OwnOrder) -> dict[str, Any]:
    return {
        "order_id": own.engine.order_id,
        "client_order_id": own.client_order_id,
        "market": own.market.ticker,
        "side": own.engine.side,
        "price_e4": own.engine.price,
        "order_size_e6": own.engine.size,
    }


def fill_fact(fill: Fill) -> dict[str, Any]:
    """Return a fill as the truth log keeps it."""
    return {
        "trade_id": fill.trade_id,
        "fill_price_e4": fill.price_e4,
        "size_e6": fill.size_e6,
        "fee_e6": fill.fee_e6,
        "is_taker": fill.is_taker,
        "post_position_e6": fill.post_position_e6,
    }


def _created(own: OwnOrder, now_ns: int) -> dict[str, Any]:
    filled = own.engine.filled
    body: dict[str, Any] = {
        "fill_count": count_text(filled),
        "order_id": own.engine.order_id,
        "remaining_count": count_text(own.remaining_e6),
        "ts_ms": now_ns // 1_000_000,
    }
    if own.client_order_id:
        body["client_order_id"] = own.client_order_id
    if filled:
        # The price is always that of YES, whichever side was bought.
        cost = own.fill_cost_e6[True] if own.engine.side is Side.BID else filled - own.fill_cost_e6[True]
        body["average_fill_price"] = average_text(cost, filled)
        body["average_fee_paid"] = average_text(own.fees_e6[True], filled)
    return body


def account_state(account: KalshiAccount) -> dict[str, Any]:
    """Return an account as `/sim/accounts` shows it."""
    return {
        "account": account.name,
        "cash_start_e6": account.cash_start_e6,
        "cash_e6": account.cash_e6,
        "reserved_e6": account.reserved_e6(),
        "fees_e6": account.fees_e6,
        "realized_e6": sum(position.realized_e6 for position in account.positions.values()),
        "positions": {
            ticker: {"size_e6": position.size_e6, "cost_e6": position.cost_e6, "realized_e6": position.realized_e6}
            for ticker, position in account.positions.items()
        },
        "open_orders": [{**_identity(own), "remaining_e6": own.engine.remaining} for own in account.resting.values()],
        "orders": len(account.orders),
        "fills": len(account.fills),
    }
