"""Passive quoting: a bid and an ask that wait around a fair value, within an inventory, and go when the book is not sure.

    fair     microprice or mid of the instrument's own book without our quotes, of another instrument, or of the other
             side of an approved pair
    bid      fair - half spread - skew x contracts held, down to the grid, below every ask
    ask      the mirror of it
    size     so that with all that may still fill the inventory stays within its limit

A quote moves when its price is `requote_ticks` from where it should be, when too much or less than half of what should
stand is left of it, or when half its life is over; at most once in `requote_ms`. It is taken back at once when either
book is not usable, the market does not trade, or the strategy may not open. While it is DRAINING it quotes only what
reduces. Positions are what accounts say stands of each saga, and nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from core.domain.errors import MalformedFrame
from core.domain.units import E4_TO_E6, MICRO, ONE_DOLLAR_E4, ceil_div
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.flow import StateCodec
from decide.conduct import CONDUCTS, OPPOSITE, is_open, on_grid, open_cost_e6, tick_at, worse_price
from decide.exits import side_of
from decide.ports import Decision, View
from decide.strategies.edge_trader import Natural, Positive
from decide.strategies.fair_value import Kind, Top, mirrored, strangers
from decide.strategies.intents import Cause
from decide.strategies.quote_words import quote_of, word
from decide.strategies.quoted import SIDES, SIGN, Offer, Target, Watch
from schemas import decision
from schemas.decision import Saga
from schemas.derived import Depth, Quote
from schemas.enums import Side
from schemas.market import Instrument, Trade

NOT_HELD_NS = 10 * NS_PER_S
"""After accounts said that what is to be sold is not confirmed yet, the other token is bought for so long."""
VAIN_MAX = 5
"""How often the rest of a side doubles."""
ENDS = frozenset({"DONE", "REFUSED", "HOLDING"})


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters, as JSON in `decision.Strategy.params`; prices at 1e-4, sizes at 1e-6."""

    half_spread_e4: Positive = 200
    size: Positive = 10_000_000
    """of one quote"""
    inventory_max: Positive = 50_000_000
    """of one instrument, bought or sold, all that may still fill counted"""
    skew_e4: Natural = 0
    """both prices move by this for each contract held, against it"""
    fair: Kind = "microprice"
    reference: dict[str, str] = {}
    """instrument -> instrument, or approved pair, whose book gives the fair value; else its own. An instrument that is
    only a reference is not quoted"""
    spread_max_e4: Positive = 2_000
    """a wider book says nothing of a fair value"""
    requote_ticks: Positive = 1
    requote_ms: Natural = 250
    life_ms: Positive = 60_000
    """at the venue, unless it is prolonged"""
    silence_ms: Positive = 3_000
    """accounts take a quote back when this strategy did not speak of it for so long"""
    quotes_max: Positive = 20
    """live at a time, over all instruments"""
    cooldown_ms: Natural = 1_000
    """a side rests this long after its quote ended, unless it had only grown old; twice as long each time that it ended
    before it stood, up to 32 times"""


class _Memory(msgspec.Struct, frozen=True):
    watches: dict[str, Watch]
    kept_ns: int


_MEMORY = StateCodec(_Memory, 1)


@dataclass
class PassiveQuoting:
    """One running instance."""

    params: Params
    watches: dict[str, Watch] = field(default_factory=dict)
    kept_ns: int = 0

    @classmethod
    def from_config(cls, config: decision.Strategy) -> "PassiveQuoting":
        """Return an instance with the parameters of `config`.

        Raises:
            MalformedFrame: the parameters are not JSON, name an unknown one, have a wrong type or value, or contradict
                each other.
        """
        where = f"strategy {config.id} (passive_quoting): params"
        try:
            params = msgspec.json.decode(config.params or "{}", type=Params)
        except msgspec.MsgspecError as e:
            raise MalformedFrame(f"{where}: {e}") from e
        if params.silence_ms > params.life_ms:
            raise MalformedFrame(f"{where}: silence_ms {params.silence_ms} is longer than life_ms {params.life_ms}")
        if params.size > params.inventory_max:
            raise MalformedFrame(f"{where}: size {params.size} is above inventory_max {params.inventory_max}")
        return cls(params)

    def remember(self) -> bytes:
        """Return quotes, positions and the sagas behind them."""
        return _MEMORY.encode(_Memory(self.watches, self.kept_ns))

    def recall(self, memory: bytes) -> None:
        """Go on with them.

        Raises:
            StateUnreadable: another version wrote it.
        """
        known = _MEMORY.decode(memory)
        self.watches, self.kept_ns = dict(known.watches), known.kept_ns

    # What it hears

    def on_quote(self, quote: Quote, view: View) -> Iterator[Decision]:
        """Look at the instrument, and at those it is the reference of."""
        cause = Cause(quote.recv_ts_ns, quote.trail)
        for name in self._names(view):
            if quote.instrument == name or quote.instrument == self._source(name, view)[0]:
                yield from self._look(name, view, cause)

    def on_depth(self, depth: Depth, view: View) -> Iterable[Decision]:
        """Wait for its quote."""
        return ()

    def on_trade(self, trade: Trade, view: View) -> Iterable[Decision]:
        """Books say it all."""
        return ()

    def on_outcome(self, saga: Saga, view: View) -> Iterable[Decision]:
        """Count what stands of a quote; it may be said again when a settlement failed."""
        watch = self.watches.get(saga.link)
        if watch is not None and saga.id not in watch.sagas and (moved := side_of(saga)):
            watch.listen(saga.id, moved)
        if watch is None or saga.id not in watch.sagas:
            return ()
        sign = watch.count(saga.id, saga.standing_e6[0] if saga.standing_e6 else 0)
        side: Side = "BUY" if sign > 0 else "SELL"
        offer = watch.offers.get(side)
        if offer is None or offer.intent != saga.id:
            return ()
        offer.stood = watch.sagas[saga.id][1]
        if saga.price and saga.price != offer.stands:
            if offer.stands:
                watch.leave(side, offer, view.now_ns)
            offer.stands = saga.price
            watch.vain.pop(side, None)
        if saga.state in ENDS:
            watch.leave(side, offer, view.now_ns)
            del watch.offers[side]
            self._rest(watch, side, offer, saga, view)
        return ()

    def _rest(self, watch: Watch, side: Side, offer: Offer, saga: Saga, view: View) -> None:
        """Let a side rest: longer each time that its quotes end in vain, so that nothing is asked for over and over."""
        if saga.reason == "NOT_HELD":
            watch.not_held_until_ns = view.now_ns + NOT_HELD_NS
        cooldown_ns = self.params.cooldown_ms * NS_PER_MS
        if saga.reason in {"EXPIRED", "WORN"} and view.now_ns - offer.asked_ns >= cooldown_ns:
            return
        vain = watch.vain.get(side, 0)
        watch.vain[side] = min(vain + 1, VAIN_MAX)
        watch.rests_until_ns[side] = view.now_ns + (cooldown_ns << vain)

    def on_timer(self, view: View) -> Iterator[Decision]:
        """Take back what lost its book in silence, move what time alone moves, and say what is wanted still."""
        cause = Cause(view.now_ns, [])
        for name in sorted({*self.watches, *self._names(view)}):
            yield from self._look(name, view, cause)
        if view.now_ns - self.kept_ns >= self.params.silence_ms * NS_PER_MS // 3:
            self.kept_ns = view.now_ns
            kept = [offer.intent for _, _, offer in self._offers() if not offer.pulled]
            if kept:
                yield word(view, "KEEP", kept, cause)

    def on_stop(self, view: View) -> Iterator[Decision]:
        """Take every quote back; what is held is kept."""
        gone = [offer for _, _, offer in self._offers() if not offer.pulled]
        for offer in gone:
            offer.pulled = True
        if gone:
            yield word(view, "CANCEL", [offer.intent for offer in gone], Cause(view.now_ns, []), "STOPPED")

    # What it looks at

    def _names(self, view: View) -> list[str]:
        """Return the instruments that are quoted."""
        reference = self.params.reference
        only = {source for source in reference.values() if source not in reference}
        return [name for name in view.strategy.instruments if name not in only]

    def _source(self, name: str, view: View) -> tuple[str, bool]:
        """Return whose book gives the fair value ("": nobody's now), and whether it is that of the opposite outcome."""
        source = self.params.reference.get(name, name)
        if source == name or source in view.strategy.instruments:
            return source, False
        link = view.link(source)
        if link is None or link.kind != "PAIR" or name not in {link.instrument_a, link.instrument_b}:
            return "", False
        other = link.instrument_b if name == link.instrument_a else link.instrument_a
        return other, link.polarity == "OPPOSITE"

    def _top(self, name: str, view: View) -> Top | None:
        """Return the best of strangers on a book that is usable."""
        depth = view.depth(name) if name else None
        if depth is None:
            return None
        watch = self.watches.get(name, Watch())
        return strangers(depth, watch.ours("BUY", view.now_ns), watch.ours("SELL", view.now_ns))

    def _fair_e6(self, name: str, view: View) -> int | None:
        source, is_opposite = self._source(name, view)
        top = self._top(source, view)
        if top is None or top.ask.price - top.bid.price > self.params.spread_max_e4:
            return None
        fair_e6 = top.fair_e6(self.params.fair)
        return mirrored(fair_e6) if is_opposite else fair_e6

    def _offers(self) -> Iterator[tuple[str, Side, Offer]]:
        for name in sorted(self.watches):
            for side in SIDES:
                offer = self.watches[name].offers.get(side)
                if offer is not None:
                    yield name, side, offer

    # What it wants

    def _look(self, name: str, view: View, cause: Cause) -> Iterator[Decision]:
        """Bring both quotes of an instrument to where they should be."""
        watch = self.watches.get(name)
        instrument, depth = view.instrument(name), view.depth(name)
        is_quoted = name in self._names(view) and instrument is not None and is_open(instrument, view.now_ns)
        fair_e6 = self._fair_e6(name, view) if is_quoted and depth is not None and view.may_exit() else None
        if watch is None:
            if fair_e6 is None:
                return
            watch = self.watches[name] = Watch()
        for side in SIDES:
            target = None
            if instrument is not None and depth is not None and fair_e6 is not None:
                target = self._target(watch, side, instrument, depth, fair_e6, view)
            offer = watch.offers.get(side)
            if offer is None:
                if target is not None and instrument is not None and depth is not None:
                    yield from self._begin(watch, side, target, instrument, depth, view, cause)
            elif not offer.pulled:
                if target is None or depth is None:
                    offer.pulled = True
                    yield word(view, "CANCEL", [offer.intent], cause, "NOT_WANTED")
                elif instrument is not None:
                    yield from self._move(watch, side, offer, target, instrument, depth, view, cause)

    def _target(
        self, watch: Watch, side: Side, instrument: Instrument, depth: Depth, fair_e6: int, view: View
    ) -> Target | None:
        """Return where the quote of a side should be, None if nowhere."""
        reduces = self._reduces(watch, side, instrument, view)
        if reduces is None:
            return None
        held = SIGN[side] * watch.position
        left = min(self.params.size, self.params.inventory_max - held)
        if reduces:
            left = min(left, -held)
        left -= left % instrument.size_step
        price = self._price(watch, side, instrument, depth, fair_e6, view)
        if price is None or left <= 0 or left < instrument.size_min or self._expires_s(instrument, view) is None:
            return None
        return Target(price, left, reduces) if _is_worth(instrument, side, price, left) else None

    def _reduces(self, watch: Watch, side: Side, instrument: Instrument, view: View) -> bool | None:
        """Return whether a quote closes what is held, None if there may be none.

        Where outcomes are tokens what is held is sold rather than the other token bought; a netting venue does both in
        one. A quote that is out stays what it is as long as it may.
        """
        against = -SIGN[side] * watch.position
        can_reduce = against >= max(instrument.size_min, instrument.size_step)
        offer = watch.offers.get(side)
        if offer is not None:
            return offer.reduces if (can_reduce if offer.reduces else view.may_trade()) else None
        if not view.may_trade():
            return True if can_reduce else None
        is_confirmed = view.now_ns >= watch.not_held_until_ns
        return can_reduce and is_confirmed and not CONDUCTS[instrument.venue].nets

    def _price(
        self, watch: Watch, side: Side, instrument: Instrument, depth: Depth, fair_e6: int, view: View
    ) -> int | None:
        """Return the price on the grid, away from the fair value, that trades with nobody."""
        opposite = depth.ask_prices if side == "BUY" else depth.bid_prices
        if not opposite:
            return None  # a gateway would have nothing to hold it against
        sign = SIGN[side]
        shift_e4 = self.params.skew_e4 * watch.position // MICRO
        exact_e6 = fair_e6 - (sign * self.params.half_spread_e4 + shift_e4) * E4_TO_E6
        price = exact_e6 // E4_TO_E6 if side == "BUY" else ceil_div(exact_e6, E4_TO_E6)
        bounds = [opposite[0], *watch.places(OPPOSITE[side])]
        price = min(price, min(bounds) - 1) if side == "BUY" else max(price, max(bounds) + 1)
        if not 0 < price < ONE_DOLLAR_E4:
            return None
        return price if on_grid(instrument, price) else worse_price(instrument, OPPOSITE[side], price, 1)

    def _expires_s(self, instrument: Instrument, view: View) -> int | None:
        """Return when a quote ends, None if it would be gone at once: a market's close ends it too."""
        at_s = ceil_div(view.now_ns + self.params.life_ms * NS_PER_MS, NS_PER_S)
        if instrument.close_ts_ns > 0:
            at_s = min(at_s, instrument.close_ts_ns // NS_PER_S)
        return at_s if at_s * NS_PER_S - view.now_ns >= NS_PER_S else None

    # What it says

    def _begin(
        self, watch: Watch, side: Side, target: Target, instrument: Instrument, depth: Depth, view: View, cause: Cause
    ) -> Iterator[Decision]:
        account, expires_s = view.account(instrument.venue), self._expires_s(instrument, view)
        rests = view.now_ns < watch.rests_until_ns.get(side, 0)
        if account is None or expires_s is None or rests or len(list(self._offers())) >= self.params.quotes_max:
            return
        intent = quote_of(
            instrument,
            side,
            target,
            account=account,
            expires_s=expires_s,
            silence_ms=self.params.silence_ms,
            of=depth,
            cause=cause,
            view=view,
        )
        watch.offers[side] = Offer(
            intent.id, target.price, target.left, target.left, expires_s, view.now_ns, target.reduces
        )
        watch.listen(intent.id, side)
        yield intent

    def _move(
        self,
        watch: Watch,
        side: Side,
        offer: Offer,
        target: Target,
        instrument: Instrument,
        depth: Depth,
        view: View,
        cause: Cause,
    ) -> Iterator[Decision]:
        """Ask for another price, total or end, where the quote is far enough from what it should be."""
        if view.now_ns - offer.asked_ns < self.params.requote_ms * NS_PER_MS:
            return
        expires_s = self._expires_s(instrument, view) or offer.expires_s
        left = offer.total - offer.stood
        is_moved = abs(target.price - offer.price) >= self.params.requote_ticks * tick_at(instrument, offer.price)
        is_little = 2 * left < target.left
        is_old = (expires_s - offer.expires_s) * 1_000 >= self.params.life_ms // 2
        if not (is_moved or is_little or left > target.left or is_old):
            return
        # What only shrinks or lives longer keeps its price, and with it its place in the line.
        price = target.price if is_moved or is_little else offer.price
        total = offer.stood + (target.left if is_moved or is_little or left > target.left else left)
        if price != offer.price:
            watch.leave(side, offer, view.now_ns)
        offer.price, offer.total, offer.expires_s, offer.asked_ns = price, total, expires_s, view.now_ns
        offer.reach = max(offer.reach, total)
        yield word(view, "REPLACE", [offer.intent], cause, price=price, size=total, expires_s=expires_s, of=depth)


def _is_worth(instrument: Instrument, side: Side, price: int, size: int) -> bool:
    """Say whether a quote is of the venue's least money."""
    return open_cost_e6(side, price, size) >= instrument.notional_min_e6
