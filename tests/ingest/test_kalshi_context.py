"""What Kalshi says beside its markets, read again from the simulated venue: overrides, sources, scheduled fees, budgets."""

import asyncio
import json
import time

import pytest

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from core.runtime.flow import Input
from ingest.host import BreakerLimits, HostGate
from ingest.kalshi_context import EVENTS_TICKERS, IDLE_POLLS, KalshiContext
from ingest.kalshi_listing import KalshiListing
from ingest.rest import RestClient
from ingest.venues import catalogue_base
from normalize.stage import InstrumentTask
from core.runtime.flow import TaskContext
from schemas.raw import Description
from simulate.kalshi.statements import NS_PER_S, Fees

INX = "KXSIMINX"


class Counting:
    """A client that writes down what is asked."""

    def __init__(self, rest: RestClient) -> None:
        self.rest = rest
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, path, query=None, *, tries=4):
        self.asked.append((path.removeprefix("/trade-api/v2"), dict(query or {})))
        return await self.rest.get(path, query, tries=tries)

    def paths(self) -> list[str]:
        taken, self.asked = self.asked, []
        return [path for path, _ in taken]


def beside_venue(in_world, body, *, kept_s=0.0, requests_max=50, **options):
    """Run `body(listing, exchange, rest)`; by default everything is too old at once."""

    async def whole(venues) -> None:
        clock = SystemClock()
        gate = HostGate("simulated", clock, BreakerLimits(), 2)
        base = catalogue_base("kalshi", venues.settings)
        async with RestClient(base, clock, gate, request_s_max=5, per_s=10_000) as rest:
            counting = Counting(rest)
            listing = KalshiListing(
                counting, clock, page=100, context_kept_s=kept_s, context_requests_max=requests_max
            )
            await body(listing, venues.world.kalshi.exchange, counting)

    return in_world(whole, **options)


async def described(listing) -> dict:
    """What normalize makes of everything listed now, by instrument."""
    task = InstrumentTask(TaskContext())
    found = {}
    async for page in listing.open_markets():
        for one in page:
            record = Description(
                venue="kalshi", instrument=one.instrument, payload=one.payload, context=one.context, recv_ts_ns=1
            )
            (output,) = task.handle(Input(record, "raw.instrument-kalshi", 0, 0, one.instrument))
            found[one.instrument] = output.record
    return found


def of_event(exchange, event: str, ours: dict) -> list:
    return [ours[f"kalshi:{m.ticker}"] for m in exchange.markets if m.linked.kalshi_event == event]


def test_an_events_override_and_its_sources_are_those_of_now_at_the_next_poll(in_world) -> None:
    async def body(listing, exchange, _) -> None:
        event = exchange.markets[0].linked.kalshi_event
        before = of_event(exchange, event, await described(listing))
        exchange.set_override(event, Fees("quadratic", "2"))
        exchange.statements.sources[event] = [{"name": "Another bureau", "url": "https://bureau.test"}]
        ours = await described(listing)
        after = of_event(exchange, event, ours)
        assert {one.taker_fee_e6 for one in before} == {70_000}
        assert {one.taker_fee_e6 for one in after} == {140_000}
        assert all(old.rules_hash != new.rules_hash for old, new in zip(before, after, strict=True))
        others = [one for one in ours.values() if one.event_group != f"kalshi:{event}"]
        assert others
        assert 140_000 not in {one.taker_fee_e6 for one in others}
        exchange.set_override(event, Fees())
        assert {one.taker_fee_e6 for one in of_event(exchange, event, await described(listing))} == {70_000}

    beside_venue(in_world, body)


def test_what_is_young_is_not_asked_for_again_until_it_is_forgotten(in_world) -> None:
    async def body(listing, exchange, rest) -> None:
        event = exchange.markets[0].linked.kalshi_event
        series = exchange.markets[0].linked.kalshi_series
        await described(listing)
        rest.paths()
        exchange.set_override(event, Fees("quadratic", "2"))
        assert {one.taker_fee_e6 for one in of_event(exchange, event, await described(listing))} == {70_000}
        assert rest.paths() == ["/series/fee_changes", "/events/fee_changes", "/markets"]
        listing.forget(f"kalshi:{event}")
        assert {one.taker_fee_e6 for one in of_event(exchange, event, await described(listing))} == {140_000}
        assert rest.paths() == [
            "/series/fee_changes", "/events/fee_changes", "/markets", f"/events/{event}", f"/series/{series}",
        ]  # fmt: skip
        await described(listing)
        assert len(rest.paths()) == 3

    beside_venue(in_world, body, kept_s=3_600.0)
