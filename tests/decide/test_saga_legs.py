"""Sagas of one and of many legs over the accounts' log: order, sizes, what is taken back, exits."""

import pytest

from core.runtime.flow import TaskContext
from decide.accounts import AccountsTask
from decide.saga import End, LegState, Saga
from decide.saga_steps import advance
from schemas.decision import Grant, Ruling
from schemas.decision import Saga as SagaRecord
from tests.decide.events import ONE, A, B, C, buy_all, event, started
from tests.decide.test_saga import leg, order

# --- many legs


def test_legs_go_one_after_the_other_and_money_for_all_is_reserved_first(make):
    log = started(make)
    log.feed(buy_all(make))
    first = log.last(Grant)
    assert (first.instrument, first.purpose, first.leg) == (A, "ENTRY", 0)
    # By hand: 10 at .30 on each; fees .04 x 10 x .21 with ten half units, and twice .07 x 10 x .21 up to the cent.
    assert log.ledger("polymarket:main").reserved_e6 == 3_000_000 + 84_050
    assert log.ledger("kalshi:main").reserved_e6 == 2 * (3_000_000 + 150_000)
    log.done(first, 10 * ONE, 3_000)
    second = log.last(Grant)
    assert (second.instrument, second.purpose, second.leg, second.size) == (B, "HEDGE", 1, 10 * ONE)
    log.done(second, 10 * ONE, 3_000)
    third = log.last(Grant)
    assert (third.instrument, third.purpose, third.leg, third.size) == (C, "HEDGE", 2, 10 * ONE)
    assert log.last(SagaRecord).state == "SECOND_LEG"
    log.done(third, 10 * ONE, 3_000)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason) == ("DONE", "FILLED")
    assert saga.filled_e6 == saga.standing_e6 == [10 * ONE] * 3
    assert log.task.reserved_e6() == 0
    assert len(log.all(Grant)) == 3


def test_each_later_leg_is_sized_by_what_stands_on_all_before_it(make):
    log = started(make)
    log.feed(buy_all(make))
    log.done(log.last(Grant), 8 * ONE, 3_000)
    assert log.last(Grant).size == 8 * ONE
    # By hand: what is left to reserve at Kalshi are 8 of each leg, not 10.
    assert log.ledger("kalshi:main").reserved_e6 == 2 * (2_400_000 + 120_000)
    log.done(log.last(Grant), 8 * ONE, 3_000)
    assert (log.last(Grant).instrument, log.last(Grant).size) == (C, 8 * ONE)
    log.done(log.last(Grant), 8 * ONE, 3_000)
    assert (log.last(SagaRecord).state, log.last(SagaRecord).reason) == ("DONE", "UNDERFILLED")


def test_leg_given_up_bounds_those_after_it_and_the_rest_is_taken_back(make):
    log = started(make)
    log.feed(buy_all(make))
    log.done(log.last(Grant), 10 * ONE, 3_000, name="p1")
    log.settle(log.all(Grant)[0], "p1")
    log.done(log.last(Grant), 2 * ONE, 3_000)
    retry = log.last(Grant)
    # By hand: 9 of cost for 10 leave 1.00 and the budget of 2.00 for 8 contracts: five cents of slip are well within.
    assert (retry.instrument, retry.attempt, retry.size, retry.price) == (B, 2, 8 * ONE, 3_500)
    log.done(retry, 4 * ONE, 3_400)
    third = log.last(Grant)
    assert (third.instrument, third.purpose, third.size) == (C, "HEDGE", 6 * ONE)
    log.done(third, 6 * ONE, 3_000)
    unwind = log.last(Grant)
    assert (unwind.instrument, unwind.purpose, unwind.side, unwind.size) == (A, "UNWIND", "SELL", 4 * ONE)
    log.done(unwind, 4 * ONE, 2_900)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.unwound) == ("DONE", "UNWOUND", 4 * ONE)
    assert saga.filled_e6 == [10 * ONE, 6 * ONE, 6 * ONE]
    assert saga.standing_e6 == [6 * ONE] * 3
    assert log.task.reserved_e6() == 0


def test_last_leg_that_finds_nothing_has_all_before_it_taken_back(make):
    log = started(make)
    log.feed(buy_all(make))
    log.done(log.last(Grant), 10 * ONE, 3_000, name="p1")
    log.done(log.last(Grant), 10 * ONE, 3_000)
    log.update(log.last(Grant), "CANCELLED", 0)
    log.update(log.last(Grant), "CANCELLED", 0)
    # What Polymarket sold us is not confirmed: the other leg does not wait for it.
    unwind = log.last(Grant)
    assert (unwind.instrument, unwind.purpose, unwind.side) == (B, "UNWIND", "SELL")
    log.done(unwind, 10 * ONE, 2_900)
    assert log.last(SagaRecord).reason == "WAITS_FOR_CONFIRMATION"
    log.settle(log.all(Grant)[0], "p1")
    log.alive("polymarket:main")
    assert (log.last(Grant).instrument, log.last(Grant).purpose) == (A, "UNWIND")
    log.done(log.last(Grant), 10 * ONE, 2_900)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6) == ("DONE", "UNWOUND", [0, 0, 0])
    assert log.task.reserved_e6() == 0


def test_legs_taken_back_together_share_one_budget(make):
    log = started(make, limits=make.limit(unwind_budget_e6=600_000))
    log.feed(buy_all(make))
    for number in range(3):
        log.done(log.last(Grant), 10 * ONE, 3_000, name=f"p{number}")
    log.settle(log.all(Grant)[0], "p0", "FAILED")
    first, second = log.all(Grant)[3:]
    # By hand: .30 for the first. Ten at .29 lose .10 and a fee of .15; a cent further would be .20 and .15.
    assert (first.price, first.size) == (2_900, 10 * ONE)
    # And .35 are left for the second: at .28 it may lose those .20 and .15.
    assert (second.price, second.size) == (2_800, 10 * ONE)
    log.update(first, "CANCELLED", 0)
    # What found nothing is there again, but what is out holds its .35.
    assert (log.last(Grant).instrument, log.last(Grant).price) == (B, 2_900)
    log.done(second, 10 * ONE, 2_800)
    log.done(log.last(Grant), 10 * ONE, 2_900)
    assert (log.last(SagaRecord).state, log.last(SagaRecord).reason) == ("DONE", "SETTLEMENT_FAILED")


def test_budget_too_small_to_share_takes_one_leg_back(make):
    log = started(make, limits=make.limit(unwind_budget_e6=200_000))
    log.feed(buy_all(make))
    for number in range(3):
        log.done(log.last(Grant), 10 * ONE, 3_000, name=f"p{number}")
    log.settle(log.all(Grant)[0], "p0", "FAILED")
    # By hand: .10 does not pay the fee of .15 at .30, .20 does.
    (alone,) = log.all(Grant)[3:]
    assert (alone.instrument, alone.price) == (B, 3_000)
    log.done(alone, 10 * ONE, 3_000)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6) == ("HOLDING", "OVER_BUDGET", [0, 0, 10 * ONE])


def test_each_leg_has_its_own_time_to_be_granted(make):
    log = started(make)
    log.feed(buy_all(make))
    log.done(log.last(Grant), 10 * ONE, 3_000)
    second = log.last(Grant)
    log.clock(2_900)
    log.alive("kalshi:main", ready=False)
    log.done(second, 10 * ONE, 3_000)
    assert log.last(SagaRecord).reason == "WAITS_FOR_GATEWAY"
    # Three seconds from when the second leg was due are over; the third was due only now.
    log.clock(200)
    log.alive("kalshi:main")
    log.clock(100)
    assert (log.last(Grant).instrument, log.last(Grant).purpose) == (C, "HEDGE")


def test_failed_settlement_of_the_first_leg_takes_back_all_others(make):
    log = started(make)
    log.feed(buy_all(make))
    for number in range(3):
        log.done(log.last(Grant), 10 * ONE, 3_000, name=f"p{number}")
    assert log.last(SagaRecord).state == "DONE"
    log.settle(log.all(Grant)[0], "p0", "FAILED")
    # Nothing of one leg depends on the other any more: both leave at once.
    unwinds = log.all(Grant)[3:]
    assert [(one.instrument, one.purpose, one.size) for one in unwinds] == [
        (B, "UNWIND", 10 * ONE),
        (C, "UNWIND", 10 * ONE),
    ]
    log.done(unwinds[1], 10 * ONE, 3_000)
    assert log.last(SagaRecord).state == "UNWINDING"
    log.done(unwinds[0], 10 * ONE, 3_000)
    assert len(log.all(Grant)) == 5
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6) == ("DONE", "SETTLEMENT_FAILED", [0, 0, 0])


def test_own_planned_leg_of_any_place_is_not_crossed(make):
    log = started(make)
    log.feed(buy_all(make))
    # The open saga will buy C at .30; selling there at .28 would meet it.
    crossing = make.intent(
        id="other",
        strategy="m",
        link=C,
        legs=[make.leg(C, "SELL", [(2_800, 10 * ONE)])],
    )
    assert log.feed(crossing)[0].reason == "SELF_CROSS"


# --- a human's word


def held_over_budget(make):
    """Ten bought at .40 and confirmed, nothing sold against them, no budget to take them back."""
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=0))
    first = log.feed(make.intent())[0]
    log.done(first, 10 * ONE, 4_000, name="p1")
    log.settle(first, "p1")
    log.update(log.last(Grant), "CANCELLED", 0)
    log.update(log.last(Grant), "CANCELLED", 0)
    assert (log.last(SagaRecord).state, log.last(SagaRecord).reason) == ("HOLDING", "OVER_BUDGET")
    return log


def ruling(log, action, *, ts_ns=0, **changes):
    fields = dict(
        id="ruling|intent-1",
        saga="intent-1",
        account_set="main",
        action=action,
        set_by="a human",
        reason="test",
        ts_ns=ts_ns or log.now_ns,
    )
    return log.feed(Ruling(**{**fields, **changes}))


def test_what_is_held_by_approval_is_done_until_it_changes(make):
    log = held_over_budget(make)
    (saga,) = ruling(log, "HOLD")
    assert (saga.state, saga.reason, saga.standing_e6) == ("DONE", "HELD", [10 * ONE, 0])
    # A late fill of the second leg is not what was approved: it is taken from what exceeds.
    late = log.all(Grant)[1]
    log.fill(late, 4 * ONE, 5_000)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6) == ("HOLDING", "OVER_BUDGET", [10 * ONE, 4 * ONE])
    assert log.task.reserved_e6() == 0


def test_unwinding_begins_anew_with_the_budget_and_the_slip_a_human_gave(make):
    log = held_over_budget(make)
    log.alive("polymarket:main")
    ruling(log, "UNWIND", budget_e6=1_200_000, slip_e4=1_500)
    unwind = log.last(Grant)
    # By hand: ten from .40 to .29 lose 1.10 and .083 are the fee; a cent further would be 1.20 and the fee.
    assert (unwind.purpose, unwind.price, unwind.size) == ("UNWIND", 2_900, 10 * ONE)
    log.done(unwind, 10 * ONE, 3_100)
    assert (log.last(SagaRecord).state, log.last(SagaRecord).reason) == ("DONE", "UNWOUND")
    assert log.task.reserved_e6() == 0


def test_successor_knows_what_was_approved(make):
    log = held_over_budget(make)
    ruling(log, "HOLD")
    for cut in (len(log.items) - 1, len(log.items)):
        first, second = (AccountsTask(TaskContext(incarnation=77)) for _ in range(2))
        outputs = [output for item in log.items[:cut] for output in first.handle(item)]
        second.restore(list(first.changed()))
        outputs += [output for item in log.items[cut:] for output in second.handle(item)]
        assert outputs == log.outputs
        assert second._state.sets["main"].sagas["intent-1"].state == "DONE"
        assert second._state.sets["main"].sagas["intent-1"].held == (10 * ONE, 0)


def test_word_that_is_old_or_comes_too_early_changes_nothing(make):
    log = make.accounts().start()
    log.feed(make.intent())
    assert ruling(log, "HOLD") == []
    assert ruling(log, "HOLD", saga="unheard of") == []
    log = held_over_budget(make)
    said_ns = log.now_ns
    ruling(log, "UNWIND", ts_ns=said_ns)
    assert log.last(SagaRecord).state == "HOLDING"
    grants = len(log.all(Grant))
    assert ruling(log, "UNWIND", ts_ns=said_ns, budget_e6=10 * ONE) == []
    assert len(log.all(Grant)) == grants


# --- what an event's intent must be


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(exhaustive=False), "NO_PROFIT"),
        (dict(void_e6=250_000), "NO_PROFIT"),
        (dict(names=(A, B)), "MALFORMED"),
        (dict(cap_e6=9_000_000), "LINK_CAP"),
        (dict(status="SUSPENDED"), "LINK_SUSPENDED"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_event_is_held_against_its_table(make, change, reason):
    log = started(make)
    log.feed(event(make, version=2, **change))
    assert log.feed(buy_all(make))[0].reason == reason
    assert log.task.reserved_e6() == 0


def test_weak_state_counts_as_its_haircut_up_to_the_cap(make):
    log = started(make)
    log.feed(event(make, version=2, void_e6=250_000, weak_states=["void"], haircut_e6=20_000, cap_e6=20 * ONE))
    assert isinstance(log.feed(buy_all(make))[0], Grant)
    dear = started(make)
    # By hand: .90 and fees of .384 for ten; a haircut of .062 a contract leaves less than that.
    dear.feed(event(make, version=2, void_e6=250_000, weak_states=["void"], haircut_e6=62_000, cap_e6=20 * ONE))
    assert dear.feed(buy_all(make))[0].reason == "NO_PROFIT"


def test_cap_counts_what_the_links_instruments_bind_already(make):
    log = started(make)
    log.feed(event(make, version=2, cap_e6=10 * ONE))
    log.feed(buy_all(make))
    for _ in range(3):
        log.done(log.last(Grant), 10 * ONE, 3_000)
    again = buy_all(make, id="event-2", now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    again = make.replace(again, legs=[make.replace(leg, recv_ts_ns=log.now_ns + 1) for leg in again.legs])
    assert log.feed(again)[0].reason == "LINK_CAP"


def test_two_outcomes_of_an_event_may_be_sold_without_the_third(make):
    log = started(make)
    log.feed(event(make, version=2, exhaustive=False))
    legs = [make.leg(A, "SELL", [(6_000, 10 * ONE)]), make.leg(B, "SELL", [(5_500, 10 * ONE)])]
    grant = log.feed(buy_all(make, legs=legs))[0]
    # Selling YES opens by buying NO.
    assert (grant.instrument, grant.side, grant.outcome, grant.token_side) == (A, "SELL", "NO", "BUY")


def test_same_instrument_twice_is_malformed(make):
    log = started(make)
    twice = [make.leg(A, "BUY", [(3_000, 10 * ONE)]), make.leg(A, "BUY", [(2_900, 10 * ONE)])]
    assert log.feed(buy_all(make, legs=twice))[0].reason == "MALFORMED"


# --- one leg


def one(make, name, side, price, size=10 * ONE, *, reduces=False, **changes):
    legs = [make.leg(name, side, [(price, size)], reduces=reduces)]
    return make.intent(**{**dict(id="one-1", strategy="mo-1", link=name, legs=legs, profit_e6=0), **changes})


@pytest.mark.parametrize(("filled", "reason"), [(10, "FILLED"), (4, "UNDERFILLED"), (0, "NOT_FILLED")])
def test_entry_alone_ends_with_what_it_filled(make, filled, reason):
    log = make.accounts().start()
    grant = log.feed(one(make, make.KALSHI, "BUY", 4_000))[0]
    assert (grant.purpose, grant.side, grant.size) == ("ENTRY", "BUY", 10 * ONE)
    if filled:
        log.done(grant, filled * ONE, 4_000)
    else:
        log.update(grant, "CANCELLED", 0)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6) == ("DONE", reason, [filled * ONE])
    assert len(log.all(Grant)) == 1
    assert log.task.reserved_e6() == 0


@pytest.mark.parametrize("name", ["KALSHI", "POLY"])
def test_exit_closes_what_is_held_and_reserves_nothing_for_it(make, name):
    name = getattr(make, name)
    log = make.accounts().start()
    entry = log.feed(one(make, name, "BUY", 4_000))[0]
    log.done(entry, 10 * ONE, 4_000, name="e1")
    log.settle(entry, "e1")
    held = log.ledger(f"{entry.account}|{name}|YES").size
    exit_ = log.feed(one(make, name, "SELL", 4_500, reduces=True, id="one-2"))[0]
    assert (held, exit_.purpose, exit_.side, exit_.token_side) == (10 * ONE, "UNWIND", "SELL", "SELL")
    assert log.ledger(entry.account).reserved_e6 < 200_000  # a fee at the most
    log.done(exit_, 10 * ONE, 4_500)
    saga = log.last(SagaRecord)
    assert (saga.state, saga.reason, saga.standing_e6, saga.unwound) == ("DONE", "FILLED", [10 * ONE], 0)
    assert log.ledger(entry.account).cash_e6 == 1_000 * ONE + 500_000
    assert log.ledger(f"{entry.account}|{name}|YES").size == 0
    assert log.task.reserved_e6() == 0


def test_short_position_is_closed_by_buying_back(make):
    log = make.accounts().start()
    log.done(log.feed(one(make, make.POLY, "SELL", 6_000))[0], 10 * ONE, 6_000, name="e1")
    log.settle(log.last(Grant), "e1")
    exit_ = log.feed(one(make, make.POLY, "BUY", 5_500, reduces=True, id="one-2"))[0]
    # Short YES is held as NO: it is closed by selling that.
    assert (exit_.outcome, exit_.token_side) == ("NO", "SELL")
    log.done(exit_, 10 * ONE, 5_500)
    assert log.ledger("polymarket:main").cash_e6 == 1_000 * ONE + 500_000


def test_exit_of_more_than_is_held_confirmed_and_free_is_refused(make):
    log = make.accounts().start()
    assert log.feed(one(make, make.KALSHI, "SELL", 4_500, reduces=True))[0].reason == "NOT_HELD"
    entry = log.feed(one(make, make.POLY, "BUY", 4_000, id="one-2"))[0]
    log.done(entry, 10 * ONE, 4_000, name="e1")
    assert log.feed(one(make, make.POLY, "SELL", 4_500, reduces=True, id="one-3"))[0].reason == "NOT_HELD"
    log.settle(entry, "e1")
    assert isinstance(log.feed(one(make, make.POLY, "SELL", 4_500, reduces=True, id="one-4"))[0], Grant)
    # What an open exit sells already is not there for another one.
    other = one(make, make.POLY, "SELL", 4_400, 5 * ONE, reduces=True, id="one-5", strategy="mo-2")
    assert log.feed(other)[0].reason == "NOT_HELD"


def test_while_reducing_an_exit_is_granted_and_an_entry_is_not(make):
    log = make.accounts().start()
    log.done(log.feed(one(make, make.KALSHI, "BUY", 4_000))[0], 10 * ONE, 4_000)
    log.feed(make.limit(state="REDUCING"))
    assert log.feed(one(make, make.KALSHI, "BUY", 4_100, id="one-2"))[0].reason == "REDUCING"
    assert isinstance(log.feed(one(make, make.KALSHI, "SELL", 4_500, reduces=True, id="one-3"))[0], Grant)


def test_leg_that_reduces_is_no_part_of_a_link(make):
    log = make.accounts().start()
    intent = make.intent()
    legs = [intent.legs[0], make.replace(intent.legs[1], reduces=True)]
    assert log.feed(make.replace(intent, legs=legs))[0].reason == "MALFORMED"


def test_directional_intent_needs_no_profit_but_all_else(make):
    log = make.accounts().start(limits=make.limit(order_notional_max_e6=3_999_999))
    assert log.feed(one(make, make.KALSHI, "BUY", 4_000))[0].reason == "ORDER_NOTIONAL"
    unknown = one(make, "kalshi:KX-9", "BUY", 4_000, id="one-2")
    assert log.feed(unknown)[0].reason == "UNKNOWN_INSTRUMENT"


# --- the arithmetic alone


def test_dust_on_one_leg_and_a_debt_on_another_is_held():
    legs = (leg(order("ENTRY", 10_005_000)), leg(order("HEDGE", 10_000_000)), leg(order("HEDGE", 10_000_000)))
    saga = Saga(intent=None, legs=legs, size=10_005_000, floor_e6=ONE, budget_e6=ONE)
    assert advance(saga, 1) == End("DONE", "DUST")
    legs[2].orders.append(order("UNWIND", 20_000_000))
    legs[1].orders.append(order("UNWIND", 10_000_000))
    legs[0].orders.append(order("UNWIND", 10_000_000))
    assert advance(saga, 1) == End("HOLDING", "OVERSOLD")


def test_blocked_leg_lets_another_go_first(make):
    legs = tuple(
        LegState(
            make.leg(name, "BUY", [(5_000, 10 * ONE)]),
            make.instrument(name),
            [order("ENTRY", 10_000_000), order("UNWIND", unwound)],
        )
        for name, unwound in ((B, 0), (C, 0), (make.KALSHI, 10_000_000))
    )
    saga = Saga(intent=None, legs=legs, size=10_000_000, floor_e6=ONE, budget_e6=100 * ONE)
    assert advance(saga, 1).leg == 0
    assert advance(saga, 1, {0}).leg == 1
    assert advance(saga, 1, {0, 1}).leg == 0


def test_leg_state_counts_an_exit_as_filled():
    state = LegState(None, None, [order("UNWIND", 5)], reduces=True)
    assert (state.entered, state.unwound, state.exposure) == (5, 0, 5)
