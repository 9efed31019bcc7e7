"""The price grid of now: what a saga orders next lies on it, though it was admitted on another."""

import pytest

from core.runtime.flow import TaskContext
from decide.accounts import AccountsTask
from schemas.decision import Grant, Saga
from schemas.market import Notice, Status

ONE = 1_000_000
SECOND = 1_000_000_000
FINE, COARSE = [10], [100]


def says(log, instrument, *, later_ns=SECOND, **changes):
    """Feed a market's word of its grid, received `later_ns` after its description."""
    grid = dict(tick_from=[0], tick_to=[10_000], tick_step=COARSE, price_exp=-4, recv_ts_ns=log.now_ns + later_ns)
    return log.feed(
        Status(instrument=instrument, epoch=1, frame_no=1, index=0, status="UNKNOWN", **{**grid, **changes})
    )


def started(make, *, unwind_budget_e6=2 * ONE):
    log = make.accounts().start(limits=make.limit(unwind_budget_e6=unwind_budget_e6))
    for name in (make.POLY, make.KALSHI):
        log.feed(make.instrument(name, tick_step=FINE))
    return log


def pair(make, buys, sells):
    """Buy ten on Polymarket, sell ten on Kalshi."""
    return make.intent(
        legs=[make.leg(make.POLY, "BUY", [(buys, 10 * ONE)]), make.leg(make.KALSHI, "SELL", [(sells, 10 * ONE)])]
    )


def test_what_is_unwound_lies_on_the_grid_that_came_after_it_was_bought(make):
    log = started(make)
    log.feed(pair(make, 3_510, 4_500))
    log.done(log.last(Grant), 10 * ONE, 3_510, name="bought")
    log.settle(log.all(Grant)[0], "bought")
    says(log, make.POLY)
    while log.last(Grant).purpose == "HEDGE":
        log.update(log.last(Grant), "CANCELLED")
    unwind = log.last(Grant)
    assert (unwind.purpose, unwind.side, unwind.instrument) == ("UNWIND", "SELL", make.POLY)
    assert unwind.price % 100 == 0
    assert unwind.price <= 3_500
    # Within budget and slip it goes as far as it may, as before.
    assert unwind.price == 3_100


@pytest.mark.parametrize(
    ("sells", "budget_e6", "price"),
    [
        pytest.param(5_050, 2 * ONE, 5_000, id="the next worse price is still marketable"),
        pytest.param(5_000, 2 * ONE, 5_000, id="what lies on both grids stays"),
        pytest.param(4_950, 1, 5_000, id="the next worse price is beyond the budget: the next better one is offered"),
    ],
)
def test_a_leg_that_is_due_is_asked_for_on_the_grid_of_now(make, sells, budget_e6, price):
    log = started(make, unwind_budget_e6=budget_e6)
    log.feed(pair(make, 4_630 if budget_e6 == 1 else 4_000, sells))
    assert log.last(Saga).state == "FIRST_LEG"
    says(log, make.KALSHI)
    log.done(log.last(Grant), 10 * ONE, log.last(Grant).price, fee=100_000)
    hedge = log.last(Grant)
    assert (hedge.purpose, hedge.side, hedge.price) == ("HEDGE", "SELL", price)


def test_no_order_of_a_saga_leaves_the_grid_whatever_it_was_admitted_on(make):
    for buys in range(3_900, 4_100, 10):
        log = started(make)
        log.feed(pair(make, buys, 5_050))
        log.done(log.last(Grant), 10 * ONE, buys, name="bought")
        log.settle(log.all(Grant)[0], "bought")
        says(log, make.POLY)
        says(log, make.KALSHI)
        seen = len(log.all(Grant))
        log.update(log.last(Grant), "REJECTED", reason="off the grid")
        for _ in range(60):
            log.clock(400)
            for venue in ("kalshi", "polymarket"):
                log.alive(f"{venue}:main")
            if log.last(Saga).state in {"DONE", "HOLDING"}:
                break
            grant = log.last(Grant)
            if grant.purpose == "UNWIND":
                log.done(grant, grant.size, grant.price)
            else:
                log.update(grant, "CANCELLED")
        assert len(log.all(Grant)) > seen
        assert all(grant.price % 100 == 0 for grant in log.all(Grant)[seen:])
        assert log.last(Saga).state == "DONE"


def test_an_intent_off_the_grid_of_now_is_refused(make):
    log = started(make)
    says(log, make.POLY)
    log.feed(pair(make, 3_510, 4_500))
    assert (log.last(Saga).state, log.last(Saga).reason) == ("REFUSED", "OFF_GRID")


def test_a_description_read_before_the_word_does_not_bring_the_old_grid_back(make):
    log = started(make)
    says(log, make.POLY)
    grids = log.task._known.instruments
    log.feed(make.instrument(make.POLY, tick_step=FINE, title="said anew"))
    assert (grids[make.POLY].tick_step, grids[make.POLY].title) == (COARSE, "said anew")
    log.feed(make.instrument(make.POLY, tick_step=FINE, recv_ts_ns=log.now_ns + 2 * SECOND))
    assert grids[make.POLY].tick_step == FINE
    # Nor does an older word, or one that says nothing of a grid or in other exponents.
    says(log, make.POLY)
    says(log, make.POLY, later_ns=3 * SECOND, tick_from=[], tick_to=[], tick_step=[])
    says(log, make.POLY, later_ns=3 * SECOND, price_exp=-2)
    says(log, "polymarket:unknown")
    assert grids[make.POLY].tick_step == FINE


def test_a_description_that_cannot_be_read_leaves_a_saga_its_instrument(make):
    log = started(make)
    log.feed(pair(make, 3_510, 4_500))
    log.feed(
        make.instrument(make.KALSHI, status="UNKNOWN", fee_model="UNKNOWN", tick_from=[], tick_to=[], tick_step=[])
    )
    log.done(log.last(Grant), 10 * ONE, 3_510)
    assert (log.last(Grant).purpose, log.last(Grant).price) == ("HEDGE", 4_500)


def test_the_grid_of_now_stands_in_the_checkpoint(make):
    log = started(make)
    log.feed(pair(make, 3_510, 4_500))
    dict(log.task.changed())
    says(log, make.POLY)
    task = AccountsTask(TaskContext(incarnation=77))
    task.restore(dict(log.task.changed()).items())
    assert task._known.instruments[make.POLY].tick_step == COARSE


def test_an_unwind_whose_next_worse_price_is_too_dear_is_offered_at_the_next_better_one(make):
    log = started(make, unwind_budget_e6=110_000)
    log.feed(pair(make, 3_590, 4_500))
    log.done(log.last(Grant), 10 * ONE, 3_590, name="bought")
    log.settle(log.all(Grant)[0], "bought")
    says(log, make.POLY)
    while log.last(Grant).purpose == "HEDGE":
        log.update(log.last(Grant), "CANCELLED")
    # At .35 ten of them lose nine cents and the fee again; at .36 they bring a cent of it.
    assert (log.last(Grant).purpose, log.last(Grant).price) == ("UNWIND", 3_600)


def test_a_word_of_the_grid_makes_a_description_no_newer_than_what_the_venue_took_back(make):
    log = started(make)
    log.feed(
        Notice(
            venue="kalshi", instrument=make.KALSHI, reason="close_date_updated", feed="k-0", epoch=1, frame_no=1, index=0,
            recv_ts_ns=log.now_ns + SECOND,
        )
    )  # fmt: skip
    says(log, make.KALSHI, later_ns=2 * SECOND)
    log.feed(pair(make, 3_500, 4_500))
    assert (log.last(Saga).state, log.last(Saga).reason) == ("REFUSED", "LINK_SUSPENDED")
