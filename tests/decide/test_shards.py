"""Cash by exchange shard: every leg is paid for on the shard of its own market, or nothing of the intent begins."""

import pytest

from core.runtime.flow import TaskContext
from decide.accounts import AccountsTask
from schemas.decision import Grant, Saga
from schemas.order import Payout, VenueReport
from tests.decide.conftest import KALSHI
from tests.decide.test_reconciliation import hold

ONE = 1_000_000
SECOND = 1_000_000_000
OTHER = "kalshi:KX-2"


def states(log, shards, *, account="kalshi:main", as_of_ns=None, cash=None):
    """Report an account's cash by shard, as of now."""
    return log.feed(
        VenueReport(
            account=account,
            as_of_ns=log.now_ns if as_of_ns is None else as_of_ns,
            cash_e6=sum(shards.values()) if cash is None else cash,
            holdings=[],
            open_orders=[],
            cash_shards=sorted(shards),
            shard_cash_e6=[shards[shard] for shard in sorted(shards)],
            ts_ns=log.now_ns,
        )
    )


def started(make, shards, *, shard=3, **instrument):
    """A log whose Kalshi market lies on a shard, and whose Kalshi account states its cash by shard."""
    log = make.accounts()
    for record in (make.link(), make.instrument(make.KALSHI, exchange_index=shard, **instrument)):
        log.feed(record)
    for record in (make.instrument(make.POLY), make.profile("kalshi"), make.profile("polymarket"), make.limit()):
        log.feed(record)
    states(log, shards)
    log.report("polymarket:main", 1_000 * ONE)
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    return log


def ask(make, log, name="i", **changes):
    """Feed an intent of now; return why it was refused, empty if it was not."""
    fresh = dict(id=name, now_ns=log.now_ns, recv_ts_ns=log.now_ns, strategy=f"s-{name}")
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    legs = [make.replace(leg, recv_ts_ns=log.now_ns) for leg in make.intent(**changes).legs]
    log.feed(make.intent(**{**fresh, **changes, "legs": legs}))
    saga = next(record for record in reversed(log.all(Saga)) if record.id == name)
    return saga.reason if saga.state == "REFUSED" else ""


def quote_intent(make, instrument, price, **changes):
    leg = make.leg(instrument, "BUY", [(price, 10 * ONE)], rests=True, expires_s=make.START_NS // SECOND + 600)
    return dict(link=instrument, legs=[leg], **changes)


def test_a_hedge_whose_shard_has_no_cash_refuses_the_whole_intent(make):
    log = started(make, {0: 1_000 * ONE})
    assert ask(make, log) == "SHARD_CAPITAL"
    assert log.all(Grant) == []
    assert log.task.reserved_e6() == 0


@pytest.mark.parametrize(("has_e6", "reason"), [(5_179_999, "SHARD_CAPITAL"), (5_180_000, "")])
def test_a_leg_needs_its_cost_and_largest_fee_on_its_shard_to_the_last_unit(make, has_e6, reason):
    # 10 short at .50 cost 5.00; their largest fee is .18 (test_accounts).
    log = started(make, {0: 1_000 * ONE, 3: has_e6})
    assert ask(make, log) == reason


def test_the_sum_still_has_to_be_there(make):
    log = started(make, {0: 0, 3: 1_000 * ONE})
    log.feed(make.profile("kalshi", capital_e6=ONE))
    assert ask(make, log) == "CAPITAL"


def test_an_account_that_states_no_shards_is_asked_for_its_sum_only(make):
    log = make.accounts().start()
    log.feed(make.instrument(make.KALSHI, exchange_index=3))
    assert ask(make, log) == ""


def test_a_report_of_an_older_gateway_ends_what_was_stated(make):
    log = started(make, {0: 1_000 * ONE})
    log.now_ns += 2 * SECOND
    log.report("kalshi:main", 1_000 * ONE)
    assert ask(make, log) == ""


def test_what_is_reserved_on_a_shard_is_not_there_twice(make):
    log = started(make, {0: 1_000 * ONE, 3: 10 * ONE})
    log.feed(make.link(id="L2"))
    assert ask(make, log, "first") == ""
    second = make.intent(
        link="L2",
        legs=[make.leg(leg.instrument, leg.side, [(leg.price + 1_00, leg.size)]) for leg in make.intent().legs],
    )
    assert ask(make, log, "second", link="L2", legs=second.legs) == "SHARD_CAPITAL"


def test_reservations_of_another_shard_bind_nothing_here(make):
    log = started(make, {0: 10 * ONE, 3: 10 * ONE})
    log.feed(make.instrument(OTHER))
    assert ask(make, log, "quote", **quote_intent(make, OTHER, 9_000)) == ""
    assert ask(make, log, "pair") == ""


def test_a_fill_takes_its_cash_from_the_shard_of_its_market_until_a_report_knows_of_it(make):
    log = started(make, {0: 1_000 * ONE, 3: 10 * ONE})
    log.now_ns += SECOND
    assert ask(make, log, "one") == ""
    first = log.last(Grant)
    log.done(first, 10 * ONE, 4_000)
    log.done(log.last(Grant), 10 * ONE, 5_000)
    # Five of ten dollars are left: the same again does not fit, and a report from before the fill changes nothing.
    states(log, {0: 1_000 * ONE, 3: 10 * ONE}, as_of_ns=log.now_ns - SECOND)
    again = [
        make.leg(leg.instrument, leg.side, [(leg.price + (100 if leg.side == "BUY" else -100), leg.size)])
        for leg in make.intent().legs
    ]
    assert ask(make, log, "two", legs=again) == "SHARD_CAPITAL"
    log.now_ns += 2 * SECOND
    states(log, {0: 900 * ONE, 3: 105 * ONE})
    assert ask(make, log, "three", legs=again) == ""


def test_a_payout_lands_on_the_shard_of_its_market(make):
    log = started(make, {0: 1_000 * ONE, 3: 10 * ONE})
    log.now_ns += SECOND
    assert ask(make, log, "one") == ""
    log.done(log.last(Grant), 10 * ONE, 4_000)
    log.done(log.last(Grant), 10 * ONE, 5_000)
    shards = log.task._sets["main"].ledgers["kalshi:main"].shards
    instruments = log.task._known.instruments
    assert shards.cash_e6(3, instruments) == 5 * ONE
    log.feed(
        Payout(
            event_id="p", account="kalshi:main", instrument=make.KALSHI, payout_e6=0, yes_size=0, no_size=10 * ONE,
            revenue_e6=10 * ONE, ts_ns=log.now_ns, venue_ts_ns=log.now_ns, recv_ts_ns=log.now_ns,
        )
    )  # fmt: skip
    assert shards.cash_e6(3, instruments) == 15 * ONE
    assert shards.cash_e6(0, instruments) == 1_000 * ONE


def test_cash_that_was_moved_between_shards_is_seen_while_quotes_rest(make):
    log = started(make, {0: 100 * ONE, 3: 10 * ONE})
    assert ask(make, log, "quote", **quote_intent(make, make.KALSHI, 3_000)) == ""
    resting = log.last(Grant)
    log.submitting(resting)
    log.update(resting, "ACCEPTED")
    log.now_ns += 5 * SECOND
    # The venue took the quote's three dollars out, and a human moved twenty to its shard.
    states(log, {0: 80 * ONE, 3: 27 * ONE})
    accounts, instruments = log.task._sets["main"], log.task._known.instruments
    assert accounts.usable_on("kalshi:main", 3, instruments) == 27 * ONE
    assert accounts.usable_on("kalshi:main", 0, instruments) == 80 * ONE


def test_what_a_shard_has_stands_in_the_checkpoint(make):
    log = started(make, {0: 1_000 * ONE, 3: 10 * ONE})
    assert ask(make, log, "one") == ""
    log.done(log.last(Grant), 10 * ONE, 4_000)
    log.done(log.last(Grant), 10 * ONE, 5_000)
    task = AccountsTask(TaskContext(incarnation=77))
    task.restore(dict(log.task.changed()).items())
    found, known = task._sets["main"], task._known.instruments
    assert found.usable_on("kalshi:main", 3, known) == 5 * ONE
    assert found.usable_on("kalshi:main", 0, known) == 1_000 * ONE
    assert found.usable_on("polymarket:main", 0, known) is None


# --- what a report knew before we did


def paid(log, revenue, *, at_ns, value=ONE):
    """Hear of a payout of ten contracts bought."""
    return log.feed(
        Payout(
            event_id=f"p{len(log.items)}", account="kalshi:main", instrument=KALSHI, payout_e6=value, yes_size=10 * ONE,
            no_size=0, revenue_e6=revenue, ts_ns=log.now_ns, venue_ts_ns=at_ns, recv_ts_ns=log.now_ns,
        )
    )  # fmt: skip


def holding(make, log, *, cash=116 * ONE):
    """Hold ten contracts at forty cents, out of twenty dollars of shard 3."""
    log.clock(1_000)
    hold(make, log)
    log.clock(2_000)
    states(log, {0: cash - 16 * ONE, 3: 16 * ONE})
    log.clock(2_000)


def usable(log, shard=3):
    return log.task._sets["main"].usable_on("kalshi:main", shard, log.task._known.instruments)


@pytest.mark.parametrize("later_ms", [-1, 0, 1])
def test_a_payout_that_a_report_shows_is_on_its_shard_once(make, later_ms):
    log = started(make, {0: 100 * ONE, 3: 20 * ONE})
    holding(make, log)
    at_ns = log.now_ns
    # A report of the time of the payout itself need not know of it.
    shows = later_ms > 0
    states(log, {0: 100 * ONE, 3: (26 if shows else 16) * ONE}, as_of_ns=at_ns + later_ms * 1_000_000)
    # For a worker that takes up a checkpoint meanwhile, too.
    task = AccountsTask(TaskContext(incarnation=77))
    task.restore(dict(log.task.changed()).items())
    log.task = task
    paid(log, 10 * ONE, at_ns=at_ns)
    assert usable(log) == 26 * ONE
    log.clock(2_000)
    bid = make.leg(KALSHI, "BUY", [(5_000, 60 * ONE)])
    assert ask(make, log, link=KALSHI, legs=[bid]) == "SHARD_CAPITAL"


def test_a_correction_that_a_report_shows_is_on_its_shard_once(make):
    log = started(make, {0: 100 * ONE, 3: 20 * ONE})
    holding(make, log)
    first_ns = log.now_ns
    log.clock(2_000)
    paid(log, 10 * ONE, at_ns=first_ns)
    assert usable(log) == 26 * ONE
    log.clock(2_000)
    corrected_ns = log.now_ns
    log.clock(2_000)
    states(log, {0: 100 * ONE, 3: 19 * ONE})
    paid(log, 3 * ONE, at_ns=corrected_ns, value=300_000)
    assert usable(log) == 19 * ONE
    # The next one comes before its report.
    log.clock(2_000)
    paid(log, 5 * ONE, at_ns=log.now_ns, value=500_000)
    assert usable(log) == 21 * ONE


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_fill_that_a_report_shows_is_on_its_shard_once(make, side):
    log = started(make, {0: 100 * ONE, 3: 20 * ONE})
    holding(make, log)
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    leg = make.replace(make.leg(KALSHI, side, [(4_000, 10 * ONE)]), recv_ts_ns=log.now_ns)
    log.feed(make.intent(id="i", link=KALSHI, legs=[leg], profit_e6=0, now_ns=log.now_ns, recv_ts_ns=log.now_ns))
    grant, at_ns = log.last(Grant), log.now_ns
    log.clock(2_000)
    # Buying costs four dollars more; selling what is held brings them.
    after = (12 if side == "BUY" else 20) * ONE
    states(log, {0: 100 * ONE, 3: after})
    assert usable(log) <= after
    log.fill(grant, 10 * ONE, 4_000, venue_ts_ns=at_ns + 1)
    log.update(grant, "FILLED", 10 * ONE)
    assert usable(log) == after


@pytest.mark.parametrize("held", [0, 10], ids=["opens", "closes"])
@pytest.mark.parametrize("is_late", [True, False])
def test_a_fill_of_a_quote_leaves_its_shard_what_the_report_says(make, held, is_late):
    log = started(make, {0: 100 * ONE, 3: 20 * ONE}, taker_fee_e6=0)
    log.clock(1_000)
    if held:
        hold(make, log, side="SELL", price=6_000)
    assert ask(make, log, "quote", **quote_intent(make, KALSHI, 3_000)) == ""
    quote, left = log.last(Grant), (16 if held else 20) * ONE
    log.submitting(quote)
    log.update(quote, "ACCEPTED")
    log.clock(5_000)
    at_ns = log.now_ns
    log.clock(2_000)
    # Its three dollars are gone; the dollars of what it closed have come.
    after = left - 3 * ONE + held * ONE
    states(log, {0: 100 * ONE, 3: after if is_late else left - 3 * ONE})
    log.fill(quote, 10 * ONE, 3_000, venue_ts_ns=at_ns if is_late else log.now_ns)
    log.update(quote, "FILLED", 10 * ONE)
    assert usable(log) == after
