"""An event whose outcomes turn cheap now and then, a strategy that looks at it from afar, and accounts; in made-up time.

The outcomes are quoted and traded as the simulated venues' flow does it. The event strategy looks at books that are as
old as the way to the venue is long; accounts admit, grant, complete and take back; every order meets the book of the
moment at which it arrives.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from benchmarks.samples import instrument
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.flow import Input, TaskContext
from decide.accounts import AccountsTask
from decide.strategies.exhaustive_event import ExhaustiveEvent
from decide.strategies.intents import leg_of
from schemas.decision import Clock, Grant, Intent, Limit, Link, Profile, Saga, Strategy
from schemas.derived import Depth
from schemas.enums import LegOrder
from schemas.market import Instrument
from schemas.order import Alive, Fill, OrderUpdate, VenueReport
from schemas.record import Record
from simulate.flow import Latent, Quoter
from simulate.grid import KALSHI_STRUCTURES, Grid
from simulate.matching import Filled, Matcher, Order, Side, TimeInForce
from venues.kalshi import rules as kalshi_rules

E6 = 1_000_000
ACCOUNT, SET, LINK = "kalshi:bench", "bench", "event"
OUTCOMES = 4
STEP_MS, LOOK_MS, CLOCK_MS = 2, 20, 100
LEVELS = 6
TAKER_SHARE = 0.05
VOLATILITY_PER_S = 0.01
EDGE_EVERY_S = 2.0
EDGE_CENTS = (3.5, 6.0)
"""What each outcome is cheaper by; the simulated venues' own for events."""
BUDGET_E6 = 2 * E6


class Course(NamedTuple):
    """One setting.

    Attributes:
        way_ms: from a book to the strategy, and from a Grant to the matching; the answer takes as long back.
        edge_s: mean life of an edge.
        apart: each outcome turns back at a time of its own; else all at once.
    """

    way_ms: int
    edge_s: float
    apart: bool = False


class Outcome(NamedTuple):
    """What came of one course."""

    sagas: int
    ends: Counter[str]
    """How each ended: in full, completed at a worse price, less than wanted, taken back, nothing, held."""
    won_e6: int
    """Of all of them: cash less fees, a dollar for each whole set, what is held beside at the best bid."""


class Market:
    """One outcome: its book, and what quotes it."""

    def __init__(self, rng: random.Random) -> None:
        self.matcher = Matcher()
        self.grid = Grid(KALSHI_STRUCTURES["linear_cent"])
        self.latent = Latent(rng, VOLATILITY_PER_S, 0.0)
        self.quoter = Quoter(self, len, rng, LEVELS, inverted=False)
        self.seen: deque[tuple[int, Depth]] = deque(maxlen=256)
        """What the book was, and when."""


class World:
    """Markets, strategy and accounts, in time that only events move; also what the strategy sees."""

    def __init__(self, course: Course, leg_order: LegOrder, seed: int) -> None:
        self.now_ns = NS_PER_S
        self._course, self._order = course, leg_order
        self._rng = random.Random(f"legs/{seed}")
        self._edges = random.Random(f"edges/{seed}")
        """Of its own, so that both orders meet the same edges."""
        self._names = [f"kalshi:KX-BENCH-{number}" for number in range(OUTCOMES)]
        self._markets = {name: Market(self._rng) for name in self._names}
        self._instruments = {
            name: instrument(name, event_group=LINK, fee_model="QUADRATIC", taker_fee_e6=_FEE_E6, recv_ts_ns=1)
            for name in self._names
        }
        self._link = _link(self._names)
        self._strategy = ExhaustiveEvent.from_config(_strategy())
        self._task = AccountsTask(TaskContext(incarnation=1))
        self._offset = itertools.count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._next_edge_ns = 0
        self._ends_ns: dict[str, int] = {}
        """When each outcome that was pushed turns back."""
        self._rests_until_ns = 0
        self._sagas: dict[str, Saga] = {}
        self._hedged: set[str] = set()

    # What a strategy asks of its view

    def instrument(self, name: str) -> Instrument | None:
        return self._instruments.get(name)

    def depth(self, name: str) -> Depth | None:
        """Return the newest book that is old enough to have come here."""
        arrived = self.now_ns - self._course.way_ms * NS_PER_MS
        return next((depth for at, depth in reversed(self._markets[name].seen) if at <= arrived), None)

    # Time

    def run(self, seconds: float) -> Outcome:
        """Let so much time pass, then let what is open come to its end."""
        self._begin()
        end_ns = self.now_ns + round(seconds * NS_PER_S)
        while self.now_ns < end_ns or any(saga.state in _OPEN for saga in self._sagas.values()):
            step_ns = self.now_ns + STEP_MS * NS_PER_MS
            while self._due and self._due[0][0] <= step_ns:
                at_ns, _, act = heapq.heappop(self._due)
                self.now_ns = max(self.now_ns, at_ns)
                act()
            self.now_ns = step_ns
            self._move()
            passed_ms = step_ns // NS_PER_MS
            if passed_ms % CLOCK_MS == 0:
                self._feed(Clock(now_ns=self.now_ns))
                self._feed(Alive(account=ACCOUNT, writer="gw", ready=True, ts_ns=self.now_ns))
            if passed_ms % LOOK_MS == 0 and self.now_ns < end_ns:
                self._look()
        return self._outcome()

    def _later(self, act: Callable[[], None]) -> None:
        at_ns = self.now_ns + self._course.way_ms * NS_PER_MS
        heapq.heappush(self._due, (at_ns, next(self._numbers), act))

    def _begin(self) -> None:
        for record in (
            *self._instruments.values(),
            self._link,
            Profile(id=ACCOUNT, venue="kalshi", account_set=SET, entity="bench", currency="USD"),
            _limit(),
            VenueReport(
                account=ACCOUNT, as_of_ns=self.now_ns, cash_e6=10**15, holdings=[], open_orders=[], ts_ns=self.now_ns
            ),
            Alive(account=ACCOUNT, writer="gw", ready=True, ts_ns=self.now_ns),
        ):
            self._feed(record)
        for market in self._markets.values():
            self._aim(market)
            market.quoter.move()

    # The market

    def _move(self) -> None:
        if self.now_ns >= self._next_edge_ns:
            self._next_edge_ns = self.now_ns + self._draw_ns(EDGE_EVERY_S)
            offset, together_ns = -self._edges.uniform(*EDGE_CENTS) / 100, self._draw_ns(self._course.edge_s)
            for name in self._names if not self._ends_ns else ():
                lives_ns = self._draw_ns(self._course.edge_s) if self._course.apart else together_ns
                self._ends_ns[name] = self.now_ns + lives_ns
                self._push(name, offset)
        for name in [name for name, ends_ns in self._ends_ns.items() if ends_ns <= self.now_ns]:
            del self._ends_ns[name]
            self._push(name, 0.0)
        market = self._rng.choice(list(self._markets.values()))
        if self._rng.random() < 0.1:
            self._aim(market)
        market.quoter.act(TAKER_SHARE)
        for name, one in self._markets.items():
            if one is market or not one.seen:
                self._note(name)

    def _draw_ns(self, mean_s: float) -> int:
        return round(self._edges.expovariate(1 / mean_s) * NS_PER_S)

    def _push(self, name: str, offset: float) -> None:
        """Turn an outcome cheap, or back."""
        market = self._markets[name]
        market.quoter.offset = offset
        self._aim(market)
        market.quoter.move()
        self._note(name)

    def _aim(self, market: Market) -> None:
        now = self.now_ns / NS_PER_S
        views = {id(one): one.latent.view(now, 0.0) for one in self._markets.values()}
        market.quoter.aim(views[id(market)] / sum(views.values()) + self._rng.gauss(0, 0.002))

    def _note(self, name: str) -> None:
        market = self._markets[name]
        bids, asks = market.matcher.levels(Side.BID), market.matcher.levels(Side.ASK)
        depth = Depth(
            instrument=name,
            version_offset=self.now_ns,
            version_index=0,
            state="LIVE",
            price_exp=-4,
            size_exp=-6,
            bid_prices=[price for price, _ in bids],
            bid_sizes=[size for _, size in bids],
            ask_prices=[price for price, _ in asks],
            ask_sizes=[size for _, size in asks],
            epoch=0,
            recv_ts_ns=self.now_ns + self._course.way_ms * NS_PER_MS,
            trail=[],
        )
        market.seen.append((self.now_ns, depth))

    # What is decided

    def _look(self) -> None:
        is_busy = any(saga.state in _OPEN for saga in self._sagas.values())
        found = None if is_busy or self.now_ns < self._rests_until_ns else self._strategy.find(self._link, self)  # type: ignore[arg-type]
        if found is None or not found.tradable or found.direction != "BUY":
            return
        places = found.in_order()
        legs = [leg_of(found.legs[place], found.walk.legs[place], found.depths[place], ACCOUNT) for place in places]
        newest_ns = max(leg.recv_ts_ns for leg in legs)
        number = next(self._offset)
        self._feed(
            Intent(
                id=f"intent-{number}",
                strategy="bench",
                link=LINK,
                account_set=SET,
                now_ns=self.now_ns,
                legs=legs,
                profit_e6=found.walk.profit_e6,
                input_partition=0,
                input_offset=number,
                # A book that did not change for long is confirmed by its feed's ticks.
                recv_ts_ns=max(newest_ns, self.now_ns - LOOK_MS * NS_PER_MS),
                leg_order=self._order,
            )
        )

    def _feed(self, record: Record) -> None:
        for output in self._task.handle(Input(record, "log", 0, next(self._offset), "", self.now_ns)):
            said = output.record
            if isinstance(said, Grant):
                if said.purpose == "HEDGE" and said.attempt > 1:
                    self._hedged.add(said.intent)
                self._later(lambda grant=said: self._meet(grant))  # type: ignore[misc]
            elif isinstance(said, Saga) and said.state != "REFUSED":
                self._sagas[said.id] = said
                if said.state not in _OPEN:
                    self._rests_until_ns = self.now_ns + NS_PER_S

    def _meet(self, grant: Grant) -> None:
        """Let an order meet the book; its answer is on its way at once."""
        side = Side.BID if grant.side == "BUY" else Side.ASK
        order = Order(grant.id, side, grant.price, grant.size, owner="us", time_in_force=TimeInForce.IOC)
        events = self._markets[grant.instrument].matcher.submit(order)
        self._note(grant.instrument)
        fills = [event for event in events if isinstance(event, Filled)]
        records: list[Record] = [self._fill(grant, number, one) for number, one in enumerate(fills)]
        filled = sum(one.size for one in fills)
        self._later(lambda: self._answer(grant, records, filled))

    def _answer(self, grant: Grant, fills: list[Record], filled: int) -> None:
        for fill in fills:
            self._feed(msgspec.structs.replace(fill, ts_ns=self.now_ns, recv_ts_ns=self.now_ns))
        update = OrderUpdate(
            event_id=f"end/{grant.id}",
            order=grant.id,
            account=ACCOUNT,
            instrument=grant.instrument,
            status="FILLED" if filled == grant.size else "CANCELLED",
            terminal=True,
            filled=filled,
            writer="gw",
            ts_ns=self.now_ns,
            recv_ts_ns=self.now_ns,
        )
        self._feed(update)

    def _fill(self, grant: Grant, number: int, event: Filled) -> Fill:
        fee_e6 = kalshi_rules.fee_bound(price=event.price, size=event.size, coefficient_e6=_FEE_E6)
        return Fill(
            event_id=f"fill/{grant.id}/{number}",
            order=grant.id,
            account=ACCOUNT,
            instrument=grant.instrument,
            fill=f"{grant.id}/{number}",
            outcome="YES",
            token_side=grant.side,
            size=event.size,
            price_e6=event.price * 100,
            notional_e6=event.size * event.price // 10_000,
            fee_e6=fee_e6,
            asset="USD",
            liquidity="TAKER",
            settlement="CONFIRMED",
            ts_ns=0,
            recv_ts_ns=0,
        )

    # What came of it

    def _outcome(self) -> Outcome:
        ends: Counter[str] = Counter()
        won_e6 = 0
        for saga in self._sagas.values():
            whole = min(saga.standing_e6)
            won_e6 += saga.cash_e6 - saga.fees_e6 + whole
            for leg in self._task._state.sets[SET].sagas[saga.id].legs:
                bid = self._markets[leg.leg.instrument].matcher.best_bid() or 0
                won_e6 += (leg.exposure - whole) * bid // 10_000
            ends[self._end(saga)] += 1
        return Outcome(len(self._sagas), ends, won_e6)

    def _end(self, saga: Saga) -> str:
        if saga.state == "HOLDING":
            return "held"
        if saga.unwound:
            return "taken back"
        if not any(saga.filled_e6):
            return "nothing"
        if saga.reason != "FILLED":
            return "less"
        return "completed" if saga.id in self._hedged else "in full"


_OPEN = frozenset({"FIRST_LEG", "SECOND_LEG", "UNWINDING"})
_FEE_E6 = 70_000


def _link(names: list[str]) -> Link:
    rows = [E6 if row == column else 0 for row in range(len(names)) for column in range(len(names))]
    return Link(
        id=LINK,
        version=1,
        status="APPROVED",
        kind="EVENT",
        instrument_a="",
        instrument_b="",
        polarity="UNKNOWN",
        states=[f"{name} wins" for name in names],
        payout_a_e6=[],
        payout_b_e6=[],
        instruments=names,
        payouts_e6=rows,
        exhaustive=True,
        approved_by="bench",
        approved_ts_ns=1,
    )


def _limit() -> Limit:
    return Limit(
        id=SET,
        state="RUNNING",
        order_notional_max_e6=10**12,
        market_notional_max_e6=10**15,
        open_sagas_max=10,
        unwind_budget_e6=BUDGET_E6,
        set_by="bench",
        reason="bench",
    )


def _strategy() -> Strategy:
    params: dict[str, Any] = {"size_max": 10 * E6, "min_profit_e6": E6 // 20}
    return Strategy(
        id="bench",
        kind="exhaustive_event",
        status="RUNNING",
        account_set=SET,
        params=msgspec.json.encode(params).decode(),
    )
