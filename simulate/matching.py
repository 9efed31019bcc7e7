"""Price-time matching for one binary market: a single book in YES, whole numbers only, nothing of the outside.

Prices are mantissas at 1e-4 dollar (1..9999), sizes at 1e-6 contract. A bid buys YES; an ask sells YES, which is the
same as buying NO at 1 - p. The venues' simulators sit on it, and so does paper trading (`simulate/paper_market.py`).
"""

from enum import StrEnum
from typing import NamedTuple

from core.domain.errors import InvariantBroken
from core.domain.units import ONE_DOLLAR_E4

FOREVER_NS = 2**63 - 1
BUDGET_LOT = 10_000
"""An order that spends money takes hundredths of a contract: each fill then costs a whole micro-dollar and no maker is
left with dust."""
NEVER_RESTED = -1
"""`level` of a cancel that took nothing out of the book."""


class Side(StrEnum):
    """Which side of the YES book."""

    BID = "bid"
    ASK = "ask"

    @property
    def opposite(self) -> "Side":
        return Side.ASK if self is Side.BID else Side.BID


class TimeInForce(StrEnum):
    """How long an order may rest."""

    GTC = "gtc"
    GTD = "gtd"
    IOC = "ioc"
    FOK = "fok"


class CancelReason(StrEnum):
    """Why a quantity left the book, or never entered it."""

    USER = "user"
    UNFILLED = "unfilled"
    KILLED = "killed"
    POST_ONLY_CROSS = "post_only_cross"
    SELF_TRADE = "self_trade"
    EXPIRED = "expired"
    VENUE = "venue"
    CLOSED = "closed"


class Order:
    """An order and what is left of it.

    `owner` names whom it may not trade with (empty: anybody, as the flow's orders): the taker is cancelled there, or, with
    `cancels_own`, its owner's resting order is and the taker goes on. `budget_e6` makes a bid (or, with
    `pays_no`, an ask that buys NO) spend money instead of counting contracts; its `size` is then only an upper bound.
    `since_ns` is when it came, for a book whose line also depends on what is heard late (paper trading).
    """

    __slots__ = (
        "budget_e6",
        "cancels_own",
        "expires_ns",
        "filled",
        "order_id",
        "owner",
        "pays_no",
        "post_only",
        "price",
        "remaining",
        "side",
        "since_ns",
        "size",
        "tag",
        "time_in_force",
    )

    def __init__(
        self,
        order_id: str,
        side: Side,
        price: int,
        size: int,
        *,
        owner: str = "",
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        expires_ns: int = FOREVER_NS,
        budget_e6: int | None = None,
        pays_no: bool = False,
        cancels_own: bool = False,
        tag: object = None,
    ) -> None:
        if not 0 < price < ONE_DOLLAR_E4:
            raise InvariantBroken(f"expected a price within 1..9999, found {price}")
        if size <= 0:
            raise InvariantBroken(f"expected a size above 0, found {size}")
        self.order_id = order_id
        self.side = side
        self.price = price
        self.size = size
        self.remaining = size
        self.filled = 0
        self.owner = owner
        self.time_in_force = time_in_force
        self.post_only = post_only
        self.expires_ns = expires_ns
        self.budget_e6 = budget_e6
        self.pays_no = pays_no
        self.cancels_own = cancels_own
        self.tag = tag
        self.since_ns = 0


class Rested(NamedTuple):
    """An order's remainder entered the book; `level` is the level's size afterwards."""

    order: Order
    size: int
    level: int


class Filled(NamedTuple):
    """One maker and one taker traded at the maker's price; `level` is what the maker's level holds afterwards."""

    maker: Order
    taker: Order
    price: int
    size: int
    level: int


class Canceled(NamedTuple):
    """A quantity was taken away; `level` is `NEVER_RESTED` when it had not been in the book."""

    order: Order
    size: int
    level: int
    reason: CancelReason


Event = Rested | Filled | Canceled


class _Level:
    """Orders of one price in order of arrival (a dict keeps it, and removes in one step)."""

    __slots__ = ("orders", "size")

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.size = 0


class Matcher:
    """The book of one market."""

    __slots__ = ("_asks", "_bids", "_dated")

    def __init__(self) -> None:
        self._bids: dict[int, _Level] = {}
        self._asks: dict[int, _Level] = {}
        self._dated: dict[str, Order] = {}

    def best_bid(self) -> int | None:
        """Return the highest bid, or None."""
        return max(self._bids) if self._bids else None

    def best_ask(self) -> int | None:
        """Return the lowest ask, or None."""
        return min(self._asks) if self._asks else None

    def level_size(self, side: Side, price: int) -> int:
        """Return the size resting at one price."""
        level = self._side(side).get(price)
        return level.size if level is not None else 0

    def levels(self, side: Side) -> list[tuple[int, int]]:
        """Return (price, size), best first."""
        if side is Side.BID:
            return [(price, self._bids[price].size) for price in sorted(self._bids, reverse=True)]
        return [(price, self._asks[price].size) for price in sorted(self._asks)]

    def orders_at(self, side: Side, price: int) -> list[Order]:
        """Return the resting orders of one price, first in line first."""
        level = self._side(side).get(price)
        return list(level.orders.values()) if level is not None else []

    def crosses(self, side: Side, price: int) -> bool:
        """Tell whether an order at `price` would meet somebody."""
        if side is Side.BID:
            best = self.best_ask()
            return best is not None and best <= price
        best = self.best_bid()
        return best is not None and best >= price

    def submit(self, order: Order) -> list[Event]:
        """Match an order, rest what may rest, and return what happened, in order."""
        if order.post_only and self.crosses(order.side, order.price):
            return [_dropped(order, CancelReason.POST_ONLY_CROSS)]
        if order.time_in_force is TimeInForce.FOK and not self._can_fill(order):
            return [_dropped(order, CancelReason.KILLED)]
        events: list[Event] = []
        met_itself = self._take(order, events)
        if order.remaining == 0:
            return events
        if met_itself:
            events.append(_dropped(order, CancelReason.SELF_TRADE))
        elif order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            events.append(_dropped(order, CancelReason.UNFILLED))
        else:
            events.append(self._rest(order))
        return events

    def cancel(self, order: Order, reason: CancelReason = CancelReason.USER) -> list[Event]:
        """Take a resting order out; nothing when it does not rest."""
        return self.reduce(order, order.remaining, reason)

    def reduce(self, order: Order, size: int, reason: CancelReason = CancelReason.USER) -> list[Event]:
        """Take `size` off a resting order, which keeps its place in the line."""
        levels = self._side(order.side)
        level = levels.get(order.price)
        size = min(size, order.remaining)
        if level is None or order.order_id not in level.orders or size <= 0:
            return []
        order.remaining -= size
        self._shrink(levels, level, order, size)
        return [Canceled(order, size, level.size, reason)]

    def redate(self, order: Order, expires_ns: int) -> None:
        """Let a resting order end at another time; it keeps its place in the line."""
        order.expires_ns = expires_ns
        if expires_ns == FOREVER_NS:
            self._dated.pop(order.order_id, None)
        else:
            self._dated[order.order_id] = order

    def due(self, now_ns: int) -> list[Order]:
        """Return the dated orders whose time has come."""
        return [order for order in self._dated.values() if order.expires_ns <= now_ns]

    def expire(self, now_ns: int) -> list[Event]:
        """Cancel the dated orders whose time has come."""
        return [event for order in self.due(now_ns) for event in self.cancel(order, CancelReason.EXPIRED)]

    def _side(self, side: Side) -> dict[int, _Level]:
        return self._bids if side is Side.BID else self._asks

    def _rest(self, order: Order) -> Rested:
        levels = self._side(order.side)
        level = levels.get(order.price)
        if level is None:
            level = levels[order.price] = _Level()
        level.orders[order.order_id] = order
        level.size += order.remaining
        if order.expires_ns != FOREVER_NS:
            self._dated[order.order_id] = order
        return Rested(order, order.remaining, level.size)

    def _stand(self, order: Order, ahead_of: Order | None) -> None:
        """Put an order into the line of its price without matching it: ahead of another, or last."""
        self._rest(order)
        level = self._side(order.side)[order.price]
        if ahead_of is None:
            return
        line = [other for other in level.orders.values() if other is not order]
        line.insert(line.index(ahead_of), order)
        level.orders = {other.order_id: other for other in line}

    def _enlarge(self, order: Order, size: int) -> None:
        """Add to a resting order, which keeps its place in the line."""
        order.size += size
        order.remaining += size
        self._side(order.side)[order.price].size += size

    def _shrink(self, levels: dict[int, _Level], level: _Level, order: Order, size: int) -> None:
        level.size -= size
        if order.remaining == 0:
            del level.orders[order.order_id]
            self._dated.pop(order.order_id, None)
            if not level.orders:
                del levels[order.price]

    def _take(self, order: Order, events: list[Event]) -> bool:
        """Match against the other side as far as the limit allows; tell whether it met its own owner."""
        levels = self._side(order.side.opposite)
        while order.remaining > 0 and levels and self.crosses(order.side, order.price):
            price = min(levels) if order.side is Side.BID else max(levels)
            level = levels[price]
            maker = next(iter(level.orders.values()))
            if order.owner and maker.owner == order.owner:
                if not order.cancels_own:
                    return True
                events.extend(self.cancel(maker, CancelReason.SELF_TRADE))
                continue
            size = min(_wanted(order, price), maker.remaining)
            if order.budget_e6 is not None:
                size -= size % BUDGET_LOT
                if size == 0:
                    # What is left of the budget buys nothing at this price: it is spent as far as it can be.
                    order.size -= order.remaining
                    order.remaining = 0
                    break
                order.budget_e6 -= size * _unit(order, price) // ONE_DOLLAR_E4
            events.append(self._fill(maker, order, size))
        return False

    def _fill(self, maker: Order, taker: Order, size: int) -> Filled:
        """Let a resting order trade with another at its own price."""
        levels = self._side(maker.side)
        level = levels[maker.price]
        for order in (maker, taker):
            order.remaining -= size
            order.filled += size
        self._shrink(levels, level, maker, size)
        return Filled(maker, taker, maker.price, size, level.size)

    def _can_fill(self, order: Order) -> bool:
        """Tell whether a fill-or-kill order finds enough; meeting its own owner ends it like an IOC instead."""
        wanted, budget = order.remaining, order.budget_e6
        for price, _ in self.levels(order.side.opposite):
            if not (price <= order.price if order.side is Side.BID else price >= order.price):
                break
            for maker in self.orders_at(order.side.opposite, price):
                if order.owner and maker.owner == order.owner:
                    if not order.cancels_own:
                        return True
                    continue
                if budget is None:
                    wanted -= maker.remaining
                    if wanted <= 0:
                        return True
                else:
                    budget -= -(-maker.remaining * _unit(order, price) // ONE_DOLLAR_E4)
                    if budget <= 0:
                        return True
        return False


def _dropped(order: Order, reason: CancelReason) -> Canceled:
    size, order.remaining = order.remaining, 0
    return Canceled(order, size, NEVER_RESTED, reason)


def _unit(order: Order, price: int) -> int:
    return ONE_DOLLAR_E4 - price if order.pays_no else price


def _wanted(order: Order, price: int) -> int:
    if order.budget_e6 is None:
        return order.remaining
    return min(order.remaining, order.budget_e6 * ONE_DOLLAR_E4 // _unit(order, price))
