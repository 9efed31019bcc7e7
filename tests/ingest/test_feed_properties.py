"""Whatever comes, and however often the log is full: numbers without a hole, bytes as they came, in order."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime.clock import ManualClock
from ingest.feed import CHUNK_BYTES, Feed, FeedSpec
from ingest.kalshi import KalshiConversation
from schemas.raw import Closed, Frame

frames = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda seq, kind: b'{"type":"%s","sid":1,"seq":%d,"msg":{"market_ticker":"A"}}' % (kind, seq),
        st.integers(0, 12),
        st.sampled_from([b"orderbook_delta", b"orderbook_snapshot", b"ok", b"error", b"odd"]),
    ),
    st.just(bytes(CHUNK_BYTES + 17)),
)
steps = st.lists(st.one_of(frames, st.sampled_from(["full", "room", "tick", "stalled", "end"])), max_size=40)


async def play(script, doubles):
    """Run a script through a feed; return the log and the frames that were handed to a feed that had not ended."""
    clock = ManualClock()
    log, wire = doubles.Log(clock), doubles.Wire()
    feed = Feed(
        FeedSpec("kalshi", 0, 0, "w", ("kalshi:A",)),
        KalshiConversation({"A": "kalshi:A"}, venue_wide=False),
        log,
        clock,
    )
    await feed.open()
    feed.begin(wire)
    given_frames = []
    for step in script:
        if feed.over:
            break
        if isinstance(step, bytes):
            given_frames.append(step)
            feed.wakes(clock.now_ns())
            feed.received(step, clock.now_ns())
        elif step == "full":
            log.full = True
        elif step == "room":
            log.full = False
            feed.flush()
        elif step == "stalled":
            log.stalled_since_s = clock.monotonic_s()
        elif step == "tick":
            clock.advance(ms=250)
            feed.wakes(clock.now_ns())
            feed.strike()
        else:
            feed.end("the script says so")
    return log, feed, given_frames


@given(script=steps)
@settings(max_examples=200, deadline=None)
def test_numbers_have_no_hole_and_frames_come_out_as_they_went_in(script, doubles) -> None:
    log, feed, given_frames = asyncio.run(play(script, doubles))
    records = log.records()
    numbers = [record.frame_no for record in records]
    assert sorted(set(numbers)) == list(range(1, len(set(numbers)) + 1))
    assert numbers == sorted(numbers)

    whole: dict[int, bytes] = {}
    chunks: dict[int, list[int]] = {}
    for record in records:
        if isinstance(record, Frame):
            whole[record.frame_no] = whole.get(record.frame_no, b"") + record.payload
            chunks.setdefault(record.frame_no, []).append(record.chunk)
    complete = [
        payload
        for number, payload in whole.items()
        if len(chunks[number]) == next(r.chunks for r in records if r.frame_no == number)
    ]
    assert complete == given_frames[: len(complete)]
    assert all(parts == list(range(len(parts))) for parts in chunks.values())
    # Whatever shares a number is one frame; everything else has a number of its own.
    assert len(numbers) - len(set(numbers)) == sum(len(parts) - 1 for parts in chunks.values())
    if any(isinstance(record, Closed) for record in records):
        assert isinstance(records[-1], Closed)
        assert feed.over
        assert complete == given_frames
    assert {record.epoch for record in records} <= {feed.epoch}
