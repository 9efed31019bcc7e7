"""Depth and Quote records of a book: pure functions, no state."""

from core.domain.book import Book
from core.domain.ids import Version
from core.domain.units import MICRO, MONEY_EXP
from schemas import derived
from schemas.enums import BookState

NO_DEPTH = Version(-1, -1)
"""What a quote names whose book is not shown."""
_TEN: list[int] = [10**power for power in range(31)]


# hot
def depth_of(
    book: Book,
    *,
    instrument: str,
    version: tuple[int, int],
    exponents: tuple[int, int],
    epoch: int,
    recv_ts_ns: int,
    trail: list[int],
    origin: tuple[int, int] = (-1, -1),
    state: BookState = "LIVE",
    cause: str = "",
) -> derived.Depth:
    """Return the top ten of a book that is shown.

    `exponents` are those of price and size, `origin` is frame number and place of the last record applied to the book.
    """
    bids, asks = book.bids.top(), book.asks.top()
    return derived.Depth(
        instrument=instrument,
        version_offset=version[0],
        version_index=version[1],
        state=state,
        cause=cause,
        price_exp=exponents[0],
        size_exp=exponents[1],
        bid_prices=bids[0],
        bid_sizes=bids[1],
        ask_prices=asks[0],
        ask_sizes=asks[1],
        epoch=epoch,
        book_frame_no=origin[0],
        book_index=origin[1],
        recv_ts_ns=recv_ts_ns,
        trail=trail,
    )


# hot
def quote_of(depth: derived.Depth, *, version: tuple[int, int], venue_ts_ns: int) -> derived.Quote:
    """Return the quote of a book that is shown, from its depth and as trusted as that; price and size 0 on a side that is empty."""
    bid_price, bid_size = (depth.bid_prices[0], depth.bid_sizes[0]) if depth.bid_prices else (0, 0)
    ask_price, ask_size = (depth.ask_prices[0], depth.ask_sizes[0]) if depth.ask_prices else (0, 0)
    return derived.Quote(
        instrument=depth.instrument,
        version_offset=version[0],
        version_index=version[1],
        depth_offset=depth.version_offset,
        depth_index=depth.version_index,
        state=depth.state,
        cause=depth.cause,
        price_exp=depth.price_exp,
        size_exp=depth.size_exp,
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
        imbalance_e6=imbalance_e6(bid_size, ask_size),
        microprice_e6=microprice_e6(bid_price, bid_size, ask_price, ask_size, depth.price_exp),
        epoch=depth.epoch,
        venue_ts_ns=venue_ts_ns,
        recv_ts_ns=depth.recv_ts_ns,
        trail=depth.trail,
    )


def dark_quote(
    *,
    instrument: str,
    version: tuple[int, int],
    state: BookState,
    cause: str,
    exponents: tuple[int, int],
    epoch: int,
    recv_ts_ns: int,
    trail: list[int],
) -> derived.Quote:
    """Return the quote of a book that is not shown: its state and why, no price, no size, no depth."""
    return derived.Quote(
        instrument=instrument,
        version_offset=version[0],
        version_index=version[1],
        depth_offset=NO_DEPTH[0],
        depth_index=NO_DEPTH[1],
        state=state,
        cause=cause,
        price_exp=exponents[0],
        size_exp=exponents[1],
        bid_price=0,
        bid_size=0,
        ask_price=0,
        ask_size=0,
        epoch=epoch,
        recv_ts_ns=recv_ts_ns,
        trail=trail,
    )


def imbalance_e6(bid_size: int, ask_size: int) -> int:
    """Return (bid size - ask size) / sum in millionths, rounded down; 0 for an empty book."""
    total = bid_size + ask_size
    return (bid_size - ask_size) * MICRO // total if total else 0


def microprice_e6(bid_price: int, bid_size: int, ask_price: int, ask_size: int, price_exp: int) -> int:
    """Return the mid weighted by the opposite sizes, in millionths of the currency, rounded down; 0 if a side is empty."""
    if not bid_size or not ask_size:
        return 0
    weighted = bid_price * ask_size + ask_price * bid_size
    total = bid_size + ask_size
    if price_exp >= MONEY_EXP:
        return weighted * _TEN[price_exp - MONEY_EXP] // total
    return weighted // (total * _TEN[MONEY_EXP - price_exp])
