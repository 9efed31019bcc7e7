"""Faults in Kalshi's words. What it says later is numbered later; what it numbered is not taken back."""

import asyncio
from typing import Any

from simulate.faults import BadFault
from simulate.flood import Flood
from simulate.grid import KALSHI_STRUCTURES, Grid
from simulate.interference import Hold
from simulate.journal import Injected, Journal
from simulate.kalshi.catalogue import orderbook
from simulate.kalshi.rest import KalshiServer
from simulate.kalshi.subscriptions import BOOK, PRIVATE, Client, Message, Subscription
from simulate.sockets import Connection, Frame
from simulate.truth import TruthLog

OWED_MAX_S = 2.0
"""A snapshot that waits for changes comes after this at the latest."""
PUBLIC = frozenset({"orderbook_delta", "orderbook_snapshot", "trade", "ticker"})
"""What a silent market does not say."""
FINER = {
    "linear_cent": "deci_cent",
    "tapered_deci_cent": "deci_cent",
    "deci_cent": "center_centi_edge_centi_cent",
}


class _Stalled:
    """One market's messages, kept before they are numbered."""

    def __init__(self, client: Client, injected: Injected) -> None:
        self._client = client
        self._injected = injected
        self._waiting: list[Message] = []

    def take(self, message: Message) -> bool:
        if message.kind not in PUBLIC:
            return False
        if message.kind == "orderbook_snapshot":
            # It says all that the waiting deltas of its subscription would have said.
            stays = [kept for kept in self._waiting if kept.subscription is not message.subscription]
            for kept in self._waiting:
                if kept.subscription is message.subscription:
                    frame = Frame(kept.kind, kept.ticker, 0, kept.text.encode(), kept.stated)
                    self._client.connection.drop(frame, self._injected.mark("dropped"))
            self._waiting = stays
            return False
        self._waiting.append(message)
        return True

    def release(self) -> list[Message]:
        waiting, self._waiting = self._waiting, []
        return waiting


class KalshiOddities:
    """Implements `simulate.oddities.Oddities`."""

    venue = "kalshi"
    place = 0

    def __init__(self, server: KalshiServer, journal: Journal, truth: TruthLog) -> None:
        self.outage = server.outage
        self.mishaps = server.mishaps
        self.clock = server.stream.clock
        self._server = server
        self._stream = server.stream
        self._exchange = server.exchange
        self._journal = journal
        self._truth = truth
        self._stalled: dict[tuple[int, str], _Stalled] = {}
        self._holds: dict[int, Hold] = {}
        self._floods: dict[str, Flood] = {}
        self._owing: Injected | None = None

    def market_data(self) -> list[Connection]:
        return [
            client.connection
            for client in self._stream.clients
            if client.connection.is_open
            and client.on_channel(BOOK) is not None
            and not any(subscription.channel in PRIVATE for subscription in client.subscriptions.values())
        ]

    def sockets(self) -> list[Connection]:
        return [client.connection for client in self._stream.clients if client.connection.is_open]

    def markets(self) -> list[str]:
        return list(self._exchange.by_ticker)

    def markets_of(self, connection: Connection) -> list[str]:
        _, subscription = self._book(connection)
        return [ticker for ticker in subscription.tickers or () if ticker in self._exchange.by_ticker]

    def book(self, connection: Connection, market: str, padding: int = 0) -> None:
        client, subscription = self._book(connection)
        self._stream.snapshot(client, subscription, market, padding=padding)

    def unknown(self, connection: Connection, market: str) -> None:
        client, subscription = self._book(connection)
        text = f'{{"market_ticker":"{market}","ts_ms":{self.clock.ms()}}}'
        self._stream.send(client, subscription, "orderbook_attestation", market, text, self.clock.ms())

    def freeze(self, injected: Injected, connection: Connection) -> None:
        hold = self._holds[injected.number] = Hold(injected, self._journal)
        connection.interferences.append(hold)

    def thaw(self, injected: Injected, connection: Connection) -> None:
        overflow = injected.wanted.parameters["overflow"]
        self._holds.pop(injected.number).release(connection, lose=overflow)
        pair = self._find(connection)
        if overflow and pair is not None:
            with connection.marked(injected.mark("added")):
                self._stream.overflow(*pair)

    def silence(self, injected: Injected, connection: Connection, market: str) -> None:
        client, _ = self._book(connection)
        if market in client.silent:
            raise BadFault(f"asset_silent: {market} is silent already", missing=True)
        stalled = self._stalled[injected.number, market] = _Stalled(client, injected)
        client.silent[market] = stalled.take

    def speak(self, injected: Injected, connection: Connection, market: str) -> None:
        stalled = self._stalled.pop((injected.number, market))
        client = next((client for client in self._stream.clients if client.connection is connection), None)
        if client is None:
            return
        client.silent.pop(market, None)
        for message in stalled.release():
            if message.subscription.sid not in client.subscriptions:
                continue
            with connection.marked(injected.mark("delayed")):
                self._stream.send(
                    client,
                    message.subscription,
                    message.kind,
                    market,
                    message.text,
                    self.clock.ms(),
                    stated=message.stated,
                )

    def owe(self, injected: Injected, deltas: int) -> None:
        def owing(client: Client, subscription: Subscription, tickers: list[str]) -> None:
            client.owed.update(dict.fromkeys(tickers, deltas))
            client.owed_mark = injected.mark("delayed")
            self.forgive(injected, got=client.connection)

            def pay() -> None:
                for ticker in list(client.owed):
                    if client.connection.is_open and subscription.sid in client.subscriptions:
                        self._stream.pay(client, subscription, ticker, now=True)
                self._journal.end(injected)

            asyncio.get_running_loop().call_later(OWED_MAX_S, pay)

        self._owing = injected
        self._stream.owing = owing

    def forgive(self, injected: Injected, got: Connection | None = None) -> None:
        if self._owing is not injected:
            return
        self._owing = self._stream.owing = None
        if got is None:
            self._journal.end(injected)
        else:
            self._journal.strike(injected, got)

    def change_tick(self, market: str) -> dict[str, Any]:
        place = self._exchange.by_ticker[market]
        old, new = place.structure, FINER.get(place.structure)
        if new is None:
            raise BadFault(f"{market} has the finest grid already ({old})", missing=True)
        self._exchange.set_structure(place, new)
        return {"old": old, "new": new}

    def flood(self, market: str, levels: int) -> dict[str, Any]:
        place = self._exchange.by_ticker[market]
        while len(place.grid) < 2 * levels and place.structure in FINER:
            self.change_tick(market)
        flood = self._floods[market] = Flood(self.venue, market, place.matcher, place.history, self._truth)
        placed = flood.place(Grid(KALSHI_STRUCTURES[place.structure]), levels)
        self._tell(market)
        return {"placed": placed, "structure": place.structure}

    def drain(self, market: str) -> None:
        self._floods.pop(market).take_away()
        self._tell(market)

    def stop_trading(self, injected: Injected) -> None:
        if injected.wanted.parameters["orders"]:
            self._exchange.trading = False

    def resume_trading(self, injected: Injected) -> None:
        if injected.wanted.parameters["orders"]:
            self._exchange.trading = True

    def stale_rest(self, market: str, *, on: bool) -> None:
        if on:
            self._server.stale_books[market] = orderbook(self._exchange.by_ticker[market], 0)
        else:
            self._server.stale_books.pop(market, None)

    def _tell(self, market: str) -> None:
        for client, subscription in self._stream.books_of(market):
            self._stream.snapshot(client, subscription, market)

    def _find(self, connection: Connection) -> tuple[Client, Subscription] | None:
        for client in self._stream.clients:
            subscription = client.on_channel(BOOK)
            if client.connection is connection and connection.is_open and subscription is not None:
                return client, subscription
        return None

    def _book(self, connection: Connection) -> tuple[Client, Subscription]:
        pair = self._find(connection)
        if pair is None:
            raise BadFault(f"kalshi connection {connection.number} follows no books", missing=True)
        return pair
