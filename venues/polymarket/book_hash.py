"""Polymarket's hash of a book: the only proof of synchronisation the venue gives.

Source: recomputed from recorded books and changes (2025-10 to 2026-08); the official client's
`generate_orderbook_summary_hash`. An equal hash is strong proof of the book. Another one is a hint only: the venue may
have put in a last trade price we have not seen yet, so resynchronise once and then stop asking until the next snapshot.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, Self

import msgspec

from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, from_fixed
from venues.polymarket.events import Level


class Opened(Protocol):
    """A hash that can be taken further: one of `hashlib`."""

    def copy(self) -> Self:
        """Return one that goes its own way from here."""
        ...

    def update(self, data: bytes, /) -> None:
        """Take `data` in."""
        ...

    def hexdigest(self) -> str:
        """Return it as text."""
        ...


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
    opened = open_hash(
        market=market,
        asset_id=asset_id,
        time_ms=time_ms,
        bids=bids,
        asks=asks,
        size_min=size_min,
        tick=tick,
        neg_risk=neg_risk,
    )
    return close_hash(opened, last_trade_price)


def open_hash(
    *,
    market: str,
    asset_id: str,
    time_ms: int,
    bids: Sequence[Level],
    asks: Sequence[Level],
    size_min: int,
    tick: int,
    neg_risk: bool,
) -> Opened:
    """Return the hash of all but the last field, levels as given; `close_hash` finishes it, as often as one likes."""
    quoted = msgspec.json.encode
    return hashlib.sha1(
        b"".join(
            (
                b'{"market":',
                quoted(market),
                b',"asset_id":',
                quoted(asset_id),
                b',"timestamp":"%d","hash":"","bids":[' % time_ms,
                b",".join([_level_text(level) for level in bids]),
                b'],"asks":[',
                b",".join([_level_text(level) for level in asks]),
                b'],"min_order_size":"',
                from_fixed(size_min, PREDICTION_SIZE_EXP).encode(),
                b'","tick_size":"',
                from_fixed(tick, PREDICTION_PRICE_EXP).encode(),
                b'","neg_risk":',
                b"true" if neg_risk else b"false",
            )
        ),
        usedforsecurity=False,
    )


def close_hash(opened: Opened, last_trade_price: str | None) -> str:
    """Return the hash with the last field; None leaves it out. `opened` can be closed again with another."""
    digest = opened.copy()
    digest.update(
        b"}" if last_trade_price is None else b',"last_trade_price":%b}' % msgspec.json.encode(last_trade_price)
    )
    return digest.hexdigest()


# Most levels of a book are those of the book before it.
@lru_cache(maxsize=65_536)
def _level_text(level: Level) -> bytes:
    price, size = level
    return b'{"price":"%b","size":"%b"}' % (
        from_fixed(price, PREDICTION_PRICE_EXP).encode(),
        from_fixed(size, PREDICTION_SIZE_EXP).encode(),
    )
