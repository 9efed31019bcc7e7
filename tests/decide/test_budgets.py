"""What parts of an account set may use, whatever intents ask for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decide.budgets import View, charge, rate_allows
from decide.marks import Marks
from decide.positions import Book, Positions
from decide.risk import Risk
from decide.worth import least_payout, match, worth
from schemas.decision import Grant, Saga, Standing
from tests.decide.conftest import KALSHI, ONE, POLY, START_NS, budget, command, instrument, link

MINUTE = 60_000_000_000


def reasons(log):
    return [saga.reason for saga in log.all(Saga) if saga.state == "REFUSED"]


def intent(make, log, number, strategy="arb-1", size=10 * ONE):
    """Buy on Polymarket at .40 and sell on Kalshi at .50: about 4.00 and 5.00 dollars for ten."""
    legs = [make.leg(POLY, "BUY", [(4_000, size)]), make.leg(KALSHI, "SELL", [(5_000, size)])]
    legs = [make.replace(one, recv_ts_ns=log.now_ns) for one in legs]
    return make.intent(id=f"intent-{number}", strategy=strategy, legs=legs, now_ns=log.now_ns, recv_ts_ns=log.now_ns)


def run_whole(make, log, number, **changes):
    """Feed an intent that names newer books, and fill whatever is granted for it."""
    log.clock(1)
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    heard = log.feed(intent(make, log, number, **changes))
    for _ in range(2):
        for grant in [record for record in heard if isinstance(record, Grant)]:
            log.fill(grant, grant.size, grant.price, name=f"f-{grant.id}")
            heard = log.update(grant, "FILLED", grant.size)
    return heard


@pytest.mark.parametrize(
    ("scope", "name", "refusal"),
    [
        ("STRATEGY", "arb-1", "BUDGET_STRATEGY"),
        ("STRATEGY", "*", "BUDGET_STRATEGY"),
        ("VENUE", "kalshi", "BUDGET_VENUE"),
        ("SHARD", "kalshi/0", "BUDGET_SHARD"),
        ("CATEGORY", "*", "BUDGET_CATEGORY"),
        ("EVENT", POLY, "BUDGET_EVENT"),
        ("INSTRUMENT", KALSHI, "BUDGET_INSTRUMENT"),
    ],
)
def test_an_intent_beyond_a_budget_is_refused_by_its_name(make, scope, name, refusal):
    log = make.accounts().start()
    log.feed(make.budget(scope, name, notional_max_e6=4 * ONE - 1))
    log.feed(intent(make, log, 1))
    assert reasons(log) == [refusal]
    assert log.all(Grant) == []
    log.feed(make.budget(scope, name, notional_max_e6=20 * ONE))
    assert any(isinstance(record, Grant) for record in log.feed(intent(make, log, 2)))


def test_what_is_reserved_counts_and_what_is_given_back_does_not(make):
    log = make.accounts().start()
    log.feed(make.budget("STRATEGY", "*", notional_max_e6=12 * ONE))
    (grant, *_) = log.feed(intent(make, log, 1))
    log.feed(make.replace(intent(make, log, 2), link="L1", strategy="arb-1"))
    assert reasons(log) == ["OPEN_SAGA"]
    log.update(grant, "CANCELLED")
    log.clock(1)
    assert any(isinstance(record, Grant) for record in log.feed(intent(make, log, 3)))


def test_a_budget_of_its_own_goes_before_the_one_for_each(make):
    log = make.accounts().start()
    log.feed(make.budget("STRATEGY", "*", notional_max_e6=0))
    log.feed(make.budget("STRATEGY", "arb-1", notional_max_e6=20 * ONE))
    assert any(isinstance(record, Grant) for record in log.feed(intent(make, log, 1)))
    other = intent(make, log, 2, strategy="arb-2")
    legs = [make.leg(POLY, "BUY", [(4_100, 10 * ONE)]), make.leg(KALSHI, "SELL", [(4_900, 10 * ONE)])]
    log.feed(make.replace(other, legs=legs))
    assert reasons(log) == ["BUDGET_STRATEGY"]


def test_linked_quantity_loses_nothing_in_its_worst_outcome(make):
    log = make.accounts().start()
    # One intent reserves about 9.3 dollars; once filled, its legs pay ten whatever happens.
    log.feed(make.budget("EVENT", worst_loss_max_e6=10 * ONE))
    for number in range(4):
        run_whole(make, log, number)
    assert reasons(log) == []
    assert log.ledger(f"kalshi:main|{KALSHI}|YES").size == -40 * ONE


def test_without_a_link_in_force_all_that_was_paid_can_be_lost(make):
    log = make.accounts().start()
    run_whole(make, log, 1)
    log.feed(make.budget("EVENT", KALSHI, worst_loss_max_e6=100 * ONE))
    accounts = log.task._sets["main"]
    known = log.task._known
    linked = View(accounts, known, log.now_ns)
    assert linked.usage("EVENT", linked.event_named(KALSHI)).worst_loss_e6 == 0
    log.feed(make.link(version=2, status="SUSPENDED"))
    alone = View(accounts, known, log.now_ns)
    assert alone.event_named(KALSHI) == KALSHI
    assert alone.usage("EVENT", KALSHI).worst_loss_e6 == 5 * ONE


def test_orders_beyond_a_venues_rate_wait_and_what_takes_risk_away_does_not(make):
    log = make.accounts().start()
    log.feed(make.budget("VENUE", "kalshi", orders_per_min=60, orders_burst=2))
    for number in range(4):
        run_whole(make, log, number)
    assert reasons(log) == ["BUDGET_RATE", "BUDGET_RATE"]
    log.clock(1_000)
    run_whole(make, log, 9)
    assert len(reasons(log)) == 2
    assert log.ledger(f"kalshi:main|{KALSHI}|YES").size == -30 * ONE


def test_a_rate_of_none_lets_no_intent_through(make):
    risk = Risk()
    risk.budget(make.budget("VENUE", "kalshi", orders_per_min=0))
    assert not rate_allows(risk, "kalshi", 1, START_NS)
    assert rate_allows(risk, "polymarket", 1, START_NS)


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 3)), max_size=60), st.integers(1, 120), st.integers(0, 9)
)
def test_no_minute_sees_more_orders_than_rate_and_burst_together(asked, per_min, burst):
    risk, now_ns, granted = Risk(), START_NS, []
    risk.budget(budget("VENUE", "kalshi", orders_per_min=per_min, orders_burst=burst))
    for pause_ms, count in asked:
        now_ns += pause_ms * 1_000_000
        if rate_allows(risk, "kalshi", count, now_ns):
            charge(risk, "kalshi", count, now_ns)
            granted += [now_ns] * count
    for first in granted:
        assert sum(first <= one < first + MINUTE for one in granted) <= per_min + (burst or per_min)


seeds = st.integers(0, 2**32)


def usages(log, scopes):
    view = View(log.task._sets["main"], log.task._known, log.now_ns)
    return {(scope, label): view.usage(scope, label).notional_e6 for scope in scopes for label in view.labels(scope)}


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_no_course_of_intents_and_fills_goes_beyond_a_budget(make, seed):
    dice = random.Random(seed)
    log = make.accounts().start()
    most = {"STRATEGY": 25 * ONE, "VENUE": 30 * ONE, "EVENT": 45 * ONE}
    for scope, figure in most.items():
        log.feed(make.budget(scope, notional_max_e6=figure))
    open_grants, admissions = [], 0
    for number in range(40):
        for venue in ("kalshi", "polymarket"):
            log.alive(f"{venue}:main")
        before = usages(log, most)
        heard = log.feed(
            intent(make, log, number, strategy=f"arb-{dice.randrange(3)}", size=dice.randrange(5, 20) * ONE)
        )
        admitted = [record for record in heard if isinstance(record, Grant)]
        if admitted:
            # What completes or unwinds a saga may later cost more than was planned, within the saga's own budget.
            admissions += 1
            after = usages(log, most)
            assert all(
                used <= max(most[scope], before.get((scope, label), 0)) for (scope, label), used in after.items()
            )
        open_grants += admitted
        if open_grants and dice.random() < 0.7:
            grant = open_grants.pop(dice.randrange(len(open_grants)))
            part = dice.choice([0, grant.size // 2 // 10_000 * 10_000, grant.size])
            if part:
                log.fill(grant, part, grant.price, name=f"f-{grant.id}")
            heard = log.update(grant, "FILLED" if part == grant.size else "CANCELLED", part)
            open_grants += [record for record in heard if isinstance(record, Grant)]
        log.clock(200)
    assert admissions > 1


def test_what_is_used_is_written_down_when_it_changed(make):
    log = make.accounts().start()
    log.feed(make.budget("VENUE", notional_max_e6=50 * ONE))
    run_whole(make, log, 1)
    log.clock(1_000)
    said = {record.id: record for record in log.all(Standing)}
    assert said["main|VENUE|kalshi"].notional_e6 == 5 * ONE
    assert said["main|VENUE|polymarket"].notional_e6 == 4 * ONE
    assert said["main|VENUE|kalshi"].notional_max_e6 == 50 * ONE
    count = len(log.all(Standing))
    log.clock(1_000)
    assert len(log.all(Standing)) == count


def test_a_part_that_binds_nothing_any_more_says_so(make):
    log = make.accounts().start()
    log.feed(make.budget("VENUE", notional_max_e6=50 * ONE))
    (grant, *_) = log.feed(intent(make, log, 1))
    log.clock(1_000)
    assert [said for said in log.all(Standing) if said.id == "main|VENUE|kalshi"][-1].notional_e6 > 5 * ONE
    log.update(grant, "CANCELLED")
    log.clock(1_000)
    assert [said for said in log.all(Standing) if said.id == "main|VENUE|kalshi"][-1].notional_e6 == 0


def test_a_set_with_plain_limits_writes_no_standing(make):
    log = make.accounts().start()
    run_whole(make, log, 1)
    log.clock(5_000)
    assert log.all(Standing) == []


# --- what positions are worth


def test_a_pair_is_worth_its_worst_state_and_the_rest_its_marks(make):
    marks = Marks()
    seen = make.depth(POLY, 1, [(3_000, ONE)], [(4_500, ONE)])
    marks.quote(make.quote(seen), 0, START_NS)
    marks.tick(make.tick(START_NS))
    found = worth({POLY: 15 * ONE, KALSHI: -10 * ONE}, [link()], marks, START_NS)
    # Ten pairs pay ten dollars less the ten owed on what is sold; five more sell at .30.
    assert found.value_e6 == 10 * ONE - 10 * ONE + 15 * ONE // 10
    assert found.stale == ()
    alone = worth({POLY: 15 * ONE, KALSHI: -10 * ONE}, [], marks, START_NS)
    assert alone.stale == (KALSHI,)
    assert alone.value_e6 == 15 * ONE * 3 // 10 - 10 * ONE


def test_two_of_a_side_of_one_pair_guarantee_nothing(make):
    assert match({POLY: 10 * ONE, KALSHI: 10 * ONE}, [link()]).rest == {POLY: 10 * ONE, KALSHI: 10 * ONE}
    opposite = link(polarity="OPPOSITE", payout_b_e6=[0, ONE])
    assert match({POLY: 10 * ONE, KALSHI: 10 * ONE}, [opposite]).pays_e6 == 10 * ONE


EVENT = dict(
    id="E", kind="EVENT", instrument_a="", instrument_b="", payout_a_e6=[], payout_b_e6=[],
    instruments=["p:A", "p:B", "p:C"], states=["A", "B", "C"], payouts_e6=[ONE, 0, 0, 0, ONE, 0, 0, 0, ONE],
)  # fmt: skip


def test_all_outcomes_of_an_exhausted_event_pay_a_dollar():
    event = link(**EVENT, exhaustive=True)
    assert match({"p:A": 3 * ONE, "p:B": 2 * ONE, "p:C": 5 * ONE}, [event]).pays_e6 == 2 * ONE
    # Without the word of a human that one of them must win, nothing is sure.
    assert match({"p:A": 3 * ONE, "p:B": 2 * ONE, "p:C": 5 * ONE}, [link(**EVENT)]).pays_e6 == 0
    assert match({"p:A": -3 * ONE, "p:B": -2 * ONE, "p:C": -5 * ONE}, [link(**EVENT)]).pays_e6 == (2 * 2 + 1) * ONE


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=3), st.booleans())
def test_no_outcome_pays_less_than_the_least(sizes, exhaustive):
    names = ["p:A", "p:B", "p:C"]
    quantities = {name: size * ONE for name, size in zip(names, sizes, strict=True)}
    described = {name: instrument(f"polymarket:{name}", neg_risk=True, event_group="p:E") for name in names}
    winners = [*names] + ([] if exhaustive else [""])
    paid = [
        sum(
            (size if winner == name else 0) if size > 0 else (0 if winner == name else -size)
            for name, size in quantities.items()
        )
        for winner in winners
    ]
    for links in ([], [link(**EVENT, exhaustive=exhaustive)]):
        assert least_payout(quantities, links, described) <= min(paid)
    if not exhaustive:
        assert least_payout(quantities, [], described) == min(paid)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 99), st.integers(1, 50)), max_size=30))
def test_profit_of_a_closed_book_is_its_cash_and_its_cost_never_below_zero(trades):
    book, cash, held = Book(), 0, 0
    for buys, cents, size in trades:
        signed = size * ONE if buys else -size * ONE
        book.trade(("kalshi:main", KALSHI), signed, size * cents * 10_000)
        cash += -size * cents * 10_000 if buys else size * cents * 10_000
        held += signed
        position = book.open.get(("kalshi:main", KALSHI))
        assert (position.size if position else 0) == held
        assert position is None or 0 <= position.cost_e6 <= abs(held)
    assert book.flow_e6 == cash


def test_a_halted_strategy_keeps_its_budget_in_the_view(make):
    log = make.accounts().start()
    log.feed(command("HALTED", "STRATEGY", "arb-1"))
    log.feed(intent(make, log, 1))
    assert reasons(log) == ["STOPPED"]
    said = {record.id: record for record in log.all(Standing)}
    assert said["main|STRATEGY|arb-1"].state == "HALTED"
    assert said["main|STRATEGY|arb-1"].cause == "COMMAND of a human: test"


def test_what_the_venue_took_is_lost_by_who_held_it():
    positions = Positions()
    positions.books["a"] = Book()
    positions.books["a"].trade(("k", "i"), 5 * ONE, 2 * ONE)
    positions.books["b"] = Book()
    positions.books["b"].trade(("k", "i"), -5 * ONE, 2 * ONE)
    positions.adjust("k", "i", -7 * ONE)
    assert positions.books["a"].open == {}
    assert positions.books["a"].flow_e6 == -2 * ONE
    assert positions.books[""].open["k", "i"].size == -2 * ONE


# --- a weak state counts, though admission takes a haircut for it


WEAK = dict(
    states=["yes", "no", "odd"], payout_a_e6=[ONE, 0, 400_000], payout_b_e6=[ONE, 0, 600_000],
    weak_states=["odd"], haircut_e6=30_000, cap_e6=1_000 * ONE,
)  # fmt: skip


def test_a_linked_pair_is_worth_the_worst_row_of_its_table_and_not_the_haircut():
    held = {KALSHI: 100 * ONE, POLY: -100 * ONE}
    # YES of Kalshi at .40 and NO of Polymarket at .40: eighty of a hundred.
    found = match(held, [link(**WEAK)])
    assert (found.pays_e6, found.value_e6, found.rest) == (80 * ONE, -20 * ONE, {})
    assert worth(held, [link(**WEAK)], Marks(), START_NS).value_e6 == -20 * ONE


def test_a_linked_pair_that_a_weak_state_pays_nothing_is_worth_nothing():
    lost = link(**{**WEAK, "payout_a_e6": [ONE, 0, 0], "payout_b_e6": [ONE, 0, ONE]})
    found = match({KALSHI: 100 * ONE, POLY: -100 * ONE}, [lost])
    assert (found.pays_e6, found.rest) == (0, {})


def test_the_worst_loss_of_an_event_counts_weak_states(make):
    log = make.accounts().start()
    log.feed(make.link(version=2, **{**WEAK, "payout_a_e6": [ONE, 0, 600_000], "payout_b_e6": [ONE, 0, 400_000]}))
    log.feed(make.budget("EVENT", worst_loss_max_e6=100 * ONE))
    run_whole(make, log, 1)
    view = View(log.task._sets["main"], log.task._known, log.now_ns)
    # Ten pairs cost 4.00 and 5.00; in the odd state bought Polymarket pays .40 and sold Kalshi .40.
    assert view.usage("EVENT", view.event_named(KALSHI)).worst_loss_e6 == ONE
