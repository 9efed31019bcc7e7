"""A command that reduces may ask for what is held to be sold: exit by exit, like any other intent, until nothing is held."""

import random

import pytest

from decide.exits import PREFIX
from decide.risk import Risk
from decide.sources import AccountPlan
from schemas.decision import Grant, Saga
from tests.checkpoints import outputs_with_restores
from tests.decide.conftest import KALSHI, ONE, POLY, START_NS
from tests.decide.exits import OTHER, SLIP, alive, beat, buy, flatten, mark, ten_held
from tests.decide.quotes import quote_intent
from tests.decide.test_postings import posting


@pytest.fixture
def log(make):
    return ten_held(make)


def test_what_is_held_is_sold_at_the_bid_less_the_slip(make, log):
    flatten(make, log)
    (grant,) = beat(make, log)
    assert (grant.instrument, grant.side, grant.purpose) == (KALSHI, "SELL", "UNWIND")
    assert (grant.price, grant.size) == (4_500 - SLIP, 10 * ONE)
    log.done(grant, 10 * ONE, 4_400)
    said = log.last(Saga)
    assert (said.strategy, said.state, said.reason, said.sides) == ("arb-1", "DONE", "FILLED", ["SELL"])
    assert said.id.startswith(PREFIX)
    assert not log.task._sets["main"].positions.books["arb-1"].open
    assert beat(make, log, 100_000) == []


def test_a_command_that_only_reduces_sells_nothing(make, log):
    log.feed(make.command("REDUCING", ts_ns=log.now_ns))
    assert beat(make, log) == []


def test_what_was_not_sold_is_tried_again_at_once_and_what_nothing_takes_ever_more_seldom(make, log):
    flatten(make, log)
    (first,) = beat(make, log)
    log.done(first, 4 * ONE, 4_200)
    (second,) = beat(make, log, 100)
    assert second.size == 6 * ONE
    log.update(second, "CANCELLED")
    tried = [0]
    for _ in range(300):
        if orders := beat(make, log):
            assert [order.size for order in orders] == [6 * ONE]
            log.update(orders[0], "CANCELLED")
            tried.append(0)
        tried[-1] += 1
    assert tried[:7] == [0, 2, 4, 8, 16, 32, 64]
    assert set(tried[7:-1]) == {64}


def test_resumed_it_sells_no_more(make, log):
    flatten(make, log)
    (first,) = beat(make, log)
    log.update(first, "CANCELLED")
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    assert beat(make, log, 5_000) == []
    assert log.task._sets["main"].risk.exits == {}


@pytest.mark.parametrize(
    ("scope", "name", "sold"),
    [
        ("SET", "", {KALSHI, OTHER}),
        ("STRATEGY", "arb-1", {KALSHI}),
        ("STRATEGY", "other", {OTHER}),
        ("STRATEGY", "third", set()),
        ("VENUE", "kalshi", {KALSHI, OTHER}),
        ("VENUE", "polymarket", set()),
        ("INSTRUMENT", OTHER, {OTHER}),
    ],
)
def test_only_what_the_command_names_is_sold(make, log, scope, name, sold):
    buy(make, log, OTHER, strategy="other")
    mark(make, log, OTHER)
    flatten(make, log, scope, name)
    assert {grant.instrument for grant in beat(make, log)} == sold


@pytest.mark.parametrize("state", ["SUSPECT", "SYNCING", "STALE", "DEGRADED"])
def test_nothing_is_sold_on_a_book_that_is_not_live(make, log, state):
    mark(make, log, state=state, version=2)
    flatten(make, log)
    assert beat(make, log) == []
    mark(make, log, version=3)
    assert [grant.size for grant in beat(make, log, 2_000)] == [10 * ONE]


def test_nothing_is_sold_while_ticks_do_not_come(make, log):
    flatten(make, log)
    log.now_ns += 10_000_000_000
    alive(log)
    assert [record for record in log.clock(0) if isinstance(record, Grant)] == []


@pytest.mark.parametrize(("bid", "price"), [(4_500, 4_300), (200, 100), (100, 100)])
def test_the_limit_is_the_farthest_price_of_the_grid_that_was_allowed(make, log, bid, price):
    mark(make, log, bid=bid, version=2)
    flatten(make, log, flatten_slip_e4=250)
    (grant,) = beat(make, log)
    assert grant.price == price


def test_what_was_sold_short_is_bought_back(make, log):
    buy(make, log, OTHER, side="SELL", price=6_000)
    mark(make, log, OTHER, bid=5_500, ask=5_600)
    flatten(make, log, "INSTRUMENT", OTHER)
    (grant,) = beat(make, log)
    assert (grant.side, grant.price, grant.size) == ("BUY", 5_900, 10 * ONE)


def test_tokens_are_sold_once_they_are_confirmed(make, log):
    bought = buy(make, log, POLY, settle=False)
    mark(make, log, POLY)
    flatten(make, log, "VENUE", "polymarket")
    assert beat(make, log) == []
    log.settle(bought, f"arb-1-{POLY}-fill")
    (grant,) = beat(make, log, 2_000)
    assert (grant.token_side, grant.outcome, grant.size) == ("SELL", "YES", 10 * ONE)


def test_a_saga_that_is_under_way_ends_first(make, log):
    alive(log)
    legs = [
        make.replace(make.leg(POLY, "BUY", [(4_000, 10 * ONE)]), recv_ts_ns=log.now_ns),
        make.replace(make.leg(KALSHI, "SELL", [(5_000, 10 * ONE)]), recv_ts_ns=log.now_ns),
    ]
    said = log.feed(make.intent(id="pair", legs=legs, now_ns=log.now_ns, recv_ts_ns=log.now_ns))
    (entry,) = (record for record in said if isinstance(record, Grant))
    mark(make, log, POLY)
    flatten(make, log)
    assert beat(make, log) == []
    assert [record.purpose for record in log.done(entry, 10 * ONE, 4_000) if isinstance(record, Grant)] == ["HEDGE"]


def test_a_successor_sells_the_same(make, log):
    flatten(make, log)
    (first,) = beat(make, log)
    log.done(first, 3 * ONE, 4_300)
    for _ in range(6):
        for grant in beat(make, log):
            log.update(grant, "CANCELLED")
    dice = random.Random(5)
    for number in range(1, len(log.items)):
        outputs, _ = outputs_with_restores(log, {number, number + 2}, dice)
        assert outputs == log.outputs


def test_quotes_of_what_is_held_come_while_it_is_to_be_sold(make, log):
    plan = AccountPlan(0, 1)
    plan.learn(make.profile("kalshi"))
    for record in log.outputs:
        plan.learn(record.record)
    assert not plan.wants("derived.book", KALSHI.encode())
    plan.learn(make.command("REDUCING", flatten_slip_e4=0))
    assert plan.wants("derived.book", KALSHI.encode())
    assert not plan.wants("derived.book", OTHER.encode())
    plan.learn(make.command("RUNNING"))
    assert not plan.wants("derived.book", KALSHI.encode())


def test_a_late_command_takes_nothing_back(make):
    risk = Risk()
    risk.command(make.command("RUNNING", ts_ns=START_NS + 1))
    risk.command(make.command("REDUCING", flatten_slip_e4=SLIP, ts_ns=START_NS))
    assert risk.commands["SET", ""].state == "RUNNING"


def test_a_fill_is_no_book_to_sell_on(make):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=500 * ONE))
    buy(make, log)
    flatten(make, log)
    assert beat(make, log) == []
    mark(make, log)
    (grant,) = beat(make, log, 2_000)
    assert (grant.price, grant.version_offset) == (4_500 - SLIP, 1)


def test_what_was_entered_is_not_sold_before_a_report_shows_it(make):
    log = make.accounts().start()
    buy(make, log, size=4 * ONE)
    log.clock(1_000)
    log.feed(posting(log, "TRANSFER", instrument=KALSHI, outcome="YES", size=10 * ONE))
    mark(make, log)
    flatten(make, log)
    # Ours and the entered one are of one number there: no more is sold than is shown, of whomever it is.
    (grant,) = beat(make, log)
    assert (grant.side, grant.size) == ("SELL", 4 * ONE)
    log.done(grant, 4 * ONE, 4_500)
    assert beat(make, log, 10_000) == []
    log.clock(1_000)
    log.report("kalshi:main", log.task._sets["main"].ledgers["kalshi:main"].cash_e6, [(KALSHI, "YES", 10 * ONE)])
    (grant,) = beat(make, log, 100_000)
    assert (grant.side, grant.size) == ("SELL", 6 * ONE)


USED_UP = [
    ("STRATEGY", "arb-1", {"notional_max_e6": ONE}),
    ("INSTRUMENT", KALSHI, {"notional_max_e6": ONE}),
    ("VENUE", "kalshi", {"notional_max_e6": 0}),
    ("EVENT", "*", {"worst_loss_max_e6": 0}),
    ("VENUE", "kalshi", {"orders_per_min": 0}),
]


@pytest.mark.parametrize(("scope", "name", "figures"), USED_UP)
def test_no_budget_holds_an_exit_back(make, log, scope, name, figures):
    log.feed(make.budget(scope, name, **figures))
    flatten(make, log)
    (grant,) = beat(make, log)
    log.update(grant, "CANCELLED")
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    alive(log)
    leg = make.leg(KALSHI, "SELL", [(4_500, 10 * ONE)], reduces=True, recv_ts_ns=log.now_ns)
    said = log.feed(
        make.intent(id="own", link=KALSHI, legs=[leg], profit_e6=0, now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    )
    assert [record.size for record in said if isinstance(record, Grant)] == [10 * ONE]


@pytest.mark.parametrize(("scope", "name", "figures"), USED_UP)
def test_an_exit_that_rests_is_held_back_by_the_order_rate_alone(make, log, scope, name, figures):
    log.feed(make.budget(scope, name, **figures))
    alive(log)
    log.feed(quote_intent(make, log, strategy="arb-1", side="SELL", price=6_000, reduces=True))
    said = log.last(Saga)
    expected = ("REFUSED", "BUDGET_RATE") if "orders_per_min" in figures else ("RESTING", "")
    assert (said.state, said.reason) == expected


def test_new_risk_waits_for_the_orders_of_exits(make, log):
    log.feed(make.budget("VENUE", "kalshi", orders_per_min=60, orders_burst=1))
    flatten(make, log)
    for _ in range(3):
        (grant,) = beat(make, log, 100)
        log.done(grant, ONE, 4_500)
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    for _ in range(3):
        with pytest.raises(ValueError, match="not enough values"):
            buy(make, log, OTHER, strategy=f"s{log.now_ns}")
        assert log.last(Saga).reason == "BUDGET_RATE"
        log.now_ns += 1_000_000_000
    buy(make, log, OTHER)
