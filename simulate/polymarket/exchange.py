"""Polymarket's matching and settlement: signed orders in, book changes, trades and private events out."""

import asyncio
import secrets
import time
import uuid
from itertools import groupby
from typing import Any

from core.domain.units import ONE_DOLLAR_E4
from simulate.credentials import PolymarketWallet
from simulate.history import Book
from simulate.matching import (
    NEVER_RESTED,
    Canceled,
    CancelReason,
    Event,
    Filled,
    Order,
    Rested,
    TimeInForce,
)
from simulate.mishaps import Mishaps
from simulate.polymarket.admission import check_funds, checked_digest, expiry
from simulate.polymarket.amounts import OrderRefused, OrderType, fee_e6, read_amounts
from simulate.polymarket.ledger import OwnOrder, PolymarketAccount, Trade, engine_side
from simulate.polymarket.market import PolymarketMarket
from simulate.polymarket.parties import own_of, party_of
from simulate.polymarket.settlement import Settlement
from simulate.polymarket.stream import PolymarketStream
from simulate.polymarket.text import money_text, size_text
from simulate.settings import SimulateSettings
from simulate.truth import TruthLog
from simulate.universe import LinkedMarket

FOK_KILLED = "order couldn't be fully filled. FOK orders are fully filled or killed."
FAK_KILLED = "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
ALREADY_GONE = "already canceled or matched"
_TIME_IN_FORCE = {
    OrderType.GTC: TimeInForce.GTC,
    OrderType.GTD: TimeInForce.GTD,
    OrderType.FOK: TimeInForce.FOK,
    OrderType.FAK: TimeInForce.IOC,
}


class PolymarketExchange:
    """All markets and accounts."""

    mishaps: Mishaps

    def __init__(
        self,
        universe: list[LinkedMarket],
        wallets: list[PolymarketWallet],
        settings: SimulateSettings,
        stream: PolymarketStream,
        truth: TruthLog,
    ) -> None:
        self.markets = [PolymarketMarket(linked) for linked in universe]
        self.by_condition = {market.condition_id: market for market in self.markets}
        self.by_token = {token: market for market in self.markets for token in market.tokens}
        cash_e6 = settings.cash_usd * 1_000_000
        self.accounts = {wallet.account: PolymarketAccount(wallet, cash_e6) for wallet in wallets}
        self.by_key = {account.wallet.api_key: account for account in self.accounts.values()}
        self._settings = settings
        self._stream = stream
        self._truth = truth
        self.settlement = Settlement(settings, stream, truth)

    def list_market(self, market: PolymarketMarket) -> None:
        """Add a market that opens later than the exchange."""
        self.markets.append(market)
        self.by_condition[market.condition_id] = market
        self.by_token.update(dict.fromkeys(market.tokens, market))

    def book_at(self, condition_id: str, version: int) -> Book | None:
        """Return a market's book at a version, None when that is too long ago."""
        market = self.by_condition[condition_id]
        return market.history.book_at(version, market.matcher)

    def market_of(self, body: dict[str, Any]) -> str | None:
        """Return the market an order body names, None if it names none."""
        order = body.get("order")
        market = self.by_token.get(str(order.get("tokenId"))) if isinstance(order, dict) else None
        return market.condition_id if market is not None else None

    # ------------------------------------------------------------------ orders in
    def place(self, account: PolymarketAccount, body: dict[str, Any]) -> dict[str, Any]:
        """Place one signed order and return the answer.

        Raises:
            OrderRefused: with the server's text.
        """
        order, order_type, market = self._read(account, body)
        order_id = "0x" + checked_digest(account, order, market, self._settings.chain_id)
        account.attempts[order_id] = account.attempts.get(order_id, 0) + 1
        if order_id in account.orders:
            raise OrderRefused(f"order {order_id} is invalid. Duplicated.")
        if not market.accepting:
            raise OrderRefused("the market is not yet ready to process new orders")
        is_yes = order["tokenId"] == market.tokens[0]
        side = engine_side(buys=order["side"] == "BUY", is_yes=is_yes)

        def marketable(price_e4: int) -> bool:
            return market.matcher.crosses(side, price_e4 if is_yes else ONE_DOLLAR_E4 - price_e4)

        amounts = read_amounts(order, order_type, market, order_id, marketable=marketable)
        post_only = bool(body.get("postOnly", False))
        if post_only and (order_type.is_market or marketable(amounts.price_e4)):
            raise OrderRefused("invalid post-only order: order crosses book")
        check_funds(account, order["tokenId"], amounts, market, is_taker=marketable(amounts.price_e4))
        engine = Order(
            order_id,
            side,
            amounts.price_e4 if is_yes else ONE_DOLLAR_E4 - amounts.price_e4,
            amounts.size_e6,
            owner=account.name,
            time_in_force=_TIME_IN_FORCE[order_type],
            post_only=post_only,
            expires_ns=expiry(order, order_type),
            budget_e6=amounts.budget_e6,
            pays_no=not is_yes,
        )
        own = OwnOrder(
            account,
            market,
            order_id,
            order["tokenId"],
            body,
            buys=amounts.buys,
            price_e4=amounts.price_e4,
            original_e6=amounts.budget_e6 if amounts.budget_e6 is not None else amounts.size_e6,
            order_type=order_type,
            engine=engine,
            now_ns=time.time_ns(),
        )
        engine.tag = own
        account.orders[order_id] = own
        self._truth.note("orders", venue="polymarket", event="accepted", account=account.name, **_identity(own))
        withdrawn = self.mishaps.strike("reject_after_accept", account.name, market.condition_id)
        if withdrawn is not None:
            own.status = "DELAYED" if order_type.is_market else "LIVE"
            account.open[order_id] = own
            self._stream.order(own, "PLACEMENT")
            self._later(withdrawn["delay_ms"], self.withdraw, own, "INVALID")
            return _answer(own, own.status.lower(), [])
        if not post_only and marketable(amounts.price_e4):
            delay = self.mishaps.strike("taker_delay", account.name, market.condition_id)
            if delay is not None or market.linked.delayed:
                # Held while others may still cancel; it counts as open, and cannot be cancelled itself.
                own.status = "DELAYED"
                account.open[order_id] = own
                self._later(delay["delay_ms"] if delay else self._settings.taker_delay_ms, self._execute, own)
                return _answer(own, "delayed", [])
        return self._answered(own)

    def withdraw(self, own: OwnOrder, status: str) -> None:
        """Take an order out that is open and stands on no book."""
        if own.account.open.get(own.order_id) is own:
            self._canceled(own, Canceled(own.engine, own.engine.remaining, NEVER_RESTED, CancelReason.VENUE), status)

    def cancel(self, account: PolymarketAccount, order_ids: list[str]) -> dict[str, Any]:
        """Cancel what can be cancelled and return the answer; HTTP 200 even if nothing could."""
        canceled: list[str] = []
        not_canceled: dict[str, str] = {}
        for order_id in order_ids:
            own = account.open.get(order_id)
            if own is None:
                not_canceled[order_id] = ALREADY_GONE
            elif own.status == "DELAYED":
                not_canceled[order_id] = "order is delayed"
            else:
                self.apply(own.market, own.market.matcher.cancel(own.engine))
                self.withdraw(own, "CANCELED")
                canceled.append(order_id)
        return {"canceled": canceled, "not_canceled": not_canceled}

    def expire(self) -> None:
        """Cancel what has passed its time."""
        now_ns = time.time_ns()
        for market in self.markets:
            # One by one: each is told with the book as it is right after it.
            for order in market.matcher.due(now_ns):
                self.apply(market, market.matcher.cancel(order, CancelReason.EXPIRED))

    def set_tick(self, condition_id: str, tick_e4: int) -> None:
        """Change a market's grid and tell it; resting orders stay."""
        market = self.by_condition[condition_id]
        old_e4 = market.tick_e4
        market.set_tick(tick_e4)
        self._stream.tick_size_change(market, old_e4)
        self._stream.books(market)

    def tell_resolved(self, market: PolymarketMarket) -> None:
        """Tell the winner of a market that is resolved."""
        self._stream.market_resolved(market)

    # ------------------------------------------------------------------ what happened, out
    # hot: each change of each book
    def apply(self, market: PolymarketMarket, events: list[Event]) -> int:
        """Report what happened in a market to everybody it concerns; return the number of public messages."""
        messages = 0
        # All versions first: the books sent after a trade already hold what the taker left resting.
        changes = [market.history.note(event) for event in events]
        for change in changes:
            if change is not None:
                self._truth.level("polymarket", market.condition_id, change)
        fills = [event for event in events if isinstance(event, Filled)]
        if fills:
            messages += self._traded(market, fills)
        for event, change in zip(events, changes, strict=True):
            if isinstance(event, Filled):
                continue
            order = event.order
            if change is not None:
                self._stream.price_change(market, change)
                messages += 1
            if order.tag is None:
                continue
            own = own_of(order)
            if isinstance(event, Rested):
                own.account.open[own.order_id] = own
                own.status = "LIVE"
                self._stream.order(own, "PLACEMENT")
            else:
                self._canceled(own, event)
        return messages

    def _traded(self, market: PolymarketMarket, fills: list[Filled]) -> int:
        """Book the fills of one taker, one trade for each price, and publish prints, books and private events."""
        prints = []
        now_ns = time.time_ns()
        touched: dict[str, OwnOrder] = {}
        for bucket, (price, group) in enumerate(groupby(fills, key=lambda fill: fill.price)):
            trade = self._trade(market, price, list(group), bucket, now_ns, touched)
            market.note_trade(trade.price_e4)
            prints.append(trade)
            if trade.accounts():
                self._stream.trade(trade)
                self.settlement.begin(trade)
        first, second = (
            (self._print, self._refresh) if self._settings.print_before_book else (self._refresh, self._print)
        )
        first(market, prints)
        second(market, prints)
        for own in touched.values():
            if own.engine.remaining == 0 or own.order_type.is_market:
                own.account.open.pop(own.order_id, None)
                own.status = "MATCHED"
            self._stream.order(own, "UPDATE")
        return len(prints) + 2

    def _trade(
        self,
        market: PolymarketMarket,
        price: int,
        fills: list[Filled],
        bucket: int,
        now_ns: int,
        touched: dict[str, OwnOrder],
    ) -> Trade:
        """Make one trade of a taker with the makers of one price, and move money and tokens."""
        size = sum(fill.size for fill in fills)
        taker = party_of(market, fills[0].taker, price, size)
        trade_id = str(uuid.uuid4())
        # Fees are charged for a trade as a whole, on the taker alone, in collateral.
        fee = fee_e6(size, price, market.fee_rate)
        makers = [party_of(market, fill.maker, price, fill.size) for fill in fills]
        if taker.own is not None:
            taker.own.account.book_fill(taker.own, price, size, fee)
        for maker in makers:
            if maker.own is not None:
                maker.own.account.book_fill(maker.own, price, maker.size_e6, 0)
        trade = Trade(
            trade_id=trade_id,
            market=market,
            taker=taker.own,
            taker_order_id=taker.order_id,
            taker_owner=taker.owner,
            taker_address=taker.address,
            token=taker.token,
            side=taker.side,
            price_e4=taker.price_e4,
            size_e6=size,
            fee_e6=fee,
            bucket=bucket,
            makers=makers,
            transaction="0x" + secrets.token_hex(32),
            matched_ns=now_ns,
            yes_price_e4=price,
            updated_ns=now_ns,
        )
        for party in (taker, *makers):
            if party.own is None:
                continue
            touched[party.own.order_id] = party.own
            party.own.trades.append(trade_id)
            known = party.own.account.trades
            if not known or known[-1] is not trade:
                known.append(trade)
            self._truth.note(
                "orders",
                venue="polymarket",
                event="filled",
                account=party.own.account.name,
                trade_id=trade_id,
                fill_price_e4=party.price_e4,
                size_e6=party.size_e6,
                fee_e6=fee if party is taker else 0,
                is_taker=party is taker,
                **_identity(party.own),
            )
        return trade

    def _print(self, market: PolymarketMarket, trades: list[Trade]) -> None:
        for trade in trades:
            self._stream.last_trade(market, trade.token, trade.price_e4, trade.size_e6, trade.side, trade.transaction)

    def _refresh(self, market: PolymarketMarket, trades: list[Trade]) -> None:
        self._stream.books(market)

    def _canceled(self, own: OwnOrder, event: Canceled, status: str = "") -> None:
        own.account.open.pop(own.order_id, None)
        kind = "CANCELLATION"
        if status:
            own.status = status
        elif event.reason is CancelReason.KILLED:
            own.status = f"CANCELED_{FOK_KILLED}"
        elif event.reason is CancelReason.UNFILLED and own.engine.filled:
            own.status, kind = "CANCELED", "UPDATE"
        elif event.reason is CancelReason.EXPIRED:
            own.status = "CANCELED_EXPIRED_ORDER"
        elif event.reason is CancelReason.CLOSED:
            own.status = "CANCELED_MARKET_RESOLVED"
        else:
            own.status = "CANCELED"
        self._truth.note(
            "orders",
            venue="polymarket",
            event="canceled",
            account=own.account.name,
            reason=event.reason,
            size_e6=event.size,
            **_identity(own),
        )
        self._stream.order(own, kind)

    # ------------------------------------------------------------------ plumbing
    def _execute(self, own: OwnOrder) -> list[Event]:
        own.account.open.pop(own.order_id, None)
        own.status = "LIVE"
        matcher, condition_id = own.market.matcher, own.market.condition_id
        self.apply(own.market, self.mishaps.thin(matcher, own.engine, own.account.name, condition_id))
        events = matcher.submit(own.engine)
        self.apply(own.market, events)
        return events

    def _answered(self, own: OwnOrder) -> dict[str, Any]:
        events = self._execute(own)
        last = events[-1] if events else None
        if isinstance(last, Canceled) and not own.engine.filled:
            if last.reason is CancelReason.KILLED:
                raise OrderRefused(FOK_KILLED, order_id=own.order_id)
            if last.reason is CancelReason.UNFILLED:
                raise OrderRefused(FAK_KILLED, order_id=own.order_id)
        return _answer(own, "matched" if own.engine.filled else "live", own.trades)

    def _later(self, delay_ms: int, call: Any, *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(delay_ms / 1_000, call, *arguments)

    def _read(
        self, account: PolymarketAccount, body: dict[str, Any]
    ) -> tuple[dict[str, Any], OrderType, PolymarketMarket]:
        """Check the shape of a body and who sends it."""
        order = body.get("order")
        if not isinstance(order, dict) or body.get("orderType") not in set(OrderType):
            raise OrderRefused("Invalid order payload")
        if not isinstance(order.get("salt"), int) or order.get("side") not in {"BUY", "SELL"}:
            raise OrderRefused("Invalid order payload")
        if body.get("owner") != account.wallet.api_key:
            raise OrderRefused("the order owner has to be the owner of the API KEY")
        if str(order.get("signer", "")).lower() != account.wallet.address.lower():
            raise OrderRefused("the order signer address has to be the address of the API KEY")
        market = self.by_token.get(str(order.get("tokenId")))
        if market is None:
            raise OrderRefused("No orderbook exists for the requested token id")
        return order, OrderType(body["orderType"]), market


def _answer(own: OwnOrder, status: str, trade_ids: list[str]) -> dict[str, Any]:
    filled, spent = own.engine.filled, own.spent_e6
    making, taking = (money_text(spent), size_text(filled)) if own.buys else (size_text(filled), money_text(spent))
    answer: dict[str, Any] = {
        "errorMsg": "",
        "orderID": own.order_id,
        "takingAmount": taking if filled else "",
        "makingAmount": making if filled else "",
        "status": status,
        "success": True,
    }
    if trade_ids:
        answer["tradeIDs"] = list(trade_ids)
    return answer


def _identity(own: OwnOrder) -> dict[str, Any]:
    return {
        "order_id": own.order_id,
        "market": own.market.condition_id,
        "token_id": own.token,
        "side": own.side,
        "price_e4": own.price_e4,
        "order_type": own.order_type,
        "original_e6": own.original_e6,
    }
