"""Polymarket's two WebSockets, on aiohttp."""

import time
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from simulate.journal import Journal
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.stream import MarketClient, PolymarketStream, UserClient
from simulate.reader import HashReader
from simulate.settings import SimulateSettings
from simulate.sockets import Connection, Frame
from simulate.truth import TruthLog

COMMAND_BYTES_MAX = 16 * 1024 * 1024


class Sockets:
    """All connections of both sockets, numbered together."""

    def __init__(
        self,
        settings: SimulateSettings,
        exchange: PolymarketExchange,
        stream: PolymarketStream,
        truth: TruthLog,
        journal: Journal,
    ) -> None:
        self.connections: list[Connection] = []
        self._settings = settings
        self._exchange = exchange
        self._stream = stream
        self._truth = truth
        self._journal = journal

    async def market(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection of `/ws/market`."""
        reader = HashReader(self._exchange.book_at, self._journal.contradicted, self._journal.healed)
        socket, connection = await self._open(request, reader)
        client = MarketClient(connection)
        self._stream.market_clients.append(client)
        try:
            async for message in socket:
                if not connection.keep_alive(message) and message.type is WSMsgType.TEXT:
                    self._stream.market_command(client, message.data)
        finally:
            self._stream.drop_market(client)
            self._closed(connection)
        return socket

    async def user(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection of `/ws/user`, which its first message authenticates."""
        socket, connection = await self._open(request)
        client: UserClient | None = None
        try:
            async for message in socket:
                if connection.keep_alive(message) or message.type is not WSMsgType.TEXT:
                    continue
                if client is not None:
                    self._stream.user_command(client, message.data)
                elif message.data == "PING":
                    connection.send(Frame("PONG", "", time.time_ns() // 1_000_000, b"PONG"))
                else:
                    client = self._authenticate(connection, message.data)
                    if client is None:
                        break
                    self._stream.user_clients.append(client)
        finally:
            if client is not None:
                self._stream.user_clients.remove(client)
            self._closed(connection)
        return socket

    def _authenticate(self, connection: Connection, text: str) -> UserClient | None:
        first = _object(text)
        auth = first.get("auth")
        if not isinstance(auth, dict):
            return None
        account = self._exchange.by_key.get(str(auth.get("apiKey")))
        if account is None:
            return None
        wallet = account.wallet
        if auth.get("secret") != wallet.secret or auth.get("passphrase") != wallet.passphrase:
            return None
        return UserClient(connection, account, {str(market) for market in first.get("markets") or []})

    async def _open(
        self, request: web.Request, reader: HashReader | None = None
    ) -> tuple[web.WebSocketResponse, Connection]:
        # Pings are answered by the connection: whatever writes must write in one order.
        socket = web.WebSocketResponse(compress=False, max_msg_size=COMMAND_BYTES_MAX, autoping=False)
        await socket.prepare(request)
        connection = Connection(
            "polymarket",
            len(self.connections) + 1,
            socket,
            self._truth,
            self._settings.write_buffer_bytes_max,
            reader,
        )
        connection.attach(request)
        self.connections.append(connection)
        self._truth.note(
            "connections", venue="polymarket", event="opened", connection=connection.number, path=request.path
        )
        return socket, connection

    def _closed(self, connection: Connection) -> None:
        connection.detach()
        self._truth.note(
            "connections", venue="polymarket", event="closed", connection=connection.number, frames=connection.ordinal
        )


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
