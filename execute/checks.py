"""The gateway's own checks of a Grant, whatever decide said. Pure: time and state are arguments.

What can be seen from here: is the quote usable, is the price on the grid and not absurd, is the order within this
gateway's own limits, does the market trade. Every refusal is one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_MS
from core.runtime.described import SILENCE, Words
from core.runtime.flow import Input
from execute.guards import Guards
from execute.orders import Orders, notional_e6
from schemas.decision import Grant
from schemas.derived import Quote, Tick
from schemas.market import Instrument, Status


@dataclass(frozen=True)
class Limits:
    """What one gateway allows; sizes and money at 1e-6, the collar at 1e-4 dollar."""

    size_max: int
    order_notional_max_e6: int
    day_notional_max_e6: int
    open_orders_max: int
    collar_e4: int
    quote_age_max_ns: int


@dataclass
class Market:
    """What the gateway sees of the markets of its venue: quotes, the ticks of their partitions, instruments."""

    venue: str
    quotes: dict[str, tuple[int, Quote]] = field(default_factory=dict)
    ticks: dict[int, int] = field(default_factory=dict)
    instruments: dict[str, Instrument] = field(default_factory=dict)
    """As they stand: the newest description, with the state and the grid that were said in band since."""
    words: dict[str, Words] = field(default_factory=dict)
    _described: dict[str, Instrument] = field(default_factory=dict)

    def apply(self, item: Input) -> None:
        """Take one record of derived.book or market.instrument."""
        record = item.record
        if isinstance(record, Tick):
            self.ticks[record.partition] = max(self.ticks.get(record.partition, 0), record.ts_ns)
        elif isinstance(record, Quote):
            if record.instrument.startswith(self._prefix):
                self._quote(item.partition, record)
        elif isinstance(record, Status):
            if record.instrument.startswith(self._prefix):
                self.words[record.instrument] = self.words.get(record.instrument, SILENCE).hear(record)
                self._learn(record.instrument)
        elif isinstance(record, Instrument) and record.venue == self.venue:
            self._described[record.instrument] = record
            self._learn(record.instrument)

    @property
    def _prefix(self) -> str:
        return f"{self.venue}:"

    def _quote(self, partition: int, quote: Quote) -> None:
        known = self.quotes.get(quote.instrument)
        # A restarted task publishes again what was published: the version says what is newer.
        if known is None or _version(known[1]) <= _version(quote):
            self.quotes[quote.instrument] = (partition, quote)

    def _learn(self, name: str) -> None:
        described = self._described.get(name)
        if described is not None:
            self.instruments[name] = self.words.get(name, SILENCE).applied(described)


def refuse(
    grant: Grant, *, market: Market, orders: Orders, limits: Limits, now_ns: int, guards: Guards | None = None
) -> str:
    """Return why this order must not be sent, an empty text if nothing speaks against it."""
    instrument = market.instruments.get(grant.instrument)
    if instrument is None:
        return f"{grant.instrument} is not a known instrument"
    return (
        _refuse_market(instrument, now_ns)
        or _refuse_numbers(grant, instrument, market)
        or _refuse_limits(grant, orders, limits, now_ns)
        or refuse_book(grant.instrument, market=market, limits=limits, now_ns=now_ns)
        or _refuse_price(grant, market, limits)
        or (guards.why_not(grant, instrument, orders, now_ns) if guards is not None else "")
    )


def refuse_book(instrument: str, *, market: Market, limits: Limits, now_ns: int) -> str:
    """Return why the book of an instrument is not usable at `now_ns`, empty if it is.

    Usable is a book that was LIVE when last heard of, in a partition whose last Tick is young: if anything before this
    gateway, or its own reader, died, froze or lags, that Tick is old.
    """
    partition, quote = market.quotes.get(instrument, (-1, None))
    if quote is None:
        return f"no quote of {instrument} was seen"
    if quote.state != "LIVE":
        return f"the book of {instrument} is {quote.state}: {quote.cause}"
    if partition not in market.ticks:
        return f"no tick of derived.book partition {partition} was seen"
    age_ns = now_ns - market.ticks[partition]
    if age_ns > limits.quote_age_max_ns:
        return f"the last tick of derived.book partition {partition} is {age_ns // NS_PER_MS} ms old"
    if age_ns < -limits.quote_age_max_ns:
        # It would stay young for as long after everything before it died.
        return (
            f"the last tick of derived.book partition {partition} lies {-age_ns // NS_PER_MS} ms ahead: set the clocks"
        )
    return ""


def _refuse_market(instrument: Instrument, now_ns: int) -> str:
    if instrument.status != "OPEN":
        return f"{instrument.instrument} is {instrument.status}"
    if instrument.close_ts_ns and now_ns >= instrument.close_ts_ns:
        return f"{instrument.instrument} closed at {instrument.close_ts_ns}"
    return ""


def _refuse_numbers(grant: Grant, instrument: Instrument, market: Market) -> str:
    if (grant.price_exp, grant.size_exp) != (instrument.price_exp, instrument.size_exp):
        return f"expected exponents {instrument.price_exp}, {instrument.size_exp}, found {grant.price_exp}, {grant.size_exp}"
    if not 0 < grant.price < 10**-grant.price_exp:
        return f"price {grant.price} is not between 0 and one dollar"
    bands = list(zip(instrument.tick_from, instrument.tick_to, instrument.tick_step, strict=True))
    if not any(low <= grant.price <= high and (grant.price - low) % step == 0 for low, high, step in bands):
        return f"price {grant.price} is not on the grid {bands}"
    if grant.size < instrument.size_min and not _crosses(grant, market):
        return f"size {grant.size} is below the minimum {instrument.size_min}"
    if instrument.size_step and grant.size % instrument.size_step:
        return f"size {grant.size} is not a multiple of {instrument.size_step}"
    if notional_e6(grant) < instrument.notional_min_e6:
        return f"notional {notional_e6(grant)} is below the minimum {instrument.notional_min_e6}"
    return ""


def _refuse_limits(grant: Grant, orders: Orders, limits: Limits, now_ns: int) -> str:
    size_e6 = grant.size * MICRO // int(10**-grant.size_exp)
    if size_e6 > limits.size_max:
        return f"size {size_e6}e-6 is above this gateway's {limits.size_max}e-6"
    money = notional_e6(grant)
    # What closes is measured by its contracts only: its money is what opening its side would cost, and as prices went.
    if grant.purpose != "UNWIND" and money > limits.order_notional_max_e6:
        return f"notional {money}e-6 is above this gateway's {limits.order_notional_max_e6}e-6 for one order"
    # What takes risk away is not held back by how much was traded or is out.
    if grant.purpose in {"HEDGE", "UNWIND"}:
        return ""
    if orders.day_notional_e6(now_ns) + money > limits.day_notional_max_e6:
        return f"the day's notional would be above this gateway's {limits.day_notional_max_e6}e-6"
    if orders.out_count() >= limits.open_orders_max:
        return f"{limits.open_orders_max} orders are out already"
    return ""


def _refuse_price(grant: Grant, market: Market, limits: Limits) -> str:
    _, quote = market.quotes[grant.instrument]
    if grant.post_only:
        if grant.time_in_force not in {"GTC", "GTD"}:
            return f"{grant.time_in_force} is not post-only: it would never rest"
        if _crosses(grant, market):
            return f"post-only at {grant.price} crosses the book ({quote.bid_price} / {quote.ask_price})"
    if grant.side == "BUY":
        if quote.ask_size <= 0:
            return "nothing is offered: no price to hold the limit against"
        if grant.price > quote.ask_price + limits.collar_e4:
            return f"limit {grant.price} is more than {limits.collar_e4} above the best ask {quote.ask_price}"
    else:
        if quote.bid_size <= 0:
            return "nothing is bid: no price to hold the limit against"
        if grant.price < quote.bid_price - limits.collar_e4:
            return f"limit {grant.price} is more than {limits.collar_e4} below the best bid {quote.bid_price}"
    return ""


def _crosses(grant: Grant, market: Market) -> bool:
    # Venues ask the minimum size of what would rest, not of what trades at once.
    _, quote = market.quotes.get(grant.instrument, (-1, None))
    if quote is None:
        return False
    if grant.side == "BUY":
        return quote.ask_size > 0 and grant.price >= quote.ask_price
    return quote.bid_size > 0 and grant.price <= quote.bid_price


def _version(quote: Quote) -> tuple[int, int]:
    return quote.version_offset, quote.version_index
