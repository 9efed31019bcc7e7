"""Kalshi's WebSocket: commands, one sid for each channel, one `seq` for each sid over everything sent on it."""

import time
from collections.abc import Callable
from typing import Any, cast

import orjson

from simulate.clock import VenueClock
from simulate.history import Stated
from simulate.kalshi.books import book_sides, delta_text, ticker_text, top_of, trade_text
from simulate.kalshi.ledger import Fill, KalshiAccount, OwnOrder
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.messages import fill_message, order_message, position_message
from simulate.kalshi.subscriptions import (
    BOOK,
    CHANNELS,
    ERRORS,
    SUBSCRIPTION_MARKETS_MAX,
    UNSEQUENCED,
    Client,
    CommandError,
    Message,
    Subscription,
)
from simulate.matching import Order, Side
from simulate.mishaps import Mishaps
from simulate.sockets import Frame


class KalshiStream:
    """All connections; the exchange tells it what happened."""

    mishaps: Mishaps

    def __init__(self) -> None:
        self.clock = VenueClock()
        self.owing: Callable[[Client, Subscription, list[str]], None] | None = None
        """Is given the next subscription's tickers in place of the snapshots."""
        self.clients: list[Client] = []
        self.markets: dict[str, KalshiMarket] = {}
        self._books: dict[str, list[tuple[Client, Subscription]]] = {}

    def drop(self, client: Client) -> None:
        """Forget a closed connection."""
        self.clients.remove(client)
        for subscription in list(client.subscriptions.values()):
            self._close(client, subscription)

    # ------------------------------------------------------------------ public messages
    # hot: each change of each book
    def delta(
        self, market: KalshiMarket, order: Order, change_e6: int, now_ns: int, stated: tuple[Stated, ...]
    ) -> None:
        """Send a signed change of one level to everybody who follows the book."""
        followers = self._books.get(market.ticker)
        if not followers:
            return
        now_ns += self.clock.offset_ns
        now_ms = now_ns // 1_000_000
        texts: dict[bool, str] = {}
        for client, subscription in followers:
            text = texts.get(subscription.use_yes_price)
            if text is None:
                text = texts[subscription.use_yes_price] = delta_text(
                    market, order, change_e6, now_ns, use_yes_price=subscription.use_yes_price
                )
            if order.tag is not None and order.owner == client.account.name:
                own = cast("tuple[KalshiAccount, OwnOrder]", order.tag)[1]
                if own.client_order_id:
                    text = f'{text[:-1]},"client_order_id":{_quoted(own.client_order_id)}}}'
            self.send(client, subscription, "orderbook_delta", market.ticker, text, now_ms, stated=stated)
            if client.owed:
                self.pay(client, subscription, market.ticker)

    def trade(self, market: KalshiMarket, trade_id: str, price_e4: int, size_e6: int, taker: Side, now_ns: int) -> None:
        """Send a public trade."""
        now_ns += self.clock.offset_ns
        text = trade_text(market, trade_id, price_e4, size_e6, taker, now_ns)
        self._broadcast("trade", "trade", market.ticker, text, now_ns // 1_000_000)

    def ticker(self, market: KalshiMarket, now_ns: int) -> int:
        """Send the top of the book where it changed and somebody listens; return the number of messages."""
        if not any(client.on_channel("ticker") for client in self.clients):
            return 0
        top = top_of(market.matcher)
        if top == market.top:
            return 0
        market.top = top
        now_ns += self.clock.offset_ns
        self._broadcast("ticker", "ticker", market.ticker, ticker_text(market, now_ns), now_ns // 1_000_000)
        return 1

    def lifecycle(self, market: KalshiMarket, fields: dict[str, Any]) -> None:
        """Send a change of a market's life."""
        text = orjson.dumps({"market_ticker": market.ticker, **fields}).decode()
        self._broadcast("market_lifecycle_v2", "market_lifecycle_v2", market.ticker, text, self.clock.ms())

    def event_fees(self, fields: dict[str, Any]) -> None:
        """Send a change of an event's fees."""
        text = orjson.dumps(fields).decode()
        self._broadcast("market_lifecycle_v2", "event_fee_update", "", text, self.clock.ms())

    # ------------------------------------------------------------------ private messages
    def fill(self, account: KalshiAccount, fill: Fill) -> None:
        """Tell the account about one execution."""
        self._private(account, "fill", "fill", fill.order.market.ticker, fill_message(fill))

    def user_order(self, account: KalshiAccount, own: OwnOrder) -> None:
        """Tell the account an order's state."""
        self._private(account, "user_orders", "user_order", own.market.ticker, order_message(account, own))

    def position(self, account: KalshiAccount, market: KalshiMarket) -> None:
        """Tell the account its position in a market."""
        self._private(
            account, "market_positions", "market_position", market.ticker, position_message(account, market.ticker)
        )

    # ------------------------------------------------------------------ commands
    def command(self, client: Client, raw: str | bytes) -> None:
        """Handle one text frame of a client."""
        try:
            command = orjson.loads(raw)
        except orjson.JSONDecodeError:
            command = None
        if not isinstance(command, dict):
            self._reply(client, {"type": "error", "msg": {"code": 1, "msg": ERRORS[1]}})
            return
        try:
            self._handle(client, command)
        except CommandError as error:
            reply: dict[str, Any] = {"type": "error"}
            if command.get("id"):
                reply["id"] = command["id"]
            reply["msg"] = {"code": error.code, "msg": str(error)}
            self._reply(client, reply)

    def _handle(self, client: Client, command: dict[str, Any]) -> None:
        name = command.get("cmd")
        number = command.get("id") or 0
        if name == "list_subscriptions":
            listed = [{"channel": sub.channel, "sid": sub.sid} for sub in client.subscriptions.values()]
            self._reply(client, {"id": number, "type": "ok", "msg": listed})
            return
        if name not in {"subscribe", "unsubscribe", "update_subscription"}:
            raise CommandError(5)
        params = command.get("params")
        if not isinstance(params, dict):
            raise CommandError(2)
        if name == "subscribe":
            self._subscribe(client, number, params)
        elif name == "unsubscribe":
            self._unsubscribe(client, number, params)
        else:
            self._update(client, number, params)

    def _subscribe(self, client: Client, number: int, params: dict[str, Any]) -> None:
        channels = params.get("channels")
        if not isinstance(channels, list) or not channels:
            raise CommandError(3)
        if any(channel not in CHANNELS for channel in channels):
            raise CommandError(8)
        tickers = self._tickers(params)
        if BOOK in channels and not tickers:
            raise CommandError(14)
        use_yes_price = bool(params.get("use_yes_price", False))
        for channel in channels:
            chosen = None if channel == "market_lifecycle_v2" else tickers
            existing = client.on_channel(channel)
            if existing is not None:
                self._add_markets(client, existing, number, chosen or {})
                continue
            subscription = client.add(channel, dict(chosen) if chosen else None, use_yes_price=use_yes_price)
            subscription.skip_ack = bool(params.get("skip_ticker_ack", False))
            reply: dict[str, Any] = {"type": "subscribed"}
            if number:
                reply["id"] = number
            reply["msg"] = {"channel": channel, "sid": subscription.sid}
            self._reply(client, reply)
            if channel == BOOK:
                self._follow(client, subscription, list(chosen or ()))
            elif channel == "ticker" and params.get("send_initial_snapshot"):
                self._initial_tickers(client, subscription)

    def _unsubscribe(self, client: Client, number: int, params: dict[str, Any]) -> None:
        sids = params.get("sids")
        if not isinstance(sids, list) or not sids:
            raise CommandError(4)
        if any(sid not in client.subscriptions for sid in sids):
            raise CommandError(7)
        for sid in sids:
            subscription = client.subscriptions[sid]
            self._answer(client, subscription, number, "unsubscribed", None)
            self._close(client, subscription)

    def _update(self, client: Client, number: int, params: dict[str, Any]) -> None:
        sids = params["sids"] if "sids" in params else [params["sid"]] if "sid" in params else []
        if not isinstance(sids, list) or len(sids) != 1 or ("sid" in params and "sids" in params):
            raise CommandError(12)
        subscription = client.subscriptions.get(sids[0])
        if subscription is None:
            raise CommandError(7)
        action = params.get("action")
        if not action:
            raise CommandError(15)
        tickers = self._tickers(params)
        if not tickers:
            raise CommandError(14)
        if action == "get_snapshot" and subscription.channel == BOOK:
            for ticker in tickers:
                self.snapshot(client, subscription, ticker, number)
        elif action == "add_markets" and subscription.channel != "market_lifecycle_v2":
            self._add_markets(client, subscription, number, tickers)
        elif action == "delete_markets" and subscription.channel != "market_lifecycle_v2":
            for ticker in tickers:
                if subscription.tickers is not None and ticker in subscription.tickers:
                    del subscription.tickers[ticker]
                    self._unfollow(client, subscription, ticker)
            self._acknowledge(client, subscription, number)
        else:
            raise CommandError(13)

    def _add_markets(self, client: Client, subscription: Subscription, number: int, tickers: dict[str, None]) -> None:
        have = subscription.tickers
        new = [ticker for ticker in tickers if have is None or ticker not in have]
        if have is not None:
            if len(have) + len(new) > SUBSCRIPTION_MARKETS_MAX:
                raise CommandError(26)
            have.update(dict.fromkeys(new))
        self._acknowledge(client, subscription, number)
        # A repeated subscription gives no snapshot of what it already had: it is no way to resynchronise.
        if subscription.channel == BOOK:
            self._follow(client, subscription, new)

    def _tickers(self, params: dict[str, Any]) -> dict[str, None]:
        one, many = params.get("market_ticker"), params.get("market_tickers")
        if one is not None and many is not None:
            raise CommandError(11)
        found = [one] if one is not None else (many or [])
        if not isinstance(found, list) or not all(isinstance(ticker, str) for ticker in found):
            raise CommandError(11)
        return dict.fromkeys(found)

    # ------------------------------------------------------------------ plumbing
    def _follow(self, client: Client, subscription: Subscription, tickers: list[str]) -> None:
        for ticker in tickers:
            self._books.setdefault(ticker, []).append((client, subscription))
        if self.owing is not None and tickers:
            self.owing(client, subscription, tickers)
            return
        for ticker in tickers:
            self.snapshot(client, subscription, ticker)

    def pay(self, client: Client, subscription: Subscription, ticker: str, *, now: bool = False) -> None:
        """Count a delta towards a snapshot that is owed, and send it when enough went before it, or `now`."""
        left = client.owed.get(ticker)
        if left is not None and left > 1 and not now:
            client.owed[ticker] = left - 1
        elif left is not None:
            del client.owed[ticker]
            with client.connection.marked(client.owed_mark):
                self.snapshot(client, subscription, ticker)

    def _unfollow(self, client: Client, subscription: Subscription, ticker: str) -> None:
        followers = self._books.get(ticker, [])
        followers[:] = [pair for pair in followers if pair[0] is not client or pair[1] is not subscription]

    def _close(self, client: Client, subscription: Subscription) -> None:
        del client.subscriptions[subscription.sid]
        if subscription.channel == BOOK:
            for ticker in subscription.tickers or ():
                self._unfollow(client, subscription, ticker)

    def books_of(self, ticker: str) -> list[tuple[Client, Subscription]]:
        """Return who follows a book."""
        return list(self._books.get(ticker, ()))

    def snapshot(
        self, client: Client, subscription: Subscription, ticker: str, number: int = 0, *, padding: int = 0
    ) -> None:
        """Send a market's whole book, with an unknown field of `padding` bytes if asked."""
        market = self.markets.get(ticker)
        stated: tuple[Stated, ...] = ()
        if market is None:
            text = f'{{"market_ticker":{_quoted(ticker)},"market_id":""}}'
        else:
            stated = (Stated(ticker, market.history.version),)
            sides = book_sides(market.matcher, use_yes_price=subscription.use_yes_price)
            filler = f',"padding":"{"x" * padding}"' if padding else ""
            text = f'{{"market_ticker":"{ticker}","market_id":"{market.market_id}"{sides}{filler}}}'
        self.send(client, subscription, "orderbook_snapshot", ticker, text, self.clock.ms(), number, stated)

    def overflow(self, client: Client, subscription: Subscription) -> None:
        """End a subscription whose buffer ran over: terminal, it must be made anew."""
        subscription.seq += 1
        message = {"code": 25, "msg": "Subscription buffer overflow"}
        self._reply(client, {"type": "error", "sid": subscription.sid, "seq": subscription.seq, "msg": message})
        self._close(client, subscription)

    def _initial_tickers(self, client: Client, subscription: Subscription) -> None:
        now_ns = self.clock.ns()
        for ticker in subscription.tickers or self.markets:
            market = self.markets.get(ticker)
            if market is not None:
                text = ticker_text(market, now_ns)
                self.send(client, subscription, "ticker", ticker, text, now_ns // 1_000_000)

    def _broadcast(self, channel: str, kind: str, ticker: str, text: str, now_ms: int) -> None:
        for client in self.clients:
            subscription = client.on_channel(channel)
            if subscription is not None and (subscription.tickers is None or ticker in subscription.tickers):
                self.send(client, subscription, kind, ticker, text, now_ms)

    def _private(self, account: KalshiAccount, channel: str, kind: str, ticker: str, message: dict[str, Any]) -> None:
        def send() -> None:
            text = ""
            for client in self.clients:
                if client.account is not account:
                    continue
                subscription = client.on_channel(channel)
                if subscription is not None and (subscription.tickers is None or ticker in subscription.tickers):
                    text = text or orjson.dumps(message).decode()
                    self.send(client, subscription, kind, ticker, text, time.time_ns() // 1_000_000)

        self.mishaps.tell(account.name, kind, ticker, send)

    def _acknowledge(self, client: Client, subscription: Subscription, number: int) -> None:
        listed = None if subscription.skip_ack else {"market_tickers": list(subscription.tickers or ())}
        self._answer(client, subscription, number, "ok", listed)

    def _answer(
        self, client: Client, subscription: Subscription, number: int, kind: str, message: dict[str, Any] | None
    ) -> None:
        """Send a control reply, which takes a number of its subscription's sequence."""
        reply: dict[str, Any] = {"type": kind}
        if number:
            reply["id"] = number
        reply["sid"] = subscription.sid
        if subscription.channel not in UNSEQUENCED:
            subscription.seq += 1
            reply["seq"] = subscription.seq
        if message is not None:
            reply["msg"] = message
        self._reply(client, reply)

    def _reply(self, client: Client, reply: dict[str, Any]) -> None:
        now_ms = self.clock.ms()
        reply["sending_ts_ms"] = now_ms
        sid, seq = (reply["sid"], reply["seq"]) if "seq" in reply else (0, 0)
        client.connection.send(Frame(str(reply["type"]), "", now_ms, orjson.dumps(reply), (), sid, seq))

    # hot: once for each frame of each connection
    def send(
        self,
        client: Client,
        subscription: Subscription,
        kind: str,
        ticker: str,
        text: str,
        now_ms: int,
        number: int = 0,
        stated: tuple[Stated, ...] = (),
    ) -> None:
        """Number a message of a subscription and send it."""
        silent = client.silent.get(ticker)
        if silent is not None and silent(Message(subscription, kind, ticker, text, stated)):
            return
        sequence = ""
        if subscription.channel not in UNSEQUENCED:
            subscription.seq += 1
            sequence = f'"seq":{subscription.seq},'
        identity = f'"id":{number},' if number else ""
        payload = (
            f'{{"type":"{kind}",{identity}"sid":{subscription.sid},{sequence}"sending_ts_ms":{now_ms},"msg":{text}}}'
        )
        client.connection.send(
            Frame(kind, ticker, now_ms, payload.encode(), stated, subscription.sid, subscription.seq)
        )


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
