"""Polymarket's WebSockets: market data by token, and an account's own orders and trades. No sequence anywhere."""

import time
from collections.abc import Callable
from typing import Any

import orjson

from core.domain.units import ONE_DOLLAR_E4
from simulate.clock import VenueClock
from simulate.history import Change, Stated
from simulate.matching import Side
from simulate.mishaps import Mishaps
from simulate.polymarket.ledger import OwnOrder, PolymarketAccount, Trade
from simulate.polymarket.market import PolymarketMarket
from simulate.polymarket.messages import order_event, trade_event
from simulate.polymarket.text import PRICES, size_text
from simulate.sockets import Connection, Frame
from simulate.truth import Mark


class MarketClient:
    """One connection of `/ws/market`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tokens: dict[str, None] = {}
        self.custom_features = False
        self.owed: tuple[list[str], int] | None = None
        """Tokens whose first books come only after so many changes."""
        self.owed_mark: Mark | None = None


class UserClient:
    """One connection of `/ws/user`; `markets` empty means all."""

    def __init__(self, connection: Connection, account: PolymarketAccount, markets: set[str]) -> None:
        self.connection = connection
        self.account = account
        self.markets = markets


class PolymarketStream:
    """All connections of both sockets; the exchange tells it what happened."""

    mishaps: Mishaps

    def __init__(self) -> None:
        self.clock = VenueClock()
        self.owing: Callable[[MarketClient, list[str]], None] | None = None
        """Is given the next subscription's tokens in place of the books."""
        self.market_clients: list[MarketClient] = []
        self.user_clients: list[UserClient] = []
        self.by_token: dict[str, PolymarketMarket] = {}
        self._followers: dict[str, dict[MarketClient, int]] = {}
        """Condition id to the connections that follow either token, and how many of the two."""

    # ------------------------------------------------------------------ market data
    # hot: each change of each book
    def price_change(self, market: PolymarketMarket, change: Change) -> None:
        """Send a level's new size on both tokens, mirrored, to everybody who follows either."""
        price_e4, level_e6 = change.price, change.after
        followers = self._followers.get(market.condition_id)
        if not followers:
            return
        now_ms = self.clock.ms()
        yes, no = market.tokens
        yes_book, no_book = market.book(yes, now_ms), market.book(no, now_ms)
        size = size_text(level_e6)
        bid = change.side is Side.BID
        payload = (
            f'{{"market":"{market.condition_id}","price_changes":['
            f'{{"asset_id":"{yes}","price":"{PRICES[price_e4]}","size":"{size}","side":"{"BUY" if bid else "SELL"}",'
            f'"hash":"{yes_book.hash}","best_bid":"{yes_book.best_bid}","best_ask":"{yes_book.best_ask}"}},'
            f'{{"asset_id":"{no}","price":"{PRICES[ONE_DOLLAR_E4 - price_e4]}","size":"{size}",'
            f'"side":"{"SELL" if bid else "BUY"}",'
            f'"hash":"{no_book.hash}","best_bid":"{no_book.best_bid}","best_ask":"{no_book.best_ask}"}}'
            f'],"timestamp":"{now_ms}","event_type":"price_change"}}'
        ).encode()
        stated = Stated(market.condition_id, change.version, change.side, price_e4, level_e6)
        frame = Frame("price_change", market.condition_id, now_ms, payload, (stated,))
        for client in followers:
            client.connection.send(frame)
            if client.owed is not None:
                self.pay(client)
            if client.custom_features:
                self._best_bid_ask(client, market, now_ms)

    def books(self, market: PolymarketMarket) -> None:
        """Send the full book of either token after a trade, to those who follow that token."""
        followers = self._followers.get(market.condition_id)
        if not followers:
            return
        now_ms = self.clock.ms()
        for token in market.tokens:
            frame: Frame | None = None
            for client in followers:
                if token in client.tokens:
                    if frame is None:
                        payload = _book_text(market, token, now_ms, initial=False).encode()
                        frame = Frame("book", market.condition_id, now_ms, payload, _stated(market, token))
                    client.connection.send(frame)

    def last_trade(
        self, market: PolymarketMarket, token: str, price_e4: int, size_e6: int, side: str, transaction: str
    ) -> None:
        """Send a public trade in the terms of the taker's token."""
        followers = self._followers.get(market.condition_id)
        if not followers:
            return
        now_ms = self.clock.ms()
        payload = (
            f'{{"market":"{market.condition_id}","asset_id":"{token}","price":"{PRICES[price_e4]}",'
            f'"size":"{size_text(size_e6)}","fee_rate_bps":"0","side":"{side}","timestamp":"{now_ms}",'
            f'"event_type":"last_trade_price","transaction_hash":"{transaction}"}}'
        ).encode()
        frame = Frame("last_trade_price", market.condition_id, now_ms, payload)
        for client in followers:
            client.connection.send(frame)

    def tick_size_change(self, market: PolymarketMarket, old_e4: int) -> None:
        """Tell the followers of either token that the grid changed."""
        now_ms = self.clock.ms()
        for client in self._followers.get(market.condition_id, ()):
            for token in market.tokens:
                if token in client.tokens:
                    payload = (
                        f'{{"event_type":"tick_size_change","asset_id":"{token}","market":"{market.condition_id}",'
                        f'"old_tick_size":"{PRICES[old_e4]}","new_tick_size":"{market.tick_text}",'
                        f'"timestamp":"{now_ms}"}}'
                    ).encode()
                    client.connection.send(Frame("tick_size_change", market.condition_id, now_ms, payload))

    def market_resolved(self, market: PolymarketMarket) -> None:
        """Tell those followers who asked for it which token won."""
        now_ms = self.clock.ms()
        winner = market.tokens[0 if market.paid_e4 else 1]
        message = {
            "event_type": "market_resolved",
            "id": str(market.linked.place + 1),
            "market": market.condition_id,
            "assets_ids": list(market.tokens),
            "winning_asset_id": winner,
            "winning_outcome": market.outcome(winner),
            "timestamp": str(now_ms),
            "tags": [],
        }
        for client in self._followers.get(market.condition_id, ()):
            if client.custom_features:
                client.connection.send(Frame("market_resolved", market.condition_id, now_ms, orjson.dumps(message)))

    # ------------------------------------------------------------------ market commands
    def market_command(self, client: MarketClient, text: str) -> None:
        """Handle one text frame of `/ws/market`; there are no acknowledgements."""
        if text == "PING":
            _pong(client.connection)
            return
        command = _object(text)
        if command is None:
            return
        tokens = [token for token in command.get("assets_ids") or [] if isinstance(token, str)]
        if command.get("operation") == "unsubscribe":
            for token in tokens:
                self._unfollow(client, token)
            return
        if "custom_feature_enabled" in command:
            client.custom_features = bool(command["custom_feature_enabled"])
        if command.get("type") != "market" and command.get("operation") != "subscribe":
            return
        new = [token for token in tokens if token not in client.tokens]
        if not new:
            return
        for token in new:
            self._follow(client, token)
        if not command.get("initial_dump", True):
            return
        if self.owing is not None:
            self.owing(client, new)
        else:
            self.dump(client, new)

    def drop_market(self, client: MarketClient) -> None:
        """Forget a closed connection."""
        self.market_clients.remove(client)
        for token in list(client.tokens):
            self._unfollow(client, token)

    def pay(self, client: MarketClient, *, now: bool = False) -> None:
        """Count a change towards the books that are owed, and send them when enough went before them, or `now`."""
        if client.owed is None:
            return
        tokens, left = client.owed
        client.owed = (tokens, left - 1) if left > 1 and not now else None
        if client.owed is None:
            with client.connection.marked(client.owed_mark):
                self.dump(client, tokens)

    def followers(self, condition_id: str) -> list[MarketClient]:
        """Return who follows either token of a market."""
        return list(self._followers.get(condition_id, ()))

    def book(self, client: MarketClient, market: PolymarketMarket, *, padding: int = 0) -> None:
        """Send one client the whole books of the tokens it follows, the first with an unknown field if asked."""
        now_ms = self.clock.ms()
        for token in market.tokens:
            if token in client.tokens:
                payload = _book_text(market, token, now_ms, initial=False, padding=padding).encode()
                client.connection.send(Frame("book", market.condition_id, now_ms, payload, _stated(market, token)))
                padding = 0

    def dump(self, client: MarketClient, tokens: list[str]) -> None:
        """Send one array with the books of all new tokens; unknown ones are left out, without an error."""
        now_ms = self.clock.ms()
        found = [(self.by_token[token], token) for token in tokens if token in self.by_token]
        books = [_book_text(market, token, now_ms, initial=True) for market, token in found]
        known = dict.fromkeys(market.condition_id for market, _ in found)
        stated = tuple(stated for market, token in found for stated in _stated(market, token))
        client.connection.send(Frame("dump", " ".join(known), now_ms, f"[{','.join(books)}]".encode(), stated))

    def _follow(self, client: MarketClient, token: str) -> None:
        client.tokens[token] = None
        market = self.by_token.get(token)
        if market is not None:
            followers = self._followers.setdefault(market.condition_id, {})
            followers[client] = followers.get(client, 0) + 1

    def _unfollow(self, client: MarketClient, token: str) -> None:
        if token not in client.tokens:
            return
        del client.tokens[token]
        market = self.by_token.get(token)
        if market is not None:
            followers = self._followers[market.condition_id]
            followers[client] -= 1
            if not followers[client]:
                del followers[client]

    def _best_bid_ask(self, client: MarketClient, market: PolymarketMarket, now_ms: int) -> None:
        bid, ask = market.matcher.best_bid(), market.matcher.best_ask()
        if bid is None or ask is None:
            return
        for token in market.tokens:
            if token not in client.tokens:
                continue
            yes = token == market.tokens[0]
            best_bid, best_ask = (bid, ask) if yes else (ONE_DOLLAR_E4 - ask, ONE_DOLLAR_E4 - bid)
            payload = (
                f'{{"market":"{market.condition_id}","asset_id":"{token}","best_bid":"{PRICES[best_bid]}",'
                f'"best_ask":"{PRICES[best_ask]}","spread":"{PRICES[best_ask - best_bid]}","timestamp":"{now_ms}",'
                f'"event_type":"best_bid_ask"}}'
            ).encode()
            client.connection.send(Frame("best_bid_ask", market.condition_id, now_ms, payload))

    # ------------------------------------------------------------------ user
    def user_command(self, client: UserClient, text: str) -> None:
        """Handle one later text frame of `/ws/user`."""
        if text == "PING":
            _pong(client.connection)
            return
        command = _object(text) or {}
        markets = [market for market in command.get("markets") or [] if isinstance(market, str)]
        if command.get("operation") == "subscribe":
            client.markets.update(markets)
        elif command.get("operation") == "unsubscribe":
            client.markets.difference_update(markets)

    def order(self, own: OwnOrder, kind: str) -> None:
        """Tell the owner what happened to an order."""
        self._tell(own.account, own.market, "order", order_event(own, kind))

    def trade(self, trade: Trade) -> None:
        """Tell everybody who takes part where a trade stands."""
        for account in trade.accounts():
            self._tell(account, trade.market, "trade", trade_event(trade, account))

    def _tell(self, account: PolymarketAccount, market: PolymarketMarket, kind: str, event: dict[str, Any]) -> None:
        def send() -> None:
            now_ms = time.time_ns() // 1_000_000
            payload = b""
            for client in self.user_clients:
                if client.account is account and (not client.markets or market.condition_id in client.markets):
                    payload = payload or orjson.dumps(event)
                    client.connection.send(Frame(kind, market.condition_id, now_ms, payload))

        self.mishaps.tell(account.name, kind, market.condition_id, send)


def _book_text(market: PolymarketMarket, token: str, now_ms: int, *, initial: bool, padding: int = 0) -> str:
    """Return a `book` message; only the first one tells tick size and last price."""
    book = market.book(token, now_ms)
    extra = f'"tick_size":"{market.tick_text}","last_trade_price":"{market.last_price}",' if initial else ""
    extra += f'"padding":"{"x" * padding}",' if padding else ""
    return (
        f'{{"market":"{market.condition_id}","asset_id":"{token}","timestamp":"{now_ms}","hash":"{book.hash}",'
        f'"bids":[{book.bids}],"asks":[{book.asks}],{extra}"event_type":"book"}}'
    )


def _pong(connection: Connection) -> None:
    connection.send(Frame("PONG", "", time.time_ns() // 1_000_000, b"PONG"))


def _stated(market: PolymarketMarket, token: str) -> tuple[Stated, ...]:
    """Return what a token's whole book states: the second token's repeats the first's and counts for nothing."""
    return (Stated(market.condition_id, market.history.version),) if token == market.tokens[0] else ()


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
