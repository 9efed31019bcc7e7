"""The kill switch with keys alone: nothing stays open at the venue, whatever lies, fails or still runs."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from core.domain.errors import InvariantBroken, Misconfigured
from core.runtime import topics
from core.runtime.clock import SystemClock
from execute.direct import Said, accounts_of, halt_all, lift, settings_of
from execute.kill import CancelOnly, halt_file, read_halt, write_halt
from execute.ports import Lane, Request

BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
PROJECT = Path(__file__).resolve().parents[2]
SAID = Said("op", "a drill")


def overrides_of(bench, credentials_file, folder):
    return {
        "run": "test-kill",
        "kalshi_simulated": bench.ready["kalshi"]["rest_url"].removeprefix("http://").partition("/")[0],
        "polymarket_simulated": bench.ready["polymarket"]["clob_url"].removeprefix("http://"),
        "sim_credentials_file": credentials_file,
        "halt_dir": folder,
    }


def open_orders(bench):
    account = bench.exchange.accounts["main"]
    return list(account.resting if bench.name == "kalshi" else account.open)


async def rest(bench, count=3):
    """Let a gateway place orders that rest, then kill it as if its host and Kafka were gone."""
    running = await bench.start()
    grants = [bench.grant(time_in_force="GTC", price=4_400 - 100 * number) for number in range(count)]
    for grant in grants:
        await bench.until(lambda grant=grant: "ACCEPTED" in bench.statuses(grant.id))
    await running.kill()
    assert len(open_orders(bench)) == count
    return grants


@BOTH
async def test_halt_leaves_no_open_order_without_any_log(new_bench, venue, credentials_file, tmp_path) -> None:
    async with new_bench(venue) as bench:
        await rest(bench)
        said_before = len(bench.log.read(topics.ORDER_EVENT))
        [found] = await halt_all(
            [bench.account], overrides_of(bench, credentials_file, tmp_path), SystemClock(), SAID, quiet_s=0.3
        )
        assert found.clean
        assert open_orders(bench) == []
        assert len(bench.log.read(topics.ORDER_EVENT)) == said_before
        tape = next((tmp_path / "test-kill").glob("*.halt.*.jsonl")).read_text().splitlines()
        assert json.loads(tape[0]) == {"account": bench.account, "by": "op", "why": "a drill"}
        assert any(json.loads(line)["method"] == "DELETE" for line in tape[1:])


@BOTH
async def test_orders_are_cancelled_one_by_one_where_cancel_all_does_nothing(
    new_bench, venue, credentials_file, tmp_path, monkeypatch
) -> None:
    async with new_bench(venue) as bench:
        await rest(bench)
        async with refusing(bench, {"/cancel-all", "/trade-api/v2/portfolio/events/orders"}) as base:
            settings = overrides_of(bench, credentials_file, tmp_path) | {f"{venue}_simulated": base}
            [found] = await halt_all([bench.account], settings, SystemClock(), SAID, quiet_s=0.3)
        assert found.clean
        assert found.cancelled == 3
        assert open_orders(bench) == []


@BOTH
async def test_list_that_cannot_be_read_is_never_an_empty_one(new_bench, venue, credentials_file, tmp_path) -> None:
    async with new_bench(venue) as bench:
        await rest(bench, 1)
        async with refusing(bench, {"/data/orders", "/trade-api/v2/portfolio/orders"}, status=401) as base:
            settings = overrides_of(bench, credentials_file, tmp_path) | {f"{venue}_simulated": base}
            [found] = await halt_all([bench.account], settings, SystemClock(), SAID, quiet_s=0.3, deadline_s=1.5)
        assert not found.clean
        assert "cannot be listed" in found.error
        assert "401" in found.error
        # The cancel of all went through nevertheless.
        assert open_orders(bench) == []


async def test_venue_that_does_not_answer_is_said_for_its_account_only(new_bench, credentials_file, tmp_path) -> None:
    async with new_bench("kalshi") as bench:
        await rest(bench, 1)
        settings = overrides_of(bench, credentials_file, tmp_path) | {"polymarket_simulated": "127.0.0.1:9"}
        found = await halt_all(
            ["polymarket:main", "kalshi:main", "kalshi:nobody"],
            settings,
            SystemClock(),
            SAID,
            quiet_s=0.3,
            deadline_s=1.5,
        )
        assert [one.clean for one in found] == [False, True, False]
        assert "127.0.0.1:9" in found[0].error
        assert "holds no kalshi account" in found[2].error
        assert open_orders(bench) == []


@BOTH
async def test_gateway_that_runs_stops_at_the_halt_and_goes_on_after_the_lift(
    new_bench, venue, credentials_file, tmp_path
) -> None:
    async with new_bench(venue) as bench:
        bench.halt_file = halt_file(tmp_path, "test-kill", bench.account)
        running = await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        settings = overrides_of(bench, credentials_file, tmp_path)
        [found] = await halt_all([bench.account], settings, SystemClock(), SAID, quiet_s=0.3)
        assert found.clean
        before = bench.attempts
        await bench.until(lambda: "a drill (op" in running.gateway.health.stop_reason())
        for purpose in ("ENTRY", "HEDGE", "UNWIND"):
            refused = bench.grant(purpose=purpose)
            assert "halted by hand" in (await bench.terminal(refused.id)).reason
        assert bench.attempts == before
        assert (await bench.terminal(resting.id)).status == "CANCELLED"
        assert lift([bench.account], settings) == [bench.account]
        await bench.until(lambda: not running.gateway.health.not_ready_reason())
        bench.quote()
        again = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(again.id))


async def test_gateway_that_starts_while_halted_sends_nothing(new_bench, tmp_path) -> None:
    async with new_bench("kalshi") as bench:
        bench.halt_file = halt_file(tmp_path, "r", bench.account)
        write_halt(bench.halt_file, by="op", why="stay down", at="now")
        await bench.start(ready=False)
        await bench.until(lambda: any("stay down" in alive.reason for alive in bench.alive()))
        bench.quote()
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 3_000_000_000)
        assert "stay down" in (await bench.terminal(grant.id)).reason
        assert bench.attempts == 0


def test_halt_file_that_cannot_be_read_halts(tmp_path) -> None:
    assert read_halt(tmp_path / "none") == ""
    broken = tmp_path / "broken"
    broken.write_text("not json")
    assert "halted by hand" in read_halt(broken)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "cannot be read" in read_halt(folder)


async def test_kill_switch_lets_no_order_pass() -> None:
    class Never:
        async def call(self, request, **_):
            raise AssertionError("reached the venue")

    with pytest.raises(InvariantBroken, match="sends no POST"):
        await CancelOnly(Never()).call(Request("POST", "/order"), lane=Lane.NEW)


def test_halt_arms_itself_for_production_and_nothing_else_does(tmp_path, credentials_file) -> None:
    live = {"run": "live", "trade_credentials_file": credentials_file, "kalshi_environment": "production"}
    assert settings_of("kalshi:main", live, cancels_only=True).arm == "kalshi:main"
    assert settings_of("kalshi:main", live, cancels_only=False).arm == ""
    assert settings_of("kalshi:main", {"run": "demo"}, cancels_only=True).arm == ""


def test_somebody_says_why() -> None:
    with pytest.raises(Misconfigured, match="--by"):
        Said(" ", "why")
    with pytest.raises(Misconfigured, match="--why"):
        Said("op", "")


async def test_every_account_with_keys_is_meant_where_none_is_named(new_bench, credentials_file, tmp_path) -> None:
    async with new_bench("kalshi") as bench:
        settings = settings_of("kalshi:main", overrides_of(bench, credentials_file, tmp_path), cancels_only=True)
        found = accounts_of(settings)
        assert {"kalshi:main", "polymarket:main"} <= set(found)


class refusing:  # noqa: N801  used as a context, like contextlib's
    """A venue in front of the simulated one that refuses some exact paths and passes the rest on."""

    def __init__(self, bench, paths, status=500):
        self.bench, self.paths, self.status = bench, paths, status
        self.body = {"error": "no"}

    async def __aenter__(self):
        import aiohttp

        self.session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return f"127.0.0.1:{self.runner.addresses[0][1]}"

    async def __aexit__(self, *_):
        await self.session.close()
        await self.runner.cleanup()

    async def handle(self, request):
        if request.path in self.paths:
            return web.json_response(self.body, status=self.status)
        ready = self.bench.ready
        to = ready["kalshi"]["rest_url"] if self.bench.name == "kalshi" else ready["polymarket"]["clob_url"]
        base = "/".join(to.split("/")[:3])
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host"}}
        async with self.session.request(
            request.method, base + request.path_qs, data=await request.read(), headers=headers
        ) as reply:
            return web.Response(status=reply.status, body=await reply.read())


async def test_the_deadline_ends_a_halt_that_cannot_be_clean(new_bench, credentials_file, tmp_path) -> None:
    async with new_bench("kalshi") as bench:
        began = asyncio.get_running_loop().time()
        [found] = await halt_all(
            [bench.account],
            overrides_of(bench, credentials_file, tmp_path),
            SystemClock(),
            SAID,
            quiet_s=60.0,
            deadline_s=1.0,
        )
        assert "not yet for 60.0 s" in found.error
        assert asyncio.get_running_loop().time() - began < 5


@BOTH
async def test_command_cancels_while_no_kafka_is_anywhere(new_bench, venue, credentials_file, tmp_path) -> None:
    async with new_bench(venue) as bench:
        await rest(bench)
        settings = overrides_of(bench, credentials_file, tmp_path) | {"bootstrap": "127.0.0.1:9", "registry_url": ""}
        environment = {f"CROSSBOOK_{name.upper()}": str(value) for name, value in settings.items()}
        command = [
            sys.executable,
            "-m",
            "infra.cli",
            "halt",
            "--direct",
            "-a",
            bench.account,
            "--by",
            "op",
            "--why",
            "x",
        ]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=PROJECT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said.decode()
        assert f"{bench.account}: the venue lists no open order" in said.decode()
        assert open_orders(bench) == []
