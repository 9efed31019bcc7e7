"""The auditor: evidence among the frames of the feed it speaks of, slowly, and first where a resync was asked for."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from core.domain.errors import MalformedFrame, Unavailable
from core.runtime.topics import RAW_FEED, RAW_FRAME
from ingest.audit import Auditor
from ingest.feed import CHUNK_BYTES
from schemas.raw import RestBook
from venues.kalshi.rest import decode_rest_book
from venues.polymarket.rest import decode_books


class Shelf:
    """Books of a venue that answers as told."""

    batch_max = 1

    def __init__(self) -> None:
        self.answer: bytes | Exception = b"{}"
        self.asked: list[str] = []
        self.meanwhile = lambda: None

    async def fetch(self, rest: object, subjects: Sequence[str], *, tries: int) -> Mapping[str, bytes]:
        assert tries == 1
        self.asked += subjects
        await asyncio.sleep(0)
        self.meanwhile()
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict.fromkeys(subjects, self.answer)


def audits(log) -> list[RestBook]:
    return [record for record in log.records(RAW_FRAME) if isinstance(record, RestBook)]


def on_rig(new_rig, body) -> None:
    async def scenario() -> None:
        rig = await new_rig()
        shelf = Shelf()
        feed_of = {"kalshi:A": (rig.feed, "A"), "kalshi:B": (rig.feed, "B")}
        await body(rig, shelf, Auditor(feed_of.get, feed_of.keys, shelf, None, rig.clock))

    asyncio.run(scenario())


def test_an_answer_takes_the_next_number_of_its_feed(new_rig) -> None:
    async def body(rig, shelf, auditor) -> None:
        rig.feed.received(b'{"type":"orderbook_delta"}', rig.clock.now_ns())
        asked_ns = rig.clock.now_ns()

        def a_frame_comes() -> None:
            rig.clock.advance(ms=30)
            rig.feed.received(b'{"type":"orderbook_delta"}', rig.clock.now_ns())

        shelf.meanwhile = a_frame_comes
        assert await auditor.look_at("kalshi:A")
        (found,) = audits(rig.log)
        assert (found.instrument, found.purpose, found.epoch, found.frame_no) == ("kalshi:A", "AUDIT", 0, 3)
        assert (found.asked_ts_ns, found.recv_ts_ns) == (asked_ns, asked_ns + 30_000_000)
        assert found.payload == b"{}"

    on_rig(new_rig, body)


@pytest.mark.parametrize("error", [Unavailable("HTTP 503"), MalformedFrame("no book")])
def test_a_venue_that_does_not_answer_costs_only_the_evidence(new_rig, error: Exception) -> None:
    async def body(rig, shelf, auditor) -> None:
        shelf.answer = error
        assert not await auditor.look_at("kalshi:A")
        assert audits(rig.log) == []
        assert not rig.feed.over

    on_rig(new_rig, body)


def test_evidence_of_a_feed_that_ended_meanwhile_is_dropped(new_rig) -> None:
    async def body(rig, shelf, auditor) -> None:
        shelf.meanwhile = lambda: rig.feed.end("gone")
        assert await auditor.look_at("kalshi:A")
        assert audits(rig.log) == []
        assert rig.log.kinds()[-1] == "Closed"

    on_rig(new_rig, body)


def test_a_full_log_and_a_book_above_one_record_are_left_out(new_rig) -> None:
    async def body(rig, shelf, auditor) -> None:
        shelf.answer = bytes(CHUNK_BYTES + 1)
        assert await auditor.look_at("kalshi:A")
        rig.log.full = True
        rig.feed.received(b'{"type":"orderbook_delta"}', rig.clock.now_ns())
        shelf.answer = b"{}"
        assert await auditor.look_at("kalshi:A")
        rig.log.full = False
        assert rig.feed.flush()
        assert audits(rig.log) == []
        assert [record.frame_no for record in rig.log.records()] == [1]

    on_rig(new_rig, body)


def test_what_a_resync_was_asked_for_is_looked_at_before_the_others(new_rig, monkeypatch) -> None:
    monkeypatch.setattr("ingest.audit.FIRST_AFTER_S", 0.0)

    async def body(rig, shelf, auditor) -> None:
        auditor.pace(500.0)
        auditor.hurry(["kalshi:B"])
        task = asyncio.create_task(auditor.run())
        async with asyncio.timeout(5):
            while len(shelf.asked) < 5:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.005)
        task.cancel()
        assert shelf.asked[:5] == ["B", "A", "B", "A", "B"]

    on_rig(new_rig, body)


def test_no_rate_means_no_questions(new_rig) -> None:
    async def body(rig, shelf, auditor) -> None:
        auditor.pace(0.0)
        task = asyncio.create_task(auditor.run())
        await asyncio.sleep(0.2)
        task.cancel()
        assert shelf.asked == []

    on_rig(new_rig, body)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_a_worker_audits_each_of_its_books_and_the_venue_answers_for_that_book(
    in_world, new_worker, venue: str
) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={"audit_requests_per_s": 100.0, "books_requests_per_s": 100.0})
        crew = new_worker(venue, settings)
        items = venues.descriptions(venue)
        crew.hire("w1")
        crew.tables["w1"].deal([0, 1], items)
        await crew.until(lambda: {one.instrument for one in audits(crew.log)} == set(items))
        await crew.dismiss()
        opened = {epoch: record for epoch, (_, record, _) in enumerate(crew.log.topics[RAW_FEED.noun])}
        for one in audits(crew.log):
            assert one.instrument in opened[one.epoch].instruments
            assert one.purpose == "AUDIT"
            assert 0 < one.recv_ts_ns - one.asked_ts_ns < 5_000_000_000
            if venue == "kalshi":
                book = decode_rest_book(one.payload, one.instrument.partition(":")[2])
                assert book.yes or book.no
            else:
                (book,) = decode_books(one.payload)
                assert f"polymarket:{book.market}" == one.instrument
        numbers: dict[int, list[int]] = {}
        for record in crew.log.records(RAW_FRAME):
            numbers.setdefault(record.epoch, []).append(record.frame_no)
        assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())

    in_world(body)


def test_the_rate_is_the_part_of_the_venue_that_the_worker_has(in_world, new_worker) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={"audit_requests_per_s": 8.0, "books_requests_per_s": 40.0})
        crew = new_worker("kalshi", settings, partitions=4)
        items = venues.descriptions("kalshi")
        worker = crew.hire("w1")
        crew.tables["w1"].deal([1], items)
        await crew.until(lambda: bool(crew.fed()))
        assert worker._auditor._per_s == 2.0
        assert worker._rest._pause_s == 0.1
        assert worker._resyncs._part == 0.25
        await crew.dismiss()

    in_world(body)
