"""Whatever is wanted of a quote, and however late and often its gateway speaks: money is there for all that may fill."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from decide.conduct import open_cost_e6
from schemas.decision import Amend, Cancel, Grant, Requote, Saga
from tests.decide.quotes import ONE, of, quote_intent, word

seeds = st.integers(0, 2**32)
OPENING = 1_000 * ONE


class Order:
    """One order at the venue: what it really is, whatever we know."""

    def __init__(self, grant):
        self.grant, self.price, self.total, self.filled = grant, grant.price, grant.size, 0
        self.state = "coming"
        self.amends = []
        self.is_to_go = False

    @property
    def offers(self):
        """Every price and total it may stand at, what is on its way included."""
        own = [] if self.state == "gone" else [(self.price, self.total)]
        return own + [(amend.price, amend.size) for amend in self.amends if self.state != "gone"]

    def worst_e6(self):
        side = self.grant.side
        return max((open_cost_e6(side, price, max(total - self.filled, 0)) for price, total in self.offers), default=0)


class Venue:
    """Takes grants, amends and cancels when it likes, fills what stands, and is heard of late and more than once."""

    def __init__(self, log, dice, cash):
        self.log, self.dice, self.cash = log, dice, cash
        self.orders, self.words = {}, []
        self.fills = self.seen = 0

    def read(self):
        """Take what was decided since."""
        outputs, self.seen = self.log.outputs[self.seen :], len(self.log.outputs)
        for record in (output.record for output in outputs):
            if isinstance(record, Grant):
                self.orders[record.id] = Order(record)
            elif isinstance(record, Amend):
                self.orders[record.order].amends.append(record)
            elif isinstance(record, Cancel):
                self.orders[record.order].is_to_go = True

    def act(self):
        """Let something happen there."""
        live = [order for order in self.orders.values() if order.state != "gone"]
        if not live:
            return
        order = self.dice.choice(live)
        match self.dice.choice(["take", "take", "fill", "fill", "amend", "amend", "go", "refuse", "unknown"]):
            case "take" if order.state == "coming":
                order.state = "rests"
                self.say(order, "ACCEPTED")
            case "fill" if order.state == "rests" and order.filled < order.total:
                self.fill(order, self.dice.randrange(1, (order.total - order.filled) // ONE + 1) * ONE)
            case "amend" if order.amends and order.state == "rests":
                self.amend(order, order.amends.pop(0))
            case "go" if order.is_to_go or self.dice.random() < 0.03:
                order.state = "gone"
                self.say(order, "CANCELLED" if order.is_to_go else "EXPIRED")
            case "refuse" if order.state == "coming":
                order.state = "gone"
                self.say(order, "REJECTED")
            case "unknown" if self.dice.random() < 0.1:
                self.say(order, "OUTCOME_UNKNOWN")

    def take(self, quote):
        """Let its order rest at once, as it mostly does."""
        if self.dice.random() < 0.8:
            for order in self.orders.values():
                if order.grant.intent == quote and order.state == "coming":
                    order.state = "rests"
                    self.say(order, "ACCEPTED")
                    self.words.pop()()

    def fill(self, order, size):
        order.filled += size
        self.fills += 1
        self.cash -= open_cost_e6(order.grant.side, order.price, size)
        grant, price, name = order.grant, order.price, f"f{self.fills}"
        self.words.append(lambda: self.log.fill(grant, size, price, name=name))
        if order.filled == order.total:
            order.state = "gone"
            self.say(order, "FILLED")

    def amend(self, order, amend):
        if amend.size > order.filled and self.dice.random() < 0.8:
            order.price, order.total = amend.price, amend.size
            if self.dice.random() < 0.9:
                self.say(order, "ACCEPTED", price=amend.price, size=amend.size)
        elif self.dice.random() < 0.7:
            self.say(order, "ACCEPTED", reason="not amended: it would cross")

    def say(self, order, status, **more):
        self.fills += 1
        grant, filled, name, at_ns = order.grant, order.filled, f"u{self.fills}", self.log.now_ns + self.fills
        self.words.append(lambda: self.log.update(grant, status, filled, event_id=name, venue_ts_ns=at_ns, **more))

    def speak(self, copies=0.2):
        """Let one word be heard, not always in the order in which they were said, and sometimes kept for later too."""
        number = self.dice.randrange(min(3, len(self.words)))
        said = self.words[number]
        if self.dice.random() >= copies:
            del self.words[number]
        said()

    def settle(self):
        """Let all that is to go be gone, and everything be heard."""
        for order in self.orders.values():
            if order.state != "gone":
                order.state, order.is_to_go = "gone", True
                self.say(order, "CANCELLED")
        while self.words:
            self.speak(copies=0)


def unheard_e6(venue, log):
    """Money of fills that happened and were not booked: still to be paid from what is reserved."""
    return log.task._sets["main"].ledgers[venue_account(venue)].cash_e6 - venue.cash


def venue_account(venue):
    return next(iter(venue.orders.values())).grant.account if venue.orders else "kalshi:main"


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_what_may_still_fill_is_reserved_and_all_of_it_is_free_at_the_end(make, seed):
    play(make, seed)


def test_random_courses_reach_what_they_are_to_cover(make):
    """Else the property above would say little."""
    logs = [play(make, seed) for seed in range(80)]
    reasons = {saga.reason for log in logs for saga in log.all(Saga) if saga.state == "DONE"}
    refused = {saga.reason for log in logs for saga in log.all(Saga) if saga.state == "REFUSED"}
    assert sum(len(log.all(Amend)) for log in logs) > 30
    assert sum(grant.attempt > 1 for log in logs for grant in log.all(Grant)) > 15
    assert reasons >= {
        "FILLED",
        "WITHDRAWN",
        "NOT_AMENDED",
        "OUTCOME_UNKNOWN",
        "REJECTED",
        "CAPITAL",
        "NOT_READY",
    }
    assert refused >= {"CAPITAL", "OPEN_SAGA"}


def play(make, seed):
    """Let a quote live among words, a venue and a gateway that speaks late; check it at each step and at the end."""
    dice = random.Random(seed)
    opening = dice.choice([OPENING, 12 * ONE, 9 * ONE])
    log = make.accounts().start(cash=opening)
    side, name = dice.choice(["BUY", "SELL"]), dice.choice([make.KALSHI, make.POLY])
    # One side of one market, so that nothing nets and cash says all.
    venue, asked, names = Venue(log, dice, opening), {}, []
    for number in range(90):
        match dice.choice(
            ["quote", "word", "word", "act", "act", "act", "speak", "speak", "speak", "clock", "alive", "alive"]
        ):
            case "quote":
                size, quote = dice.choice([10, 20]) * ONE, f"q{number}"
                price, silence_ms = dice.randrange(30, 70) * 100, dice.choice([0, 2_000])
                wanted = quote_intent(
                    make, log, name=quote, instrument=name, side=side, price=price, size=size, silence_ms=silence_ms
                )
                asked[quote] = size
                if of(Grant, log.feed(wanted)):
                    names.append(quote)
                    venue.read()
                    venue.take(names[-1])
            case "word" if names:
                size, action = dice.choice([5, 10, 15, 25]) * ONE, dice.choice(["REPLACE"] * 5 + ["CANCEL", "KEEP"])
                said = word(log, action, names[-1], price=dice.randrange(30, 70) * 100, size=size)
                if action == "REPLACE":
                    asked[names[-1]] = max(asked[names[-1]], size)
                for _ in range(dice.choice([1, 1, 2])):
                    log.feed(said)
                assert isinstance(said, Requote)
            case "act":
                venue.act()
            case "speak" if venue.words:
                venue.speak()
            case "clock":
                log.clock(dice.choice([50, 100, 100, 700]))
            case "alive":
                for account in ("kalshi:main", "polymarket:main"):
                    log.alive(account)
        venue.read()
        worst_e6 = sum(order.worst_e6() for order in venue.orders.values())
        ledger = log.task._sets["main"].ledgers[name.partition(":")[0] + ":main"]
        assert ledger.usable_e6(0) >= 0
        assert log.task.reserved_e6() >= worst_e6 + unheard_e6(venue, log)
        assert len([order for order in venue.orders.values() if order.state == "rests"]) <= 1
    venue.settle()
    venue.read()
    for _ in range(3):
        # What was granted when the last word came is not to stay either.
        venue.settle()
        venue.read()
    assert log.task.reserved_e6() == 0
    assert unheard_e6(venue, log) == 0
    last = {saga.id: saga for saga in log.all(Saga)}
    for saga in last.values():
        assert saga.state in {"DONE", "REFUSED"}
        filled = sum(order.filled for order in venue.orders.values() if order.grant.intent == saga.id)
        assert (saga.filled_e6 or [0]) == [filled]
        assert filled <= asked[saga.id]
    granted = of(Grant, [output.record for output in log.outputs])
    assert len({(grant.intent, grant.attempt) for grant in granted}) == len(granted)
    assert log.again() == log.outputs
    return log
