"""Polymarket's hash of a book: the only proof of synchronisation the venue gives.

Source: recomputed from recorded books and changes (2025-10 to 2026-08); the official client's
`generate_orderbook_summary_hash`. An equal hash is strong proof of the book. Another one is a hint only: the venue may
have put in a last trade price we have not seen yet, so resynchronise once and then stop asking until the next snapshot.
"""

import hashlib

import msgspec

from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, from_fixed
from venues.polymarket.events import Level


def book_hash(
    *,
    market: str,
    asset_id: str,
    time_ms: int,
    bids: list[Level],
    asks: list[Level],
    size_min: int,
    tick: int,
    neg_risk: bool,
    last_trade_price: str | None,
) -> str:
    """Return the hash of a token's book, its levels in any order.

    `last_trade_price` is the venue's own text (`"0.850"`, `""`), never complemented for the other token; None leaves the
    field out, as it was before 2025-12-30. `size_min` and `neg_risk` are properties of the market: the socket does not
    state them.
    """
    return hash_in_order(
        market=market,
        asset_id=asset_id,
        time_ms=time_ms,
        bids=sorted(bids),
        asks=sorted(asks, reverse=True),
        size_min=size_min,
        tick=tick,
        neg_risk=neg_risk,
        last_trade_price=last_trade_price,
    )


def hash_in_order(
    *,
    market: str,
    asset_id: str,
    time_ms: int,
    bids: list[Level],
    asks: list[Level],
    size_min: int,
    tick: int,
    neg_risk: bool,
    last_trade_price: str | None,
) -> str:
    """Return SHA-1 over compact JSON of the fields in the venue's order, levels as given (the wire has the best last).

    Numbers are written in their shortest form, which is how the venue writes them.
    """
    fields: dict[str, object] = {
        "market": market,
        "asset_id": asset_id,
        "timestamp": str(time_ms),
        "hash": "",
        "bids": [_level_text(level) for level in bids],
        "asks": [_level_text(level) for level in asks],
        "min_order_size": from_fixed(size_min, PREDICTION_SIZE_EXP),
        "tick_size": from_fixed(tick, PREDICTION_PRICE_EXP),
        "neg_risk": neg_risk,
    }
    if last_trade_price is not None:
        fields["last_trade_price"] = last_trade_price
    return hashlib.sha1(msgspec.json.encode(fields), usedforsecurity=False).hexdigest()


def _level_text(level: Level) -> dict[str, str]:
    return {
        "price": from_fixed(level[0], PREDICTION_PRICE_EXP),
        "size": from_fixed(level[1], PREDICTION_SIZE_EXP),
    }
