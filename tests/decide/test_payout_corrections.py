"""Corrections of what was paid: the statement that was read last counts, whatever its time; said once more it is nothing."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.decision import Entry
from tests.decide.conftest import KALSHI, ONE, Accounts, limit
from tests.decide.test_reconciliation import CASH, hold, kinds, report, world
from tests.decide.test_settlements import LEFT, account_of, determine, entries, figures, flow, payout, resume


@pytest.mark.parametrize("older_ns", [1, 3_600_000_000_000], ids=["a moment", "an hour"])
def test_a_correction_counts_though_it_carries_a_time_before_the_first_statements(make, older_ns):
    log = world(make)
    hold(make, log)
    first = payout(log, 10 * ONE, value=ONE)
    (final,) = entries(log.feed(first), "FINAL")
    second = payout(log, 3 * ONE, value=300_000, at_ns=first.venue_ts_ns - older_ns)
    back, again = entries(log.feed(second), "FINAL")
    assert (back.reverses, figures(again)) == (final.id, (-10 * ONE, 3 * ONE, 300_000, False))
    assert account_of(log).cash_e6 == LEFT["BUY"] + 3 * ONE
    assert flow(log) == -ONE
    assert kinds(report(log, LEFT["BUY"] + 3 * ONE, times=3), Entry) == []


def test_a_second_correction_under_the_first_ones_time_counts(make):
    log = world(make)
    hold(make, log)
    first = payout(log, 10 * ONE, value=ONE)
    log.feed(first)
    log.feed(payout(log, 3 * ONE, value=300_000))
    log.feed(payout(log, 4 * ONE, value=400_000, at_ns=first.venue_ts_ns))
    assert account_of(log).cash_e6 == LEFT["BUY"] + 4 * ONE


def test_what_was_stated_first_counts_again_when_the_venue_comes_back_to_it(make):
    log = world(make)
    hold(make, log)
    first = payout(log, 10 * ONE, value=ONE)
    log.feed(first)
    log.feed(payout(log, 3 * ONE, value=300_000))
    # As a gateway says it: another statement, as it follows another.
    log.clock(1_000)
    again = make.replace(first, event_id="again", ts_ns=log.now_ns, recv_ts_ns=log.now_ns)
    assert len(entries(log.feed(again), "FINAL")) == 2
    assert account_of(log).cash_e6 == LEFT["BUY"] + 10 * ONE
    assert kinds(log.feed(again), Entry) == []


def test_the_same_statement_is_nothing_new_under_any_name_and_whenever_it_is_read(make):
    log = world(make)
    hold(make, log)
    first = payout(log, 10 * ONE, value=ONE)
    log.feed(first)
    for name in (first.event_id, "another", "a third"):
        log.clock(1_000)
        assert kinds(log.feed(make.replace(first, event_id=name, recv_ts_ns=log.now_ns)), Entry) == []
    assert account_of(log).cash_e6 == LEFT["BUY"] + 10 * ONE


def test_a_statement_that_was_read_before_what_counts_was_read_again_is_no_correction(make):
    log = world(make)
    hold(make, log)
    first = payout(log, 10 * ONE, value=ONE)
    stale = payout(log, 3 * ONE, value=300_000)
    log.clock(1_000)
    log.feed(first)
    log.feed(make.replace(first, event_id="twin", recv_ts_ns=log.now_ns))
    assert kinds(log.feed(stale), Entry) == []
    assert account_of(log).cash_e6 == LEFT["BUY"] + 10 * ONE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_statements_in_any_order_and_number_end_at_the_one_that_was_read_last(seed):
    dice = random.Random(seed)
    log = Accounts().start(limits=limit(heal_max_e6=0))
    said = []
    for _ in range(dice.randint(1, 6)):
        value = dice.choice([0, 250_000, 500_000, ONE])
        said.append(payout(log, 10 * value, value=value, at_ns=log.now_ns + dice.choice([-(10**12), 0, 5 * 10**9])))
    # Each has a name of its own: a gateway names a statement that comes back anew.
    said = [replace(one, event_id=f"{number}") for number, one in enumerate(said)]
    told = [*said, *dice.choices(said, k=4)]
    dice.shuffle(told)
    for one in told:
        log.feed(one)
    last = max(said, key=lambda one: one.recv_ts_ns)
    # Nothing was held: what was paid for is short now, and its cash is there.
    paid = account_of(log).paid(KALSHI)
    assert paid.payout.revenue_e6 == last.revenue_e6
    if paid.entry:
        assert sum(one.cash_e6 for one in log.entries()) == account_of(log).cash_e6 - CASH


# --- what was never booked


def test_taking_back_a_statement_that_the_opening_held_names_it_and_says_why_no_entry(make):
    log = world(make)
    first = payout(log, 10 * ONE, value=ONE, at_ns=make.START_NS - 1)
    log.feed(first)
    back, again = entries(log.feed(payout(log, 4 * ONE, value=400_000, at_ns=make.START_NS - 1)), "FINAL")
    assert (back.reverses, back.payout) == (first.event_id, first.event_id)
    assert "no entry did" in back.reason
    assert (back.size, back.cash_e6) == (10 * ONE, -10 * ONE)
    assert (again.reverses, again.cash_e6) == ("", 4 * ONE)


def test_taking_back_what_a_human_took_names_its_statement(make):
    log = world(make)
    hold(make, log)
    determine(log)
    at_ns, after = log.now_ns, LEFT["BUY"] + 10 * ONE
    report(log, after, times=62)
    resume(make, log, ("INSTRUMENT", KALSHI), ("SET", ""))
    report(log, after)
    first = payout(log, 10 * ONE, value=ONE, at_ns=at_ns)
    log.feed(first)
    back, _ = entries(log.feed(payout(log, 3 * ONE, value=300_000)), "FINAL")
    assert back.reverses == back.payout == first.event_id


def test_every_reversal_names_what_it_takes_back(make):
    log = world(make)
    hold(make, log)
    determine(log)
    for value in (ONE, 500_000, 0):
        log.feed(payout(log, 10 * value, value=value))
    ids = {one.id for one in log.entries()}
    # Bought, nothing but a reversal gives contracts back, or takes an expectation of a payout away.
    taking_back = [one for one in log.entries() if one.size > 0 or one.held < 0]
    assert len(taking_back) == 3
    assert all(one.reverses in ids for one in taking_back)
