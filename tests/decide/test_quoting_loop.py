"""The strategy, accounts and a venue in one loop: quotes come to rest, follow, and go; nothing is asked for over and over."""

import json
import random

import pytest

from core.runtime.flow import Source
from schemas.decision import Amend, Cancel, Grant, Intent, Requote, Saga
from schemas.order import Fill

ONE = 1_000_000
PARAMS = {"half_spread_e4": 200, "size": 10 * ONE, "inventory_max": 30 * ONE, "skew_e4": 20, "life_ms": 20_000}


class Loop:
    """Both logs at one time, and a venue that takes what it is given and shows our orders in its book."""

    def __init__(self, make, name, seed=0, **params):
        self.make, self.name, self.dice = make, name, random.Random(seed)
        self.accounts = make.accounts().start()
        self.strategies = make.strategies().start(links=[make.link(status="SUSPENDED")])
        self.params = {**PARAMS, **params}
        self.configure("RUNNING")
        self.orders, self.read, self.versions, self.position = {}, 0, 100, 0
        """order -> [grant, price, total, filled]"""

    def configure(self, status):
        self.strategies.feed(
            self.make.strategy(
                id="mm-1",
                kind="passive_quoting",
                status=status,
                params=json.dumps(self.params),
                instruments=[self.name],
            )
        )

    def decide(self, records):
        """Pass on what a strategy says, and what follows from that."""
        for record in records:
            if isinstance(record, Intent | Requote):
                self.hear(self.accounts.feed(record))

    def hear(self, records):
        """Do what accounts say at the venue, and let the strategy hear of its sagas."""
        for record in records:
            match record:
                case Grant():
                    self.orders[record.id] = [record, record.price, record.size, 0]
                    self.hear(self.accounts.submitting(record) + self.accounts.update(record, "ACCEPTED"))
                case Amend() if record.order in self.orders:
                    order = self.orders[record.order]
                    is_changed = (order[1], order[2]) != (record.price, record.size)
                    order[1], order[2] = record.price, record.size
                    if is_changed:
                        self.hear(
                            self.accounts.update(
                                order[0], "ACCEPTED", order[3], event_id=record.id, price=record.price,
                                size=record.size, venue_ts_ns=self.accounts.now_ns,
                            )
                        )  # fmt: skip
                case Cancel() if record.order in self.orders:
                    grant, _, _, filled = self.orders.pop(record.order)
                    self.hear(self.accounts.update(grant, "CANCELLED", filled))
                case Saga():
                    self.decide(self.strategies.feed(record))

    def step(self, bid, ask, ms=100):
        """Let time pass and a book come, in which our orders stand too."""
        self.hear(self.accounts.clock(ms))
        for venue in ("kalshi", "polymarket"):
            self.accounts.alive(f"{venue}:main")
        self.strategies.tick()
        self.decide(self.strategies.clock(ms))
        self.strategies.tick()
        levels = {"BUY": {bid: 50 * ONE}, "SELL": {ask: 50 * ONE}}
        for grant, price, total, filled in self.orders.values():
            side = levels[grant.side]
            side[price] = side.get(price, 0) + total - filled
        self.versions += 1
        now_ns = self.strategies.now_ns
        seen = self.make.depth(
            self.name, self.versions, sorted(levels["BUY"].items(), reverse=True), sorted(levels["SELL"].items()),
            recv_ns=now_ns,
        )  # fmt: skip
        self.strategies.feed(seen, source=Source("derived.book", 0, self.versions))
        self.decide(self.strategies.feed(self.make.quote(seen), source=Source("derived.book", 0, self.versions)))

    def take(self, side):
        """Let a stranger take a part of one of our orders."""
        found = [order for order in self.orders.values() if order[0].side == side and order[2] > order[3]]
        if not found:
            return
        order = found[0]
        size = min(self.dice.randrange(1, 11) * ONE, order[2] - order[3])
        order[3] += size
        self.position += size if side == "BUY" else -size
        heard = self.accounts.fill(order[0], size, order[1])
        if order[3] == order[2]:
            del self.orders[order[0].id]
            heard += self.accounts.update(order[0], "FILLED", order[3])
        self.hear(heard)

    def asked(self):
        """How many orders, amendments and cancels there were."""
        return sum(len(self.accounts.all(kind)) for kind in (Grant, Amend, Cancel))

    def resting(self):
        return sorted((grant.side, price, total - filled) for grant, price, total, filled in self.orders.values())


NAMES = pytest.mark.parametrize("venue", ["KALSHI", "POLY"])


@NAMES
@pytest.mark.parametrize("fair", ["mid", "microprice"])
def test_book_that_stands_still_leaves_quotes_alone(make, venue, fair):
    loop = Loop(make, getattr(make, venue), fair=fair, life_ms=3_600_000)
    for _ in range(600):
        loop.step(4_000, 6_000)
    assert loop.resting() == [("BUY", 4_800, 10 * ONE), ("SELL", 5_200, 10 * ONE)]
    assert loop.asked() == 2


@NAMES
def test_quotes_are_renewed_and_nothing_else_while_nothing_happens(make, venue):
    loop = Loop(make, getattr(make, venue), fair="mid", life_ms=10_000)
    for _ in range(600):
        loop.step(4_000, 6_000)
    assert len(loop.orders) == 2
    # Kalshi's are prolonged every five seconds; Polymarket's stay, and end at the venue after two minutes.
    assert loop.asked() <= 2 + (2 * 12 if venue == "KALSHI" else 0)


@NAMES
def test_quotes_follow_a_book_that_moves_for_good(make, venue):
    loop = Loop(make, getattr(make, venue), fair="mid", skew_e4=0)
    for mid in range(4_000, 6_000, 100):
        for _ in range(3):
            loop.step(mid - 500, mid + 500)
    for _ in range(60):
        loop.step(5_400, 6_400)
    assert loop.resting() == [("BUY", 5_700, 10 * ONE), ("SELL", 6_100, 10 * ONE)]
    # Two quotes, twenty moves, at most two words for a move.
    assert loop.asked() <= 2 + 2 * 2 * 21 * (1 if venue == "KALSHI" else 2)


@NAMES
@pytest.mark.parametrize("seed", range(6))
def test_inventory_keeps_its_limit_and_draining_ends_flat(make, venue, seed):
    loop = Loop(make, getattr(make, venue), seed, fair="mid")
    dice, mid = random.Random(seed), 5_000
    for _ in range(400):
        mid = min(max(mid + dice.choice([-100, 0, 0, 0, 100]), 2_000), 8_000)
        loop.step(mid - 600, mid + 600)
        if dice.random() < 0.3:
            loop.take(dice.choice(["BUY", "BUY", "SELL"]))
        assert abs(loop.position) <= 30 * ONE
        for sign, side in ((1, "BUY"), (-1, "SELL")):
            more = sum(total - filled for grant, _, total, filled in loop.orders.values() if grant.side == side)
            assert sign * loop.position + more <= 30 * ONE
    watch = loop.strategies.task._slots["mm-1"].running.watches[loop.name]
    assert watch.position == loop.position
    grants = {grant.id: grant for grant in loop.accounts.all(Grant)}
    for fill in [item.record for item in loop.accounts.items if isinstance(item.record, Fill)]:
        if fill.settlement == "MATCHED":
            loop.hear(loop.accounts.settle(grants[fill.order], fill.fill))
    least = make.instrument(loop.name).size_min
    loop.configure("DRAINING")
    for _ in range(1_500):
        loop.step(mid - 600, mid + 600)
        loop.take("SELL" if loop.position > 0 else "BUY")
        if abs(loop.position) < least:
            break
    for _ in range(5):
        loop.step(mid - 600, mid + 600)
    # Less than the venue takes cannot rest, and stays.
    assert abs(loop.position) < least
    assert not loop.orders
    assert loop.accounts.task.reserved_e6() == 0


@NAMES
def test_stopped_strategy_leaves_nothing_behind(make, venue):
    loop = Loop(make, getattr(make, venue), fair="mid")
    for _ in range(5):
        loop.step(4_000, 6_000)
    assert len(loop.orders) == 2
    loop.decide(loop.strategies.feed(loop.make.strategy(
        id="mm-1", kind="passive_quoting", status="STOPPED", params=json.dumps(loop.params), instruments=[loop.name]
    )))  # fmt: skip
    assert not loop.orders
    assert loop.accounts.task.reserved_e6() == 0


@NAMES
def test_strategies_that_die_leave_nothing_behind(make, venue):
    loop = Loop(make, getattr(make, venue), fair="mid")
    for _ in range(5):
        loop.step(4_000, 6_000)
    loop.strategies.task.handle = lambda item: ()
    for _ in range(40):
        loop.step(4_000, 6_000)
    assert not loop.orders
    assert {cancel.reason for cancel in loop.accounts.all(Cancel)} == {"SILENT"}
