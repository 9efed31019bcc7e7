"""A list that is longer than is read says so: nothing is concluded from its beginning."""

import json

import pytest

from core.domain.errors import Unavailable
from core.runtime import metrics
from core.runtime.clock import NS_PER_S
from core.runtime.topics import ORDER_FRAME
from execute import kalshi as kalshi_module
from execute.pages import HALVINGS_MAX, PAGES_MAX, CutOff, as_far_back_as_read
from execute.ports import Reply
from execute.views import Subject
from schemas.order import VenueCall
from simulate.faults import parse
from tests.execute.unreached import kalshi_venue, polymarket_venue
from tests.leaping import leaping

E6 = 1_000_000
KINDS = {"orders": "orders", "fills": "fills", "positions": "market_positions", "settlements": "settlements"}


class Endless:
    """A venue one of whose lists has `pages` pages; `long` is a part of its path."""

    def __init__(self, long: str, pages: int) -> None:
        self.long, self.pages = long, pages
        self.asked: list[str] = []

    async def call(self, request, *, lane, order="", send_by_ns=0, headers=None, why_not=None) -> Reply:
        path = request.path
        self.asked.append(path)
        is_long = self.long in path
        nth = sum(self.long in one for one in self.asked)
        more = is_long and nth < self.pages
        if path == "/time":
            return reply(1_780_000_000)
        if path.startswith("/data/order/"):
            return reply(None)
        if path.startswith("/balance-allowance"):
            return reply({"balance": "1", "allowance": "1"})
        if path.startswith("/data/"):
            return reply({"data": [], "next_cursor": "NTA=" if more else "LTE="})
        if path.endswith("user_data_timestamp"):
            return reply({"as_of_time": "2026-06-11T06:29:30Z"})
        if path.endswith("/balance"):
            return reply({"balance": 1, "balance_dollars": "0.0100", "portfolio_value": 0, "updated_ts": 1})
        kind = next((rows for name, rows in KINDS.items() if f"/portfolio/{name}" in path), None)
        assert kind is not None, path
        return reply({kind: [], "cursor": "more" if more else ""})


def reply(body) -> Reply:
    return Reply(200, json.dumps(body).encode(), 0, 0)


@pytest.fixture(scope="module")
def venues() -> dict:
    return {"kalshi": kalshi_venue(), "polymarket": polymarket_venue()}


def subject(venue: str, **changes) -> Subject:
    fields = dict(
        order="g",
        instrument=f"{venue}:T",
        client_id="c",
        venue_order="v",
        side="BUY",
        price=4_500,
        size=10 * E6,
        submitted_ns=1_780_000_000 * NS_PER_S,
        answered=True,
    )
    return Subject(**(fields | changes))


ASKS = {
    "look_up": lambda venue, caller: venue.look_up(caller, subject(venue.name)),
    "reconcile": lambda venue, caller: venue.reconcile(caller, 1),
    "report": lambda venue, caller: venue.report(caller, ()),
    "payouts": lambda venue, caller: venue.payouts(caller, 1),
    "open_orders": lambda venue, caller: venue.open_orders(caller),
    "traded": lambda venue, caller: venue.traded(caller),
}
LISTS = [
    ("kalshi", "look_up", "/portfolio/orders?", "orders of T"),
    ("kalshi", "look_up", "/portfolio/fills?", "fills"),
    ("kalshi", "reconcile", "/portfolio/orders?", "orders"),
    ("kalshi", "reconcile", "/portfolio/fills?", "fills"),
    ("kalshi", "report", "/portfolio/positions?", "positions"),
    ("kalshi", "report", "/portfolio/orders?", "resting orders"),
    ("kalshi", "payouts", "/portfolio/settlements?", "payouts"),
    ("kalshi", "open_orders", "/portfolio/orders?", "resting orders"),
    ("polymarket", "look_up", "/data/trades?", "trades"),
    ("polymarket", "reconcile", "/data/trades?", "trades"),
    ("polymarket", "reconcile", "/data/orders?", "open orders"),
    ("polymarket", "report", "/data/orders?", "open orders"),
    ("polymarket", "open_orders", "/data/orders?", "open orders"),
    ("polymarket", "traded", "/data/trades?", "trades"),
]


@pytest.mark.parametrize(("venue", "ask", "path", "what"), LISTS)
async def test_list_that_is_longer_than_is_read_is_not_known(venues, venue, ask, path, what) -> None:
    whole = Endless(path, PAGES_MAX)
    await ASKS[ask](venues[venue], whole)
    assert sum(path in one for one in whole.asked) == PAGES_MAX
    longer = Endless(path, PAGES_MAX + 1)
    with pytest.raises(CutOff, match=f"{venue} lists more than {PAGES_MAX} pages of {what}"):
        await ASKS[ask](venues[venue], longer)
    assert sum(path in one for one in longer.asked) == PAGES_MAX


def looks(bench) -> int:
    frames = bench.log.read(ORDER_FRAME)
    return sum(isinstance(frame, VenueCall) and "/portfolio/fills?order_id" in frame.path for frame in frames)


@leaping
async def test_order_with_more_fills_than_are_read_does_not_end_until_all_of_them_are(new_bench, monkeypatch) -> None:
    monkeypatch.setattr(kalshi_module, "PAGE", 1)
    async with new_bench("kalshi") as bench:
        await bench.start()
        for _ in range(PAGES_MAX + 1):
            bench.stranger("SELL", 4_500, 1)
        for fault in ({"fault": "private_silent", "seconds": 30.0}, {"fault": "accept_then_timeout", "how": "reset"}):
            bench.world.injector.inject(parse({"venue": "kalshi", **fault}))
        grant = bench.grant(purpose="HEDGE", size=(PAGES_MAX + 1) * E6)
        await bench.until(lambda: looks(bench) > PAGES_MAX, "it is looked up again")
        assert bench.statuses(grant.id)[-1] == "OUTCOME_UNKNOWN"
        assert bench.fills(grant.id) == []
        monkeypatch.setattr(kalshi_module, "PAGE", 200)
        ended = await bench.terminal(grant.id)
        assert ended.filled == sum(fill.size for fill in bench.fills(grant.id)) == (PAGES_MAX + 1) * E6


async def test_facts_are_asked_for_as_far_back_as_they_can_be_read() -> None:
    asked: list[int] = []

    async def ask(since_ns: int) -> str:
        asked.append(since_ns)
        if since_ns < 900:
            raise CutOff("kalshi", "payouts")
        return "read"

    assert await as_far_back_as_read(ask, 200, 1_000, "payouts") == "read"
    assert asked == [200, 600, 800, 900]


async def test_facts_that_are_too_many_at_once_or_not_answered_are_not_known() -> None:
    asked: list[int] = []

    async def too_many(since_ns: int) -> None:
        asked.append(since_ns)
        raise CutOff("kalshi", "payouts")

    with pytest.raises(CutOff):
        await as_far_back_as_read(too_many, 0, 1 << 40, "payouts")
    assert len(asked) == HALVINGS_MAX + 1

    async def away(since_ns: int) -> None:
        asked.append(since_ns)
        raise Unavailable("502")

    with pytest.raises(Unavailable, match="502"):
        await as_far_back_as_read(away, 0, 1 << 40, "payouts")
    assert len(asked) == HALVINGS_MAX + 2


def cut_offs() -> float:
    return metrics.EVENTS.labels("execute", "list_cut_off")._value.get()


@pytest.mark.parametrize(("path", "turns"), [("/data/orders?", 1), ("/data/trades?", HALVINGS_MAX + 1)])
async def test_list_that_takes_no_time_is_not_asked_for_again_for_less_of_it(venues, path, turns) -> None:
    before, caller = cut_offs(), Endless(path, PAGES_MAX * 100)
    with pytest.raises(CutOff):
        await as_far_back_as_read(
            lambda since_ns: venues["polymarket"].reconcile(caller, since_ns), 1, 1 << 60, "what was missed"
        )
    assert sum(path in one for one in caller.asked) == PAGES_MAX * turns
    # Each halving says that something is left unread: of orders nothing is.
    assert cut_offs() - before == turns - 1
