"""What was granted against what a human allowed, and who is struck while it is."""

from collections import Counter

import msgspec
import pytest

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from infra.chaos.plan import MONEY, strikes
from infra.cli.reach import Reach
from infra.demo.budgets import Budgets, leaked, notional_e6
from infra.demo.capital import Capital
from infra.demo.options import Options
from infra.demo.stage import Demo
from schemas.decision import Budget, Ledger, Limit, Saga
from schemas.order import Fill, Settled
from tests.records import granted

T = 1_780_000_000_000_000_000


def limit(**changes):
    fields = dict(
        id="main", state="RUNNING", order_notional_max_e6=100 * MICRO, market_notional_max_e6=1_000 * MICRO,
        open_sagas_max=2, unwind_budget_e6=MICRO, set_by="test", reason="test",
    )  # fmt: skip
    return Limit(**(fields | changes))


def grant(name="g1", **changes):
    fields = dict(id=name, price=5_000, size=200 * MICRO, client_id=f"client-{name}", now_ns=T)
    return granted("kalshi:X", **(fields | changes))


def saga(name, state, offset):
    return Saga(
        id=name, strategy="s", link="l", account_set="main", state=state, now_ns=T, log_partition=0, log_offset=offset,
        recv_ts_ns=T,
    )  # fmt: skip


def budgets(*records):
    made = Budgets()
    for record in records:
        made.add(record)
    return made


def test_an_order_at_its_limit_is_within_and_a_unit_more_is_not():
    assert notional_e6(grant()) == 100 * MICRO
    assert notional_e6(grant(side="SELL", price=7_500)) == 50 * MICRO
    assert budgets(limit(), grant()).exceeded() == []
    (found,) = budgets(limit(), grant(size=200 * MICRO + 1)).exceeded()
    assert found == "grant g1: 100000001 of 100000000 (1e-6) for one order of kalshi:X"


def test_what_completes_or_takes_back_may_be_larger_than_an_entry():
    assert budgets(limit(), grant(size=300 * MICRO, purpose="UNWIND")).exceeded() == []


def test_a_grant_without_a_limit_is_one_too_many():
    assert budgets(grant()).exceeded() == ["grant g1: no limit of main, which means HALTED"]


def test_open_sagas_are_counted_in_the_order_of_the_log_whatever_order_they_are_read_in():
    within = [saga("a", "FIRST_LEG", 1), saga("b", "FIRST_LEG", 2), saga("a", "DONE", 3), saga("c", "FIRST_LEG", 4)]
    assert budgets(limit(), *reversed(within), within[0]).exceeded() == []
    (found,) = budgets(limit(), *within, saga("d", "FIRST_LEG", 5)).exceeded()
    assert found == "saga d at offset 5: 3 of 2 open"


def test_a_saga_that_a_failed_settlement_reopened_was_let_in_before():
    records = [saga("a", "FIRST_LEG", 1), saga("a", "DONE", 2), saga("b", "FIRST_LEG", 3), saga("c", "FIRST_LEG", 4)]
    assert budgets(limit(), *records, saga("a", "UNWINDING", 5)).exceeded() == []


def test_money_reserved_at_the_end_is_a_leak():
    def row(name, instrument="", reserved=0):
        return Ledger(
            id=name, account="kalshi:main", instrument=instrument, outcome="NONE", reserved_e6=reserved, known=True,
            now_ns=T, log_partition=0, log_offset=1,
        )  # fmt: skip

    assert leaked({"a": row("a"), "b": row("b", "kalshi:X", 5)}) == []
    assert leaked({"a": row("a", reserved=7)}) == ["kalshi:main: 7 (1e-6)"]


def fill(number, order, size, price_e6, outcome="YES"):
    return Fill(
        event_id=f"f{number}", order=order, account="kalshi:main", instrument="kalshi:X", fill=f"fill-{number}",
        outcome=outcome, token_side="BUY", size=size * MICRO, price_e6=price_e6, notional_e6=size * price_e6, fee_e6=0,
        asset="USD", liquidity="TAKER", settlement="NONE", ts_ns=T + number, recv_ts_ns=T + number,
    )  # fmt: skip


def budget(**changes):
    fields = dict(
        id="b",
        account_set="main",
        scope="STRATEGY",
        name="s",
        notional_max_e6=100 * MICRO,
        set_by="test",
        reason="test",
    )
    return Budget(**(fields | changes))


def capital(*records):
    made = Capital()
    allowed = budget()
    for record in (allowed, saga("i", "DONE", 1), *records):
        made.add(record)
    return list(made.exceeded())


def test_a_strategy_may_hold_what_its_budget_allows_and_not_a_unit_more():
    entries = [grant("a"), grant("b")]
    assert capital(*entries, fill(1, "a", 100, 400_000), fill(2, "b", 100, 600_000)) == []
    (found,) = capital(*entries, fill(1, "a", 100, 400_000), fill(2, "b", 101, 600_000))
    assert found == "strategy s: holds 100600000 of 100000000 (1e-6) after fill fill-2"


def test_what_was_sold_or_failed_to_settle_is_not_held_any_more():
    sold = grant("b", side="SELL", purpose="UNWIND", token_side="SELL")
    records = [grant("a"), sold, grant("c"), fill(1, "a", 200, 500_000), fill(2, "b", 200, 500_000)]
    assert capital(*records, fill(3, "c", 200, 500_000)) == []
    assert len(capital(*records, fill(3, "c", 201, 500_000))) == 1
    failed = Settled(
        event_id="s", order="c", account="kalshi:main", instrument="kalshi:X", fill="fill-3", settlement="FAILED",
        ts_ns=T, recv_ts_ns=T,
    )  # fmt: skip
    assert capital(*records, fill(3, "c", 201, 500_000), failed) == []


def test_no_bought_closes_yes_before_it_opens_no():
    sold = grant("b", side="SELL")
    assert capital(grant("a"), sold, fill(1, "a", 100, 900_000), fill(2, "b", 200, 900_000, "NO")) == []
    assert len(capital(grant("a"), sold, fill(1, "a", 100, 900_000), fill(2, "b", 212, 900_000, "NO"))) == 1


def test_a_leg_completed_at_a_worse_price_counts_at_its_own_limit():
    again = grant("b", purpose="HEDGE", attempt=2, price=5_500)
    assert capital(grant("a"), again, fill(1, "b", 200, 550_000)) == []
    assert len(capital(grant("a"), again, fill(1, "b", 201, 550_000))) == 1


def test_a_budget_for_each_holds_for_who_has_none_of_his_own():
    each = budget(name="*", notional_max_e6=10 * MICRO)
    other = msgspec.structs.replace(saga("j", "DONE", 1), strategy="other")
    assert len(capital(each, other, grant("a", intent="j"), fill(1, "a", 30, 500_000))) == 1
    assert capital(each, other, grant("a"), fill(1, "a", 30, 500_000)) == []


@pytest.mark.parametrize("seed", range(3))
def test_strikes_fall_on_all_who_decide_and_send_kills_and_freezes_in_turn(seed):
    drawn = strikes(seed, 300, 20)
    assert drawn == strikes(seed, 300, 20) != strikes(seed + 1, 300, 20)
    assert Counter(act.kind for act in drawn) == {"kill": 10, "freeze": 10}
    assert {act.target for act in drawn} == set(MONEY)
    times = [act.at_s for act in drawn]
    assert times == sorted(times)
    assert times[-1] <= 292
    assert all(2 <= act.seconds <= 5 for act in drawn if act.kind == "freeze")
    assert len(strikes(seed, 20, 2)) == 2


def test_kills_without_an_end_are_refused():
    with pytest.raises(Misconfigured, match="give --seconds too"):
        Demo(Reach.load("test-kills"), Options(seconds=0, kills=3), None)
