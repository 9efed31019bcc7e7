"""Polling by REST while no socket can be had: declared, bounded, and over as soon as a socket feed is ready."""

import asyncio
import contextlib
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from core.runtime.topics import RAW_FEED, RAW_FRAME
from ingest.degraded import Degraded
from ingest.feed import Feed, FeedSpec
from ingest.polling import Polling
from ingest.roster import Roster
from ingest.settings import IngestSettings
from schemas.raw import Closed, FeedTick, Opened, Ready, RestBook

pytestmark = pytest.mark.usefixtures("starved")

BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 20\r\n\r\ntoo many connections"


class Door:
    """A real listener before a venue's sockets: lets connections through, or refuses their upgrade."""

    def __init__(self, host: str, port: int) -> None:
        self.is_shut = False
        self.knocks = 0
        self._venue = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.shut()

    def shut(self) -> None:
        """Cut what is through, refuse what comes."""
        self.is_shut = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        if self.is_shut:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(REFUSAL)
                await writer.drain()
            writer.close()
            return
        venue_reader, venue_writer = await asyncio.open_connection(*self._venue)
        self._writers |= {writer, venue_writer}
        await asyncio.gather(_pipe(reader, venue_writer), _pipe(venue_reader, writer))
        self._writers -= {writer, venue_writer}


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def behind(crew, door_address: str) -> None:
    """Send the workers of a crew through a door."""
    url = crew.venue.url
    crew.venue = crew.venue._replace(url=url.replace(urlsplit(url).netloc, door_address))


def door_of(venues, venue: str) -> Door:
    host, _, port = getattr(venues.settings, f"{venue}_simulated").partition(":")
    return Door(host, int(port))


def polled(log) -> list[RestBook]:
    return [one for one in log.records(RAW_FRAME) if isinstance(one, RestBook) and one.purpose == "POLL"]


def impatient(venues, **more: object):
    fields = {"feed_degraded_after_s": 0.5, "books_requests_per_s": 50.0, "audit_requests_per_s": 0.0} | more
    fields |= {"feed_breaker_pause_s": 0.5, "feed_backoff_s_max": 0.5}
    return venues.settings.model_copy(update=fields)


@BOTH
def test_books_are_polled_while_sockets_are_refused_and_no_longer(in_world, new_worker, venue: str) -> None:
    async def body(venues) -> None:
        door = door_of(venues, venue)
        async with door as address:
            crew = new_worker(venue, impatient(venues), partitions=1)
            behind(crew, address)
            items = venues.descriptions(venue)
            worker = await crew.feed(items)
            assert not worker.health()["degraded"]
            door.shut()
            await crew.until(lambda: {one.instrument for one in polled(crew.log)} == set(items))
            (degraded,) = [one for one in crew.of_kind(Opened) if one.degraded]
            assert sorted(degraded.instruments) == sorted(items)
            assert worker.health()["degraded"]
            assert worker.health()["instruments_polled"] == len(items)
            epoch = polled(crew.log)[0].epoch
            ticks = [one for one in crew.of_kind(FeedTick, RAW_FRAME) if one.epoch == epoch]
            await crew.until(lambda: len([1 for one in crew.of_kind(FeedTick, RAW_FRAME) if one.epoch == epoch]) > 3)
            assert len(ticks) < 30

            door.is_shut = False
            await crew.until(lambda: max(crew.ready_epochs()) > epoch)
            await crew.until(lambda: any(one.epoch == epoch for one in crew.of_kind(Closed)))
            # A feed of polls is never said to be ready, and ends when the socket feed is.
            assert epoch not in {one.epoch for one in crew.of_kind(Ready)}
            (closed,) = [one for one in crew.of_kind(Closed) if one.epoch == epoch]
            assert closed.reason == "a socket feed took over"
            assert sorted(crew.fed()) == sorted(items)
            # Said a moment after its Closed is written.
            await crew.until(lambda: not worker.health()["degraded"])
            numbers = [one.frame_no for one in crew.log.records(RAW_FRAME) if one.epoch == epoch]
            assert numbers == list(range(1, len(numbers) + 1))
            await crew.dismiss()

    in_world(body)


def test_no_more_instruments_are_polled_than_allowed(in_world, new_worker) -> None:
    async def body(venues) -> None:
        door = door_of(venues, "polymarket")
        async with door as address:
            door.is_shut = True
            crew = new_worker("polymarket", impatient(venues, feed_degraded_instruments_max=5), partitions=2)
            behind(crew, address)
            worker = crew.hire("w1")
            crew.tables["w1"].deal([0, 1], venues.descriptions("polymarket"))
            await crew.until(lambda: len({one.instrument for one in polled(crew.log)}) == 5)
            await asyncio.sleep(1.0)
            assert len({one.instrument for one in polled(crew.log)}) == 5
            assert worker.health()["instruments_polled"] == 5
            # The breaker keeps the knocks few, and stopping does not wait for it.
            assert door.knocks < 20
            began_s = crew.clock.monotonic_s()
            await crew.dismiss()
            assert crew.clock.monotonic_s() - began_s < 3.0
            assert crew.log.kinds(RAW_FEED)[-1] == "Closed"

    in_world(body)


def test_polling_that_is_not_wanted_does_not_happen(in_world, new_worker) -> None:
    async def body(venues) -> None:
        door = door_of(venues, "kalshi")
        async with door as address:
            door.is_shut = True
            crew = new_worker("kalshi", impatient(venues, feed_degraded_after_s=0.0), partitions=1)
            behind(crew, address)
            crew.hire("w1")
            crew.tables["w1"].deal([0], venues.descriptions("kalshi"))
            await asyncio.sleep(2.0)
            assert crew.log.records(RAW_FEED) == []
            await crew.dismiss()

    in_world(body)


def test_a_socket_feed_that_fails_after_it_was_opened_makes_the_polled_one_open_again(in_world, new_worker) -> None:
    """It may have taken books over under its higher epoch: what is polled under the older one would not be heard."""

    async def body(venues) -> None:
        door = door_of(venues, "kalshi")
        async with door as address:
            crew = new_worker("kalshi", impatient(venues), partitions=1)
            behind(crew, address)
            items = venues.descriptions("kalshi")
            worker = crew.hire("w1")
            door.is_shut = True
            crew.tables["w1"].deal([0], items)
            await crew.until(lambda: bool(polled(crew.log)))
            first = polled(crew.log)[0].epoch
            server = venues.world.kalshi
            line = next(iter(worker.lines.values()))
            door.is_shut = False
            await crew.until(lambda: line.last_epoch > first, 20.0)
            for connection in list(server.connections):
                connection.abort()
            door.shut()
            await crew.until(lambda: polled(crew.log)[-1].epoch > line.last_epoch > first)
            assert len({one.instrument for one in polled(crew.log) if one.epoch > line.last_epoch}) > 0
            await crew.dismiss()

    in_world(body)


def test_a_poll_opened_beside_a_socket_feed_ends_though_its_epoch_is_the_higher(doubles) -> None:
    """Kafka was away: both waited for it, and the poll's Opened came second. Its books would be DEGRADED for good."""

    async def scenario() -> None:
        log, shelf = doubles.Log(SystemClock()), Shelf()
        shelf.fails = False
        line = SimpleNamespace(
            spec=FeedSpec("kalshi", 7, 3, "tester", ("kalshi:A", "kalshi:B")), subjects={"A": "kalshi:A", "B": "kalshi:B"},
            retiring_since_s=None, feed=None, is_ready=False, epoch=-1, last_epoch=-1, down_s=99.0,
        )  # fmt: skip
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            degraded = Degraded(
                {7: line}, Roster("kalshi"), books=shelf, rest=None, producer=log, clock=SystemClock(),
                settings=IngestSettings(run="test-ingest", feed_degraded_after_s=0.5), tasks=tasks,
                free_slot=lambda _: 8,
            )  # fmt: skip
            # The socket feed's Opened is written first, and it is ready when the poll has its own.
            older = Feed(line.spec, None, log, SystemClock())
            line.last_epoch = await older.open()
            degraded.look()
            while not polled(log):  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            line.feed, line.epoch, line.down_s = older, older.epoch, 0.0
            assert polled(log)[0].epoch > line.epoch
            degraded.look()
            assert degraded.instruments == 2  # until the socket feed has every book, the polled ones are all there is
            line.is_ready = True
            degraded.look()
            while degraded.instruments:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        (closed,) = [one for one in log.records(RAW_FEED) if isinstance(one, Closed)]
        assert closed.epoch > line.epoch
        assert closed.reason == f"the socket feed of epoch {line.epoch} is there"

    asyncio.run(scenario())


def test_a_poll_that_is_stopped_while_it_asks_writes_nothing(doubles) -> None:
    async def scenario() -> None:
        log = doubles.Log(SystemClock())
        spec = FeedSpec("kalshi", 7, 3, "tester", ("kalshi:A",), degraded=True)

        class Slow(Shelf):
            async def fetch(self, rest, subjects, *, tries):
                poll.stop("there is a socket again")
                return dict.fromkeys(subjects, b"{}")

        poll = Polling(spec, {"A": "kalshi:A"}, books=Slow(), rest=None, producer=log, clock=SystemClock(), per_s=50.0)
        await asyncio.wait_for(poll.run(), 20)
        assert log.records(RAW_FEED) == log.records(RAW_FRAME) == []

    asyncio.run(scenario())


def test_a_poll_that_is_stopped_while_kafka_is_away_shows_nothing(doubles) -> None:
    async def scenario() -> None:
        log, shelf = doubles.Log(SystemClock()), Shelf()
        shelf.fails = False
        spec = FeedSpec("kalshi", 7, 3, "tester", ("kalshi:A",), degraded=True)
        poll = Polling(spec, {"A": "kalshi:A"}, books=shelf, rest=None, producer=log, clock=SystemClock(), per_s=50.0)
        send_acked = log.send_acked

        async def slowly(*words, **more):
            offset = await send_acked(*words, **more)
            poll.stop("there is a socket again")
            return offset

        log.send_acked = slowly
        await asyncio.wait_for(poll.run(), 20)
        assert [type(one) for one in log.records(RAW_FEED)] == [Opened, Closed]
        assert polled(log) == []

    asyncio.run(scenario())


class Shelf:
    batch_max = 2

    def __init__(self) -> None:
        self.fails = True
        self.asked: list[tuple[str, ...]] = []

    async def fetch(self, rest, subjects, *, tries):
        self.asked.append(tuple(subjects))
        if self.fails:
            raise Unavailable("HTTP 503")
        return dict.fromkeys(subjects, b"{}")


def test_ticks_stand_on_the_log_only_while_polls_succeed(doubles, monkeypatch) -> None:
    monkeypatch.setattr("ingest.polling.FRESH_S_MIN", 0.4)
    monkeypatch.setattr("ingest.polling.PAUSE_FIRST_S", 0.05)

    async def scenario() -> None:
        clock = SystemClock()
        log, shelf = doubles.Log(clock), Shelf()
        subjects = {"A": "kalshi:A", "B": "kalshi:B", "C": "kalshi:C"}
        spec = FeedSpec("kalshi", 7, 3, "tester", tuple(subjects.values()), degraded=True)
        poll = Polling(spec, subjects, books=shelf, rest=None, producer=log, clock=clock, per_s=50.0)
        task = asyncio.create_task(poll.run())

        def ticks() -> int:
            return log.kinds().count("FeedTick")

        async with asyncio.timeout(20):
            while len(shelf.asked) < 3:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            # Nothing is opened before REST has answered once.
            assert log.records(RAW_FEED) == []
            shelf.fails = False
            while ticks() < 3:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            shelf.fails = True
            await asyncio.sleep(0.7)
            silent = ticks()
            await asyncio.sleep(0.8)
            assert ticks() == silent
            shelf.fails = False
            while ticks() == silent:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
            poll.stop("enough")
            await task
        assert {one.instrument for one in polled(log)} == set(subjects.values())
        assert all(len(asked) <= 2 for asked in shelf.asked)
        assert [type(one) for one in log.records(RAW_FEED)] == [Opened, Closed]
        assert {partition for _, _, partition in log.topics[RAW_FRAME.noun]} == {3}

    asyncio.run(scenario())
