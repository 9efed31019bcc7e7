"""Kalshi's REST and the WebSocket upgrade, on aiohttp."""

import asyncio
import base64
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from simulate.answer import Handler, reply
from simulate.buckets import TokenBucket
from simulate.journal import Journal
from simulate.kalshi.amend import amend
from simulate.kalshi.auth import KeyRing, Refused
from simulate.kalshi.catalogue import event_row, market_row, orderbook, series_row
from simulate.kalshi.create import BadRequest, parse_create
from simulate.kalshi.exchange import KalshiExchange, OrderRefused
from simulate.kalshi.ledger import KalshiAccount
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.messages import fill_row, order_row, position_row
from simulate.kalshi.resolution import settlement_row
from simulate.kalshi.statements import Statements, event_change_row, series_change_row
from simulate.kalshi.stream import KalshiStream
from simulate.kalshi.subscriptions import Client
from simulate.kalshi.text import Stamp, price_text
from simulate.mishaps import Mishaps
from simulate.outage import Outage
from simulate.reader import NumberReader
from simulate.settings import SimulateSettings
from simulate.sockets import PING, Connection
from simulate.truth import TruthLog
from simulate.universe import KALSHI_SERIES

BASE = "/trade-api/v2"
WS_PATH = "/trade-api/ws/v2"
COMMAND_BYTES_MAX = 16 * 1024 * 1024
TIERS = {
    "basic": (200, 100),
    "advanced": (300, 300),
    "expert": (600, 600),
    "premier": (1_200, 1_200),
    "paragon": (2_400, 2_400),
    "prime": (4_800, 4_800),
    "prestige": (12_000, 9_600),
}
DEFAULT_COST = 10
ENDPOINT_COSTS = (
    {"method": "DELETE", "path": f"{BASE}/portfolio/events/orders", "cost": 2},
    {"method": "DELETE", "path": f"{BASE}/portfolio/events/orders/:order_id", "cost": 2},
    {"method": "GET", "path": f"{BASE}/portfolio/orders/:order_id", "cost": 2},
)
_STAMP = Stamp()
_STATUS_FILTER = {
    "open": {"active"},
    "paused": {"inactive"},
    "closed": {"closed", "determined", "disputed", "amended"},
    "settled": {"finalized"},
}

SignedHandler = Callable[[web.Request, KalshiAccount], Awaitable[web.StreamResponse]]


class KalshiServer:
    """The venue's HTTP side."""

    def __init__(
        self,
        settings: SimulateSettings,
        exchange: KalshiExchange,
        stream: KalshiStream,
        keys: KeyRing,
        truth: TruthLog,
        journal: Journal,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.exchange = exchange
        self.stream = stream
        self.connections: list[Connection] = []
        self.outage = Outage("kalshi", rng, lambda: sum(not connection.closed_ns for connection in self.connections))
        self.mishaps = exchange.mishaps = stream.mishaps = Mishaps(self.outage, journal, rng)
        self.mishaps.accounts = lambda: list(exchange.accounts.values())
        self.stale_books: dict[str, Any] = {}
        """Books as `GET …/orderbook` answers them in place of the true ones."""
        self._journal = journal
        self._keys = keys
        self._truth = truth
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self.outage.middleware])
        route = app.router.add_route
        route("GET", f"{BASE}/exchange/status", self.status)
        route("GET", f"{BASE}/exchange/user_data_timestamp", self.user_data_timestamp)
        route("GET", f"{BASE}/markets", self.markets)
        route("GET", f"{BASE}/markets/{{ticker}}", self.market)
        route("GET", f"{BASE}/markets/{{ticker}}/orderbook", self.orderbook)
        route("GET", f"{BASE}/series/fee_changes", self.series_fee_changes)
        route("GET", f"{BASE}/series/{{series}}", self.series)
        route("GET", f"{BASE}/events", self.events)
        route("GET", f"{BASE}/events/fee_changes", self.event_fee_changes)
        route("GET", f"{BASE}/events/{{event}}", self.event)
        route("GET", f"{BASE}/account/endpoint_costs", self.endpoint_costs)
        for method, path, handler in (
            ("GET", "/account/limits", self.limits),
            ("GET", "/portfolio/balance", self.balance),
            ("GET", "/portfolio/subaccounts/netting", self.netting),
            ("GET", "/portfolio/positions", self.positions),
            ("GET", "/portfolio/fills", self.fills),
            ("GET", "/portfolio/settlements", self.settlements),
            ("GET", "/portfolio/orders", self.orders),
            ("GET", "/portfolio/orders/{order_id}", self.order),
            ("POST", "/portfolio/events/orders", self.create),
            ("DELETE", "/portfolio/events/orders", self.cancel_all),
            ("DELETE", "/portfolio/events/orders/{order_id}", self.cancel),
            ("POST", "/portfolio/events/orders/{order_id}/amend", self.amend),
            ("POST", "/portfolio/orders", self.gone),
            ("DELETE", "/portfolio/orders/{order_id}", self.gone),
        ):
            route(method, BASE + path, self._signed(handler))
        route("GET", WS_PATH, self.socket)
        return app

    # ------------------------------------------------------------------ public
    async def status(self, request: web.Request) -> web.Response:
        return reply({"exchange_active": True, "trading_active": self.exchange.trading})

    async def user_data_timestamp(self, request: web.Request) -> web.Response:
        """Say how old the reads of balance, orders, fills and positions are."""
        return reply({"as_of_time": _STAMP.text(self.mishaps.as_of_ns())})

    async def markets(self, request: web.Request) -> web.Response:
        query = request.query
        limit = query.get("limit", "100")
        if not limit.isdecimal() or int(limit) > 1_000:
            return reply(
                {
                    "msg": "Parameter validation failed for GetMarkets: Key: 'GetMarketsParams.Limit' "
                    "Error:Field validation for 'Limit' failed on the 'lte' tag"
                },
                400,
            )
        rows = self.exchange.markets
        if query.get("tickers"):
            wanted = set(query["tickers"].split(","))
            rows = [market for market in rows if market.ticker in wanted]
        if query.get("event_ticker"):
            rows = [market for market in rows if market.linked.kalshi_event == query["event_ticker"]]
        if query.get("series_ticker"):
            rows = [market for market in rows if market.linked.kalshi_series == query["series_ticker"]]
        if query.get("status"):
            rows = [market for market in rows if market.status in _STATUS_FILTER.get(query["status"], ())]
        page, cursor = _page(rows, int(limit) or 100, query.get("cursor", ""))
        return reply({"cursor": cursor, "markets": [market_row(market) for market in page]})

    async def market(self, request: web.Request) -> web.Response:
        market = self.exchange.by_ticker.get(request.match_info["ticker"])
        if market is None:
            return _not_found()
        return reply({"market": market_row(market)})

    async def orderbook(self, request: web.Request) -> web.Response:
        market = self.exchange.by_ticker.get(request.match_info["ticker"])
        if market is None:
            return _not_found()
        if market.ticker in self.stale_books:
            return reply(self.stale_books[market.ticker])
        depth = request.query.get("depth", "0")
        return reply(orderbook(market, int(depth) if depth.isdecimal() else 0))

    async def series(self, request: web.Request) -> web.Response:
        series, stated = request.match_info["series"], self._stated()
        if series not in KALSHI_SERIES:
            return _not_found()
        return reply({"series": series_row(series, stated.series(series))})

    async def series_fee_changes(self, request: web.Request) -> web.Response:
        """List the upcoming changes of series' fees."""
        wanted = request.query.get("series_ticker", "")
        rows = [one for one in self._stated().series_changes if wanted in ("", one.ticker)]
        return reply({"series_fee_change_arr": [series_change_row(one) for one in rows]})

    async def event_fee_changes(self, request: web.Request) -> web.Response:
        """List the upcoming changes of events' overrides."""
        wanted = request.query.get("event_ticker", "")
        rows = [one for one in self._stated().event_changes if wanted in ("", one.ticker)]
        page, cursor = _page(rows, _limit(request), request.query.get("cursor", ""))
        return reply({"cursor": cursor, "event_fee_changes": [event_change_row(one) for one in page]})

    def _stated(self) -> Statements:
        stated = self.exchange.statements
        stated.settle()
        return stated

    def _event_row(self, name: str, *, nested: bool) -> dict[str, Any]:
        stated = self._stated()
        return event_row(self.exchange.markets, name, nested, stated.override(name), stated.sources.get(name, []))

    async def events(self, request: web.Request) -> web.Response:
        query = request.query
        names = list(dict.fromkeys(market.linked.kalshi_event for market in self.exchange.markets))
        if query.get("series_ticker"):
            names = [name for name in names if name.startswith(query["series_ticker"] + "-")]
        if query.get("tickers"):
            wanted = set(query["tickers"].split(","))
            names = [name for name in names if name in wanted]
        limit = query.get("limit", "200")
        page, cursor = _page(names, min(int(limit) if limit.isdecimal() else 200, 200), query.get("cursor", ""))
        nested = query.get("with_nested_markets") == "true"
        return reply({"cursor": cursor, "events": [self._event_row(name, nested=nested) for name in page]})

    async def event(self, request: web.Request) -> web.Response:
        name = request.match_info["event"]
        if not any(market.linked.kalshi_event == name for market in self.exchange.markets):
            return _not_found()
        return reply({"event": self._event_row(name, nested=True)})

    async def endpoint_costs(self, request: web.Request) -> web.Response:
        return reply({"default_cost": DEFAULT_COST, "endpoint_costs": ENDPOINT_COSTS})

    # ------------------------------------------------------------------ signed
    async def limits(self, request: web.Request, account: KalshiAccount) -> web.Response:
        read, write = self._bucket(account.name, "read"), self._bucket(account.name, "write")
        return reply(
            {
                "usage_tier": self.settings.kalshi_tier,
                "read": {"refill_rate": read.rate, "bucket_capacity": read.capacity},
                "write": {"refill_rate": write.rate, "bucket_capacity": write.capacity},
                "grants": [],
            }
        )

    async def netting(self, request: web.Request, account: KalshiAccount) -> web.Response:
        row = {"subaccount_number": 0, "enabled": account.nets_events, "exchange_index": account.exchange_index}
        return reply({"netting_configs": [row]})

    async def balance(self, request: web.Request, account: KalshiAccount) -> web.Response:
        account = self.mishaps.as_read(account)
        cash = account.cash_e6 - account.reserved_e6()
        value = sum(position.cost_e6 for position in account.positions.values())
        text = price_text(cash // 100)
        return reply(
            {
                "balance": cash // 10_000,
                "balance_dollars": text,
                "balance_breakdown": [{"exchange_index": account.exchange_index, "balance": text}],
                "portfolio_value": value // 10_000,
                "updated_ts": int(time.time()),
            }
        )

    async def positions(self, request: web.Request, account: KalshiAccount) -> web.Response:
        account = self.mishaps.as_read(account)
        ticker = request.query.get("ticker")
        names = [name for name in account.positions if not ticker or name == ticker]
        page, cursor = _page(names, _limit(request), request.query.get("cursor", ""))
        rows = [position_row(account, name) for name in page]
        return reply({"cursor": cursor, "market_positions": rows, "event_positions": []})

    async def fills(self, request: web.Request, account: KalshiAccount) -> web.Response:
        query = request.query
        until = self.mishaps.fills_until_ns(account.name)
        account = self.mishaps.as_read(account)
        tickers = set(query["ticker"].split(",")) if query.get("ticker") else None
        since = _seconds(query.get("min_ts")) * 1_000_000_000
        rows = [
            fill
            for fill in reversed(account.fills)
            if (tickers is None or fill.order.market.ticker in tickers)
            and (not query.get("order_id") or fill.order.engine.order_id == query["order_id"])
            and since <= fill.at_ns <= until
        ]
        page, cursor = _page(rows, _limit(request), query.get("cursor", ""))
        return reply({"cursor": cursor, "fills": [fill_row(fill) for fill in page]})

    async def settlements(self, request: web.Request, account: KalshiAccount) -> web.Response:
        """List what markets paid, newest first."""
        query = request.query
        account = self.mishaps.as_read(account)
        since = _seconds(query.get("min_ts")) * 1_000_000_000
        names = [
            ticker
            for ticker, paid in account.settlements.items()
            if (not query.get("ticker") or ticker == query["ticker"]) and paid.at_ns >= since
        ]
        names.sort(key=lambda ticker: -account.settlements[ticker].at_ns)
        page, cursor = _page(names, _limit(request), query.get("cursor", ""))
        events = {ticker: self.exchange.by_ticker[ticker].linked.kalshi_event for ticker in page}
        rows = [settlement_row(account, ticker, event) for ticker, event in events.items()]
        return reply({"cursor": cursor, "settlements": rows})

    async def orders(self, request: web.Request, account: KalshiAccount) -> web.Response:
        query = request.query
        account = self.mishaps.as_read(account)
        since = _seconds(query.get("min_ts")) * 1_000_000_000
        rows = [
            own
            for own in reversed(account.orders.values())
            if (not query.get("ticker") or own.market.ticker == query["ticker"])
            and (not query.get("status") or own.status == query["status"])
            and own.created_ns >= since
        ]
        page, cursor = _page(rows, _limit(request), query.get("cursor", ""))
        return reply({"cursor": cursor, "orders": [order_row(account, own) for own in page]})

    async def order(self, request: web.Request, account: KalshiAccount) -> web.Response:
        account = self.mishaps.as_read(account)
        own = account.orders.get(request.match_info["order_id"])
        return reply({"order": order_row(account, own)}) if own is not None else _not_found()

    async def create(self, request: web.Request, account: KalshiAccount) -> web.StreamResponse:
        new = parse_create(await request.read())
        self._stated()
        return await self.mishaps.around(
            request, "create", account.name, new.ticker, lambda: reply(self.exchange.create(account, new), 201)
        )

    async def cancel(self, request: web.Request, account: KalshiAccount) -> web.StreamResponse:
        own = account.orders.get(request.match_info["order_id"])
        if own is None or not _is_routed(request, own.market):
            return _not_found()
        return await self.mishaps.around(
            request, "cancel", account.name, own.market.ticker, lambda: reply(self.exchange.cancel(account, own))
        )

    async def amend(self, request: web.Request, account: KalshiAccount) -> web.StreamResponse:
        own, raw = account.orders.get(request.match_info["order_id"]), await request.read()
        if own is None:
            return _not_found()
        return await self.mishaps.around(
            request, "create", account.name, own.market.ticker, lambda: reply(amend(self.exchange, account, own, raw))
        )

    async def cancel_all(self, request: web.Request, account: KalshiAccount) -> web.Response:
        self.exchange.cancel_all(account)
        return web.Response(status=204)

    async def gone(self, request: web.Request, account: KalshiAccount) -> web.Response:
        code = "deprecated_v1_order_endpoint"
        return reply({"error": {"code": code, "message": code.replace("_", " ")}}, 410)

    # ------------------------------------------------------------------ websocket
    async def socket(self, request: web.Request) -> web.StreamResponse:
        try:
            name = self._keys.check(request.headers, "GET", request.path, _now_ms())
        except Refused as refused:
            return reply(refused.body, 401)
        # Pings are answered by the connection: whatever writes must write in one order.
        socket = web.WebSocketResponse(compress=False, max_msg_size=COMMAND_BYTES_MAX, autoping=False)
        await socket.prepare(request)
        connection = Connection(
            "kalshi",
            len(self.connections) + 1,
            socket,
            self._truth,
            self.settings.write_buffer_bytes_max,
            NumberReader(self._journal.contradicted),
        )
        connection.attach(request)
        self.connections.append(connection)
        client = Client(connection, self.exchange.accounts[name])
        self.stream.clients.append(client)
        self._truth.note("connections", venue="kalshi", event="opened", connection=connection.number, account=name)
        pings = asyncio.create_task(self._ping(connection))
        try:
            async for message in socket:
                if not connection.keep_alive(message) and message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    self.stream.command(client, message.data)
        finally:
            pings.cancel()
            self.stream.drop(client)
            connection.detach()
            self._truth.note(
                "connections", venue="kalshi", event="closed", connection=connection.number, frames=connection.ordinal
            )
        return socket

    async def _ping(self, connection: Connection) -> None:
        while connection.is_open:
            await asyncio.sleep(self.settings.ping_s)
            connection.control(PING, b"heartbeat")

    # ------------------------------------------------------------------ plumbing
    def _bucket(self, account: str, kind: str) -> TokenBucket:
        bucket = self._buckets.get((account, kind))
        if bucket is None:
            tier = self.settings.kalshi_tier
            read, write = TIERS[tier]
            # 3 s of budget for writes above Basic and for reads on Basic and Advanced, else 1 s.
            if kind == "read":
                bucket = TokenBucket(read, read * (3 if tier in {"basic", "advanced"} else 1))
            else:
                bucket = TokenBucket(write, write * (1 if tier == "basic" else 3))
            self._buckets[account, kind] = bucket
        return bucket

    def _signed(self, handler: SignedHandler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            try:
                name = self._keys.check(request.headers, request.method, request.path, _now_ms())
            except Refused as refused:
                return reply(refused.body, 401)
            kind = "read" if request.method == "GET" else "write"
            if not self._bucket(name, kind).take(_cost(request)):
                return reply({"error": "too many requests"}, 429)
            try:
                return await handler(request, self.exchange.accounts[name])
            except OrderRefused as refused:
                self._truth.note("orders", venue="kalshi", event="refused", account=name, reason=str(refused))
                return reply(refused.body, refused.status)
            except BadRequest as bad:
                return reply(bad.body, 400)

        return checked


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _cost(request: web.Request) -> int:
    resource = request.match_info.route.resource
    pattern = (resource.canonical if resource is not None else request.path).replace("{order_id}", ":order_id")
    for row in ENDPOINT_COSTS:
        if row["method"] == request.method and row["path"] == pattern:
            return int(str(row["cost"]))
    return DEFAULT_COST


def _is_routed(request: web.Request, market: KalshiMarket) -> bool:
    """Tell whether a cancel reaches its market's shard: an order id alone goes to shard 0."""
    query = request.query
    shard = query.get("exchange_index", "-1" if query.get("market_ticker") else "0")
    return query.get("market_ticker") == market.ticker if shard == "-1" else shard == str(market.exchange_index)


def _seconds(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _limit(request: web.Request) -> int:
    limit = request.query.get("limit", "100")
    return min(int(limit), 1_000) if limit.isdecimal() and int(limit) else 100


def _page(rows: list[Any], limit: int, cursor: str) -> tuple[list[Any], str]:
    """Return one page and the cursor of the next, empty on the last; a garbage cursor starts anew, as recorded."""
    start = 0
    with contextlib.suppress(ValueError):
        start = int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    return page, base64.urlsafe_b64encode(str(start + limit).encode()).decode() if more else ""


def _not_found() -> web.Response:
    return reply({"error": {"code": "not_found", "message": "not found"}}, 404)
