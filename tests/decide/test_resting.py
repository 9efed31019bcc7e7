"""Sagas that rest: what is reserved, what is moved how, and every way in which a quote comes to its end."""

import pytest

from decide.conduct import resting_fee_e6
from schemas.decision import Amend, Cancel, Grant, Saga
from tests.decide.quotes import BID, ONE, SECOND, SIZE, of, quote_intent, word

VENUES = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


@pytest.fixture
def log(make):
    return make.accounts().start()


def name_of(make, venue):
    return make.KALSHI if venue == "kalshi" else make.POLY


def granted(make, log, **changes):
    (grant,) = of(Grant, log.feed(quote_intent(make, log, **changes)))
    return grant


def resting(make, log, **changes):
    """A quote that the venue took."""
    grant = granted(make, log, **changes)
    log.submitting(grant)
    log.update(grant, "ACCEPTED")
    return grant


def amended(log, grant, price, size, **changes):
    """The gateway's word that an amendment was done."""
    return log.update(
        grant,
        "ACCEPTED",
        event_id=f"a/{grant.id}/{price}/{size}",
        price=price,
        size=size,
        venue_ts_ns=log.now_ns,
        **changes,
    )


def saga(log, name="q1"):
    return [record for record in log.all(Saga) if record.id == name][-1]


def reserved(log):
    return log.task.reserved_e6()


def ended(log, state="DONE", reason="", filled=0, name="q1"):
    """Check how a quote ended, and that nothing of it is left."""
    last = saga(log, name)
    assert (last.state, last.reason, last.filled_e6[0]) == (state, reason, filled)
    assert (last.price, last.size) == (0, 0)
    assert reserved(log) == 0
    return True


# --- begin


@VENUES
def test_a_leg_that_rests_is_granted_post_only_until_a_second(make, log, venue):
    grant = granted(make, log, instrument=name_of(make, venue))
    assert (grant.time_in_force, grant.post_only, grant.purpose) == ("GTD", True, "ENTRY")
    assert (grant.side, grant.price, grant.size) == ("BUY", BID, SIZE)
    now_s = log.now_ns // SECOND
    # Polymarket takes none that ends within two minutes, and ends a minute early what it takes.
    assert grant.expires_s == (now_s + 60 if venue == "kalshi" else now_s + 125 + 60)
    assert (saga(log).state, saga(log).standing_e6) == ("RESTING", [0])


@VENUES
def test_what_rests_is_reserved_until_its_end_and_nothing_is_taken_back_for_resting(make, log, venue):
    grant = resting(make, log, instrument=name_of(make, venue))
    cost = BID * SIZE // 10_000
    assert cost < reserved(log) <= cost + ONE
    assert not log.all(Cancel)
    assert (saga(log).price, saga(log).size) == (BID, SIZE)
    alive_until(log, 30_000)
    assert reserved(log) >= cost
    assert not log.all(Cancel)
    log.update(grant, "EXPIRED")
    assert ended(log, reason="EXPIRED")


def test_both_sides_rest_at_once_and_a_second_on_one_side_does_not(make, log):
    resting(make, log)
    resting(make, log, name="q2", side="SELL", price=5_500)
    log.feed(quote_intent(make, log, name="q3", price=4_000))
    assert (saga(log, "q3").state, saga(log, "q3").reason) == ("REFUSED", "OPEN_SAGA")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_s": 0}, "MALFORMED"),
        ({"expires_s": 10**10}, "MALFORMED"),
        ({"price": 4_550}, "OFF_GRID"),
        ({"size": 15_000}, "OFF_GRID"),
        ({"instrument": "polymarket:0xc1", "size": 4 * ONE}, "OFF_GRID"),
        ({"size": 5_000 * ONE}, "ORDER_NOTIONAL"),
    ],
)
def test_what_cannot_rest_is_refused(make, log, changes, reason):
    log.feed(quote_intent(make, log, **changes))
    assert (saga(log).state, saga(log).reason) == ("REFUSED", reason)


def test_legs_of_a_link_do_not_rest(make, log):
    pair = make.intent()
    legs = [make.replace(leg, rests=True, expires_s=log.now_ns // SECOND + 60) for leg in pair.legs]
    log.feed(make.replace(pair, legs=legs))
    assert saga(log, "intent-1").reason == "MALFORMED"


def test_exit_that_rests_reserves_nothing_and_needs_what_is_held(make, log):
    log.feed(quote_intent(make, log, instrument=make.POLY, side="SELL", price=5_500, reduces=True))
    assert saga(log).reason == "NOT_HELD"
    bought = resting(make, log, name="q2", instrument=make.POLY)
    log.done(bought, SIZE, BID, name="f1")
    log.settle(bought, "f1")
    sold = granted(make, log, name="q3", instrument=make.POLY, side="SELL", price=5_500, reduces=True)
    assert (sold.purpose, sold.outcome, sold.token_side, sold.post_only) == ("UNWIND", "YES", "SELL", True)
    assert reserved(log) == 0
    log.done(sold, SIZE, 5_500, name="f2")
    assert saga(log, "q3").reason == "FILLED"


# --- fills and ends


@VENUES
def test_partial_fills_are_counted_and_what_is_left_goes_on_resting(make, log, venue):
    grant = resting(make, log, instrument=name_of(make, venue))
    before = reserved(log)
    log.fill(grant, 4 * ONE, BID)
    assert (saga(log).state, saga(log).standing_e6) == ("RESTING", [4 * ONE])
    assert 0 < reserved(log) < before
    assert not log.all(Cancel)
    log.update(grant, "FILLED", SIZE)
    assert saga(log).state == "RESTING"  # six are to be heard of
    log.fill(grant, 6 * ONE, BID)
    assert ended(log, reason="FILLED", filled=SIZE)


def test_fill_before_any_answer_is_counted(make, log):
    grant = granted(make, log)
    log.fill(grant, 4 * ONE, BID)
    log.submitting(grant)
    log.update(grant, "ACCEPTED", 4 * ONE)
    assert (saga(log).price, saga(log).standing_e6) == (BID, [4 * ONE])


def test_fills_while_it_is_taken_back_are_counted(make, log):
    grant = resting(make, log)
    (out,) = of(Cancel, log.feed(word(log, "CANCEL")))
    assert (out.order, out.reason) == (grant.id, "WITHDRAWN")
    log.fill(grant, 3 * ONE, BID)
    log.update(grant, "CANCELLED", 5 * ONE)
    # The venue counts two that we have not seen.
    assert saga(log).state == "RESTING"
    assert reserved(log) > 0
    log.fill(grant, 2 * ONE, BID)
    assert ended(log, reason="WITHDRAWN", filled=5 * ONE)


@pytest.mark.parametrize("status", ["REJECTED", "EXPIRED_UNSENT", "CANCELLED", "EXPIRED"])
def test_order_that_ends_by_itself_ends_the_quote_and_is_not_tried_again(make, log, status):
    grant = granted(make, log)
    log.submitting(grant)
    log.update(grant, status)
    assert ended(log, reason=status)
    log.clock(10_000)
    assert len(log.all(Grant)) == 1


@VENUES
def test_lost_order_is_taken_back_and_stays_reserved_until_it_is_known(make, log, venue):
    grant = granted(make, log, instrument=name_of(make, venue))
    log.submitting(grant)
    log.update(grant, "OUTCOME_UNKNOWN")
    assert [out.reason for out in log.all(Cancel)] == ["OUTCOME_UNKNOWN"]
    log.clock(60_000)
    assert reserved(log) > 0
    log.fill(grant, ONE, BID)
    log.update(grant, "CANCELLED", ONE)
    assert ended(log, reason="OUTCOME_UNKNOWN", filled=ONE)


def test_late_surprise_is_booked_and_said(make, log):
    grant = resting(make, log)
    log.update(grant, "EXPIRED")
    log.fill(grant, 2 * ONE, BID)
    assert ended(log, reason="EXPIRED", filled=2 * ONE)


def test_settlement_that_fails_is_taken_off_and_nothing_is_bought_again(make, log):
    grant = resting(make, log, instrument=make.POLY)
    log.done(grant, SIZE, BID, name="f1")
    log.settle(grant, "f1", "FAILED")
    last = saga(log)
    assert (last.state, last.reason, last.standing_e6, last.cash_e6) == ("DONE", "SETTLEMENT_FAILED", [0], 0)
    assert len(log.all(Grant)) == 1


# --- what takes it back


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda make, log: log.feed(make.limit(state="REDUCING")), id="reducing"),
        pytest.param(lambda make, log: log.feed(make.limit(state="HALTED")), id="halted"),
        pytest.param(lambda make, log: log.feed(make.command("HALTED", "STRATEGY", "mm-1")), id="strategy halted"),
        pytest.param(lambda make, log: log.feed(make.command("REDUCING", "VENUE", "kalshi")), id="venue reducing"),
        pytest.param(
            lambda make, log: log.feed(make.instrument(make.KALSHI, status="PAUSED")) + log.clock(100), id="paused"
        ),
        pytest.param(lambda make, log: log.clock(2_500), id="gateway silent"),
        pytest.param(lambda make, log: log.alive("kalshi:main", ready=False) + log.clock(100), id="gateway not ready"),
    ],
)
def test_quote_falls_at_once_where_nothing_new_would_be_granted(make, log, spoil):
    grant = resting(make, log)
    assert [out.order for out in of(Cancel, spoil(make, log))] == [grant.id]
    assert reserved(log) > 0
    log.update(grant, "CANCELLED")
    assert saga(log).state == "DONE"
    assert reserved(log) == 0


def test_exit_that_rests_stands_while_reducing_and_falls_when_halted(make, log):
    bought = resting(make, log)
    log.done(bought, SIZE, BID)
    exit_ = resting(make, log, name="q2", side="SELL", price=5_500, reduces=True)
    assert not of(Cancel, log.feed(make.limit(state="REDUCING")))
    assert [out.order for out in of(Cancel, log.feed(make.limit(state="HALTED")))] == [exit_.id]


def test_exit_that_rests_falls_when_what_it_sells_is_gone(make, log):
    bought = resting(make, log, instrument=make.POLY)
    log.done(bought, SIZE, BID, name="f1")
    log.settle(bought, "f1")
    exit_ = resting(make, log, name="q2", instrument=make.POLY, side="SELL", price=5_500, reduces=True)
    assert not of(Cancel, log.clock(100))
    # Sold by hand, at the venue's own page.
    log.fill(make.replace(exit_, id="by hand"), 4 * ONE, 5_000)
    assert [(out.order, out.reason) for out in of(Cancel, log.clock(100))] == [(exit_.id, "NOT_HELD")]


def alive_until(log, ms, step=1_000):
    """Let time pass with gateways that speak; return what follows."""
    heard = []
    for _ in range(0, ms, step):
        heard += log.clock(step)
        for venue in ("kalshi", "polymarket"):
            log.alive(f"{venue}:main")
    return heard


def test_quote_of_a_silent_strategy_is_taken_back(make, log):
    resting(make, log, silence_ms=3_000)
    assert not of(Cancel, alive_until(log, 3_000))
    assert [out.reason for out in of(Cancel, alive_until(log, 1_000))] == ["SILENT"]


def test_quote_its_strategy_speaks_of_stays_and_one_it_forgot_goes(make, log):
    resting(make, log, silence_ms=3_000)
    other = resting(make, log, name="q2", side="SELL", price=5_500, silence_ms=3_000)
    alive_until(log, 2_000)
    log.feed(word(log, "KEEP", "q1"))
    assert [out.order for out in of(Cancel, alive_until(log, 2_000))] == [other.id]


def test_word_of_long_ago_does_not_keep_a_quote(make, log):
    resting(make, log, silence_ms=3_000)
    began_ns = log.now_ns
    alive_until(log, 3_000)
    log.feed(word(log, "KEEP", now_ns=began_ns))
    assert of(Cancel, alive_until(log, 1_000))


def test_quote_is_taken_back_at_its_end_though_the_venue_lets_it_stand(make, log):
    resting(make, log, instrument=make.POLY)
    assert not of(Cancel, alive_until(log, 59_000))
    assert [out.reason for out in of(Cancel, alive_until(log, 2_000))] == ["EXPIRED"]


def test_order_no_gateway_speaks_of_is_taken_back(make, log):
    granted(make, log)
    assert [out.reason for out in of(Cancel, alive_until(log, 4_000))] == ["NO_ANSWER"]


# --- replace


def test_replace_amends_where_the_venue_amends(make, log):
    grant = resting(make, log)
    log.fill(grant, 4 * ONE, BID)
    (amend,) = of(Amend, log.feed(word(log, "REPLACE", price=4_600, size=12 * ONE)))
    assert (amend.order, amend.price, amend.size) == (grant.id, 4_600, 12 * ONE)
    assert amend.send_by_ns == log.now_ns + 500_000_000
    assert not log.all(Cancel)
    amended(log, grant, 4_600, 12 * ONE)
    assert (saga(log).state, saga(log).price, saga(log).size) == ("RESTING", 4_600, 12 * ONE)
    log.fill(grant, 8 * ONE, 4_600)
    log.update(grant, "FILLED", 12 * ONE)
    assert ended(log, reason="FILLED", filled=12 * ONE)


def test_both_prices_are_reserved_until_one_is_known(make, log):
    grant = resting(make, log)
    at_first = reserved(log)
    log.feed(word(log, "REPLACE", price=4_000, size=SIZE))
    assert reserved(log) == at_first  # cheaper, but not known yet
    amended(log, grant, 4_000, SIZE)
    cheaper = reserved(log)
    assert cheaper < at_first
    log.feed(word(log, "REPLACE", price=4_900, size=SIZE))
    assert reserved(log) > at_first  # dearer, from now on
    log.update(grant, "CANCELLED")
    assert reserved(log) == 0


def test_one_amendment_is_out_at_a_time_and_the_newest_word_follows(make, log):
    grant = resting(make, log)
    log.feed(word(log, "REPLACE", price=4_600, size=SIZE))
    for price in (4_700, 4_800):
        assert not of(Amend, log.feed(word(log, "REPLACE", price=price, size=SIZE)))
    (second,) = of(Amend, amended(log, grant, 4_600, SIZE))
    assert second.price == 4_800


def test_expiry_alone_is_prolonged_where_the_venue_amends(make, log):
    grant = resting(make, log)
    alive_until(log, 30_000)
    (amend,) = of(Amend, log.feed(word(log, "REPLACE", price=BID, size=SIZE)))
    assert (amend.price, amend.size) == (grant.price, grant.size)
    assert amend.expires_s == grant.expires_s + 30
    assert not of(Cancel, alive_until(log, 58_000))
    assert of(Cancel, alive_until(log, 3_000))


def test_replace_takes_back_and_grants_anew_where_the_venue_does_not_amend(make, log):
    grant = resting(make, log, instrument=make.POLY)
    log.fill(grant, 3 * ONE, BID)
    heard = log.feed(word(log, "REPLACE", price=4_600, size=12 * ONE))
    assert [out.order for out in of(Cancel, heard)] == [grant.id]
    assert not of(Grant, heard) + of(Amend, heard)
    log.fill(grant, ONE, BID)  # while it is taken back
    log.now_ns += 200_000_000
    (new,) = of(Grant, log.update(grant, "CANCELLED", 4 * ONE))
    assert (new.price, new.size, new.attempt, new.post_only) == (4_600, 8 * ONE, 2, True)
    assert new.id != grant.id
    assert saga(log).state == "RESTING"
    # It stands as it is wanted, though the total counts what the first one filled.
    assert not of(Cancel, log.update(new, "ACCEPTED"))
    assert (saga(log).price, saga(log).size) == (4_600, 12 * ONE)
    assert not of(Cancel, log.feed(word(log, "REPLACE", price=4_600, size=12 * ONE)))
    log.done(new, 8 * ONE, 4_600)
    assert ended(log, reason="FILLED", filled=12 * ONE)


@pytest.mark.parametrize(
    ("ms", "filled", "size", "reason"),
    [(2_100, 0, 12 * ONE, "LATE"), (100, 10 * ONE, 10 * ONE, "FILLED"), (100, 8 * ONE, 10 * ONE, "OFF_GRID")],
    ids=["too late", "all filled meanwhile", "less left than the venue takes"],
)
def test_nothing_is_granted_anew_that_is_too_late_or_too_little(make, log, ms, filled, size, reason):
    grant = resting(make, log, instrument=make.POLY)
    log.feed(word(log, "REPLACE", price=4_600, size=size))
    if filled:
        log.fill(grant, filled, BID)
    log.now_ns += ms * 1_000_000
    log.alive("polymarket:main")
    log.update(grant, "CANCELLED", filled)
    assert len(log.all(Grant)) == 1
    assert ended(log, reason=reason, filled=filled)


@VENUES
def test_word_that_came_late_takes_back_instead(make, log, venue):
    resting(make, log, instrument=name_of(make, venue))
    heard = log.feed(word(log, "REPLACE", price=4_600, size=SIZE, recv_ts_ns=log.now_ns - 600_000_000))
    assert [out.reason for out in of(Cancel, heard)] == ["LATE"]


@VENUES
def test_replace_that_may_not_be_granted_takes_back_instead(make, log, venue):
    resting(make, log, instrument=name_of(make, venue))
    heard = log.feed(word(log, "REPLACE", price=4_600, size=5_000 * ONE))
    assert [out.reason for out in of(Cancel, heard)] == ["ORDER_NOTIONAL"]


def test_amendment_the_gateway_did_not_make_takes_back_and_keeps_both_reserved(make, log):
    grant = resting(make, log)
    log.feed(word(log, "REPLACE", price=4_900, size=SIZE))
    both = reserved(log)
    heard = log.update(grant, "ACCEPTED", event_id="n1", reason="not amended: post-only at 4900 crosses the book")
    assert [out.reason for out in of(Cancel, heard)] == ["NOT_AMENDED"]
    assert reserved(log) == both
    # Another gateway had made it.
    log.fill(grant, SIZE, 4_900)
    log.update(grant, "FILLED", SIZE)
    assert ended(log, reason="FILLED", filled=SIZE)


def test_amendment_without_a_word_takes_back(make, log):
    resting(make, log)
    log.feed(word(log, "REPLACE", price=4_600, size=SIZE))
    assert not of(Cancel, alive_until(log, 2_000))
    assert [out.reason for out in of(Cancel, alive_until(log, 1_000))] == ["NO_ANSWER"]


def test_total_that_is_filled_already_takes_the_rest_back(make, log):
    grant = resting(make, log)
    log.fill(grant, 6 * ONE, BID)
    assert [out.reason for out in of(Cancel, log.feed(word(log, "REPLACE", price=BID, size=5 * ONE)))] == ["REDUCED"]


def test_word_before_the_answer_waits_for_it(make, log):
    grant = granted(make, log)
    assert not log.feed(word(log, "REPLACE", price=4_600, size=SIZE))
    log.submitting(grant)
    (amend,) = of(Amend, log.update(grant, "ACCEPTED"))
    assert amend.price == 4_600


@VENUES
def test_words_that_come_again_change_nothing(make, log, venue):
    grant = resting(make, log, instrument=name_of(make, venue))
    first = word(log, "REPLACE", price=4_600, size=SIZE)
    log.feed(first)
    second = make.replace(first, id="w2", input_offset=first.input_offset + 1, price=4_700)
    log.feed(second)
    orders = len(log.all(Amend)) + len(log.all(Cancel))
    for again in (first, second, first):
        log.feed(again)
    assert len(log.all(Amend)) + len(log.all(Cancel)) == orders
    heard = amended(log, grant, 4_600, SIZE) if venue == "kalshi" else log.update(grant, "CANCELLED")
    (new,) = of(Amend, heard) + of(Grant, heard)
    assert new.price == 4_700


def test_word_of_another_strategy_or_on_what_does_not_rest_is_nothing(make, log):
    resting(make, log)
    log.feed(make.intent())
    for said in (word(log, "CANCEL", strategy="arb-1"), word(log, "CANCEL", "intent-1", "nobody's")):
        assert not of(Cancel, log.feed(said))


def test_word_that_takes_back_counts_whenever_it_was_said(make, log):
    resting(make, log)
    log.feed(word(log, "REPLACE", price=4_600, size=SIZE))
    assert of(Cancel, log.feed(word(log, "CANCEL", input_offset=3)))


# --- bounds


def test_orders_of_quotes_are_a_granted_budget(make, log):
    log.feed(make.budget("VENUE", "kalshi", orders_per_min=60, orders_burst=2))
    grant = resting(make, log)
    assert of(Amend, log.feed(word(log, "REPLACE", price=4_600, size=SIZE)))
    heard = amended(log, grant, 4_600, SIZE)
    heard += log.feed(word(log, "REPLACE", price=4_700, size=SIZE))
    # Taking back costs no budget.
    assert [out.reason for out in of(Cancel, heard)] == ["BUDGET_RATE"]


def test_quote_that_was_moved_often_enough_ends(make, log, monkeypatch):
    monkeypatch.setattr("decide.quotes.CHANGES_MAX", 3)
    monkeypatch.setattr("decide.quotes.ORDERS_MAX", 2)
    grant = resting(make, log)
    for number in range(4):
        price = 4_600 + 100 * number
        log.feed(word(log, "REPLACE", price=price, size=SIZE))
        amended(log, grant, price, SIZE)
    assert [out.reason for out in log.all(Cancel)] == ["WORN"]
    first = resting(make, log, name="q2", instrument=make.POLY)
    log.feed(word(log, "REPLACE", "q2", price=4_600, size=SIZE))
    (second,) = of(Grant, log.update(first, "CANCELLED"))
    log.update(second, "ACCEPTED")
    log.feed(word(log, "REPLACE", "q2", price=4_700, size=SIZE))
    log.update(second, "CANCELLED")
    assert saga(log, "q2").reason == "WORN"


# --- our other orders


def test_what_would_trade_with_a_quote_is_refused_and_so_is_the_other_way_round(make, log):
    grant = resting(make, log, side="SELL", price=5_000)
    log.feed(word(log, "REPLACE", price=5_200, size=SIZE))
    buy = make.intent(
        id="mo", strategy="mo", link=make.KALSHI, legs=[make.leg(make.KALSHI, "BUY", [(5_000, ONE)])], profit_e6=0
    )
    # Where it stood and where it may stand both count until one is known.
    log.feed(make.replace(buy, now_ns=log.now_ns, recv_ts_ns=log.now_ns))
    assert saga(log, "mo").reason == "SELF_CROSS"
    amended(log, grant, 5_200, SIZE)
    assert of(Grant, log.feed(make.replace(buy, id="mo2", now_ns=log.now_ns, recv_ts_ns=log.now_ns)))
    log.feed(quote_intent(make, log, name="q2", strategy="mm-2", side="BUY", price=5_200))
    assert saga(log, "q2").reason == "SELF_CROSS"


def test_replace_waits_for_what_it_would_trade_with_and_then_goes(make, log):
    bid = resting(make, log)
    ask = resting(make, log, name="q2", side="SELL", price=5_000)
    assert not of(Amend, log.feed(word(log, "REPLACE", price=5_000, size=SIZE)))
    assert saga(log).reason == "WAITS_FOR_SELF_CROSS"
    log.feed(word(log, "REPLACE", "q2", price=5_500, size=SIZE))
    assert not of(Amend, log.clock(100))
    amended(log, ask, 5_500, SIZE)
    assert [amend.order for amend in of(Amend, log.clock(100))] == [bid.id]


def test_replace_that_waits_too_long_takes_back(make, log):
    resting(make, log)
    resting(make, log, name="q2", side="SELL", price=5_000)
    log.feed(word(log, "REPLACE", price=5_000, size=SIZE))
    assert [out.reason for out in of(Cancel, log.clock(600))] == ["LATE"]


def test_hedge_takes_a_quote_out_of_its_way(make, log):
    (first, *_) = of(Grant, log.feed(make.intent()))
    quote = resting(make, log, side="BUY", price=4_900)
    log.done(first, first.size, 4_000, name="f1")
    hedge = of(Grant, log.outputs and [output.record for output in log.outputs])[-1]
    assert hedge.purpose == "HEDGE"
    # It fills nothing; tried again at a worse price it would meet our own bid.
    heard = log.update(hedge, "CANCELLED")
    assert [(out.order, out.reason) for out in of(Cancel, heard)] == [(quote.id, "IN_THE_WAY")]
    log.update(quote, "CANCELLED")
    again = of(Grant, log.clock(100))
    assert [grant.purpose for grant in again] == ["HEDGE"]


def test_restarted_accounts_go_on_from_the_log(make, log):
    grant = resting(make, log)
    log.feed(word(log, "REPLACE", price=4_600, size=SIZE))
    amended(log, grant, 4_600, SIZE)
    log.fill(grant, ONE, 4_600)
    log.feed(word(log, "CANCEL"))
    log.update(grant, "CANCELLED", ONE)
    assert log.again() == log.outputs


def test_exit_takes_a_quote_out_of_its_way_and_goes_when_it_is_asked_for_again(make, log):
    """A stop must not wait for as long as our own bid is the best."""
    entry = make.intent(
        id="mo", strategy="mo", link=make.KALSHI, legs=[make.leg(make.KALSHI, "BUY", [(5_000, SIZE)])], profit_e6=0
    )
    (bought, *_) = of(Grant, log.feed(make.replace(entry, now_ns=log.now_ns, recv_ts_ns=log.now_ns)))
    log.done(bought, SIZE, 5_000, name="f1")
    quote = resting(make, log, side="BUY", price=4_800)
    leg = make.leg(make.KALSHI, "SELL", [(4_800, SIZE)], reduces=True)

    def leave(name):
        intent = make.replace(entry, id=name, legs=[leg], now_ns=log.now_ns, recv_ts_ns=log.now_ns)
        return log.feed(intent)

    heard = leave("out1")
    assert saga(log, "out1").reason == "SELF_CROSS"
    assert [(out.order, out.reason) for out in of(Cancel, heard)] == [(quote.id, "IN_THE_WAY")]
    log.update(quote, "CANCELLED")
    log.clock(500)
    assert [(out.side, out.size) for out in of(Grant, leave("out2"))] == [("SELL", SIZE)]


def test_exit_may_cost_more_to_open_than_one_order_may(make):
    """What is cheap to buy is dear to sell short; a holding is sold all the same."""
    log = make.accounts().start(limits=make.limit(order_notional_max_e6=3 * ONE))
    entry = make.intent(
        id="mo", strategy="mo", link=make.KALSHI, legs=[make.leg(make.KALSHI, "BUY", [(2_000, SIZE)])], profit_e6=0
    )
    (bought, *_) = of(Grant, log.feed(make.replace(entry, now_ns=log.now_ns, recv_ts_ns=log.now_ns)))
    log.done(bought, SIZE, 2_000, name="f1")
    leg = make.leg(make.KALSHI, "SELL", [(1_500, SIZE)], reduces=True)
    leaving = make.replace(entry, id="out", legs=[leg], now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    assert [out.side for out in of(Grant, log.feed(leaving))] == ["SELL"]


def test_exit_of_what_another_strategy_nets_away_is_told_apart_from_what_is_gone(make, log):
    def trade(name, strategy, side, price=5_000, **changes):
        leg = make.leg(make.KALSHI, side, [(price, SIZE)], **changes)
        made = make.intent(id=name, strategy=strategy, link=make.KALSHI, legs=[leg], profit_e6=0)
        return of(Grant, log.feed(make.replace(made, now_ns=log.now_ns, recv_ts_ns=log.now_ns)))

    (bought,) = trade("a", "mo-1", "BUY")
    log.done(bought, SIZE, 5_000, name="f1")
    (sold,) = trade("b", "mo-2", "SELL")
    log.done(sold, SIZE, 5_000, name="f2")
    assert trade("c", "mo-1", "SELL", price=4_900, reduces=True) == []
    assert saga(log, "c").reason == "NETTED"
    # A strategy that never bought any is told that nothing is held.
    assert trade("d", "mo-3", "SELL", price=4_800, reduces=True) == []
    assert saga(log, "d").reason == "NOT_HELD"


@VENUES
def test_a_fee_that_rises_while_a_quote_rests_is_reserved_at_once_and_of_each_move(make, venue):
    log, name = make.accounts().start(), name_of(make, venue)
    log.feed(make.instrument(name, taker_fee_e6=0, recv_ts_ns=log.now_ns))
    grant = resting(make, log, instrument=name)
    assert reserved(log) == 4_500_000
    dearer = make.instrument(name, taker_fee_e6=70_000, recv_ts_ns=log.now_ns + 1)
    log.feed(dearer)
    assert reserved(log) == 4_500_000 + resting_fee_e6(dearer, BID, SIZE) > 4_600_000
    if venue == "kalshi":
        assert of(Amend, log.feed(word(log, "REPLACE", price=BID + 100, size=SIZE)))
        amended(log, grant, BID + 100, SIZE)
        assert reserved(log) == 4_600_000 + resting_fee_e6(dearer, BID + 100, SIZE)
    log.update(grant, "CANCELLED", event_id="end")
    assert ended(log, reason="CANCELLED")
