"""What goes wrong on a real socket: frames that trickle, lines that are dead, refusals, and frames of many megabytes."""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.edge import EdgeProducer, EdgeReader
from core.runtime.flow import Input, TaskContext
from core.runtime.tables import MemoryTables
from core.runtime.topics import RAW_FRAME
from infra.mock_cluster import MockCluster
from ingest.connection import Connection, HandshakeRefused, open_connection
from ingest.feed import CHUNK_BYTES, FRAME_BYTES_MAX, Feed, FeedEnd, FeedSpec
from ingest.kalshi import KalshiConversation
from ingest.polymarket import PolymarketConversation
from normalize.stage import FrameTask
from schemas.market import BookSnapshot
from schemas.raw import Frame, Opened
from tests.records import binary

pytestmark = pytest.mark.usefixtures("starved")

MIB = 1024 * 1024
Handler = Callable[[ServerConnection], Awaitable[None]]
Check = Callable[[Feed, Connection], Awaitable[None]]


def header(size: int, head: int = 0x81) -> bytes:
    return bytes((head, 127)) + struct.pack("!Q", size)


def new_feed(log, clock, *, silence_s_max: float = 15.0, venue: str = "kalshi") -> Feed:
    spec = FeedSpec(venue, 0, 0, "tester", (f"{venue}:A",), silence_s_max)
    make = KalshiConversation if venue == "kalshi" else PolymarketConversation
    return Feed(spec, make({"A": f"{venue}:A"}, venue_wide=False), log, clock)


async def converse(handler: Handler, log, check: Check, **options) -> FeedEnd:
    """Serve one connection, feed it into `log`, run `check`, and return how the feed ended."""
    clock = SystemClock()
    async with serve(
        handler, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None, close_timeout=0.5
    ) as server:
        connection = await open_connection(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, clock)
        feed = new_feed(log, clock, **options)
        await feed.open()
        connection.begin(feed)
        await check(feed, connection)
        feed.end("the test is over")
        return await asyncio.wait_for(feed.ended, 5)


async def until_end(feed: Feed, connection: Connection) -> None:
    await asyncio.wait_for(asyncio.shield(feed.ended), 20)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def frames(log) -> list[Frame]:
    return [record for record in log.records() if isinstance(record, Frame)]


def snapshot(seq: int, padding: int = 0) -> bytes:
    message = {"market_ticker": "A", "market_id": "x", "yes_dollars_fp": [["0.4700", "3.00"]]}
    message |= {"padding": "x" * padding} if padding else {}
    return json.dumps({"type": "orderbook_snapshot", "sid": 1, "seq": seq, "msg": message}).encode()


def subscribed() -> bytes:
    return b'{"type":"subscribed","id":1,"msg":{"channel":"orderbook_delta","sid":1}}'


# --- slow, dead, gone


def test_a_frame_that_trickles_in_stops_the_ticks_until_it_is_whole(memory_log) -> None:
    """What waits behind it is older than any tick would say."""
    whole = snapshot(1, 2_000)
    marks: list[int] = []

    async def handler(conversation: ServerConnection) -> None:
        wire = header(len(whole)) + whole
        for first in range(0, len(wire), 100):
            conversation.transport.write(wire[first : first + 100])
            await asyncio.sleep(0.08)
        await conversation.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await asyncio.sleep(0.3)
        begun = memory_log.kinds().count("FeedTick")
        await asyncio.sleep(1.0)
        assert frames(memory_log) == []
        marks.append(memory_log.kinds().count("FeedTick") - begun)
        await until(lambda: bool(frames(memory_log)))
        done = memory_log.kinds().count("FeedTick")
        await until(lambda: memory_log.kinds().count("FeedTick") >= done + 2)

    asyncio.run(converse(handler, memory_log, check))
    assert marks == [0]
    assert [one.payload for one in frames(memory_log)] == [whole]


def test_bytes_that_trickle_keep_a_feed_alive(memory_log) -> None:
    async def handler(conversation: ServerConnection) -> None:
        conversation.transport.write(header(1_000))
        for _ in range(20):
            conversation.transport.write(b"x" * 50)
            await asyncio.sleep(0.1)
        await conversation.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: bool(frames(memory_log)))

    end = asyncio.run(converse(handler, memory_log, check, silence_s_max=1.0))
    assert end.reason == "the test is over"


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_a_line_that_is_dead_but_not_closed_ends_the_feed_after_its_silence(memory_log, venue: str) -> None:
    """Half-open: the other end takes nothing and says nothing, no pong either."""

    async def handler(conversation: ServerConnection) -> None:
        conversation.transport.pause_reading()
        await asyncio.sleep(2)

    async def scenario() -> FeedEnd:
        running = asyncio.ensure_future(
            converse(handler, memory_log, until_end, silence_s_max=1.0, venue=venue),
        )
        return await running

    end = asyncio.run(scenario())
    assert end.reason == "no frame and no pong for 1 s"
    ticks = [record for record in memory_log.records() if type(record).__name__ == "FeedTick"]
    assert len(ticks) <= 5
    assert memory_log.kinds()[-1] == "Closed"


def test_a_reset_without_a_word_ends_the_feed_at_once(memory_log) -> None:
    async def handler(conversation: ServerConnection) -> None:
        await conversation.send(subscribed().decode())
        number = conversation.transport.get_extra_info("socket")
        number.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conversation.transport.abort()

    end = asyncio.run(converse(handler, memory_log, until_end))
    assert end.reason.startswith("the connection was closed, code 1006")


def test_a_close_frame_without_a_code_ends_the_feed(memory_log) -> None:
    async def handler(conversation: ServerConnection) -> None:
        conversation.transport.write(b"\x88\x00")
        await conversation.wait_closed()

    end = asyncio.run(converse(handler, memory_log, until_end))
    assert end.reason == "the connection was closed, code 1005"


# --- refusals


@pytest.mark.parametrize(
    ("answer", "status", "wait_s"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy", 429, 7.0),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown", 503, 0.0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, 0.0),
    ],
    ids=["connection-limit", "maintenance", "no-websocket"],
)
def test_a_refused_upgrade_says_status_words_and_pause(answer: bytes, status: int, wait_s: float) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def scenario() -> HandshakeRefused:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        async with server:
            with pytest.raises(HandshakeRefused) as refusal:
                await open_connection(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, SystemClock())
        return refusal.value

    refused = asyncio.run(scenario())
    assert (refused.status, refused.wait_s) == (status, wait_s)


@pytest.mark.parametrize(
    ("code", "words", "end"),
    [
        (26, "Subscription market limit exceeded", {"fewer": True}),
        (10, "Channel error", {}),
        (25, "Subscription buffer overflow", {}),
        (9, "Authentication required", {"refused": True}),
    ],
)
def test_a_refused_subscription_ends_the_feed_and_says_why(memory_log, code: int, words: str, end: dict) -> None:
    async def handler(conversation: ServerConnection) -> None:
        asked = json.loads(await conversation.recv())
        await conversation.send(json.dumps({"type": "error", "id": asked["id"], "msg": {"code": code, "msg": words}}))
        await conversation.wait_closed()

    found = asyncio.run(converse(handler, memory_log, until_end))
    assert found.reason == f"error {code}: {words}"
    assert (found.fewer, found.refused) == (end.get("fewer", False), end.get("refused", False))
    # The refusal itself stands on the log.
    assert [json.loads(one.payload)["type"] for one in frames(memory_log)] == ["error"]


def test_a_venue_that_is_too_busy_is_asked_again_and_then_left(memory_log, monkeypatch) -> None:
    monkeypatch.setattr("ingest.kalshi.AGAIN_NS", 50_000_000)
    asked: list[float] = []

    async def handler(conversation: ServerConnection) -> None:
        async for message in conversation:
            asked.append(asyncio.get_running_loop().time())
            busy = {"type": "error", "id": json.loads(message)["id"], "msg": {"code": 27, "msg": "Too many requests"}}
            await conversation.send(json.dumps(busy))

    end = asyncio.run(converse(handler, memory_log, until_end))
    assert end.reason == "error 27: Too many requests, 5 times for one command"
    assert len(asked) == 5
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[-1] > pauses[0]


def test_a_subscription_that_nobody_answers_ends_the_feed(memory_log, monkeypatch) -> None:
    monkeypatch.setattr("ingest.kalshi.ANSWER_NS_MAX", 500_000_000)

    async def handler(conversation: ServerConnection) -> None:
        await conversation.wait_closed()

    end = asyncio.run(converse(handler, memory_log, until_end))
    assert end.reason.startswith("no answer to the subscription within")


# --- large frames


def new_task() -> FrameTask:
    """The normaliser of a log on which epoch 0 lists one instrument."""
    tables = MemoryTables()
    tables.learn_feed(
        0, Opened(feed="kalshi-0", venue="kalshi", worker="w", slot=0, instruments=["kalshi:A"], recv_ts_ns=1)
    )
    tables.learn_instrument(binary("kalshi:A"))
    return FrameTask(TaskContext(tables=tables))


def normalised(task: FrameTask, items: list[Input]) -> list[BookSnapshot]:
    outputs = [output for item in items for output in task.handle(item)]
    return [output.record for output in outputs if isinstance(output.record, BookSnapshot)]


HUGE = snapshot(1, 40 * MIB)
"""A true snapshot in a frame of 40 MiB, filled up by a field nobody knows."""


def two_snapshots(socket_: ServerConnection) -> None:
    socket_.transport.write(header(len(subscribed())) + subscribed())
    socket_.transport.write(header(len(HUGE)))
    socket_.transport.write(HUGE)
    after = snapshot(2)
    socket_.transport.write(header(len(after)) + after)


def test_a_frame_of_40_mib_arrives_whole_under_one_number_and_normalize_puts_it_together(
    memory_log, record_property
) -> None:
    async def handler(conversation: ServerConnection) -> None:
        two_snapshots(conversation)
        await conversation.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        clock = SystemClock()
        began_s = clock.monotonic_s()
        whole = snapshot(2)
        await until(lambda: feed.over or (bool(frames(memory_log)) and frames(memory_log)[-1].payload == whole), 60)
        assert not feed.over, feed.ended.result().reason
        record_property("seconds", clock.monotonic_s() - began_s)
        # Nothing of it is kept once it is written.
        assert len(connection._rest) == 0

    tracemalloc.start()
    try:
        end = asyncio.run(converse(handler, memory_log, check))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    record_property("peak_mib", peak // MIB)
    # Read, cut and chunked: three times the frame, not more with each read.
    assert peak < 4 * len(HUGE)
    assert end.reason == "the test is over"
    first, *chunks, last = frames(memory_log)
    assert first.payload == subscribed()
    assert len(chunks) == -(-len(HUGE) // CHUNK_BYTES)
    assert {(one.frame_no, one.chunks) for one in chunks} == {(chunks[0].frame_no, len(chunks))}
    assert [one.chunk for one in chunks] == list(range(len(chunks)))
    assert all(len(one.payload) <= CHUNK_BYTES for one in chunks)
    assert b"".join(one.payload for one in chunks) == HUGE
    assert last.frame_no > chunks[0].frame_no
    items = [Input(record, RAW_FRAME.noun, 0, offset, "kalshi-0") for offset, record in enumerate(memory_log.records())]
    books = normalised(new_task(), items)
    assert [(one.instrument, one.frame_no) for one in books] == [
        ("kalshi:A", chunks[0].frame_no),
        ("kalshi:A", last.frame_no),
    ]
    assert books[0].bid_prices == books[1].bid_prices == [4_700]


@pytest.mark.mock
def test_a_frame_of_40_mib_goes_through_kafka(record_property) -> None:
    async def handler(conversation: ServerConnection) -> None:
        two_snapshots(conversation)
        await conversation.wait_closed()

    async def scenario(cluster: MockCluster) -> list[BookSnapshot]:
        clock, codec = SystemClock(), Codec(FileRegistry())
        producer = EdgeProducer(
            bootstrap=cluster.bootstrap, codec=codec, clock=clock, run="test-huge", stage="ingest", partitions=1
        )
        reader = EdgeReader(bootstrap=cluster.bootstrap, codec=codec, run="test-huge", topic=RAW_FRAME, group="g")
        books: list[BookSnapshot] = []
        task = new_task()

        async def read() -> None:
            async for batch in reader.batches():
                books.extend(normalised(task, batch))
                if len(books) == 2:
                    return

        async def check(feed: Feed, connection: Connection) -> None:
            began_s = clock.monotonic_s()
            await asyncio.wait_for(read(), 60)
            record_property("seconds", clock.monotonic_s() - began_s)
            assert not feed.over, feed.ended.result().reason

        await converse(handler, producer, check)
        await reader.close()
        await producer.close()
        return books

    with MockCluster() as cluster:
        cluster.create_run("test-huge", 1)
        books = asyncio.run(asyncio.wait_for(scenario(cluster), 100))
    assert [one.bid_prices for one in books] == [[4_700], [4_700]]


@pytest.mark.parametrize("pieces", [1, 3], ids=["whole", "fragments"])
def test_a_frame_of_65_mib_ends_the_feed_and_says_so(memory_log, pieces: int) -> None:
    size = 65 * MIB

    async def handler(conversation: ServerConnection) -> None:
        with contextlib.suppress(ConnectionError):
            if pieces == 1:
                conversation.transport.write(header(size))
                conversation.transport.write(bytes(size))
            else:
                part = bytes(size // pieces + 1)
                for number in range(pieces):
                    head = (0x01 if number == 0 else 0x00) | (0x80 if number == pieces - 1 else 0)
                    conversation.transport.write(header(len(part), head))
                    conversation.transport.write(part)
            await conversation.wait_closed()

    end = asyncio.run(converse(handler, memory_log, until_end))
    assert f"above the limit of {FRAME_BYTES_MAX}" in end.reason
    assert frames(memory_log) == []
    assert memory_log.kinds()[-1] == "Closed"
