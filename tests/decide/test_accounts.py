"""The accounts' task over its log: admission, sagas, ledger."""

import pytest

from schemas.decision import Beat, Cancel, Grant, Saga

ONE = 1_000_000


def test_intent_reserves_all_legs_and_grants_the_first(make):
    log = make.accounts().start()
    follows = log.feed(make.intent())
    grants = [record for record in follows if isinstance(record, Grant)]
    assert len(grants) == 1
    grant = grants[0]
    assert (grant.account, grant.side, grant.outcome, grant.token_side) == ("polymarket:main", "BUY", "YES", "BUY")
    assert (grant.price, grant.size, grant.time_in_force, grant.purpose) == (4_000, 10 * ONE, "GTC", "ENTRY")
    assert grant.token == f"{make.POLY}/yes"
    assert grant.send_by_ns == make.START_NS + 500_000_000
    assert grant.salt < 2**53
    assert grant.timestamp_ms == make.START_NS // 1_000_000
    # By hand: 10 at .40 is 4.00; fee .04 x 10 x .24 = .096 and half of 1e-5 for each of ten fills.
    assert log.ledger("polymarket:main").reserved_e6 == 4_000_000 + 96_050
    # 10 short at .50 cost 5.00; fee .07 x 10 x .25 = .175, with the slack of ten fills up to the cent: .18.
    assert log.ledger("kalshi:main").reserved_e6 == 5_000_000 + 180_000
    assert log.last(Saga).state == "FIRST_LEG"


def test_full_fill_of_both_legs_ends_done_with_exact_cash(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.submitting(first)
    follows = log.done(first, 10 * ONE, 4_000, fee=96_000)
    second = next(record for record in follows if isinstance(record, Grant))
    assert (second.account, second.side, second.outcome, second.token) == ("kalshi:main", "SELL", "NONE", "")
    assert (second.price, second.size, second.time_in_force, second.purpose) == (5_000, 10 * ONE, "IOC", "HEDGE")
    assert second.send_by_ns == log.now_ns + 500_000_000
    log.done(second, 10 * ONE, 5_000, fee=175_000)
    saga = log.last(Saga)
    assert (saga.state, saga.reason, saga.filled_first, saga.filled_second) == ("DONE", "FILLED", 10 * ONE, 10 * ONE)
    poly, kalshi = log.ledger("polymarket:main"), log.ledger("kalshi:main")
    assert (poly.cash_e6, poly.reserved_e6, poly.fees_e6) == (1_000_000_000 - 4_000_000 - 96_000, 0, 96_000)
    # Selling 10 at .50 brings 5.00, being short 10 takes 10.00.
    assert (kalshi.cash_e6, kalshi.reserved_e6, kalshi.fees_e6) == (1_000_000_000 - 5_000_000 - 175_000, 0, 175_000)
    assert log.ledger(f"polymarket:main|{make.POLY}|YES").size == 10 * ONE
    assert log.ledger(f"kalshi:main|{make.KALSHI}|YES").size == -10 * ONE


def test_every_clock_beats_for_every_account(make):
    log = make.accounts().start()
    beats = [record for record in log.clock() if isinstance(record, Beat)]
    assert {(beat.account, beat.now_ns) for beat in beats} == {
        ("kalshi:main", log.now_ns),
        ("polymarket:main", log.now_ns),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda make, log: log.feed(make.limit(state="HALTED")), "HALTED"),
        (lambda make, log: log.feed(make.limit(state="REDUCING")), "REDUCING"),
        (lambda make, log: log.feed(make.limit(order_notional_max_e6=4_999_999)), "ORDER_NOTIONAL"),
        (lambda make, log: log.feed(make.limit(market_notional_max_e6=4_999_999)), "MARKET_NOTIONAL"),
        (lambda make, log: log.feed(make.limit(open_sagas_max=0)), "SAGAS"),
        (lambda make, log: log.feed(make.link(version=2, status="SUSPENDED")), "LINK_SUSPENDED"),
        (lambda make, log: log.feed(make.link(version=2, expires_ts_ns=log.now_ns)), "LINK_NOT_APPROVED"),
        (lambda make, log: log.feed(make.instrument(make.POLY, status="CLOSED")), "NOT_OPEN"),
        (lambda make, log: log.feed(make.instrument(make.POLY, close_ts_ns=log.now_ns)), "NOT_OPEN"),
        (lambda make, log: log.feed(make.instrument(make.POLY, fee_model="UNKNOWN")), "UNKNOWN_INSTRUMENT"),
        (lambda make, log: log.feed(make.instrument(make.KALSHI, tick_step=[300])), "OFF_GRID"),
        (lambda make, log: log.feed(make.profile("kalshi", capital_e6=5_179_999)), "CAPITAL"),
        (lambda make, log: log.alive("kalshi:main", ready=False), "NOT_READY"),
        (lambda make, log: log.clock(2_000), "OFF_TIME"),
        (lambda make, log: log.clock(501), "LATE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_intent_is_refused_with_its_reason_and_reserves_nothing(make, change, reason):
    log = make.accounts().start()
    change(make, log)
    follows = log.feed(make.intent())
    assert [(type(record), record.state, record.reason) for record in follows] == [(Saga, "REFUSED", reason)]
    assert log.task.reserved_e6() == 0


def test_without_a_limit_record_nothing_is_granted(make):
    log = make.accounts()
    for record in (make.link(), make.instrument(make.KALSHI), make.instrument(make.POLY)):
        log.feed(record)
    log.feed(make.profile("kalshi"))
    log.feed(make.profile("polymarket"))
    assert log.feed(make.intent())[0].reason == "NO_LIMIT"


def test_without_a_report_of_the_account_nothing_is_granted(make):
    log = make.accounts()
    for record in (make.link(), make.instrument(make.KALSHI), make.instrument(make.POLY), make.limit()):
        log.feed(record)
    log.feed(make.profile("kalshi"))
    log.feed(make.profile("polymarket"))
    log.alive("kalshi:main")
    log.alive("polymarket:main")
    assert log.feed(make.intent())[0].reason == "NO_REPORT"


def test_gateway_that_is_silent_for_two_seconds_gets_no_grant(make):
    log = make.accounts().start()
    log.clock(2_000)
    late = make.intent(now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    assert log.feed(late)[0].reason == "NOT_READY"


def test_capital_that_suffices_exactly_is_enough(make):
    log = make.accounts().start()
    log.feed(make.profile("kalshi", capital_e6=5_180_000))
    assert isinstance(log.feed(make.intent())[0], Grant)


def test_second_intent_of_the_strategy_on_the_link_is_refused_while_the_first_is_open(make):
    log = make.accounts().start()
    log.feed(make.intent())
    assert log.feed(make.intent(id="intent-2"))[0].reason == "OPEN_SAGA"


def test_another_strategy_gets_only_what_is_left_of_a_level(make):
    log = make.accounts().start()
    log.feed(make.intent())
    same_level = make.intent(id="intent-2", strategy="arb-2")
    assert log.feed(same_level)[0].reason == "TAKEN"
    deeper = make.intent(
        id="intent-3",
        strategy="arb-2",
        legs=[
            make.leg(make.POLY, "BUY", [(4_000, 10 * ONE), (4_100, 7 * ONE)]),
            make.leg(make.KALSHI, "SELL", [(5_000, 10 * ONE), (4_900, 7 * ONE)]),
        ],
    )
    grant = log.feed(deeper)[0]
    assert (grant.price, grant.size) == (4_100, 7 * ONE)


def test_level_is_free_again_only_for_a_book_received_after_the_order_ended(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.clock(50)
    log.update(first, "CANCELLED", 0)
    ended_ns = log.now_ns
    assert log.last(Saga).state == "DONE"
    old_book = make.intent(id="intent-2", strategy="arb-2", now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    assert log.feed(old_book)[0].reason == "TAKEN"
    new_book = make.intent(
        id="intent-3",
        strategy="arb-2",
        now_ns=log.now_ns,
        recv_ts_ns=log.now_ns,
        legs=[make.replace(leg, recv_ts_ns=ended_ns + 1) for leg in make.intent().legs],
    )
    assert isinstance(log.feed(new_book)[0], Grant)


def test_order_that_would_cross_our_own_planned_order_is_refused(make):
    log = make.accounts().start()
    log.feed(make.intent())
    # The open saga will sell YES on Kalshi at .50; buying there at .52 would meet it.
    crossing = make.intent(
        id="intent-2",
        strategy="arb-2",
        legs=[
            make.leg(make.POLY, "SELL", [(6_000, 10 * ONE)]),
            make.leg(make.KALSHI, "BUY", [(5_200, 10 * ONE)]),
        ],
    )
    assert log.feed(crossing)[0].reason == "SELF_CROSS"


def test_losing_intent_is_refused_whatever_it_says_of_its_profit(make):
    log = make.accounts().start()
    losing = make.intent(
        profit_e6=10**9,
        legs=[make.leg(make.POLY, "BUY", [(5_000, 10 * ONE)]), make.leg(make.KALSHI, "SELL", [(5_000, 10 * ONE)])],
    )
    assert log.feed(losing)[0].reason == "NO_PROFIT"


def test_accepted_first_leg_that_is_not_full_is_cancelled_once_and_its_fill_sizes_the_second(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.fill(first, 6 * ONE, 4_000)
    cancels = [record for record in log.update(first, "ACCEPTED", 6 * ONE) if isinstance(record, Cancel)]
    assert [(cancel.order, cancel.account) for cancel in cancels] == [(first.id, "polymarket:main")]
    assert not [record for record in log.update(first, "ACCEPTED", 6 * ONE + 1) if isinstance(record, Cancel)]
    assert len(log.all(Grant)) == 1
    # The terminal figure says 7: the second leg waits for the fill that is missing.
    log.update(first, "CANCELLED", 7 * ONE)
    assert len(log.all(Grant)) == 1
    assert log.ledger("polymarket:main").reserved_e6 > 0
    log.fill(first, 1 * ONE, 4_000)
    assert log.last(Grant).size == 7 * ONE
    log.done(log.last(Grant), 7 * ONE, 5_000)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "UNDERFILLED")
    assert log.task.reserved_e6() == 0


@pytest.mark.parametrize("status", ["REJECTED", "EXPIRED_UNSENT", "CANCELLED"])
def test_first_leg_that_never_fills_ends_the_saga(make, status):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.update(first, status, 0)
    expected = {"CANCELLED": "NOT_FILLED"}.get(status, status)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", expected)
    assert log.task.reserved_e6() == 0


def test_unknown_outcome_keeps_everything_reserved_however_long_it_takes(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    reserved = log.task.reserved_e6()
    log.submitting(first)
    log.update(first, "OUTCOME_UNKNOWN", 0)
    for _ in range(100):
        log.clock(1_000)
    assert log.task.reserved_e6() == reserved
    log.alive("kalshi:main")
    log.done(first, 10 * ONE, 4_000)
    assert log.last(Grant).purpose == "HEDGE"


def test_expired_unsent_counts_only_from_the_writer_of_submitting(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.submitting(first, writer="gw-1")
    log.update(first, "EXPIRED_UNSENT", 0, writer="gw-2", event_id="other")
    assert log.last(Saga).state == "FIRST_LEG"
    log.update(first, "EXPIRED_UNSENT", 0, writer="gw-1")
    assert log.last(Saga).state == "DONE"


def test_underfilled_second_leg_is_retried_at_a_worse_price_then_the_excess_is_unwound(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, fee=96_000, name="p1")
    hedge = log.last(Grant)
    log.done(hedge, 2 * ONE, 5_000)
    retry = log.last(Grant)
    assert (retry.purpose, retry.attempt, retry.size, retry.side) == ("HEDGE", 2, 8 * ONE, "SELL")
    # Five cents of slip; at .45 it still gains, so no budget is needed.
    assert retry.price == 4_500
    log.done(retry, 1 * ONE, 4_500)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("UNWINDING", "WAITS_FOR_CONFIRMATION")
    assert log.last(Grant) is retry
    log.alive("polymarket:main")
    log.settle(first, "p1")
    log.clock()
    unwind = log.last(Grant)
    assert (unwind.purpose, unwind.account, unwind.size) == ("UNWIND", "polymarket:main", 7 * ONE)
    assert (unwind.side, unwind.outcome, unwind.token_side) == ("SELL", "YES", "SELL")
    # By hand: 7 bought at .40 cost 2.80 of which 2.00 may be lost; five cents of slip end it at .35.
    assert unwind.price == 3_500
    log.done(unwind, 7 * ONE, 3_600)
    saga = log.last(Saga)
    assert (saga.state, saga.reason, saga.unwound) == ("DONE", "UNWOUND", 7 * ONE)
    assert log.task.reserved_e6() == 0
    assert log.ledger(f"polymarket:main|{make.POLY}|YES").size == 3 * ONE
    assert log.ledger(f"kalshi:main|{make.KALSHI}|YES").size == -3 * ONE


def test_excess_that_cannot_be_sold_within_the_budget_is_held_and_said(make):
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=0))
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, name="p1")
    log.settle(first, "p1")
    log.update(log.last(Grant), "CANCELLED", 0)
    log.update(log.last(Grant), "CANCELLED", 0)
    saga = log.last(Saga)
    assert (saga.state, saga.reason) == ("HOLDING", "OVER_BUDGET")
    assert log.task.reserved_e6() == 0


def _late_hedge(make):
    """Ten bought at .40 against ten sold at .44, with 40 cents to spend on what goes wrong; the hedge found nothing."""
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=400_000))
    legs = [make.leg(make.POLY, "BUY", [(4_000, 10 * ONE)]), make.leg(make.KALSHI, "SELL", [(4_400, 10 * ONE)])]
    first = log.feed(make.intent(legs=legs))[0]
    log.done(first, 10 * ONE, 4_000, fee=96_000, name="p1")
    log.settle(first, "p1")
    log.update(log.last(Grant), "CANCELLED", 0)
    retry = log.last(Grant)
    # By hand: 4.096 paid, .61 x 10 to sell at .39, a fee of .17 and its slack: .37 is lost, .47 a cent further.
    assert (retry.purpose, retry.price, retry.size) == ("HEDGE", 3_900, 10 * ONE)
    return log, retry


def test_budget_of_an_order_that_found_nothing_is_there_for_the_next(make):
    log, retry = _late_hedge(make)
    log.update(retry, "CANCELLED", 0)
    unwind = log.last(Grant)
    # By hand: ten at .37 bring .30 less than they cost and .093 are the fee; a cent further would be .40 without it.
    assert (unwind.purpose, unwind.price, unwind.size) == ("UNWIND", 3_700, 10 * ONE)
    log.update(unwind, "CANCELLED", 0)
    again = log.last(Grant)
    assert again.id != unwind.id
    assert (again.purpose, again.price, again.size) == ("UNWIND", 3_700, 10 * ONE)
    log.done(again, 10 * ONE, 3_700)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "UNWOUND")


def test_budget_of_the_part_that_was_filled_stays_spent(make):
    log, retry = _late_hedge(make)
    log.done(retry, 5 * ONE, 3_900)
    unwind = log.last(Grant)
    # Half of .37 is spent: of the .40 there are .21 left for five: 3 cents each (.15) and a fee of .047.
    assert (unwind.purpose, unwind.price, unwind.size) == ("UNWIND", 3_700, 5 * ONE)


def test_excess_below_the_venues_minimum_is_held_and_said(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, name="p1")
    log.settle(first, "p1")
    log.done(log.last(Grant), 8 * ONE, 5_000)
    log.update(log.last(Grant), "CANCELLED", 0)
    # Two contracts at .35 are worth less than the venue's dollar.
    saga = log.last(Saga)
    assert (saga.state, saga.reason) == ("HOLDING", "BELOW_MINIMUM")


def test_hedge_whose_gateway_stays_silent_gives_way_to_unwinding(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.alive("kalshi:main", ready=False)
    log.done(first, 10 * ONE, 4_000, name="p1")
    log.settle(first, "p1")
    assert (log.last(Saga).state, log.last(Saga).reason) == ("SECOND_LEG", "WAITS_FOR_GATEWAY")
    for _ in range(31):
        log.alive("polymarket:main")
        log.clock()
    assert log.last(Grant).purpose == "UNWIND"


def test_refused_hedge_is_said_again_after_a_pause(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, name="p1")
    hedge = log.last(Grant)
    log.update(hedge, "REJECTED", 0, reason="gateway: the book is STALE")
    assert log.last(Grant) is hedge
    assert log.last(Saga).reason == "WAITS_FOR_PAUSE"
    log.clock(100)
    assert log.last(Grant) is hedge
    log.clock(200)
    again = log.last(Grant)
    assert (again.purpose, again.attempt, again.price, again.size) == ("HEDGE", 2, 5_000, 10 * ONE)
    assert again.id != hedge.id


def test_refusal_of_another_gateway_than_the_writer_of_submitting_does_not_count(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.submitting(first, writer="gw-1")
    log.update(first, "REJECTED", 0, writer="gw-2", reason="gateway: late")
    assert log.last(Saga).state == "FIRST_LEG"


def test_failed_settlement_reverses_the_fill_and_reopens_the_saga(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, fee=96_000, name="p1")
    log.done(log.last(Grant), 10 * ONE, 5_000, fee=175_000)
    assert log.last(Saga).state == "DONE"
    log.settle(first, "p1", "FAILED")
    assert log.ledger("polymarket:main").cash_e6 == 1_000_000_000
    assert log.ledger("polymarket:main").fees_e6 == 0
    assert log.ledger(f"polymarket:main|{make.POLY}|YES").size == 0
    unwind = log.last(Grant)
    assert (unwind.account, unwind.side, unwind.size, unwind.purpose) == ("kalshi:main", "BUY", 10 * ONE, "UNWIND")
    assert log.last(Saga).state == "UNWINDING"
    log.done(unwind, 10 * ONE, 5_100, fee=0)
    assert (log.last(Saga).state, log.last(Saga).reason) == ("DONE", "SETTLEMENT_FAILED")
    # Sold at .50, bought back at .51.
    assert log.ledger("kalshi:main").cash_e6 == 1_000_000_000 - 175_000 - 100_000
    assert log.task.reserved_e6() == 0


def test_late_fill_of_a_cancelled_order_is_booked_and_hedged(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    log.update(first, "CANCELLED", 0)
    assert log.last(Saga).state == "DONE"
    log.fill(first, 10 * ONE, 4_000)
    assert log.last(Grant).purpose == "HEDGE"
    assert log.last(Saga).state == "SECOND_LEG"


def test_halt_cancels_what_is_open(make):
    log = make.accounts().start()
    first = log.feed(make.intent())[0]
    cancels = [record for record in log.feed(make.limit(state="HALTED")) if isinstance(record, Cancel)]
    assert [cancel.order for cancel in cancels] == [first.id]


def test_other_partitions_account_sets_are_left_alone(make):
    other = make.accounts(partition=1, partitions=2)
    mine = make.accounts(partition=0, partitions=2)
    for log in (other, mine):
        log.start()
        log.feed(make.intent())
        log.clock()
    assert sorted([len(other.all(Grant)), len(mine.all(Grant))]) == [0, 1]
    assert sorted([len(other.all(Beat)), len(mine.all(Beat))]) == [0, 2]
