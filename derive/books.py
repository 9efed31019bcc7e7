"""Market records onto a book. What contradicts the book raises a branch of `Resync`; ownership was judged before."""

from collections import deque

from core.domain.errors import NegativeLevel, Resync, SequenceGap
from core.domain.ids import Version
from core.domain.trust import GAP, NEGATIVE_LEVEL, because
from derive.audits import Change
from derive.quotes import dark_quote, depth_of, quote_of
from derive.state import InstrumentState
from schemas import derived, market
from schemas.record import Record


def contradiction(error: Resync) -> str:
    """Return the cause of distrust in a record that contradicts its book."""
    return because(NEGATIVE_LEVEL if isinstance(error, NegativeLevel) else GAP, str(error))


def load_snapshot(state: InstrumentState, snapshot: market.BookSnapshot, now_ns: int, changes: deque[Change]) -> bool:
    """Replace the book and return whether its top ten is another than before.

    What differs from a book that was right is noted in `changes`; of one that was not, the past is not known.

    Raises:
        NegativeLevel: the snapshot states no book.
    """
    book = state.book
    before = (book.bids.top(), book.asks.top())
    was_right = state.synced and not state.suspect and not state.degraded
    noted: list[Change] = []
    if was_right and len(snapshot.bid_prices) == len(snapshot.bid_sizes):
        for is_bid, ladder, prices, sizes in (
            (True, book.bids, snapshot.bid_prices, snapshot.bid_sizes),
            (False, book.asks, snapshot.ask_prices, snapshot.ask_sizes),
        ):
            if len(prices) == len(sizes):
                differences = ladder.differences(prices, sizes)
                noted += [(now_ns, state, is_bid, price, held) for price, (held, _) in differences.items()]
    book.load(snapshot.bid_prices, snapshot.bid_sizes, snapshot.ask_prices, snapshot.ask_sizes)
    changes.extend(noted)
    if not was_right:
        state.loaded_ns = now_ns
    state.exponents = (snapshot.price_exp, snapshot.size_exp)
    state.applied = (snapshot.frame_no, snapshot.index)
    return before != (book.bids.top(), book.asks.top())


# hot
def apply_delta(state: InstrumentState, delta: market.BookDelta, now_ns: int, changes: deque[Change]) -> bool:
    """Change one level, note what it was in `changes`, and return whether the top ten is another than before.

    Raises:
        NegativeLevel: the level would be below zero.
        SequenceGap: a side, a kind or exponents that cannot follow the snapshot.
    """
    side, kind, price = delta.side, delta.kind, delta.price
    if (delta.price_exp, delta.size_exp) != state.exponents or side == "UNKNOWN" or kind == "UNKNOWN":
        raise SequenceGap(
            f"expected BUY or SELL, ABSOLUTE or SIGNED at exponents {state.exponents}, "
            f"found {side} {kind} at {(delta.price_exp, delta.size_exp)}"
        )
    is_bid = side == "BUY"
    ladder = state.book.bids if is_bid else state.book.asks
    changes.append((now_ns, state, is_bid, price, ladder.size_at(price)))
    state.applied = (delta.frame_no, delta.index)
    return ladder.add(price, delta.size) if kind == "SIGNED" else ladder.put(price, delta.size)


# hot
def show_book(
    state: InstrumentState, cause: Record, offset: int, place: int, *, venue_ts_ns: int
) -> tuple[derived.Depth, derived.Quote]:
    """Return the Depth (at `place`) and Quote (after it) of a book that shows prices, caused by `cause`."""
    depth = depth_of(
        state.book,
        instrument=state.instrument,
        version=Version(offset, place),
        exponents=state.exponents,
        epoch=state.epoch,
        recv_ts_ns=cause.recv_ts_ns,  # type: ignore[attr-defined]  # every market record has both
        trail=cause.trail,  # type: ignore[attr-defined]
        origin=state.applied,
        state=state.state,
    )
    quote = quote_of(depth, version=Version(offset, place + 1), venue_ts_ns=venue_ts_ns, cause=state.cause)
    state.depth, state.quote = depth, quote
    return depth, quote


def show_dark(state: InstrumentState, cause: Record, offset: int, place: int) -> derived.Quote:
    """Return the Quote of a book that shows no price."""
    quote = dark_quote(
        instrument=state.instrument,
        version=Version(offset, place),
        state=state.state,
        cause=state.cause,
        exponents=state.exponents,
        epoch=state.epoch,
        recv_ts_ns=cause.recv_ts_ns,  # type: ignore[attr-defined]
        trail=cause.trail,  # type: ignore[attr-defined]
    )
    state.depth, state.quote = None, quote
    return quote
