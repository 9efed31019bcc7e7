"""Who may trade: commands, losses and silence; and that a raised limit needs who it needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decide.risk import NS_PER_DAY, Risk, Stop, allows_more, is_signed, strictest
from schemas.decision import Cancel, Grant, Saga, Standing
from schemas.market import Status
from tests.decide.conftest import KALSHI, ONE, POLY, START_NS, budget, limit

DAY = NS_PER_DAY


def reasons(log):
    return [saga.reason for saga in log.all(Saga) if saga.state == "REFUSED"]


def wish(make, log, number=1, **changes):
    legs = [make.leg(POLY, "BUY", [(4_000, 10 * ONE)]), make.leg(KALSHI, "SELL", [(5_000, 10 * ONE)])]
    legs = [make.replace(one, recv_ts_ns=log.now_ns) for one in legs]
    fields = dict(id=f"intent-{number}", legs=legs, now_ns=log.now_ns, recv_ts_ns=log.now_ns)
    return make.intent(**{**fields, **changes})


def alive(log):
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")


def grants(heard):
    return [record for record in heard if isinstance(record, Grant)]


def whole(log):
    return [said for said in log.all(Standing) if said.scope == "SET"][-1]


def buy_alone(make, log, number=1, price=4_000, size=10 * ONE, strategy="arb-1"):
    """Hold ten YES on Kalshi that no link covers."""
    log.clock(1)
    alive(log)
    leg = make.replace(make.leg(KALSHI, "BUY", [(price, size)]), recv_ts_ns=log.now_ns)
    (grant,) = grants(
        log.feed(
            make.intent(
                id=f"alone-{number}", strategy=strategy, link=KALSHI, legs=[leg], profit_e6=0, now_ns=log.now_ns,
                recv_ts_ns=log.now_ns,
            )
        )
    )  # fmt: skip
    log.done(grant, size, price, name=f"alone-{number}")
    return grant


def mark(make, log, bid, ask, *, state="LIVE", version=1, name=KALSHI):
    seen = make.depth(name, version, [(bid, ONE)], [(ask, ONE)])
    log.feed(make.quote(seen, state=state), source=make.book_source())
    log.feed(make.tick(log.now_ns))


# --- commands


@pytest.mark.parametrize(
    ("scope", "name", "refusal"),
    [("SET", "", "HALTED"), ("STRATEGY", "arb-1", "STOPPED"), ("VENUE", "kalshi", "STOPPED"), ("INSTRUMENT", POLY, "STOPPED")],
)  # fmt: skip
def test_a_command_stops_its_part_until_it_is_resumed(make, scope, name, refusal):
    log = make.accounts().start()
    log.feed(make.command("HALTED", scope, name))
    assert grants(log.feed(wish(make, log, 1))) == []
    assert reasons(log) == [refusal]
    log.feed(make.command("RUNNING", scope, name, ts_ns=START_NS + 1))
    assert len(grants(log.feed(wish(make, log, 2)))) == 1


def test_a_command_that_is_older_than_the_last_changes_nothing(make):
    log = make.accounts().start()
    log.feed(make.command("HALTED", ts_ns=START_NS + 2))
    log.feed(make.command("RUNNING", ts_ns=START_NS + 1))
    log.feed(wish(make, log))
    assert reasons(log) == ["HALTED"]


def test_what_is_out_is_taken_back_by_a_halt_of_its_venue_and_nothing_else_is(make):
    log = make.accounts().start()
    (grant,) = grants(log.feed(wish(make, log)))
    assert [r for r in log.feed(make.command("HALTED", "VENUE", "kalshi")) if isinstance(r, Cancel)] == []
    heard = log.feed(make.command("HALTED", "VENUE", "polymarket"))
    assert [record.order for record in heard if isinstance(record, Cancel)] == [grant.id]


def test_a_halted_strategy_completes_what_it_began(make):
    log = make.accounts().start()
    (first,) = grants(log.feed(wish(make, log)))
    log.feed(make.command("HALTED", "STRATEGY", "arb-1"))
    (hedge,) = grants(log.done(first, first.size, first.price))
    assert hedge.purpose == "HEDGE"


def test_while_reducing_hedges_and_exits_go_and_entries_do_not(make):
    log = make.accounts().start()
    (first,) = grants(log.feed(wish(make, log)))
    buy_alone(make, log, price=4_500)
    log.feed(make.command("REDUCING", ts_ns=log.now_ns))
    assert len(grants(log.done(first, first.size, first.price))) == 1
    log.feed(wish(make, log, 2, strategy="arb-2"))
    assert reasons(log) == ["REDUCING"]
    log.clock(1)
    leg = make.replace(make.leg(KALSHI, "SELL", [(4_000, 5 * ONE)]), reduces=True, recv_ts_ns=log.now_ns)
    exit_ = wish(make, log, 3, link=KALSHI, legs=[leg], profit_e6=0, strategy="arb-3")
    assert [grant.purpose for grant in grants(log.feed(exit_))] == ["UNWIND"]


def test_the_strictest_word_holds_whoever_said_it(make):
    log = make.accounts().start(limits=make.limit(state="REDUCING"))
    log.feed(make.command("RUNNING"))
    log.feed(wish(make, log))
    assert reasons(log) == ["REDUCING"]
    assert whole(log).cause == "LIMIT of a human: test"


@given(st.lists(st.sampled_from(["RUNNING", "REDUCING", "HALTED", "UNKNOWN"]), min_size=1, max_size=5))
def test_nothing_said_beside_allows_more(states):
    order = ["RUNNING", "REDUCING", "HALTED", "UNKNOWN"]
    found = strictest(*(Stop(state, "") for state in states)).state
    worst = max(order.index(state) for state in states)
    assert order.index(found) == worst or {found, order[worst]} == {"HALTED", "UNKNOWN"}


# --- losses of the day


def test_a_loss_reduces_then_halts_and_stays_until_a_human_resumes(make):
    log = make.accounts().start(limits=make.limit(day_loss_reduce_e6=ONE, day_loss_halt_e6=2 * ONE))
    log.clock(1_000)
    buy_alone(make, log)
    mark(make, log, 3_950, 4_050)
    log.clock(1_000)
    assert (whole(log).state, whole(log).day_pnl_e6) == ("RUNNING", -50_000)
    mark(make, log, 2_900, 4_050, version=2)
    log.clock(1_000)
    assert (whole(log).state, whole(log).day_pnl_e6) == ("REDUCING", -1_100_000)
    mark(make, log, 1_000, 4_050, version=3)
    log.clock(1_000)
    assert whole(log).state == "HALTED"
    assert whole(log).cause == "DAY_LOSS 3000000e-6"
    # The price comes back, and a day later a human looks.
    mark(make, log, 4_000, 4_050, version=4)
    log.clock(1_000)
    assert whole(log).state == "HALTED"
    log.now_ns = (log.now_ns // DAY + 1) * DAY
    mark(make, log, 4_000, 4_050, version=5)
    log.clock(1_000)
    assert whole(log).state == "HALTED"
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    log.clock(1_000)
    assert whole(log).state == "RUNNING"


def test_resuming_while_the_loss_stands_stops_it_again(make):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=ONE))
    log.clock(1_000)
    buy_alone(make, log)
    mark(make, log, 1_000, 4_050)
    log.clock(1_000)
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    mark(make, log, 1_000, 4_050, version=2)
    log.clock(1_000)
    assert whole(log).state == "HALTED"


def test_yesterdays_loss_is_not_todays(make):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=3 * ONE))
    log.clock(1_000)
    buy_alone(make, log)
    for version, bid in enumerate((2_000, 500), start=1):
        mark(make, log, bid, 4_050, version=version)
        log.clock(1_000)
        log.now_ns = (log.now_ns // DAY + 1) * DAY
    assert whole(log).state == "RUNNING"
    mark(make, log, 500, 4_050, version=5)
    log.clock(1_000)
    assert whole(log).day_pnl_e6 == 0


def test_linked_quantity_loses_nothing_however_prices_move(make):
    log = make.accounts().start(limits=make.limit(day_loss_reduce_e6=0, day_loss_halt_e6=ONE))
    log.clock(1)
    alive(log)
    log.feed(make.limit(day_loss_reduce_e6=ONE))
    (first,) = grants(log.feed(wish(make, log)))
    (second,) = grants(log.done(first, first.size, first.price))
    log.done(second, second.size, second.price)
    for version, (name, bid, ask) in enumerate([(KALSHI, 9_000, 9_900), (POLY, 100, 200)], start=1):
        mark(make, log, bid, ask, version=version, name=name)
    log.clock(2_000)
    assert (whole(log).state, whole(log).day_pnl_e6, whole(log).stale) == ("RUNNING", ONE, 0)
    # What was counted on as linked is at the mercy of prices once the link is not in force.
    log.feed(make.link(version=2, status="SUSPENDED"))
    mark(make, log, 100, 200, version=3, name=POLY)
    log.clock(1_000)
    assert whole(log).state == "REDUCING"


def test_a_strategy_that_lost_its_budget_is_halted_alone(make):
    log = make.accounts().start()
    log.feed(make.budget("STRATEGY", "arb-1", day_loss_max_e6=ONE))
    log.clock(1_000)
    buy_alone(make, log)
    mark(make, log, 2_000, 4_050)
    log.clock(1_000)
    alive(log)
    log.feed(wish(make, log, 2))
    assert reasons(log) == ["STOPPED"]
    mark(make, log, 2_000, 4_050, version=2)
    assert len(grants(log.feed(wish(make, log, 3, strategy="arb-2")))) == 1


@pytest.mark.parametrize("why", ["suspect", "old ticks", "no quote"])
def test_new_risk_waits_while_a_holding_cannot_be_valued(make, why):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=100 * ONE))
    log.clock(1_000)
    buy_alone(make, log)
    # The fill itself is a mark for a while.
    log.clock(1_000)
    assert whole(log).stale == 0
    if why == "suspect":
        mark(make, log, 3_900, 4_100, state="SUSPECT")
    elif why == "old ticks":
        mark(make, log, 3_900, 4_100)
        log.clock(6_000)
    else:
        log.clock(20_000)
    log.clock(1_000)
    alive(log)
    assert whole(log).stale == 1
    log.feed(wish(make, log, 2))
    assert reasons(log) == ["STALE_MARK"]
    mark(make, log, 3_900, 4_100, version=9)
    log.clock(1_000)
    alive(log)
    assert len(grants(log.feed(wish(make, log, 3)))) == 1


def test_a_closed_market_keeps_its_last_mark_and_is_in_nobodys_way(make):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=100 * ONE))
    log.clock(1_000)
    buy_alone(make, log)
    mark(make, log, 3_900, 4_100)
    log.feed(make.instrument(KALSHI, status="CLOSED"))
    log.clock(30_000)
    assert (whole(log).stale, whole(log).day_pnl_e6) == (0, -100_000)


def test_a_market_that_is_determined_is_in_nobodys_way_before_its_description_says_so(make):
    log = make.accounts().start(limits=make.limit(day_loss_halt_e6=100 * ONE))
    log.clock(1_000)
    buy_alone(make, log)
    mark(make, log, 3_900, 4_100)
    mark(make, log, 3_900, 4_100, state="STALE", version=2)
    log.clock(1_000)
    assert whole(log).stale == 1
    said = dict(instrument=KALSHI, epoch=1, frame_no=1, index=0, price_exp=-4, recv_ts_ns=log.now_ns)
    log.feed(Status(status="DETERMINED", payout_e6=ONE, **said))
    log.clock(1_000)
    assert whole(log).stale == 0


def test_a_limit_that_is_set_later_counts_from_then(make):
    log = make.accounts().start()
    buy_alone(make, log)
    log.clock(1_000)
    log.feed(make.limit(day_loss_halt_e6=ONE))
    mark(make, log, 1_000, 4_050)
    log.clock(1_000)
    assert (whole(log).state, whole(log).day_pnl_e6) == ("RUNNING", 0)
    mark(make, log, 100, 4_050, version=2)
    log.clock(1_000)
    assert whole(log).day_pnl_e6 == -900_000


# --- silence


def test_a_silent_gateway_reduces_by_itself_and_halts_for_good(make):
    log = make.accounts().start(limits=make.limit(silence_reduce_ms=2_000, silence_halt_ms=5_000))
    for _ in range(30):
        log.clock(100)
        log.alive("kalshi:main")
    assert whole(log).cause == "SILENCE of polymarket:main"
    assert whole(log).state == "REDUCING"
    alive(log)
    log.clock(100)
    log.clock(1_000)
    assert whole(log).state == "RUNNING"
    for _ in range(60):
        log.clock(100)
    assert whole(log).state == "HALTED"
    alive(log)
    log.clock(1_000)
    assert whole(log).state == "HALTED"
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    log.clock(1_000)
    assert whole(log).state == "RUNNING"


def test_a_log_that_stood_still_is_not_a_silent_gateway(make):
    log = make.accounts().start(limits=make.limit(silence_reduce_ms=2_000, silence_halt_ms=5_000))
    log.clock(100)
    log.clock(60_000)
    assert log.all(Standing) == []


@given(st.lists(st.tuples(st.integers(0, 4_000), st.booleans()), max_size=40))
def test_silence_is_the_time_since_the_last_word_in_steps_of_a_second_at_most(steps):
    risk, now_ns, silent = Risk(), START_NS, 0
    allowed = limit(silence_reduce_ms=3_000, silence_halt_ms=-1)
    risk.tick(now_ns, ["a"], allowed)
    for pause_ms, speaks in steps:
        now_ns += pause_ms * 1_000_000
        risk.tick(now_ns, ["a"], allowed)
        silent += min(pause_ms, 1_000)
        if speaks:
            risk.heard("a")
            silent = 0
        assert (risk.whole(allowed).state == "REDUCING") == (silent >= 3_000)


# --- two people


def test_what_allows_more_takes_two_people_where_the_limit_says_so(make):
    log = make.accounts().start(limits=make.limit(two_people=True, day_loss_halt_e6=50 * ONE))
    accounts = log.task._sets["main"]
    log.feed(make.limit(two_people=True, day_loss_halt_e6=60 * ONE))
    assert accounts.limit.day_loss_halt_e6 == 50 * ONE
    log.feed(make.limit(two_people=True, day_loss_halt_e6=60 * ONE, approved_by="a human"))
    assert accounts.limit.day_loss_halt_e6 == 50 * ONE
    log.feed(make.limit(two_people=True, day_loss_halt_e6=60 * ONE, approved_by="another"))
    assert accounts.limit.day_loss_halt_e6 == 60 * ONE
    # Less needs nobody else, nor does a halt.
    log.feed(make.limit(two_people=True, day_loss_halt_e6=10 * ONE, state="HALTED"))
    assert accounts.is_halted()
    log.feed(make.limit(two_people=True, day_loss_halt_e6=10 * ONE))
    assert accounts.is_halted()


def test_a_raised_budget_takes_two_people_as_well(make):
    log = make.accounts().start(limits=make.limit(two_people=True))
    log.feed(make.budget("STRATEGY", "*", notional_max_e6=ONE))
    log.feed(make.budget("STRATEGY", "*"))
    log.feed(wish(make, log))
    assert reasons(log) == ["BUDGET_STRATEGY"]


@pytest.mark.parametrize(
    ("changes", "raised"),
    [
        ({}, []),
        ({"order_notional_max_e6": 1}, []),
        ({"order_notional_max_e6": 2_000 * ONE}, ["order_notional_max_e6"]),
        ({"day_loss_halt_e6": -1}, ["day_loss_halt_e6"]),
        ({"day_loss_reduce_e6": 5}, []),
        ({"heal_max_e6": 5}, ["heal_max_e6"]),
        ({"two_people": False}, ["two_people"]),
        ({"state": "REDUCING"}, []),
        ({"open_sagas_max": 11, "reason": "x"}, ["open_sagas_max"]),
    ],
)
def test_what_allows_more_is_named(changes, raised):
    assert allows_more(limit(two_people=True, day_loss_halt_e6=5), limit(**{"two_people": True, "day_loss_halt_e6": 5, **changes})) == raised  # fmt: skip


def test_a_signature_is_two_names():
    assert not is_signed(limit())
    assert not is_signed(limit(approved_by=" a human "))
    assert is_signed(limit(approved_by="another"))


def is_taken(log, *changes, **figures) -> bool:
    """Feed a budget of one person; say whether it was taken."""
    record = budget(*changes, **figures)
    log.feed(record)
    return log.task._sets["main"].risk.budgets.get((record.scope, record.name)) == record


def test_a_budget_of_its_own_beyond_that_of_each_takes_two_people(make):
    log = make.accounts().start(limits=make.limit(two_people=True))
    assert is_taken(log, "STRATEGY", "*", notional_max_e6=100 * ONE)
    assert not is_taken(log, "STRATEGY", "arb-1", notional_max_e6=101 * ONE)
    assert not is_taken(log, "STRATEGY", "arb-1")
    assert is_taken(log, "STRATEGY", "arb-1", notional_max_e6=50 * ONE)
    # From then on it is its own that is raised, though by less than each other has.
    assert not is_taken(log, "STRATEGY", "arb-1", notional_max_e6=60 * ONE)
    assert is_taken(log, "STRATEGY", "arb-1", notional_max_e6=200 * ONE, approved_by="another")


def test_a_budget_of_its_own_leaves_no_other_figure_of_each_without_limit(make):
    log = make.accounts().start(limits=make.limit(two_people=True))
    assert is_taken(log, "STRATEGY", "*", notional_max_e6=100 * ONE, day_loss_max_e6=10 * ONE)
    assert not is_taken(log, "STRATEGY", "arb-1", notional_max_e6=50 * ONE)
    assert is_taken(log, "STRATEGY", "arb-1", notional_max_e6=50 * ONE, day_loss_max_e6=10 * ONE)


def test_a_rate_of_a_venues_own_beyond_that_of_each_takes_two_people(make):
    log = make.accounts().start(limits=make.limit(two_people=True))
    assert is_taken(log, "VENUE", "*", orders_per_min=10, orders_burst=5)
    assert not is_taken(log, "VENUE", "kalshi", orders_per_min=600, orders_burst=5)


def test_a_budget_of_an_event_is_held_against_that_of_the_event_it_is_joined_to(make):
    log = make.accounts().start(limits=make.limit(two_people=True))
    assert is_taken(log, "EVENT", "*", worst_loss_max_e6=100 * ONE)
    assert is_taken(log, "EVENT", make.POLY, worst_loss_max_e6=20 * ONE)
    # Its name comes first, so it would take the other's place for both.
    assert not is_taken(log, "EVENT", make.KALSHI, worst_loss_max_e6=60 * ONE)
    assert is_taken(log, "EVENT", make.KALSHI, worst_loss_max_e6=20 * ONE)
    assert not is_taken(log, "EVENT", "kalshi:of its own", worst_loss_max_e6=101 * ONE)
    assert is_taken(log, "EVENT", "kalshi:of its own", worst_loss_max_e6=60 * ONE)
