"""Orders, fills and positions as Kalshi writes them on REST and WebSocket."""

import time
from typing import Any

from core.domain.units import ONE_DOLLAR_E4
from simulate.kalshi.ledger import Fill, KalshiAccount, OwnOrder
from simulate.kalshi.text import Stamp, count_text, money_text, price_text
from simulate.matching import FOREVER_NS, Side

_STAMP = Stamp()


def _sides(own: OwnOrder) -> dict[str, str]:
    """Return both the present and the deprecated words for an order's direction."""
    bid = own.engine.side is Side.BID
    return {
        "action": "buy",
        "side": "yes" if bid else "no",
        "outcome_side": "yes" if bid else "no",
        "book_side": own.engine.side.value,
    }


def fill_message(fill: Fill) -> dict[str, Any]:
    """Return the `fill` message of the private channel."""
    own = fill.order
    sides = _sides(own)
    message = {
        "trade_id": fill.trade_id,
        "order_id": own.engine.order_id,
        "market_ticker": own.market.ticker,
        "exchange_index": own.market.exchange_index,
        "is_taker": fill.is_taker,
        **sides,
        "purchased_side": sides["side"],
        "yes_price_dollars": price_text(fill.price_e4),
        "count_fp": count_text(fill.size_e6),
        "fee_cost": money_text(fill.fee_e6),
        "post_position_fp": count_text(fill.post_position_e6),
        "ts": fill.at_ns // 1_000_000_000,
        "ts_ms": fill.at_ns // 1_000_000,
        "subaccount": 0,
    }
    if own.client_order_id:
        message["client_order_id"] = own.client_order_id
    return message


def fill_row(fill: Fill) -> dict[str, Any]:
    """Return a fill as `GET /portfolio/fills` lists it."""
    own = fill.order
    return {
        "fill_id": fill.trade_id,
        "trade_id": fill.trade_id,
        "order_id": own.engine.order_id,
        "ticker": own.market.ticker,
        "market_ticker": own.market.ticker,
        **_sides(own),
        "count_fp": count_text(fill.size_e6),
        "yes_price_dollars": price_text(fill.price_e4),
        "no_price_dollars": price_text(ONE_DOLLAR_E4 - fill.price_e4),
        "is_taker": fill.is_taker,
        "fee_cost": money_text(fill.fee_e6),
        "created_time": _STAMP.text(fill.at_ns),
        "ts": fill.at_ns // 1_000_000_000,
        "subaccount_number": 0,
        "exchange_index": own.market.exchange_index,
    }


def order_message(account: KalshiAccount, own: OwnOrder) -> dict[str, Any]:
    """Return the `user_order` message of the private channel."""
    message = {
        **_order(account, own),
        "is_yes": own.engine.side is Side.BID,
        "created_ts_ms": own.created_ns // 1_000_000,
        "last_updated_ts_ms": own.updated_ns // 1_000_000,
    }
    if own.engine.expires_ns != FOREVER_NS:
        message["expiration_ts_ms"] = own.engine.expires_ns // 1_000_000
    if own.reason:
        message["last_update_reason"] = own.reason
    return message


def order_row(account: KalshiAccount, own: OwnOrder) -> dict[str, Any]:
    """Return an order as `GET /portfolio/orders` lists it."""
    row = {
        **_order(account, own),
        "action": "buy",
        "type": "limit",
        "no_price_dollars": price_text(ONE_DOLLAR_E4 - own.engine.price),
        "last_update_time": _STAMP.text(own.updated_ns),
    }
    if own.engine.expires_ns != FOREVER_NS:
        row["expiration_time"] = _STAMP.text(own.engine.expires_ns)
    return row


def position_message(account: KalshiAccount, ticker: str) -> dict[str, Any]:
    """Return the `market_position` message of the private channel."""
    position = account.position(ticker)
    return {
        "user_id": account.user_id,
        "market_ticker": ticker,
        "position_fp": count_text(position.size_e6),
        "position_cost_dollars": money_text(position.cost_e6),
        "realized_pnl_dollars": money_text(position.realized_e6),
        "fees_paid_dollars": money_text(position.fees_e6),
        "position_fee_cost_dollars": money_text(position.fees_e6),
        "volume_fp": count_text(position.volume_e6),
        "subaccount": 0,
    }


def position_row(account: KalshiAccount, ticker: str) -> dict[str, Any]:
    """Return a position as `GET /portfolio/positions` lists it."""
    position = account.position(ticker)
    return {
        "ticker": ticker,
        "exchange_index": 0,
        "position_fp": count_text(position.size_e6),
        "market_exposure_dollars": money_text(position.cost_e6),
        "total_traded_dollars": money_text(position.traded_e6),
        "realized_pnl_dollars": money_text(position.realized_e6),
        "fees_paid_dollars": money_text(position.fees_e6),
        "last_updated_ts": _STAMP.text(position.updated_ns or time.time_ns()),
    }


def _order(account: KalshiAccount, own: OwnOrder) -> dict[str, Any]:
    sides = _sides(own)
    del sides["action"]
    order = {
        "order_id": own.engine.order_id,
        "user_id": account.user_id,
        "ticker": own.market.ticker,
        "exchange_index": own.market.exchange_index,
        "status": own.status,
        **sides,
        "yes_price_dollars": price_text(own.engine.price),
        "initial_count_fp": count_text(own.engine.size),
        "remaining_count_fp": count_text(own.remaining_e6),
        "fill_count_fp": count_text(own.engine.filled),
        "taker_fill_cost_dollars": money_text(own.fill_cost_e6[True]),
        "maker_fill_cost_dollars": money_text(own.fill_cost_e6[False]),
        "taker_fees_dollars": money_text(own.fees_e6[True]),
        "maker_fees_dollars": money_text(own.fees_e6[False]),
        "self_trade_prevention_type": str(own.body.get("self_trade_prevention_type", "taker_at_cross")),
        "created_time": _STAMP.text(own.created_ns),
        "subaccount_number": 0,
    }
    if own.client_order_id:
        order["client_order_id"] = own.client_order_id
    return order
