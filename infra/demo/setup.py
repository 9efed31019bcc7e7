"""Configuration of the demo's run: what a human would say once, as records on `decision.*`."""

import json
from pathlib import Path
from typing import Any

from core.domain.units import MICRO
from core.runtime.clock import Clock
from decide import operator
from infra.cli.reach import Reach
from infra.demo.cast import ACCOUNT
from infra.demo.world import World

ACCOUNT_SET = "main"
APPROVED_BY = "demo"
WATCHED = 10
"""Markets that momentum follows."""
QUOTED = 2
"""Markets that are quoted."""
QUOTING = "quoting"
WIDE = {
    "day_loss_reduce_e6": 5_000 * MICRO,
    "day_loss_halt_e6": 10_000 * MICRO,
    "silence_reduce_ms": 300_000,
    "silence_halt_ms": 600_000,
    "heal_max_e6": 100 * MICRO,
}
"""Limits that nothing right ever comes to, however much dies: whoever trips one was wrong (`stops`).

A gateway says nothing while a broker that was killed starts anew, on a busy machine for more than a minute.
"""


def desk(links: list[dict[str, Any]], events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the operator's file: accounts, limits, budgets, all shipped strategies, pairs and events as approved."""
    return {
        "approved_by": APPROVED_BY,
        "account_set": ACCOUNT_SET,
        "simulated": True,
        "profiles": [
            {"id": f"kalshi:{ACCOUNT}", "venue": "kalshi", "entity": "demo", "currency": "USD"},
            {"id": f"polymarket:{ACCOUNT}", "venue": "polymarket", "entity": "demo", "currency": "pUSD"},
        ],
        "limits": [
            {
                "id": ACCOUNT_SET,
                "state": "RUNNING",
                "order_notional_max_e6": 500 * MICRO,
                "market_notional_max_e6": 5_000 * MICRO,
                "open_sagas_max": 20 + 2 * QUOTED,
                "unwind_budget_e6": 20 * MICRO,
                "reason": "demo",
                **WIDE,
            }
        ],
        "budgets": [
            {
                "scope": "VENUE",
                "name": "*",
                "notional_max_e6": 100_000 * MICRO,
                "orders_per_min": 3_000,
                "orders_burst": 300,
                "reason": "demo",
            },
            {
                "scope": "EVENT",
                "name": "*",
                "notional_max_e6": 50_000 * MICRO,
                "worst_loss_max_e6": 10_000 * MICRO,
                "reason": "demo",
            },
            {"scope": "STRATEGY", "name": "*", "notional_max_e6": 5_000 * MICRO, "reason": "demo"},
            {"scope": "STRATEGY", "name": "momentum", "notional_max_e6": 20 * MICRO, "reason": "demo"},
            {"scope": "STRATEGY", "name": QUOTING, "notional_max_e6": 12 * MICRO, "reason": "demo"},
        ],
        "strategies": [
            {
                "id": "two-venue",
                "kind": "cross_venue",
                "params": {"size_max": 20 * MICRO, "min_profit_e6": MICRO // 10},
            },
            {
                "id": "one-event",
                "kind": "exhaustive_event",
                "params": {"size_max": 10 * MICRO, "min_profit_e6": MICRO // 20},
            },
            {
                "id": "momentum",
                "kind": "momentum",
                "instruments": [f"kalshi:{pair['kalshi']['ticker']}" for pair in links[-WATCHED:]],
                "params": {"size": 5 * MICRO, "move_e4": 400, "hold_ms": 10_000},
            },
            {
                "id": QUOTING,
                "kind": "passive_quoting",
                "instruments": [f"kalshi:{pair['kalshi']['ticker']}" for pair in links[:QUOTED]],
                "params": {"size": 5 * MICRO, "inventory_max": 20 * MICRO, "half_spread_e4": 100},
                "blind_to": ["PAIR", "EVENT"],
            },
        ],
        "links": [
            *({name: pair[name] for name in ("key", "kalshi", "polymarket", "polarity")} for pair in links),
            *(
                {
                    "kind": "EVENT",
                    "key": event["key"],
                    "instruments": [f"kalshi:{ticker}" for ticker in event["tickers"]],
                    "exhaustive": True,
                }
                for event in events
            ),
        ],
    }


def write(reach: Reach, clock: Clock, world: World, file: Path) -> None:
    """Write the operator's file, publish its records and wait until Kafka has them.

    Raises:
        Misconfigured: the file contradicts itself.
        Unavailable: Kafka does not acknowledge.
    """
    text = json.dumps(desk(world.links(), world.events()), indent=2)
    file.write_text(text)
    reach.publish(operator.records(operator.read(text, where=str(file)), now_ns=clock.now_ns()), clock)


def stop_quoting(reach: Reach, clock: Clock, file: Path) -> None:
    """Stop the strategy whose orders rest, so that nothing stays open: it takes them back.

    Raises:
        Unavailable: Kafka does not acknowledge.
    """
    text = json.loads(file.read_text())
    strategies = [one | {"status": "STOPPED"} for one in text["strategies"] if one["id"] == QUOTING]
    stopped = operator.read(json.dumps({"account_set": text["account_set"], "strategies": strategies}), where=str(file))
    reach.publish(operator.records(stopped, now_ns=clock.now_ns()), clock)
