"""A feed: the epoch first, numbers without a hole, ticks, the end."""

import pytest

from core.runtime.clock import NS_PER_S
from core.runtime.topics import RAW_FEED
from ingest.feed import CHUNK_BYTES, FRAME_BYTES_MAX, UNACKED_S_MAX

SUBSCRIBED = b'{"type":"subscribed","id":1,"msg":{"channel":"orderbook_delta","sid":1}}'


def snapshot(ticker: str, seq: int) -> bytes:
    text = '{"type":"orderbook_snapshot","sid":1,"seq":%d,"msg":{"market_ticker":"%s","market_id":"m"}}'
    return (text % (seq, ticker)).encode()


def delta(seq: int, sid: int = 1) -> bytes:
    text = '{"type":"orderbook_delta","sid":%d,"seq":%d,"msg":{"market_ticker":"A","price_dollars":"0.5"}}'
    return (text % (sid, seq)).encode()


def numbers(rig) -> list[int]:
    return [record.frame_no for record in rig.log.records()]


@pytest.fixture
def run(new_rig):
    """Runs an async test body on a fresh feed."""
    import asyncio

    def go(body, **options):
        async def whole():
            rig = await new_rig(**options)
            return await body(rig)

        return asyncio.run(whole())

    return go


def test_opened_is_written_first_and_its_offset_is_the_epoch(run, memory_log) -> None:
    memory_log.topics["raw.feed"] = [("other", None, -1)] * 7

    async def body(rig):
        assert rig.feed.epoch == 7
        key, opened, _ = memory_log.topics["raw.feed"][7]
        assert key == opened.feed == "kalshi-0"
        assert (opened.slot, opened.instruments, opened.worker) == (0, ["kalshi:A", "kalshi:B"], "tester")
        assert memory_log.records() == []

    run(body)


def test_frames_are_numbered_from_one_and_kept_byte_by_byte(run) -> None:
    async def body(rig):
        frames = [SUBSCRIBED, snapshot("A", 1), b"\xff not json", delta(2)]
        for payload in frames:
            rig.feed.received(payload, rig.clock.now_ns())
        assert [record.payload for record in rig.log.records()] == frames
        assert numbers(rig) == [1, 2, 3, 4]
        assert {record.epoch for record in rig.log.records()} == {rig.feed.epoch}
        assert {partition for _, _, partition in rig.log.topics["raw.frame"]} == {0}

    run(body)


def test_a_gap_takes_the_number_before_the_frame_that_shows_it(run) -> None:
    async def body(rig):
        for payload in (SUBSCRIBED, snapshot("A", 1), delta(3)):
            rig.feed.received(payload, rig.clock.now_ns())
        assert rig.log.kinds() == ["Frame", "Frame", "Gap", "Frame"]
        assert numbers(rig) == [1, 2, 3, 4]
        assert rig.log.records()[-2].instruments == []
        assert b"get_snapshot" in rig.wire.sent[-1]

    run(body)


def test_a_tick_every_quarter_of_a_second_is_numbered_with_the_frames(run) -> None:
    async def body(rig):
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        rig.wait(1_000)
        assert rig.log.kinds() == ["Frame", "FeedTick", "FeedTick", "FeedTick", "FeedTick"]
        assert numbers(rig) == [1, 2, 3, 4, 5]

    run(body)


def test_no_tick_while_the_socket_holds_what_came_before_it(run) -> None:
    async def body(rig):
        rig.wire.unread_bytes = 5_000
        rig.wait(500)
        assert rig.log.kinds() == []
        due_ns = rig.clock.now_ns() - 250_000_000
        rig.feed.received(delta(1), rig.clock.now_ns())
        rig.feed.chunk_read(5_000)
        assert rig.log.kinds() == ["Frame", "Gap", "FeedTick"] or rig.log.kinds() == ["Frame", "FeedTick"]
        assert rig.log.records()[-1].recv_ts_ns == due_ns

    run(body)


def test_no_tick_and_then_the_end_when_the_venue_is_silent(run) -> None:
    async def body(rig):
        rig.wait(15_000, heard=False)
        assert not rig.feed.over
        rig.wait(250, heard=False)
        assert rig.feed.over
        assert rig.feed.ended.result().reason == "no frame and no pong for 15 s"
        assert rig.log.kinds()[-1] == "Closed"

    run(body)


def test_a_worker_that_was_frozen_ends_the_feed_before_it_passes_old_frames_on(run) -> None:
    async def body(rig):
        rig.wait(500)
        rig.clock.advance(ms=1_300)
        assert rig.feed.wakes(rig.clock.now_ns()) is False
        assert rig.log.kinds() == ["FeedTick", "FeedTick", "Closed"]
        assert rig.wire.closed

    run(body)


def test_closed_is_the_last_record_on_both_topics(run) -> None:
    async def body(rig):
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        rig.feed.end("tests are over")
        rig.feed.received(delta(1), rig.clock.now_ns())
        rig.feed.end("again")
        assert rig.log.kinds() == ["Frame", "Closed"]
        assert rig.log.kinds(RAW_FEED) == ["Opened", "Closed"]
        for topic in ("raw.frame", "raw.feed"):
            closed = rig.log.topics[topic][-1][1]
            assert (closed.reason, closed.frame_no, closed.epoch) == ("tests are over", 2, rig.feed.epoch)

    run(body)


def test_when_kafka_does_not_acknowledge_for_five_seconds_nothing_more_is_written(run) -> None:
    async def body(rig):
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        rig.log.stalled_since_s = rig.clock.monotonic_s()
        rig.wait(int(UNACKED_S_MAX * 1_000))
        assert not rig.feed.over
        before = len(rig.log.records())
        rig.wait(250)
        assert rig.feed.over
        assert "not acknowledged" in rig.feed.ended.result().reason
        rig.feed.received(delta(1), rig.clock.now_ns())
        assert len(rig.log.records()) == before
        assert rig.log.kinds(RAW_FEED) == ["Opened"]

    run(body)


def test_a_full_queue_stops_the_reading_and_loses_nothing(run) -> None:
    async def body(rig):
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        rig.log.full = True
        for seq in (1, 2, 3):
            rig.feed.received(delta(seq), rig.clock.now_ns())
        assert rig.wire.paused == 1
        rig.wait(500)
        assert rig.log.kinds() == ["Frame"]
        assert rig.feed.flush() is False
        rig.log.full = False
        assert rig.feed.flush() is True
        rig.feed.received(delta(4), rig.clock.now_ns())
        assert numbers(rig) == [1, 2, 3, 4, 5]
        rig.wait(250)
        assert rig.log.kinds()[-1] == "FeedTick"

    run(body)


def test_a_feed_that_ends_while_frames_wait_says_nothing_more(run) -> None:
    async def body(rig):
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        rig.log.full = True
        rig.feed.received(delta(1), rig.clock.now_ns())
        rig.log.full = False
        rig.feed.end("the connection was closed")
        # A Closed with number 3 would stand behind the hole that frame 2 left.
        assert numbers(rig) == [1]

    run(body)


def test_a_queue_that_stays_full_for_five_seconds_ends_the_feed(run) -> None:
    async def body(rig):
        rig.log.full = True
        rig.feed.received(delta(1), rig.clock.now_ns())
        rig.wait(5_250)
        assert rig.feed.over

    run(body)


@pytest.mark.parametrize(("size", "chunks"), [(CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (3 * CHUNK_BYTES, 3)])
def test_a_large_frame_is_chunked_under_one_number(run, size: int, chunks: int) -> None:
    async def body(rig):
        payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
        rig.feed.received(payload, rig.clock.now_ns())
        rig.feed.received(SUBSCRIBED, rig.clock.now_ns())
        parts = rig.log.records()[:-1]
        assert b"".join(part.payload for part in parts) == payload
        assert [(part.frame_no, part.chunk, part.chunks) for part in parts] == [(1, n, chunks) for n in range(chunks)]
        assert rig.log.records()[-1].frame_no == 2

    run(body)


def test_a_frame_above_the_venue_limit_ends_the_feed(run) -> None:
    async def body(rig):
        rig.feed.received(bytes(FRAME_BYTES_MAX + 1), rig.clock.now_ns())
        assert rig.log.kinds() == ["Closed"]
        assert numbers(rig) == [1]

    run(body)


def test_ready_only_once_the_snapshots_are_acknowledged(run) -> None:
    async def body(rig):
        rig.log.stalled_since_s = rig.clock.monotonic_s()
        for payload in (SUBSCRIBED, snapshot("A", 1), snapshot("B", 2)):
            rig.feed.received(payload, rig.clock.now_ns())
        rig.wait(1_000)
        assert rig.log.kinds(RAW_FEED) == ["Opened"]
        # What is unacknowledged now is younger than the last snapshot.
        rig.log.stalled_since_s = rig.clock.monotonic_s()
        rig.wait(250)
        assert rig.log.kinds(RAW_FEED) == ["Opened", "Ready"]
        assert rig.feed.is_ready
        rig.wait(1_000)
        assert rig.log.kinds(RAW_FEED) == ["Opened", "Ready"]

    run(body)


def test_no_ready_while_a_snapshot_is_missing(run) -> None:
    async def body(rig):
        for payload in (SUBSCRIBED, snapshot("A", 1)):
            rig.feed.received(payload, rig.clock.now_ns())
        rig.wait(2_000)
        assert rig.log.kinds(RAW_FEED) == ["Opened"]

    run(body)


def test_a_resync_becomes_a_command_to_the_venue(run) -> None:
    async def body(rig):
        for payload in (SUBSCRIBED, snapshot("A", 1), snapshot("B", 2)):
            rig.feed.received(payload, rig.clock.now_ns())
        rig.feed.resync({"kalshi:B": rig.clock.now_ns() + NS_PER_S})
        assert b'"market_tickers":["B"]' in rig.wire.sent[-1]

    run(body)
