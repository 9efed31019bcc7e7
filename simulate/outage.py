"""What faults do to a venue's HTTP and to its door for new sockets: refusals, errors, maintenance, a limit."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from simulate.answer import Handler, reply
from simulate.journal import Injected

PAGE = "<html><head><title>{0} {1}</title></head><body><center><h1>{0} {1}</h1></center></body></html>"
_PHRASES = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
_CODES = {500: "internal_server_error", 502: "bad_gateway", 503: "service_unavailable", 504: "gateway_timeout"}
_KALSHI_STATUS = "/trade-api/v2/exchange/status"
_PRIVATE = {
    "kalshi": ("/trade-api/v2/portfolio/", "/trade-api/v2/account/limits"),
    "polymarket": (
        "/order",
        "/cancel-",
        "/data/",
        "/balance-allowance",
        "/v1/heartbeats",
        "/auth/",
        "/ws/user",
    ),
}
_SOCKETS = ("/trade-api/ws/", "/ws/")


class Outage:
    """One venue's HTTP trouble; the newest fault that applies answers."""

    def __init__(self, venue: str, rng: random.Random, count_open: Callable[[], int]) -> None:
        self.venue = venue
        self.active: list[Injected] = []
        self.limit: tuple[Injected, int] | None = None
        self.refused: dict[str, int] = {}
        self._rng = rng
        self.count_open = count_open

    @property
    def middleware(self) -> Any:
        """Return the aiohttp middleware that asks first."""

        @web.middleware
        async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = self.answer(request.path) if self.active or self.limit is not None else None
            return answer if answer is not None else await handler(request)

        return ask

    def down(self) -> bool:
        """Tell whether the venue is in maintenance."""
        return any(injected.wanted.fault == "maintenance" for injected in self.active)

    def answer(self, path: str) -> web.Response | None:
        """Return the trouble a request meets, None if it meets none."""
        is_socket = _starts(path, _SOCKETS)
        if self.limit is not None and is_socket and path != "/ws/user" and self.count_open() >= self.limit[1]:
            self._count(self.limit[0])
            return self.too_many(1)
        is_private = _starts(path, _PRIVATE[self.venue])
        for injected in reversed(self.active):
            asked = injected.wanted.parameters
            if is_private and not asked["orders"]:
                continue
            if injected.wanted.fault == "maintenance":
                self._count(injected)
                return self._maintenance(path)
            if is_socket and not asked["sockets"]:
                continue
            if self._rng.random() >= asked["share"]:
                continue
            self._count(injected)
            if injected.wanted.fault == "http_429":
                return self.too_many(asked["retry_after_s"])
            return self.broken(self._rng.choice(asked["statuses"]))
        return None

    def _count(self, injected: Injected) -> None:
        name = injected.wanted.fault
        injected.frames += 1
        self.refused[name] = self.refused.get(name, 0) + 1

    def too_many(self, retry_after_s: int) -> web.Response:
        """Return the venue's 429."""
        if self.venue == "kalshi":
            return reply({"error": "too many requests"}, 429)
        answer = reply({"error": "Too Many Requests"}, 429)
        answer.headers["Retry-After"] = str(retry_after_s)
        return answer

    def broken(self, status: int) -> web.Response:
        """Return a server error as the venue or its proxy words it."""
        phrase = _PHRASES.get(status, "Error")
        if status in {502, 504}:
            return web.Response(status=status, text=PAGE.format(status, phrase), content_type="text/html")
        if self.venue == "kalshi":
            code = _CODES.get(status, "error")
            return reply({"error": {"code": code, "message": code.replace("_", " ")}}, status)
        return reply({"error": "Internal server error" if status == 500 else phrase}, status)

    def _maintenance(self, path: str) -> web.Response:
        if self.venue == "kalshi":
            if path == _KALSHI_STATUS:
                return reply({"exchange_active": False, "trading_active": False}, 503)
            return self.broken(503)
        if path.startswith("/order"):
            # The matching engine is restarting; what the body says is not published.
            return reply({"error": "Too Early"}, 425)
        return reply({"error": "Trading is currently disabled. Check polymarket.com for updates"}, 503)


def _starts(path: str, prefixes: Iterable[str]) -> bool:
    return any(path.startswith(prefix) for prefix in prefixes)
