"""The venue's own proof of a book: Polymarket's hash, recomputed from the book we hold.

The hash covers ten fields: market, token, the message's time, the levels, smallest order, tick, neg_risk and the price
of the last trade. Which messages can be checked:

* a `book` that states its tick (the first of a subscription does): with the last price it states, or, on a refresh, the
  last one known or that of a trade seen lately;
* a `price_change`, by the hash of its last change of our token, if a book before it was proven, or an earlier change:
  then market, token, smallest order, tick and neg_risk are known to be what the venue hashes, and only the last price
  may be another (the known one, that of a trade seen lately, or the price of this change, which may be the trade's);
* nothing after a book whose hash could not be reproduced: its facts may be wrong, or the last price is one we have not
  seen. A trade that comes later can still prove it; if the next change is not explained either, every price of the grid
  is tried once. What is not proven by then costs no trust, for the fault is likely ours: it is counted.

A hash that nothing explains after a proven one means that a change was lost or overtaken. It costs the book its trust at
once; the venue's refresh after a trade may heal it before a resync is asked for.

The venue sends messages again at will. Each hash covers a time, so a hash that was seen before a later one names a
message that is already in the book, and so does any message older than a book that was proven: it is dropped, for its
absolute sizes would undo what came after it. One that is older than what its own connection sent before it, and neither,
contradicts the order of that connection: it costs trust where hashes are proven at all.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec

from core.domain.book import Book
from core.domain.units import ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, from_fixed
from core.runtime.clock import NS_PER_MS
from schemas import market
from venues.polymarket.book_hash import Opened, close_hash, open_hash
from venues.polymarket.rules import TICK_DECIMALS

PRICES_MAX = 16
"""Texts of last prices that are tried: four for each of the newest trades."""
SEARCHED_MAX = 2_000
"""Last prices tried at most for a book that nothing else proves, about a microsecond each."""
SEEN_MAX = 64
"""Hashes of a connection remembered to know a message that is sent again."""
CONNECTIONS_MAX = 3
"""Connections whose order is remembered: the one that owns the book, one that is to take it over, one before it."""
_EXPONENTS = (PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP)
_NO_TRADE = "none"

Pending = tuple[int, str, list[tuple[int, int]], list[tuple[int, int]]]
"""Time in ms, hash, bids and asks of a book that is not proven."""


class ProofState(msgspec.Struct, frozen=True, array_like=True):
    """A `HashProof` as it is written down."""

    token: str
    size_min: int
    tick: int
    neg_risk: bool
    last: str | None
    proven: bool
    recent: list[str]
    pending: Pending | None
    orders: dict[int, tuple[list[str], str, int, int]]


Place = Literal["new", "known", "late"]
"""Of a message in its connection: `known`, it is in the book already, for it was taken before a later one or is older than
a book that was proven; `late`, it is older than another and was not seen before."""


class _Order:
    """What a connection said of the instrument: hashes, the newest of them, the latest time, the latest proven."""

    __slots__ = ("newest", "newest_ns", "proven_ns", "seen")

    def __init__(self, seen: list[str], newest: str, newest_ns: int, proven_ns: int) -> None:
        self.seen = dict.fromkeys(seen)
        self.newest = newest
        self.newest_ns = newest_ns
        self.proven_ns = proven_ns


class HashProof:
    """What one instrument's hash covers beside its levels, and whether that is known to be right.

    Attributes:
        proven: a hash was reproduced since the last book, or by it.
    """

    __slots__ = (
        "_last",
        "_market",
        "_neg_risk",
        "_orders",
        "_pending",
        "_recent",
        "_size_min",
        "_tick",
        "_token",
        "proven",
    )

    def __init__(self, instrument: str) -> None:
        self._market = instrument.partition(":")[2]
        self._token = ""
        self._size_min = 0
        self._tick = 0
        self._neg_risk = False
        self._last: str | None = None
        self._recent: deque[str] = deque(maxlen=PRICES_MAX)
        self._pending: Pending | None = None
        self.proven = False
        self._orders: dict[int, _Order] = {}

    # hot
    def place(self, epoch: int, stated: str, venue_ns: int) -> Place:
        """Say where a message of a connection stands in its order, and remember it.

        The same book may come again on another connection, and in the same millisecond a book may come back to what it
        was: these are new.
        """
        order = self._orders.get(epoch)
        if order is None:
            order = self._orders[epoch] = _Order([], "", 0, 0)
            if len(self._orders) > CONNECTIONS_MAX:
                del self._orders[min(self._orders)]
        if stated == order.newest:
            return "new"
        seen = order.seen
        late = venue_ns < order.newest_ns
        if late and (stated in seen or venue_ns < order.proven_ns):
            return "known"
        seen[stated] = None
        if len(seen) > SEEN_MAX:
            del seen[next(iter(seen))]
        if late:
            return "late"
        order.newest, order.newest_ns = stated, venue_ns
        return "new"

    def newest_ns(self, epoch: int) -> int:
        """Return the latest time that a connection has stated, 0 if none."""
        order = self._orders.get(epoch)
        return order.newest_ns if order is not None else 0

    def take(self, snapshot: market.BookSnapshot, book: Book) -> bool:
        """Begin anew with a book that was just loaded; return whether its hash is proven."""
        self._token, self._size_min, self._neg_risk = snapshot.token, snapshot.size_min, snapshot.neg_risk
        self._tick = snapshot.tick or self._tick
        tried: list[str | None]
        if snapshot.last_price:
            tried = ["" if snapshot.last_price == _NO_TRADE else snapshot.last_price]
        else:
            tried = [self._last, *self._recent, None]
        self.proven = False
        self._pending = None
        if not self._token or not self._tick or (snapshot.price_exp, snapshot.size_exp) != _EXPONENTS:
            return False
        time_ms = snapshot.venue_ts_ns // NS_PER_MS
        bids, asks = book.bids.levels_up(), book.asks.levels_up()
        known = self._tick
        for tick in (known,) if snapshot.tick else (known, *(one for one in TICK_DECIMALS if one != known)):
            # A change of tick that was not heard of, too, is in the hash.
            self._tick = tick
            if self._explains(self._open(time_ms, bids, asks), snapshot.hash, tried):
                self.proven = True
                self._note_proven(snapshot.epoch, snapshot.venue_ts_ns)
                return True
        self._tick = known
        self._pending = (time_ms, snapshot.hash, bids, asks)
        return False

    def learn_tick(self, tick: int) -> None:
        """Take a tick told apart from any book: the books after it do not repeat it."""
        self._tick = tick

    def check(self, delta: market.BookDelta, book: Book) -> bool | None:
        """Return whether the book after `delta` has the hash stated; None if that cannot be known."""
        if not self._token or not self._tick:
            return None
        opened = self._open(delta.venue_ts_ns // NS_PER_MS, book.bids.levels_up(), book.asks.levels_up())
        if self._explains(opened, delta.hash, [self._last, *self._recent, *_texts(delta.price)]):
            self.proven, self._pending = True, None
            self._note_proven(delta.epoch, delta.venue_ts_ns)
            return True
        if self._pending is not None:
            self.proven = self._search(self._pending)
            self._pending = None
            if self.proven and close_hash(opened, self._last) == delta.hash:
                self._note_proven(delta.epoch, delta.venue_ts_ns)
                return True
        return False if self.proven else None

    def _note_proven(self, epoch: int, venue_ns: int) -> None:
        order = self._orders.get(epoch)
        if order is not None and venue_ns > order.proven_ns:
            order.proven_ns = venue_ns

    def _search(self, pending: Pending) -> bool:
        """Find the last price that proves a book, among all of the grid."""
        time_ms, stated, bids, asks = pending
        opened = self._open(time_ms, bids, asks)
        grid = range(self._tick, ONE_DOLLAR_E4, self._tick)[:SEARCHED_MAX]
        return self._explains(opened, stated, [from_fixed(p, PREDICTION_PRICE_EXP, places_min=3) for p in grid])

    def trade(self, price: int) -> bool:
        """Note the price of a trade; return whether it proves the last book, which could not be proven before."""
        texts = [text for text in _texts(price) if text not in self._recent]
        self._recent.extendleft(texts)
        if self._pending is None:
            return False
        time_ms, stated, bids, asks = self._pending
        if not self._explains(self._open(time_ms, bids, asks), stated, _texts(price)):
            return False
        self.proven, self._pending = True, None
        return True

    def _open(self, time_ms: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Opened:
        return open_hash(
            market=self._market,
            asset_id=self._token,
            time_ms=time_ms,
            bids=bids,
            asks=asks,
            size_min=self._size_min,
            tick=self._tick,
            neg_risk=self._neg_risk,
        )

    def _explains(self, opened: Opened, stated: str, tried: list[str] | list[str | None]) -> bool:
        for last in tried:
            if close_hash(opened, last) == stated:
                self._last = last
                return True
        return False

    def state(self) -> ProofState:
        """Return what is remembered."""
        return ProofState(
            self._token,
            self._size_min,
            self._tick,
            self._neg_risk,
            self._last,
            self.proven,
            list(self._recent),
            self._pending,
            {epoch: (list(one.seen), one.newest, one.newest_ns, one.proven_ns) for epoch, one in self._orders.items()},
        )

    @classmethod
    def restored(cls, instrument: str, state: ProofState) -> HashProof:
        """Return the proof of `state`."""
        proof = cls(instrument)
        proof._token, proof._size_min, proof._tick = state.token, state.size_min, state.tick
        proof._neg_risk, proof._last, proof.proven = state.neg_risk, state.last, state.proven
        proof._recent.extend(state.recent)
        proof._pending = state.pending
        proof._orders = {epoch: _Order(*order) for epoch, order in state.orders.items()}
        return proof


def _texts(price: int) -> list[str]:
    """Return how the venue may write a last price: of either token, with three decimals or as short as can be."""
    other = ONE_DOLLAR_E4 - price
    texts = (
        from_fixed(price, PREDICTION_PRICE_EXP, places_min=3),
        from_fixed(other, PREDICTION_PRICE_EXP, places_min=3),
        from_fixed(price, PREDICTION_PRICE_EXP),
        from_fixed(other, PREDICTION_PRICE_EXP),
    )
    return list(dict.fromkeys(texts))


# hot
def is_sampled(delta: market.BookDelta, one_in: int) -> bool:
    """Say whether the hash of this change is recomputed: of one in so many, chosen by where it came from."""
    if one_in <= 1:
        return one_in == 1
    return ((delta.frame_no * 2_654_435_761 + delta.epoch) >> 8) % one_in == 0
