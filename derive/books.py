"""Market records onto a book. What contradicts the book raises a branch of `Resync`; ownership was judged before."""

from core.domain.errors import SequenceGap
from core.domain.ids import Version
from derive.quotes import dark_quote, depth_of, quote_of
from derive.state import InstrumentState
from schemas import derived, market
from schemas.record import Record


def load_snapshot(state: InstrumentState, snapshot: market.BookSnapshot) -> bool:
    """Replace the book and return whether its top ten is another than before.

    Raises:
        NegativeLevel: the snapshot states no book.
    """
    book = state.book
    before = (book.bids.top(), book.asks.top())
    book.load(snapshot.bid_prices, snapshot.bid_sizes, snapshot.ask_prices, snapshot.ask_sizes)
    state.exponents = (snapshot.price_exp, snapshot.size_exp)
    return before != (book.bids.top(), book.asks.top())


# hot
def apply_delta(state: InstrumentState, delta: market.BookDelta) -> bool:
    """Change one level and return whether the top ten is another than before.

    Raises:
        NegativeLevel: the level would be below zero.
        SequenceGap: a side, a kind or exponents that cannot follow the snapshot.
    """
    side, kind = delta.side, delta.kind
    if (delta.price_exp, delta.size_exp) != state.exponents or side == "UNKNOWN" or kind == "UNKNOWN":
        raise SequenceGap(
            f"expected BUY or SELL, ABSOLUTE or SIGNED at exponents {state.exponents}, "
            f"found {side} {kind} at {(delta.price_exp, delta.size_exp)}"
        )
    ladder = state.book.bids if side == "BUY" else state.book.asks
    return ladder.add(delta.price, delta.size) if kind == "SIGNED" else ladder.put(delta.price, delta.size)


# hot
def show_live(
    state: InstrumentState, cause: Record, offset: int, place: int, *, venue_ts_ns: int
) -> tuple[derived.Depth, derived.Quote]:
    """Return the Depth (at `place`) and Quote (after it) of a LIVE book, caused by `cause`."""
    depth = depth_of(
        state.book,
        instrument=state.instrument,
        version=Version(offset, place),
        exponents=state.exponents,
        epoch=state.epoch,
        recv_ts_ns=cause.recv_ts_ns,  # type: ignore[attr-defined]  # every market record has both
        trail=cause.trail,  # type: ignore[attr-defined]
    )
    quote = quote_of(depth, version=Version(offset, place + 1), venue_ts_ns=venue_ts_ns)
    state.depth, state.quote = depth, quote
    return depth, quote


def show_dark(state: InstrumentState, cause: Record, offset: int, place: int) -> derived.Quote:
    """Return the Quote of a book that is not LIVE."""
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
