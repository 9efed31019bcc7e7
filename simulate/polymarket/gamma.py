"""Polymarket's Gamma: the catalogue, by cursor and by offset."""

import base64
import contextlib
from typing import Any

import orjson
from aiohttp import web

from simulate.answer import reply
from simulate.outage import Outage
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.market import MIN_ORDER_SIZE, PolymarketMarket
from simulate.polymarket.text import PRICES
from simulate.universe import question_of

PAGE_MAX = 100
OFFSET_MAX = 2_000
START = "2026-01-01T00:00:00Z"
END = "2030-12-31T23:59:00Z"


class GammaServer:
    """The catalogue's HTTP side."""

    def __init__(self, exchange: PolymarketExchange, outage: Outage) -> None:
        self.exchange = exchange
        self._outage = outage

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self._outage.middleware])
        app.router.add_get("/markets/keyset", self.keyset)
        app.router.add_get("/markets", self.markets)
        return app

    async def keyset(self, request: web.Request) -> web.Response:
        rows = self._filtered(request)
        start = 0
        with contextlib.suppress(ValueError):
            start = int(base64.urlsafe_b64decode(request.query.get("after_cursor", "")))
        limit = _limit(request)
        body: dict[str, Any] = {"markets": [market_row(market) for market in rows[start : start + limit]]}
        if start + limit < len(rows):
            body["next_cursor"] = base64.urlsafe_b64encode(str(start + limit).encode()).decode()
        return reply(body)

    async def markets(self, request: web.Request) -> web.Response:
        text = request.query.get("offset", "0")
        offset = int(text) if text.isdecimal() else 0
        if offset > OFFSET_MAX:
            return reply({"error": "offset too large, use /markets/keyset"}, 422)
        rows = self._filtered(request)[offset : offset + _limit(request)]
        return reply([market_row(market) for market in rows])

    def _filtered(self, request: web.Request) -> list[PolymarketMarket]:
        query = request.query
        rows = self.exchange.markets
        # Open markets unless it is asked for the closed ones.
        rows = [market for market in rows if market.closed is (query.get("closed") == "true")]
        conditions = set(query.getall("condition_ids", []))
        if conditions:
            rows = [market for market in rows if market.condition_id in conditions]
        tokens = set(query.getall("clob_token_ids", []))
        if tokens:
            rows = [market for market in rows if tokens.intersection(market.tokens)]
        if query.get("slug"):
            rows = [market for market in rows if slug_of(market) == query["slug"]]
        if query.get("id"):
            rows = [market for market in rows if str(market.linked.place + 1) in query.getall("id")]
        return rows


def slug_of(market: PolymarketMarket) -> str:
    """Return a market's slug."""
    return f"simulated-outcome-{market.linked.key}"


def market_row(market: PolymarketMarket) -> dict[str, Any]:
    """Return a market object; arrays stand inside JSON texts, as Gamma writes them."""
    linked = market.linked
    yes, no = market.tokens
    bid, ask = market.matcher.best_bid() or 0, market.matcher.best_ask() or 10_000
    question = question_of(linked.key)
    if linked.inverted:
        question = question.replace("happen?", "fail to happen?")
    middle = (bid + ask) // 2 if market.paid_e4 is None else market.paid_e4
    return {
        "id": str(linked.place + 1),
        "question": question,
        "conditionId": market.condition_id,
        "questionID": linked.question_id,
        "slug": slug_of(market),
        "version": "v1",
        "description": f"This market resolves to Yes if: {question}",
        "resolutionSource": "",
        "startDate": START,
        "endDate": END,
        "outcomes": '["Yes", "No"]',
        "outcomePrices": f'["{PRICES[middle]}", "{PRICES[10_000 - middle]}"]',
        "clobTokenIds": f'["{yes}", "{no}"]',
        "active": True,
        "closed": market.closed,
        "archived": False,
        "acceptingOrders": market.accepting,
        "acceptingOrdersTimestamp": START,
        "enableOrderBook": True,
        "negRisk": market.neg_risk,
        "negRiskMarketID": linked.question_id if market.neg_risk else "",
        "negRiskRequestID": linked.question_id if market.neg_risk else "",
        "negRiskOther": False,
        # JSON numbers on the wire; exact, as their text is that of the grid.
        "orderPriceMinTickSize": orjson.Fragment(market.tick_text),
        "orderMinSize": MIN_ORDER_SIZE,
        "secondsDelay": 0,
        "feesEnabled": True,
        "feeType": linked.fee_type,
        "feeSchedule": {
            "exponent": 1,
            "rate": orjson.Fragment(linked.fee_rate),
            "takerOnly": True,
            "rebateRate": orjson.Fragment("0.25"),
        },
        "makerBaseFee": 1_000,
        "takerBaseFee": 1_000,
        "makerRebatesFeeShareBps": 2_500,
        "bestBid": orjson.Fragment(PRICES[bid]),
        "bestAsk": orjson.Fragment(PRICES[ask]),
        "lastTradePrice": orjson.Fragment(market.last_price or "0"),
        "spread": orjson.Fragment(PRICES[max(ask - bid, 0)]),
        "umaResolutionStatuses": '["proposed"]' if market.resolution else "[]",
        **({"umaResolutionStatus": market.resolution} if market.resolution else {}),
        "clearBookOnStart": False,
        "rfqEnabled": False,
        "rewardsMinSize": 50,
        "events": [_event_row(market, question)],
    }


def _event_row(market: PolymarketMarket, question: str) -> dict[str, Any]:
    return {
        "id": str(900_000 + market.linked.place),
        "ticker": slug_of(market),
        "slug": slug_of(market),
        "title": question,
        "startDate": START,
        "endDate": END,
        "active": True,
        "closed": False,
        "negRisk": market.neg_risk,
        "negRiskAugmented": False,
    }


def _limit(request: web.Request) -> int:
    limit = request.query.get("limit", "20")
    return min(max(int(limit), 1), PAGE_MAX) if limit.isdecimal() else 20
