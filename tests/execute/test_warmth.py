"""Connections that are there before an order needs one: counted by the venue that accepts them."""

import asyncio
import dataclasses

import pytest
from aiohttp import web, web_protocol

from core.runtime.clock import SystemClock
from core.runtime.settings import load
from decide.conduct import CONDUCTS
from execute import calls
from execute.calls import KEEPALIVE_S
from execute.kalshi import DATA_AGE_PATH
from execute.limiter import Limiter
from execute.ports import Lane
from execute.process import timing_of
from execute.settings import ExecuteSettings
from execute.warmth import PAUSE_MIN_S, Warmth
from tests.execute.unreached import calls_to, kalshi_venue

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


@pytest.fixture
def accepted(monkeypatch) -> list[object]:
    """Every connection a venue of this process accepts, of REST and WebSockets."""
    found: list[object] = []
    made = web_protocol.RequestHandler.connection_made

    def connection_made(self, transport) -> None:
        found.append(transport)
        made(self, transport)

    monkeypatch.setattr(web_protocol.RequestHandler, "connection_made", connection_made)
    return found


@BOTH
async def test_the_first_order_after_idle_time_opens_no_connection(new_bench, accepted, venue) -> None:
    async with new_bench(venue) as bench:
        # Nothing else asks the venue anything: what is open is open because it is kept so.
        bench.timing = dataclasses.replace(
            bench.timing, report_s=60.0, open_poll_s=60.0, warm_connections=3, warm_s=0.6
        )
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        await asyncio.sleep(1.5)
        before, opened = len(accepted), running.gateway._http.opened
        assert opened >= 3
        grant = bench.grant()
        assert (await bench.terminal(grant.id)).status == "FILLED"
        assert len(accepted) == before
        assert running.gateway._http.opened == opened


@BOTH
async def test_legs_that_leave_together_find_a_connection_each(new_bench, accepted, venue) -> None:
    async with new_bench(venue) as bench:
        bench.timing = dataclasses.replace(
            bench.timing, report_s=60.0, open_poll_s=60.0, warm_connections=3, warm_s=0.6
        )
        await bench.start()
        bench.stranger("SELL", 4_500, 60)
        await asyncio.sleep(0.8)
        bench.faults.order_answer_delay_ms = 150  # so that none can use the connection of another that is done
        before = len(accepted)
        grants = [bench.grant(size=5 * E6) for _ in range(3)]
        for grant in grants:
            assert (await bench.terminal(grant.id)).status == "FILLED"
        assert len(accepted) == before


async def test_none_is_kept_warm_where_none_is_asked_for(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        bench.timing = dataclasses.replace(bench.timing, report_s=60.0, open_poll_s=60.0, warm_connections=0)
        running = await bench.start()
        opened = running.gateway._http.opened
        await asyncio.sleep(0.8)
        assert running.gateway._http.opened == opened


class Listener:
    """A venue that answers one read; its patience with idle connections is what a test gives it."""

    def __init__(self, *, patience_s: float, says: str = "") -> None:
        self.patience_s, self.says, self.asked = patience_s, says, 0
        self.answer = 200
        self.stamps: list[str] = []
        self.drops = False

    async def __aenter__(self) -> "Listener":
        async def age(request: web.Request) -> web.Response:
            self.asked += 1
            self.stamps.append(request.headers.get("KALSHI-ACCESS-TIMESTAMP", ""))
            await asyncio.sleep(0.02)
            response = web.json_response({"as_of_time": "2026-11-01T00:00:00Z"}, status=self.answer)
            if self.says:
                response.headers["Keep-Alive"] = self.says
            if self.drops:
                response.force_close()
            return response

        app = web.Application()
        app.router.add_get(DATA_AGE_PATH, age)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=self.patience_s)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def open(self) -> int:
        return len(self._runner.server.connections)


class Kept:
    """The connections of one account to a listener, kept warm."""

    def __init__(self, listener: Listener, *, connections: int = 2, interval_s: float = 15.0) -> None:
        self.venue = kalshi_venue()
        self.limiter = Limiter(self.venue.budgets, SystemClock())
        self.http = calls_to(listener.port, self.venue, limiter=self.limiter)
        self.warmth = Warmth(venue=self.venue, http=self.http, connections=connections, interval_s=interval_s)

    async def __aenter__(self) -> "Kept":
        await self.http.__aenter__()
        self._task = asyncio.create_task(self.warmth.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.http.__aexit__(None, None, None)


async def test_a_round_uses_each_connection_and_opens_no_other() -> None:
    async with Listener(patience_s=30) as listener, Kept(listener, connections=3, interval_s=0.6) as kept:
        await asyncio.sleep(1.6)
        assert listener.asked >= 6
        assert kept.http.opened == listener.open == 3


async def test_connections_are_used_before_the_venue_would_close_them() -> None:
    async with Listener(patience_s=2.0, says="timeout=2, max=100") as listener, Kept(listener) as kept:
        # Every 15 s by the setting; the venue says that it waits 2.
        await asyncio.sleep(4.5)
        assert kept.http.patience_s == 2.0
        assert kept.http.opened == listener.open == 2
        assert listener.asked >= 8


async def test_a_connection_the_venue_closed_is_opened_again_at_once() -> None:
    async with Listener(patience_s=0.8) as listener, Kept(listener) as kept:
        # It closes what is idle and never said so.
        await asyncio.sleep(PAUSE_MIN_S + 2.0)
        assert kept.http.opened > 2
        assert listener.open == 2


async def test_a_venue_that_closes_every_connection_is_asked_ever_more_seldom() -> None:
    async with Listener(patience_s=30) as listener, Kept(listener) as kept:
        listener.drops = True
        await asyncio.sleep(2.6)
        # After 0.5, 1 and 2 s.
        assert 4 <= kept.http.opened <= 6


async def test_only_the_venues_own_host_is_believed(monkeypatch) -> None:
    async with Listener(patience_s=30, says="timeout=1") as listener, Kept(listener, connections=0) as kept:
        elsewhere = kept.venue.touch()._replace(path=f"http://127.0.0.1:{listener.port}{DATA_AGE_PATH}", is_public=True)
        await kept.http.call(elsewhere, lane=Lane.REPORT)
        assert kept.http.patience_s == KEEPALIVE_S
        await kept.http.call(kept.venue.touch(), lane=Lane.REPORT)
        assert kept.http.patience_s == 1.0


async def test_what_waited_long_for_its_tokens_is_signed_anew(monkeypatch) -> None:
    monkeypatch.setattr(calls, "PROOF_AGE_MAX_S", 0.3)
    async with Listener(patience_s=30) as listener, Kept(listener, connections=0) as kept:
        request = kept.venue.touch()
        for waits_s in (0.0, 0.6):
            signed = await kept.http.signatures.sign(request)
            if waits_s:
                kept.limiter.drain(request.bucket, waits_s)
            else:
                await asyncio.sleep(0.002)
            await kept.http.call(request, lane=Lane.REPORT, headers=signed)
            assert (listener.stamps[-1] == signed["KALSHI-ACCESS-TIMESTAMP"]) is not bool(waits_s)
        # As of when it left, not of when it was asked for.
        assert int(listener.stamps[1]) - int(signed["KALSHI-ACCESS-TIMESTAMP"]) >= 600


async def test_rounds_that_fail_end_nothing() -> None:
    async with Listener(patience_s=30) as listener, Kept(listener, interval_s=0.5) as kept:
        listener.answer = 503
        await asyncio.sleep(1.2)
        assert not kept._task.done()
        listener.answer = 200
        await asyncio.sleep(0.8)
        assert listener.open == 2


async def test_a_venue_that_is_not_there_is_asked_again() -> None:
    async with Listener(patience_s=30) as listener:
        pass
    async with Kept(listener, interval_s=0.5) as kept:
        await asyncio.sleep(1.2)
        assert not kept._task.done()
        assert kept.http.opened == 0


@pytest.mark.parametrize(
    ("text", "patience_s"),
    [
        ("timeout=5, max=100", 5.0),
        ("max=100,timeout=7", 7.0),
        ("timeout=600", float(KEEPALIVE_S)),
        ("timeout=0", float(KEEPALIVE_S)),
        ("timeout=soon", float(KEEPALIVE_S)),
        ("", float(KEEPALIVE_S)),
    ],
)
async def test_what_a_venue_says_of_its_patience_is_believed_up_to_our_own(text, patience_s) -> None:
    async with Listener(patience_s=30) as listener, Kept(listener, connections=0) as kept:
        kept.http._hear_patience(text)
        assert kept.http.patience_s == patience_s


def test_there_is_a_connection_for_each_leg_that_may_leave_together() -> None:
    together_max = max(conduct.together_max for conduct in CONDUCTS.values())
    assert load(ExecuteSettings, account="kalshi:main").warm_connections > together_max


def test_settings_reach_the_gateway() -> None:
    settings = load(ExecuteSettings, account="kalshi:main", warm_connections=2, warm_interval_s=20.0)
    timing = timing_of(settings)
    assert (timing.warm_connections, timing.warm_s) == (2, 20.0)
