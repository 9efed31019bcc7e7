"""Both venues, their flow and their truth log in one process on one event loop."""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from simulate.control import ControlServer
from simulate.credentials import Credentials, load_or_make
from simulate.faults import read_script
from simulate.flow import Flow, FlowMarket
from simulate.injection import Injector
from simulate.journal import Journal
from simulate.kalshi.auth import KeyRing
from simulate.kalshi.exchange import KalshiExchange
from simulate.kalshi.oddities import KalshiOddities
from simulate.kalshi.rest import BASE, WS_PATH, KalshiServer
from simulate.kalshi.stream import KalshiStream
from simulate.matching import Event
from simulate.mishaps import Mishaps
from simulate.oddities import Oddities
from simulate.polymarket.auth import EXCHANGE, NEG_RISK_EXCHANGE
from simulate.polymarket.clob import ClobServer
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.gamma import GammaServer
from simulate.polymarket.oddities import PolymarketOddities
from simulate.polymarket.stream import PolymarketStream
from simulate.settings import SimulateSettings
from simulate.truth import TruthLog
from simulate.universe import LinkedMarket, links, make_universe

EXPIRY_SWEEP_S = 1.0
SHUTDOWN_S = 1.0


class World:
    """Everything simulated; `start` returns what clients need, `stop` flushes the truth."""

    def __init__(self, settings: SimulateSettings, universe: list[LinkedMarket] | None = None) -> None:
        """Prepare; without `universe` the markets that the settings make."""
        self.settings = settings
        if universe is None:
            universe = make_universe(
                settings.seed,
                settings.markets,
                inverted_share=settings.inverted_share,
                neg_risk_share=settings.neg_risk_share,
                delayed_share=settings.taker_delay_share,
            )
        self.universe = universe
        self.credentials: Credentials = load_or_make(settings.credentials_file, settings.accounts, settings.chain_id)
        self.truth = TruthLog(settings.truth_dir, settings.truth_frames)
        self.journal = Journal(self.truth)
        self.script = read_script(settings.faults, settings.faults_s) if settings.faults else []
        self.kalshi = self._kalshi()
        self.clob = self._polymarket()
        self.flow = Flow(
            settings,
            self.universe,
            [(market, _publisher(self.kalshi.exchange, market)) for market in self.kalshi.exchange.markets],
            [(market, _publisher(self.clob.exchange, market)) for market in self.clob.exchange.markets],
            self.truth,
        )
        venues: list[Oddities] = [
            KalshiOddities(self.kalshi, self.journal, self.truth),
            PolymarketOddities(self.clob, self.journal, self.truth),
        ]
        self.injector = Injector(venues, self.flow, self.journal, settings.seed)
        self.control = ControlServer(self.kalshi, self.clob, self.flow, self.truth, self.journal, self.injector)
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> dict[str, Any]:
        """Open all ports, start the flow, write the ready and links files, and return the ready file's content."""
        settings = self.settings
        if settings.ready_file is not None:
            settings.ready_file.unlink(missing_ok=True)
        if settings.quote_at_start:
            self.flow.seed_books()
        kalshi = await self._serve(self.kalshi.app(), settings.kalshi_port)
        clob = await self._serve(self.clob.app(), settings.clob_port)
        gamma = await self._serve(GammaServer(self.clob.exchange, self.clob.outage).app(), settings.gamma_port)
        control = await self._serve(self.control.app(), settings.control_port)
        host = settings.host
        ready = {
            "pid": os.getpid(),
            "seed": settings.seed,
            "markets": len(self.universe),
            "kalshi": {
                "rest_url": f"http://{host}:{kalshi}{BASE}",
                "ws_url": f"ws://{host}:{kalshi}{WS_PATH}",
            },
            "polymarket": {
                "clob_url": f"http://{host}:{clob}",
                "gamma_url": f"http://{host}:{gamma}",
                "ws_market_url": f"ws://{host}:{clob}/ws/market",
                "ws_user_url": f"ws://{host}:{clob}/ws/user",
                "chain_id": settings.chain_id,
                "exchange": EXCHANGE,
                "neg_risk_exchange": NEG_RISK_EXCHANGE,
            },
            "sim_url": f"http://{host}:{control}",
            "credentials_file": str(settings.credentials_file.resolve()),
            "links_file": str(settings.links_file.resolve()),
            "truth_dir": str(settings.truth_dir.resolve()),
        }
        _write(settings.links_file, links(self.universe, settings.events))
        self._tasks = [
            asyncio.create_task(self.flow.run()),
            asyncio.create_task(self._flush()),
            asyncio.create_task(self._expire()),
            asyncio.create_task(self.clob.sweep_heartbeats()),
            asyncio.create_task(self.injector.play(self.script)),
        ]
        if settings.ready_file is not None:
            _write(settings.ready_file, ready)
        return ready

    async def stop(self) -> None:
        """Stop the flow, close the sockets and write the truth to its end."""
        if self.settings.ready_file is not None:
            self.settings.ready_file.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.injector.stop()
        await asyncio.sleep(0)
        for connection in [*self.kalshi.connections, *self.clob.connections]:
            if connection.is_muted:
                connection.abort()
            elif not connection.closed_ns:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(connection.socket.close(code=1001), SHUTDOWN_S)
        for runner in self._runners:
            await runner.cleanup()
        self.truth.write_json("accounts.json", self.control.account_states())
        self.truth.write_json("books.json", self.control.book_states())
        self.truth.write_json("order_ids.json", self.control.order_ids())
        self.truth.close()

    def _kalshi(self) -> KalshiServer:
        settings = self.settings
        stream = KalshiStream()
        names = list(dict.fromkeys(key.account for key in self.credentials.kalshi))
        exchange = KalshiExchange(self.universe, names, settings.cash_usd * 1_000_000, stream, self.truth)
        stream.markets = exchange.by_ticker
        keys = KeyRing(self.credentials.kalshi, settings.kalshi_clock_skew_s)
        server = KalshiServer(settings, exchange, stream, keys, self.truth, self.journal, self._rng("kalshi"))
        self._set_answers(server.mishaps)
        return server

    def _polymarket(self) -> ClobServer:
        stream = PolymarketStream()
        exchange = PolymarketExchange(self.universe, self.credentials.polymarket, self.settings, stream, self.truth)
        stream.by_token = exchange.by_token
        server = ClobServer(self.settings, exchange, stream, self.truth, self.journal, self._rng("polymarket"))
        self._set_answers(server.mishaps)
        return server

    def _rng(self, venue: str) -> random.Random:
        return random.Random(f"outage/{self.settings.seed}/{venue}")

    def _set_answers(self, mishaps: Mishaps) -> None:
        mishaps.order_answer_delay_ms = self.settings.order_answer_delay_ms
        mishaps.order_swallow_answer_rate = self.settings.order_swallow_answer_rate

    async def _serve(self, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, self.settings.host, port)
        await site.start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(self.settings.truth_flush_s)
            self.truth.flush()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SWEEP_S)
            self.kalshi.exchange.expire()
            self.clob.exchange.expire()


def _publisher(exchange: Any, market: FlowMarket) -> Callable[[list[Event]], int]:
    def publish(events: list[Event]) -> int:
        return int(exchange.apply(market, events))

    return publish


def _write(path: Path, value: Any) -> None:
    """Write a JSON file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    partial.replace(path)
