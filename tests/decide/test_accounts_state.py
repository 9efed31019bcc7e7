"""An accounts' task that took up a checkpoint says what one says that read the whole log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import StateUnreadable
from core.runtime.flow import Checkpointed
from decide import accounts_state
from decide.accounts_state import NS_PER_MINUTE, REFUSED_MINUTES, Refused
from schemas.decision import Amend, Cancel, Grant, Intent, Saga, Standing
from schemas.enums import SagaState
from tests.checkpoints import keep, outputs_with_restores, written_at_once
from tests.decide.quotes import quote_intent, word

ONE = 1_000_000
seeds = st.integers(0, 2**32)


CODECS = {
    "link": accounts_state._LINKS,
    "instrument": accounts_state._INSTRUMENTS,
    "set": accounts_state._SETS,
    "account": accounts_state._ACCOUNTS,
    "fill": accounts_state._FILLS,
    "saga": accounts_state._SAGAS,
    "claims": accounts_state._CLAIMS,
    "refused": accounts_state._REFUSALS,
    "book": accounts_state._BOOKS,
    "risk": accounts_state._RISKS,
    "mark": accounts_state._MARKS,
    "ticks": accounts_state._TICKS,
    "paid": accounts_state._PAID,
    "word": accounts_state._WORDS,
}


def readable(items):
    """Items as values: sets have no order, nor have claims."""
    found = {name: CODECS[name.partition("/")[0]].decode(data) for name, data in items.items()}
    return {n: (v.set, sorted(map(repr, v.held))) if n.startswith("claims/") else v for n, v in found.items()}


def random_log(make, seed):
    """Intents and what gateways say of the grants that follow, in any order, with copies, halts and late failures."""
    dice = random.Random(seed)
    more = figures(dice) if seed % 2 else {}
    log = make.accounts().start(limits=make.limit(open_sagas_max=3, unwind_budget_e6=dice.choice([2 * ONE, 0]), **more))
    grants, fills = [], []
    if seed % 2:
        report_twice(log, dice)
    for number in range(60):
        match dice.choice(
            [
                "intent",
                "intent",
                "submit",
                "update",
                "fill",
                "fill",
                "settle",
                "clock",
                "alive",
                "other",
                *RESTS[seed % 3],
            ]
        ):
            case "quote":
                sell = dice.random() < 0.5
                heard = log.feed(
                    quote_intent(
                        make,
                        log,
                        name=f"quote-{number}",
                        instrument=dice.choice([make.KALSHI, make.POLY]),
                        side="SELL" if sell else "BUY",
                        price=dice.choice([6_000, 6_500] if sell else [3_000, 3_500]),
                        size=dice.choice([10, 12]) * ONE,
                        silence_ms=dice.choice([0, 500]),
                        reduces=dice.random() < 0.2,
                    )
                )
                for grant in [record for record in heard if isinstance(record, Grant)]:
                    grants.append(grant)
                    if dice.random() < 0.8:
                        log.update(grant, "ACCEPTED")
            case "word" if grants:
                resting = [saga.intent.id for saga in log.task._sets["main"].resting()]
                names = [dice.choice([*resting, *resting, grants[-1].intent]) for _ in range(dice.choice([1, 1, 1, 2]))]
                action = dice.choice(["KEEP", "CANCEL", "REPLACE", "REPLACE", "REPLACE"])
                sells = any(grant.intent == names[0] and grant.side == "SELL" for grant in grants)
                price = dice.choice([6_000, 6_300, 6_500] if sells else [3_000, 3_300, 3_500])
                said = word(log, action, *names, price=price, size=dice.choice([5, 10, 15]) * ONE)
                for _ in range(dice.choice([1, 1, 2])):
                    grants += [record for record in log.feed(said) if isinstance(record, Grant)]
            case "amended" if log.all(Amend):
                amend = dice.choice(log.all(Amend)[-2:])
                grant = next(grant for grant in grants if grant.id == amend.order)
                done = dict(price=amend.price, size=amend.size, venue_ts_ns=log.now_ns)
                not_done = dict(reason="not amended: it would cross")
                heard = log.update(grant, "ACCEPTED", event_id=f"am/{number}", **dice.choice([done, not_done]))
                grants += [record for record in heard if isinstance(record, Grant)]
            case "intent":
                buy = dice.random() < 0.6
                legs = [
                    make.leg(make.POLY, "BUY" if buy else "SELL", levels(dice, 3_900 if buy else 6_500)),
                    make.leg(make.KALSHI, "SELL" if buy else "BUY", levels(dice, 4_900 if buy else 4_200)),
                ]
                size = min(leg.size for leg in legs)
                legs = [cut(make, leg, size) for leg in legs]
                made = make.intent(
                    id=f"intent-{number}",
                    strategy=f"arb-{dice.randrange(4)}",
                    legs=legs,
                    now_ns=log.now_ns,
                    recv_ts_ns=log.now_ns,
                )
                heard = log.feed(made)
                if dice.random() < 0.2:
                    log.feed(made)
                grants += [record for record in heard if isinstance(record, Grant)]
            case "submit" if grants:
                log.submitting(dice.choice(grants), writer=dice.choice(["gw", "gw2"]))
            case "update" if grants:
                grant = dice.choice(grants)
                status = dice.choice(
                    ["ACCEPTED", "FILLED", "CANCELLED", "REJECTED", "EXPIRED_UNSENT", "OUTCOME_UNKNOWN"]
                )
                filled = grant.size if status == "FILLED" else 0
                heard = log.update(grant, status, filled, writer=dice.choice(["gw", "gw2"]))
                grants += [record for record in heard if isinstance(record, Grant)]
            case "fill" if grants:
                grant = dice.choice(grants)
                size = dice.choice([grant.size, max(grant.size // 2 // 10_000 * 10_000, 10_000)])
                name = f"f{dice.randrange(30)}"
                fills.append((grant, name))
                grants += [
                    r
                    for r in log.fill(grant, size, grant.price, fee=dice.randrange(50_000), name=name)
                    if isinstance(r, Grant)
                ]
            case "settle" if fills:
                grant, name = dice.choice(fills)
                heard = log.settle(grant, name, dice.choice(["CONFIRMED", "CONFIRMED", "FAILED"]))
                grants += [record for record in heard if isinstance(record, Grant)]
            case "clock":
                grants += [record for record in log.clock(dice.choice([100, 400, 3_000])) if isinstance(record, Grant)]
            case "alive":
                for account in ("kalshi:main", "polymarket:main"):
                    log.alive(account, ready=dice.random() < 0.9)
            case "other":
                other(make, log, dice, limited=seed % 2 == 1)
    return log


RESTS = ([], ["quote", "word", "amended"], ["quote", "quote", "word", "word", "amended"])


def other(make, log, dice, *, limited):
    match dice.randrange(9 if limited else 5):
        case 0:
            state = dice.choice(["RUNNING", "RUNNING", "RUNNING", "REDUCING", "HALTED"])
            budget_e6 = dice.choice([2 * ONE, 0])
            more = figures(dice) if limited else {}
            log.feed(make.limit(state=state, open_sagas_max=3, unwind_budget_e6=budget_e6, **more))
        case 1:
            log.feed(make.link(version=dice.randrange(1, 4)))
        case 2:
            log.feed(make.instrument(dice.choice([make.KALSHI, make.POLY])))
        case 3:
            report_twice(log, dice)
        case 4:
            log.feed(
                make.profile(dice.choice(["kalshi", "polymarket"]), account_set=dice.choice(["main", "main", "spare"]))
            )
        case 5:
            name, allowed = dice.choice(BUDGETS)
            log.feed(make.budget(*name, **{figure: dice.choice(sums) for figure, sums in allowed.items()}))
        case 6:
            scope, name = dice.choice(
                [("SET", ""), ("STRATEGY", "arb-1"), ("VENUE", "kalshi"), ("INSTRUMENT", make.POLY)]
            )
            state = dice.choice(["RUNNING", "RUNNING", "RUNNING", "REDUCING", "HALTED"])
            log.feed(make.command(state, scope, name, ts_ns=log.now_ns))
        case 7:
            seen = make.depth(dice.choice([make.KALSHI, make.POLY]), dice.randrange(50), [(3_900, ONE)], [(4_600, ONE)])
            log.feed(make.quote(seen, state=dice.choice(["LIVE", "LIVE", "SUSPECT"])), source=make.book_source())
        case 8:
            log.feed(make.tick(log.now_ns))


def report_twice(log, dice):
    """What the venue would say, or not quite, once or twice."""
    account = f"{dice.choice(['kalshi', 'polymarket'])}:main"
    owner = log.task._set_of[account]
    ledger = owner.ledgers[account]
    cash = ledger.cash_e6 + dice.choice([0, 5, 50 * ONE])
    holdings = [(name, outcome, abs(held.size)) for (name, outcome), held in ledger.holdings.items()]
    for number in range(dice.choice([1, 2])):
        log.report(account, cash, holdings, as_of_ns=log.now_ns + ONE + number)


BUDGETS = [
    (("STRATEGY", "*"), {"notional_max_e6": [20 * ONE, -1], "day_loss_max_e6": [ONE // 50, -1]}),
    (("EVENT", "*"), {"worst_loss_max_e6": [12 * ONE, -1]}),
    (("VENUE", "kalshi"), {"notional_max_e6": [30 * ONE, -1], "orders_per_min": [1, 2, -1]}),
]


def figures(dice):
    """Figures of a limit record, most of them not limited."""
    if dice.random() < 0.5:
        return {}
    return {
        "day_loss_reduce_e6": dice.choice([-1, ONE // 50]),
        "day_loss_halt_e6": dice.choice([-1, ONE // 10]),
        "silence_reduce_ms": dice.choice([-1, 1_000]),
        "silence_halt_ms": dice.choice([-1, 5_000]),
        "heal_max_e6": dice.choice([-1, ONE]),
    }


def levels(dice, first):
    count = dice.randrange(1, 4)
    return [(first + 100 * n, dice.randrange(5, 20) * ONE) for n in range(count)]


def cut(make, leg, size):
    prices, sizes, left = [], [], size
    pairs = list(zip(leg.level_prices, leg.level_sizes, strict=True))
    if leg.side == "SELL":
        pairs = [(2 * leg.level_prices[0] - price, part) for price, part in pairs]
    for price, part in pairs:
        if left > 0:
            prices.append(price)
            sizes.append(min(part, left))
            left -= min(part, left)
    return make.replace(leg, price=prices[-1], size=size, level_prices=prices, level_sizes=sizes)


@settings(max_examples=60)
@given(seeds, st.sets(st.integers(0, 75), max_size=12), seeds)
def test_restored_at_any_cuts_it_says_what_the_whole_log_says(make, seed, cuts, dice):
    log = random_log(make, seed)
    outputs, items = outputs_with_restores(log, cuts, random.Random(dice))
    assert outputs == log.outputs
    # What is written down piece by piece is what is written down at once.
    assert readable(items) == readable(written_at_once(log))


def test_random_logs_reach_what_they_are_to_cover(make):
    """Else the property above would say little."""
    states: set[SagaState] = set()
    kinds, grants, causes, entries, refusals = set(), 0, set(), set(), set()
    ends, amends, again = set(), 0, 0
    for seed in range(120):
        log = random_log(make, seed)
        kinds |= {type(item.record) for item in log.items}
        grants += len(log.all(Grant))
        causes |= {(said.scope, said.cause.partition(" ")[0]) for said in log.all(Standing)}
        entries |= {entry.kind for entry in log.entries()}
        refusals |= {saga.reason for saga in log.all(Saga) if saga.state == "REFUSED"}
        quotes = [saga for saga in log.all(Saga) if saga.id.startswith("quote")]
        ends |= {saga.reason for saga in quotes if saga.state == "DONE"} | {out.reason for out in log.all(Cancel)}
        amends += len(log.all(Amend))
        again += sum(grant.post_only and grant.attempt > 1 for grant in log.all(Grant))
        states |= {saga.state for accounts in log.task._sets.values() for saga in accounts.sagas.values()}
        states |= {"REFUSED"} if any(name.startswith("refused/") for name in written_at_once(log)) else set()
    assert states >= {"FIRST_LEG", "SECOND_LEG", "UNWINDING", "DONE", "HOLDING", "REFUSED", "RESTING"}
    assert grants > 100
    assert ends >= {"FILLED", "SILENT", "WITHDRAWN", "NOT_AMENDED", "REJECTED", "HALTED", "NOT_READY"}, ends
    assert amends > 10
    assert again >= 2
    assert causes >= {("SET", "COMMAND"), ("SET", "SILENCE"), ("SET", "DAY_LOSS"), ("STRATEGY", "DAY_LOSS")}
    assert entries == {"EXTERNAL"}
    assert refusals >= {"STOPPED", "BUDGET_RATE", "BUDGET_WORST_LOSS", "STALE_MARK"}, refusals
    assert Intent in kinds


def test_only_what_changed_is_written_again(make):
    log = make.accounts().start()
    items: dict[str, bytes] = {}
    keep(log.task.changed(), items)
    assert set(items) >= {"link/L1", f"instrument/{make.KALSHI}", "set/main", "account/main/kalshi:main"}
    assert list(log.task.changed()) == []
    (grant, *_) = log.feed(make.intent())
    changed = dict(log.task.changed())
    assert set(changed) == {
        "saga/intent-1",
        "account/main/kalshi:main",
        "account/main/polymarket:main",
        f"claims/main/{make.KALSHI}",
        f"claims/main/{make.POLY}",
    }
    log.fill(grant, 10 * ONE, 4_000, name="f1")
    assert set(dict(log.task.changed())) == {
        "saga/intent-1",
        "account/main/polymarket:main",
        "fill/main/polymarket:main/f1",
        "book/main/arb-1",
    }


@pytest.mark.parametrize("account_set", ["main", "spare"])
def test_an_order_that_a_halt_took_back_is_not_taken_back_again_after_a_restore(make, account_set):
    log, items = make.accounts().start(), {}
    (grant,) = [record for record in log.feed(make.intent()) if isinstance(record, Grant)]
    # The order stays with the set that granted it, though its account may belong to another one by now.
    log.feed(make.profile("polymarket", account_set=account_set))
    keep(log.task.changed(), items)
    assert [record.order for record in log.feed(make.limit(state="HALTED")) if isinstance(record, Cancel)] == [grant.id]
    keep(log.task.changed(), items)
    log.task = log.new_task()
    log.task.restore(items.items())
    assert [record for record in log.feed(make.limit(state="HALTED")) if isinstance(record, Cancel)] == []


def test_quotes_that_fall_together_fall_in_the_same_order_after_a_restore(make):
    log, items = make.accounts().start(), {}
    for number, (side, price) in enumerate([("SELL", 6_000), ("BUY", 4_000)] * 3):
        name = make.KALSHI if number % 2 else make.POLY
        quote = quote_intent(
            make, log, name=f"q{7 - number}", instrument=name, side=side, price=price, strategy=f"m{number}"
        )
        (grant,) = [record for record in log.feed(quote) if isinstance(record, Grant)]
        log.update(grant, "ACCEPTED")
    keep(log.task.changed(), items)
    reversed_ = log.new_task()
    reversed_.restore(list(items.items())[::-1])
    halted = log.items[-1]._replace(record=make.limit(state="REDUCING"), offset=len(log.items))
    expected = list(log.task.handle(halted))
    assert len([output for output in expected if isinstance(output.record, Cancel)]) == 6
    assert list(reversed_.handle(halted)) == expected


def test_refused_intents_are_forgotten_after_an_hour_of_log_time():
    refused = Refused()
    refused.add("a", 0)
    refused.add("b", NS_PER_MINUTE)
    refused.changed.clear()
    assert "a" in refused
    refused.add("c", REFUSED_MINUTES * NS_PER_MINUTE)
    assert "a" not in refused
    assert "b" in refused
    assert refused.of(0) is None
    assert refused.changed == {0, REFUSED_MINUTES}


def test_a_checkpoint_of_another_version_is_not_read(make):
    log = make.accounts().start()
    items = dict(log.task.changed())
    items["set/main"] = b"\x00" + items["set/main"][1:]
    task = log.new_task()
    assert isinstance(task, Checkpointed)
    with pytest.raises(StateUnreadable, match="version"):
        task.restore(items.items())
