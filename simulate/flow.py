"""The seeded flow: a drifting probability for each linked market, quoted and traded on both venues.

A quoter keeps several levels around its venue's view of the probability; takers hit them. The venues see the same
probability, one a little later and each with noise of its own; now and then one is pushed away from the other for a
while, by more than both fees, and comes back: an edge that appears and vanishes.

Floats are the world's probabilities only; what reaches a book is a grid price and a whole number of lots.
"""

import asyncio
import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from core.domain.units import ONE_DOLLAR_E4
from simulate.drive import Drive
from simulate.grid import Grid
from simulate.matching import Event, Matcher, Order, Side, TimeInForce
from simulate.settings import SimulateSettings
from simulate.truth import TruthLog
from simulate.universe import LinkedMarket, events

LOT_E6 = 10_000
HALF_SPREAD_E4 = 75
QUIET_BAND = (0.08, 0.92)
EDGE_BAND = (0.20, 0.80)
VENUE_BAND = (0.03, 0.97)
BOTH = -1
"""In place of a venue: what was pushed on both."""
PULL_PER_S = 0.02
"""How fast the latent logit returns to where it started; keeps markets alive for hours."""
CATCH_UP_S = 0.5
"""Behind by more than this, the flow forgets the difference instead of bursting."""
TURN_S = 0.02
"""Longest the flow holds the loop at once: the sockets are served in between."""
HISTORY_MAX = 32
FRESH_SHARE = 0.1


class FlowMarket(Protocol):
    """What the flow needs of a venue's market."""

    matcher: Matcher
    grid: Grid


class Latent:
    """One market's probability: a random walk of its logit, pulled back to where it began."""

    def __init__(self, rng: random.Random, volatility_per_s: float, now: float) -> None:
        self._rng = rng
        self._volatility = volatility_per_s
        self._home = math.log(1 / rng.uniform(0.2, 0.8) - 1)
        self._logit = self._home
        self._at = now
        self._history: deque[tuple[float, float]] = deque([(now, self._probability())], HISTORY_MAX)

    def view(self, now: float, lag_s: float) -> float:
        """Return the probability as it was `lag_s` ago."""
        passed = now - self._at
        if passed > 0:
            self._logit += self._rng.gauss(0, self._volatility * math.sqrt(passed))
            self._logit += (self._home - self._logit) * min(1.0, PULL_PER_S * passed)
            self._at = now
            self._history.append((now, self._probability()))
        for at, probability in reversed(self._history):
            if at <= now - lag_s:
                return probability
        return self._history[0][1]

    def _probability(self) -> float:
        return min(max(1 / (1 + math.exp(self._logit)), QUIET_BAND[0]), QUIET_BAND[1])


class Quoter:
    """The quotes of one market on one venue."""

    def __init__(
        self,
        market: FlowMarket,
        publish: Callable[[list[Event]], int],
        rng: random.Random,
        levels: int,
        *,
        inverted: bool,
    ) -> None:
        self.market = market
        self.inverted = inverted
        self.offset = 0.0
        self._publish = publish
        self._rng = rng
        self._levels = levels
        self._orders: dict[tuple[Side, int], list[Order]] = {}
        self._number = 0
        self._targets: tuple[list[int], list[int]] = ([], [])

    def aim(self, probability: float) -> None:
        """Set where the quotes should stand, from Kalshi's point of view."""
        seen = min(max(probability + self.offset, VENUE_BAND[0]), VENUE_BAND[1])
        middle = round((1 - seen if self.inverted else seen) * ONE_DOLLAR_E4)
        self.aim_at(middle - HALF_SPREAD_E4, middle + HALF_SPREAD_E4)

    def aim_at(self, bid_e4: int, ask_e4: int) -> None:
        """Set the innermost quotes."""
        grid = self.market.grid
        self._targets = (grid.below(bid_e4, self._levels), grid.above(ask_e4, self._levels))

    def act(self, taker_share: float) -> int:
        """Move to the target if the quotes stand elsewhere, else change a size or take; return the messages made."""
        messages = self.move()
        if messages:
            return messages
        if self._rng.random() < taker_share:
            return self._take()
        return self._resize()

    def move(self) -> int:
        """Take away what stands wrong, then add what is missing."""
        bids, asks = self._targets
        wanted = {(Side.BID, price) for price in bids} | {(Side.ASK, price) for price in asks}
        messages = 0
        for place in [place for place in self._orders if place not in wanted]:
            for order in self._orders.pop(place):
                messages += self._publish(self.market.matcher.cancel(order))
        for side, prices in ((Side.BID, bids), (Side.ASK, asks)):
            for depth, price in enumerate(prices):
                if not self._standing(side, price):
                    messages += self._add(side, price, self._size(depth))
        return messages

    def _standing(self, side: Side, price: int) -> list[Order]:
        orders = self._orders.get((side, price))
        if not orders:
            return []
        orders[:] = [order for order in orders if order.remaining]
        return orders

    def _add(self, side: Side, price: int, size: int, time_in_force: TimeInForce = TimeInForce.GTC) -> int:
        self._number += 1
        order = Order(f"f{self._number}", side, price, size, time_in_force=time_in_force)
        events = self.market.matcher.submit(order)
        if order.remaining:
            self._orders.setdefault((side, price), []).append(order)
        return self._publish(events)

    def _resize(self) -> int:
        """Add to a level or take from it."""
        prices = self._targets[self._rng.randrange(2)]
        if not prices:
            return 0
        side = Side.BID if prices is self._targets[0] else Side.ASK
        price = self._rng.choice(prices)
        orders = self._standing(side, price)
        if len(orders) < 2:
            return self._add(side, price, self._size(0))
        if len(orders) > 3 or self._rng.random() < 0.5:
            return self._publish(self.market.matcher.cancel(orders.pop(self._rng.randrange(len(orders)))))
        last = orders[-1]
        cut = last.remaining // LOT_E6 // 2 * LOT_E6
        return self._publish(self.market.matcher.reduce(last, cut)) if cut else 0

    def _take(self) -> int:
        matcher = self.market.matcher
        side = Side.BID if self._rng.random() < 0.5 else Side.ASK
        price = matcher.best_ask() if side is Side.BID else matcher.best_bid()
        if price is None:
            return 0
        return self._add(side, price, self._rng.randrange(100, 4_000) * LOT_E6, TimeInForce.IOC)

    def _size(self, depth: int) -> int:
        """Return a size that grows with the distance from the best; one in five is not a whole contract."""
        contracts = self._rng.randrange(20, 120) * (1 + depth)
        fraction = self._rng.randrange(100) if self._rng.random() < 0.2 else 0
        return (contracts * 100 + fraction) * LOT_E6


class Flow:
    """All quoters of both venues, paced to the set rate."""

    def __init__(
        self,
        settings: SimulateSettings,
        universe: list[LinkedMarket],
        kalshi: list[tuple[FlowMarket, Callable[[list[Event]], int]]],
        polymarket: list[tuple[FlowMarket, Callable[[list[Event]], int]]],
        truth: TruthLog,
    ) -> None:
        now = time.monotonic()
        self.running = settings.flow
        self.messages = 0
        self.edges_begun = self.event_edges_begun = 0
        self.paused: set[int] = set()
        """Places of venues where nobody quotes or trades."""
        self.rate = settings.messages_per_s
        self._settings = settings
        self._universe = universe
        self._truth = truth
        self._rng = random.Random(f"flow/{settings.seed}")
        self._drive = Drive(settings.drive, settings.drive_speed, now) if settings.drive is not None else None
        self._latents = [Latent(self._rng, settings.volatility_per_s, now) for _ in universe]
        self._event_of = {
            market.place: [one.place for one in markets]
            for markets in events(universe, settings.events)
            for market in markets
        }
        self._exclusive = sorted({tuple(places) for places in self._event_of.values()})
        self._quoters = [
            (
                Quoter(*kalshi[index], self._rng, settings.levels, inverted=False),
                Quoter(*polymarket[index], self._rng, settings.levels, inverted=linked.inverted),
            )
            for index, linked in enumerate(universe)
        ]
        self._edges: dict[int, int] = {}
        self._edge_ends: list[tuple[float, int]] = []
        self._next_edge = now + self._pause()

    def seed_books(self) -> None:
        """Quote every market on both venues before anybody looks."""
        now = time.monotonic()
        for index, pair in enumerate(self._quoters):
            for venue, quoter in enumerate(pair):
                self._aim(index, venue, now, fresh=True)
                quoter.move()

    async def run(self) -> None:
        """Act at the set rate until cancelled."""
        tick_s = self._settings.tick_ms / 1_000
        due, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(tick_s)
            now = time.monotonic()
            passed, last = now - last, now
            if not self.running or not self._universe:
                due = 0.0
                continue
            due = min(due + passed * self.rate, CATCH_UP_S * self.rate)
            self._turn_edges(now)
            while due > 0 and time.monotonic() - now < TURN_S:
                made = self._step(now)
                self.messages += made
                due -= max(made, 0.2)

    def push(self, index: int, venue: int, offset: float, seconds: float) -> None:
        """Push one venue away from the other for a while (also asked for by the control port)."""
        now = time.monotonic()
        self._edges[index] = venue
        heapq.heappush(self._edge_ends, (now + seconds, index))
        self._quoters[index][venue].offset = offset
        self.edges_begun += 1
        self._truth.note(
            "edges",
            event="begin",
            key=self._universe[index].key,
            venue=("kalshi", "polymarket")[venue],
            offset=offset,
        )
        self._requote(index, now)

    def push_event(self, places: Sequence[int], offset: float, seconds: float) -> None:
        """Push all outcomes of an event on both venues: cheap or dear together, though each pair agrees."""
        now = time.monotonic()
        for index in places:
            self._edges[index] = BOTH
            heapq.heappush(self._edge_ends, (now + seconds, index))
            for quoter in self._quoters[index]:
                quoter.offset = offset
        self.edges_begun += 1
        self.event_edges_begun += 1
        for index in places:
            self._truth.note("edges", event="begin", key=self._universe[index].key, venue="both", offset=offset)
            self._requote(index, now)

    def _step(self, now: float) -> int:
        index = self._rng.randrange(len(self._universe))
        venue = self._rng.randrange(2)
        if venue in self.paused:
            return 0
        # Noise on every look would move the quotes at every look; one in ten is a fresh opinion.
        self._aim(index, venue, now, fresh=self._rng.random() < FRESH_SHARE)
        return self._quoters[index][venue].act(self._settings.taker_share)

    def _turn_edges(self, now: float) -> None:
        while self._edge_ends and self._edge_ends[0][0] <= now:
            _, index = heapq.heappop(self._edge_ends)
            if self._edges.pop(index, None) is not None:
                for quoter in self._quoters[index]:
                    quoter.offset = 0.0
                self._truth.note("edges", event="end", key=self._universe[index].key)
                self._requote(index, now)
        while self._settings.edges_per_s > 0 and now >= self._next_edge:
            self._next_edge = max(self._next_edge, now - 1) + self._pause()
            if self._exclusive and self._drive is None and self._rng.random() < self._settings.event_edges:
                self._turn_event()
                continue
            index = self._rng.randrange(len(self._universe))
            here = self._view(index, now, 0)
            if index in self._edges or (self._drive is None and not EDGE_BAND[0] <= here <= EDGE_BAND[1]):
                continue
            cents = self._rng.uniform(self._settings.edge_cents_min, self._settings.edge_cents_max)
            sign = 1 if self._rng.random() < 0.5 else -1
            seconds = self._rng.expovariate(1 / self._settings.edge_s)
            self.push(index, self._rng.randrange(2), sign * cents / 100, seconds)

    def _turn_event(self) -> None:
        places = self._rng.choice(self._exclusive)
        if any(index in self._edges for index in places):
            return
        # Each outcome's share of what makes an edge between two venues: an event pays one fee an outcome.
        cents = self._rng.uniform(self._settings.edge_cents_min, self._settings.edge_cents_max) / 2
        sign = 1 if self._rng.random() < 0.5 else -1
        self.push_event(places, sign * cents / 100, self._rng.expovariate(1 / self._settings.edge_s))

    def _requote(self, index: int, now: float) -> None:
        for venue in {0, 1} - self.paused:
            self._aim(index, venue, now, fresh=True)
            self.messages += self._quoters[index][venue].move()

    def _aim(self, index: int, venue: int, now: float, *, fresh: bool) -> None:
        quoter = self._quoters[index][venue]
        lag_s = self._settings.lag_ms / 1_000 if venue else 0.0
        if self._drive is not None:
            bid, ask = self._drive.top(index, now - lag_s)
            push = round(quoter.offset * ONE_DOLLAR_E4)
            bid, ask = bid + push, ask + push
            if quoter.inverted:
                bid, ask = ONE_DOLLAR_E4 - ask, ONE_DOLLAR_E4 - bid
            quoter.aim_at(bid, ask)
            return
        if fresh:
            quoter.aim(self._view(index, now, lag_s) + self._rng.gauss(0, self._settings.noise))

    def _view(self, index: int, now: float, lag_s: float) -> float:
        """Return a market's probability; where one of several outcomes must win, its share of all of them."""
        own = self._latents[index].view(now, lag_s)
        event = self._event_of.get(index)
        return own if event is None else own / sum(self._latents[place].view(now, lag_s) for place in event)

    def _pause(self) -> float:
        rate = self._settings.edges_per_s
        return self._rng.expovariate(rate) if rate > 0 else math.inf
