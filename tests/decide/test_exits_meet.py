"""Exits that a command asks for, where quotes rest, sagas hold or settlements fail: nothing is sold twice, nothing waits for ever."""

import random

import pytest

from schemas.decision import Cancel, Grant, Saga
from tests.checkpoints import outputs_with_restores
from tests.decide.conftest import KALSHI, ONE
from tests.decide.quotes import SECOND, of, quote_intent, word
from tests.decide.test_exits import alive, beat, buy, flatten, mark

OTHER = "kalshi:KX-2"


@pytest.fixture
def log(make):
    """Ten YES on Kalshi at .40, bought by arb-1; the book stands at .45 to .47."""
    log = make.accounts().start()
    log.feed(make.instrument(OTHER))
    buy(make, log)
    mark(make, log)
    return log


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
