"""The words of markets are remembered up to a bound: the oldest of those that nobody holds make room, the same for everyone."""

import random

import pytest

from decide import marks
from schemas.decision import Entry
from tests.checkpoints import keep, outputs_with_restores
from tests.decide.conftest import KALSHI, ONE, POLY
from tests.decide.test_reconciliation import hold, kinds, world
from tests.decide.test_settlements import account_of, determine

MAX = 20


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    monkeypatch.setattr(marks, "WORDS_MAX", MAX)


def words_of(task):
    return task._state.marks.words.by_instrument


def many(log, count, first=0):
    for number in range(first, first + count):
        determine(log, f"kalshi:KX-{number:04}", ONE)


def test_beyond_the_bound_the_oldest_tenth_is_forgotten_and_counted(make):
    log = world(make)
    many(log, MAX)
    assert len(words_of(log.task)) == MAX
    many(log, 1, first=MAX)
    assert sorted(words_of(log.task)) == [f"kalshi:KX-{number:04}" for number in range(3, MAX + 1)]
    assert log.task.counters == {"words.forgotten": 3}
    many(log, 10 * MAX, first=MAX + 1)
    assert len(words_of(log.task)) <= MAX


def test_what_an_account_holds_is_never_forgotten(make):
    log = world(make)
    hold(make, log)
    log.settle(hold(make, log, POLY, number=2), "hold-2")
    (expected,) = kinds(determine(log), Entry)
    determine(log, POLY, 0)
    many(log, 5 * MAX)
    assert {KALSHI, POLY} <= words_of(log.task).keys()
    assert account_of(log).provisional_e6 == expected.expected_e6 == 10 * ONE
    # Nor what only strategies hold: it cancels out.
    account_of(log).holdings[KALSHI, "YES"].size = 0
    many(log, 5 * MAX, first=500)
    assert KALSHI in words_of(log.task)


def test_a_word_that_was_forgotten_is_heard_again(make):
    log = world(make)
    many(log, 2 * MAX)
    assert "kalshi:KX-0000" not in words_of(log.task)
    determine(log, "kalshi:KX-0000", ONE)
    assert words_of(log.task)["kalshi:KX-0000"].payout_e6 == ONE


@pytest.mark.parametrize("seed", range(10))
def test_what_is_forgotten_leaves_the_checkpoint_and_a_successor_forgets_the_same(make, seed):
    dice = random.Random(seed)
    log = world(make)
    hold(make, log)
    for _ in range(120):
        determine(log, f"kalshi:KX-{dice.randrange(60):04}", dice.choice([0, ONE, -1]))
        if dice.random() < 0.1:
            determine(log)
    cuts = {dice.randrange(len(log.items)) for _ in range(8)}
    outputs, items = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs
    kept = {name.partition("/")[2] for name in items if name.startswith("word/")}
    assert kept == words_of(log.task).keys()
    again, all_items = log.new_task(), {}
    for item in log.items:
        again.handle(item)
        if dice.random() < 0.1:
            keep(again.changed(), all_items)
    keep(again.changed(), all_items)
    successor = log.new_task()
    successor.restore(all_items.items())
    assert words_of(successor) == words_of(log.task)
