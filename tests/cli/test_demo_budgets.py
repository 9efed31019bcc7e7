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
from schemas.decision import Budget, Entry, Ledger, Limit, Link, Saga
from schemas.market import Instrument
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
    fields = dict(instrument="kalshi:X", id=name, price=5_000, size=200 * MICRO, client_id=f"client-{name}", now_ns=T)
    return granted(**(fields | changes))


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


# --- venues, markets, events


def market(name, group):
    return Instrument(
        instrument=name, venue=name.partition(":")[0], kind="BINARY", status="OPEN", title="t", event_group=group,
        price_exp=-4, size_exp=-6, tick_from=[], tick_to=[], tick_step=[], size_min=1, size_step=1, fee_model="NONE",
        taker_fee_e6=0,
        recv_ts_ns=T,
    )  # fmt: skip


def pair(a="kalshi:X", b="polymarket:M", **changes):
    fields = dict(
        id=f"{a}={b}", version=1, status="APPROVED", instrument_a=a, instrument_b=b, polarity="SAME",
        states=["yes", "no"], payout_a_e6=[MICRO, 0], payout_b_e6=[MICRO, 0], approved_by="test", approved_ts_ns=T,
    )  # fmt: skip
    return Link(**(fields | changes))


def event(*names):
    rows = [MICRO if row == column else 0 for row in range(len(names)) for column in range(len(names))]
    return pair(
        id="event", kind="EVENT", instrument_a="", instrument_b="", polarity="UNKNOWN", payout_a_e6=[], payout_b_e6=[],
        states=list(names), instruments=list(names), payouts_e6=rows, exhaustive=True,
    )  # fmt: skip


def at(instrument, name, size, price_e6, side="BUY"):
    """A grant and its whole fill."""
    order = grant(name, instrument=instrument, account=f"{instrument.partition(':')[0]}:main", side=side)
    taken = msgspec.structs.replace(
        fill(len(name) + ord(name[-1]), name, size, price_e6, "YES" if side == "BUY" else "NO"),
        instrument=instrument, account=order.account, fill=f"fill-{name}",
    )  # fmt: skip
    return order, msgspec.structs.replace(taken, price_e6=price_e6 if side == "BUY" else MICRO - price_e6)


def spent(*records):
    made = Capital()
    for record in (saga("i", "DONE", 1), *records):
        made.add(record)
    return list(made.exceeded())


def test_a_venue_holds_what_all_its_markets_cost_and_not_a_unit_more():
    records = [*at("kalshi:X", "a", 100, 400_000), *at("kalshi:Y", "b", 100, 600_000), *at("polymarket:M", "c", 9, 1)]
    assert spent(budget(scope="VENUE", name="kalshi"), *records) == []
    (found,) = spent(budget(scope="VENUE", name="kalshi", notional_max_e6=100 * MICRO - 1), *records)
    assert found == "venue kalshi: holds 100000000 of 99999999 (1e-6) after fill fill-b"
    assert spent(budget(scope="VENUE", name="polymarket", notional_max_e6=0), *records)[0].startswith(
        "venue polymarket"
    )


def test_a_market_is_held_to_the_limit_by_what_is_left_of_all_strategies():
    bought = at("kalshi:X", "a", 100, 500_000)
    assert spent(limit(market_notional_max_e6=50 * MICRO), *bought) == []
    (found,) = spent(limit(market_notional_max_e6=50 * MICRO - 1), *bought)
    assert found == "market kalshi:X: holds 50000000 of 49999999 (1e-6) after fill fill-a"
    other = msgspec.structs.replace(saga("j", "DONE", 1), strategy="other")
    order, taken = at("kalshi:X", "b", 100, 500_000, "SELL")
    against = [other, msgspec.structs.replace(order, intent="j"), taken]
    assert spent(limit(market_notional_max_e6=50 * MICRO), *bought, *against) == []
    each = budget(scope="INSTRUMENT", name="*", notional_max_e6=50 * MICRO)
    assert len(spent(each, *bought, *against)) == 1  # a budget counts what each strategy holds


def test_an_event_is_what_its_venue_calls_one_and_what_links_join_to_it():
    records = [
        market("kalshi:X", "E"), market("kalshi:Y", "E"), market("polymarket:M", "F"),
        *at("kalshi:X", "a", 100, 300_000), *at("kalshi:Y", "b", 100, 300_000), *at("polymarket:M", "c", 100, 300_000),
    ]  # fmt: skip
    each = budget(scope="EVENT", name="*", notional_max_e6=80 * MICRO)
    assert spent(each, *records) == []
    (found,) = spent(each, pair(), *records)
    assert found == "event E + F: holds 90000000 of 80000000 (1e-6) after fill fill-c"
    assert spent(each, budget(scope="EVENT", name="F", notional_max_e6=90 * MICRO), pair(), *records) == []
    assert spent(each, pair(), pair(status="SUSPENDED"), *records) == []


def test_the_worst_state_of_a_pair_pays_one_of_its_legs():
    worst = budget(scope="EVENT", name="*", notional_max_e6=-1, worst_loss_max_e6=0)
    hedged = [*at("kalshi:X", "a", 100, 400_000), *at("polymarket:M", "b", 100, 450_000, "SELL")]
    assert spent(worst, pair(), *hedged) == [
        "event kalshi:X + polymarket:M: may lose 40000000 of 0 (1e-6) after fill fill-a"
    ]
    sold_first = [*at("polymarket:M", "a", 100, 450_000, "SELL"), *at("kalshi:X", "b", 100, 400_000)]
    assert spent(worst, pair(), *sold_first)[0].endswith("may lose 55000000 of 0 (1e-6) after fill fill-a")
    wide = budget(scope="EVENT", name="*", notional_max_e6=-1, worst_loss_max_e6=55 * MICRO)
    assert spent(wide, pair(), *hedged) == []
    unlinked = [*at("kalshi:X", "a", 100, 400_000), *at("kalshi:Y", "b", 100, 450_000, "SELL")]
    grouped = [market("kalshi:X", "E"), market("kalshi:Y", "E")]
    assert spent(wide, *grouped, *unlinked) == ["event E: may lose 95000000 of 55000000 (1e-6) after fill fill-b"]


def test_what_an_exit_gives_up_of_a_guarantee_is_allowed_and_no_more():
    worst = budget(scope="EVENT", name="*", notional_max_e6=-1, worst_loss_max_e6=40 * MICRO)
    hedged = [*at("kalshi:X", "a", 100, 400_000), *at("polymarket:M", "b", 100, 450_000, "SELL")]
    order, taken = at("kalshi:X", "c", 100, 500_000, "SELL")
    sold = [saga("exit", "DONE", 2), msgspec.structs.replace(order, intent="exit", purpose="UNWIND"), taken]
    assert spent(worst, pair(), *hedged, *sold) == []
    assert spent(worst, pair(), *hedged, *sold, *at("kalshi:Y", "d", 100, 400_000)) == []
    (found,) = spent(worst, pair(), *hedged, *sold, *at("kalshi:X", "d", 90, 510_000, "SELL"))
    assert found == "event kalshi:X + polymarket:M: may lose 99100000 of 40000000 (1e-6) after fill fill-d"
    opened = [saga("entry", "DONE", 2), msgspec.structs.replace(order, intent="entry"), taken]
    assert len(spent(worst, pair(), *hedged, *opened)) == 1


def test_the_worst_state_of_an_event_pays_one_of_its_outcomes():
    names = ["kalshi:X", "kalshi:Y", "kalshi:Z"]
    bought = [record for place, name in enumerate(names) for record in at(name, "abc"[place], 100, 300_000)]
    worst = budget(scope="EVENT", name="*", notional_max_e6=-1, worst_loss_max_e6=60 * MICRO)
    assert spent(worst, event(*names), *bought) == []
    assert spent(worst, *(market(name, "E") for name in names), *bought) == [
        "event E: may lose 90000000 of 60000000 (1e-6) after fill fill-c"
    ]
    paired = [event(*names), pair("kalshi:Z", "polymarket:M"), *bought, *at("polymarket:M", "d", 50, 10_000)]
    assert spent(worst, *paired) == []


def test_a_settled_market_binds_nothing():
    paid = Entry(
        id="e", account="kalshi:main", kind="SETTLEMENT", instrument="kalshi:X", outcome="YES", now_ns=T,
        log_partition=0, log_offset=1,
    )  # fmt: skip
    allowed = budget(scope="VENUE", name="*", notional_max_e6=MICRO)
    assert len(spent(allowed, *at("kalshi:X", "a", 100, 500_000))) == 1
    assert spent(allowed, paid, *at("kalshi:X", "a", 100, 500_000)) == []


def test_orders_of_new_risk_keep_to_the_rate_of_their_venue():
    rate = budget(scope="VENUE", name="kalshi", notional_max_e6=-1, orders_per_min=60, orders_burst=2)
    at_once = [grant(str(n), intent=str(n), size=MICRO) for n in range(3)]
    assert budgets(limit(), rate, *at_once[:2]).exceeded() == []
    (found,) = budgets(limit(), rate, *at_once).exceeded()
    assert found == "venue kalshi: grant 2 came before its rate allowed it (60 a minute)"
    later = msgspec.structs.replace(at_once[2], now_ns=T + 1_000_000_000)
    assert budgets(limit(), rate, *at_once[:2], later).exceeded() == []
    again = msgspec.structs.replace(at_once[2], intent="0", leg=1)
    assert budgets(limit(), rate, *at_once[:2], again).exceeded() == []
    hedge = msgspec.structs.replace(at_once[2], purpose="HEDGE")
    assert budgets(limit(), rate, *at_once[:2], hedge).exceeded() == []


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


@pytest.mark.parametrize("seed", range(3))
def test_two_strikes_for_each_worker_kill_and_freeze_each(seed):
    drawn = Counter((act.kind, act.target) for act in strikes(seed, 30, 2 * len(MONEY)))
    assert drawn == Counter((kind, target) for kind in ("kill", "freeze") for target in MONEY)


def test_kills_without_an_end_are_refused():
    with pytest.raises(Misconfigured, match="give --seconds too"):
        Demo(Reach.load("test-kills"), Options(seconds=0, kills=3), None)
