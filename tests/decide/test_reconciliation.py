"""A ledger and its venue's reports: what is healed, what freezes, what is left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decision import Entry, Grant, Saga, Standing
from tests.decide.conftest import KALSHI, ONE, POLY

ACCOUNT = "kalshi:main"
TOKENS = "polymarket:main"
CASH = 1_000 * ONE


def world(make, *, heal=5 * ONE):
    log = make.accounts().start(limits=make.limit(heal_max_e6=heal))
    log.clock(1_000)
    return log


def report(log, cash, holdings=(), *, account=ACCOUNT, times=2):
    """Let the venue state the same in reports a second apart."""
    heard = []
    for _ in range(times):
        log.clock(1_000)
        heard += log.report(account, cash, holdings)
    return heard


def kinds(records, kind):
    return [record for record in records if isinstance(record, kind)]


def stands(log, part):
    said = [one for one in log.all(Standing) if one.id == part]
    return (said[-1].state, said[-1].cause.partition(":")[0]) if said else None


def hold(make, log, name=KALSHI, side="BUY", price=4_000, size=10 * ONE, number=1):
    """Hold something that was bought, or sold, for itself."""
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    leg = make.replace(make.leg(name, side, [(price, size)]), recv_ts_ns=log.now_ns)
    (grant,) = kinds(
        log.feed(
            make.intent(
                id=f"hold-{number}", strategy=f"s{number}", link=name, legs=[leg], profit_e6=0, now_ns=log.now_ns,
                recv_ts_ns=log.now_ns,
            )
        ),
        Grant,
    )  # fmt: skip
    log.done(grant, size, price, name=f"hold-{number}")
    return grant


def test_a_small_difference_is_healed_by_its_second_report_with_an_entry(make):
    log = world(make)
    assert kinds(report(log, CASH + 7, times=1), Entry) == []
    (entry,) = kinds(report(log, CASH + 7, times=1), Entry)
    assert (entry.kind, entry.account, entry.cash_e6, entry.instrument) == ("EXTERNAL", ACCOUNT, 7, "")
    assert log.ledger(ACCOUNT).cash_e6 == CASH + 7
    assert kinds(report(log, CASH + 7), Entry) == []


def test_without_a_figure_nothing_is_healed(make):
    log = make.accounts().start()
    log.clock(1_000)
    report(log, CASH + 7, times=5)
    assert log.entries() == []
    assert log.ledger(ACCOUNT).cash_e6 == CASH
    assert log.all(Standing) == []


def test_a_difference_that_changes_is_not_lasting(make):
    log = world(make)
    for cash in (1, 2, 1, 2, 0, 1):
        report(log, CASH + cash, times=1)
    assert log.entries() == []


def test_a_report_said_twice_is_one_report(make):
    log = world(make)
    log.clock(1_000)
    for _ in range(3):
        log.report(ACCOUNT, CASH + 7)
    assert log.entries() == []


def test_nothing_that_an_order_may_explain_is_healed_while_it_is_out(make):
    log = world(make)
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    leg = make.replace(make.leg(KALSHI, "BUY", [(4_000, 10 * ONE)]), recv_ts_ns=log.now_ns)
    log.feed(make.intent(link=KALSHI, legs=[leg], now_ns=log.now_ns, recv_ts_ns=log.now_ns))
    report(log, CASH - 7, times=4)
    report(log, CASH - 4 * ONE, [(KALSHI, "YES", 10 * ONE)], times=4)
    report(log, CASH - 8 * ONE, [(KALSHI, "NO", 3 * ONE)], times=1)
    assert log.entries() == []
    assert not log.task._sets["main"].risk.stopped


def test_nothing_is_healed_while_a_settlement_is_to_come(make):
    log = world(make)
    grant = hold(make, log, POLY)
    held = [(POLY, "YES", 10 * ONE)]
    report(log, CASH - 4 * ONE + 7, held, account="polymarket:main", times=3)
    assert log.entries() == []
    log.settle(grant, "hold-1")
    (entry,) = kinds(report(log, CASH - 4 * ONE + 7, held, account="polymarket:main"), Entry)
    assert entry.cash_e6 == 7


def test_a_report_older_than_our_last_fill_says_nothing(make):
    log = world(make)
    old_ns = log.now_ns
    hold(make, log)
    for number in range(3):
        log.report(ACCOUNT, CASH, as_of_ns=old_ns - 10 + number)
    report(log, CASH - 4 * ONE, [(KALSHI, "YES", 10 * ONE)])
    assert log.entries() == []


def test_a_large_difference_of_a_holding_freezes_its_instrument_alone(make):
    log = world(make)
    hold(make, log, size=20 * ONE)
    report(log, CASH - 8 * ONE, [(KALSHI, "YES", 10 * ONE)])
    assert stands(log, f"main|INSTRUMENT|{KALSHI}") == ("REDUCING", "DIFFERS")
    assert log.entries() == []
    assert log.ledger(f"{ACCOUNT}|{KALSHI}|YES").size == 20 * ONE
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    legs = [make.replace(one, recv_ts_ns=log.now_ns) for one in make.intent().legs]
    log.feed(make.intent(legs=legs, now_ns=log.now_ns, recv_ts_ns=log.now_ns))
    assert log.last(Saga).reason == "STOPPED"
    # Another instrument goes on.
    hold(make, log, POLY, number=2)
    # A human resumes it, and with that takes the venue's word.
    log.feed(make.command("RUNNING", "INSTRUMENT", KALSHI, ts_ns=log.now_ns))
    (entry,) = kinds(report(log, CASH - 8 * ONE, [(KALSHI, "YES", 10 * ONE)]), Entry)
    assert (entry.instrument, entry.size, entry.kind) == (KALSHI, -10 * ONE, "EXTERNAL")
    assert log.ledger(f"{ACCOUNT}|{KALSHI}|YES").size == 10 * ONE
    assert log.ledger(f"{ACCOUNT}|{KALSHI}|YES").cost_e6 == 4 * ONE
    assert stands(log, f"main|INSTRUMENT|{KALSHI}") == ("RUNNING", "")


def test_a_large_difference_of_cash_reduces_the_whole_set(make):
    log = world(make)
    report(log, CASH - 100 * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    (entry,) = kinds(report(log, CASH - 100 * ONE), Entry)
    assert entry.cash_e6 == -100 * ONE
    assert stands(log, "main|SET|") == ("RUNNING", "")


def test_resuming_after_another_stop_takes_no_word_of_the_venue(make):
    log = world(make)
    log.feed(make.command("HALTED", ts_ns=log.now_ns))
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    report(log, CASH - 100 * ONE)
    assert log.entries() == []
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_a_fill_that_comes_after_its_effect_was_healed_is_booked_and_evens_out(make):
    log = world(make)
    late = dict(cash=CASH - 2 * ONE, holdings=[(KALSHI, "YES", 5 * ONE)])
    report(log, late["cash"], late["holdings"])
    assert len(log.entries()) == 2
    # Nobody's order: it is counted all the same, once.
    grant = Grant(
        **dict.fromkeys(Grant.__struct_fields__, 0)
        | dict(id="by hand", account=ACCOUNT, instrument=KALSHI, outcome="YES", token_side="BUY", trail=[])
    )
    log.fill(grant, 5 * ONE, 4_000, name="late")
    assert log.ledger(ACCOUNT).cash_e6 == CASH - 4 * ONE
    report(log, late["cash"], late["holdings"])
    assert log.ledger(ACCOUNT).cash_e6 == CASH - 2 * ONE
    assert log.ledger(f"{ACCOUNT}|{KALSHI}|YES").size == 5 * ONE


# --- settlement


@pytest.mark.parametrize(
    ("side", "paid", "profit"),
    [("BUY", 10 * ONE, 6 * ONE), ("BUY", 0, -4 * ONE), ("BUY", 5 * ONE, ONE), ("SELL", 10 * ONE, 4 * ONE), ("SELL", 0, -6 * ONE)],
    ids=["won", "lost", "void", "sold and won", "sold and lost"],
)  # fmt: skip
def test_a_settled_market_pays_whatever_its_size_and_ends_its_position(make, side, paid, profit):
    log = world(make, heal=0)
    log.settle(hold(make, log, POLY, side=side), "hold-1")
    left = CASH - (4 if side == "BUY" else 6) * ONE
    assert log.ledger(TOKENS).cash_e6 == left
    log.feed(make.instrument(POLY, status="SETTLED"))
    (entry,) = kinds(report(log, left + paid, account=TOKENS), Entry)
    assert (entry.kind, entry.phase, entry.cash_e6, entry.size) == ("SETTLEMENT", "FINAL", paid, -10 * ONE)
    assert log.ledger(TOKENS).cash_e6 == left + paid
    assert log.ledger(f"{TOKENS}|{POLY}|{'YES' if side == 'BUY' else 'NO'}").size == 0
    book = log.task._sets["main"].positions.books["s1"]
    assert (book.open, book.flow_e6) == ({}, profit)


def test_a_no_token_that_won_pays_its_dollar(make):
    log = world(make, heal=0)
    grant = hold(make, log, POLY, side="SELL")
    log.settle(grant, "hold-1")
    left = CASH - 6 * ONE
    log.feed(make.instrument(POLY, status="SETTLED"))
    (entry,) = kinds(report(log, left + 10 * ONE, account="polymarket:main"), Entry)
    assert (entry.kind, entry.outcome, entry.size) == ("SETTLEMENT", "NO", -10 * ONE)
    assert log.task._sets["main"].positions.books["s1"].flow_e6 == 4 * ONE


def test_several_settled_at_once_are_told_apart_by_what_they_paid(make):
    log = world(make, heal=0)
    other = "polymarket:0xc2"
    log.feed(make.instrument(other))
    log.settle(hold(make, log, POLY), "hold-1")
    log.settle(hold(make, log, other, size=6 * ONE, number=2), "hold-2")
    left = log.ledger(TOKENS).cash_e6
    for name in (POLY, other):
        log.feed(make.instrument(name, status="SETTLED"))
    entries = kinds(report(log, left + 6 * ONE, account=TOKENS), Entry)
    assert {entry.instrument: entry.cash_e6 for entry in entries} == {POLY: 0, other: 6 * ONE}


def test_what_no_way_of_winning_explains_freezes(make):
    log = world(make, heal=0)
    log.settle(hold(make, log, POLY), "hold-1")
    left = log.ledger(TOKENS).cash_e6
    log.feed(make.instrument(POLY, status="SETTLED"))
    report(log, left + 11 * ONE, account=TOKENS)
    assert log.entries() == []
    assert stands(log, f"main|INSTRUMENT|{POLY}") == ("REDUCING", "DIFFERS")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6),
    st.integers(0, 4),
)
def test_two_equal_reports_make_the_ledger_the_venues_or_freeze_it(make, moves, heal):
    log = world(make, heal=heal)
    cash, held = CASH, 0
    for change, size in moves:
        cash, held = cash + change, held + size
        log.clock(1_000)
        holdings = [(KALSHI, "YES" if held > 0 else "NO", abs(held))] if held else []
        report(log, cash, holdings)
        account = log.task._sets["main"].ledgers[ACCOUNT]
        frozen = log.task._sets["main"].risk.stopped
        assert account.cash_e6 == cash or ("SET", "") in frozen
        assert account.holding(KALSHI, "YES").size == held or ("INSTRUMENT", KALSHI) in frozen
    entries = [entry for entry in log.entries() if not entry.instrument]
    assert account.cash_e6 == CASH + sum(entry.cash_e6 for entry in entries)
