"""Polymarket's CLOB over REST, on aiohttp."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from simulate.answer import Handler, reply
from simulate.buckets import TokenBucket
from simulate.journal import Journal
from simulate.mishaps import Mishaps
from simulate.outage import Outage
from simulate.polymarket.amounts import OrderRefused
from simulate.polymarket.auth import EXCHANGE, NEG_RISK_EXCHANGE, l1_signer, l2_matches
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.ledger import PolymarketAccount
from simulate.polymarket.limits import TIERS, Limited
from simulate.polymarket.market import MIN_ORDER_SIZE, PolymarketMarket
from simulate.polymarket.messages import order_row, trade_row
from simulate.polymarket.sockets import Sockets
from simulate.polymarket.stream import PolymarketStream
from simulate.polymarket.text import PRICES
from simulate.settings import SimulateSettings
from simulate.truth import TruthLog

BATCH_MAX = 15
CANCELS_MAX = 1_000
BOOKS_MAX = 500
CURSOR_START = "MA=="
CURSOR_END = "LTE="
ALLOWANCE = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
SignedHandler = Callable[[web.Request, PolymarketAccount, Any], Awaitable[web.StreamResponse]]


class ClobServer:
    """The CLOB's HTTP side."""

    def __init__(
        self,
        settings: SimulateSettings,
        exchange: PolymarketExchange,
        stream: PolymarketStream,
        truth: TruthLog,
        journal: Journal,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.exchange = exchange
        self.stream = stream
        self.sockets = Sockets(settings, exchange, stream, truth, journal)
        self.connections = self.sockets.connections
        self.outage = Outage("polymarket", rng, lambda: len(stream.market_clients))
        self.mishaps = Mishaps(self.outage, journal, rng)
        exchange.mishaps = exchange.settlement.mishaps = stream.mishaps = self.mishaps
        self.mishaps.accounts = lambda: list(exchange.accounts.values())
        self.stale_books: dict[str, str] = {}
        """Books by token as `GET /book` answers them in place of the true ones."""
        self._truth = truth
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self.outage.middleware])
        route = app.router.add_route
        for path, public in (
            ("/ok", self.ok),
            ("/time", self.time),
            ("/version", self.version),
            ("/book", self.book),
            ("/tick-size", self.tick_size),
            ("/neg-risk", self.neg_risk),
            ("/price", self.price),
            ("/midpoint", self.midpoint),
            ("/clob-markets/{condition_id}", self.clob_market),
            ("/markets-by-token/{token_id}", self.market_by_token),
            ("/auth/derive-api-key", self.derive_key),
            ("/ws/market", self.sockets.market),
            ("/ws/user", self.sockets.user),
        ):
            route("GET", path, public)
        route("POST", "/books", self.books)
        route("POST", "/auth/api-key", self.derive_key)
        for method, path, handler in (
            ("GET", "/auth/api-keys", self.api_keys),
            ("POST", "/order", self.post_order),
            ("POST", "/orders", self.post_orders),
            ("DELETE", "/order", self.cancel_order),
            ("DELETE", "/orders", self.cancel_orders),
            ("DELETE", "/cancel-all", self.cancel_all),
            ("DELETE", "/cancel-market-orders", self.cancel_market),
            ("GET", "/data/orders", self.orders),
            ("GET", "/data/order/{order_id}", self.order),
            ("GET", "/data/trades", self.trades),
            ("GET", "/balance-allowance", self.balance),
            ("GET", "/balance-allowance/update", self.balance),
            ("POST", "/v1/heartbeats", self.heartbeat),
        ):
            route(method, path, self._signed(handler))
        return app

    # ------------------------------------------------------------------ public
    async def ok(self, request: web.Request) -> web.Response:
        return reply("OK")

    async def time(self, request: web.Request) -> web.Response:
        return reply(self.stream.clock.ms() // 1_000)

    async def version(self, request: web.Request) -> web.Response:
        return reply({"version": 2})

    async def book(self, request: web.Request) -> web.Response:
        token = request.query.get("token_id", "")
        market = self.exchange.by_token.get(token)
        if market is None:
            return reply({"error": "No orderbook exists for the requested token id"}, 404)
        return _text(self._rest_book(token))

    async def books(self, request: web.Request) -> web.Response:
        wanted = _json(await request.read())
        if not isinstance(wanted, list) or len(wanted) > BOOKS_MAX:
            return reply({"error": "Payload exceeds the limit"}, 400)
        tokens = [str(item.get("token_id")) for item in wanted if isinstance(item, dict)]
        known = [token for token in tokens if token in self.exchange.by_token]
        return _text(f"[{','.join(self._rest_book(token) for token in known)}]")

    def _rest_book(self, token: str) -> str:
        return self.stale_books.get(token) or self.exchange.by_token[token].rest_book(token, self.stream.clock.ms())

    async def tick_size(self, request: web.Request) -> web.Response:
        market = self.exchange.by_token.get(request.query.get("token_id", ""))
        return _text(f'{{"minimum_tick_size":{market.tick_text}}}') if market is not None else _no_market()

    async def neg_risk(self, request: web.Request) -> web.Response:
        market = self.exchange.by_token.get(request.query.get("token_id", ""))
        return reply({"neg_risk": market.neg_risk}) if market is not None else _no_market()

    async def price(self, request: web.Request) -> web.Response:
        token = request.query.get("token_id", "")
        market = self.exchange.by_token.get(token)
        if market is None:
            return _no_market()
        book = market.book(token, self.stream.clock.ms())
        return reply({"price": book.best_bid if request.query.get("side") == "BUY" else book.best_ask})

    async def midpoint(self, request: web.Request) -> web.Response:
        token = request.query.get("token_id", "")
        market = self.exchange.by_token.get(token)
        bid = market.matcher.best_bid() if market is not None else None
        ask = market.matcher.best_ask() if market is not None else None
        if market is None or bid is None or ask is None:
            return _no_market()
        return reply({"mid": PRICES[(bid + ask) // 2 if token == market.tokens[0] else 10_000 - (bid + ask) // 2]})

    async def clob_market(self, request: web.Request) -> web.Response:
        market = self.exchange.by_condition.get(request.match_info["condition_id"])
        if market is None:
            return reply({"error": "market not found"}, 404)
        return _text(_clob_market(market))

    async def market_by_token(self, request: web.Request) -> web.Response:
        market = self.exchange.by_token.get(request.match_info["token_id"])
        if market is None:
            return _no_market()
        yes, no = market.tokens
        return reply({"condition_id": market.condition_id, "primary_token_id": yes, "secondary_token_id": no})

    async def derive_key(self, request: web.Request) -> web.Response:
        """Check the L1 headers and return the wallet's credentials."""
        headers = request.headers
        address = headers.get("POLY_ADDRESS", "")
        signer = l1_signer(
            address,
            headers.get("POLY_TIMESTAMP", ""),
            headers.get("POLY_NONCE", "0"),
            headers.get("POLY_SIGNATURE", ""),
            chain_id=self.settings.chain_id,
        )
        account = next((found for found in self.exchange.accounts.values() if found.wallet.address == signer), None)
        if not signer or signer.lower() != address.lower() or account is None:
            return reply({"error": "Invalid L1 Request headers"}, 401)
        wallet = account.wallet
        return reply({"apiKey": wallet.api_key, "secret": wallet.secret, "passphrase": wallet.passphrase})

    # ------------------------------------------------------------------ signed
    async def api_keys(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        return reply({"apiKeys": [account.wallet.api_key]})

    async def post_order(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.StreamResponse:
        self._spend(account, "orders", 1)
        if not isinstance(body, dict):
            raise OrderRefused("Invalid order payload")
        market = self.exchange.market_of(body)
        is_post_only = bool(body.get("postOnly", False))
        place = partial(self.exchange.place, account, body)
        return await self.mishaps.around(
            request, "create", account.name, market, lambda: reply(place()), is_post_only=is_post_only
        )

    async def post_orders(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.StreamResponse:
        if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
            raise OrderRefused("Invalid order payload")
        if len(body) > BATCH_MAX:
            raise OrderRefused(f"Too many orders in payload: {len(body)}, max allowed: {BATCH_MAX}")
        self._spend(account, "orders", len(body))
        return await self.mishaps.around(
            request, "create", account.name, None, lambda: reply([self._place_leg(account, item) for item in body])
        )

    def _place_leg(self, account: PolymarketAccount, item: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.exchange.place(account, item)
        except OrderRefused as refused:
            self._note_refusal(account, refused)
            # A refused leg of a batch says success all the same: only errorMsg and orderID tell.
            amounts = {"takingAmount": "", "makingAmount": "", "status": ""}
            return {"errorMsg": refused.text, "orderID": "", **amounts, "success": True}

    async def cancel_order(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.StreamResponse:
        if not isinstance(body, dict) or not isinstance(body.get("orderID"), str):
            raise OrderRefused("Invalid order payload")
        self._spend(account, "cancels", 1)
        order = body["orderID"]
        return await self.mishaps.around(
            request, "cancel", account.name, None, lambda: reply(self.exchange.cancel(account, [order]))
        )

    async def cancel_orders(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        if not isinstance(body, list) or not all(isinstance(item, str) for item in body):
            raise OrderRefused("Invalid order payload")
        if len(body) > CANCELS_MAX:
            raise OrderRefused(f"Too many orders in payload: {len(body)}, max allowed: {CANCELS_MAX}")
        self._spend(account, "cancels", len(body))
        return reply(self.exchange.cancel(account, body))

    async def cancel_all(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        return self._cancel_some(account, lambda market, token: True)

    async def cancel_market(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        wanted = body if isinstance(body, dict) else {}
        return self._cancel_some(
            account,
            lambda market, token: wanted.get("market", market) == market and wanted.get("asset_id", token) == token,
        )

    async def orders(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        query = request.query
        account = self.mishaps.as_read(account)
        rows = [
            order_row(own)
            for own in account.open.values()
            if query.get("id", own.order_id) == own.order_id
            and query.get("market", own.market.condition_id) == own.market.condition_id
            and query.get("asset_id", own.token) == own.token
        ]
        return reply({"limit": 500, "count": len(rows), "next_cursor": CURSOR_END, "data": rows})

    async def order(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        own = self.mishaps.as_read(account).orders.get(request.match_info["order_id"])
        return reply(order_row(own)) if own is not None else reply({"error": "order not found"}, 404)

    async def trades(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        query = request.query
        until = self.mishaps.fills_until_ns(account.name)
        account = self.mishaps.as_read(account)
        after, before = _seconds(query.get("after"), 0), _seconds(query.get("before"), 2**40)
        rows = [
            trade_row(trade, account)
            for trade in reversed(account.trades)
            if query.get("id", trade.trade_id) == trade.trade_id
            and query.get("market", trade.market.condition_id) == trade.market.condition_id
            and query.get("asset_id", trade.token) == trade.token
            and after <= trade.matched_ns // 1_000_000_000 <= before
            and trade.matched_ns <= until
        ]
        return reply({"limit": 500, "count": len(rows), "next_cursor": CURSOR_END, "data": rows})

    async def balance(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        account = self.mishaps.as_read(account)
        if request.query.get("asset_type") == "CONDITIONAL":
            token = request.query.get("token_id", "")
            held = account.tokens.get(token, 0) - account.unsettled.get(token, 0)
        else:
            held = account.collateral_e6
        return reply(
            {
                "balance": str(held),
                "allowance": ALLOWANCE,
                "allowances": {EXCHANGE: ALLOWANCE, NEG_RISK_EXCHANGE: ALLOWANCE},
            }
        )

    async def heartbeat(self, request: web.Request, account: PolymarketAccount, body: Any) -> web.Response:
        sent = body.get("heartbeat_id", "") if isinstance(body, dict) else ""
        if account.heartbeat_id and sent != account.heartbeat_id:
            return reply({"error_msg": "Invalid Heartbeat ID", "heartbeat_id": account.heartbeat_id}, 400)
        account.heartbeat_id = str(uuid.uuid4())
        account.heartbeat_at = time.monotonic()
        return reply({"heartbeat_id": account.heartbeat_id})

    async def sweep_heartbeats(self) -> None:
        """Cancel everything of each key whose heartbeats started and then stopped."""
        while True:
            await asyncio.sleep(self.settings.heartbeat_sweep_s)
            for account in self.exchange.accounts.values():
                late_s = time.monotonic() - account.heartbeat_at
                if account.heartbeat_id and late_s > self.settings.heartbeat_limit_s:
                    account.heartbeat_id = ""
                    self.exchange.cancel(account, list(account.open))
                    self._truth.note("orders", venue="polymarket", event="heartbeat_missed", account=account.name)

    # ------------------------------------------------------------------ plumbing
    def _cancel_some(self, account: PolymarketAccount, wanted: Callable[[str, str], bool]) -> web.Response:
        chosen = [own.order_id for own in account.open.values() if wanted(own.market.condition_id, own.token)]
        self._spend(account, "cancels", 1)
        answer = self.exchange.cancel(account, chosen)
        self._bucket(account, "cancels").debit(len(answer["canceled"]))
        return reply(answer)

    def _bucket(self, account: PolymarketAccount, kind: str) -> TokenBucket:
        bucket = self._buckets.get((account.name, kind))
        if bucket is None:
            rate, burst, cancel_rate, cancel_burst = TIERS[self.settings.polymarket_tier]
            bucket = TokenBucket(rate, burst) if kind == "orders" else TokenBucket(cancel_rate, cancel_burst)
            self._buckets[account.name, kind] = bucket
        return bucket

    def _spend(self, account: PolymarketAccount, kind: str, cost: int) -> None:
        bucket = self._bucket(account, kind)
        if not bucket.take(cost):
            raise Limited(self.settings.polymarket_tier, bucket, cost)

    def _note_refusal(self, account: PolymarketAccount, refused: OrderRefused) -> None:
        self._truth.note("orders", venue="polymarket", event="refused", account=account.name, reason=refused.text)

    def _signed(self, handler: SignedHandler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            raw = await request.read()
            headers = request.headers
            account = self.exchange.by_key.get(headers.get("POLY_API_KEY", ""))
            if (
                account is None
                or headers.get("POLY_PASSPHRASE") != account.wallet.passphrase
                or headers.get("POLY_ADDRESS", "").lower() != account.wallet.address.lower()
                or not l2_matches(account.wallet.secret, headers, request.method, request.path, raw)
            ):
                return reply({"error": "Unauthorized/Invalid api key"}, 401)
            try:
                return await handler(request, account, _json(raw))
            except OrderRefused as refused:
                self._note_refusal(account, refused)
                body = {"error": refused.text}
                if refused.order_id:
                    body["orderID"] = refused.order_id
                return reply(body, refused.status)
            except Limited as limited:
                response = reply({"error": "Too Many Requests"}, 429)
                response.headers.update(limited.headers)
                return response

        return checked


def _seconds(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def _json(raw: bytes) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(raw)
    return None


def _text(body: str) -> web.Response:
    return web.Response(text=body, content_type="application/json")


def _no_market() -> web.Response:
    return reply({"error": "market not found"}, 404)


def _clob_market(market: PolymarketMarket) -> str:
    """Return the compact market object; numbers keep the text of their grid."""
    yes, no = market.tokens
    rate = market.linked.fee_rate
    return (
        f'{{"t":[{{"t":"{yes}","o":"Yes"}},{{"t":"{no}","o":"No"}}],"mos":{MIN_ORDER_SIZE},'
        f'"mts":{market.tick_text},"mbf":1000,"tbf":1000,"nr":{"true" if market.neg_risk else "false"},'
        f'"fd":{{"r":{rate},"e":1,"to":true}},"itode":{"true" if market.linked.delayed else "false"},'
        f'"rfqe":false,"ibce":false,"oas":0,"gst":null,"sd":0,"r":{{"mi":50,"ma":0.035,"moas":0}}}}'
    )
