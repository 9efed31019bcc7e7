"""A catalogue against the simulated venues, and against one that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection

import pytest

from core.domain.errors import Unavailable
from core.domain.partition import partition_of
from core.runtime.clock import SystemClock
from core.runtime.topics import RAW_INSTRUMENT
from ingest.catalogue import MISSES_MAX, Catalogue
from ingest.host import BreakerLimits, HostGate
from ingest.listing import Listed
from ingest.rest import RestClient
from ingest.venues import catalogue_base, listing_of
from normalize.stage import DESCRIBERS
from simulate.kalshi.resolution import resolve as kalshi_resolve
from simulate.polymarket.resolution import resolve

BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


def catalogue_on(doubles, venue: str, listing, *, markets_max: int = 1_000, partitions: int = 2):
    """A catalogue that owns all partitions of an empty topic."""
    clock = SystemClock()
    log = doubles.Log(clock)
    table = doubles.Table()
    catalogue = Catalogue(
        venue, listing, log, table, clock, partitions=partitions, poll_s=0.05, markets_max=markets_max
    )
    catalogue.take_share(doubles.share(range(partitions), {}))
    return catalogue, log


def standing(log, venue: str) -> dict[str, object]:
    """What a reader of the compacted topic has."""
    found: dict[str, object] = {}
    for key, record, _ in log.topics[RAW_INSTRUMENT[venue].noun]:
        if record is None:
            found.pop(key, None)
        else:
            found[key] = record
    return found


async def with_rest(venues, venue: str, body):
    settings = venues.settings.model_copy(update={"catalogue_page": 5})
    clock = SystemClock()
    gate = HostGate("simulated", clock, BreakerLimits(), 2)
    async with RestClient(catalogue_base(venue, settings), clock, gate, request_s_max=5, per_s=1_000) as rest:
        return await body(listing_of(venue, rest, clock, settings))


@BOTH
def test_everything_listed_is_written_once_and_normalize_understands_it(in_world, doubles, venue: str) -> None:
    async def body(venues) -> None:
        async def look(listing) -> None:
            catalogue, log = catalogue_on(doubles, venue, listing)
            assert await catalogue.look() == 12
            # Prices and volumes moved meanwhile; that is no news.
            await asyncio.sleep(0.3)
            assert await catalogue.look() == 0
            described = standing(log, venue)
            assert described.keys() == venues.descriptions(venue).keys()
            for instrument, record in described.items():
                ours = DESCRIBERS[venue](record)
                assert (ours.instrument, ours.venue, ours.status) == (instrument, venue, "OPEN")
                assert ours.fee_model != "UNKNOWN"

        await with_rest(venues, venue, look)

    in_world(body)


def test_a_kalshi_description_brings_its_series_and_its_event(in_world, doubles) -> None:
    async def body(venues) -> None:
        async def look(listing) -> None:
            catalogue, log = catalogue_on(doubles, "kalshi", listing)
            await catalogue.look()
            for market in venues.world.kalshi.exchange.markets:
                context = json.loads(standing(log, "kalshi")[f"kalshi:{market.ticker}"].context)
                assert context["series"]["ticker"] == market.linked.kalshi_series
                assert "fee_multiplier" in context["series"]
                assert context["event"]["event_ticker"] == market.linked.kalshi_event
                assert "markets" not in context["event"]

        await with_rest(venues, "kalshi", look)

    in_world(body)


def test_a_market_that_closes_is_described_as_it_is_before_it_leaves(in_world, doubles) -> None:
    async def body(venues) -> None:
        async def look(listing) -> None:
            catalogue, log = catalogue_on(doubles, "kalshi", listing)
            await catalogue.look()
            market = venues.world.kalshi.exchange.markets[4]
            instrument = f"kalshi:{market.ticker}"
            market.status = "closed"
            # Missing from the list of open markets; looked up by name after the third time.
            assert [await catalogue.look() for _ in range(MISSES_MAX)] == [0, 0, 1]
            assert json.loads(standing(log, "kalshi")[instrument].payload)["status"] == "closed"
            assert await catalogue.look() == 0
            market.status = "finalized"
            assert await catalogue.look() == 2
            written = [record for key, record, _ in log.topics["raw.instrument-kalshi"] if key == instrument]
            assert json.loads(written[-2].payload)["status"] == "finalized"
            assert written[-1] is None

        await with_rest(venues, "kalshi", look)

    in_world(body)


def test_a_polymarket_market_is_followed_until_it_says_what_it_pays(in_world, doubles) -> None:
    async def body(venues) -> None:
        async def look(listing) -> None:
            catalogue, log = catalogue_on(doubles, "polymarket", listing)
            await catalogue.look()
            exchange = venues.world.clob.exchange
            market = exchange.markets[2]
            instrument = f"polymarket:{market.condition_id}"

            def said():
                ours = [record for key, record, _ in log.topics["raw.instrument-polymarket"] if key == instrument]
                return [None if one is None else DESCRIBERS["polymarket"](one) for one in ours]

            resolve(exchange, market.condition_id, "propose")
            for _ in range(MISSES_MAX + 2):
                await catalogue.look()
            assert [(one.status, one.payout_e6) for one in said()] == [("OPEN", -1), ("CLOSED", -1)]
            resolve(exchange, market.condition_id, "resolve", 5_000)
            await catalogue.look()
            *_, resolved, gone = said()
            assert (resolved.status, resolved.payout_e6, gone) == ("SETTLED", 500_000, None)

        await with_rest(venues, "polymarket", look)

    in_world(body)


def test_a_kalshi_market_is_described_with_its_payout_its_dispute_and_its_end(in_world, doubles) -> None:
    async def body(venues) -> None:
        async def look(listing) -> None:
            catalogue, log = catalogue_on(doubles, "kalshi", listing)
            await catalogue.look()
            exchange = venues.world.kalshi.exchange
            ticker = exchange.markets[4].ticker
            for step, result in (("determine", "yes"), ("dispute", ""), ("amend", "no"), ("settle", "")):
                kalshi_resolve(exchange, ticker, step, result)
                for _ in range(MISSES_MAX):
                    await catalogue.look()
            ours = [record for key, record, _ in log.topics["raw.instrument-kalshi"] if key == f"kalshi:{ticker}"]
            assert ours.pop() is None
            told = [DESCRIBERS["kalshi"](one) for one in ours]
            assert [(one.status, one.payout_e6) for one in told[1:]] == [
                ("DETERMINED", 1_000_000), ("DETERMINED", -1), ("DETERMINED", 0), ("SETTLED", 0),
            ]  # fmt: skip

        await with_rest(venues, "kalshi", look)

    in_world(body)


class Scripted:
    """A listing that says what a test tells it."""

    changing = frozenset({"volume"})

    def __init__(self, *instruments: str) -> None:
        self.instruments = list(instruments)
        self.known = set(instruments)
        self.fails = False
        self.looked_up: list[list[str]] = []

    async def open_markets(self) -> AsyncIterator[list[Listed]]:
        yield [Listed(one, b'{"status":"open"}', b"") for one in self.instruments[:2]]
        if self.fails:
            raise Unavailable("page 2 does not come")
        yield [Listed(one, b'{"status":"open"}', b"") for one in self.instruments[2:]]

    async def look_up(self, instruments: Collection[str]) -> list[Listed]:
        self.looked_up.append(list(instruments))
        return [Listed(one, b'{"status":"open"}', b"") for one in instruments if one in self.known]


def test_an_instrument_the_venue_forgot_gets_a_tombstone_after_three_complete_lists(doubles) -> None:
    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        catalogue, log = catalogue_on(doubles, "kalshi", listing)
        await catalogue.look()
        listing.instruments.remove("kalshi:B")
        listing.known.remove("kalshi:B")
        assert [await catalogue.look() for _ in range(MISSES_MAX)] == [0, 0, 1]
        assert sorted(standing(log, "kalshi")) == ["kalshi:A", "kalshi:C"]
        listing.instruments.append("kalshi:B")
        assert await catalogue.look() == 1
        assert sorted(standing(log, "kalshi")) == ["kalshi:A", "kalshi:B", "kalshi:C"]

    asyncio.run(body())


def test_a_list_that_breaks_off_says_nothing_about_the_rest(doubles) -> None:
    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        catalogue, log = catalogue_on(doubles, "kalshi", listing)
        await catalogue.look()
        listing.fails = True
        for _ in range(2 * MISSES_MAX):
            with pytest.raises(Unavailable):
                await catalogue.look()
        assert len(standing(log, "kalshi")) == 3
        assert listing.looked_up == []

    asyncio.run(body())


def test_a_market_passed_over_once_by_the_cursor_is_not_missed(doubles) -> None:
    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        catalogue, _ = catalogue_on(doubles, "kalshi", listing)
        for _ in range(2 * MISSES_MAX):
            listing.instruments = ["kalshi:A", "kalshi:B"]
            await catalogue.look()
            listing.instruments = ["kalshi:A", "kalshi:B", "kalshi:C"]
            await catalogue.look()
        assert listing.looked_up == []

    asyncio.run(body())


def test_only_keys_of_our_own_partitions_are_written(doubles) -> None:
    async def body() -> None:
        listing = Scripted(*(f"kalshi:{letter}" for letter in "ABCDEFGH"))
        catalogue, log = catalogue_on(doubles, "kalshi", listing)
        catalogue.take_share(doubles.share([1], {}))
        await catalogue.look()
        assert set(standing(log, "kalshi")) == {i for i in listing.instruments if partition_of(i, 2) == 1}

    asyncio.run(body())


def test_what_stands_already_is_not_written_again_after_a_restart(doubles) -> None:
    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        first, log = catalogue_on(doubles, "kalshi", listing)
        await first.look()
        second, again = catalogue_on(doubles, "kalshi", listing)
        second.take_share(doubles.share([], {}))
        second.take_share(doubles.share([0, 1], standing(log, "kalshi")))
        assert await second.look() == 0
        assert standing(again, "kalshi") == {}

    asyncio.run(body())


def test_more_markets_than_allowed_are_left_out(doubles) -> None:
    async def body() -> None:
        listing = Scripted(*(f"kalshi:{letter}" for letter in "ABCDEFGH"))
        catalogue, log = catalogue_on(doubles, "kalshi", listing, markets_max=3)
        assert await catalogue.look() == 3
        assert len(standing(log, "kalshi")) == 3

    asyncio.run(body())


def test_run_polls_until_it_is_stopped_and_survives_failures(doubles) -> None:
    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        catalogue, log = catalogue_on(doubles, "kalshi", listing)
        task = asyncio.create_task(catalogue.run())
        async with asyncio.timeout(10):
            while catalogue.polls < 2:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            listing.fails = True
            await asyncio.sleep(0.2)
            listing.fails = False
            seen = catalogue.polls
            while catalogue.polls < seen + 2:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            catalogue.stop()
            await task
        assert len(standing(log, "kalshi")) == 3

    asyncio.run(body())


def test_a_market_whose_end_is_never_stated_is_forgotten_after_many_looks(doubles, monkeypatch) -> None:
    monkeypatch.setattr("ingest.catalogue.LOOKS_MAX", 6)

    async def body() -> None:
        listing = Scripted("kalshi:A", "kalshi:B", "kalshi:C")
        catalogue, log = catalogue_on(doubles, "kalshi", listing)
        await catalogue.look()
        listing.instruments.remove("kalshi:C")
        for _ in range(5):
            await catalogue.look()
        assert "kalshi:C" in standing(log, "kalshi")
        await catalogue.look()
        assert "kalshi:C" not in standing(log, "kalshi")
        looks = len(listing.looked_up)
        await catalogue.look()
        assert len(listing.looked_up) == looks

    asyncio.run(body())
