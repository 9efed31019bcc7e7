"""What the live run says of its books, brought to the paper venues' markets: each record once, trust kept, fills told.

Pure but for what it is given: time comes in with each call, records in the order of their log.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from itertools import groupby
from typing import Any

from core.domain.units import MICRO, ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime.flow import Input
from schemas.derived import Depth, Quote, Tick
from schemas.market import Instrument, Status, Trade
from schemas.record import Record
from simulate.kalshi import resolution as kalshi_end
from simulate.kalshi.exchange import KalshiExchange
from simulate.kalshi.market import KalshiMarket
from simulate.matching import CancelReason, Event, Filled, Order, Side
from simulate.paper_listing import NotListed, bands_of, kalshi_market, polymarket_market, set_grid
from simulate.paper_market import Evidence, PaperMarket
from simulate.polymarket import resolution as polymarket_end
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.market import PolymarketMarket

LOT_E6 = 10_000
"""Live sizes count in hundredths of a contract: both venues' orders do, and each fill then costs a whole micro-dollar."""
TRADES_KNOWN_MAX = 1_024
"""Trades of an instrument remembered by their origin, so that a repeat is not a second trade."""
INSTRUMENTS_MAX = 200_000
"""Descriptions kept; beyond it the oldest that has no market is forgotten."""
REFUSED_MAX = 1_000
"""Instruments without a market whose reason is kept; beyond it the oldest is forgotten."""
_SIDES = {"BUY": Side.BID, "SELL": Side.ASK}
_EXPONENTS = (PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP)

Version = tuple[int, int]


class Seat:
    """One instrument's market at its paper venue, and what is known of its live book."""

    def __init__(self, market: KalshiMarket | PolymarketMarket, book: PaperMarket, instrument: Instrument) -> None:
        self.market = market
        self.book = book
        self.partition = -1
        self.depth_at: Version = (-1, -1)
        self.quote_at: Version = (-1, -1)
        self.depth_is_live = False
        self.quote_is_live = False
        self.is_fresh = False
        """Whether its partition's ticks were young when it was judged last."""
        self.is_open = instrument.status == "OPEN"
        self.told_ns = instrument.recv_ts_ns
        """When its state and grid were heard, from the stream or the catalogue."""
        self.paid_e6 = -1
        """What one YES paid here, once the live market said that it has settled."""
        self.known: set[tuple[int, int, int]] = set()
        self.newest: deque[tuple[int, int, int]] = deque()

    def is_new(self, trade: Trade) -> bool:
        """Tell whether a trade was not seen before, and remember it."""
        origin = (trade.epoch, trade.frame_no, trade.index)
        if origin in self.known:
            return False
        self.known.add(origin)
        self.newest.append(origin)
        if len(self.newest) > TRADES_KNOWN_MAX:
            self.known.discard(self.newest.popleft())
        return True


class PaperFeed:
    """All markets of both paper venues."""

    def __init__(
        self,
        kalshi: KalshiExchange,
        polymarket: PolymarketExchange,
        now_ns: Callable[[], int],
        *,
        latency_ns: int,
        tick_age_max_ns: int,
        note: Callable[..., None],
    ) -> None:
        """Prepare.

        Args:
            now_ns: the clock the records' receive times were read from.
            latency_ns: see `PaperMarket`.
            tick_age_max_ns: a partition whose last tick is older than this is not to be believed.
            note: writes a line of the truth log: `note("paper", **facts)`.
        """
        self.seats: dict[str, Seat] = {}
        self.counts: Counter[str] = Counter()
        self._kalshi = kalshi
        self._polymarket = polymarket
        self._now_ns = now_ns
        self._latency_ns = latency_ns
        self._tick_age_max_ns = tick_age_max_ns
        self._note = note
        self._instruments: OrderedDict[str, Instrument] = OrderedDict()
        self._refused: dict[str, str] = {}
        """Instruments no market was made of, and why."""
        self._ticks: dict[int, int] = {}
        """partition -> time of its newest tick"""

    def describe(self, instrument: Instrument) -> None:
        """Take in a description; a market is made when its book is first heard of."""
        name = instrument.instrument
        seat = self.seats.get(name)
        if seat is not None:
            # A catalogue may be older than what the stream said of the market since.
            if instrument.recv_ts_ns >= seat.told_ns:
                seat.told_ns = instrument.recv_ts_ns
                self._state(seat, instrument.status)
                self._end(seat, instrument)
                self._regrid(seat, instrument.tick_from, instrument.tick_to, instrument.tick_step)
                self._judge(seat)
            return
        self._refused.pop(name, None)
        self._instruments[name] = instrument
        self._instruments.move_to_end(name)
        if len(self._instruments) > INSTRUMENTS_MAX:
            self._instruments.popitem(last=False)
            self.counts["instruments_forgotten"] += 1

    # hot: each record of the live run's derived.book
    def take(self, item: Input) -> None:
        """Take in one record of `derived.book`."""
        record = item.record
        if isinstance(record, Tick):
            self._ticks[record.partition] = max(record.ts_ns, self._ticks.get(record.partition, 0))
        elif isinstance(record, Depth | Quote | Trade | Status):
            seat = self._seat(record.instrument)
            if seat is not None:
                seat.partition = item.partition
                self._apply(record, seat)

    def check(self) -> None:
        """Judge books by the time that has passed, and write down why orders were filled."""
        now_ns = self._now_ns()
        fresh = {partition for partition, ts_ns in self._ticks.items() if now_ns - ts_ns < self._tick_age_max_ns}
        for name, seat in self.seats.items():
            if (seat.partition in fresh) is not seat.is_fresh:
                self._judge(seat)
            for why in seat.book.evidence():
                self._tell(name, why)

    def _apply(self, record: Record, seat: Seat) -> None:
        events: list[Event] = []
        match record:
            case Depth():
                events = self._depth(record, seat)
            case Quote():
                version = (record.version_offset, record.version_index)
                if version >= seat.quote_at:
                    seat.quote_at = version
                    seat.quote_is_live = record.state == "LIVE"
                    self._judge(seat)
            case Trade() if (record.price_exp, record.size_exp) == _EXPONENTS and seat.is_new(record):
                label = f"trade:{record.epoch}:{record.frame_no}:{record.index}"
                taker = _SIDES.get(record.aggressor)
                events = seat.book.trade(record.price, record.size, taker, record.recv_ts_ns, label)
            case Status() if record.recv_ts_ns >= seat.told_ns:
                seat.told_ns = record.recv_ts_ns
                if record.status != "UNKNOWN":
                    self._state(seat, record.status)
                self._end(seat, record)
                if record.tick_from:
                    self._regrid(seat, record.tick_from, record.tick_to, record.tick_step)
                self._judge(seat)
            case _:
                self.counts["passed_over"] += 1
        self._publish(seat, events)

    def _depth(self, depth: Depth, seat: Seat) -> list[Event]:
        version = (depth.version_offset, depth.version_index)
        if version < seat.depth_at:
            self.counts["old_depths"] += 1
            return []
        is_repeat = version == seat.depth_at
        seat.depth_at = version
        seat.depth_is_live = depth.state == "LIVE"
        # What stood before trust ended is judged first: a book that is not LIVE has no levels to take in.
        self._judge(seat)
        if not seat.depth_is_live or is_repeat or (depth.price_exp, depth.size_exp) != _EXPONENTS:
            return []
        events = seat.book.depth(
            list(zip(depth.bid_prices, depth.bid_sizes, strict=True)),
            list(zip(depth.ask_prices, depth.ask_sizes, strict=True)),
            depth.recv_ts_ns,
            f"depth:{version[0]}:{version[1]}",
        )
        self._open(seat)
        return events

    def _state(self, seat: Seat, status: str) -> None:
        """Note what the venue says of a market; Kalshi cancels what rests when one that did not trade does again."""
        was_open, seat.is_open = seat.is_open, status == "OPEN"
        if was_open or not seat.is_open or not isinstance(seat.market, KalshiMarket):
            return
        for account in self._kalshi.accounts.values():
            for own in [own for own in account.resting.values() if own.market is seat.market]:
                self._kalshi.apply(seat.market, seat.book.cancel(own.engine, CancelReason.VENUE))

    def _end(self, seat: Seat, said: Instrument | Status) -> None:
        """End a market that has settled live: Kalshi pays what it pays there, and again when that changes.

        Tokens are redeemed by their holder, and on paper nobody does: they stay, at what they would be redeemed for.
        """
        if said.status != "SETTLED" or said.payout_e6 < 0 or said.payout_e6 == seat.paid_e6:
            return
        value_e4 = said.payout_e6 * ONE_DOLLAR_E4 // MICRO
        if isinstance(seat.market, KalshiMarket):
            word = {MICRO: "yes", 0: "no"}.get(said.payout_e6, "scalar")
            for step in ("determine", "settle") if seat.paid_e6 < 0 else ("correct",):
                kalshi_end.resolve(self._kalshi, seat.market.ticker, step, word, value_e4)
        elif seat.paid_e6 < 0:
            polymarket_end.resolve(self._polymarket, seat.market.condition_id, "resolve", value_e4)
        seat.paid_e6 = said.payout_e6

    def _judge(self, seat: Seat) -> None:
        """Open or close a market by what is known of its live book."""
        seat.is_fresh = self._now_ns() - self._ticks.get(seat.partition, 0) < self._tick_age_max_ns
        trusted = seat.is_open and seat.depth_is_live and seat.quote_is_live and seat.is_fresh
        self._publish(seat, seat.book.trust(trusted=trusted))
        self._open(seat)

    def _open(self, seat: Seat) -> None:
        """Let the venue refuse orders as it does when a market is paused, or take them again; what rests stays.

        Why it is closed is not the venue's business here: only one that the live venue had paused cancels (`_state`).
        """
        if seat.paid_e6 >= 0:
            return
        if isinstance(seat.market, KalshiMarket):
            seat.market.status = "active" if seat.book.is_trusted else "inactive"
        else:
            seat.market.accepting = seat.book.is_trusted

    def _regrid(self, seat: Seat, froms: list[int], tos: list[int], steps: list[int]) -> None:
        try:
            set_grid(seat.market, bands_of(froms, tos, steps))
        except NotListed:
            self.counts["grids_refused"] += 1

    def _seat(self, name: str) -> Seat | None:
        seat = self.seats.get(name)
        if seat is None and (instrument := self._instruments.get(name)) is not None:
            seat = self._list(instrument)
        return seat

    def _list(self, instrument: Instrument) -> Seat | None:
        name = instrument.instrument
        book = PaperMarket(self._now_ns, lot=LOT_E6, latency_ns=self._latency_ns)
        market: KalshiMarket | PolymarketMarket
        try:
            if instrument.venue == "kalshi":
                self._kalshi.list_market(market := kalshi_market(instrument, book))
            elif instrument.venue == "polymarket":
                self._polymarket.list_market(market := polymarket_market(instrument, book))
            else:
                raise NotListed(f"{name}: no paper venue {instrument.venue!r}")
        except NotListed as e:
            self._refused[name] = str(e)
            if len(self._refused) > REFUSED_MAX:
                del self._refused[next(iter(self._refused))]
            self.counts["refused"] += 1
            # Not asked again with each record of its book: only a new description may change the answer.
            del self._instruments[name]
            return None
        del self._instruments[name]
        seat = self.seats[name] = Seat(market, book, instrument)
        self._open(seat)
        return seat

    def _publish(self, seat: Seat, events: list[Event]) -> None:
        """Tell the owners of filled orders; one taker at a time, as a venue matches."""
        if not events:
            return
        for _, group in groupby(events, key=_taker):
            batch = list(group)
            if isinstance(seat.market, KalshiMarket):
                self._kalshi.apply(seat.market, batch)
            else:
                self._polymarket.apply(seat.market, batch)

    def _tell(self, name: str, why: Evidence) -> None:
        self.counts[f"fills_{why.how}"] += 1
        self._note("paper", instrument=name, **why._asdict())

    def figures(self) -> dict[str, Any]:
        """Return what is listed, open and was counted."""
        open_markets = sum(1 for seat in self.seats.values() if seat.book.is_trusted)
        return {
            "markets": len(self.seats),
            "open": open_markets,
            "refused": dict(list(self._refused.items())[:20]),
            "counts": dict(self.counts),
        }


def _taker(event: Event) -> Order | None:
    return event.taker if isinstance(event, Filled) else None
