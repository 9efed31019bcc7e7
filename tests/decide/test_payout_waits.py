"""What is waited for of a venue that states its payouts: by time, market by market, and what is compared meanwhile."""

import random

import pytest

from decide.waits import NOT_ENDED, NOT_STATED, PAYOUT_WAIT_NS_MAX, REPORT_STEP_NS_MAX, STILL_SHOWN
from schemas import order
from schemas.decision import Entry
from tests.checkpoints import outputs_with_restores
from tests.decide.conftest import KALSHI, ONE, Accounts, instrument, limit
from tests.decide.test_beside import quoting
from tests.decide.test_postings import posting
from tests.decide.test_reconciliation import ACCOUNT, CASH, hold, kinds, report, stands, world
from tests.decide.test_settlements import LEFT, account_of, determine, entries, payout, resume

WAIT_S = PAYOUT_WAIT_NS_MAX // 1_000_000_000
OTHER = "kalshi:KX-2"
AFTER = LEFT["BUY"] + 10 * ONE
HELD = [(KALSHI, "YES", 10 * ONE)]


def report_each(log, ms, times, cash, holdings=()):
    for _ in range(times):
        log.clock(ms)
        log.report(ACCOUNT, cash, holdings)


def cause_of(log, name=KALSHI):
    stop = log.task._sets["main"].risk.stopped.get(("INSTRUMENT", name))
    return "" if stop is None else stop.cause


def is_set_stopped(log):
    return ("SET", "") in log.task._sets["main"].risk.stopped


# --- a time, not a number of reports


def test_twin_gateways_that_report_twice_as_often_do_not_halve_the_wait(make):
    log = world(make)
    hold(make, log)
    determine(log)
    report_each(log, 250, 4 * (WAIT_S - 5), AFTER)
    assert cause_of(log) == ""
    report_each(log, 250, 4 * 6, AFTER)
    assert NOT_STATED in cause_of(log)


def test_reports_that_come_slowly_do_not_lengthen_the_wait(make):
    log = world(make)
    hold(make, log)
    determine(log)
    report_each(log, 10_000, WAIT_S // 10, AFTER)
    assert cause_of(log) == ""
    report_each(log, 10_000, 2, AFTER)
    assert NOT_STATED in cause_of(log)
    assert is_set_stopped(log)


def test_a_gateway_that_said_nothing_for_long_did_not_read_the_list_either(make):
    log = world(make)
    hold(make, log)
    determine(log)
    report_each(log, 1_000, 2, AFTER)
    log.clock(20 * WAIT_S * 1_000)
    log.report(ACCOUNT, AFTER)
    assert cause_of(log) == ""
    left_s = WAIT_S - REPORT_STEP_NS_MAX // 1_000_000_000
    report_each(log, 1_000, left_s, AFTER)
    assert NOT_STATED in cause_of(log)


# --- each market by itself


def buy_many(log, names, price=400_000):
    """Hold ten of each at forty cents."""
    for number, name in enumerate(names):
        log.feed(instrument(name))
        log.clock(10)
        log.feed(_fill(number, name, log.now_ns, price))


def _fill(number, name, at_ns, price_e6):
    return order.Fill(
        event_id=f"f{number}", order="by hand", account=ACCOUNT, instrument=name, fill=f"f{number}", outcome="YES",
        token_side="BUY", size=10 * ONE, price_e6=price_e6, notional_e6=10 * price_e6, fee_e6=0, asset="USD",
        liquidity="TAKER", settlement="CONFIRMED", venue_ts_ns=at_ns, ts_ns=at_ns, recv_ts_ns=at_ns,
    )  # fmt: skip


def test_other_markets_that_pay_do_not_begin_a_wait_again(make):
    log = world(make)
    names = [f"kalshi:KX-{number}" for number in range(100, 132)]
    buy_many(log, [KALSHI, *names])
    cash, open_now = CASH - 33 * 4 * ONE, list(names)
    for name in (KALSHI, *names):
        determine(log, name)
    cash += 10 * ONE
    for number in range(WAIT_S + 2):
        if number % 2:
            cash += 10 * ONE
            paid = open_now.pop()
            log.feed(payout(log, 10 * ONE, value=ONE, name=paid, ms=0))
        report(log, cash, [(name, "YES", 10 * ONE) for name in open_now], times=1)
    assert NOT_STATED in cause_of(log)
    assert not any(cause_of(log, name) for name in names)


def test_a_real_difference_of_cash_is_seen_while_a_payout_is_waited_for(make):
    log = world(make)
    hold(make, log)
    determine(log)
    report(log, AFTER, times=3)
    assert not is_set_stopped(log)
    report(log, AFTER - 50 * ONE)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")
    # The payout alone freezes nothing.
    assert cause_of(log) == ""


def test_more_cash_than_what_is_waited_for_is_to_pay_is_seen_too(make):
    log = world(make)
    hold(make, log)
    determine(log)
    report(log, AFTER + 6 * ONE)
    assert is_set_stopped(log)


def test_a_small_difference_of_cash_beside_what_is_waited_for_is_healed(make):
    log = world(make)
    hold(make, log)
    determine(log)
    (entry,) = kinds(report(log, LEFT["BUY"] - 7), Entry)
    assert (entry.kind, entry.instrument, entry.cash_e6) == ("EXTERNAL", "", -7)


@pytest.mark.parametrize("cash_e6", [0, 1, 5 * ONE, 10 * ONE])
def test_cash_between_nothing_and_the_expected_payout_is_left_alone(make, cash_e6):
    log = world(make, heal=0)
    hold(make, log)
    determine(log)
    assert kinds(report(log, LEFT["BUY"] + cash_e6, times=WAIT_S), Entry) == []
    assert not is_set_stopped(log)
    assert cause_of(log) == ""


def test_a_payout_rounded_up_to_a_cent_is_no_difference(make):
    log = world(make, heal=0)
    hold(make, log, size=3 * ONE)
    determine(log, payout=333_300)
    assert kinds(report(log, CASH - 1_200_000 + ONE, times=3), Entry) == []
    assert not is_set_stopped(log)


def test_what_a_human_accepted_of_the_cash_waits_until_it_is_known_how_much_it_is(make):
    log = world(make)
    hold(make, log)
    determine(log)
    at_ns = log.now_ns
    report(log, AFTER - 50 * ONE)
    assert is_set_stopped(log)
    resume(make, log, ("SET", ""))
    assert kinds(report(log, AFTER - 50 * ONE, times=3), Entry) == []
    assert not is_set_stopped(log)
    log.feed(payout(log, 10 * ONE, value=ONE, at_ns=at_ns))
    heard = report(log, AFTER - 50 * ONE, times=WAIT_S + 3)
    assert [one.cash_e6 for one in kinds(heard, Entry)] == [-50 * ONE]
    assert not is_set_stopped(log)
    assert log.ledger(ACCOUNT).cash_e6 == AFTER - 50 * ONE


# --- what lags, and heals by itself


@pytest.mark.parametrize("cash", [AFTER, LEFT["BUY"]], ids=["positions lag", "everything lags"])
@pytest.mark.parametrize("heal", [0, 5 * ONE, 1_000 * ONE])
def test_reports_that_lag_behind_a_statement_are_waited_for(make, cash, heal):
    log = world(make, heal=heal)
    hold(make, log)
    determine(log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    assert kinds(report(log, cash, HELD, times=WAIT_S - 5), Entry) == []
    assert kinds(report(log, AFTER, times=3), Entry) == []
    assert (cause_of(log), is_set_stopped(log)) == ("", False)
    assert (account_of(log).cash_e6, account_of(log).holding(KALSHI, "YES").size) == (AFTER, 0)
    assert account_of(log).waits == {}


def test_cash_that_comes_before_the_position_is_gone_is_waited_for(make):
    log = world(make, heal=0)
    hold(make, log)
    determine(log)
    at_ns = log.now_ns
    assert kinds(report(log, AFTER, HELD, times=WAIT_S - 5), Entry) == []
    assert not is_set_stopped(log)
    (final,) = entries(log.feed(payout(log, 10 * ONE, value=ONE, at_ns=at_ns)), "FINAL")
    assert kinds(report(log, AFTER, HELD, times=5), Entry) == []
    assert kinds(report(log, AFTER, times=3), Entry) == []
    assert (final.cash_e6, cause_of(log), is_set_stopped(log)) == (10 * ONE, "", False)


@pytest.mark.parametrize("more", [ONE, 7, -ONE], ids=["too much", "no whole cents", "less"])
def test_cash_that_no_payout_explains_freezes_though_a_determined_market_is_held(make, more):
    log = world(make, heal=0)
    hold(make, log)
    determine(log)
    report(log, (AFTER if more > 0 else LEFT["BUY"]) + more, HELD)
    assert is_set_stopped(log)


def test_cash_that_came_for_a_market_that_is_held_for_ever_is_judged_after_the_wait(make):
    log = world(make, heal=5 * ONE)
    hold(make, log)
    determine(log)
    assert kinds(report(log, LEFT["BUY"] + 5 * ONE, HELD, times=WAIT_S - 1), Entry) == []
    (entry,) = kinds(report(log, LEFT["BUY"] + 5 * ONE, HELD, times=5), Entry)
    assert (entry.kind, entry.cash_e6) == ("EXTERNAL", 5 * ONE)
    report(log, LEFT["BUY"] + 15 * ONE, HELD, times=WAIT_S + 3)
    assert is_set_stopped(log)
    assert cause_of(log) == ""


def test_cash_alone_that_lags_behind_a_statement_is_waited_for(make):
    log = world(make, heal=0)
    hold(make, log)
    determine(log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    assert kinds(report(log, LEFT["BUY"], times=WAIT_S - 5), Entry) == []
    assert not is_set_stopped(log)
    report(log, LEFT["BUY"], times=10)
    assert is_set_stopped(log)


@pytest.mark.parametrize("cash", [10 * ONE, 3 * ONE, 0], ids=["the first", "the second", "neither"])
def test_reports_that_lag_behind_a_correction_are_waited_for(make, cash):
    log = world(make, heal=0)
    hold(make, log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    log.feed(payout(log, 3 * ONE, value=300_000))
    assert kinds(report(log, LEFT["BUY"] + cash, times=WAIT_S - 5), Entry) == []
    assert not is_set_stopped(log)
    # The statements explain no other figure.
    report(log, LEFT["BUY"] + 11 * ONE)
    assert is_set_stopped(log)


@pytest.mark.parametrize("heal", [0, 1_000 * ONE])
def test_a_position_that_is_shown_for_too_long_after_its_payout_freezes_and_says_why(make, heal):
    log = world(make, heal=heal)
    hold(make, log)
    determine(log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    assert kinds(report(log, AFTER, HELD, times=WAIT_S + 2), Entry) == []
    assert STILL_SHOWN in cause_of(log)
    assert not is_set_stopped(log)
    resume(make, log, ("INSTRUMENT", KALSHI))
    (entry,) = kinds(report(log, AFTER, HELD), Entry)
    assert (entry.kind, entry.size) == ("EXTERNAL", 10 * ONE)


def test_a_real_difference_is_seen_while_reports_lag_behind_a_statement(make):
    log = world(make)
    hold(make, log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    report(log, LEFT["BUY"] - 50 * ONE, HELD)
    assert is_set_stopped(log)


@pytest.mark.parametrize(("side", "revenue"), [("BUY", 10 * ONE), ("BUY", 3_700_000), ("SELL", 10 * ONE)])
@pytest.mark.parametrize("heal", [0, 1_000 * ONE])
def test_a_payout_that_reports_show_while_the_market_is_said_to_be_open_is_waited_for(make, side, revenue, heal):
    log = world(make, heal=heal)
    hold(make, log, side=side)
    at_ns, after = log.now_ns, LEFT[side] + revenue
    assert kinds(report(log, after, times=WAIT_S - 5), Entry) == []
    assert (cause_of(log), is_set_stopped(log)) == ("", False)
    sizes = dict(yes=10 * ONE) if side == "BUY" else dict(yes=0, no=10 * ONE)
    (final,) = entries(log.feed(payout(log, revenue, at_ns=at_ns + 1, **sizes)), "FINAL")
    assert final.cash_e6 == revenue
    assert kinds(report(log, after, times=3), Entry) == []
    assert account_of(log).cash_e6 == after


def test_a_payout_of_an_open_market_that_is_never_stated_freezes_and_says_why(make):
    log = world(make, heal=1_000 * ONE)
    hold(make, log)
    assert kinds(report(log, AFTER, times=WAIT_S + 2), Entry) == []
    assert NOT_ENDED in cause_of(log)
    assert is_set_stopped(log)
    resume(make, log, ("INSTRUMENT", KALSHI), ("SET", ""))
    report(log, AFTER)
    assert (account_of(log).cash_e6, account_of(log).holding(KALSHI, "YES").size) == (AFTER, 0)


def test_a_holding_that_is_gone_for_nothing_of_an_open_market_is_free_again_when_it_is_stated_to_have_lost(make):
    log = world(make)
    hold(make, log)
    # Nothing speaks for a payout: not to trade there is right, whatever it is.
    report(log, LEFT["BUY"])
    assert NOT_ENDED in cause_of(log)
    (final,) = entries(log.feed(payout(log, 0, value=0)), "FINAL")
    assert (final.size, final.cash_e6) == (-10 * ONE, 0)
    assert cause_of(log) == ""
    report(log, LEFT["BUY"])
    assert stands(log, f"main|INSTRUMENT|{KALSHI}")[0] == "RUNNING"
    assert not is_set_stopped(log)


def test_a_small_holding_that_is_gone_of_an_open_market_is_healed_after_the_wait_and_never_booked_again(make):
    log = world(make, heal=20 * ONE)
    hold(make, log)
    at_ns = log.now_ns + 1
    assert kinds(report(log, LEFT["BUY"], times=WAIT_S - 5), Entry) == []
    assert NOT_ENDED in cause_of(log)
    (healed,) = kinds(report(log, LEFT["BUY"], times=8), Entry)
    assert (healed.kind, healed.size, "human" in healed.reason) == ("EXTERNAL", -10 * ONE, False)
    assert cause_of(log) == ""
    assert entries(log.feed(payout(log, 0, value=0, at_ns=at_ns)), "FINAL") == []
    assert kinds(report(log, LEFT["BUY"], times=4), Entry) == []
    assert (account_of(log).cash_e6, account_of(log).holding(KALSHI, "YES").size) == (LEFT["BUY"], 0)


@pytest.mark.parametrize("heal", [0, 1_000 * ONE])
def test_a_holding_that_is_gone_for_nothing_is_booked_once_when_it_is_stated_in_time(make, heal):
    log = world(make, heal=heal)
    hold(make, log)
    at_ns = log.now_ns + 1
    assert kinds(report(log, LEFT["BUY"], times=5), Entry) == []
    (final,) = entries(log.feed(payout(log, 0, value=0, at_ns=at_ns)), "FINAL")
    assert (final.size, final.cash_e6) == (-10 * ONE, 0)
    assert kinds(report(log, LEFT["BUY"], times=4), Entry) == []
    assert (account_of(log).cash_e6, account_of(log).holding(KALSHI, "YES").size) == (LEFT["BUY"], 0)


@pytest.mark.parametrize("seed", range(20))
def test_waits_are_the_same_for_a_worker_that_took_up_a_checkpoint(make, seed):
    dice = random.Random(seed)
    log = Accounts().start(limits=limit(heal_max_e6=dice.choice([0, 5 * ONE])))
    names = [KALSHI, OTHER, "kalshi:KX-3"]
    buy_many(log, names)
    cash, held = CASH - 12 * ONE, dict.fromkeys(names, 10 * ONE)
    for _ in range(40):
        name = dice.choice(names)
        match dice.choice(["word", "gone", "stated", "report", "report", "report"]):
            case "word":
                determine(log, name)
            case "gone" if held[name]:
                held[name], cash = 0, cash + 10 * ONE
            case "stated":
                log.feed(payout(log, 10 * ONE, value=ONE, name=name))
        log.clock(dice.choice([500, 2_000, 9_000]))
        log.report(ACCOUNT, cash, [(one, "YES", size) for one, size in held.items() if size])
    cuts = {dice.randrange(len(log.items)) for _ in range(6)}
    outputs, _ = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs


class Lagging:
    """A venue that nets whose cash, positions and list of payouts are each as old as they please."""

    def __init__(self, log, dice, names):
        self.log, self.dice = log, dice
        self.cash = [(log.now_ns, account_of(log).cash_e6)]
        self.held = [(log.now_ns, dict.fromkeys(names, 10 * ONE))]
        self.paid = []
        self.lags = [dice.choice([0, 3, 12, 25]) * 1_000_000_000 for _ in range(3)]

    def at(self, states, lag_ns):
        since = [state for ts_ns, state in states if ts_ns <= self.log.now_ns - lag_ns]
        return since[-1] if since else states[0][1]

    def pay(self, name, value):
        now_ns, held = self.log.now_ns, self.held[-1][1]
        old = sum(one[2] for one in self.paid if one[1] == name)
        self.cash.append((now_ns, self.cash[-1][1] + 10 * value - old))
        self.held.append((now_ns, held | {name: 0}))
        self.paid = [one for one in self.paid if one[1] != name] + [(now_ns, name, 10 * value, value)]

    def tell(self):
        """Let a gateway read all three."""
        for at_ns, name, revenue, value in self.paid:
            if at_ns <= self.log.now_ns - self.lags[2]:
                self.log.feed(payout(self.log, revenue, value=value, name=name, at_ns=at_ns, ms=0))
        held = self.at(self.held, self.lags[1])
        holdings = [(name, "YES", size) for name, size in held.items() if size]
        self.log.report(ACCOUNT, self.at(self.cash, self.lags[0]), holdings)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("heal", [0, 1_000 * ONE])
def test_lists_that_lag_behind_each_other_for_less_than_the_wait_freeze_and_heal_nothing(make, seed, heal):
    dice = random.Random(seed)
    log = Accounts().start(limits=limit(heal_max_e6=heal))
    names = [f"kalshi:KX-{number}" for number in range(20, 26)]
    buy_many(log, names)
    venue = Lagging(log, dice, names)
    pays = {name: dice.choice([ONE, 0, 370_000]) for name in names}
    for name in names:
        for _ in range(dice.randint(1, 15)):
            log.clock(dice.choice([1_000, 2_000]))
            venue.tell()
        determine(log, name, pays[name])
        venue.pay(name, pays[name])
    for _ in range(40):
        log.clock(1_000)
        venue.tell()
    stopped = log.task._sets["main"].risk.stopped
    assert stopped == {}
    assert {one.kind for one in log.entries()} == {"SETTLEMENT"}
    assert account_of(log).cash_e6 == venue.cash[-1][1]
    assert account_of(log).waits == {}


# --- beside what quotes explain


def quoted(make, log, *, size):
    """Hold what pays a dollar a contract, and let a quote of 135 dollars rest in another market."""
    log.feed(instrument(OTHER))
    hold(make, log, OTHER, size=size)
    return quoting(make, log, size=300 * ONE), CASH - size * 4 // 10


def test_a_payout_that_comes_late_is_waited_for_though_a_quote_that_went_hid_that(make):
    log = world(make)
    quote, cash = quoted(make, log, size=50 * ONE)
    report(log, cash - 135 * ONE, [(OTHER, "YES", 50 * ONE)], times=1)
    log.update(quote, "CANCELLED", venue_ts_ns=log.now_ns)
    log.feed(payout(log, 50 * ONE, yes=50 * ONE, name=OTHER))
    assert kinds(report(log, cash, times=WAIT_S - 5), Entry) == []
    assert not is_set_stopped(log)
    report(log, cash + 50 * ONE, times=3)
    assert (account_of(log).waits, is_set_stopped(log)) == ({}, False)


@pytest.mark.parametrize("is_out", [True, False])
def test_a_small_payout_that_comes_late_is_not_booked_away_though_a_quote_hid_it(make, is_out):
    log = world(make)
    quote, cash = quoted(make, log, size=3 * ONE)
    log.feed(payout(log, 3 * ONE, yes=3 * ONE, name=OTHER))
    report(log, cash - 135 * ONE * is_out, times=3)
    log.update(quote, "CANCELLED", venue_ts_ns=log.now_ns)
    assert kinds(report(log, cash, times=WAIT_S - 10), Entry) == []
    report(log, cash + 3 * ONE, times=3)
    assert log.entries()[-1].kind == "SETTLEMENT"
    assert account_of(log).cash_e6 == cash + 3 * ONE


def test_a_payout_that_never_comes_is_found_after_its_minute_though_a_quote_hid_it(make):
    log = world(make)
    quote, cash = quoted(make, log, size=50 * ONE)
    log.feed(payout(log, 50 * ONE, yes=50 * ONE, name=OTHER))
    report(log, cash - 135 * ONE, times=10)
    log.update(quote, "CANCELLED", venue_ts_ns=log.now_ns)
    report(log, cash, times=WAIT_S - 15)
    assert not is_set_stopped(log)
    report(log, cash, times=8)
    assert is_set_stopped(log)


@pytest.mark.parametrize("goes", [True, False])
def test_cash_that_goes_after_a_payout_came_beside_a_quote_is_found_within_the_minute(make, goes):
    log = world(make)
    quote, cash = quoted(make, log, size=50 * ONE)
    log.feed(payout(log, 50 * ONE, yes=50 * ONE, name=OTHER))
    cash += 50 * ONE
    report(log, cash - 135 * ONE, times=3)
    if goes:
        # With nothing out a report that agrees ends the wait, and the next one that does not is believed.
        log.update(quote, "CANCELLED", venue_ts_ns=log.now_ns)
        report(log, cash, times=4)
        report(log, cash - 30 * ONE)
        assert is_set_stopped(log)
    else:
        report(log, cash - 135 * ONE - 30 * ONE, times=WAIT_S)
        assert is_set_stopped(log)


@pytest.mark.parametrize("missing", [60, 200])
def test_more_than_a_late_payout_and_a_quote_explain_is_found_at_once(make, missing):
    log = world(make)
    _, cash = quoted(make, log, size=50 * ONE)
    log.feed(payout(log, 50 * ONE, yes=50 * ONE, name=OTHER))
    report(log, cash - 135 * ONE, times=3)
    report(log, cash - 135 * ONE - missing * ONE)
    assert is_set_stopped(log)


def test_a_wait_is_over_for_markets_whose_cash_is_known_to_the_unit_though_a_position_is_entered_elsewhere(make):
    log = world(make)
    log.feed(instrument(OTHER))
    hold(make, log, size=50 * ONE)
    log.feed(posting(log, "TRANSFER", instrument=OTHER, outcome="YES", size=5 * ONE))
    log.feed(payout(log, 50 * ONE, yes=50 * ONE))
    cash = CASH + 30 * ONE
    report(log, cash, times=2)
    assert account_of(log).waits == {}
    report(log, cash - 30 * ONE)
    assert is_set_stopped(log)


def test_reports_from_before_a_payout_was_shown_that_come_after_say_nothing(make):
    log = world(make, heal=0)
    hold(make, log)
    log.feed(payout(log, 10 * ONE, value=ONE))
    log.clock(1_000)
    read_ns = log.now_ns
    log.clock(5_000)
    report(log, AFTER)
    assert account_of(log).waits == {}
    for number in range(4):
        log.report(ACCOUNT, LEFT["BUY"], HELD, as_of_ns=read_ns + number * 1_000_000_000)
    assert (cause_of(log), is_set_stopped(log)) == ("", False)
    report(log, LEFT["BUY"])
    assert is_set_stopped(log)


def test_what_a_payout_that_is_not_shown_yet_explains_is_no_withdrawal(make):
    log = world(make, heal=0)
    hold(make, log)
    log.feed(posting(log, "WITHDRAWAL", -10 * ONE))
    log.feed(payout(log, 10 * ONE, value=ONE))
    # Neither the withdrawal nor the payout: together they are as we count.
    report(log, LEFT["BUY"], times=3)
    assert [one.cash_e6 for one in account_of(log).coming] == [-10 * ONE]
    report(log, AFTER, times=3)
    assert not is_set_stopped(log)
    # That both moved looks like that neither did: until the wait is over.
    report(log, AFTER - 10 * ONE, times=WAIT_S)
    assert (account_of(log).coming, account_of(log).waits, is_set_stopped(log)) == ([], {}, False)
