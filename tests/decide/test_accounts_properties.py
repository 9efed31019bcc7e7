"""Whatever venues do with our orders, in whatever order we hear of it and however often: money is right at the end."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import order
from schemas.decision import Grant, Intent, Ledger, Saga
from venues.kalshi import rules as kalshi_rules

ONE = 1_000_000
OPENING = 1_000 * ONE
STATUSES = ("CANCELLED", "REJECTED", "EXPIRED_UNSENT", "EXPIRED")


class Venues:
    """Answers grants by a script that looks at intent, leg and attempt only, never at ids or time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.fills: list[order.Fill] = []
        self.failed: set[str] = set()

    def answer(self, grant: Grant, now_ns: int) -> list[list]:
        """Return what the gateway says of a grant: lists of records, each list in its order."""
        dice = random.Random(f"{self._seed}/{grant.intent}/{grant.leg}/{grant.attempt}")
        tenths = dice.choice([0, 0, 3, 5, 10, 10, 10])
        filled = grant.size // 10_000 * tenths // 10 * 10_000
        fills = []
        left = filled
        while left > 0:
            part = left if len(fills) == 2 else dice.randrange(10_000, left + 1, 10_000)
            fills.append(self._fill(grant, dice, part, len(fills), now_ns))
            left -= part
        self.fills += fills
        status = "FILLED" if filled == grant.size else dice.choice(STATUSES[:1] if filled else STATUSES)
        updates = [_submitting(grant, now_ns)]
        if dice.random() < 0.3:
            updates.append(self._update(grant, "OUTCOME_UNKNOWN", 0, now_ns))
        if dice.random() < 0.5 and status not in {"REJECTED", "EXPIRED_UNSENT"}:
            updates.append(self._update(grant, "ACCEPTED", sum(fill.size for fill in fills[:1]), now_ns))
        updates.append(self._update(grant, status, filled, now_ns))
        settled = []
        for fill in fills if grant.account.startswith("polymarket") else ():
            word = "FAILED" if dice.random() < 0.15 else "CONFIRMED"
            if word == "FAILED":
                self.failed.add(fill.fill)
            settled.append([_settled(fill, word, now_ns)])
        return [updates, *([fill] for fill in fills), *settled]

    def _fill(self, grant: Grant, dice: random.Random, size: int, number: int, now_ns: int) -> order.Fill:
        better = 100 * dice.randrange(0, 4) * (-1 if grant.side == "BUY" else 1)
        yes = min(max(grant.price + better, 100), 9_900)
        token = 10_000 - yes if grant.outcome == "NO" else yes
        name = f"{grant.intent}/{grant.leg}/{grant.attempt}/{number}"
        return order.Fill(
            event_id=f"f/{name}",
            order=grant.id,
            account=grant.account,
            instrument=grant.instrument,
            fill=name,
            # As the gateways say it: Kalshi's fills are of YES, Polymarket's of the token.
            outcome="YES" if grant.outcome == "NONE" else grant.outcome,
            token_side=grant.token_side,
            size=size,
            price_e6=token * 100,
            notional_e6=size * token // 10_000,
            fee_e6=dice.randrange(0, 5_000),
            asset="USD",
            liquidity="TAKER",
            settlement="MATCHED" if grant.account.startswith("polymarket") else "CONFIRMED",
            ts_ns=now_ns,
            recv_ts_ns=now_ns,
        )

    def _update(self, grant: Grant, status: str, filled: int, now_ns: int) -> order.OrderUpdate:
        return order.OrderUpdate(
            event_id=f"u/{grant.id}/{status}/{filled}",
            order=grant.id,
            account=grant.account,
            instrument=grant.instrument,
            status=status,
            terminal=status not in {"ACCEPTED", "OUTCOME_UNKNOWN"},
            filled=filled,
            writer="gw",
            ts_ns=now_ns,
            recv_ts_ns=now_ns,
        )


def _submitting(grant: Grant, now_ns: int) -> order.Submitting:
    return order.Submitting(
        event_id=f"sub/{grant.id}",
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        writer="gw",
        method="POST",
        path="/",
        body=b"",
        send_by_ns=grant.send_by_ns,
        ts_ns=now_ns,
        recv_ts_ns=now_ns,
    )


def _settled(fill: order.Fill, word: str, now_ns: int) -> order.Settled:
    return order.Settled(
        event_id=f"s/{fill.fill}/{word}",
        order=fill.order,
        account=fill.account,
        instrument=fill.instrument,
        fill=fill.fill,
        settlement=word,
        ts_ns=now_ns,
        recv_ts_ns=now_ns,
    )


def intents(make, now_ns):
    """Both directions, so that positions net; different strategies, so that they run side by side."""
    buy = [make.leg(make.POLY, "BUY", [(4_000, 10 * ONE)]), make.leg(make.KALSHI, "SELL", [(5_000, 10 * ONE)])]
    sell = [make.leg(make.POLY, "SELL", [(6_500, 20 * ONE)]), make.leg(make.KALSHI, "BUY", [(4_200, 20 * ONE)])]
    deeper = [make.leg(make.POLY, "BUY", [(3_900, 15 * ONE)]), make.leg(make.KALSHI, "SELL", [(4_800, 15 * ONE)])]
    return [
        make.intent(id=f"intent-{number}", strategy=f"arb-{number}", now_ns=now_ns, recv_ts_ns=now_ns, legs=legs)
        for number, legs in enumerate((buy, sell, deeper))
    ]


def run(make, seed: int, *, shuffle: int, copies: float, start=None, wanted=intents):
    """Let the venues answer until nothing is open; `shuffle` orders what is heard, `copies` repeats it."""
    log = start(make, cash=OPENING) if start is not None else make.accounts().start(cash=OPENING)
    venues, dice = Venues(seed), random.Random(shuffle)
    heard = []
    for part in wanted(make, log.now_ns):
        answered = len(log.all(Grant))
        # One intent, or what makes some that run side by side, of the time at which they are made.
        pending = [[intent] for intent in part(log.now_ns)] if callable(part) else [[part]]
        for _ in range(400):
            pending = [records for records in pending if records]
            if not pending:
                log.clock(100)
                for account in ("kalshi:main", "polymarket:main"):
                    log.alive(account)
                if len(log.all(Grant)) == answered:
                    if all(saga.state in {"REFUSED", "DONE", "HOLDING"} for saga in newest(log, Saga)):
                        break
                    continue
            else:
                record = dice.choice(pending).pop(0)
                log.feed(record)
                heard.append(record)
                while dice.random() < copies:
                    log.feed(dice.choice(heard))
            for grant in log.all(Grant)[answered:]:
                pending += venues.answer(grant, log.now_ns)
            answered = len(log.all(Grant))
        else:
            raise AssertionError("the sagas do not come to an end")
    return log, venues


def newest(log, kind):
    return list({record.id: record for record in log.all(kind)}.values())


def money(log):
    return {
        record.id: (record.cash_e6, record.reserved_e6, record.fees_e6, record.size) for record in newest(log, Ledger)
    }


def stated(venues) -> dict[str, tuple[int, int, int, int]]:
    """What the venues' own books say: flows summed, each short contract holding back a dollar."""
    cash, fees, held = {"kalshi:main": OPENING, "polymarket:main": OPENING}, {}, {}
    for fill in venues.fills:
        if fill.fill in venues.failed:
            continue
        buys = fill.token_side == "BUY"
        cash[fill.account] += (-fill.notional_e6 if buys else fill.notional_e6) - fill.fee_e6
        fees[fill.account] = fees.get(fill.account, 0) + fill.fee_e6
        key = f"{fill.account}|{fill.instrument}|{fill.outcome}"
        held[key] = held.get(key, 0) + (fill.size if buys else -fill.size)
    for key, size in held.items():
        if key.startswith("kalshi") and size < 0:
            cash["kalshi:main"] += size
    accounts = {name: (amount, 0, fees.get(name, 0), 0) for name, amount in cash.items()}
    return {**accounts, **{key: (0, 0, 0, size) for key, size in held.items() if size}}


seeds = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(seeds, seeds)
def test_money_equals_the_venues_own_and_nothing_stays_reserved(make, seed, shuffle):
    log, venues = run(make, seed, shuffle=shuffle, copies=0)
    counted = {name: figures for name, figures in money(log).items() if figures != (0, 0, 0, 0)}
    assert counted == stated(venues)
    assert log.task.reserved_e6() == 0


@settings(max_examples=60, deadline=None)
@given(seeds, seeds, seeds)
def test_order_and_copies_of_what_is_heard_change_nothing(make, seed, one, other):
    clean, _ = run(make, seed, shuffle=one, copies=0)
    noisy, venues = run(make, seed, shuffle=other, copies=0.5)
    counted = {name: figures for name, figures in money(noisy).items() if figures != (0, 0, 0, 0)}
    assert counted == stated(venues)
    assert noisy.task.reserved_e6() == 0
    # An order is granted once; nothing but arrival decides whether a failure is known before the hedge.
    granted = [(grant.intent, grant.leg, grant.attempt) for grant in noisy.all(Grant)]
    assert len(set(granted)) == len(granted)
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


def exposure(log, grants, leg):
    failed = {
        item.record.fill
        for item in log.items
        if isinstance(item.record, order.Settled) and item.record.settlement == "FAILED"
    }
    fills = {item.record.fill: item.record for item in log.items if isinstance(item.record, order.Fill)}
    total = 0
    for fill in fills.values():
        grant = grants.get(fill.order)
        if grant is not None and grant.leg == leg and fill.fill not in failed:
            total += -fill.size if grant.purpose == "UNWIND" else fill.size
    return total


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
