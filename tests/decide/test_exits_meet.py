"""Exits that a command asks for, where quotes rest, sagas hold or settlements fail: nothing is sold twice, nothing waits for ever."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import order
from schemas.decision import Cancel, Clock, Grant, Ruling, Saga
from tests.checkpoints import outputs_with_restores
from tests.decide.conftest import KALSHI, ONE, POLY, Accounts, tick
from tests.decide.exits import alive, beat, buy, flatten, mark, ten_held
from tests.decide.quotes import SECOND, of, quote_intent, word
from tests.decide.scripted import intents, run, seeds
from tests.decide.test_postings import posting


@pytest.fixture
def log(make):
    return ten_held(make)


def rest(make, log, **changes):
    """Let a quote stand; return its order."""
    alive(log)
    fields = dict(strategy="arb-1", side="SELL", price=6_000, expires_s=log.now_ns // SECOND + 80_000)
    (grant,) = of(Grant, log.feed(quote_intent(make, log, **{**fields, **changes})))
    log.update(grant, "ACCEPTED", venue_ts_ns=log.now_ns)
    return grant


def held(log):
    sizes = log.task._sets["main"].ledgers["kalshi:main"].holdings
    return {key[0]: holding.size for key, holding in sizes.items() if holding.size}


# --- quotes


@pytest.mark.parametrize(("scope", "name"), [("SET", ""), ("STRATEGY", "arb-1"), ("INSTRUMENT", KALSHI)])
def test_a_quote_that_reduces_makes_way_for_the_exit(make, log, scope, name):
    quote = rest(make, log, reduces=True)
    log.feed(make.command("REDUCING", scope, name, ts_ns=log.now_ns))
    assert of(Cancel, log.clock(100)) == []
    (pulled,) = of(Cancel, flatten(make, log, scope, name))
    assert (pulled.order, pulled.reason) == (quote.id, "FLATTENING")
    assert beat(make, log) == []
    log.update(quote, "CANCELLED")
    (exit_,) = beat(make, log, 3_000)
    assert (exit_.side, exit_.size) == ("SELL", 10 * ONE)
    log.done(exit_, 10 * ONE, 4_400)
    assert held(log) == {}


def test_what_is_being_sold_is_not_quoted_anew(make, log):
    flatten(make, log)
    alive(log)
    log.feed(quote_intent(make, log, strategy="arb-1", side="SELL", price=6_000, reduces=True))
    assert (log.last(Saga).state, log.last(Saga).reason) == ("REFUSED", "FLATTENING")
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    quote = rest(make, log, reduces=True, name="q2")
    flatten(make, log, "STRATEGY", "other")
    assert of(Cancel, log.feed(word(log, "KEEP", "q2", strategy="arb-1"))) == []
    assert of(Cancel, log.clock(100)) == []
    (pulled,) = of(Cancel, flatten(make, log, "VENUE", "kalshi"))
    assert pulled.order == quote.id


def test_what_another_strategy_quotes_holds_no_exit_up(make, log):
    rest(make, log, strategy="mm-1")
    flatten(make, log, "STRATEGY", "arb-1")
    (exit_,) = beat(make, log)
    assert (exit_.side, exit_.size) == ("SELL", 10 * ONE)
    assert log.all(Cancel) == []


def test_what_another_strategy_sells_by_a_quote_is_not_sold_by_the_exit_too(make, log):
    buy(make, log, strategy="mm-1", size=6 * ONE, price=4_100)
    rest(make, log, strategy="mm-1", reduces=True, size=6 * ONE)
    flatten(make, log, "STRATEGY", "arb-1")
    (exit_,) = beat(make, log)
    assert exit_.size == 10 * ONE
    assert log.all(Cancel) == []


def test_a_quote_that_the_exit_would_trade_with_goes_out_of_its_way(make, log):
    bid = rest(make, log, strategy="mm-1", side="BUY", price=4_500)
    flatten(make, log, "STRATEGY", "arb-1")
    assert beat(make, log) == []
    (pulled,) = log.all(Cancel)
    assert (pulled.order, pulled.reason) == (bid.id, "IN_THE_WAY")
    log.update(bid, "CANCELLED")
    assert [grant.size for grant in beat(make, log, 2_000)] == [10 * ONE]


def test_a_strategys_own_entry_that_rests_ends_before_its_exit_begins(make, log):
    quote = rest(make, log)
    flatten(make, log)
    assert [cancel.order for cancel in log.all(Cancel)] == [quote.id]
    assert beat(make, log) == []
    log.done(quote, 3 * ONE, 6_000)
    (exit_,) = beat(make, log)
    assert (exit_.side, exit_.size) == ("SELL", 7 * ONE)


def test_a_successor_pulls_the_same_quotes(make, log):
    quote = rest(make, log, reduces=True)
    flatten(make, log)
    beat(make, log)
    log.update(quote, "CANCELLED")
    for grant in beat(make, log, 3_000):
        log.done(grant, 4 * ONE, 4_300)
    beat(make, log)
    dice = random.Random(7)
    for number in range(1, len(log.items)):
        outputs, _ = outputs_with_restores(log, {number, number + 2}, dice)
        assert outputs == log.outputs


# --- sagas


def pair(make, log, *, name="pair", first=(POLY, "BUY", 4_000), second=(KALSHI, "SELL", 5_000), size=10 * ONE):
    """Begin a saga of two legs; return its first order."""
    alive(log)
    legs = [
        make.replace(make.leg(instrument, side, [(price, size)]), recv_ts_ns=log.now_ns)
        for instrument, side, price in (first, second)
    ]
    intent = make.intent(id=name, strategy="arb-1", legs=legs, now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    (entry,) = of(Grant, log.feed(intent))
    return entry


def done(make, log, name="pair", **changes):
    """Let both legs of a pair be filled; return their orders."""
    entry = pair(make, log, name=name, **changes)
    price = entry.price
    (hedge,) = of(Grant, log.done(entry, entry.size, price, name=f"{name}-1"))
    log.done(hedge, hedge.size, hedge.price, name=f"{name}-2")
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "FILLED")
    return entry, hedge


def leaving(make, **changes):
    """Return a log in which a pair is filled and its leg on Kalshi being sold, the pair's two orders and the exit's."""
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=20 * ONE))
    entry, hedge = done(make, log, **changes)
    mark(make, log)
    flatten(make, log)
    (exit_,) = beat(make, log)
    return log, entry, hedge, exit_


def holding(make):
    """Ten YES on Kalshi that a saga could neither complete nor take back."""
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=10_000))
    entry = pair(make, log, first=(KALSHI, "BUY", 4_000), second=(POLY, "SELL", 5_000))
    orders = of(Grant, log.done(entry, 10 * ONE, 4_000))
    while orders:
        orders = [after for order in orders for after in of(Grant, log.update(order, "CANCELLED"))]
    assert (log.last(Saga).state, log.last(Saga).standing_e6) == ("HOLDING", [10 * ONE, 0])
    mark(make, log)
    return log


def ruling(log, action, name="pair"):
    return Ruling(
        id=f"ruling|{name}", account_set="main", saga=name, action=action, budget_e6=10 * ONE, slip_e4=900,
        set_by="ann", reason="test", ts_ns=log.now_ns,
    )  # fmt: skip


def test_what_a_saga_holds_is_left_to_a_human(make):
    log = holding(make)
    buy(make, log, strategy="other", size=3 * ONE, price=4_100)
    flatten(make, log)
    (exit_,) = beat(make, log)
    assert exit_.size == 3 * ONE  # another strategy's: theirs is no word on it
    log.done(exit_, 3 * ONE, 4_400)
    assert beat(make, log) == []
    (unwind,) = of(Grant, log.feed(ruling(log, "UNWIND")))
    assert (unwind.side, unwind.size) == ("SELL", 10 * ONE)
    log.done(unwind, 10 * ONE, 4_400)
    assert (held(log), log.last(Saga).state) == ({}, "DONE")


def test_what_a_human_decided_to_hold_is_sold_by_a_command_like_anything_else(make):
    log = holding(make)
    flatten(make, log)
    assert beat(make, log) == []
    log.feed(ruling(log, "HOLD"))
    (exit_,) = beat(make, log)
    log.done(exit_, 10 * ONE, 4_400)
    assert held(log) == {}


def test_what_went_meanwhile_is_not_unwound(make):
    log = holding(make)
    log.clock(1_000)
    log.feed(posting(log, "TRANSFER", instrument=KALSHI, outcome="YES", size=-7 * ONE))
    alive(log)
    (unwind,) = of(Grant, log.feed(ruling(log, "UNWIND")))
    assert (unwind.side, unwind.size) == ("SELL", 3 * ONE)
    assert of(Grant, log.done(unwind, 3 * ONE, 4_400)) == []
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "EXITED")
    assert held(log) == {}


def test_a_settlement_that_fails_after_an_exit_sells_nothing_twice(make):
    log, entry, _, exit_ = leaving(make)
    assert (exit_.instrument, exit_.side) == (KALSHI, "BUY")
    log.done(exit_, 10 * ONE, 4_800)
    assert of(Grant, log.settle(entry, "pair-1", "FAILED")) == []
    assert (log.last(Saga).id, log.last(Saga).state, log.last(Saga).reason) == ("pair", "DONE", "EXITED")
    assert held(log) == {}
    assert beat(make, log, 10_000) == []


def test_a_settlement_that_fails_while_an_exit_is_out_takes_back_what_it_leaves(make):
    log, entry, _, exit_ = leaving(make)
    assert of(Grant, log.settle(entry, "pair-1", "FAILED")) == []
    assert (log.last(Saga).state, log.last(Saga).reason) == ("UNWINDING", "WAITS_FOR_EXIT")
    assert beat(make, log) == []
    log.done(exit_, 4 * ONE, 4_800)
    (unwind,) = beat(make, log)
    assert (unwind.intent, unwind.side, unwind.size) == ("pair", "BUY", 6 * ONE)
    assert of(Grant, log.done(unwind, 6 * ONE, 4_800)) == []
    assert held(log) == {}
    assert beat(make, log, 10_000) == []


def test_what_was_sold_by_an_exit_is_not_hedged_again(make):
    log, _, hedge, exit_ = leaving(make, first=(KALSHI, "BUY", 4_000), second=(POLY, "SELL", 5_000))
    log.done(exit_, 4 * ONE, 4_400)
    # Six are left, and hedged again; four are not.
    (again,) = of(Grant, log.settle(hedge, "pair-2", "FAILED"))
    assert (again.purpose, again.size) == ("HEDGE", 6 * ONE)
    assert of(Grant, log.done(again, 6 * ONE, again.price)) == []
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "EXITED")
    assert held(log)[KALSHI] == 6 * ONE


def test_a_pair_of_the_other_direction_is_taken_back_though_both_net_to_nothing(make):
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=20 * ONE))
    first, _ = done(make, log, "there")
    log.settle(first, "there-1")
    back, _ = done(make, log, "back", first=(POLY, "SELL", 6_000), second=(KALSHI, "BUY", 4_000))
    assert held(log) == {}
    (unwind,) = of(Grant, log.settle(back, "back-1", "FAILED"))
    assert (unwind.instrument, unwind.side, unwind.size) == (KALSHI, "SELL", 10 * ONE)
    log.done(unwind, 10 * ONE, 4_000)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "SETTLEMENT_FAILED")
    assert held(log) == {KALSHI: -10 * ONE}  # beside the ten that stand on Polymarket


def test_a_successor_knows_what_exits_sold(make):
    log, entry, _, exit_ = leaving(make)
    log.settle(entry, "pair-1", "FAILED")
    log.done(exit_, 4 * ONE, 4_800)
    (unwind,) = beat(make, log)
    (again,) = of(Grant, log.done(unwind, 3 * ONE, 4_800))
    log.done(again, 3 * ONE, 4_800)
    assert held(log) == {}
    dice = random.Random(9)
    for number in range(1, len(log.items)):
        outputs, _ = outputs_with_restores(log, {number, number + 2}, dice)
        assert outputs == log.outputs


# --- at random


class Ticking(Accounts):
    """A log in which time passes and books stay young while gateways speak, a command comes, and settlements end late."""

    asks = None
    at = 0

    def __init__(self):
        super().__init__()
        self.late = []

    def clock(self, ms=100):
        said = super().clock(ms)
        while self.late:
            said += super().feed(self.late.pop())
        return said

    def feed(self, record, **changes):
        if isinstance(record, order.Settled):
            self.late.append(record)
            return []
        said = super().feed(record, **changes)
        if len(self.items) >= self.at and self.asks is not None:
            asks, self.asks = self.asks, None
            said += super().feed(msgspec.structs.replace(asks, ts_ns=self.now_ns))
        if len(self.items) % 3 == 0:
            for venue in ("kalshi", "polymarket"):
                super().feed(order.Alive(account=f"{venue}:main", writer="gw", ready=True, ts_ns=self.now_ns))
            super().feed(tick(self.now_ns))
            said += super().feed(Clock(now_ns=self.now_ns), ms=50)
        return said


def opened(log):
    """Return what stands of sagas, exits aside: (strategy, account, instrument) -> bought and sold."""
    sums = {}
    for saga in log.task._sets["main"].sagas.values():
        for leg in saga.legs:
            if not leg.reduces:
                signed = leg.exposure if leg.leg.side == "BUY" else -leg.exposure
                bought, sold = sums.get((saga.intent.strategy, leg.leg.account, leg.leg.instrument), (0, 0))
                key = (saga.intent.strategy, leg.leg.account, leg.leg.instrument)
                sums[key] = (bought + max(signed, 0), sold + max(-signed, 0))
    return sums


@settings(max_examples=100, deadline=None)
@given(seed=seeds, shuffle=seeds, scope=st.sampled_from([("SET", ""), ("VENUE", "kalshi"), ("STRATEGY", "arb-1")]))
def test_exits_and_sagas_together_never_sell_more_than_was_bought(make, seed, shuffle, scope):
    def start(make, *, cash):
        log = Ticking().start(cash=cash, limits=make.limit(unwind_budget_e6=20 * ONE))
        for name in (KALSHI, POLY):
            mark(make, log, name)
        log.asks, log.at = make.command("REDUCING", *scope, flatten_slip_e4=300), len(log.items) + shuffle % 70
        return log

    def wanted(make, now_ns):
        return [lambda now_ns: intents(make, now_ns)]

    log, _ = run(make, seed, shuffle=shuffle, copies=0.2, start=start, wanted=wanted)
    cuts = {len(log.items) // 3, len(log.items) // 2}
    assert outputs_with_restores(log, cuts, random.Random(seed))[0] == log.outputs
    if any(saga.reason == "OVERSOLD" for saga in log.all(Saga)):
        return
    books = log.task._sets["main"].positions.books
    for (strategy, account, instrument), (bought, sold) in opened(log).items():
        position = books[strategy].open.get((account, instrument)) if strategy in books else None
        by_exits = (position.size if position is not None else 0) - bought + sold
        assert -bought <= by_exits <= sold
