"""Momentum on quotes and trades: follow a move that takers pay for, and leave by profit, loss or time.

The template for strategies of one leg that no link backs: typed parameters, memory that is bounded and written down,
entries only while RUNNING, exits while DRAINING too, positions counted from what accounts say of each saga and from
nothing else. It watches the instruments its configuration names. All money it can lose is bounded by the account set's
limits and by `size`; it guarantees nothing.

    move     the mid now against the oldest of the window, at least `move_e4`
    flow     what takers bought less what they sold in the window, at least `flow_e6` in the move's direction
    entry    `size` at the best price and up to `slip_e4` beyond it
    exit     when the mid is `take_e4` better or `stop_e4` worse than at the entry, or after `hold_ms`
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from core.domain.errors import MalformedFrame
from core.runtime.clock import NS_PER_MS
from core.runtime.flow import StateCodec
from decide.conduct import is_open
from decide.edges import Level, OpenLeg, levels_of, size_leg
from decide.exits import side_of
from decide.ports import Decision, View
from decide.strategies.edge_trader import Natural, Positive
from decide.strategies.intents import Cause, intent_of, leg_of
from schemas import decision
from schemas.decision import Intent, Saga
from schemas.derived import Depth, Quote
from schemas.enums import Side
from schemas.market import Instrument, Trade

MARKS_MAX = 64
"""Mids and flows kept for a window: what comes closer together than a 64th of it is one mark."""
VAIN_MAX = 4
"""How often the rest before the next try doubles: eight times as long at the most."""
ORDERS_MAX = 64
"""Sagas of one instrument whose outcome is still heard: a settlement may fail long after its saga ended."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters, as JSON in `decision.Strategy.params`; prices at 1e-4, sizes at 1e-6."""

    window_ms: Positive = 2_000
    move_e4: Positive = 200
    flow_e6: Natural = 0
    spread_max_e4: Positive = 200
    """a wider book is not entered"""
    size: Positive = 10_000_000
    slip_e4: Natural = 100
    exit_slip_e4: Natural = 300
    take_e4: Positive = 300
    stop_e4: Positive = 300
    hold_ms: Positive = 60_000
    cooldown_ms: Natural = 5_000
    """an instrument rests this long after an entry that found nothing or was refused, and after an exit"""
    retry_ms: Natural = 500
    """and this long after an exit that did not close all: what was bought may not be confirmed yet"""


@dataclass
class Mark:
    """One moment of the window: twice the mid, and what takers bought less what they sold from then on."""

    ns: int
    mid2_e4: int
    flow_e6: int = 0


@dataclass
class Watch:
    """What is remembered of one instrument.

    Attributes:
        orders: saga -> its YES side, +1 or -1, and what of it stands.
        position: sum of them, and of those forgotten.
        entry_mid2_e4: twice the mid when the position was intended.
        entered_ns: when that was.
        is_netted: the account holds less than this strategy, for another one holds the opposite.
        vain: refusals in a row; each doubles the rest before the next try.
    """

    marks: list[Mark] = field(default_factory=list)
    orders: dict[str, tuple[int, int]] = field(default_factory=dict)
    position: int = 0
    entry_mid2_e4: int = 0
    entered_ns: int = 0
    rests_until_ns: int = 0
    is_netted: bool = False
    vain: int = 0


class _Memory(msgspec.Struct, frozen=True):
    watches: dict[str, Watch]


_MEMORY = StateCodec(_Memory, 1)


@dataclass
class Momentum:
    """One running instance."""

    params: Params
    watches: dict[str, Watch] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: decision.Strategy) -> "Momentum":
        """Return an instance with the parameters of `config`.

        Raises:
            MalformedFrame: the parameters are not JSON, name an unknown one, or have a wrong type or value.
        """
        try:
            return cls(msgspec.json.decode(config.params or "{}", type=Params))
        except msgspec.MsgspecError as e:
            raise MalformedFrame(f"strategy {config.id} (momentum): params: {e}") from e

    def remember(self) -> bytes:
        """Return windows, positions and the orders behind them."""
        return _MEMORY.encode(_Memory(self.watches))

    def recall(self, memory: bytes) -> None:
        """Go on with them.

        Raises:
            StateUnreadable: another version wrote it.
        """
        self.watches = dict(_MEMORY.decode(memory).watches)

    def on_quote(self, quote: Quote, view: View) -> Iterator[Decision]:
        """Mark the mid; leave, or else enter."""
        name = quote.instrument
        depth = view.depth(name)
        if name not in view.strategy.instruments or depth is None or not (depth.bid_prices and depth.ask_prices):
            return
        watch = self.watches.setdefault(name, Watch())
        self._mark(watch, view.now_ns, depth.bid_prices[0] + depth.ask_prices[0])
        cause = Cause(quote.recv_ts_ns, quote.trail)
        yield from self._leave(name, watch, view, cause)
        yield from self._enter(name, watch, depth, view, cause)

    def on_trade(self, trade: Trade, view: View) -> Iterable[Decision]:
        """Count what takers do; nothing is decided before the next quote."""
        watch = self.watches.get(trade.instrument)
        if watch is not None and watch.marks and trade.aggressor in {"BUY", "SELL"}:
            watch.marks[-1].flow_e6 += trade.size if trade.aggressor == "BUY" else -trade.size
        return ()

    def on_depth(self, depth: Depth, view: View) -> Iterable[Decision]:
        """Wait for its quote."""
        return ()

    def on_outcome(self, saga: Saga, view: View) -> Iterable[Decision]:
        """Count what stands of an order; it may be said again when a settlement failed."""
        watch = self.watches.get(saga.link)
        if watch is not None and saga.id not in watch.orders and (side := side_of(saga)):
            self._note(watch, saga.id, 1 if side == "BUY" else -1)
        if watch is None or saga.id not in watch.orders:
            return ()
        sign, stood = watch.orders[saga.id]
        stands = saga.standing_e6[0] if saga.standing_e6 else 0
        watch.orders[saga.id] = (sign, stands)
        watch.position += sign * (stands - stood)
        if saga.state in {"DONE", "HOLDING", "REFUSED"}:
            if saga.reason == "NETTED":
                # What another's holding nets away is not sold as held: the opposite is entered, with money reserved.
                watch.is_netted = True
            elif stands != stood or not watch.position:
                watch.is_netted = False
            watch.vain = min(watch.vain + 1, VAIN_MAX) if saga.state == "REFUSED" else 0
            is_held = watch.position != 0
            is_exit = self._closes(sign, watch, stands)
            retry_ms = self.params.retry_ms << max(watch.vain - 1, 0)
            rest_ms = retry_ms if is_held and is_exit else 0 if is_held else self.params.cooldown_ms
            watch.rests_until_ns = view.now_ns + rest_ms * NS_PER_MS
        return ()

    def on_timer(self, view: View) -> Iterator[Decision]:
        """Leave by time where no quote comes."""
        for name in sorted(self.watches):
            yield from self._leave(name, self.watches[name], view, Cause(view.now_ns, []))

    def on_stop(self, view: View) -> Iterable[Decision]:
        """Keep what is held: DRAINING sells it, STOPPED does not."""
        return ()

    # What it sees

    def _mark(self, watch: Watch, now_ns: int, mid2_e4: int) -> None:
        """Add a mark, and forget those older than the window."""
        window_ns = self.params.window_ms * NS_PER_MS
        last = watch.marks[-1] if watch.marks else None
        if last is not None and now_ns - last.ns < window_ns // MARKS_MAX:
            last.mid2_e4 = mid2_e4
        else:
            watch.marks.append(Mark(now_ns, mid2_e4))
        while watch.marks[0].ns < now_ns - window_ns:
            del watch.marks[0]

    def _direction(self, watch: Watch) -> int:
        """Return 1 for a move up that takers bought, -1 for one down that they sold, 0 for neither."""
        move2 = watch.marks[-1].mid2_e4 - watch.marks[0].mid2_e4
        flow_e6 = sum(mark.flow_e6 for mark in watch.marks)
        for sign in (1, -1):
            if sign * move2 >= 2 * self.params.move_e4 and sign * flow_e6 >= self.params.flow_e6:
                return sign
        return 0

    @staticmethod
    def _closes(sign: int, watch: Watch, stands: int) -> bool:
        """Say whether an order was an exit: what was held before it had the other sign."""
        return sign * (watch.position - sign * stands) < 0

    # What it does

    def _enter(self, name: str, watch: Watch, depth: Depth, view: View, cause: Cause) -> Iterator[Decision]:
        instrument = view.instrument(name)
        if instrument is None or watch.position or not view.may_trade() or not self._may_act(name, watch, view):
            return
        sign = self._direction(watch)
        if not sign or depth.ask_prices[0] - depth.bid_prices[0] > self.params.spread_max_e4:
            return
        side: Side = "BUY" if sign > 0 else "SELL"
        intent = self._intent(instrument, side, self.params.size, depth, view, cause)
        if intent is not None:
            watch.entry_mid2_e4, watch.entered_ns = watch.marks[-1].mid2_e4, view.now_ns
            self._note(watch, intent.id, sign)
            yield intent

    def _leave(self, name: str, watch: Watch, view: View, cause: Cause) -> Iterator[Decision]:
        instrument, depth = view.instrument(name), view.depth(name)
        if not watch.position or instrument is None or depth is None or not view.may_exit():
            return
        if not self._may_act(name, watch, view) or not self._is_over(watch, depth, view):
            return
        side: Side = "SELL" if watch.position > 0 else "BUY"
        intent = self._intent(
            instrument,
            side,
            abs(watch.position),
            depth,
            view,
            cause,
            is_exit=True,
            reduces=not (watch.is_netted and view.may_trade()),
        )
        if intent is not None:
            self._note(watch, intent.id, 1 if side == "BUY" else -1)
            yield intent

    def _is_over(self, watch: Watch, depth: Depth, view: View) -> bool:
        if not view.may_trade() or view.now_ns - watch.entered_ns >= self.params.hold_ms * NS_PER_MS:
            return True
        if not (depth.bid_prices and depth.ask_prices):
            return False
        gain2 = depth.bid_prices[0] + depth.ask_prices[0] - watch.entry_mid2_e4
        gain2 = gain2 if watch.position > 0 else -gain2
        return gain2 >= 2 * self.params.take_e4 or gain2 <= -2 * self.params.stop_e4

    def _may_act(self, name: str, watch: Watch, view: View) -> bool:
        return not view.is_busy(name) and view.now_ns >= watch.rests_until_ns

    def _note(self, watch: Watch, order: str, sign: int) -> None:
        watch.orders[order] = (sign, 0)
        while len(watch.orders) > ORDERS_MAX:
            del watch.orders[next(iter(watch.orders))]

    def _intent(
        self,
        instrument: Instrument,
        side: Side,
        size: int,
        depth: Depth,
        view: View,
        cause: Cause,
        *,
        is_exit: bool = False,
        reduces: bool = False,
    ) -> Intent | None:
        """Return an order of one leg for what is there within the slip, None if that cannot be ordered."""
        account = view.account(instrument.venue)
        levels = _within(levels_of(depth, side), self.params.exit_slip_e4 if is_exit else self.params.slip_e4)
        there = min(size, sum(level.size for level in levels)) // instrument.size_step * instrument.size_step
        leg = OpenLeg(instrument, side, levels, reduces)
        sized = size_leg(leg, there) if account is not None and is_open(instrument, view.now_ns) else None
        if account is None or sized is None:
            return None
        return intent_of(view, instrument.instrument, [leg_of(leg, sized, depth, account)], cause)


def _within(levels: list[Level], slip_e4: int) -> list[Level]:
    """Return the levels at most that far from the best."""
    return [level for level in levels if abs(level.price - levels[0].price) <= slip_e4]
