"""Sagas of one, two and three legs side by side: whatever venues do and however we hear of it, nothing is left unsaid."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Saga
from tests.checkpoints import outputs_with_restores
from tests.decide.events import ONE, A, B, C, buy_all, event, started
from tests.decide.scripted import check_money, check_standing, newest, run, seeds


def start(make, *, cash):
    log = started(make, cash=cash)
    log.feed(event(make, id="E2", exhaustive=False))
    return log


def wanted(make, now_ns):
    """Buy all outcomes, sell two of them, enter one alone, buy and sell a pair, and leave what the entry bought."""
    at = dict(now_ns=now_ns, recv_ts_ns=now_ns)
    sold = [make.leg(B, "SELL", [(7_000, 20 * ONE)]), make.leg(C, "SELL", [(6_000, 20 * ONE)])]
    return [
        buy_all(make, **at),
        make.intent(id="entry", strategy="mo", link=A, legs=[make.leg(A, "BUY", [(2_900, 12 * ONE)])], **at),
        make.intent(**at),
        buy_all(make, id="sold", strategy="ex-2", link="E2", legs=sold, **at),
        buy_all(make, (3_300, 3_000, 3_100), 20 * ONE, id="again", strategy="ex-3", **at),
        make.intent(
            id="exit", strategy="mo", link=A, legs=[make.leg(A, "SELL", [(2_500, 10 * ONE)], reduces=True)], **at
        ),
    ]


@settings(max_examples=50, deadline=None)
@given(seeds, seeds)
def test_money_equals_the_venues_own_and_nothing_stays_reserved(make, seed, shuffle):
    log, venues = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=wanted)
    check_money(log, venues)


@settings(max_examples=50, deadline=None)
@given(seeds, seeds)
def test_what_is_done_is_balanced_over_all_legs_and_what_is_not_is_said(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=wanted)
    check_standing(log, apart={"exit"})


@settings(max_examples=20, deadline=None)
@given(seeds, seeds, st.sets(st.integers(0, 150), max_size=8))
def test_successor_goes_on_from_the_checkpoint_as_from_the_whole_log(make, seed, shuffle, cuts):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3, start=start, wanted=wanted)
    outputs, _ = outputs_with_restores(log, cuts, random.Random(shuffle), thrown=1.0)
    assert outputs == log.outputs


def test_random_runs_reach_what_they_are_to_cover(make):
    seen = set()
    for seed in range(60):
        log, _ = run(make, seed, shuffle=seed, copies=0, start=start, wanted=wanted)
        seen |= {(saga.id, saga.state, saga.reason) for saga in newest(log, Saga)}
    assert {("event-1", "DONE", reason) for reason in ("FILLED", "UNDERFILLED", "UNWOUND", "NOT_FILLED")} <= seen
    assert {
        ("event-1", "DONE", "SETTLEMENT_FAILED"),
        ("exit", "DONE", "FILLED"),
        ("exit", "REFUSED", "NOT_HELD"),
    } <= seen
    assert any(name == "event-1" and state == "HOLDING" for name, state, _ in seen)
