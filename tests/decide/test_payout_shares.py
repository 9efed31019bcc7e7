"""What a market paid, shared among those who held it: the venue's cash is the truth, and shares add up to it to the unit."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observe.lots import Trade as LotTrade
from observe.lots import lots
from observe.performance import Trade, fold, paid
from observe.positions import yes_terms
from schemas import order
from tests.decide import test_reconciliation
from tests.decide.conftest import KALSHI, ONE, POLY, Accounts, instrument, limit
from tests.decide.test_reconciliation import ACCOUNT, CASH, TOKENS, report, world
from tests.decide.test_settlements import account_of, determine, entries, payout

CENT = 10_000


def hold(make, log, *args, **words):
    """Hold something of a book that was read after the last order."""
    log.clock(1_000)
    return test_reconciliation.hold(make, log, *args, **words)


def books_of(log):
    return {name: book for name, book in log.task._sets["main"].positions.books.items() if book.flow_e6 or book.open}


def moment(ns):
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def observed(log):
    """Return what each strategy realised, and the lots, as PostgreSQL's readers count them from the same records."""
    trades, lot_trades = [], []
    for item in log.items:
        fill = item.record
        if isinstance(fill, order.Fill):
            size, cash, _ = yes_terms(fill)
            strategy = log.task._sets["main"].strategy_of(fill.order)
            trades.append(Trade(moment(item.log_ns), fill.account, strategy, fill.instrument, "", size, cash))
            lot_trades.append(LotTrade(fill.account, fill.instrument, fill.fill, moment(item.log_ns), size, cash))
    taken_back = {one.reverses for one in log.entries()}
    for one in log.entries():
        if one.phase == "FINAL" and not one.reverses and one.id not in taken_back:
            found = paid(one.account, one.outcome, one.size, one.cash_e6, one.payout, one.yes_cash_e6, one.payout_e6)
            if found is not None:
                size, cash, each = found
                at = moment(one.now_ns)
                trades.append(Trade(at, one.account, "", one.instrument, "", size, cash, payout_e6=each))
                lot_trades.append(LotTrade(one.account, one.instrument, one.id, at, size, cash, payout_e6=each))
    realised = {}
    for (_, strategy, _), position in fold(trades).positions.items():
        assert not position.size_e6
        realised[strategy] = realised.get(strategy, 0) + position.realised_e6
    return realised, sum(lot.realised_e6 for lot in lots(lot_trades))


@pytest.mark.parametrize(
    ("side", "each", "cents"), [("BUY", 370_000, 1_249), ("BUY", 370_000, 1_233), ("SELL", 370_000, 2_080)]
)
def test_a_scalar_finer_than_a_cent_makes_the_profit_that_the_cash_makes(make, side, each, cents):
    log = world(make)
    hold(make, log, side=side, size=33_300_000)
    before = account_of(log).cash_e6
    sizes = dict(yes=33_300_000) if side == "BUY" else dict(yes=0, no=33_300_000)
    log.feed(payout(log, cents * CENT, value=each, **sizes))
    assert account_of(log).cash_e6 == before + cents * CENT
    assert {name: book.flow_e6 for name, book in books_of(log).items()} == {"s1": account_of(log).cash_e6 - CASH}


def test_three_strategies_share_a_cent_that_does_not_divide_and_lose_nothing_of_it(make):
    log = world(make)
    for number in (1, 2, 3):
        hold(make, log, size=ONE, number=number)
    log.feed(payout(log, 100 * CENT, yes=3 * ONE, value=330_000))
    flows = {name: book.flow_e6 for name, book in books_of(log).items()}
    # Of equal remainders the first name has the unit.
    assert flows == {"s1": -400_000 + 333_334, "s2": -400_000 + 333_333, "s3": -400_000 + 333_333}
    assert sum(flows.values()) == account_of(log).cash_e6 - CASH
    realised, of_lots = observed(log)
    assert realised == flows
    assert of_lots == sum(flows.values())


def test_what_no_strategy_holds_has_its_share_too(make):
    log = make.accounts()
    for record in (make.instrument(KALSHI), make.profile("kalshi"), make.profile("polymarket"), make.limit()):
        log.feed(record)
    log.report(ACCOUNT, CASH, [(KALSHI, "YES", 2 * ONE)])
    log.report(TOKENS, CASH)
    log.clock(1_000)
    hold(make, log, size=ONE)
    log.feed(payout(log, 100 * CENT, yes=3 * ONE, value=330_000))
    assert books_of(log)["s1"].flow_e6 == -400_000 + 333_333


def test_a_fill_that_is_heard_of_late_gets_what_was_left(make):
    log = world(make)
    grant = hold(make, log, size=ONE)
    at_ns = log.now_ns + 5
    log.feed(payout(log, 101 * CENT, yes=3 * ONE, value=330_000, at_ns=at_ns))
    log.fill(grant, 2 * ONE, 4_000, name="late", venue_ts_ns=at_ns - 1)
    assert books_of(log)["s1"].flow_e6 == account_of(log).cash_e6 - CASH == -1_200_000 + 1_010_000


def test_a_correction_takes_every_share_back_to_the_unit(make):
    log = world(make)
    for number in (1, 2, 3):
        hold(make, log, size=ONE, number=number)
    log.feed(payout(log, 100 * CENT, yes=3 * ONE, value=330_000))
    log.feed(payout(log, 101 * CENT, yes=3 * ONE, value=340_000))
    flows = [book.flow_e6 for _, book in sorted(books_of(log).items())]
    assert flows == [-400_000 + 336_667, -400_000 + 336_667, -400_000 + 336_666]
    assert observed(log)[1] == sum(flows) == account_of(log).cash_e6 - CASH


def test_tokens_that_pay_a_sum_that_does_not_divide_pay_all_of_it(make):
    log = world(make, heal=0)
    log.settle(hold(make, log, POLY, size=7 * ONE), "hold-1")
    log.feed(make.instrument(POLY, status="SETTLED"))
    left = log.ledger(TOKENS).cash_e6
    report(log, left + 3_000_001, account=TOKENS)
    assert books_of(log)["s1"].flow_e6 == log.ledger(TOKENS).cash_e6 - CASH
    assert observed(log)[0] == {"s1": log.ledger(TOKENS).cash_e6 - CASH}


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_decide_and_observe_agree_with_the_venues_cash_to_the_unit(make, seed):
    dice = random.Random(seed)
    log = Accounts().start(limits=limit(heal_max_e6=0))
    log.clock(1_000)
    net = 0
    for number in range(dice.randint(1, 6)):
        side, size = dice.choice(["BUY", "SELL"]), dice.randint(1, 900) * CENT
        hold(make, log, side=side, price=dice.randint(2, 98) * 100, size=size, number=number)
        net += size if side == "BUY" else -size
    for _ in range(dice.randint(1, 3)):
        each = dice.randint(0, 10_000) * 100 + dice.randint(0, 99)
        exact = abs(net) * (each if net > 0 else ONE - each) // ONE
        revenue = (exact + dice.choice([0, CENT - 1])) // CENT * CENT
        stated = each // CENT * CENT
        log.feed(payout(log, revenue, yes=max(net, 0), no=max(-net, 0), value=stated))
    flows = {name: book.flow_e6 for name, book in log.task._sets["main"].positions.books.items()}
    made = account_of(log).cash_e6 - CASH
    assert sum(flows.values()) == made
    realised, of_lots = observed(log)
    assert realised == flows
    # Lots close each other first: what cancels out is not paid, and is in them all the same.
    assert of_lots == made


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_tokens_agree_too(make, seed):
    dice = random.Random(seed)
    log = Accounts().start(limits=limit(heal_max_e6=0))
    log.clock(1_000)
    log.feed(instrument(POLY))
    side = dice.choice(["BUY", "SELL"])
    total = 0
    for number in range(dice.randint(1, 4)):
        size = dice.randint(500, 900) * CENT
        log.settle(
            hold(make, log, POLY, side=side, price=dice.randint(20, 80) * 100, size=size, number=number),
            f"hold-{number}",
        )
        total += size
    each = dice.randint(0, ONE)
    determine(log, POLY, each, "SETTLED")
    expected = total * (each if side == "BUY" else ONE - each) // ONE
    report(log, log.ledger(TOKENS).cash_e6 + expected, account=TOKENS)
    assert len(entries(log.entries(), "FINAL")) == 1
    flows = {name: book.flow_e6 for name, book in log.task._sets["main"].positions.books.items()}
    realised, of_lots = observed(log)
    assert realised == flows
    assert sum(flows.values()) == of_lots == log.ledger(TOKENS).cash_e6 - CASH
