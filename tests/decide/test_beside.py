"""What is compared while orders are out: a difference is found beside quotes that always rest, a fill is never taken for one."""

import random
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decide.beside import netted_most_e6
from decide.conduct import open_cost_e6
from schemas.decision import Amend, Cancel, Entry, Grant
from tests.decide.conftest import KALSHI, ONE, POLY
from tests.decide.quotes import of, quote_intent, word
from tests.decide.test_accounts_state import outputs_with_restores
from tests.decide.test_reconciliation import ACCOUNT, CASH, TOKENS, hold, kinds, report, stands, world

OTHER = "kalshi:KX-2"
COLLATERAL = 4_500_000
"""Of a bid for ten at 45 cents."""


def quoting(make, log, name="q1", *, instrument=KALSHI, size=10 * ONE, price=4_500, side="BUY", silence_ms=0):
    """Let a quote rest, as its gateway says."""
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    heard = log.feed(
        quote_intent(
            make, log, name=name, instrument=instrument, size=size, price=price, side=side, silence_ms=silence_ms,
            strategy=f"mm-{name}",
        )
    )  # fmt: skip
    (grant,) = kinds(heard, Grant)
    log.update(grant, "ACCEPTED", venue_ts_ns=log.now_ns)
    return grant


def is_stopped(log):
    return bool(log.task._sets["main"].risk.stopped)


def fee_e6(log):
    """The most fees that may come of the quote that rests."""
    ledger = log.task._sets["main"].ledgers[ACCOUNT]
    return ledger.reserved_e6 - COLLATERAL


@pytest.mark.parametrize("bound", [0, COLLATERAL], ids=["in the figures", "out of the figures"])
def test_a_holding_that_nobody_bought_is_found_and_healed_beside_a_quote_that_rests(make, bound):
    log = world(make)
    log.feed(make.instrument(OTHER))
    quoting(make, log)
    (entry,) = kinds(report(log, CASH - bound, [(OTHER, "YES", 3 * ONE)]), Entry)
    assert (entry.kind, entry.instrument, entry.size, entry.cash_e6) == ("EXTERNAL", OTHER, 3 * ONE, 0)
    assert log.ledger(f"{ACCOUNT}|{OTHER}|YES").size == 3 * ONE
    assert not is_stopped(log)


def test_a_large_holding_freezes_its_instrument_beside_a_quote_that_rests(make):
    log = world(make)
    log.feed(make.instrument(OTHER))
    quoting(make, log)
    report(log, CASH, [(OTHER, "YES", 30 * ONE)])
    assert stands(log, f"main|INSTRUMENT|{OTHER}") == ("REDUCING", "DIFFERS")
    log.feed(make.command("RUNNING", "INSTRUMENT", OTHER, ts_ns=log.now_ns))
    (entry,) = kinds(report(log, CASH, [(OTHER, "YES", 30 * ONE)]), Entry)
    assert entry.size == 30 * ONE


def test_the_market_a_quote_rests_in_is_left_alone_until_it_does_not(make):
    log = world(make)
    grant = quoting(make, log)
    assert kinds(report(log, CASH - COLLATERAL, [(KALSHI, "YES", 2 * ONE)], times=5), Entry) == []
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    (entry,) = kinds(report(log, CASH, [(KALSHI, "YES", 2 * ONE)], times=4), Entry)
    assert (entry.instrument, entry.size) == (KALSHI, 2 * ONE)


@pytest.mark.parametrize("over", [0, 1])
def test_cash_is_left_alone_within_what_a_quote_explains_and_healed_beyond(make, over):
    log = world(make)
    quoting(make, log)
    low = CASH - COLLATERAL - fee_e6(log)
    entries = kinds(report(log, low - over, times=4), Entry)
    assert [one.cash_e6 for one in entries] == [-1] * over
    # A bid brings nothing.
    entries = kinds(report(log, CASH + over, times=4), Entry)
    assert sum(one.cash_e6 for one in entries) == 2 * over


@pytest.mark.parametrize("change", [-50 * ONE, 50 * ONE])
def test_cash_beyond_what_quotes_explain_stops_the_set(make, change):
    log = world(make)
    quoting(make, log)
    report(log, CASH - COLLATERAL + change)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")
    assert log.entries() == []


def test_what_a_human_accepted_of_the_cash_is_taken_when_nothing_rests(make):
    log = world(make)
    report(log, CASH - 50 * ONE)
    log.feed(make.command("RUNNING", ts_ns=log.now_ns))
    grant = quoting(make, log)
    assert kinds(report(log, CASH - 50 * ONE - COLLATERAL, times=4), Entry) == []
    assert not is_stopped(log)
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    (entry,) = kinds(report(log, CASH - 50 * ONE, times=5), Entry)
    assert entry.cash_e6 == -50 * ONE
    assert not is_stopped(log)


def test_fills_of_one_market_do_not_keep_another_from_being_compared(make):
    log = world(make)
    log.feed(make.instrument(OTHER))
    grant = quoting(make, log)
    cash, held = CASH, 0
    for number in range(6):
        # Between any two reports there is a fill.
        cash, held = cash - 450_000, held + ONE
        log.fill(grant, ONE, 4_500, name=f"f{number}", venue_ts_ns=log.now_ns)
        report(log, cash, [(KALSHI, "YES", held), (OTHER, "NO", 2 * ONE)], times=1)
    (entry,) = log.entries()
    assert (entry.instrument, entry.size) == (OTHER, -2 * ONE)


@pytest.mark.parametrize("behind_ns", [0, 1_000_000_000], ids=["clocks agree", "ours is behind"])
def test_a_report_read_before_a_quote_went_says_nothing_of_its_collateral(make, behind_ns):
    log = world(make, heal=0)
    for number in range(8):
        grant = quoting(make, log, f"q{number}")
        log.clock(500)
        read_ns = log.now_ns
        log.clock(200)
        log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns - behind_ns)
        # Each time two gateways' reports of a quote that rests come when it is gone.
        for twin in range(2):
            log.report(ACCOUNT, CASH - COLLATERAL, as_of_ns=read_ns + twin)
        log.clock(300)
    assert log.entries() == []
    assert not is_stopped(log)


@pytest.mark.parametrize(("side", "price", "brings"), [("BUY", 3_000, 7 * ONE), ("SELL", 5_000, 5 * ONE)])
def test_a_quote_that_closes_may_have_brought_cash_already_and_no_more(make, side, price, brings):
    log = world(make, heal=0)
    hold(make, log, side="SELL" if side == "BUY" else "BUY")
    before = log.ledger(ACCOUNT).cash_e6
    quoting(make, log, side=side, price=price)
    assert kinds(report(log, before + brings, times=4), Entry) == []
    assert not is_stopped(log)
    report(log, before + brings + 1)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_reports_that_lag_say_nothing_of_what_a_quote_held_at_their_time(make):
    log = world(make, heal=0)
    grant = quoting(make, log)
    log.clock(5_000)
    read_ns = log.now_ns - 4_000_000_000
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    for number in range(6):
        log.clock(500)
        log.report(ACCOUNT, CASH - COLLATERAL, as_of_ns=read_ns + number * 500_000_000)
    assert not is_stopped(log)
    # One that is younger says that it went.
    log.clock(3_000)
    report(log, CASH - COLLATERAL, times=3)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")


def test_the_same_difference_before_and_after_a_fill_of_nobodys_is_not_lasting(make):
    log = world(make)
    grant = Grant(
        **dict.fromkeys(Grant.__struct_fields__, 0)
        | dict(id="by hand", account=ACCOUNT, instrument=KALSHI, outcome="YES", token_side="BUY", trail=[])
    )
    # Each is shown by a report before it is heard of.
    for number in range(1, 7):
        report(log, CASH - 400_000 * number, [(KALSHI, "YES", number * ONE)], times=1)
        log.fill(grant, ONE, 4_000, name=f"f{number}", venue_ts_ns=log.now_ns - 1)
    assert log.entries() == []


def test_a_known_payout_of_tokens_is_booked_beside_a_quote_that_rests(make):
    log = world(make, heal=0)
    other = "polymarket:0xc2"
    log.feed(make.instrument(other))
    log.settle(hold(make, log, POLY), "hold-1")
    quoting(make, log, instrument=other)
    left = log.ledger(TOKENS).cash_e6
    log.feed(make.instrument(POLY, status="SETTLED", payout_e6=ONE, recv_ts_ns=log.now_ns))
    final = [one for one in kinds(report(log, left + 10 * ONE, account=TOKENS), Entry) if one.phase == "FINAL"]
    assert [(one.kind, one.cash_e6, one.size) for one in final] == [("SETTLEMENT", 10 * ONE, -10 * ONE)]
    assert log.ledger(TOKENS).cash_e6 == left + 10 * ONE


def test_an_unknown_payout_of_tokens_waits_until_the_cash_says_it_alone(make):
    log = world(make, heal=0)
    other = "polymarket:0xc2"
    log.feed(make.instrument(other))
    log.settle(hold(make, log, POLY), "hold-1")
    grant = quoting(make, log, instrument=other)
    left = log.ledger(TOKENS).cash_e6
    log.feed(make.instrument(POLY, status="SETTLED"))
    assert kinds(report(log, left - 2 * ONE, account=TOKENS, times=4), Entry) == []
    assert not is_stopped(log)
    log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    (entry,) = kinds(report(log, left, account=TOKENS, times=5), Entry)
    assert (entry.kind, entry.cash_e6) == ("SETTLEMENT", 0)


# --- the interval


orders = st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), st.integers(1, 9), st.integers(1, 3)), max_size=4)


def _stands(side, price, size):
    grant = SimpleNamespace(side=side, post_only=True)
    return SimpleNamespace(grant=grant, offers=[(price * 1_000, size * ONE)], owed=[], unfilled=size * ONE)


@settings(max_examples=200, deadline=None)
@given(orders, st.integers(-5, 5))
def test_the_most_that_quotes_can_bring_is_what_the_best_of_all_fillings_brings(quotes, held):
    best = 0
    for filled in product(*(range(size + 1) for _, _, size in quotes)):
        flow = after = 0
        for (side, price, _), size in zip(quotes, filled, strict=True):
            flow += (-price if side == "BUY" else price) * size
            after += size if side == "BUY" else -size
        locked = max(-(held + after), 0) - max(-held, 0)
        best = max(best, flow * ONE // 10 - locked * ONE)
    assert netted_most_e6(held * ONE, [_stands(*one) for one in quotes]) == best


# --- any course of fills, cancels and reports


class Venue:
    """Two markets of a venue that nets and takes collateral out of the cash it states, and one of tokens."""

    def __init__(self, make, log, dice):
        self.make, self.log, self.dice = make, log, dice
        self.cash = {ACCOUNT: CASH, TOKENS: CASH}
        self.held = {}
        self.orders, self.words = {}, []
        self.seen = self.count = 0

    def read(self):
        """Take what was decided since."""
        outputs, self.seen = self.log.outputs[self.seen :], len(self.log.outputs)
        for record in (output.record for output in outputs):
            if isinstance(record, Grant):
                self.orders[record.id] = SimpleNamespace(
                    grant=record, price=record.price, total=record.size, filled=0, state="coming", amends=[], goes=False
                )
            elif isinstance(record, Amend):
                self.orders[record.order].amends.append(record)
            elif isinstance(record, Cancel):
                self.orders[record.order].goes = True

    def act(self):
        live = [order for order in self.orders.values() if order.state != "gone"]
        if not live:
            return
        order = self.dice.choice(live)
        match self.dice.choice(["take", "take", "fill", "fill", "amend", "go"]):
            case "take" if order.state == "coming":
                order.state = "rests"
                self.say(order, "ACCEPTED")
            case "fill" if order.state == "rests":
                self.fill(order, self.dice.randrange(1, (order.total - order.filled) // ONE + 1) * ONE)
            case "amend" if order.amends and order.state == "rests":
                amend = order.amends.pop(0)
                if amend.size > order.filled:
                    order.price, order.total = amend.price, amend.size
                    self.say(order, "ACCEPTED", price=amend.price, size=amend.size)
            case "go" if order.goes or self.dice.random() < 0.1:
                order.state = "gone"
                self.say(order, "CANCELLED" if order.goes else "EXPIRED")

    def fill(self, order, size):
        grant, price = order.grant, order.price
        order.filled += size
        self.count += 1
        name, at_ns, fee = f"f{self.count}", self.now_ns(), self.dice.choice([0, 0, 1_000])
        if grant.account == ACCOUNT:
            before = self.held.get((grant.instrument, "YES"), 0)
            after = before + (size if grant.side == "BUY" else -size)
            flow = (-price if grant.side == "BUY" else price) * size // 10_000
            self.cash[ACCOUNT] += flow - max(-after, 0) + max(-before, 0) - fee
            self.held[grant.instrument, "YES"] = after
        else:
            token = price if grant.outcome == "YES" else 10_000 - price
            sign = 1 if grant.token_side != "SELL" else -1
            key = (grant.instrument, grant.outcome)
            self.cash[TOKENS] -= sign * (token * size // 10_000) + fee
            self.held[key] = self.held.get(key, 0) + sign * size
        self.words.append(lambda: self.log.fill(grant, size, price, name=name, fee=fee, venue_ts_ns=at_ns))
        if grant.account == TOKENS:
            self.words.append(lambda: self.log.settle(grant, name))
        if order.filled == order.total:
            order.state = "gone"
            self.say(order, "FILLED")

    def now_ns(self):
        """Each thing at a venue has a time of its own."""
        self.log.now_ns += 1
        return self.log.now_ns

    def say(self, order, status, **more):
        self.count += 1
        grant, filled, name, at_ns = order.grant, order.filled, f"u{self.count}", self.now_ns()
        self.words.append(lambda: self.log.update(grant, status, filled, event_id=name, venue_ts_ns=at_ns, **more))

    def state(self, account):
        """Read the account now; the report comes when it comes."""
        cash, at_ns = self.cash[account], self.now_ns()
        if account == ACCOUNT:
            cash -= sum(
                open_cost_e6(order.grant.side, order.price, order.total - order.filled)
                for order in self.orders.values()
                if order.state == "rests" and order.grant.account == ACCOUNT
            )
        venue = account.partition(":")[0]
        holdings = [
            (name, "NO" if size < 0 else outcome, abs(size))
            for (name, outcome), size in self.held.items()
            if size and name.startswith(venue)
        ]
        self.words.append(lambda: self.log.report(account, cash, holdings, as_of_ns=at_ns))

    def speak(self):
        """Let one word be heard, not always in the order in which they were said."""
        self.words.pop(self.dice.randrange(min(4, len(self.words))))()

    def settle(self):
        while self.words:
            self.words.pop(0)()


def play(make, seed, also=None, kinds_too=frozenset()):
    """Quote both sides of three markets, with words that come late; nothing but trading happens, and what `also` does."""
    dice = random.Random(seed)
    log = world(make, heal=dice.choice([0, 1_000 * ONE]))
    log.feed(make.instrument(OTHER))
    venue, names = Venue(make, log, dice), []
    for number, side in enumerate(dice.choice([[], ["BUY"], ["SELL"], ["SELL", "BUY"]])):
        # What is held is closed by quotes: that brings cash.
        name = (KALSHI, OTHER)[number]
        hold(make, log, name, side=side, number=number)
        venue.cash[ACCOUNT] -= (4 if side == "BUY" else 6) * ONE
        venue.held[name, "YES"] = (10 if side == "BUY" else -10) * ONE
    venue.seen = len(log.outputs)
    for number in range(140):
        if also is not None:
            also(log, venue, dice)
        match dice.choice(["quote", "word", "act", "act", "act", "speak", "speak", "speak", "state", "clock", "alive"]):
            case "quote":
                name, side = dice.choice([KALSHI, KALSHI, OTHER, POLY]), dice.choice(["BUY", "SELL"])
                price = dice.randrange(30, 45) * 100 if side == "BUY" else dice.randrange(50, 65) * 100
                wanted = quote_intent(
                    make, log, name=f"q{number}", instrument=name, side=side, price=price,
                    size=dice.choice([5, 10]) * ONE, strategy=f"mm-{name}-{side}",
                )  # fmt: skip
                if of(Grant, log.feed(wanted)):
                    names.append((f"q{number}", f"mm-{name}-{side}", side))
            case "word" if names:
                name, strategy, side = dice.choice(names[-4:])
                price = dice.randrange(30, 45) * 100 if side == "BUY" else dice.randrange(50, 65) * 100
                action = dice.choice(["REPLACE", "REPLACE", "CANCEL"])
                log.feed(word(log, action, name, price=price, size=dice.choice([5, 10, 15]) * ONE, strategy=strategy))
            case "act":
                venue.act()
            case "speak" if venue.words:
                venue.speak()
            case "state":
                venue.state(dice.choice([ACCOUNT, ACCOUNT, TOKENS]))
            case "clock":
                log.clock(dice.choice([50, 100, 700]))
            case "alive":
                for account in (ACCOUNT, TOKENS):
                    log.alive(account)
        venue.read()
        assert {entry.kind for entry in log.entries()} <= kinds_too
        assert not is_stopped(log)
    return log, venue


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_a_fill_in_flight_is_never_taken_for_a_difference(make, seed):
    log, _ = play(make, seed)
    assert log.again() == log.outputs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_difference_is_found_beside_whatever_rests(make, seed):
    log, venue = play(make, seed)
    venue.settle()
    venue.read()
    dice = random.Random(seed)
    what = dice.choice(["cash", "holding"])
    strange = "kalshi:KX-9"
    if what == "cash":
        venue.cash[ACCOUNT] += dice.choice([-1, 1]) * 400 * ONE
    else:
        venue.held[strange, "YES"] = -7 * ONE
    for _ in range(4):
        log.clock(1_000)
        venue.read()
        venue.state(ACCOUNT)
        venue.settle()
    found = {entry.instrument for entry in log.entries()} | {name for _, name in log.task._sets["main"].risk.stopped}
    assert found == ({""} if what == "cash" else {strange})


def test_random_courses_reach_what_they_are_to_cover(make):
    """Else the properties above would say little."""
    fills = amends = compared = inexact = 0
    for seed in range(40):
        log, venue = play(make, seed)
        fills += sum(order.filled > 0 for order in venue.orders.values())
        amends += len(log.all(Amend))
        ledger = log.task._sets["main"].ledgers[ACCOUNT]
        compared += ledger.differs == 0
        inexact += bool(ledger.unsure)
    assert fills > 100
    assert amends > 30
    assert inexact > 10


@pytest.mark.parametrize("seed", range(10))
def test_comparisons_are_the_same_for_a_worker_that_took_up_a_checkpoint(make, seed):
    log, venue = play(make, seed)
    venue.cash[ACCOUNT] -= 9 * ONE
    for _ in range(3):
        log.clock(1_000)
        venue.state(ACCOUNT)
        venue.settle()
    dice = random.Random(seed)
    cuts = {dice.randrange(len(log.items)) for _ in range(6)}
    outputs, _ = outputs_with_restores(log, cuts, dice)
    assert outputs == log.outputs


# --- what was let go of


@pytest.mark.parametrize("is_gone", [True, False], ids=["went", "rests"])
def test_a_sale_of_tokens_holds_no_cash_so_none_is_missing_because_of_it(make, is_gone):
    log = world(make, heal=0)
    log.settle(hold(make, log, POLY, size=100 * ONE), "hold-1")
    left, held = log.ledger(TOKENS).cash_e6, [(POLY, "YES", 100 * ONE)]
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")
    sale = dict(instrument=POLY, side="SELL", price=6_000, size=100 * ONE, reduces=True, strategy="s1")
    (grant,) = kinds(log.feed(quote_intent(make, log, **sale)), Grant)
    assert (grant.token_side, grant.outcome) == ("SELL", "YES")
    log.update(grant, "ACCEPTED", venue_ts_ns=log.now_ns)
    if is_gone:
        log.update(grant, "CANCELLED", venue_ts_ns=log.now_ns)
    report(log, left - 30 * ONE, held, account=TOKENS)
    assert stands(log, "main|SET|") == ("REDUCING", "DIFFERS")
