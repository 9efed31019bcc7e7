"""Market records onto a book. What contradicts the book raises a branch of `Resync`; ownership was judged before."""

from collections import deque

from core.domain.errors import NegativeLevel, Resync, SequenceGap
from core.domain.trust import GAP, NEGATIVE_LEVEL, because
from derive.audits import Change
from derive.state import InstrumentState
from schemas import market


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
    state.applied = state.at
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
    touched = ladder.add(price, delta.size) if kind == "SIGNED" else ladder.put(price, delta.size)
    changes.append((now_ns, state, is_bid, price, ladder.before))
    state.applied = state.at
    return touched
