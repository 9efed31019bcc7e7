"""Quotes, fills, deposits and payouts together, all of them heard of late: nothing is taken for a difference, nothing spent twice."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Entry
from tests.decide.conftest import ONE, POLY, instrument
from tests.decide.test_accounts_state import outputs_with_restores
from tests.decide.test_beside import is_stopped, play
from tests.decide.test_payout_waits import _fill
from tests.decide.test_postings import posting
from tests.decide.test_reconciliation import ACCOUNT, TOKENS
from tests.decide.test_settlements import payout

PAID = [f"kalshi:KX-{number}" for number in range(20, 24)]
"""Markets that are held, and end."""


class Owner:
    """Enters money and tokens ahead of the venue, and lets markets pay whose cash comes later than the statement."""

    def __init__(self):
        self.later = []
        self.held = None
        self.count = self.paid = 0

    def __call__(self, log, venue, dice):
        if self.held is None:
            for number, name in enumerate(PAID):
                log.feed(instrument(name))
                log.feed(_fill(1_000 + number, name, venue.now_ns(), 400_000))
            venue.cash[ACCOUNT] -= len(PAID) * 4 * ONE
            venue.held |= dict.fromkeys(((name, "YES") for name in PAID), 10 * ONE)
            self.held = list(PAID)
            # Money in and money out that cancel out count as there with nothing out: no report can show them.
            self.sign = {name: dice.choice([1, -1]) for name in (ACCOUNT, TOKENS)}
        account = dice.choice([ACCOUNT, TOKENS])
        match dice.randrange(14):
            case 0:
                self.enter(log, venue, account, cash=self.sign[account] * dice.choice([1, 5, 40]) * ONE)
            case 1:
                # Contracts that close a short bring its dollar or not by which comes first: they cannot be moved so.
                self.enter(log, venue, TOKENS, instrument=POLY, outcome="YES", size=dice.choice([2, 5, 10]) * ONE)
            case 2 if self.held:
                self.pay(log, venue, self.held.pop(), dice.choice([0, 10]) * ONE)
            case 3 | 4 if self.later:
                self.later.pop(dice.randrange(len(self.later)))()

    def enter(self, log, venue, account, **what):
        self.count += 1
        log.feed(posting(log, "TRANSFER", account=account, reference=f"r{self.count}", **what))

        def shows():
            venue.cash[account] += what.get("cash", 0)
            if "size" in what:
                key = (what["instrument"], "YES")
                venue.held[key] = venue.held.get(key, 0) + what["size"]

        self.later.append(shows)

    def pay(self, log, venue, name, revenue):
        self.paid += 1
        log.feed(instrument(name, status="DETERMINED", payout_e6=revenue // 10, recv_ts_ns=log.now_ns))
        venue.held[name, "YES"] = 0
        at_ns = venue.now_ns()
        venue.words.append(lambda: log.feed(payout(log, revenue, name=name, at_ns=at_ns, ms=0)))

        def shows():
            venue.cash[ACCOUNT] += revenue

        self.later.append(shows)


def course(make, seed):
    owner = Owner()
    log, venue = play(make, seed, owner, {"TRANSFER", "SETTLEMENT"})
    return log, venue, owner


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_comes_late_is_no_difference_and_is_there_in_the_end(make, seed):
    log, venue, owner = course(make, seed)
    ledgers = log.task._sets["main"].ledgers
    for show in owner.later:
        show()
    for _ in range(6):
        for order in venue.orders.values():
            # What was to be replaced is granted anew when it is gone.
            if order.state != "gone":
                order.state = "gone"
                venue.say(order, "CANCELLED")
        venue.settle()
        venue.read()
        for account in (ACCOUNT, TOKENS):
            log.clock(12_000)
            venue.state(account)
    venue.settle()
    assert not is_stopped(log)
    assert {one.kind for one in log.entries()} <= {"TRANSFER", "SETTLEMENT"}
    for account, ledger in ledgers.items():
        assert (ledger.cash_e6, ledger.coming, ledger.waits) == (venue.cash[account], [], {})
    held = {
        key: holding.size for ledger in ledgers.values() for key, holding in ledger.holdings.items() if holding.size
    }
    assert held == {key: size for key, size in venue.held.items() if size}


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_same_for_a_worker_that_took_up_a_checkpoint(make, seed):
    log, _, _ = course(make, seed)
    dice = random.Random(seed)
    cuts = {dice.randrange(len(log.items)) for _ in range(6)}
    outputs, _ = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs == log.again()


def test_random_courses_reach_what_they_are_to_cover(make):
    """Else the properties above would say little."""
    entered = paid = 0
    for seed in range(20):
        log, _, owner = course(make, seed)
        entered += len([one for one in log.all(Entry) if one.kind == "TRANSFER"])
        paid += owner.paid
    assert entered > 100
    assert paid > 50
