"""The momentum strategy: what it follows, what it holds, how it leaves; and what the task keeps for it."""

import json
import random

import pytest

from core.domain.errors import Reject
from decide.sources import StrategyPlan
from decide.strategies.momentum import MARKS_MAX, ORDERS_MAX, Watch
from schemas.decision import Grant, Intent
from schemas.market import Trade
from tests.checkpoints import outputs_with_restores
from tests.decide.quotes import outcome

ONE = 1_000_000
PARAMS = {"window_ms": 1_000, "move_e4": 200, "size": 10 * ONE, "hold_ms": 5_000, "cooldown_ms": 1_000}


def config(make, **changes):
    fields = dict(id="mo-1", kind="momentum", params=json.dumps(PARAMS), instruments=[make.KALSHI])
    return make.strategy(**{**fields, **changes})


def begun(make, **changes):
    log = make.strategies().start(links=[make.link(status="SUSPENDED")])
    log.feed(config(make, **changes))
    return log


def book(log, make, bid, *, ms=0, size=50 * ONE, spread=100):
    """Feed a book around `bid` after `ms`; return the intents that follow."""
    heard = []
    if ms:
        heard += log.clock(ms)
        log.tick()
    heard += log.book(make.KALSHI, len(log.items), bids=[(bid, size), (bid - 100, size)], asks=[(bid + spread, size)])
    return [record for record in heard if isinstance(record, Intent)]


def trade(log, make, aggressor, size):
    return log.feed(
        Trade(
            instrument=make.KALSHI,
            epoch=1,
            frame_no=1,
            index=0,
            price_exp=-4,
            size_exp=-6,
            price=5_000,
            size=size,
            aggressor=aggressor,
            recv_ts_ns=log.now_ns,
        )
    )


def entered(make, **changes):
    """Return a log whose strategy holds ten, bought when the mid was .535."""
    log = begun(make, **changes)
    book(log, make, 5_000)
    (entry,) = book(log, make, 5_300, ms=200)
    outcome(log, entry, "FIRST_LEG")
    outcome(log, entry, "DONE", 10 * ONE)
    return log


def test_move_up_is_bought_at_the_best_price_with_one_leg(make):
    log = begun(make)
    assert book(log, make, 5_000) == []
    (intent,) = book(log, make, 5_300, ms=200)
    (leg,) = intent.legs
    assert (intent.link, intent.strategy, intent.profit_e6) == (make.KALSHI, "mo-1", 0)
    assert (leg.side, leg.price, leg.size, leg.reduces) == ("BUY", 5_400, 10 * ONE, False)
    assert (leg.account, leg.version_offset) == ("kalshi:main", len(log.items) - 2)


def test_accounts_grant_what_it_intends(make):
    log = begun(make)
    book(log, make, 5_000)
    (intent,) = book(log, make, 5_300, ms=200)
    assert isinstance(make.accounts().start().feed(intent)[0], Grant)


def test_move_down_is_sold(make):
    log = begun(make)
    book(log, make, 5_000)
    (intent,) = book(log, make, 4_700, ms=200)
    assert (intent.legs[0].side, intent.legs[0].price) == ("SELL", 4_700)


@pytest.mark.parametrize(("move", "ms"), [(199, 200), (200, 1_001)], ids=["too small", "too slow"])
def test_move_that_is_too_small_or_too_slow_is_not_followed(make, move, ms):
    log = begun(make)
    book(log, make, 5_000)
    assert book(log, make, 5_000 + move, ms=ms) == []


def test_wide_book_is_not_entered(make):
    log = begun(make)
    book(log, make, 5_000)
    assert book(log, make, 5_300, ms=200, spread=300) == []


def test_flow_must_agree_where_it_is_asked_for(make):
    wanted = json.dumps({**PARAMS, "flow_e6": 20 * ONE})
    for trades, acts in (([("BUY", 20)], 1), ([("BUY", 19)], 0), ([("BUY", 30), ("SELL", 11)], 0), ([], 0)):
        log = begun(make, params=wanted)
        book(log, make, 5_000)
        for aggressor, contracts in trades:
            trade(log, make, aggressor, contracts * ONE)
        assert len(book(log, make, 5_300, ms=200)) == acts
    late = begun(make, params=wanted)
    book(late, make, 5_000)
    trade(late, make, "BUY", 20 * ONE)
    # What was traded before the window began is not counted.
    book(late, make, 5_000, ms=900)
    assert book(late, make, 5_300, ms=200) == []


def test_instrument_it_does_not_name_is_left_alone(make):
    log = begun(make, instruments=[make.POLY])
    book(log, make, 5_000)
    assert book(log, make, 5_300, ms=200) == []


def test_books_it_names_come_without_any_link(make):
    plan = StrategyPlan(0, 1)
    assert not plan.wants("book", make.KALSHI.encode())
    plan.learn(config(make))
    assert plan.wants("book", make.KALSHI.encode())


def test_gain_loss_and_time_end_a_position(make):
    for bid, ms in ((5_600, 100), (5_000, 100), (5_300, 5_000)):
        log = entered(make)
        (exit_,) = book(log, make, bid, ms=ms)
        (leg,) = exit_.legs
        assert (leg.side, leg.size, leg.reduces, leg.price) == ("SELL", 10 * ONE, True, bid)
    log = entered(make)
    assert book(log, make, 5_400, ms=100) == []


def test_time_ends_a_position_where_no_quote_comes(make):
    log = entered(make)
    log.clock(4_500)
    log.tick()
    (exit_,) = [record for record in log.clock(500) if isinstance(record, Intent)]
    assert (exit_.legs[0].reduces, exit_.recv_ts_ns) == (True, log.now_ns)


def test_exit_in_part_goes_on_with_the_rest(make):
    log = entered(make)
    (exit_,) = book(log, make, 5_600, ms=100)
    assert book(log, make, 5_600, ms=100) == []  # one at a time
    outcome(log, exit_, "DONE", 4 * ONE)
    assert book(log, make, 5_600, ms=100) == []  # it rests
    (rest,) = book(log, make, 5_600, ms=400)
    assert (rest.legs[0].size, rest.legs[0].reduces) == (6 * ONE, True)
    outcome(log, rest, "DONE", 6 * ONE)
    assert log.task._slots["mo-1"].running.watches[make.KALSHI].position == 0


def test_what_another_strategy_nets_away_is_left_by_entering_the_opposite(make):
    log = entered(make)
    (exit_,) = book(log, make, 5_600, ms=100)
    outcome(log, exit_, "REFUSED", reason="NETTED")
    (opposite,) = book(log, make, 5_600, ms=600)
    (leg,) = opposite.legs
    assert (leg.side, leg.size, leg.reduces) == ("SELL", 10 * ONE, False)
    outcome(log, opposite, "DONE", 10 * ONE)
    assert log.task._slots["mo-1"].running.watches[make.KALSHI].position == 0
    # And the next exit is one again.
    book(log, make, 5_600, ms=2_000)
    book(log, make, 6_000, ms=100)
    assert log.task._slots["mo-1"].running.watches[make.KALSHI].is_netted is False


def test_where_it_may_only_reduce_it_goes_on_asking_for_its_exit(make):
    log = entered(make)
    log.feed(config(make, status="DRAINING"))
    (exit_,) = book(log, make, 5_600, ms=100)
    outcome(log, exit_, "REFUSED", reason="NETTED")
    (again,) = book(log, make, 5_600, ms=600)
    assert again.legs[0].reduces


def test_what_the_account_does_not_hold_for_other_reasons_is_never_entered_the_other_way(make):
    """A human may have sold it: the opposite would be a position that nobody watches."""
    log = entered(make)
    (exit_,) = book(log, make, 5_600, ms=100)
    tries = 0
    found = [exit_]
    for _ in range(100):
        for intent in found:
            assert intent.legs[0].reduces
            outcome(log, intent, "REFUSED", reason="NOT_HELD")
        found = book(log, make, 5_600, ms=500)
        tries += len(found)
    # 50 s: it asks ever more seldom, every four seconds at last.
    assert 12 <= tries <= 16


def test_exit_takes_what_is_there_within_its_slip(make):
    log = entered(make)
    (exit_,) = book(log, make, 5_600, ms=100, size=3 * ONE)
    assert (exit_.legs[0].size, exit_.legs[0].level_prices) == (6 * ONE, [5_600, 5_500])


def test_failed_settlement_after_the_exit_is_counted(make):
    log = entered(make)
    (exit_,) = book(log, make, 5_600, ms=100)
    outcome(log, exit_, "DONE", 10 * ONE)
    # The sale failed: what was sold is held again, and sold again.
    outcome(log, exit_, "DONE", 0)
    (again,) = book(log, make, 5_600, ms=1_000)
    assert again.legs[0].reduces


def test_draining_sells_what_is_held_and_enters_nothing(make):
    log = entered(make)
    log.feed(config(make, status="DRAINING"))
    (exit_,) = book(log, make, 5_300, ms=100)
    outcome(log, exit_, "DONE", 10 * ONE)
    book(log, make, 5_000, ms=1_000)
    assert book(log, make, 5_300, ms=100) == []


def test_stopped_does_nothing_but_still_hears_what_became_of_its_order(make):
    log = begun(make)
    book(log, make, 5_000)
    (entry,) = book(log, make, 5_300, ms=200)
    log.feed(config(make, status="STOPPED"))
    outcome(log, entry, "DONE", 10 * ONE)
    assert book(log, make, 5_900, ms=100) == []
    log.feed(config(make))
    (exit_,) = book(log, make, 5_900, ms=100)
    assert (exit_.legs[0].size, exit_.legs[0].reduces) == (10 * ONE, True)


def test_changed_parameters_keep_what_is_held(make):
    log = entered(make)
    log.feed(config(make, params=json.dumps({**PARAMS, "take_e4": 50})))
    (exit_,) = book(log, make, 5_400, ms=100)
    assert exit_.legs[0].reduces


def test_refused_entry_rests(make):
    log = begun(make)
    book(log, make, 5_000)
    (entry,) = book(log, make, 5_300, ms=200)
    outcome(log, entry, "REFUSED")
    assert book(log, make, 5_600, ms=200) == []
    assert len(book(log, make, 5_900, ms=900)) == 1


def test_windows_and_orders_are_bounded(make):
    log = begun(make)
    for number in range(300):
        book(log, make, 5_000 + number % 2, ms=5)
    watch = log.task._slots["mo-1"].running.watches[make.KALSHI]
    assert len(watch.marks) <= MARKS_MAX + 1
    for number in range(ORDERS_MAX + 5):
        log.task._slots["mo-1"].running._note(watch, f"o{number}", 1)
    assert isinstance(watch, Watch)
    assert len(watch.orders) == ORDERS_MAX


@pytest.mark.parametrize("params", ['{"window_ms": 0}', '{"size": 0}', '{"speed": 1}'])
def test_parameters_out_of_their_range_are_rejected(make, params):
    log = begun(make)
    with pytest.raises(Reject, match="momentum"):
        log.feed(config(make, id="mo-2", params=params))


def test_successor_goes_on_from_a_checkpoint_taken_anywhere(make):
    log = entered(make)
    book(log, make, 5_600, ms=100)
    for cut in range(len(log.items)):
        outputs, _ = outputs_with_restores(log, {cut}, random.Random(cut), thrown=1.0)
        assert outputs == log.outputs


def test_what_a_human_had_sold_is_not_sold_again(make):
    log = entered(make)
    flattened = make.intent(id="flatten/1", strategy="mo-1", link=make.KALSHI)
    outcome(log, flattened, "FIRST_LEG", sides=["SELL"])
    outcome(log, flattened, "DONE", 4 * ONE, sides=["SELL"])
    (exit_,) = book(log, make, 5_600, ms=1_000)
    assert exit_.legs[0].size == 6 * ONE
    outcome(log, exit_, "REFUSED", reason="REDUCING")
    outcome(log, make.intent(id="flatten/2", strategy="mo-1", link=make.KALSHI), "DONE", 6 * ONE, sides=["SELL"])
    assert book(log, make, 5_600, ms=10_000) == []
