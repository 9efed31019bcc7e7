"""What Kalshi says beside its markets, read again from the simulated venue: overrides, sources, scheduled fees, budgets."""

import asyncio
import json
import time

import msgspec
import orjson
import pytest

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from core.runtime.flow import Input
from core.runtime.topics import MARKET_NOTICE, RAW_INSTRUMENT
from ingest.catalogue import Catalogue
from ingest.host import BreakerLimits, HostGate
from ingest.kalshi_context import IDLE_POLLS
from ingest.kalshi_listing import KalshiListing
from ingest.rest import RestClient
from ingest.venues import catalogue_base
from normalize.kalshi import KalshiNormaliser
from normalize.ports import Counter, FrameContext
from normalize.stage import DESCRIBERS
from schemas.market import Notice
from schemas.raw import Frame
from simulate.kalshi.statements import NS_PER_S, Fees
from tests.ingest.kalshi_of_many import Many, beside_many
from tests.ingest.normalized import instruments

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
            listing = KalshiListing(counting, clock, page=100, context_kept_s=kept_s, context_requests_max=requests_max)
            await body(listing, venues.world.kalshi.exchange, counting)

    return in_world(whole, **options)


async def described(listing) -> dict:
    """What normalize makes of everything listed now, by instrument."""
    return instruments([one async for page in listing.open_markets() for one in page])


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


def test_scheduled_fees_are_terms_before_their_time_and_the_fee_after_it(in_world) -> None:
    async def body(listing, exchange, rest) -> None:
        market = exchange.markets[0]
        event, series = market.linked.kalshi_event, market.linked.kalshi_series
        at_ns = time.time_ns() + NS_PER_S
        exchange.statements.schedule(series, Fees("quadratic", "2"), at_ns)
        exchange.statements.schedule(event, Fees("quadratic", "4"), at_ns + 3_600 * NS_PER_S, of_event=True)

        def told(ours):
            one = ours[f"kalshi:{market.ticker}"]
            return one.taker_fee_e6, [(term.from_ts_ns // 1_000, term.taker_fee_e6) for term in one.fees]

        then, later = (at_ns // 1_000, 140_000), ((at_ns + 3_600 * NS_PER_S) // 1_000, 280_000)
        assert told(await described(listing)) == (70_000, [then, later])
        rest.paths()
        await asyncio.sleep(max(0.0, (at_ns - time.time_ns()) / NS_PER_S) + 0.05)
        # The venue lists it no more; what was read of the series before that is not believed.
        assert told(await described(listing)) == (140_000, [then, later])
        assert rest.paths().count(f"/series/{series}") == 1
        assert told(await described(listing)) == (140_000, [then, later])
        assert f"/series/{series}" not in rest.paths()

    beside_venue(in_world, body, kept_s=3_600.0)


def test_a_scheduled_change_that_is_taken_back_is_gone_with_the_next_poll(in_world) -> None:
    async def body(listing, exchange, _) -> None:
        market = exchange.markets[0]
        exchange.statements.schedule(market.linked.kalshi_series, Fees("quadratic", "2"), 2**62)
        assert len((await described(listing))[f"kalshi:{market.ticker}"].fees) == 1
        exchange.statements.series_changes.clear()
        assert (await described(listing))[f"kalshi:{market.ticker}"].fees == []

    beside_venue(in_world, body)


# --- against a venue of many events


def test_thousands_of_events_are_read_again_in_turn_within_the_budget_of_each_poll() -> None:
    many = Many(2_500)

    async def body(context) -> None:
        await context.learn(many.names)
        assert set(many.read.values()) == {1}
        rounds = []
        for _ in range(6):
            many.asked.clear()
            await context.refresh()
            await context.learn(many.names)
            rounds.append(len(many.asked))
            assert max(many.read.values()) - min(many.read.values()) <= 1
        # Two requests for scheduled changes, four for four hundred events; the series is not read without a market.
        assert set(rounds) == {6}
        assert sum(many.read.values()) == 2_500 + 6 * 400

    beside_many(many, body, requests_max=10)


def test_a_venue_that_ignores_the_names_is_asked_for_each_and_none_counts_as_read_meanwhile() -> None:
    many = Many(30)

    async def body(context) -> None:
        await context.learn(many.names)
        many.knows_tickers = False
        for _ in range(6):
            await context.refresh()
            await context.learn(many.names)
        assert min(many.read.values()) > 1

    beside_many(many, body, requests_max=10)


def test_events_without_a_listed_market_are_left_alone() -> None:
    many = Many(20)

    async def body(context) -> None:
        await context.learn(many.names)
        for _ in range(IDLE_POLLS + 2):
            await context.refresh()
            await context.learn(many.names[:3])
        assert [many.read[name] for name in many.names[:3]] == [IDLE_POLLS + 3] * 3
        assert max(many.read[name] for name in many.names[3:]) <= IDLE_POLLS + 1
        before = dict(many.read)
        await context.refresh()
        assert {name for name in many.names if many.read[name] > before[name]} == set(many.names[:3])

    beside_many(many, body, requests_max=10)


@pytest.mark.parametrize(
    "answer", [(403, b"no"), (200, b'{"series_fee_change_arr":[{"scheduled_ts":"soon"}]}'), (404, b"")]
)
def test_a_list_of_scheduled_fees_that_cannot_be_had_does_not_stop_the_catalogue(answer) -> None:
    many = Many(3)
    many.changes = answer

    async def body(context) -> None:
        await context.refresh()
        await context.learn(many.names)
        assert orjson.loads((await context.beside(["KX-0000"]))["KX-0000"].text)["series"]["ticker"] == "KX"

    beside_many(many, body, requests_max=10)


def test_scheduled_fees_that_were_read_stand_while_the_list_cannot_be_had() -> None:
    many = Many(1)
    change = {
        "id": "c", "series_ticker": "KX", "fee_type": "quadratic", "fee_multiplier": 2,
        "scheduled_ts": "2100-01-01T00:00:00Z",
    }  # fmt: skip
    many.changes = (200, orjson.dumps({"series_fee_change_arr": [change]}))

    async def body(context) -> None:
        for _ in range(2):
            await context.refresh()
            await context.learn(many.names)
            assert orjson.loads((await context.beside(["KX-0000"]))["KX-0000"].text)["fee_changes"] == [change]
            many.changes = (403, b"no")

    beside_many(many, body, requests_max=10)


# --- what the stream says, to the catalogue


def notice_item(notice: Notice) -> Input:
    return Input(notice, MARKET_NOTICE.noun, 0, 0, notice.instrument or notice.event_group)


def test_what_the_socket_says_of_fees_and_closing_times_is_in_the_catalogue_at_once(
    in_world, new_worker, doubles
) -> None:
    async def body(venues) -> None:
        exchange = venues.world.kalshi.exchange
        market = exchange.markets[0]
        event, name = market.linked.kalshi_event, f"kalshi:{market.ticker}"
        crew = new_worker("kalshi", venues.settings)
        crew.hire("one")
        crew.tables["one"].deal([0, 1], venues.descriptions("kalshi"))
        clock, notices = SystemClock(), doubles.Log(SystemClock())
        gate = HostGate("simulated", clock, BreakerLimits(), 2)
        async with RestClient(
            catalogue_base("kalshi", venues.settings), clock, gate, request_s_max=5, per_s=1_000
        ) as rest:
            table, log = doubles.Table(), doubles.Log(clock)
            catalogue = Catalogue(
                "kalshi",
                KalshiListing(rest, clock, page=100, context_kept_s=3_600.0),
                log,
                table,
                clock,
                partitions=2,
                poll_s=3_600.0,
                markets_max=100,
                notices=notices.reader(MARKET_NOTICE),
            )
            table.deal([0, 1], {})
            task = asyncio.create_task(catalogue.run())

            def written() -> list:
                ours = [one for key, one, _ in log.topics[RAW_INSTRUMENT["kalshi"].noun] if key == name]
                return [DESCRIBERS["kalshi"](one) for one in ours]

            async def said(kind: bytes) -> Notice:
                """What normalize makes of the frame on the log, handed to the catalogue as Kafka would."""

                def found() -> list[Frame]:
                    return [one for one in crew.log.records() if isinstance(one, Frame) and kind in one.payload]

                await crew.until(lambda: bool(found()))
                frame = found()[0]
                context = FrameContext(
                    frame.feed, frame.venue, frame.epoch, frame.frame_no, frame.recv_ts_ns, [], frozenset()
                )
                notice, *_ = KalshiNormaliser(None, Counter()).normalize_frame(frame.payload, context).records
                notices.send(MARKET_NOTICE, "", notice)
                return notice

            await crew.until(lambda: bool(crew.ready_epochs()) and len(written()) == 1)
            exchange.set_override(event, Fees("quadratic", "2"))
            notice = await said(b"event_fee_update")
            await crew.until(lambda: len(written()) == 2)
            assert written()[1].taker_fee_e6 == 2 * written()[0].taker_fee_e6
            assert written()[1].recv_ts_ns >= notice.recv_ts_ns
            exchange.set_close(market.ticker, 1_900_000_000)
            notice = await said(b"close_date_updated")
            await crew.until(lambda: len(written()) == 3)
            assert written()[2].close_ts_ns == 1_900_000_000 * NS_PER_S
            assert written()[2].recv_ts_ns >= notice.recv_ts_ns
            assert catalogue.polls == 1
            catalogue.stop()
            await task
        await crew.dismiss()

    in_world(body)


def test_a_notice_is_answered_with_a_description_though_nothing_changed_also_after_a_restart(in_world, doubles) -> None:
    async def body(listing, exchange, _) -> None:
        market = exchange.markets[0]
        name = f"kalshi:{market.ticker}"

        def fresh(standing):
            log = doubles.Log(SystemClock())
            catalogue = Catalogue(
                "kalshi", listing, log, doubles.Table(), SystemClock(), partitions=2, poll_s=1, markets_max=100
            )
            catalogue.take_share(doubles.share([0, 1], standing))
            return catalogue, log.topics[RAW_INSTRUMENT["kalshi"].noun]

        catalogue, written = fresh({})
        await catalogue.look()
        standing = {key: record for key, record, _ in written}
        notice = Notice(
            venue="kalshi", instrument=name, reason="close_date_updated", feed="f", epoch=1, frame_no=1, index=0,
            recv_ts_ns=time.time_ns(),
        )  # fmt: skip
        for again, logged in ((catalogue, written), fresh(standing)):
            before = len(logged)
            again.take_notice(notice_item(notice))
            again.take_notice(notice_item(notice))
            assert await again.look_at_noticed() == 1
            assert await again.look_at_noticed() == await again.look() == 0
            ((key, record, _),) = logged[before:]
            assert (key, record.payload != b"", record.recv_ts_ns >= notice.recv_ts_ns) == (name, True, True)
            assert json.loads(record.context) == json.loads(standing[name].context)
        # Another venue's is not ours to answer.
        catalogue.take_notice(notice_item(msgspec.structs.replace(notice, venue="polymarket", recv_ts_ns=2**62)))
        assert await catalogue.look_at_noticed() == 0

    beside_venue(in_world, body, kept_s=3_600.0)


def test_a_catalogue_that_fails_at_a_notice_answers_it_with_its_next_list(in_world, doubles) -> None:
    async def body(listing, exchange, rest) -> None:
        event = exchange.markets[0].linked.kalshi_event
        log = doubles.Log(SystemClock())
        catalogue = Catalogue(
            "kalshi", listing, log, doubles.Table(), SystemClock(), partitions=2, poll_s=1, markets_max=100
        )
        catalogue.take_share(doubles.share([0, 1], {}))
        await catalogue.look()
        of_it = sum(market.linked.kalshi_event == event for market in exchange.markets)

        async def broken(*_, **__):
            raise Unavailable("the venue is away")

        answers, rest.get = rest.get, broken
        notice = Notice(
            venue="kalshi", event_group=f"kalshi:{event}", reason="event_fee_update", feed="f", epoch=1, frame_no=1,
            index=0, recv_ts_ns=time.time_ns(),
        )  # fmt: skip
        catalogue.take_notice(notice_item(notice))
        with pytest.raises(Unavailable):
            await catalogue.look_at_noticed()
        rest.get = answers
        exchange.set_override(event, Fees("quadratic", "3"))
        assert await catalogue.look() == of_it

    beside_venue(in_world, body, kept_s=3_600.0)
