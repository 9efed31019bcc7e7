"""Orders and trades as Polymarket writes them on the user channel and on REST."""

import time
from typing import Any

from simulate.matching import FOREVER_NS
from simulate.polymarket.amounts import GTD_EARLY_S
from simulate.polymarket.ledger import MakerFill, OwnOrder, PolymarketAccount, Trade
from simulate.polymarket.text import PRICES, money_text, size_text


def order_event(own: OwnOrder, kind: str) -> dict[str, Any]:
    """Return an `order` event; `kind` is PLACEMENT, UPDATE or CANCELLATION."""
    return {
        **_order(own),
        "event_type": "order",
        "order_owner": own.account.wallet.api_key,
        "timestamp": str(time.time_ns() // 1_000_000),
        "type": kind,
        "created_at": str(own.created_ns // 1_000_000_000),
    }


def order_row(own: OwnOrder) -> dict[str, Any]:
    """Return an order as `/data/orders` lists it."""
    # A list over REST even when it is empty: the venue's newer client takes nothing else.
    return {**_order(own), "associate_trades": list(own.trades), "created_at": own.created_ns // 1_000_000_000}


def trade_event(trade: Trade, account: PolymarketAccount) -> dict[str, Any]:
    """Return a `trade` event as one of its parties sees it."""
    return {
        **_trade(trade, account),
        "event_type": "trade",
        "type": "TRADE",
        "status": trade.status,
        "timestamp": str(time.time_ns() // 1_000_000),
        "trade_owner": trade.taker_owner,
    }


def trade_row(trade: Trade, account: PolymarketAccount) -> dict[str, Any]:
    """Return a trade as `/data/trades` lists it."""
    return {**_trade(trade, account), "status": f"TRADE_STATUS_{trade.status}"}


def _order(own: OwnOrder) -> dict[str, Any]:
    engine = own.engine
    expires = 0 if engine.expires_ns == FOREVER_NS else engine.expires_ns // 1_000_000_000 + GTD_EARLY_S
    market_buy = own.engine.budget_e6 is not None
    return {
        "id": own.order_id,
        "status": own.status,
        "owner": own.account.wallet.api_key,
        "maker_address": own.account.wallet.funder,
        "market": own.market.condition_id,
        "asset_id": own.token,
        "side": own.side,
        "original_size": money_text(own.original_e6) if market_buy else size_text(own.original_e6),
        "size_matched": size_text(engine.filled),
        "price": PRICES[own.price_e4],
        "outcome": own.market.outcome(own.token),
        "expiration": str(expires),
        "order_type": own.order_type.value,
        "associate_trades": own.trades or None,
    }


def _trade(trade: Trade, account: PolymarketAccount) -> dict[str, Any]:
    is_taker = trade.taker is not None and trade.taker.account.name == account.name
    return {
        "id": trade.trade_id,
        "taker_order_id": trade.taker_order_id,
        "market": trade.market.condition_id,
        "asset_id": trade.token,
        "side": trade.side,
        "size": size_text(trade.size_e6),
        "fee_rate_bps": "0",
        "price": PRICES[trade.price_e4],
        "match_time": str(trade.matched_ns // 1_000_000_000),
        "last_update": str(trade.updated_ns // 1_000_000_000),
        "outcome": trade.market.outcome(trade.token),
        "bucket_index": trade.bucket,
        "owner": account.wallet.api_key,
        "maker_address": account.wallet.funder,
        "transaction_hash": trade.transaction,
        "trader_side": "TAKER" if is_taker else "MAKER",
        "maker_orders": [_maker(trade, maker) for maker in trade.makers],
    }


def _maker(trade: Trade, maker: MakerFill) -> dict[str, Any]:
    return {
        "asset_id": maker.token,
        "fee_rate_bps": "0",
        "maker_address": maker.address,
        "matched_amount": size_text(maker.size_e6),
        "order_id": maker.order_id,
        "outcome": trade.market.outcome(maker.token),
        "outcome_index": trade.market.tokens.index(maker.token),
        "owner": maker.owner,
        "price": PRICES[maker.price_e4],
        "side": maker.side,
    }
