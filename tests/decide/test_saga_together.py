"""Sagas whose legs leave together: all entries in one turn or none; then completed, taken back, or held and said."""

import pytest

from core.runtime import topics
from core.runtime.flow import TaskContext
from decide.accounts import AccountsTask
from schemas.decision import Grant, Saga
from tests.decide.events import KALSHIS, ONE, buy_all, started

FIRST, SECOND, THIRD = KALSHIS


def wanted(make, **changes):
    return buy_all(make, names=KALSHIS, **{"leg_order": "TOGETHER", **changes})


def entered(make, *filled, **start):
    """Return the log and the three entries, of which so many contracts were filled at their limit."""
    log = started(make, KALSHIS, **start)
    log.feed(wanted(make))
    entries = log.all(Grant)
    for grant, contracts in zip(entries, filled, strict=False):
        answer(log, grant, contracts)
    return log, entries


def answer(log, grant, contracts, price=3_000):
    """Let a venue fill so many contracts, and take back what is left."""
    if contracts * ONE == grant.size:
        log.done(grant, grant.size, price)
        return
    if contracts:
        log.fill(grant, contracts * ONE, price)
    log.update(grant, "CANCELLED", contracts * ONE)


def later(log):
    """Return what was granted after the entries."""
    return log.all(Grant)[3:]


def ends(log):
    saga = log.last(Saga)
    return saga.state, saga.reason, [size // ONE for size in saga.standing_e6]


def test_all_entries_are_granted_in_one_turn_one_behind_the_other(make):
    log = started(make, KALSHIS)
    before = len(log.outputs)
    log.feed(wanted(make))
    first_three = log.outputs[before : before + 3]
    grants = [output.record for output in first_three]
    # Of one topic and key, so of one partition: a gateway reads them in one piece.
    assert {(output.topic.noun, output.key) for output in first_three} == {(topics.DECISION_ORDER.noun, "kalshi:main")}
    assert [(one.leg, one.instrument, one.purpose, one.attempt, one.size) for one in grants] == [
        (leg, name, "ENTRY", 1, 10 * ONE) for leg, name in enumerate(KALSHIS)
    ]
    # As old as the book they were decided on, all of them.
    assert {one.send_by_ns for one in grants} == {log.now_ns + 500_000_000}
    assert len({one.client_id for one in grants}) == 3
    # By hand: 10 at .30 and .07 x 10 x .21 up to the cent, three times.
    assert log.ledger("kalshi:main").reserved_e6 == 3 * (3_000_000 + 150_000)
    saga = log.last(Saga)
    assert (saga.state, saga.leg_order, saga.leg_order_reason) == ("FIRST_LEG", "TOGETHER", "AS_ASKED")


def test_all_filled_is_done(make):
    log, _ = entered(make, 10, 10, 10)
    assert ends(log) == ("DONE", "FILLED", [10, 10, 10])
    assert len(log.all(Grant)) == 3
    assert log.task.reserved_e6() == 0


def test_nothing_more_is_granted_until_every_entry_has_ended(make):
    log, entries = entered(make, 10, 0)
    assert later(log) == []
    # By hand: the first is paid, the third is out, and the second may still be completed at its limit.
    assert log.ledger("kalshi:main").reserved_e6 == 2 * (3_000_000 + 150_000)
    log.update(entries[2], "OUTCOME_UNKNOWN", 0)
    log.clock(10_000)
    log.alive("kalshi:main")
    assert later(log) == []
    answer(log, entries[2], 10)
    assert [(one.leg, one.purpose) for one in later(log)] == [(1, "HEDGE")]


def test_what_may_still_be_completed_stays_reserved_also_of_the_first_leg(make):
    log, entries = entered(make, 4)
    # By hand: six of the first may be completed at .30 and a fee of .09; the others are out.
    assert log.ledger("kalshi:main").reserved_e6 == (1_800_000 + 90_000) + 2 * (3_000_000 + 150_000)
    answer(log, entries[1], 4)
    log.alive("kalshi:main", ready=False)
    answer(log, entries[2], 6)
    # All is known: no leg will have more than six, so two of each other are all that may be asked for, at .30 and a fee
    # of .04: .07 x 2 x .21, a hundredth of a cent for each of ten executions, up to the cent.
    assert log.last(Saga).reason == "WAITS_FOR_GATEWAY"
    assert log.ledger("kalshi:main").reserved_e6 == 2 * (600_000 + 40_000)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_short_leg_is_completed_at_a_worse_price_whichever_it_is(make, short):
    filled = [10, 10, 10]
    filled[short] = 6
    log, _ = entered(make, *filled)
    (hedge,) = later(log)
    # By hand: four at .30 twice and at .35 cost 3.80, fees stay below .20: five cents of slip cost nothing yet.
    assert (hedge.leg, hedge.purpose, hedge.attempt, hedge.size, hedge.price) == (short, "HEDGE", 2, 4 * ONE, 3_500)
    assert hedge.send_by_ns == log.now_ns + 500_000_000
    answer(log, hedge, 4, 3_400)
    assert ends(log) == ("DONE", "FILLED", [10, 10, 10])
    assert log.task.reserved_e6() == 0


def test_short_leg_is_not_completed_beyond_the_budget(make):
    log = started(make, KALSHIS, limits=make.limit(unwind_budget_e6=40_000))
    log.feed(wanted(make, prices=(3_100, 3_200, 3_200)))
    for grant, contracts, fee in zip(log.all(Grant), (10, 10, 8), (150_000, 160_000, 130_000), strict=True):
        log.fill(grant, contracts * ONE, grant.price, fee=fee)
        log.update(grant, "FILLED" if contracts == 10 else "CANCELLED", contracts * ONE)
    (hedge,) = later(log)
    # By hand: two of each other leg cost 1.322 with their fees, so .678 are left and .04 of budget: .33 and a fee of
    # .04 are .70, a cent more on both is too much.
    assert (hedge.leg, hedge.size, hedge.price) == (2, 2 * ONE, 3_300)
    assert log.task._sets["main"].sagas["event-1"].budget_left_e6 == 40_000 - 22_000


def test_shortest_leg_is_completed_first_and_bounds_the_others_when_it_is_given_up(make):
    log, _ = entered(make, 10, 6, 2)
    (first,) = later(log)
    assert (first.leg, first.purpose, first.size) == (2, "HEDGE", 8 * ONE)
    answer(log, first, 1)
    # Three stand of the third leg and nothing more is to be had: both others go back to that, at once.
    unwinds = later(log)[1:]
    assert [(one.leg, one.purpose, one.side, one.size) for one in unwinds] == [
        (0, "UNWIND", "SELL", 7 * ONE),
        (1, "UNWIND", "SELL", 3 * ONE),
    ]
    for unwind in unwinds:
        answer(log, unwind, unwind.size // ONE)
    assert ends(log) == ("DONE", "UNWOUND", [3, 3, 3])
    assert log.task.reserved_e6() == 0


def test_two_short_legs_are_completed_one_after_the_other(make):
    log, _ = entered(make, 10, 6, 2)
    answer(log, later(log)[0], 8)
    second = later(log)[1]
    assert (second.leg, second.purpose, second.size) == (1, "HEDGE", 4 * ONE)
    answer(log, second, 4)
    assert ends(log) == ("DONE", "FILLED", [10, 10, 10])


def test_all_short_alike_is_underfilled_and_nothing_follows(make):
    log, _ = entered(make, 4, 4, 4)
    assert later(log) == []
    assert ends(log) == ("DONE", "UNDERFILLED", [4, 4, 4])


@pytest.mark.parametrize(
    ("status", "reason"),
    [("CANCELLED", "NOT_FILLED"), ("REJECTED", "REJECTED"), ("EXPIRED_UNSENT", "EXPIRED_UNSENT")],
)
def test_nothing_filled_is_done_and_says_why(make, status, reason):
    log, entries = entered(make)
    for grant in entries[:2]:
        log.update(grant, "CANCELLED", 0)
    log.update(entries[2], status, 0)
    assert ends(log) == ("DONE", reason, [0, 0, 0])
    assert later(log) == []
    assert log.task.reserved_e6() == 0


def test_refused_leg_beside_filled_ones_is_tried_at_its_limit_then_worse_then_all_is_taken_back(make):
    log, entries = entered(make, 10, 10)
    log.update(entries[2], "REJECTED", 0)
    assert log.last(Saga).reason == "WAITS_FOR_PAUSE"
    log.clock(400)
    log.alive("kalshi:main")
    (at_limit,) = later(log)
    assert (at_limit.leg, at_limit.purpose, at_limit.price, at_limit.size) == (2, "HEDGE", 3_000, 10 * ONE)
    answer(log, at_limit, 0)
    worse = later(log)[1]
    assert (worse.leg, worse.purpose, worse.price) == (2, "HEDGE", 3_500)
    answer(log, worse, 0)
    unwinds = later(log)[2:]
    assert [(one.leg, one.purpose) for one in unwinds] == [(0, "UNWIND"), (1, "UNWIND")]
    for unwind in unwinds:
        answer(log, unwind, 10, 2_900)
    assert ends(log) == ("DONE", "UNWOUND", [0, 0, 0])
    assert log.task.reserved_e6() == 0


def test_leg_refused_again_and_again_is_given_up(make):
    log, entries = entered(make, 10, 10)
    log.update(entries[2], "REJECTED", 0)
    for _ in range(30):
        log.clock(301)
        log.alive("kalshi:main")
        for grant in later(log):
            if grant.purpose == "HEDGE" and not log.task._sets["main"].orders.by_id[grant.id].terminal:
                log.update(grant, "REJECTED", 0)
    hedges = [one for one in later(log) if one.purpose == "HEDGE"]
    assert len(hedges) == 8
    assert [(one.leg, one.size) for one in later(log) if one.purpose == "UNWIND"] == [(0, 10 * ONE), (1, 10 * ONE)]


# --- all or none


def two_gateways(make):
    """Two accounts of one venue, each with a gateway of its own; one leg stands on the second."""
    log = started(make, KALSHIS)
    log.feed(make.profile("kalshi", id="kalshi:other"))
    log.report("kalshi:other", 1_000 * ONE)
    intent = wanted(make)
    legs = [*intent.legs[:2], make.replace(intent.legs[2], account="kalshi:other")]
    return log, make.replace(intent, legs=legs)


def test_gateway_that_is_silent_keeps_every_leg_back(make):
    log, intent = two_gateways(make)
    assert log.feed(intent)[0].reason == "NOT_READY"
    log.alive("kalshi:other")
    log.feed(make.replace(intent, id="event-2"))
    assert [grant.account for grant in log.all(Grant)] == ["kalshi:main", "kalshi:main", "kalshi:other"]


@pytest.mark.parametrize("state", ["HALTED", "REDUCING"])
def test_instrument_that_may_not_trade_keeps_every_leg_back(make, state):
    log = started(make, KALSHIS)
    log.feed(make.command(state, "INSTRUMENT", THIRD))
    assert log.feed(wanted(make))[0].reason == "STOPPED"
    assert log.all(Grant) == []
    assert log.task.reserved_e6() == 0


def test_money_for_two_legs_of_three_lets_none_leave(make):
    log = started(make, KALSHIS, cash=7 * ONE)
    assert log.feed(wanted(make))[0].reason == "CAPITAL"
    assert log.all(Grant) == []
    assert log.task.reserved_e6() == 0


def test_order_rate_counts_all_legs_and_lets_none_leave_beyond_it(make):
    log = started(make, KALSHIS)
    log.feed(make.budget("VENUE", "kalshi", orders_per_min=60, orders_burst=2))
    assert log.feed(wanted(make))[0].reason == "BUDGET_RATE"
    log.feed(make.budget("VENUE", "kalshi", orders_per_min=60, orders_burst=4))
    log.feed(wanted(make, id="event-2"))
    assert len(log.all(Grant)) == 3
    # One of four is left: another saga of three has to wait for two seconds.
    again = wanted(make, id="event-3", strategy="ex-2", prices=(2_900, 2_900, 2_900))
    assert log.feed(again)[0].reason == "BUDGET_RATE"


def test_own_order_in_the_way_of_one_leg_keeps_every_leg_back(make):
    log = started(make, KALSHIS)
    log.feed(make.intent(id="own", strategy="m", link=THIRD, legs=[make.leg(THIRD, "SELL", [(2_800, 10 * ONE)])]))
    assert log.feed(wanted(make))[0].reason == "SELF_CROSS"
    assert len(log.all(Grant)) == 1


# --- what happens meanwhile


def test_gateway_that_falls_silent_behind_the_entries_is_waited_for_and_then_all_is_taken_back(make):
    log, entries = entered(make, 10, 10)
    log.alive("kalshi:main", ready=False)
    answer(log, entries[2], 4)
    assert log.last(Saga).reason == "WAITS_FOR_GATEWAY"
    log.clock(2_900)
    assert later(log) == []
    log.clock(200)
    log.alive("kalshi:main")
    log.clock(100)
    # Beyond its time nothing is completed: what two legs have beyond the third goes back.
    assert [(one.leg, one.purpose, one.size) for one in later(log)] == [
        (0, "UNWIND", 6 * ONE),
        (1, "UNWIND", 6 * ONE),
    ]


def test_instrument_halted_meanwhile_is_not_completed(make):
    log, entries = entered(make, 10, 10)
    log.feed(make.command("HALTED", "INSTRUMENT", THIRD))
    answer(log, entries[2], 0)
    assert log.last(Saga).reason == "WAITS_FOR_HALTED"
    log.clock(3_100)
    log.alive("kalshi:main")
    log.clock(100)
    assert [(one.leg, one.purpose) for one in later(log)] == [(0, "UNWIND"), (1, "UNWIND")]
    for unwind in later(log):
        answer(log, unwind, 10, 2_900)
    assert ends(log) == ("DONE", "UNWOUND", [0, 0, 0])


def test_fill_that_is_taken_back_by_the_venue_opens_the_saga_again(make):
    log, entries = entered(make)
    log.done(entries[0], 10 * ONE, 3_000, name="gone")
    for grant in entries[1:]:
        log.done(grant, 10 * ONE, 3_000)
    assert ends(log) == ("DONE", "FILLED", [10, 10, 10])
    log.settle(entries[0], "gone", "FAILED")
    (hedge,) = later(log)
    assert (hedge.leg, hedge.purpose, hedge.size) == (0, "HEDGE", 10 * ONE)
    answer(log, hedge, 10, 3_200)
    assert ends(log) == ("DONE", "SETTLEMENT_FAILED", [10, 10, 10])
    assert log.task.reserved_e6() == 0


def test_late_fill_beyond_what_was_asked_is_taken_back(make):
    log, entries = entered(make, 10, 10, 10)
    log.fill(entries[1], 2 * ONE, 3_000)
    (unwind,) = later(log)
    assert (unwind.leg, unwind.purpose, unwind.size) == (1, "UNWIND", 2 * ONE)


def test_what_cannot_be_taken_back_is_held_and_said(make):
    log, entries = entered(make, 10, 10, limits=make.limit(unwind_budget_e6=0))
    log.update(entries[2], "CANCELLED", 0)
    # By hand: the ten that are missing may cost what the profit of .55 pays; then there is no money to sell at a loss.
    for hedge in later(log):
        answer(log, hedge, 0)
    assert ends(log) == ("HOLDING", "OVER_BUDGET", [10, 10, 0])
    assert log.task.reserved_e6() == 0


def course(make):
    """A saga that is completed, taken back and done, record by record."""
    log, entries = entered(make, 10)
    log.fill(entries[1], 6 * ONE, 3_000)
    log.clock(100)
    log.update(entries[1], "CANCELLED", 6 * ONE)
    log.submitting(entries[2])
    answer(log, entries[2], 2)
    answer(log, later(log)[0], 1)
    for unwind in later(log)[1:]:
        answer(log, unwind, unwind.size // ONE)
    assert ends(log) == ("DONE", "UNWOUND", [3, 3, 3])
    return log


def test_successor_from_any_checkpoint_goes_on_as_from_the_whole_log(make):
    log = course(make)
    for cut in range(len(log.items) + 1):
        before, after = (AccountsTask(TaskContext(incarnation=77)) for _ in range(2))
        outputs = [output for item in log.items[:cut] for output in before.handle(item)]
        after.restore(list(before.changed()))
        outputs += [output for item in log.items[cut:] for output in after.handle(item)]
        assert outputs == log.outputs
        assert after.reserved_e6() == 0


def test_same_log_makes_the_same_records(make):
    log = course(make)
    assert log.again() == log.outputs


def test_records_that_come_twice_change_nothing(make):
    log = course(make)
    grants, saga = log.all(Grant), log.last(Saga)
    for item in log.items[-20:]:
        log.feed(item.record)
    assert log.all(Grant) == grants
    assert log.last(Saga) == saga


def test_leg_given_up_bounds_the_others_also_where_its_hedge_lifted_it_above_them(make):
    log, _ = entered(make, 10, 6, 2)
    answer(log, later(log)[0], 5)
    # Seven stand of the third leg and nothing more is to be had: the second needs no more than seven.
    second = later(log)[1]
    assert (second.leg, second.purpose, second.size) == (1, "HEDGE", ONE)
    answer(log, second, 1)
    (unwind,) = later(log)[2:]
    assert (unwind.leg, unwind.purpose, unwind.size) == (0, "UNWIND", 3 * ONE)
    answer(log, unwind, 3)
    assert ends(log) == ("DONE", "UNWOUND", [7, 7, 7])


@pytest.mark.parametrize("budget_e6", [300_000, 500_000])
def test_two_short_legs_share_the_budget(make, budget_e6):
    log = started(make, KALSHIS, limits=make.limit(unwind_budget_e6=budget_e6))
    log.feed(wanted(make, prices=(3_100, 3_200, 3_200)))
    first, *others = log.all(Grant)
    log.fill(first, 10 * ONE, 3_100, fee=155_000)
    log.update(first, "FILLED", 10 * ONE)
    for grant in others:
        answer(log, grant, 0)
    for place in range(2):
        hedge = later(log)[place]
        assert (hedge.leg, hedge.purpose, hedge.size) == (place + 1, "HEDGE", 10 * ONE)
        log.fill(hedge, 10 * ONE, 3_300, fee=155_000)
        log.update(hedge, "FILLED", 10 * ONE)
    assert ends(log) == ("DONE", "FILLED", [10, 10, 10])
    saga = log.last(Saga)
    # By hand: 9.70 and fees of .465 for what pays ten dollars.
    assert saga.cash_e6 - saga.fees_e6 == -10_165_000
    assert 0 <= log.task._sets["main"].sagas["event-1"].budget_left_e6 <= budget_e6 - 165_000


def test_fill_heard_of_long_after_the_end_is_taken_back(make):
    log, entries = entered(make, 6, 6, 6)
    assert ends(log) == ("DONE", "UNDERFILLED", [6, 6, 6])
    log.clock(3_600_000)
    log.alive("kalshi:main")
    log.fill(entries[0], 2 * ONE, 3_000)
    assert [(one.leg, one.purpose, one.side, one.size) for one in later(log)] == [(0, "UNWIND", "SELL", 2 * ONE)]


def test_what_completes_a_leg_reserves_nothing_of_the_others(make):
    log, entries = entered(make, 6, 4)
    log.alive("kalshi:main", ready=False)
    answer(log, entries[2], 6)
    assert log.task.reserved_e6() == 600_000 + 40_000
    log.alive("kalshi:main")
    log.clock(100)
    (hedge,) = later(log)
    assert (hedge.leg, hedge.size, hedge.price) == (1, 2 * ONE, 3_500)
    # By hand: two at .35 and a fee of .04 (.07 x 2 x .2275, up to the cent).
    assert log.task.reserved_e6() == 700_000 + 40_000
