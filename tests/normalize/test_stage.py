"""The frame task around the venues: chunks, ticks, gaps, the end of a feed."""

import json

import msgspec
import pytest

from core.domain.errors import MalformedFrame, Misconfigured, Retry, UnknownSchema
from core.runtime.flow import ALL_PARTITIONS, TaskContext
from normalize import stage
from normalize.ports import AFTER_FRAME
from normalize.stage import FrameTask
from schemas import market, raw

TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"
ID = f"kalshi:{TICKER}"


def snapshot(ticker=TICKER) -> bytes:
    message = {"market_ticker": ticker, "market_id": "m", "yes_dollars_fp": [["0.4700", "3.00"]]}
    return json.dumps({"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": message}).encode()


def chunks_of(feed, payload: bytes, count: int, frame_no: int = 1) -> list[raw.Frame]:
    step = -(-len(payload) // count)
    return [
        feed.frame(payload[n * step : (n + 1) * step], frame_no=frame_no, chunk=n, chunks=count) for n in range(count)
    ]


def test_tick_goes_to_every_partition(kalshi):
    (output,) = kalshi.give(raw.FeedTick(feed="kalshi-0", venue="kalshi", epoch=7, frame_no=3, recv_ts_ns=11))
    assert output.partition == ALL_PARTITIONS
    assert output.record == market.Tick(feed="kalshi-0", venue="kalshi", epoch=7, frame_no=3, recv_ts_ns=11)


@pytest.mark.parametrize("named", [[], [ID]])
def test_gap_resets_what_it_names_on_every_partition(kalshi, named):
    gap = raw.Gap(
        feed="kalshi-0",
        venue="kalshi",
        epoch=7,
        frame_no=9,
        instruments=named,
        reason="expected seq 4, found 6",
        recv_ts_ns=11,
    )
    (output,) = kalshi.give(gap)
    reset = output.record
    assert output.partition == ALL_PARTITIONS
    assert (reset.instruments, reset.reason, reset.closed) == (named, "gap: expected seq 4, found 6", False)
    # Whatever else carries this frame number stands before it.
    assert (reset.frame_no, reset.index) == (9, AFTER_FRAME)


def test_frame_that_was_overtaken_changes_no_book(kalshi):
    late = msgspec.structs.replace(kalshi.frame(snapshot(), frame_no=9), overtaken=True)
    assert kalshi.give(late) == []
    chunks = [msgspec.structs.replace(chunk, overtaken=True) for chunk in chunks_of(kalshi, snapshot(), 3, frame_no=10)]
    assert [kalshi.give(chunk) for chunk in chunks] == [[], [], []]
    assert len(kalshi.give(kalshi.frame(snapshot(), frame_no=11))) == 1


def test_end_of_a_feed_resets_its_books(kalshi):
    closed = raw.Closed(feed="kalshi-0", venue="kalshi", epoch=7, frame_no=9, reason="socket closed", recv_ts_ns=11)
    (output,) = kalshi.give(closed)
    assert (output.record.closed, output.record.instruments) == (True, [])


def test_chunked_frame_is_one_frame(kalshi):
    first, second, third = chunks_of(kalshi, snapshot(), 3)
    assert kalshi.give(first) == []
    assert kalshi.task.hold_offset == 0
    assert kalshi.give(second) == []
    (output,) = kalshi.give(third)
    assert output.record.bid_prices == [4_700]
    assert output.record.frame_no == 1
    assert kalshi.task.hold_offset is None


def test_restart_at_the_held_offset_gives_the_frame(kalshi):
    parts = chunks_of(kalshi, snapshot(), 3)
    for part in parts[:2]:
        kalshi.give(part)
    kalshi.task = FrameTask(TaskContext(tables=kalshi.tables))
    assert [len(kalshi.give(part)) for part in parts] == [0, 0, 1]


def test_repeated_chunks_change_nothing(kalshi):
    first, second = chunks_of(kalshi, snapshot(), 2)
    assert [len(kalshi.give(part)) for part in (first, first, second)] == [0, 0, 1]


def test_chunks_wait_with_their_frame_and_are_whole_when_asked_again(feed_of, describing):
    feed = feed_of("kalshi", [], listed=[ID])
    first, second = chunks_of(feed, snapshot(), 2)
    feed.give(first)
    for _ in range(2):
        with pytest.raises(Retry):
            feed.give(second)
    assert feed.task.hold_offset == 0
    feed.tables.learn_instrument(describing(ID))
    assert len(feed.give(second)) == 1


def test_lost_chunk_resets_the_feed(kalshi):
    first, _, third = chunks_of(kalshi, snapshot(), 3)
    kalshi.give(first)
    with pytest.raises(MalformedFrame, match="expected chunk 1 of frame 1") as caught:
        kalshi.give(third)
    assert caught.value.outputs[0].record.instruments == []
    assert kalshi.task.hold_offset is None
    assert len(kalshi.say(snapshot())) == 1


def test_other_feeds_frames_pass_while_one_is_unfinished(kalshi):
    kalshi.give(chunks_of(kalshi, snapshot(), 2)[0])
    kalshi.tables.learn_feed(
        8, raw.Opened(feed="kalshi-1", venue="kalshi", worker="w", slot=1, instruments=[ID], recv_ts_ns=1)
    )
    kalshi.epoch = 8
    assert len(kalshi.say(snapshot())) == 1
    assert kalshi.task.hold_offset == 0


def test_frame_above_the_bound_resets_the_feed(kalshi, monkeypatch):
    monkeypatch.setattr(stage, "FRAME_BYTES_MAX", 100)
    first, second = chunks_of(kalshi, snapshot(), 2)
    kalshi.give(first)
    with pytest.raises(MalformedFrame, match="at most 100 bytes"):
        kalshi.give(second)


def test_end_of_a_feed_forgets_its_unfinished_frame(kalshi):
    kalshi.give(chunks_of(kalshi, snapshot(), 2)[0])
    kalshi.give(raw.Closed(feed="kalshi-0", venue="kalshi", epoch=7, frame_no=9, reason="r", recv_ts_ns=11))
    assert kalshi.task.hold_offset is None
    assert kalshi.task.counters["chunk.lost"] == 1


def test_a_killed_feeds_unfinished_frame_holds_the_commit_for_a_minute_of_log_time_only(kalshi):
    first = chunks_of(kalshi, snapshot(), 2)[0]
    kalshi.give(first)

    def tick(later_ns):
        kalshi.give(
            raw.FeedTick(feed="kalshi-1", venue="kalshi", epoch=8, frame_no=1, recv_ts_ns=first.recv_ts_ns + later_ns)
        )

    tick(stage.UNFINISHED_NS_MAX)
    assert kalshi.task.hold_offset == 0
    tick(stage.UNFINISHED_NS_MAX + 1)
    assert kalshi.task.hold_offset is None
    assert kalshi.task.counters["chunk.lost"] == 1


def test_unknown_venue_is_rejected_and_its_feed_reset(kalshi):
    kalshi.venue = "mtgox"
    error, outputs = kalshi.refused(snapshot())
    assert type(error) is UnknownSchema
    assert outputs[0].record.venue == "mtgox"


def test_task_without_tables_does_not_start():
    with pytest.raises(Misconfigured):
        FrameTask(TaskContext())


def test_same_log_gives_the_same_records(kalshi, feed_of, describing):
    frames = [snapshot(), b"{}", snapshot("KXOTHER"), snapshot()]

    def outcome(feed):
        result = []
        for frame in frames:
            try:
                result.append(feed.give(feed.frame(frame)))
            except MalformedFrame as e:
                result.append(list(e.outputs))
            except Exception as e:
                result.append(str(e))
        return result

    assert outcome(kalshi) == outcome(feed_of("kalshi", [describing(ID)]))
