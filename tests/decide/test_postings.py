"""Entries of every kind: what an account opens with, and what a human says moved it otherwise than by trading."""

import random

import pytest

from decide.postings import COMING_NS_MAX
from schemas.decision import Entry, Posting
from tests.decide.conftest import KALSHI, ONE, POLY
from tests.decide.test_accounts_state import outputs_with_restores
from tests.decide.test_beside import quoting
from tests.decide.test_reconciliation import ACCOUNT, CASH, TOKENS, hold, kinds, report, stands, world

DAY_MS = 86_400_000


def posting(log, kind="DEPOSIT", cash=0, *, reference="r1", account=ACCOUNT, **changes):
    fields = dict(
        id=f"posting|{account}|{reference}", account_set="main", account=account, kind=kind, cash_e6=cash,
        outcome="NONE", set_by="ann", reason="more to trade with", at_ns=log.now_ns, ts_ns=log.now_ns,
    )  # fmt: skip
    return Posting(**{**fields, **changes})


def account_of(log, name=ACCOUNT):
    return log.task._sets["main"].ledgers[name]


def is_stopped(log):
    return bool(log.task._sets["main"].risk.stopped)


# --- what an account opens with


def test_the_first_report_of_an_account_writes_what_it_opens_with(make):
    log = make.accounts()
    log.feed(make.profile("kalshi"))
    heard = log.report(ACCOUNT, 70 * ONE, [(KALSHI, "NO", 3 * ONE), ("kalshi:KX-2", "YES", ONE)])
    entries = kinds(heard, Entry)
    assert {one.kind for one in entries} == {"OPENING"}
    assert [(one.instrument, one.outcome, one.size, one.cash_e6) for one in entries] == [
        ("", "NONE", 0, 70 * ONE), (KALSHI, "YES", -3 * ONE, 0), ("kalshi:KX-2", "YES", ONE, 0),
    ]  # fmt: skip
    assert {one.as_of_ns for one in entries} == {log.now_ns}
    assert kinds(log.report(ACCOUNT, 70 * ONE), Entry) == []


def test_an_account_that_is_empty_opens_with_nothing_in_words(make):
    log = make.accounts()
    log.feed(make.profile("kalshi"))
    (entry,) = kinds(log.report(ACCOUNT, 0), Entry)
    assert (entry.kind, entry.cash_e6, entry.instrument) == ("OPENING", 0, "")


def test_entries_add_up_to_the_cash_of_an_account(make):
    log = world(make)
    report(log, CASH + 7)
    log.feed(posting(log, "FEE", -2 * ONE))
    entries = [one for one in log.all(Entry) if one.account == ACCOUNT]
    assert {one.kind for one in entries} == {"OPENING", "EXTERNAL", "FEE"}
    assert sum(one.cash_e6 for one in entries) == account_of(log).cash_e6 == CASH + 7 - 2 * ONE


# --- what a human enters

CASH_KINDS = (
    "DEPOSIT",
    "WITHDRAWAL",
    "TRANSFER",
    "REBATE",
    "REWARD",
    "INTEREST",
    "FEE",
    "ROUNDING",
    "GAS",
    "CONVERSION",
)


@pytest.mark.parametrize("kind", CASH_KINDS)
@pytest.mark.parametrize("cash", [100 * ONE, -100 * ONE])
def test_an_entry_of_any_kind_moves_cash_and_is_no_difference_when_the_venue_shows_it(make, kind, cash):
    log = world(make)
    (entry,) = kinds(log.feed(posting(log, kind, cash)), Entry)
    assert (entry.kind, entry.account, entry.cash_e6, entry.instrument) == (kind, ACCOUNT, cash, "")
    assert "ann" in entry.reason
    assert "more to trade with" in entry.reason
    assert log.ledger(ACCOUNT).cash_e6 == CASH + cash
    assert kinds(report(log, CASH + cash, times=4), Entry) == []
    assert not is_stopped(log)


@pytest.mark.parametrize("cash", [100 * ONE, -100 * ONE])
def test_what_is_entered_before_the_venue_shows_it_is_waited_for_and_not_spent(make, cash):
    log = world(make)
    log.feed(posting(log, cash=cash))
    usable = min(CASH, CASH + cash)
    assert account_of(log).usable_e6(0) == usable
    assert kinds(report(log, CASH, times=10), Entry) == []
    assert not is_stopped(log)
    assert account_of(log).usable_e6(0) == usable
    assert kinds(report(log, CASH + cash, times=3), Entry) == []
    assert account_of(log).usable_e6(0) == CASH + cash
    # It came; that it is gone again is a difference.
    report(log, CASH)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_another_difference_is_seen_while_a_deposit_is_waited_for(make):
    log = world(make)
    log.feed(posting(log, cash=100 * ONE))
    report(log, CASH - 50 * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_what_never_comes_is_a_difference_in_the_end(make):
    log = world(make)
    log.feed(posting(log, cash=100 * ONE))
    log.clock(COMING_NS_MAX // 1_000_000)
    report(log, CASH, times=3)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_tokens_that_never_come_freeze_and_are_held_as_the_venue_has_them_in_the_end(make):
    log = world(make, heal=0)
    log.feed(posting(log, account=TOKENS, instrument=POLY, outcome="YES", size=5 * ONE))
    log.clock(COMING_NS_MAX // 1_000_000)
    report(log, CASH, account=TOKENS, times=3)
    assert stands(log, f"main|INSTRUMENT|{POLY}") == ("REDUCING", "DIFFERS")
    log.feed(make.command("RUNNING", "INSTRUMENT", POLY, ts_ns=log.now_ns))
    report(log, CASH, [(POLY, "YES", 2 * ONE)], account=TOKENS, times=3)
    held = account_of(log, TOKENS).holding(POLY, "YES")
    assert (held.size, held.sellable) == (2 * ONE, 2 * ONE)


def test_what_froze_a_set_is_explained_by_its_entry_and_resumes_without_another(make):
    log = world(make)
    report(log, CASH + 100 * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")
    log.feed(posting(log, cash=100 * ONE))
    report(log, CASH + 100 * ONE, times=3)
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    assert kinds(report(log, CASH + 100 * ONE, times=3), Entry) == []
    assert stands(log, "main|SET|") == ("RUNNING", "")
    # Nothing was accepted by that for later.
    report(log, CASH + 200 * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_deposits_that_are_each_shown_before_they_are_entered_are_no_lasting_difference(make):
    log = world(make, heal=0)
    for number in range(1, 5):
        report(log, CASH + number * 100 * ONE, times=1)
        log.feed(posting(log, cash=100 * ONE, reference=str(number)))
    assert not is_stopped(log)


def test_the_same_entry_twice_moves_once(make):
    log = world(make)
    said = posting(log, cash=ONE)
    log.feed(said)
    assert kinds(log.feed(said), Entry) == []
    assert kinds(log.feed(make.replace(said, cash_e6=5 * ONE)), Entry) == []
    assert kinds(log.feed(posting(log, cash=ONE, reference="r2")), Entry) != []
    assert account_of(log).cash_e6 == CASH + 2 * ONE


def test_what_came_before_the_first_report_is_in_its_figures(make):
    log = make.accounts()
    before = posting(log, cash=ONE)
    # Configuration comes in any order: before its account is known too.
    log.feed(before)
    log.feed(make.profile("kalshi"))
    later = posting(log, cash=2 * ONE, reference="r2", at_ns=log.now_ns + 5_000_000_000)
    log.feed(later)
    assert log.all(Entry) == []
    log.clock(1_000)
    entries = kinds(log.report(ACCOUNT, 70 * ONE), Entry)
    assert [(one.kind, one.cash_e6) for one in entries] == [("OPENING", 70 * ONE), ("DEPOSIT", 2 * ONE)]
    assert kinds(log.feed(before), Entry) == []
    assert account_of(log).cash_e6 == 72 * ONE


def test_tokens_that_were_moved_are_held_and_no_strategy_earned_them(make):
    log = world(make, heal=0)
    log.settle(hold(make, log, POLY), "hold-1")
    before = dict(log.task._sets["main"].positions.books["s1"].open)
    held = [(POLY, "YES", 15 * ONE), (POLY, "NO", 5 * ONE)]
    cash = CASH - 4 * ONE - 5 * ONE
    split = dict(kind="CONVERSION", account=TOKENS, instrument=POLY, size=5 * ONE)
    log.feed(posting(log, outcome="YES", cash=-5 * ONE, reference="split/yes", **split))
    log.feed(posting(log, outcome="NO", reference="split/no", **split))
    # Entered ahead of the venue's word: neither is sold before it is shown.
    assert account_of(log, TOKENS).holding(POLY, "NO").sellable == 0
    assert kinds(report(log, CASH - 4 * ONE, [(POLY, "YES", 10 * ONE)], account=TOKENS, times=3), Entry) == []
    assert kinds(report(log, cash, held, account=TOKENS, times=3), Entry) == []
    ledger = account_of(log, TOKENS)
    assert (ledger.holding(POLY, "YES").size, ledger.holding(POLY, "NO").size) == (15 * ONE, 5 * ONE)
    assert (ledger.holding(POLY, "YES").sellable, ledger.holding(POLY, "NO").sellable) == (15 * ONE, 5 * ONE)
    assert ledger.cash_e6 == cash
    assert not is_stopped(log)
    assert log.task._sets["main"].positions.books["s1"].open == before


def test_no_deposit_is_a_profit(make):
    log = world(make)
    hold(make, log)
    before = {name: (book.flow_e6, book.fees_e6) for name, book in log.task._sets["main"].positions.books.items()}
    for number, kind in enumerate(CASH_KINDS):
        log.feed(posting(log, kind, 9 * ONE, reference=str(number)))
    after = {name: (book.flow_e6, book.fees_e6) for name, book in log.task._sets["main"].positions.books.items()}
    assert after == before


@pytest.mark.parametrize(("cash", "usable"), [(100, 500), (-300, 500), (-800, 200)])
def test_capital_that_may_be_used_stays_what_it_is(make, cash, usable):
    log = world(make)
    assert account_of(log).usable_e6(500 * ONE) == 500 * ONE
    log.feed(posting(log, "TRANSFER", cash * ONE))
    report(log, CASH + cash * ONE)
    assert account_of(log).usable_e6(500 * ONE) == usable * ONE


@pytest.mark.parametrize(
    "wrong",
    [dict(kind="OPENING"), dict(kind="SETTLEMENT"), dict(kind="EXTERNAL"), dict(kind="UNKNOWN"), dict(account="kalshi:x"),
     dict(cash_e6=0), dict(account_set="other")],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_what_cannot_be_entered_moves_nothing(make, wrong):
    log = world(make)
    assert kinds(log.feed(posting(log, **{"cash_e6": ONE, **wrong})), Entry) == []
    assert account_of(log).cash_e6 == CASH


def test_where_two_people_are_asked_for_one_does_not_enter_money(make):
    log = make.accounts().start(limits=make.limit(two_people=True, heal_max_e6=5 * ONE))
    log.clock(1_000)
    assert kinds(log.feed(posting(log, cash=ONE)), Entry) == []
    assert kinds(log.feed(posting(log, cash=ONE, approved_by="ann")), Entry) == []
    (entry,) = kinds(log.feed(posting(log, cash=ONE, approved_by="bob")), Entry)
    assert "bob" in entry.reason
    assert account_of(log).cash_e6 == CASH + ONE


@pytest.mark.parametrize("seed", range(15))
def test_entries_are_the_same_for_a_worker_that_took_up_a_checkpoint(make, seed):
    dice = random.Random(seed)
    log = world(make)
    cash, waiting = CASH, []
    for number in range(30):
        match dice.choice(["enter", "again", "shows", "report", "report"]):
            case "enter":
                waiting.append(
                    posting(log, dice.choice(CASH_KINDS), dice.choice([-3, 7, 100]) * ONE, reference=str(number))
                )
                log.feed(waiting[-1])
            case "again" if waiting:
                log.feed(dice.choice(waiting))
            case "shows" if waiting:
                cash += waiting.pop(0).cash_e6
        log.clock(1_000)
        log.report(ACCOUNT, cash)
    cash += sum(one.cash_e6 for one in waiting)
    report(log, cash, times=3)
    assert account_of(log).cash_e6 == cash
    assert not is_stopped(log)
    cuts = {dice.randrange(len(log.items)) for _ in range(6)}
    outputs, _ = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs == log.again()


# --- money that is entered while orders are out


@pytest.mark.parametrize(
    ("account", "name", "is_out"),
    [(ACCOUNT, KALSHI, False), (ACCOUNT, KALSHI, True), (TOKENS, POLY, False)],
    ids=["kalshi, collateral in the figure", "kalshi, collateral out of it", "polymarket"],
)
def test_a_deposit_that_a_quote_can_explain_has_not_come_by_that(make, account, name, is_out):
    log = world(make)
    grant = quoting(make, log, instrument=name, size=300 * ONE)
    log.feed(posting(log, cash=100 * ONE, account=account))
    ledger = account_of(log, account)
    usable = ledger.usable_e6(0)
    report(log, CASH - 135 * ONE * is_out, account=account, times=5)
    assert ledger.usable_e6(0) == usable
    # Nothing is waited for but the deposit when the quote goes: it never froze, and is spent when it is shown.
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    report(log, CASH, account=account, times=6)
    assert not is_stopped(log)
    assert ledger.usable_e6(0) == CASH
    report(log, CASH + 100 * ONE, account=account)
    assert ledger.usable_e6(0) == CASH + 100 * ONE
    assert log.all(Entry)[-1].kind == "DEPOSIT"


def test_a_deposit_has_not_come_by_what_a_quote_let_go_of_lately(make):
    log = world(make)
    grant = quoting(make, log, size=300 * ONE)
    report(log, CASH - 135 * ONE, times=1)
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    log.feed(posting(log, cash=100 * ONE))
    report(log, CASH, times=6)
    assert account_of(log).usable_e6(0) == CASH
    assert not is_stopped(log)


def test_a_deposit_beyond_what_quotes_explain_has_come_though_they_rest(make):
    log = world(make)
    quoting(make, log)
    ledger = account_of(log)
    before = ledger.usable_e6(0)
    log.feed(posting(log, cash=100 * ONE))
    log.feed(posting(log, cash=ONE, reference="small"))
    report(log, CASH + 100 * ONE, times=1)
    # Of the small one a quote's collateral says nothing; both are there for sure only in the whole figure.
    assert [one.cash_e6 for one in ledger.coming] == [ONE]
    report(log, CASH + 101 * ONE, times=1)
    assert ledger.usable_e6(0) == before + 101 * ONE


def test_a_withdrawal_that_a_quote_can_explain_has_not_gone_by_that(make):
    log = world(make)
    grant = quoting(make, log, size=300 * ONE)
    log.feed(posting(log, "WITHDRAWAL", -100 * ONE))
    # The quote's collateral is out and the withdrawal not yet: the venue's figure is below either.
    report(log, CASH - 135 * ONE, times=5)
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    report(log, CASH, times=6)
    assert not is_stopped(log)
    report(log, CASH - 100 * ONE)
    assert account_of(log).coming == []
    assert not is_stopped(log)


def test_money_in_and_money_out_do_not_vouch_for_each_other_beside_a_quote(make):
    log = world(make)
    grant = quoting(make, log, size=300 * ONE)
    log.feed(posting(log, cash=100 * ONE))
    log.feed(posting(log, "WITHDRAWAL", -100 * ONE, reference="out"))
    report(log, CASH, times=3)
    assert len(account_of(log).coming) == 2
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    report(log, CASH, times=6)
    assert account_of(log).coming == []


@pytest.mark.parametrize("missing", [136, 400])
def test_money_that_is_missing_beside_a_quote_and_a_deposit_is_found(make, missing):
    log = world(make)
    quoting(make, log, size=300 * ONE)
    log.feed(posting(log, cash=100 * ONE))
    bound = account_of(log).reserved_e6
    # The deposit may not have come, all of the quote may be out: what is beyond both is missing.
    report(log, CASH - bound - missing * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_a_deposit_that_never_comes_beside_a_quote_is_found_when_its_day_is_over_and_the_quote_gone(make):
    log = world(make)
    grant = quoting(make, log, size=300 * ONE)
    log.feed(posting(log, cash=100 * ONE))
    report(log, CASH - 135 * ONE, times=3)
    assert account_of(log).coming != []
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    log.clock(COMING_NS_MAX // 1_000_000)
    report(log, CASH, times=5)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


@pytest.mark.parametrize(("account", "name"), [(ACCOUNT, KALSHI), (TOKENS, POLY)], ids=["contracts", "tokens"])
def test_what_a_quote_may_have_bought_is_not_what_was_entered(make, account, name):
    log = world(make, heal=0)
    grant = quoting(make, log, instrument=name)
    log.feed(posting(log, "TRANSFER", account=account, instrument=name, outcome="YES", size=10 * ONE))
    ledger, at_ns, cash = account_of(log, account), log.now_ns, CASH - 4_500_000
    # The venue's ten are those of the quote, which we do not know yet.
    report(log, cash, [(name, "YES", 10 * ONE)], account=account)
    assert [one.size for one in ledger.coming] == [10 * ONE]
    log.fill(grant, 10 * ONE, 4_500, name="f", venue_ts_ns=at_ns + 1)
    log.update(grant, "FILLED", 10 * ONE)
    log.settle(grant, "f")
    report(log, cash, [(name, "YES", 10 * ONE)], account=account, times=4)
    assert not is_stopped(log)
    assert ledger.holding(name, "YES").sellable == (10 if account == TOKENS else 20) * ONE
    report(log, cash, [(name, "YES", 20 * ONE)], account=account)
    assert ledger.coming == []
    assert ledger.holding(name, "YES").sellable == 20 * ONE
    # It came; that it is gone again is a difference.
    report(log, cash, [(name, "YES", 10 * ONE)], account=account)
    assert stands(log, f"main|INSTRUMENT|{name}") == ("REDUCING", "DIFFERS")


@pytest.mark.parametrize(("side", "size"), [("BUY", 30), ("SELL", 5)])
def test_more_than_a_quote_may_have_bought_has_come_though_it_rests(make, side, size):
    log = world(make, heal=0)
    quoting(make, log, instrument=POLY, side=side)
    log.feed(posting(log, "TRANSFER", account=TOKENS, instrument=POLY, outcome="YES", size=size * ONE))
    held = [(POLY, "YES", size * ONE)]
    report(log, CASH, held, account=TOKENS, times=1)
    assert account_of(log, TOKENS).coming == []
    assert account_of(log, TOKENS).holding(POLY, "YES").sellable == size * ONE


@pytest.mark.parametrize("what", ["cash", "tokens"])
def test_reports_from_before_it_was_shown_that_come_after_say_nothing(make, what):
    log = world(make)
    moves = dict(cash=100 * ONE) if what == "cash" else dict(instrument=POLY, outcome="YES", size=30 * ONE)
    log.feed(posting(log, account=TOKENS, **moves))
    log.clock(1_000)
    read_ns = log.now_ns
    log.clock(5_000)
    report(log, CASH + 100 * ONE * (what == "cash"), [(POLY, "YES", 30 * ONE)] * (what == "tokens"), account=TOKENS)
    # A twin's, on their way for long.
    for number in range(4):
        log.report(TOKENS, CASH, as_of_ns=read_ns + number * 1_000_000_000)
    assert not is_stopped(log)
    # Those that are as new are believed.
    for _ in range(2):
        log.now_ns += 1
        log.report(TOKENS, CASH)
    assert is_stopped(log)
