"""Real gateways trade on paper venues that follow a log of books and trades; both sides must tell the same story to the unit.

The log is one in memory with Kafka's promises (`tests/execute/conftest.py`); gateway, signing, sockets, venues and matching are real.
"""

import asyncio
import random

import pytest

from core.runtime import topics
from schemas.derived import Depth, Quote
from schemas.market import Trade
from simulate.kalshi.exchange import account_state as kalshi_state
from simulate.polymarket.ledger import account_state as polymarket_state
from tests.execute.conftest import E6, Bench, MemoryLog
from tests.records import sides
from tests.simulate.paper_books import KALSHI, POLYMARKET, instrument, paper_venues

STEPS = 60
CASH = 1_000 * E6


class Market:
    """A live book that wanders: says a depth, its quote, and now and then a trade, to the log."""

    def __init__(self, log, name, seed):
        self.log = log
        self.name = name
        self.rng = random.Random(seed)
        self.bid = 4_500
        self.version = 1_000
        self.shown = []
        self.traded = 0

    def step(self):
        self.version += 1
        self.bid = min(max(self.bid + self.rng.choice((-100, 0, 0, 0, 100)), 4_000), 5_000)
        # Sizes that are no whole hundredths: what is traded must be.
        bids = [(self.bid - 100 * n, self.rng.randrange(2, 40) * E6 + 1_234) for n in range(4)]
        asks = [(self.bid + 100 * (n + 1), self.rng.randrange(2, 40) * E6 + 4_321) for n in range(4)]
        now = self.log.clock.now_ns()
        place = {"instrument": self.name, "version_offset": self.version, "price_exp": -4, "size_exp": -6, "epoch": 1}
        depth = Depth(
            version_index=0,
            state="LIVE",
            **sides(bids, asks),
            recv_ts_ns=now,
            **place,
        )
        quote = Quote(
            version_index=1,
            depth_offset=self.version,
            depth_index=0,
            state="LIVE",
            bid_price=bids[0][0],
            bid_size=bids[0][1],
            ask_price=asks[0][0],
            ask_size=asks[0][1],
            recv_ts_ns=now,
            **place,
        )
        for record in (depth, quote):
            self.log.append(topics.DERIVED_BOOK, self.name, record)
        self.shown.append(depth)
        if self.rng.random() < 0.6:
            self.traded += 1
            trade = Trade(
                instrument=self.name,
                epoch=1,
                frame_no=self.version,
                index=0,
                price_exp=-4,
                size_exp=-6,
                price=self.bid - self.rng.choice((0, 0, 100)),
                size=self.rng.randrange(1, 60) * E6 + 77,
                aggressor="SELL",
                recv_ts_ns=now,
            )
            self.log.append(topics.DERIVED_BOOK, self.name, trade)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [KALSHI, POLYMARKET])
def test_gateway_and_paper_venue_tell_the_same_story(name, seed, tmp_path, credentials_file):
    asyncio.run(_play(name, seed, tmp_path, credentials_file))


async def _play(name, seed, tmp_path, credentials_file):
    venue = name.partition(":")[0]
    log = MemoryLog()
    world, feed = paper_venues(
        tmp_path, credentials_file, log.clock.now_ns, CASH // E6, mined_after_ms=20, confirmed_after_ms=40
    )
    feed.describe(instrument(name))
    ready = await world.start()
    following = asyncio.create_task(_follow(log, feed))
    market = Market(log, name, seed)
    try:
        market.step()
        async with asyncio.timeout(5):
            while not feed.seats:  # noqa: ASYNC110 - the feed has no event for it
                await asyncio.sleep(0.01)
        async with Bench(venue, world, ready, log) as bench:
            bench.life_ms = 2_000
            log.append(topics.MARKET_INSTRUMENT, name, instrument(name))
            bench.instrument = instrument(name)
            await bench.start()
            orders = await _trade(bench, market, random.Random(seed))
            for order in orders:
                if not any(update.terminal for update in bench.updates(order)):
                    bench.cancel(order)
            for order in orders:
                await bench.terminal(order)
            _compare(bench, market, orders)
    finally:
        following.cancel()
        await world.stop()
    feed.check()
    assert feed.counts["fills_took"] > 0
    assert feed.counts["fills_queue"] + feed.counts["fills_through"] > 0


async def _follow(log, feed):
    async for batch in log.reader(topics.DERIVED_BOOK).batches():
        for item in batch:
            feed.take(item)
        feed.check()


async def _trade(bench, market, rng):
    """Let the book wander while takers and resting bids are granted; return the orders."""
    orders = []
    for step in range(STEPS):
        market.step()
        await asyncio.sleep(0.03)
        if step % 3:
            continue
        book = market.shown[-1]
        takes = rng.random() < 0.5
        price = book.ask_prices[rng.randrange(2)] if takes else book.bid_prices[rng.randrange(2)]
        life = "IOC" if takes and bench.name == "kalshi" else "GTC"
        orders.append(bench.grant(price=price, size=rng.randrange(5, 15) * E6, time_in_force=life).id)
    await asyncio.sleep(0.3)
    return orders


def _compare(bench, market, orders):
    """Orders, sizes, prices, fees and cash: what the gateway wrote down is what the venue has in its books."""
    state_of = kalshi_state if bench.name == "kalshi" else polymarket_state
    account = state_of(bench.exchange.accounts["main"])
    ours = [fill for order in orders for fill in bench.fills(order)]
    assert ours
    theirs = {order.engine.order_id: order.engine.filled for order in bench.venue_orders}
    taken = {}
    for order in orders:
        for update in bench.updates(order):
            if update.venue_order:
                taken[update.venue_order] = sum(fill.size for fill in bench.fills(order))
    assert taken == theirs
    assert sum(fill.fee_e6 for fill in ours) == account["fees_e6"]
    # Only YES was bought, so what was paid is price by size, exact to the micro-dollar.
    assert all(fill.notional_e6 * E6 == fill.price_e6 * fill.size for fill in ours)
    assert account["cash_e6"] == CASH - sum(fill.notional_e6 + fill.fee_e6 for fill in ours)
    largest = {}
    for book in market.shown:
        for price, size in zip(book.ask_prices, book.ask_sizes, strict=True):
            largest[price * 100] = max(size, largest.get(price * 100, 0))
    for fill in ours:
        assert fill.liquidity in ("MAKER", "TAKER")
        assert fill.liquidity == "MAKER" or fill.size <= largest[fill.price_e6]
