"""Markets end at both venues while workers die: whatever the course, our account ends as the venues' own."""

import asyncio
import random

import orjson
import pytest

from core.runtime import topics
from normalize import kalshi, polymarket
from schemas.order import Payout
from schemas.raw import Description
from simulate.kalshi import resolution as kalshi_end
from simulate.kalshi.catalogue import market_row as kalshi_row
from simulate.polymarket import resolution as polymarket_end
from simulate.polymarket.gamma import market_row as gamma_row
from tests.decide.conftest import limit
from tests.decide.converging import E6, VENUES, WHO, begun
from tests.leaping import run

WAYS = [("yes", 10_000), ("no", 0), ("scalar", 3_700), ("void", 5_000)]


def describe(whole, venue):
    """Let the catalogue say how a market stands."""
    bench = whole.benches[venue]
    row, make = (kalshi_row, kalshi.describe) if venue == "kalshi" else (gamma_row, polymarket.describe)
    whole.decide.take(
        make(
            Description(
                venue=venue, instrument=bench.instrument.instrument, payload=orjson.dumps(row(bench.place)),
                context=b"", recv_ts_ns=whole.log.clock.now_ns(),
            )
        )
    )  # fmt: skip


async def trouble(whole, dice):
    """Let somebody die, freeze, repeat himself or read late; or nothing happen."""
    match dice.choice(["kill", "freeze", "usurp", "noise", "fuse", "twin", ""]):
        case "kill":
            await whole.kill(dice.choice(WHO), dice.randint(0, 1_500))
        case "freeze":
            whole.freeze(dice.choice(WHO), dice.randint(50, 4_000))
        case "usurp":
            whole.usurp(dice.randint(0, 2_500), dice.randint(1, 60))
        case "noise":
            whole.decide.copies, whole.decide.hold_ms = dice.choice([0.0, 0.9]), dice.choice([0, 1_500, 9_000])
        case "fuse":
            whole.fuse(dice.choice(WHO), "write", dice.randint(1, 4), dice.randint(0, 1_500))
        case "twin":
            await whole.begin_gateway("kalshi")
    await asyncio.sleep(dice.randint(0, 9_000) / 1_000)


async def end_kalshi(whole, dice):
    bench = whole.benches["kalshi"]
    steps = ["determine", *dice.choice([[], ["amend"], ["dispute", "amend"], ["reopen", "determine"]]), "settle"]
    steps += ["correct"] * dice.randint(0, 2)
    for step in steps:
        kalshi_end.resolve(bench.exchange, bench.place.ticker, step, *dice.choice(WAYS))
        if dice.random() < 0.7:
            describe(whole, "kalshi")
        await trouble(whole, dice)


async def end_polymarket(whole, dice):
    bench = whole.benches["polymarket"]
    condition = bench.place.condition_id
    polymarket_end.resolve(bench.exchange, condition, "propose")
    describe(whole, "polymarket")
    await trouble(whole, dice)
    polymarket_end.resolve(bench.exchange, condition, "resolve", dice.choice([10_000, 0, 5_000]))
    describe(whole, "polymarket")
    await trouble(whole, dice)
    polymarket_end.resolve(bench.exchange, condition, "redeem")
    await trouble(whole, dice)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(8))
def test_markets_that_end_while_workers_die_leave_the_venues_own_account(credentials, seed):
    dice = random.Random(seed)

    async def main():
        async with begun(credentials, seed) as whole:
            whole.decide.take(
                limit(order_notional_max_e6=10_000 * E6, market_notional_max_e6=50_000 * E6, heal_max_e6=0)
            )
            whole.open_edge(dice.choice(["buy", "sell"]), dice.randint(5, 30))
            await asyncio.sleep(3.0)
            await whole.settle()
            held = whole.ours("kalshi")["YES"]
            assert held
            await asyncio.gather(end_kalshi(whole, dice), end_polymarket(whole, dice))
            await whole.settle()
            for venue in VENUES:
                ours = whole.ours(venue)
                assert ours.keys() == {"cash", "fees"}, "something is still held"
                assert whole.decide.records["Ledger", f"{venue}:main"].provisional_e6 == 0
            said = [one for one in whole.log.read(topics.ORDER_EVENT) if isinstance(one, Payout)]
            assert {one.yes_size - one.no_size for one in said} == {held}

    run(main)
