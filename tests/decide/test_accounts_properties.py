"""Whatever venues do with our orders, in whatever order we hear of it and however often: money is right at the end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import order
from schemas.decision import Grant, Intent, Saga
from tests.decide.scripted import OPENING, check_money, exposure, money, newest, run, seeds
from venues.kalshi import rules as kalshi_rules


@settings(max_examples=60, deadline=None)
@given(seeds, seeds)
def test_money_equals_the_venues_own_and_nothing_stays_reserved(make, seed, shuffle):
    log, venues = run(make, seed, shuffle=shuffle, copies=0)
    check_money(log, venues)


@settings(max_examples=60, deadline=None)
@given(seeds, seeds, seeds)
def test_order_and_copies_of_what_is_heard_change_nothing(make, seed, one, other):
    clean, _ = run(make, seed, shuffle=one, copies=0)
    noisy, venues = run(make, seed, shuffle=other, copies=0.5)
    check_money(noisy, venues)
    # Nothing but arrival decides whether a failure is known before the hedge.
    if not venues.failed:
        assert money(noisy) == money(clean)
        assert states(noisy) == states(clean)


def states(log):
    return {saga.id: (saga.state, saga.reason, saga.filled_first, saga.filled_second) for saga in newest(log, Saga)}


@settings(max_examples=20, deadline=None)
@given(seeds, seeds)
def test_feeding_the_log_again_gives_the_same_records(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3)
    assert log.again() == log.outputs


@settings(max_examples=40, deadline=None)
@given(seeds, seeds)
def test_each_sagas_cash_and_fees_sum_to_the_accounts_change(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3)
    sagas = newest(log, Saga)
    change = sum(cash - OPENING for cash, _, _, _ in money(log).values() if cash)
    assert sum(saga.cash_e6 - saga.fees_e6 for saga in sagas) == change


@settings(max_examples=40, deadline=None)
@given(seeds, seeds)
def test_what_is_done_is_matched_and_what_is_not_is_said(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3)
    for saga in newest(log, Saga):
        grants = {grant.id: grant for grant in log.all(Grant) if grant.intent == saga.id}
        if saga.state == "DONE":
            # Dust below a hundredth of a contract cannot be left: all sizes are hundredths.
            assert exposure(log, grants, 0) == exposure(log, grants, 1)
        elif saga.state == "HOLDING":
            assert saga.reason in {"ATTEMPTS", "OVER_BUDGET", "BELOW_MINIMUM"}
            assert exposure(log, grants, 0) != exposure(log, grants, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["BUY", "SELL"]), st.integers(1, 99), st.integers(1, 2_000)), min_size=1, max_size=12
    )
)
def test_netted_cash_is_what_the_venues_rule_says(make, trades):
    log = make.accounts().start(cash=OPENING)
    cash, position = OPENING, 0
    for number, (side, cents, hundredths) in enumerate(trades):
        size, price = hundredths * 10_000, cents * 100
        effect = kalshi_rules.cash_effect(
            position=position, side="bid" if side == "BUY" else "ask", price=price, size=size
        )
        cash, position = cash + effect.cash, effect.position
        # By turns as a trade of YES and as one of NO: both say the same.
        as_no = number % 2 == 1
        log.feed(
            order.Fill(
                event_id=f"f{number}",
                order="by hand",
                account="kalshi:main",
                instrument=make.KALSHI,
                fill=f"f{number}",
                outcome="NO" if as_no else "YES",
                token_side=side if not as_no else ("SELL" if side == "BUY" else "BUY"),
                size=size,
                price_e6=(10_000 - price if as_no else price) * 100,
                notional_e6=size * (10_000 - price if as_no else price) // 10_000,
                fee_e6=0,
                asset="USD",
                liquidity="TAKER",
                settlement="CONFIRMED",
                ts_ns=log.now_ns,
                recv_ts_ns=log.now_ns,
            )
        )
    assert log.ledger("kalshi:main").cash_e6 == cash
    assert log.ledger(f"kalshi:main|{make.KALSHI}|YES").size == position


def test_intent_delivered_twice_is_granted_once(make):
    log = make.accounts().start()
    intent = make.intent()
    log.feed(intent)
    assert log.feed(intent) == []
    assert len(log.all(Grant)) == 1
    assert isinstance(intent, Intent)


@settings(max_examples=40, deadline=None)
@given(seeds, seeds)
def test_the_books_of_all_strategies_add_up_to_the_accounts(make, seed, shuffle):
    log, _ = run(make, seed, shuffle=shuffle, copies=0.3)
    accounts = log.task._sets["main"]
    for name, ledger in accounts.ledgers.items():
        books = accounts.positions.books.values()
        sizes = [(key, position.size) for book in books for key, position in book.open.items() if key[0] == name]
        for (instrument, outcome), holding in ledger.holdings.items():
            own = sum(size for key, size in sizes if key == (name, instrument))
            other = ledger.holding(instrument, "NO").size if not ledger.nets else 0
            if outcome == "YES":
                assert own == holding.size - other
    # In YES terms a dollar is owed for each contract sold; an account has paid it already.
    owed = sum(
        max(-holding.size, 0) if ledger.nets else (holding.size if outcome == "NO" else 0)
        for ledger in accounts.ledgers.values()
        for (_, outcome), holding in ledger.holdings.items()
    )
    flow = sum(book.flow_e6 - book.fees_e6 for book in accounts.positions.books.values())
    assert flow - owed == sum(ledger.cash_e6 - OPENING for ledger in accounts.ledgers.values())
