"""Selling what is held with keys alone, against the simulated venues."""

import asyncio
import os
import subprocess
import sys

import pytest

from core.domain.errors import Misconfigured
from core.runtime.clock import SystemClock
from execute.direct import flattener
from execute.flatten import on_grid
from tests.execute.test_checks import INSTRUMENT
from tests.execute.test_kill import PROJECT, SAID, overrides_of

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
SIDES = pytest.mark.parametrize(("side", "outcome"), [("BUY", "YES"), ("SELL", "NO")])


async def hold(bench, side="BUY", outcome="YES", size=10):
    """Let a gateway buy an outcome, confirmed; then kill it."""
    running = await bench.start()
    price = 4_500 if side == "BUY" else 4_400
    bench.stranger("SELL" if side == "BUY" else "BUY", price, size)
    more = {"outcome": outcome} if bench.name == "polymarket" else {"outcome": "NONE", "token_side": side}
    grant = bench.grant(side=side, price=price, size=size * E6, time_in_force="GTC", **more)
    await bench.terminal(grant.id, timeout_s=10.0)
    await bench.until(lambda: held(bench) == {outcome: size * E6}, timeout_s=10.0)
    await running.kill()


def held(bench):
    account = bench.exchange.accounts["main"]
    if bench.name == "kalshi":
        sizes = {name: one.size_e6 for name, one in account.positions.items() if one.size_e6}
        return {"YES" if size > 0 else "NO": abs(size) for size in sizes.values()}
    yes, no = bench.place.tokens
    figures = {"YES": yes, "NO": no}
    return {
        outcome: account.tokens.get(token, 0) - account.unsettled.get(token, 0)
        for outcome, token in figures.items()
        if account.tokens.get(token, 0) - account.unsettled.get(token, 0)
    }


def open_to(bench, credentials_file, tmp_path, slip_e4=500):
    settings = overrides_of(bench, credentials_file, tmp_path)
    return flattener(bench.account, settings, SystemClock(), SAID, slip_e4=slip_e4)


@BOTH
@SIDES
async def test_all_that_is_held_is_sold_at_what_is_bid(
    new_bench, venue, side, outcome, credentials_file, tmp_path
) -> None:
    async with new_bench(venue) as bench:
        await hold(bench, side, outcome)
        bench.stranger("BUY" if side == "BUY" else "SELL", 4_200 if side == "BUY" else 4_700, 30)
        async with open_to(bench, credentials_file, tmp_path) as one:
            one._venue.acceptance_window_s = 0.5
            found = await one.run()
        assert found.flat, found
        assert list(found.sold.values()) == [10 * E6]
        assert held(bench) == {}


@BOTH
async def test_no_more_is_sold_than_is_bid_within_the_slip_and_the_rest_is_said(
    new_bench, venue, credentials_file, tmp_path
) -> None:
    async with new_bench(venue) as bench:
        await hold(bench)
        bench.stranger("BUY", 4_200, 4)
        bench.stranger("BUY", 1_000, 30)
        async with open_to(bench, credentials_file, tmp_path, slip_e4=200) as one:
            one._venue.acceptance_window_s = 0.5
            # The deep bid becomes the best once the first is taken: one round only.
            lots = await one._lots()
            from execute.flatten import Flattened

            found = Flattened(bench.account)
            assert await one._round(lots, found)
        assert list(found.sold.values()) == [4 * E6]
        assert "not all was bid" in next(iter(found.stuck.values()))
        assert held(bench) == {"YES": 6 * E6}


@BOTH
async def test_nothing_is_sold_where_nobody_bids(new_bench, venue, credentials_file, tmp_path) -> None:
    async with new_bench(venue) as bench:
        await hold(bench)
        before = bench.attempts
        async with open_to(bench, credentials_file, tmp_path) as one:
            found = await one.run()
        assert not found.flat
        assert list(found.stuck.values()) == ["nobody bids"]
        assert bench.attempts == before


async def test_sale_without_an_answer_is_never_sent_twice(new_bench, credentials_file, tmp_path) -> None:
    async with new_bench("kalshi") as bench:
        await hold(bench)
        bench.stranger("BUY", 4_200, 100)
        bench.faults.order_swallow_answer_rate = 1.0
        async with open_to(bench, credentials_file, tmp_path) as one:
            one._venue.acceptance_window_s = 0.5
            found = await one.run()
        # The order went through though nobody said so: the figures show it, and nothing was sold short.
        assert found.flat, found
        assert held(bench) == {}


@BOTH
async def test_command_says_what_it_would_do_and_does_it_with_yes(new_bench, venue, credentials_file, tmp_path) -> None:
    async with new_bench(venue) as bench:
        await hold(bench)
        bench.stranger("BUY", 4_200, 30)
        settings = overrides_of(bench, credentials_file, tmp_path) | {"bootstrap": "127.0.0.1:9", "registry_url": ""}
        environment = {f"CROSSBOOK_{name.upper()}": str(value) for name, value in settings.items()}

        async def command(*more):
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "infra.cli", "flatten", "-a", bench.account, *more],
                cwd=PROJECT,
                env={**os.environ, **environment, "COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = await asyncio.wait_for(process.communicate(), 90)
            return process.returncode, said.decode()

        code, said = await command()
        assert (code, "SELL at 3700e-4" in said, "nothing was sent" in said) == (0, True, True), said
        assert held(bench) == {"YES": 10 * E6}
        code, said = await command("--yes")
        assert (code, f"{bench.account}: nothing is held" in said) == (0, True), said
        assert held(bench) == {}


async def test_live_account_that_is_not_armed_is_not_sold(credentials_file, tmp_path) -> None:
    settings = {
        "run": "live",
        "kalshi_environment": "production",
        "trade_credentials_file": tmp_path / "keys.json",
        "halt_dir": tmp_path,
    }
    with pytest.raises(Misconfigured, match="armed"):
        async with flattener("kalshi:main", settings, SystemClock(), SAID, slip_e4=0):
            pass


@pytest.mark.parametrize(
    ("limit", "down", "expected"),
    [
        (4_237, True, 4_200),
        (4_237, False, 4_300),
        (4_200, True, 4_200),
        (995, True, 990),
        (995, False, 1_000),
        (-50, True, 10),
        (10_400, False, 9_900),
        (4, True, 10),
    ],
)
def test_limit_is_put_on_the_far_side_of_the_grid(limit, down, expected) -> None:
    assert on_grid(limit, INSTRUMENT, down=down) == expected
