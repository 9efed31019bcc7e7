"""Sagas whose legs leave together, beside others: whatever venues do and however we hear of it, nothing is left unsaid."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Grant, Saga
from tests.checkpoints import outputs_with_restores
from tests.decide.events import KALSHIS, ONE, B, C, buy_all, event, markets, started
from tests.decide.scripted import check_money, check_standing, newest, run, seeds

BUDGET_E6 = 300_000
FOUR, FIVE = "kalshi:KX-K4", "kalshi:KX-K5"
LONG = (*KALSHIS, FOUR, FIVE)


def start(make, *, cash):
    log = started(make, cash=cash, limits=make.limit(unwind_budget_e6=BUDGET_E6))
    for record in (*markets(make, LONG), event(make, KALSHIS, id="K"), event(make, LONG, id="LONG")):
        log.feed(record)
    log.feed(event(make, KALSHIS, id="SOLD", exhaustive=False))
    log.feed(make.link(id="PAIR", instrument_a=B, instrument_b=C, polarity="OPPOSITE", payout_b_e6=[0, ONE]))
    return log


def wanted(make, now_ns, *, leg_order="TOGETHER"):
    """Sagas of two to five legs at one venue, two at a time, beside one that may not leave together."""

    def fresh(name, link, legs, now_ns, order=leg_order):
        legs = [make.replace(leg, recv_ts_ns=now_ns) for leg in legs]
        at = dict(now_ns=now_ns, recv_ts_ns=now_ns)
        return buy_all(make, id=name, strategy=f"s-{name}", link=link, legs=legs, leg_order=order, **at)

    def buy(names, price, size):
        return [make.leg(name, "BUY", [(price, size * ONE)]) for name in names]

    def sell(names, price, size):
        return [make.leg(name, "SELL", [(price, size * ONE)]) for name in names]

    return [
        lambda now: [fresh("three", "K", buy(KALSHIS, 3_000, 10), now)],
        lambda now: [
            fresh("pair", "PAIR", buy((B, C), 4_600, 12), now),
            fresh("five", "LONG", buy(LONG, 1_700, 8), now),
        ],
        lambda now: [
            fresh("sold", "SOLD", sell(KALSHIS[:2], 6_500, 15), now),
            fresh("mixed", "E1", buy_all(make).legs, now),
        ],
        lambda now: [fresh("tight", "K", buy(KALSHIS, 3_100, 20), now), fresh("empty", "K", [], now)],
        lambda now: [fresh("again", "K", buy(KALSHIS, 2_900, 6), now, "ONE_BY_ONE")],
    ]


def one_by_one(make, now_ns):
    return wanted(make, now_ns, leg_order="ONE_BY_ONE")


orders = st.sampled_from([wanted, one_by_one])


@settings(max_examples=60, deadline=None)
@given(seeds, seeds, orders)
def test_money_equals_the_venues_own_and_nothing_stays_reserved(make, seed, shuffle, order):
    log, venues = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=order)
    check_money(log, venues)


@settings(max_examples=60, deadline=None)
@given(seeds, seeds, orders)
def test_what_is_done_is_balanced_over_all_legs_and_what_is_not_is_said(make, seed, shuffle, order):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=order)
    check_standing(log)


@settings(max_examples=60, deadline=None)
@given(seeds, seeds, orders)
def test_no_saga_uses_or_loses_more_than_its_budget(make, seed, shuffle, order):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=order)
    for name, saga in log.task._sets["main"].sagas.items():
        assert saga.budget_left_e6 >= 0
        record = next(one for one in newest(log, Saga) if one.id == name)
        bought = all(leg.leg.side == "BUY" for leg in saga.legs)
        if record.state == "DONE" and bought and not saga.failed:
            # What stands on every leg pays a dollar a contract at the least.
            worst_e6 = record.cash_e6 - record.fees_e6 + saga.floor_e6 * saga.covered // ONE
            assert worst_e6 >= -BUDGET_E6


@settings(max_examples=60, deadline=None)
@given(seeds, seeds)
def test_entries_that_leave_together_do_so_in_one_turn_or_not_at_all(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=wanted)
    together = {name: saga for name, saga in log.task._sets["main"].sagas.items() if saga.goes_together}
    assert "mixed" not in together
    grants = log.all(Grant)
    for name, saga in together.items():
        entries = [place for place, one in enumerate(grants) if one.intent == name and one.purpose == "ENTRY"]
        assert [grants[place].leg for place in entries] == list(range(len(saga.legs)))
        assert entries == list(range(entries[0], entries[0] + len(entries)))
        assert len({grants[place].now_ns for place in entries}) == 1
        assert {grants[place].size for place in entries} == {saga.size}


@settings(max_examples=20, deadline=None)
@given(seeds, seeds, st.sets(st.integers(0, 200), max_size=8))
def test_successor_goes_on_from_the_checkpoint_as_from_the_whole_log(make, seed, shuffle, cuts):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=wanted)
    outputs, _ = outputs_with_restores(log, cuts, random.Random(shuffle), thrown=1.0)
    assert outputs == log.outputs


def test_random_runs_reach_what_they_are_to_cover(make):
    seen, ways = set(), set()
    for seed in range(60):
        log, _ = run(make, seed, shuffle=seed, copies=0, start=start, wanted=wanted)
        for saga in newest(log, Saga):
            seen.add((saga.id, saga.state, saga.reason))
            ways.add((saga.id, saga.leg_order, saga.leg_order_reason))
        for grant in log.all(Grant):
            seen.add((grant.intent, grant.purpose, grant.leg))
    assert {("three", "DONE", "FILLED"), ("three", "DONE", "UNWOUND"), ("pair", "DONE", "REJECTED")} <= seen
    assert {("three", "HEDGE", 0), ("three", "HEDGE", 2), ("five", "UNWIND", 4), ("sold", "HEDGE", 0)} <= seen
    assert any(state == "HOLDING" for _, state, _ in seen)
    # Of a saga that went together the first leg may be completed; of one that did not it never is.
    assert ("again", "HEDGE", 0) not in seen
    assert {
        ("three", "TOGETHER", "AS_ASKED"),
        ("five", "TOGETHER", "AS_ASKED"),
        ("mixed", "ONE_BY_ONE", "MAY_FAIL"),
        ("again", "ONE_BY_ONE", "AS_ASKED"),
    } <= ways
