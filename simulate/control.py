"""The control port: what only the simulators know, for tests, the demo and the console. No venue has it."""

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from core.domain.units import to_fixed
from simulate.answer import reply
from simulate.faults import NAMES, BadFault, parse
from simulate.flow import Flow
from simulate.injection import Injector
from simulate.journal import Journal
from simulate.kalshi import resolution as kalshi_end
from simulate.kalshi.exchange import account_state as kalshi_state
from simulate.kalshi.rest import KalshiServer
from simulate.kalshi.statements import NS_PER_S, Fees
from simulate.matching import Matcher, Side
from simulate.polymarket import resolution as polymarket_end
from simulate.polymarket.clob import ClobServer
from simulate.polymarket.ledger import account_state as polymarket_state
from simulate.sockets import Connection
from simulate.truth import TruthLog


class ControlServer:
    """`/sim/*`."""

    def __init__(
        self,
        kalshi: KalshiServer,
        clob: ClobServer,
        flow: Flow,
        truth: TruthLog,
        journal: Journal,
        injector: Injector,
    ) -> None:
        self.kalshi = kalshi
        self.clob = clob
        self.flow = flow
        self.truth = truth
        self.journal = journal
        self.injector = injector
        self.paper: Callable[[], dict[str, Any]] | None = None
        """What paper trading tells of itself."""

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application()
        app.router.add_get("/sim/accounts", self.accounts)
        app.router.add_get("/sim/orders", self.orders)
        app.router.add_get("/sim/books", self.books)
        app.router.add_get("/sim/stats", self.stats)
        app.router.add_get("/sim/frames", self.frames)
        app.router.add_get("/sim/paper", self.paper_figures)
        app.router.add_post("/sim/flow", self.set_flow)
        app.router.add_post("/sim/edge", self.edge)
        app.router.add_post("/sim/market", self.market)
        app.router.add_post("/sim/event", self.event)
        app.router.add_post("/sim/resolve", self.resolve)
        app.router.add_post("/sim/drop", self.drop)
        app.router.add_post("/sim/faults", self.faults)
        app.router.add_get("/sim/faults", _known_faults)
        return app

    async def accounts(self, request: web.Request) -> web.Response:
        return reply(self.account_states())

    def account_states(self) -> dict[str, Any]:
        """Return all accounts of both venues."""
        return {
            "kalshi": [kalshi_state(account) for account in self.kalshi.exchange.accounts.values()],
            "polymarket": [polymarket_state(account) for account in self.clob.exchange.accounts.values()],
        }

    async def orders(self, request: web.Request) -> web.Response:
        return reply(self.order_ids())

    def order_ids(self) -> dict[str, Any]:
        """Return every order id a client ever used: how often it was sent, how often accepted."""
        kalshi = {
            account.name: {
                client_id: _order_fact(attempts, account.by_client_id.get(client_id))
                for client_id, attempts in account.attempts.items()
            }
            for account in self.kalshi.exchange.accounts.values()
        }
        polymarket = {
            account.name: {
                order_id: _order_fact(attempts, account.orders.get(order_id))
                for order_id, attempts in account.attempts.items()
            }
            for account in self.clob.exchange.accounts.values()
        }
        return {"kalshi": kalshi, "polymarket": polymarket}

    async def books(self, request: web.Request) -> web.Response:
        return reply(self.book_states())

    def book_states(self) -> dict[str, Any]:
        """Return every book in YES of its own venue, best first: `[price_e4, size_e6]`."""
        return {
            "kalshi": {market.ticker: _levels(market.matcher) for market in self.kalshi.exchange.markets},
            "polymarket": {market.condition_id: _levels(market.matcher) for market in self.clob.exchange.markets},
        }

    async def stats(self, request: web.Request) -> web.Response:
        return reply(
            {
                "flow": {
                    "running": self.flow.running,
                    "rate_per_s": self.flow.rate,
                    "messages": self.flow.messages,
                    "edges_begun": self.flow.edges_begun,
                    "event_edges_begun": self.flow.event_edges_begun,
                },
                "frames_sent": self.truth.frames_sent,
                "faults": {
                    **self.journal.stats(),
                    "dropped": sum(
                        connection.dropped_frames for connection in (*self.kalshi.connections, *self.clob.connections)
                    ),
                    "refused": {"kalshi": self.kalshi.outage.refused, "polymarket": self.clob.outage.refused},
                },
                "connections": {
                    "kalshi": _connections(self.kalshi.connections),
                    "polymarket": _connections(self.clob.connections),
                },
            }
        )

    async def paper_figures(self, request: web.Request) -> web.Response:
        """Say which markets follow a live run; 404 where none does."""
        return reply(self.paper()) if self.paper is not None else reply({"error": "not paper trading"}, 404)

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """Send the truth log's frame lines of one venue, of one connection if asked."""
        venue = request.query.get("venue", "")
        if venue not in {"kalshi", "polymarket"}:
            return reply({"error": "venue must be kalshi or polymarket"}, 400)
        self.truth.flush()
        path = self.truth.path(f"frames-{venue}.jsonl")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if path.exists():
            wanted = f"[{request.query['connection']},".encode() if "connection" in request.query else b""
            with path.open("rb") as file:
                while lines := file.readlines(1 << 20):
                    await response.write(b"".join(line for line in lines if line.startswith(wanted)))
        await response.write_eof()
        return response

    async def set_flow(self, request: web.Request) -> web.Response:
        """Stop, start or pace the flow."""
        body = orjson.loads(await request.read())
        self.flow.running = bool(body.get("running", self.flow.running))
        self.flow.rate = int(body.get("rate_per_s", self.flow.rate))
        return reply({"running": self.flow.running, "rate_per_s": self.flow.rate})

    async def edge(self, request: web.Request) -> web.Response:
        """Push one venue's view of one market away: `{"index", "venue", "cents", "seconds"}`."""
        body = orjson.loads(await request.read())
        venue = {"kalshi": 0, "polymarket": 1}[body["venue"]]
        self.flow.push(int(body["index"]), venue, float(body["cents"]) / 100, float(body["seconds"]))
        return reply({})

    async def market(self, request: web.Request) -> web.Response:
        """Change a market: `{"ticker", "status" or "close_s"}`, `{"condition_id", "tick_e4"}` or `{"trading": bool}`."""
        body = orjson.loads(await request.read())
        if "trading" in body:
            self.kalshi.exchange.trading = bool(body["trading"])
        if "close_s" in body:
            self.kalshi.exchange.set_close(body["ticker"], int(body["close_s"]))
        if "status" in body:
            self.kalshi.exchange.set_status(body["ticker"], body["status"])
        if "condition_id" in body:
            self.clob.exchange.set_tick(body["condition_id"], int(body["tick_e4"]))
        return reply({})

    async def event(self, request: web.Request) -> web.Response:
        """Change what Kalshi states of an event or a series.

        `{"event", "fee_type", "multiplier"}` is told at once, `{"event", "sources": [{"name", "url"}]}` nowhere;
        `{"series" or "event", "fee_type", "multiplier", "at_s"}` is scheduled. `multiplier`: text, null in an event for
        its series' own.
        """
        body = orjson.loads(await request.read())
        exchange, fees = self.kalshi.exchange, Fees(body.get("fee_type"), body.get("multiplier"))
        if "at_s" in body:
            of_event = "event" in body
            ticker, at_ns = body["event" if of_event else "series"], int(body["at_s"] * NS_PER_S)
            exchange.statements.schedule(ticker, fees, at_ns, of_event=of_event)
        elif "sources" in body:
            exchange.statements.sources[body["event"]] = body["sources"]
        else:
            exchange.set_override(body["event"], fees)
        return reply({})

    async def resolve(self, request: web.Request) -> web.Response:
        """Take a market towards its end; 409: not from where it stands.

        `{"ticker", "do": determine|dispute|amend|reopen|settle|correct, "result", "value"}`, or
        `{"condition_id", "do": propose|reopen|resolve|redeem, "value"}`; `value`, dollars as text: what one YES pays.
        """
        body = orjson.loads(await request.read())
        value = body.get("value")
        value_e4 = None if value is None else to_fixed(str(value), -4)
        try:
            if "ticker" in body:
                kalshi_end.resolve(
                    self.kalshi.exchange, body["ticker"], body["do"], str(body.get("result", "")), value_e4
                )
            else:
                polymarket_end.resolve(self.clob.exchange, body["condition_id"], body["do"], value_e4)
        except (kalshi_end.NotNow, polymarket_end.NotNow) as late:
            return reply({"error": str(late)}, 409)
        return reply({})

    async def drop(self, request: web.Request) -> web.Response:
        """Cut connections of a venue without a closing handshake: `{"venue", "connection"?}`."""
        body = orjson.loads(await request.read())
        connections = self.kalshi.connections if body["venue"] == "kalshi" else self.clob.connections
        chosen = [
            found
            for found in connections
            if not found.closed_ns and body.get("connection", found.number) == found.number
        ]
        for connection in chosen:
            connection.abort()
        return reply({"dropped": [connection.number for connection in chosen]})

    async def faults(self, request: web.Request) -> web.Response:
        """Inject a fault: `{"venue", "fault", "seconds"?, "connection"?, "market"?, …}`, see `simulate/faults.py`.

        Without a `fault`, set what befalls order answers: `{"venue", "order_answer_delay_ms"?,
        "order_swallow_answer_rate"?}`. 400: asked for in words it does not know; 409: nothing there to act on.
        """
        body = orjson.loads(await request.read())
        if "fault" in body:
            try:
                return reply(self.injector.inject(parse(body)))
            except BadFault as bad:
                return reply({"error": str(bad)}, 409 if bad.missing else 400)
        mishaps = self.kalshi.mishaps if body["venue"] == "kalshi" else self.clob.mishaps
        mishaps.order_answer_delay_ms = int(body.get("order_answer_delay_ms", mishaps.order_answer_delay_ms))
        mishaps.order_swallow_answer_rate = float(
            body.get("order_swallow_answer_rate", mishaps.order_swallow_answer_rate)
        )
        return reply({})


async def _known_faults(request: web.Request) -> web.Response:
    """Name all faults, what they do, how a client can know, and their parameters."""
    return reply({name: fault._asdict() for name, fault in NAMES.items()})


def _order_fact(attempts: int, own: Any) -> dict[str, Any]:
    return {
        "attempts": attempts,
        "accepted": 0 if own is None else 1,
        "filled_e6": 0 if own is None else own.engine.filled,
    }


def _levels(book: Matcher) -> dict[str, Any]:
    return {"bids": book.levels(Side.BID), "asks": book.levels(Side.ASK)}


def _connections(connections: list[Connection]) -> list[dict[str, Any]]:
    return [
        {
            "connection": connection.number,
            "frames": connection.ordinal,
            "kinds": connection.kinds,
            "opened_ns": connection.opened_ns,
            "closed_ns": connection.closed_ns,
            "dropped_frames": connection.dropped_frames,
        }
        for connection in connections
    ]
