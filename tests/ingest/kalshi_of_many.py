"""A Kalshi of many events, on a socket: it counts what it is asked, and answers wrongly where a test says so."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from core.runtime.clock import Clock, ManualClock, SystemClock
from ingest.host import BreakerLimits, HostGate
from ingest.kalshi_context import KalshiContext
from ingest.kalshi_listing import KalshiListing
from ingest.rest import RestClient

STEP_MS = 100
"""What a request takes, by a clock that a test moves."""


class Many:
    """Events of one series, unless a test names others, with a market each."""

    def __init__(self, events: int) -> None:
        self.names = [f"KX-{number:04d}" for number in range(events)]
        self.asked: list[str] = []
        self.read: dict[str, int] = dict.fromkeys(self.names, 0)
        self.paged = 0
        """Pages of events it was asked for without saying which."""
        self.knows_tickers = True
        self.changes: tuple[int, bytes] = (200, b'{"series_fee_change_arr":[]}')
        self.series_of: Callable[[str], str] = lambda _: "KX"
        self.overrides: dict[str, int] = {}
        """event -> the multiplier that holds in its series' place"""
        self.words = "a"
        """of each market's rules"""
        self.market: dict[str, object] = {}
        """what a market says beside that"""
        self.answers: dict[str, tuple[int, bytes]] = {}
        """path, or what is asked for there by name (`/markets?tickers`) -> what is answered whatever else is so"""
        self.rows: dict[str, dict[str, object]] = {}
        """event -> what stands in its place"""
        self.unlisted: set[str] = set()
        """Events that only their own path knows, as those of several games at once."""
        self.clock: ManualClock | None = None
        self.pages: list[int | str] = []
        """Pages of the list of markets, by where they begin, and markets that were looked up."""
        self.on_page: Callable[[], None] = lambda: None
        """Called when a page of the list of markets is asked for."""

    def _event(self, name: str) -> dict[str, object]:
        self.read[name] += 1
        plain = {"event_ticker": name, "series_ticker": self.series_of(name)}
        override = {"fee_multiplier_override": self.overrides[name]} if name in self.overrides else {}
        return self.rows.get(name, plain | override)

    def _market(self, name: str) -> dict[str, object]:
        own = {"ticker": f"{name}-M", "event_ticker": name, "status": "active", "rules_primary": self.words}
        return self.market | own

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the venue would, one request at a time."""
        if self.clock is not None:
            self.clock.advance(ms=STEP_MS)
        path = request.path.removeprefix("/trade-api/v2")
        self.asked.append(path)
        name = f"{path}?tickers" if "tickers" in request.query else path
        if name in self.answers or path in self.answers:
            status, body = self.answers.get(name) or self.answers[path]
            return web.Response(status=status, body=body)
        if path == "/series/fee_changes":
            return web.Response(status=self.changes[0], body=self.changes[1])
        if path == "/events/fee_changes":
            return web.json_response({"event_fee_changes": [], "cursor": ""})
        if path.startswith("/series/"):
            ticker = path.removeprefix("/series/")
            return web.json_response({"series": {"ticker": ticker, "fee_type": "quadratic", "fee_multiplier": 1}})
        if path.startswith("/events/"):
            name = path.removeprefix("/events/")
            return web.json_response({"event": self._event(name)}) if name in self.read else web.Response(status=404)
        if path == "/markets":
            return self._markets(request)
        return self._events(request)

    def _markets(self, request: web.Request) -> web.Response:
        wanted = request.query.get("tickers", "")
        self.pages.append(wanted or int(request.query.get("cursor") or 0))
        if not wanted:
            self.on_page()
        names = [ticker.removesuffix("-M") for ticker in wanted.split(",")] if wanted else self.names
        page, cursor = cut(names, request)
        rows = [self._market(name) for name in page if name in self.read]
        return web.json_response({"markets": rows, "cursor": cursor})

    def _events(self, request: web.Request) -> web.Response:
        names = request.query.get("tickers", "").split(",") if self.knows_tickers else self.names[:1]
        if not request.query.get("tickers"):
            self.paged += 1
            names = self.names
        page, cursor = cut(names, request)
        rows = [self._event(name) for name in page if name in self.read and name not in self.unlisted]
        return web.json_response({"events": rows, "cursor": cursor})


def cut(names: list[str], request: web.Request) -> tuple[list[str], str]:
    """Return the page that is asked for, and where the next begins."""
    first = int(request.query.get("cursor") or 0)
    page = names[first : first + int(request.query["limit"])]
    return page, str(first + len(page)) if first + len(page) < len(names) else ""


def beside(many: Many, body: Callable[[RestClient, Clock], Awaitable[None]]) -> None:
    """Run `body(rest, clock)` beside it, by its clock if it has one."""

    async def whole() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", many.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        clock = many.clock or SystemClock()
        gate = HostGate("many.test", clock, BreakerLimits(), 2)
        try:
            async with RestClient(f"http://127.0.0.1:{port}", clock, gate, request_s_max=5, per_s=10_000) as rest:
                await body(rest, clock)
        finally:
            await runner.cleanup()

    asyncio.run(whole())


def beside_many(
    many: Many, body: Callable[[KalshiContext], Awaitable[None]], *, requests_max: int, kept_s: float = 0.0
) -> None:
    """Run `body(context)` beside it."""
    beside(many, lambda rest, clock: body(KalshiContext(rest, clock, kept_s=kept_s, requests_max=requests_max)))


def beside_listing(many: Many, body: Callable[[KalshiListing], Awaitable[None]], *, page: int = 100) -> None:
    """Run `body(listing)` beside it, by a clock that moves with each request."""
    many.clock = ManualClock()
    beside(many, lambda rest, clock: body(KalshiListing(rest, clock, page=page)))
