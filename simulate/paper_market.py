"""Paper trading's market: the matching engine, with the live market as the strangers in its book. Pure: whole numbers in, fills out.

Live depth and trades come in with the times they were heard at; orders of our own come in through `submit`, like on any
other `Matcher`. A stranger is an order without an owner. It knows no venue, no clock and no I/O, so a backtest feeds it from a
log as paper trading does from Kafka, and equal inputs give equal fills.

**What may be taken.** A level offers its live size less what we took of it. What we took stays taken:

* while the live size stays or shrinks, nothing comes back (what left the market may be what we did not take, so it is counted
  as that first; only when less is left than we took do we have taken less);
* a level *refreshes* by what its live size grows: that is new, nobody can have taken it before;
* a level that is gone is forgotten: whoever comes back to that price is new.

So between two refreshes we never take more than the level showed, and the same size is never eaten twice.

**When a resting order is filled.** It stands behind the live size of its level at its arrival (with `latency_ns`, at the time a
real order would have arrived). A live trade at its price takes from those ahead of it first and only what is left fills it; a
trade through its price fills it. Live size that leaves without a trade is taken from behind it first; what comes goes behind it,
unless it is told late and was there before. When the live market crosses its price, it is filled at its own price, as far as
the size that crosses goes. If a real order would not have arrived by then, it would have met that size: it takes it at the
live price, and one that may only rest is cancelled.

**Prints that come after their book.** A venue may show the smaller level before it prints the trade. What shrank is therefore
remembered for `EXPLAIN_NS`; a trade first explains what shrank (it is put back where it stood, and the trade takes it from the
front), so a trade is never counted twice and never lost.

**Trust.** While the book is not trusted nothing fills and nobody may enter; what rests stays. The newest depth heard meanwhile
is applied when trust returns: who stood ahead can only have become fewer, so they are the smaller of then and now.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from core.domain.units import ONE_DOLLAR_E4
from simulate.matching import (
    NEVER_RESTED,
    Canceled,
    CancelReason,
    Event,
    Filled,
    Matcher,
    Order,
    Side,
    TimeInForce,
)
from simulate.paper_level import Level, Shrunk

EVIDENCE_MAX = 10_000
"""Fills not yet asked for; the oldest is forgotten."""

Levels = Sequence[tuple[int, int]]
"""(price, size), best first."""


class Evidence(NamedTuple):
    """Why one of our orders was filled.

    Attributes:
        order_id: ours.
        side: ours.
        price: at which it was filled.
        size: of this fill.
        how: `took` a live level; `crossed` by one; `queue` reached by a trade at the price; `through`: a trade beyond it.
        live: size of the level (took, crossed) or of the trade (queue, through) that filled it.
        taken: how much of that size went to us, with this fill; never more than it.
        cause: label of the depth or trade.
    """

    order_id: str
    side: Side
    price: int
    size: int
    how: str
    live: int
    taken: int
    cause: str


class PaperMarket(Matcher):
    """One market's book: live strangers and our own orders."""

    __slots__ = (
        "_evidence",
        "_is_believed",
        "_is_crossed",
        "_known",
        "_latency_ns",
        "_lot",
        "_now_ns",
        "_number",
        "_pending",
        "_reach",
        "_since_ns",
        "cause",
        "depth_max",
    )

    def __init__(self, now_ns: Callable[[], int], *, lot: int = 1, depth_max: int = 10, latency_ns: int = 0) -> None:
        """Make an empty book that is not trusted.

        Args:
            now_ns: time of an order's arrival, of the same clock as the times of depth and trades.
            lot: live sizes count in whole multiples of it, rounded down.
            depth_max: levels a depth shows of each side at most; one that shows fewer shows all there is.
            latency_ns: how much later an order would arrive at the real venue, and its market be heard here.
        """
        super().__init__()
        self.cause = ""
        """Label of the depth that stands."""
        self.depth_max = depth_max
        self._is_believed = False
        self._is_crossed = False
        self._now_ns = now_ns
        self._lot = lot
        self._latency_ns = latency_ns
        self._number = 0
        self._since_ns = 0
        self._known: dict[Side, dict[int, Level]] = {Side.BID: {}, Side.ASK: {}}
        self._reach: dict[Side, int | None] = {Side.BID: None, Side.ASK: None}
        """Worst price the depth shows; None: it shows all."""
        self._pending: tuple[Levels, Levels, int, str] | None = None
        self._evidence: deque[Evidence] = deque(maxlen=EVIDENCE_MAX)

    @property
    def is_trusted(self) -> bool:
        """Whether anything may fill and anybody enter."""
        return self._is_believed and not self._is_crossed

    def evidence(self) -> list[Evidence]:
        """Return why our orders were filled since it was asked last."""
        if not self._evidence:
            return []
        found = list(self._evidence)
        self._evidence.clear()
        return found

    def room(self, side: Side, price: int) -> int:
        """Return what a live level still offers."""
        level = self._known[side].get(price)
        return level.free if level is not None else 0

    # ------------------------------------------------------------------ our orders
    def submit(self, order: Order) -> list[Event]:
        """Match one of our orders against the live market and rest what may rest; it needs an owner."""
        if not self.is_trusted:
            size, order.remaining = order.remaining, 0
            return [Canceled(order, size, NEVER_RESTED, CancelReason.VENUE)]
        self._since_ns = order.since_ns = max(self._now_ns() + self._latency_ns, self._since_ns)
        events = super().submit(order)
        for event in events:
            if isinstance(event, Filled) and not event.maker.owner:
                level = self._known[event.maker.side][event.price]
                level.take(event.size)
                self._note(order, event, "took", level.live, level.taken, self.cause)
        if self._rests(order) and not self._is_shown(order.side, order.price):
            self._level(order.side, order.price).is_unseen = True
        return events

    # ------------------------------------------------------------------ the live market
    def trust(self, *, trusted: bool) -> list[Event]:
        """Say whether the live book may be believed; return the fills of what was heard while it was not."""
        self._is_believed = trusted
        return self._catch_up()

    def depth(self, bids: Levels, asks: Levels, ts_ns: int, cause: str = "") -> list[Event]:
        """Take in the live book as it was heard at `ts_ns`; return the fills of our orders.

        A depth that crosses itself is no book: there is no trust until the next one.
        """
        self._is_crossed = bool(bids and asks and bids[0][0] >= asks[0][0])
        self._pending = None if self._is_crossed else (bids, asks, ts_ns, cause)
        return self._catch_up()

    def trade(self, price: int, size: int, taker: Side | None, ts_ns: int, cause: str = "") -> list[Event]:
        """Take in a live trade heard at `ts_ns`; return the fills of our orders.

        Args:
            taker: the side that took; None where the venue does not say: then it is who would have met somebody.
        """
        if taker is None:
            taker = next((side for side in Side if self.crosses(side, price)), None)
        size -= size % self._lot
        if not self.is_trusted or taker is None or size <= 0 or not 0 < price < ONE_DOLLAR_E4:
            return []
        side = taker.opposite
        stranger = self._stranger(taker, price, size)
        events: list[Event] = []
        for maker in self._ours_better(side, price):
            if stranger.remaining and maker.since_ns < ts_ns:
                events.append(self._fill(maker, stranger, min(stranger.remaining, maker.remaining)))
                self._note(maker, events[-1], "through", size, stranger.filled, cause)
        level = self._known[side].get(price) or Level()
        if level.is_unseen:
            return events
        passed = min(stranger.remaining, level.untraded)
        level.untraded -= passed
        left = stranger.remaining - passed
        level.forget(ts_ns)
        self._put_back(side, price, level, left)
        for maker in self.orders_at(side, price):
            if not left or (maker.owner and maker.since_ns >= ts_ns):
                break
            part = min(left, maker.remaining)
            left -= part
            if maker.owner:
                events.append(self._fill(maker, stranger, part))
                self._note(maker, events[-1], "queue", size, stranger.filled, cause)
            else:
                super().reduce(maker, part)
        # The level was shown without what this trade took: what we were filled with instead leaves from behind.
        self._cut(side, price, self._strangers(side, price) - level.free)
        return events

    # ------------------------------------------------------------------ depth
    def _catch_up(self) -> list[Event]:
        if not self.is_trusted or self._pending is None:
            return []
        pending, self._pending = self._pending, None
        return self._apply(*pending)

    def _apply(self, bids: Levels, asks: Levels, ts_ns: int, cause: str) -> list[Event]:
        self.cause = cause
        shown = {Side.BID: self._whole(bids), Side.ASK: self._whole(asks)}
        for side, levels in ((Side.BID, bids), (Side.ASK, asks)):
            self._reach[side] = levels[-1][0] if len(levels) >= self.depth_max else None
        # What left goes on both sides before anything comes: else a book that moved would meet what it left behind.
        lacking = {side: self._shrink_to(side, shown[side], ts_ns) for side in Side}
        events: list[Event] = []
        for side in Side:
            if not lacking[side]:
                continue
            for price in shown[side]:
                if price not in lacking[side]:
                    continue
                level = self._known[side][price]
                missing = level.free - self._strangers(side, price)
                missing -= self._meet(side, price, missing, ts_ns, level, events)
                if missing > 0:
                    self._join(side, price, missing, 0 if level.is_unseen else ts_ns)
                level.is_unseen = False
        return events

    # hot: each depth of each market
    def _shrink_to(self, side: Side, shown: dict[int, int], ts_ns: int) -> set[int]:
        """Take away what is shown no more, on levels within sight; return the prices where something is to come."""
        known = self._known[side]
        lacking = set()
        for price, size in shown.items():
            level = known.get(price)
            if level is None:
                level = known[price] = Level()
            elif level.shrunk:
                level.forget(ts_ns)
            if size != level.live:
                level.set(size)
            surplus = self._strangers(side, price) - level.free
            if surplus < 0:
                lacking.add(price)
                continue
            level.is_unseen = False
            if surplus:
                self._cut(side, price, surplus, level, ts_ns)
        if len(known) > len(shown):
            for price in [price for price in known if price not in shown]:
                self._leave(side, price, known[price], ts_ns)
        return lacking

    def _leave(self, side: Side, price: int, level: Level, ts_ns: int) -> None:
        """Handle a level that is not shown: gone, or only out of sight."""
        level.forget(ts_ns)
        if self._is_shown(side, price):
            # Within sight and not there: nobody stands ahead of one of ours.
            level.is_unseen = False
            level.set(0)
            self._cut(side, price, self._strangers(side, price), level, ts_ns)
        elif not any(order.owner for order in self.orders_at(side, price)):
            # Nobody may take what is not shown. Behind it stands nobody of ours, so no line is lost.
            self._cut(side, price, self._strangers(side, price))
        if level.is_blank:
            del self._known[side][price]

    def _meet(self, side: Side, price: int, size: int, ts_ns: int, level: Level, events: list[Event]) -> int:
        """Let live size that crosses our orders trade with them; return how much did.

        Those that stood there at `ts_ns` give their own prices. One that was still on its way comes to a book that holds
        this size: it takes it at the live price, or is refused if it may not take.
        """
        if not self.crosses(side, price):
            return 0
        stranger = self._stranger(side, price, size)
        late = []
        for order in [*self._ours_better(side.opposite, price), *self._ours_at(side.opposite, price)]:
            if order.since_ns >= ts_ns:
                late.append(order)
            elif stranger.remaining:
                event = self._fill(order, stranger, min(stranger.remaining, order.remaining))
                level.take(event.size)
                self._note(order, event, "crossed", level.live, level.taken, self.cause)
                events.append(event)
        for order in late:
            if order.post_only:
                events += self.cancel(order, CancelReason.POST_ONLY_CROSS)
            elif stranger.remaining:
                part = self._fill(order, stranger, min(stranger.remaining, order.remaining)).size
                level.take(part)
                event = Filled(stranger, order, price, part, self.level_size(side, price))
                self._note(order, event, "took", level.live, level.taken, self.cause)
                events.append(event)
        return stranger.filled

    def _join(self, side: Side, price: int, size: int, since_ns: int) -> None:
        """Let live size enter the line of its price, by its age: ahead of our orders that came later, else last."""
        line = self.orders_at(side, price)
        place = next((i for i, order in enumerate(line) if order.owner and order.since_ns >= since_ns), len(line))
        if place and not line[place - 1].owner:
            self._enlarge(line[place - 1], size)
            return
        stranger = self._stranger(side, price, size, TimeInForce.GTC)
        stranger.since_ns = since_ns
        self._stand(stranger, line[place] if place < len(line) else None)

    def _cut(self, side: Side, price: int, size: int, level: Level | None = None, ts_ns: int = 0) -> None:
        """Take live size out of the line of a price, from its end; `level` remembers it for a trade still to be told."""
        if size <= 0:
            return
        for order in reversed(self.orders_at(side, price)):
            if order.owner:
                continue
            part = min(size, order.remaining)
            size -= part
            super().reduce(order, part)
            if level is not None:
                level.remember(Shrunk(ts_ns, order.since_ns, part))
            if not size:
                return

    def _put_back(self, side: Side, price: int, level: Level, size: int) -> None:
        """Undo what shrank as far as a trade explains it, the newest first."""
        while size > 0 and level.shrunk:
            newest = level.shrunk.pop()
            part = min(size, newest.size)
            size -= part
            self._join(side, price, part, newest.since_ns)
            if part < newest.size:
                level.shrunk.append(newest._replace(size=newest.size - part))

    # ------------------------------------------------------------------ plumbing
    def _whole(self, levels: Levels) -> dict[int, int]:
        lot = self._lot
        return {price: size - size % lot for price, size in levels if 0 < price < ONE_DOLLAR_E4}

    def _level(self, side: Side, price: int) -> Level:
        level = self._known[side].get(price)
        if level is None:
            level = self._known[side][price] = Level()
        return level

    def _is_shown(self, side: Side, price: int) -> bool:
        """Tell whether a level would be seen if it were there."""
        reach = self._reach[side]
        return reach is None or (price >= reach if side is Side.BID else price <= reach)

    def _strangers(self, side: Side, price: int) -> int:
        level = self._side(side).get(price)
        if level is None:
            return 0
        return sum([order.remaining for order in level.orders.values() if not order.owner])

    def _rests(self, order: Order) -> bool:
        return order.remaining > 0 and any(other is order for other in self.orders_at(order.side, order.price))

    def _ours_better(self, side: Side, price: int) -> Iterator[Order]:
        """Yield our resting orders at better prices than `price`, best first."""
        for better, _ in self.levels(side):
            if not (better > price if side is Side.BID else better < price):
                return
            yield from self._ours_at(side, better)

    def _ours_at(self, side: Side, price: int) -> list[Order]:
        return [order for order in self.orders_at(side, price) if order.owner]

    def _stranger(self, side: Side, price: int, size: int, life: TimeInForce = TimeInForce.IOC) -> Order:
        self._number += 1
        return Order(f"live-{self._number}", side, price, size, time_in_force=life)

    def _note(self, order: Order, event: Event, how: str, live: int, taken: int, cause: str) -> None:
        assert isinstance(event, Filled)
        self._evidence.append(Evidence(order.order_id, order.side, event.price, event.size, how, live, taken, cause))
