"""Tokens and contracts that a human moves are no part of the day's profit, which loss limits judge; what they do then is."""

import random

import pytest

from decide.positions import Moved
from schemas.decision import Standing
from tests.decide.conftest import KALSHI, ONE, POLY
from tests.decide.exits import mark
from tests.decide.test_accounts_state import outputs_with_restores
from tests.decide.test_postings import posting
from tests.decide.test_reconciliation import ACCOUNT, TOKENS, hold, kinds, stands

OTHER = "polymarket:0xc2"


def judged(make, log, *, bid=None, name=POLY, times=1):
    """Let a quote come, if any, and the day be judged."""
    for number in range(times):
        if bid is not None:
            mark(make, log, name, bid=bid, ask=bid + 200, version=len(log.items) + number)
        log.clock(1_000)
        log.feed(make.tick(log.now_ns))
        for venue in ("kalshi", "polymarket"):
            log.alive(f"{venue}:main")
        log.clock(1_000)


def trading(make, name=POLY, side="BUY", **limits):
    """Hold ten for strategy s1, with a limit on what the day may lose."""
    log = make.accounts().start(limits=make.limit(heal_max_e6=5 * ONE, day_loss_halt_e6=3 * ONE, **limits))
    log.feed(make.instrument(OTHER))
    log.clock(1_000)
    log.settle(hold(make, log, name, side), "hold-1")
    judged(make, log, bid=4_000, name=name, times=2)
    return log


def move(log, size, *, account=TOKENS, name=POLY, outcome="YES", kind="TRANSFER"):
    return log.feed(
        posting(log, kind, account=account, instrument=name, outcome=outcome, size=size, reference=f"r{len(log.items)}")
    )


def risk_of(log):
    return log.task._sets["main"].risk


def days(log):
    return {strategy: day.pnl_e6 for strategy, day in risk_of(log).days.items()}


def is_halted(log):
    return ("SET", "") in risk_of(log).stopped


def test_tokens_that_are_taken_out_are_no_loss(make):
    log = trading(make)
    move(log, -10 * ONE)
    judged(make, log, bid=4_000, times=2)
    assert days(log) == {"s1": 0}
    assert not is_halted(log)
    # What a human takes out no more moves the day; what s1 had lost until then it has lost.
    judged(make, log, bid=1_000)
    assert days(log) == {"s1": 0}


def test_a_loss_before_tokens_are_taken_out_stays_one(make):
    log = trading(make)
    judged(make, log, bid=3_800)
    assert days(log) == {"s1": -200_000}
    move(log, -10 * ONE)
    judged(make, log, bid=3_700)
    # It was held until the posting was heard of.
    assert days(log) == {"s1": -300_000}


def test_tokens_that_are_put_in_hide_no_loss(make):
    log = trading(make)
    move(log, 100 * ONE)
    judged(make, log, bid=4_000, times=2)
    assert days(log) == {"": 0, "s1": 0}
    assert not is_halted(log)
    # From then on they may lose like all that is held.
    judged(make, log, bid=3_600)
    assert days(log) == {"": -4 * ONE, "s1": -400_000}
    assert is_halted(log)


def test_a_real_loss_of_the_same_size_still_halts(make):
    log = trading(make)
    judged(make, log, bid=3_600)
    assert not is_halted(log)
    judged(make, log, bid=900)
    assert days(log) == {"s1": -3_100_000}
    assert is_halted(log)


def test_tokens_that_no_mark_is_known_of_are_no_profit_when_the_first_one_comes(make):
    log = trading(make)
    move(log, 100 * ONE, name=OTHER)
    judged(make, log, bid=3_900, times=3)
    # Meanwhile s1 is judged as ever, and nothing that needs marks is begun.
    assert days(log) == {"": 0, "s1": -100_000}
    assert risk_of(log).days[""].stale == 1
    assert risk_of(log).entered == {"": {OTHER: Moved(100 * ONE, 0)}}
    judged(make, log, bid=4_000, name=OTHER)
    assert days(log) == {"": 0, "s1": -100_000}
    assert risk_of(log).entered == {}
    judged(make, log, bid=3_700, name=OTHER)
    assert days(log)[""] == -3 * ONE
    assert is_halted(log)


def test_tokens_of_a_market_that_pays_before_it_was_ever_quoted_are_no_profit(make):
    log = trading(make)
    move(log, 100 * ONE, name=OTHER)
    judged(make, log)
    log.feed(make.instrument(OTHER, status="DETERMINED", payout_e6=ONE, recv_ts_ns=log.now_ns))
    judged(make, log, bid=4_000)
    assert days(log) == {"": 0, "s1": 0}


@pytest.mark.parametrize("size", [10, 4, 25])
def test_contracts_that_come_for_a_short_are_no_loss(make, size):
    log = trading(make, KALSHI, "SELL")
    before = days(log)["s1"]
    move(log, size * ONE, account=ACCOUNT, name=KALSHI)
    judged(make, log, bid=4_000, name=KALSHI, times=2)
    assert days(log) == {"s1": before} | ({"": 0} if size > 10 else {})
    move(log, 40 * ONE, account=ACCOUNT, name=KALSHI, outcome="NO")
    judged(make, log, bid=4_000, name=KALSHI, times=2)
    # What came belongs to no strategy, what s1 has left of its short stays where it was.
    assert days(log) == {"s1": before, "": 0}


def test_a_pair_that_was_made_of_a_dollar_is_no_profit(make):
    log = trading(make)
    for outcome in ("YES", "NO"):
        move(log, 50 * ONE, name=OTHER, outcome=outcome, kind="CONVERSION")
    judged(make, log, bid=4_000, times=2)
    judged(make, log, bid=4_000, name=OTHER, times=2)
    assert sum(days(log).values()) == 0
    assert risk_of(log).entered == {}


def test_what_was_moved_belongs_to_the_next_day_like_all_that_is_held(make):
    log = trading(make)
    move(log, 100 * ONE, name=OTHER)
    log.clock(86_400_000)
    judged(make, log, bid=4_000)
    assert days(log) == {"": 0, "s1": 0}
    judged(make, log, bid=4_000, name=OTHER)
    assert days(log) == {"": 0, "s1": 0}
    judged(make, log, bid=3_900, name=OTHER)
    assert days(log) == {"": -ONE, "s1": 0}


def test_where_losses_are_not_limited_nothing_is_kept_of_it(make):
    log = make.accounts().start(limits=make.limit(heal_max_e6=5 * ONE))
    log.clock(1_000)
    move(log, 100 * ONE)
    log.clock(1_000)
    assert risk_of(log).entered == {}


def test_the_standing_says_the_day_without_what_was_moved(make):
    log = trading(make)
    move(log, -10 * ONE)
    judged(make, log, bid=4_000, times=2)
    said = [one for one in log.all(Standing) if one.id == "main|SET|"][-1]
    assert (said.state, said.day_pnl_e6, stands(log, "main|SET|")) == ("RUNNING", 0, ("RUNNING", ""))


@pytest.mark.parametrize("seed", range(12))
def test_the_day_is_what_held_tokens_gained_while_they_were_held(make, seed):
    dice = random.Random(seed)
    log = make.accounts().start(limits=make.limit(heal_max_e6=5 * ONE, day_loss_halt_e6=10_000 * ONE))
    log.feed(make.instrument(OTHER))
    log.clock(1_000)
    log.settle(hold(make, log, POLY), "hold-1")
    judged(make, log, bid=4_000, times=2)
    bids, held, pnl = {POLY: 4_000}, {("s1", POLY): 10}, {"s1": 0}
    for _ in range(40):
        name = dice.choice([POLY, OTHER])
        sizes, seen = dict(held), dict(bids)
        match dice.choice(["in", "out", "quote", "quote", "nothing"]):
            case "in":
                size = dice.choice([3, 40])
                move(log, size * ONE, name=name)
                held["", name] = held.get(("", name), 0) + size
                pnl.setdefault("", 0)
            case "out":
                owner = next((one for one in ("", "s1") if held.get((one, name))), None)
                if owner is not None:
                    size = dice.randint(1, held[owner, name])
                    move(log, -size * ONE, name=name)
                    held[owner, name] -= size
            case "quote":
                bids[name] = 100 * dice.randint(5, 90)
                mark(make, log, name, bid=bids[name], ask=bids[name] + 200, version=len(log.items))
        judged(make, log)
        for (owner, one), size in sizes.items():
            # Until a market is quoted nothing can be said of it: its first price is no gain.
            pnl[owner] += size * ONE * (bids.get(one, 0) - seen.get(one, bids.get(one, 0))) // 10_000
        assert days(log) == pnl
    cuts = {dice.randrange(len(log.items)) for _ in range(6)}
    outputs, _ = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs
    assert kinds([output.record for output in outputs], Standing)
