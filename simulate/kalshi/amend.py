"""`POST /portfolio/events/orders/{id}/amend`: price, total and expiry of an order that rests, under its own id.

The `count` is the total: what is filled already and what is to remain. An order keeps its place in the line only when
nothing but its size shrinks, or only its expiry changes; anything else goes to the back, and may trade at once.
"""

import time
from typing import Any

import orjson

from core.domain.errors import NotExact
from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, to_fixed
from simulate.kalshi.create import BadRequest
from simulate.kalshi.exchange import KalshiExchange, OrderRefused
from simulate.kalshi.ledger import KalshiAccount, OwnOrder
from simulate.kalshi.text import count_text
from simulate.matching import FOREVER_NS


def amend(exchange: KalshiExchange, account: KalshiAccount, own: OwnOrder, raw: bytes) -> dict[str, Any]:
    """Amend an order and return the 200 body.

    Raises:
        BadRequest: a body of the wrong shape.
        OrderRefused: it does not rest, is another one, or a value is none.
    """
    body = _parse(raw)
    engine, market = own.engine, own.market
    if body.get("exchange_index", -1) not in {-1, market.exchange_index}:
        # -1, or none: the exchange looks for the ticker itself.
        raise OrderRefused(404, "not_found")
    if body["ticker"] != market.ticker:
        raise OrderRefused(400, "order_ticker_mismatch")
    if body["side"] != engine.side.value:
        raise OrderRefused(400, "order_side_mismatch")
    if not own.resting:
        raise OrderRefused(404, "not_found")
    try:
        price, total = to_fixed(body["price"], PREDICTION_PRICE_EXP), to_fixed(body["count"], PREDICTION_SIZE_EXP)
    except NotExact as error:
        raise OrderRefused(400, "invalid_price") from error
    if price not in market.grid:
        raise OrderRefused(400, "invalid_price")
    if total <= engine.filled or total % 10_000:
        raise OrderRefused(400, "invalid_order_size")
    if not exchange.trading:
        raise OrderRefused(409, "trading_is_paused")
    if market.status != "active":
        raise OrderRefused(400, "MARKET_INACTIVE")
    expires_ns = engine.expires_ns
    if "expiration_time" in body:
        expires_ns = int(body["expiration_time"]) * 1_000_000_000 or FOREVER_NS
        if expires_ns <= time.time_ns():
            raise BadRequest("expiration_time must be in the future")
    exchange.amend(account, own, price_e4=price, total_e6=total, expires_ns=expires_ns)
    return {
        "order_id": engine.order_id,
        "client_order_id": own.client_order_id,
        "fill_count": count_text(engine.filled),
        "remaining_count": count_text(engine.remaining),
        "ts_ms": time.time_ns() // 1_000_000,
    }


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(str(error)) from error
    if not isinstance(body, dict) or any(not isinstance(body.get(name), str) for name in _REQUIRED):
        raise BadRequest(f"{', '.join(_REQUIRED)} are required, each as a string")
    if not isinstance(body.get("expiration_time", 0), int):
        raise BadRequest("expiration_time is a number of seconds")
    return body


_REQUIRED = ("ticker", "side", "price", "count")
