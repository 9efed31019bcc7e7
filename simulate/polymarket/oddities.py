"""Faults in Polymarket's words. Nothing is numbered: what was not sent is simply not there."""

import asyncio
from typing import Any

from simulate.flood import Flood
from simulate.interference import Silence
from simulate.journal import Injected, Journal
from simulate.polymarket.clob import ClobServer
from simulate.polymarket.stream import MarketClient
from simulate.sockets import Connection, Frame
from simulate.truth import TruthLog

OWED_MAX_S = 2.0
"""Books that wait for changes come after this at the latest."""
COARSE_E4, FINE_E4, FINEST_E4 = 100, 10, 1


class PolymarketOddities:
    """Implements `simulate.oddities.Oddities`."""

    venue = "polymarket"
    place = 1

    def __init__(self, server: ClobServer, journal: Journal, truth: TruthLog) -> None:
        self.outage = server.outage
        self.mishaps = server.mishaps
        self.clock = server.stream.clock
        self._server = server
        self._stream = server.stream
        self._exchange = server.exchange
        self._journal = journal
        self._truth = truth
        self._silences: dict[int, Silence] = {}
        self._floods: dict[str, tuple[Flood, int]] = {}
        self._owing: Injected | None = None

    def market_data(self) -> list[Connection]:
        return [
            client.connection for client in self._stream.market_clients if client.connection.is_open and client.tokens
        ]

    def sockets(self) -> list[Connection]:
        return [connection for connection in self._server.connections if connection.is_open]

    def markets(self) -> list[str]:
        return list(self._exchange.by_condition)

    def markets_of(self, connection: Connection) -> list[str]:
        by_token = self._exchange.by_token
        tokens = self._client(connection).tokens
        return list(dict.fromkeys(by_token[token].condition_id for token in tokens if token in by_token))

    def book(self, connection: Connection, market: str, padding: int = 0) -> None:
        self._stream.book(self._client(connection), self._exchange.by_condition[market], padding=padding)

    def unknown(self, connection: Connection, market: str) -> None:
        now_ms = self.clock.ms()
        token = self._exchange.by_condition[market].tokens[0]
        text = f'{{"market":"{market}","asset_id":"{token}","timestamp":"{now_ms}","event_type":"book_attestation"}}'
        connection.send(Frame("book_attestation", market, now_ms, text.encode()))

    def freeze(self, injected: Injected, connection: Connection) -> None:
        silence = self._silences[injected.number] = Silence(injected, self._journal)
        connection.interferences.append(silence)

    def thaw(self, injected: Injected, connection: Connection) -> None:
        connection.remove(self._silences.pop(injected.number))

    def silence(self, injected: Injected, connection: Connection, market: str) -> None:
        self.freeze(injected, connection)

    def speak(self, injected: Injected, connection: Connection, market: str) -> None:
        self.thaw(injected, connection)

    def owe(self, injected: Injected, deltas: int) -> None:
        def owing(client: MarketClient, tokens: list[str]) -> None:
            client.owed = (tokens, deltas)
            client.owed_mark = injected.mark("delayed")
            self.forgive(injected, got=client.connection)

            def pay() -> None:
                self._stream.pay(client, now=True)
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
        old = self._exchange.by_condition[market].tick_e4
        new = FINE_E4 if old >= COARSE_E4 else COARSE_E4
        self._exchange.set_tick(market, new)
        return {"old_e4": old, "new_e4": new}

    def flood(self, market: str, levels: int) -> dict[str, Any]:
        place = self._exchange.by_condition[market]
        flood = Flood(self.venue, market, place.matcher, place.history, self._truth)
        self._floods[market] = (flood, place.tick_e4)
        if len(place.grid) < 2 * levels:
            place.set_tick(FINEST_E4)
        placed = flood.place(place.grid, levels)
        old_e4 = self._floods[market][1]
        if place.tick_e4 != old_e4:
            self._stream.tick_size_change(place, old_e4)
        self._stream.books(place)
        return {"placed": placed, "tick_e4": place.tick_e4}

    def drain(self, market: str) -> None:
        flood, tick_e4 = self._floods.pop(market)
        flood.take_away()
        if self._exchange.by_condition[market].tick_e4 != tick_e4:
            self._exchange.set_tick(market, tick_e4)
        else:
            self._stream.books(self._exchange.by_condition[market])

    def stop_trading(self, injected: Injected) -> None:
        """Nothing says so: the venue has no status endpoint of its own here."""

    def resume_trading(self, injected: Injected) -> None:
        """Nothing says so."""

    def stale_rest(self, market: str, *, on: bool) -> None:
        place = self._exchange.by_condition[market]
        for token in place.tokens:
            if on:
                self._server.stale_books[token] = place.rest_book(token, self.clock.ms())
            else:
                self._server.stale_books.pop(token, None)

    def _client(self, connection: Connection) -> MarketClient:
        return next(client for client in self._stream.market_clients if client.connection is connection)
