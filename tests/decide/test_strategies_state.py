"""A strategies' task that took up a checkpoint says what one says that read the whole log."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import StateUnreadable
from core.runtime.flow import Source, TaskContext
from decide.strategies.cross_venue import CrossVenue
from decide.strategies.registry import load_kinds
from decide.strategies_task import StrategiesTask
from schemas.decision import Edge, Intent, Link, Requote
from schemas.derived import Tick
from schemas.market import Notice, Status, Trade
from tests.checkpoints import keep, outputs_with_restores, written_at_once
from tests.decide.events import event
from tests.decide.quotes import outcome

ONE = 1_000_000
OTHER = "kalshi:KX-2"
seeds = st.integers(0, 2**32)


def new_task(kinds):
    return StrategiesTask(TaskContext(incarnation=77), kinds)


def random_log(make, seed):
    """Books that cross and part, outcomes, pauses, changed parameters and links, ticks that stop."""
    dice = random.Random(seed)
    log = make.strategies().start(
        instruments=[make.instrument(name) for name in (make.KALSHI, make.POLY, OTHER)],
        links=[
            make.link(),
            make.link(id="L2", instrument_a=OTHER),
            event(make, (make.KALSHI, OTHER), exhaustive=False),
        ],
    )
    log.feed(make.strategy(id="ex-1", kind="exhaustive_event"))
    log.feed(momentum(make))
    log.feed(quoting(make))
    versions, intents = 10, []
    for _ in range(80):
        versions += 1
        match dice.choice(
            ["book"] * 8
            + [
                "saga",
                "saga",
                "clock",
                "tick",
                "tick",
                "config",
                "link",
                "instrument",
                "notice",
                "status",
                "trade",
                "repeat",
            ]
        ):
            case "book":
                name = dice.choice([make.KALSHI, make.POLY, OTHER])
                bid = dice.choice([38, 45, 50, 52, 60]) * 100
                sizes = [(bid, dice.randrange(5, 20) * ONE), (bid - 200, 30 * ONE)]
                asks = [(bid + dice.choice([100, 200]), dice.randrange(5, 20) * ONE)]
                heard = log.book(name, versions, bids=sizes, asks=asks, state=dice.choice(["LIVE"] * 6 + ["STALE"]))
                intents += [record for record in heard if isinstance(record, Intent)]
            case "saga" if intents:
                intent = dice.choice(intents)
                stands = dice.choice([0, intent.legs[0].size, intent.legs[0].size // 2])
                states = ["FIRST_LEG", "DONE", "DONE", "HOLDING", "REFUSED"]
                if intent.legs[0].rests:
                    states = ["RESTING", "RESTING", "DONE", "REFUSED"]
                state, price = dice.choice(states), intent.legs[0].price - dice.choice([0, 0, 100])
                outcome(log, intent, state, stands, price=price if state == "RESTING" else 0)
            case "clock":
                log.clock(dice.choice([100, 300, 1_100]))
            case "tick":
                log.tick()
            case "config":
                params = dice.choice(["{}", '{"cooldown_ms": 100}', '{"min_profit_e6": 1}'])
                log.feed(
                    make.strategy(params=params, status=dice.choice(["RUNNING", "RUNNING", "DRAINING", "STOPPED"]))
                )
                log.feed(make.strategy(id="arb-2", status=dice.choice(["RUNNING", "STOPPED"])))
                log.feed(momentum(make, dice.choice(["RUNNING", "DRAINING", "STOPPED"]), dice.choice([100, 300])))
                log.feed(quoting(make, dice.choice(["RUNNING", "DRAINING", "STOPPED"]), dice.choice([100, 200])))
            case "link":
                log.feed(
                    make.link(
                        id=dice.choice(["L1", "L2"]),
                        version=dice.randrange(1, 4),
                        status=dice.choice(["APPROVED", "APPROVED", "SUSPENDED"]),
                        rules_hash_a=dice.choice(["", "", "r"]),
                        **({} if dice.random() < 0.5 else {"expires_ts_ns": log.now_ns + 10**9}),
                    )
                )
            case "instrument":
                # A rule text that changes and comes back; what a suspension writes comes back through the log.
                name = dice.choice([make.KALSHI, make.POLY])
                for record in log.feed(
                    make.instrument(name, rules_hash=dice.choice(["r", "r", "s"]), recv_ts_ns=log.now_ns)
                ):
                    if isinstance(record, Link) and dice.random() < 0.7:
                        log.feed(record)
            case "notice":
                about = dice.choice([{"instrument": make.POLY}, {"instrument": OTHER}])
                log.feed(
                    Notice(
                        venue="x", reason="word", feed="f", epoch=1, frame_no=1, index=0, recv_ts_ns=log.now_ns, **about
                    )
                )
            case "status":
                log.feed(status(dice.choice([make.KALSHI, make.POLY]), dice, log.now_ns))
            case "trade":
                log.feed(trade(make.KALSHI, log.now_ns))
            case "repeat":
                log.feed(dice.choice(log.items).record, source=Source("derived.book", 0, 1))
    return log


def momentum(make, status="RUNNING", take_e4=100):
    params = {"window_ms": 2_000, "move_e4": 100, "size": 5 * ONE, "cooldown_ms": 100, "take_e4": take_e4}
    return make.strategy(
        id="mo-1", kind="momentum", status=status, params=json.dumps(params), instruments=[make.KALSHI, OTHER]
    )


def quoting(make, status="RUNNING", half_spread_e4=100):
    params = {"half_spread_e4": half_spread_e4, "cooldown_ms": 100, "requote_ms": 100, "skew_e4": 20, "life_ms": 3_000}
    params["reference"] = {make.POLY: "L1", make.KALSHI: make.KALSHI}
    return make.strategy(
        id="mm-1",
        kind="passive_quoting",
        status=status,
        params=json.dumps(params),
        instruments=[make.KALSHI, make.POLY],
    )


def status(name, dice, now_ns):
    return Status(instrument=name, price_exp=-4, epoch=1, frame_no=1, index=0,
                  status=dice.choice(["OPEN", "OPEN", "PAUSED", "UNKNOWN"]), venue_ts_ns=now_ns - dice.choice([0, 10**9]),
                  recv_ts_ns=now_ns, **dice.choice([{}, {"tick_from": [0], "tick_to": [10_000], "tick_step": [50]}]))  # fmt: skip


def trade(name, now_ns):
    return Trade(instrument=name, epoch=1, frame_no=1, index=0, price_exp=-4, size_exp=-6, price=5_000, size=ONE,
                 aggressor="BUY", recv_ts_ns=now_ns)  # fmt: skip


@settings(max_examples=60)
@given(seeds, st.sets(st.integers(0, 140), max_size=12), seeds)
def test_restored_at_any_cuts_it_says_what_the_whole_log_says(make, seed, cuts, dice):
    log = random_log(make, seed)
    outputs, items = outputs_with_restores(log, cuts, random.Random(dice))
    assert outputs == log.outputs
    assert items == written_at_once(log)


def test_random_logs_reach_what_they_are_to_cover(make):
    phases, intents, busy, suspensions, acted, words = set(), 0, 0, 0, set(), set()
    for seed in range(120):
        log = random_log(make, seed)
        phases |= {edge.phase for edge in log.all(Edge)}
        intents += len(log.all(Intent))
        acted |= {(one.strategy, one.legs[0].reduces) for one in log.all(Intent)}
        words |= {word.action for word in log.all(Requote)}
        busy += any(slot.busy for slot in log.task._slots.values())
        suspensions += len(log.all(Link))
    assert phases == {"BEGIN", "REFRESH", "END"}
    assert intents > 60
    assert busy > 5
    assert {("arb-1", False), ("ex-1", False), ("mo-1", False), ("mo-1", True)} <= acted
    assert {("mm-1", False), ("mm-1", True)} <= acted
    assert words == {"KEEP", "CANCEL", "REPLACE"}
    assert suspensions > 5


def test_only_what_changed_is_written_again(make):
    log = make.strategies().start()
    items = {}
    keep(log.task.changed(), items)
    assert set(items) == {"", f"instrument/{make.KALSHI}", f"instrument/{make.POLY}", "link/L1", "strategy/arb-1"}
    assert list(log.task.changed()) == []
    log.book(make.KALSHI, 10, bids=[(5_000, ONE)])
    assert set(dict(log.task.changed())) == {f"book/{make.KALSHI}"}
    log.clock(100)
    log.feed(Tick(partition=2, ts_ns=log.now_ns))
    assert set(dict(log.task.changed())) == {""}


def test_a_strategy_without_memory_leaves_its_shard_without_checkpoints_while_it_runs(make):
    kinds = {**load_kinds(), "third": lambda config: Other(CrossVenue.from_config(config))}
    task = new_task(kinds)
    items = make.strategies().start().items
    for item in items:
        task.handle(item)
    assert task.changed() is not None
    add = items[-1]._replace(record=make.strategy(id="arb-3", kind="third"))
    task.handle(add)
    assert task.changed() is None
    task.handle(add._replace(record=make.strategy(id="arb-3", kind="third", status="STOPPED")))
    assert "strategy/arb-3" in dict(task.changed())


class Other:
    """Passes calls on, and offers nothing beside them."""

    def __init__(self, inner):
        for name in ("on_quote", "on_depth", "on_trade", "on_outcome", "on_timer", "on_stop"):
            setattr(self, name, getattr(inner, name))


def test_a_kind_that_is_not_installed_any_more_makes_the_checkpoint_unreadable(make):
    log = make.strategies().start()
    items = dict(log.task.changed())
    task = new_task({"another": CrossVenue.from_config})
    with pytest.raises(StateUnreadable, match="cross_venue"):
        task.restore(items.items())
