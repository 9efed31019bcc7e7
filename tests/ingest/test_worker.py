"""A worker against the simulated venues: its share is fed, moves, heals and ends."""

import asyncio
import itertools
import json

import pytest

from core.domain.partition import partition_of
from core.runtime import metrics
from core.runtime.topics import DERIVED_RESYNC, RAW_FEED, RAW_FRAME
from schemas.derived import Resync
from schemas.raw import Closed, FeedTick, Frame, Gap, Opened
from simulate.faults import parse

BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


def truth_of(venues, venue: str) -> dict[int, list[bytes]]:
    """What the venue says it sent, by connection, keep-alives left out."""
    venues.world.truth.flush()
    sent: dict[int, list[bytes]] = {}
    for line in venues.world.truth.path(f"frames-{venue}.jsonl").read_bytes().splitlines():
        connection, ordinal, kind, _, _, text, *_ = json.loads(line)
        if ordinal and kind != "PONG":
            sent.setdefault(connection, []).append(text.encode())
    return sent


def inject(venues, venue: str, fault: str, **more: object) -> None:
    """Let the simulated venue do something wrong."""
    venues.world.injector.inject(parse({"venue": venue, "fault": fault} | more))


def resync(venue: str, instrument: str, epoch: int, ts_ns: int) -> Resync:
    return Resync(
        instrument=instrument,
        venue=venue,
        epoch=epoch,
        version_offset=1,
        version_index=0,
        cause="test",
        ts_ns=ts_ns,
    )


@BOTH
def test_every_frame_the_venue_sent_stands_on_the_log_once_and_in_order(in_world, new_worker, venue: str) -> None:
    async def body(venues) -> None:
        crew = new_worker(venue, venues.settings)
        items = venues.descriptions(venue)
        await crew.feed(items)
        await asyncio.sleep(1.5)
        await crew.dismiss()
        by_epoch: dict[int, list[bytes]] = {}
        numbers: dict[int, list[int]] = {}
        for record in crew.log.records(RAW_FRAME):
            numbers.setdefault(record.epoch, []).append(record.frame_no)
            if isinstance(record, Frame):
                by_epoch.setdefault(record.epoch, []).append(record.payload)
        for found in numbers.values():
            assert found == list(range(1, len(found) + 1))
        sent = truth_of(venues, venue)
        assert len(sent) == len(by_epoch) == 2
        for frames in by_epoch.values():
            (whole,) = [one for one in sent.values() if one[: len(frames)] == frames]
            # What was sent while the connection closed may not have been read.
            assert len(whole) - len(frames) < 50
            assert len(frames) > 50
        for key, record, partition in crew.log.topics[RAW_FRAME.noun]:
            assert key == record.feed
            assert partition == int(key.rpartition("-")[2]) % 2

    in_world(body)


@BOTH
def test_a_connection_that_is_cut_comes_back_under_a_new_epoch(in_world, new_worker, venue: str) -> None:
    async def body(venues) -> None:
        crew = new_worker(venue, venues.settings, partitions=1)
        items = venues.descriptions(venue)
        await crew.feed(items)
        server = venues.world.kalshi if venue == "kalshi" else venues.world.clob
        server.connections[0].abort()
        await crew.until(lambda: len(crew.ready_epochs()) == 2)
        opened = crew.of_kind(Opened)
        assert [sorted(one.instruments) for one in opened] == [sorted(items)] * 2
        closed = [record for record in crew.log.records(RAW_FRAME) if isinstance(record, Closed)]
        assert [record.epoch for record in closed] == [0]
        await crew.dismiss()

    in_world(body)


@BOTH
def test_a_share_that_moves_is_fed_all_the_while(in_world, new_worker, venue: str) -> None:
    async def body(venues) -> None:
        crew = new_worker(venue, venues.settings)
        items = venues.descriptions(venue)
        mine = {p: {i: r for i, r in items.items() if partition_of(i, 2) == p} for p in (0, 1)}
        await crew.feed(items, "old")
        kept = len(crew.of_kind(Opened))

        crew.hire("new")
        crew.tables["old"].deal([0], mine[0])
        await asyncio.sleep(0.5)
        # Nobody took over yet: the old owner feeds on.
        assert sorted(crew.fed()) == sorted(items)
        crew.tables["new"].deal([1], mine[1])
        gone = []

        def moved() -> bool:
            if set(crew.fed()) != set(items):
                gone.append(crew.fed())
            return len(crew.of_kind(Closed)) == 1 and sorted(crew.fed()) == sorted(items)

        await crew.until(moved)
        assert gone == []
        assert crew.of_kind(Closed)[0].reason == "another feed took over"
        late = crew.of_kind(Opened)[kept:]
        assert [(one.worker, sorted(one.instruments)) for one in late] == [("new", sorted(mine[1]))]
        await crew.dismiss()

    in_world(body)


def test_a_moved_feed_that_nobody_takes_over_ends_after_its_time(in_world, new_worker) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={"feed_overlap_s_max": 0.5})
        crew = new_worker("kalshi", settings)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        crew.tables["w1"].deal([0], {i: r for i, r in items.items() if partition_of(i, 2) == 0})
        await crew.until(lambda: len(crew.of_kind(Closed)) == 1)
        assert crew.of_kind(Closed)[0].reason == "no other feed took over within 0.5 s"
        await crew.dismiss()

    in_world(body)


def test_new_instruments_come_on_a_new_feed_and_the_old_one_ends_when_it_is_ready(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings, partitions=1)
        items = venues.descriptions("kalshi")
        some = dict(list(items.items())[:5])
        await crew.feed(some)
        crew.tables["w1"].deal([0], items)
        await crew.until(lambda: len(crew.of_kind(Closed)) == 1 and sorted(crew.fed()) == sorted(items))
        assert [len(one.instruments) for one in crew.of_kind(Opened)] == [5, 12]
        assert len({one.feed for one in crew.of_kind(Opened)}) == 2
        records = crew.log.kinds(RAW_FEED)
        assert records == ["Opened", "Ready", "Opened", "Ready", "Closed"]
        await crew.dismiss()

    in_world(body)


def test_a_share_above_the_connection_limit_is_spread_over_several_feeds(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("polymarket", venues.settings, partitions=1, per_feed_max=5)
        items = venues.descriptions("polymarket")
        await crew.feed(items)
        assert sorted(len(one.instruments) for one in crew.of_kind(Opened)) == [2, 5, 5]
        await crew.dismiss()

    in_world(body)


def test_a_frame_that_kalshi_loses_shows_as_a_gap_and_all_books_come_again(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings, partitions=1)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        inject(venues, "kalshi", "gap")

        def after_gap() -> list[object]:
            records = crew.log.records(RAW_FRAME)
            places = [n for n, record in enumerate(records) if isinstance(record, Gap)]
            return records[places[0] :] if places else []

        def snapshots() -> int:
            return sum(isinstance(r, Frame) and b"orderbook_snapshot" in r.payload for r in after_gap())

        await crew.until(lambda: snapshots() >= len(items))
        assert after_gap()[0].instruments == []
        assert after_gap()[0].reason.startswith("sid 1: expected seq ")
        assert len(crew.of_kind(Opened)) == 1
        await crew.dismiss()

    in_world(body)


def test_a_resync_request_brings_one_new_snapshot_from_kalshi(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings, partitions=1)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        instrument = sorted(items)[3]
        ticker = instrument.partition(":")[2].encode()

        def snapshots() -> int:
            frames = [r.payload for r in crew.log.records(RAW_FRAME) if isinstance(r, Frame)]
            return sum(b"orderbook_snapshot" in payload and ticker + b'"' in payload for payload in frames)

        assert snapshots() == 1
        crew.log.send(DERIVED_RESYNC, instrument, resync("kalshi", instrument, 0, crew.clock.now_ns()))
        await crew.until(lambda: snapshots() == 2)
        assert len(crew.of_kind(Opened)) == 1
        await crew.dismiss()

    in_world(body)


def ask_for(crew, instruments) -> None:
    for instrument in instruments:
        crew.log.send(DERIVED_RESYNC, instrument, resync("polymarket", instrument, 0, crew.clock.now_ns()))


def test_one_suspect_polymarket_book_of_many_comes_again_on_a_small_feed_of_its_own(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("polymarket", venues.settings, partitions=1)
        items = venues.descriptions("polymarket")
        await crew.feed(items)
        instrument = sorted(items)[0]
        for _ in range(3):
            ask_for(crew, [instrument])
            await asyncio.sleep(0.3)
        await crew.until(lambda: len(crew.ready_epochs()) == 2)
        # One small feed for three requests; the other books stay where they are.
        assert [list(one.instruments) for one in crew.of_kind(Opened)] == [sorted(items), [instrument]]
        assert crew.of_kind(Closed) == []
        await crew.dismiss()

    in_world(body)


def test_many_suspect_polymarket_books_come_again_on_a_whole_new_feed(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("polymarket", venues.settings, partitions=1)
        items = venues.descriptions("polymarket")
        await crew.feed(items)
        for _ in range(3):
            ask_for(crew, sorted(items)[:6])
            await asyncio.sleep(0.2)
        await crew.until(lambda: len(crew.of_kind(Closed)) == 1)
        # Ready before the old one closed, and only one new feed for three requests.
        assert crew.log.kinds(RAW_FEED) == ["Opened", "Ready", "Opened", "Ready", "Closed"]
        await crew.dismiss()

    in_world(body)


def test_small_feeds_end_once_the_whole_one_is_renewed(in_world, new_worker) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={"feed_patches_max": 2})
        crew = new_worker("polymarket", settings, partitions=1)
        items = venues.descriptions("polymarket")
        worker = await crew.feed(items)
        for number, instrument in enumerate(sorted(items)[:3]):
            ask_for(crew, [instrument])
            await crew.until(lambda wanted=number + 2: len(crew.ready_epochs()) == wanted)
        # The third is one too many: all comes again on one feed, and the others end.
        await crew.until(lambda: len(worker.lines) == 1 and sorted(crew.fed()) == sorted(items))
        assert [len(one.instruments) for one in crew.of_kind(Opened)] == [12, 1, 1, 12]
        assert {one.reason for one in crew.of_kind(Closed)} == {
            "another feed took over",
            "a newer feed has its instruments",
        }
        await crew.dismiss()

    in_world(body)


@BOTH
def test_a_feed_that_fell_silent_gets_a_successor_before_it_is_closed(in_world, new_worker, venue: str) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={f"{venue}_quiet_s": 1.0})
        crew = new_worker(venue, settings, partitions=1)
        items = venues.descriptions(venue)
        await crew.feed(items)
        await asyncio.sleep(1.5)
        assert len(crew.of_kind(Opened)) == 1
        inject(venues, venue, "silent_freeze", seconds=20)
        await crew.until(lambda: len(crew.of_kind(Closed)) == 1)
        assert crew.log.kinds(RAW_FEED) == ["Opened", "Ready", "Opened", "Ready", "Closed"]
        assert crew.of_kind(Closed)[0].reason == "another feed took over"
        await asyncio.sleep(1.5)
        assert len(crew.of_kind(Opened)) == 2
        await crew.dismiss()

    in_world(body)


def test_old_feeds_get_successors_one_after_the_other(in_world, new_worker) -> None:
    async def body(venues) -> None:
        settings = venues.settings.model_copy(update={"feed_age_s_max": 3.0})
        crew = new_worker("kalshi", settings, partitions=4)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        feeds = len(crew.of_kind(Opened))
        assert feeds >= 3
        await crew.until(lambda: len(crew.of_kind(Closed)) >= 3)
        again = [one.recv_ts_ns for one in crew.of_kind(Opened)[feeds : feeds + 3]]
        assert all(later - earlier >= 900_000_000 for earlier, later in itertools.pairwise(again))
        assert {one.reason for one in crew.of_kind(Closed)} == {"another feed took over"}
        assert set(crew.fed()) == set(items)
        await crew.dismiss()

    in_world(body)


def test_a_foreign_feed_with_our_instruments_makes_us_open_again(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings, partitions=1)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        thawed = Opened(
            feed="kalshi-0", venue="kalshi", worker="thawed", slot=0, instruments=[sorted(items)[0]], recv_ts_ns=1
        )
        crew.log.send(RAW_FEED, "kalshi-0", thawed)
        foreign_epoch = len(crew.log.topics[RAW_FEED.noun]) - 1
        await crew.until(lambda: max(crew.ready_epochs()) > foreign_epoch)
        await crew.dismiss()

    in_world(body)


def test_a_wrong_key_is_tried_once_and_then_left_alone(in_world, new_worker, tmp_path) -> None:
    async def body(venues) -> int:
        foreign = json.loads((tmp_path / "credentials.json").read_bytes())
        for key in foreign["kalshi"]:
            key["key_id"] = "00000000-0000-4000-8000-000000000000"
        path = tmp_path / "foreign.json"
        path.write_text(json.dumps(foreign))
        crew = new_worker("kalshi", venues.settings.model_copy(update={"sim_credentials_file": path}))
        tried = []
        headers = crew.venue.headers
        crew.venue = crew.venue._replace(headers=lambda now_ns: tried.append(now_ns) or headers(now_ns))
        worker = crew.hire("w1")
        crew.tables["w1"].deal([0, 1], venues.descriptions("kalshi"))
        await asyncio.sleep(2.0)
        assert crew.of_kind(Opened) == []
        assert worker._said_refused.startswith("HTTP 401")
        await crew.dismiss()
        return len(tried)

    # Two feeds may shake hands at once; nobody comes again within the minute.
    assert in_world(body) in (1, 2)


def test_stopping_leaves_the_group_and_closes_every_feed(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings)
        items = venues.descriptions("kalshi")
        await crew.feed(items)
        await crew.dismiss()
        assert crew.tables["w1"].closed
        assert crew.fed() == []
        assert len(crew.of_kind(Closed)) == 2
        assert [type(record) for record in crew.log.records(RAW_FRAME)][-1] is Closed

    in_world(body)


def test_ticks_go_on_while_the_venue_is_quiet(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings, partitions=1)
        crew.hire("w1")
        crew.tables["w1"].deal([0], venues.descriptions("kalshi"))
        await crew.until(lambda: len(crew.of_kind(FeedTick, RAW_FRAME)) >= 6)
        times = [record.recv_ts_ns for record in crew.of_kind(FeedTick, RAW_FRAME)]
        assert all(200_000_000 < later - earlier < 900_000_000 for earlier, later in itertools.pairwise(times))
        await crew.dismiss()

    in_world(body, messages_per_s=0)


@BOTH
def test_whatever_the_venue_does_every_instrument_is_fed_again_and_no_number_is_missing(
    in_world, new_worker, venue: str
) -> None:
    async def body(venues) -> None:
        fields = {"feed_degraded_after_s": 1.0, "feed_breaker_pause_s": 0.5, "feed_backoff_s_max": 0.5}
        fields |= {"audit_requests_per_s": 20.0, "books_requests_per_s": 40.0}
        crew = new_worker(venue, venues.settings.model_copy(update=fields))
        items = venues.descriptions(venue)
        await crew.feed(items)
        for fault in ("gap", "duplicate", "malformed_json", "unknown_type", "duplicate_snapshot", "tick_change"):
            inject(venues, venue, fault)
            await asyncio.sleep(0.3)
        inject(venues, venue, "close_without_reason", how="close")
        inject(venues, venue, "http_5xx", seconds=1.0)
        await asyncio.sleep(1.0)
        inject(venues, venue, "connection_limit", seconds=2.5)
        await asyncio.sleep(2.5)
        inject(venues, venue, "maintenance", seconds=1.0)
        await asyncio.sleep(1.0)
        await crew.until(lambda: sorted(crew.fed()) == sorted(items))
        await crew.dismiss()
        numbers: dict[int, list[int]] = {}
        for record in crew.log.records(RAW_FRAME):
            numbers.setdefault(record.epoch, []).append(record.frame_no)
        assert len(numbers) >= 4
        for found in numbers.values():
            assert found == list(range(1, len(found) + 1))

    in_world(body)


def test_a_worker_spends_its_part_of_the_resyncs_on_its_own_share_alone(in_world, new_worker) -> None:
    async def body(venues) -> None:
        crew = new_worker("kalshi", venues.settings)
        items = venues.descriptions("kalshi")
        for number, name in enumerate(("w1", "w2")):
            crew.hire(name)
            crew.tables[name].deal([number], {i: r for i, r in items.items() if partition_of(i, 2) == number})
        await crew.until(lambda: sorted(crew.fed()) == sorted(items))
        count = metrics.EVENTS.labels("ingest", "resync")._value.get
        before, asked_ns = count(), crew.clock.now_ns()
        wanted = sorted(items)[:6]
        for instrument in wanted:
            crew.log.send(DERIVED_RESYNC, instrument, resync("kalshi", instrument, 0, asked_ns))
        await crew.until(lambda: count() - before >= len(wanted))
        await asyncio.sleep(0.5)
        assert count() - before == len(wanted)
        await crew.dismiss()

    in_world(body)
