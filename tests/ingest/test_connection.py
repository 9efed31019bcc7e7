"""The wire, against a real WebSocket server on loopback."""

import asyncio
import http
import struct
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from core.runtime.flow import BY_KEY
from ingest.connection import Connection, HandshakeRefused, open_connection
from ingest.conversation import NOTHING, PUBLISH_ONLY
from ingest.feed import FRAME_BYTES_MAX, Feed, FeedEnd, FeedSpec
from schemas.raw import Frame

pytestmark = pytest.mark.usefixtures("starved")

Handler = Callable[[ServerConnection], Awaitable[None]]


class PublishAll:
    """A conversation that says nothing and publishes everything."""

    missing = 0
    odd = 0

    def opened(self, now_ns: int):
        return NOTHING

    def received(self, frame: bytes, now_ns: int):
        return PUBLISH_ONLY

    def beat(self, now_ns: int):
        return NOTHING

    def resync(self, requests, now_ns: int):
        return NOTHING


async def listen(handler: Handler, log, check: Callable[[Feed, Connection], Awaitable[None]]) -> FeedEnd:
    """Serve one connection with `handler`, feed it into `log`, and return how the feed ended."""
    clock = SystemClock()
    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await open_connection(f"ws://127.0.0.1:{port}/", {}, clock)
        feed = Feed(FeedSpec("kalshi", 0, 0, "tester", ("kalshi:A",)), PublishAll(), log, clock)
        await feed.open()
        connection.begin(feed)
        await check(feed, connection)
        feed.end("the test is over")
        return await asyncio.wait_for(feed.ended, 5)


def payloads(log) -> list[bytes]:
    return [record.payload for record in log.records() if isinstance(record, Frame)]


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def text_frame(payload: bytes, head: int = 0x81) -> bytes:
    if len(payload) < 126:
        return bytes((head, len(payload))) + payload
    if len(payload) < 65_536:
        return bytes((head, 126)) + struct.pack("!H", len(payload)) + payload
    return bytes((head, 127)) + struct.pack("!Q", len(payload)) + payload


SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000]


@pytest.mark.parametrize("piece", [1_000_000, 4_093, 7])
def test_frames_of_every_length_come_out_whole_wherever_the_stream_is_cut(memory_log, piece: int) -> None:
    sizes = SIZES if piece > 100 else SIZES[:5]
    sent = [bytes((n,)) * size for n, size in enumerate(sizes)]
    stream = b"".join(text_frame(payload, 0x81 if n % 2 else 0x82) for n, payload in enumerate(sent))

    async def handler(socket: ServerConnection) -> None:
        for first in range(0, len(stream), piece):
            socket.transport.write(stream[first : first + piece])
            await asyncio.sleep(0)
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: len(payloads(memory_log)) == len(sent))

    asyncio.run(listen(handler, memory_log, check))
    assert payloads(memory_log) == sent


def test_fragments_are_put_together_between_whole_frames(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.send("before")
        await socket.send(["one ", "message ", "in four ", "parts"])
        await socket.send("after")
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: len(payloads(memory_log)) == 3)

    asyncio.run(listen(handler, memory_log, check))
    assert payloads(memory_log) == [b"before", b"one message in four parts", b"after"]


def test_pings_of_the_venue_are_answered_and_ours_are_heard(memory_log) -> None:
    answered = []

    async def handler(socket: ServerConnection) -> None:
        pong = await socket.ping(b"heartbeat")
        await pong
        answered.append(True)
        await socket.send("go on")
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: bool(payloads(memory_log)))
        before = feed._heard_ns
        connection.ping()
        await until(lambda: feed._heard_ns > before)

    asyncio.run(listen(handler, memory_log, check))
    assert answered == [True]


def test_what_we_say_arrives_as_text(memory_log) -> None:
    heard: list[object] = []

    async def handler(socket: ServerConnection) -> None:
        heard.append(await socket.recv())
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        connection.send(b'{"cmd":"subscribe"}')
        await until(lambda: bool(heard))

    asyncio.run(listen(handler, memory_log, check))
    assert heard == ['{"cmd":"subscribe"}']


def test_a_close_by_the_venue_ends_the_feed_with_its_words(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.send("last words")
        await socket.close(1001, "maintenance")

    async def check(feed: Feed, connection: Connection) -> None:
        await asyncio.wait_for(asyncio.shield(feed.ended), 5)

    end = asyncio.run(listen(handler, memory_log, check))
    assert end.reason == "the connection was closed, code 1001: maintenance"
    assert memory_log.kinds()[-1] == "Closed"
    assert payloads(memory_log) == [b"last words"]


def test_a_connection_that_is_cut_ends_the_feed(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        socket.transport.abort()

    async def check(feed: Feed, connection: Connection) -> None:
        await asyncio.wait_for(asyncio.shield(feed.ended), 5)

    assert "closed, code 1006" in asyncio.run(listen(handler, memory_log, check)).reason


@pytest.mark.parametrize(
    "rude",
    [
        b"\x81\x85\x01\x02\x03\x04hello",  # masked
        b"\x81\x7f" + struct.pack("!Q", FRAME_BYTES_MAX + 1),  # above the limit, by its header alone
        b"\xc1\x05hello",  # reserved bit, no extension agreed
        b"\x80\x05hello",  # a continuation of nothing
    ],
    ids=["masked", "too-large", "reserved-bit", "lone-continuation"],
)
def test_a_breach_of_the_protocol_ends_the_feed_and_is_not_published(memory_log, rude: bytes) -> None:
    async def handler(socket: ServerConnection) -> None:
        socket.transport.write(text_frame(b"fine") + rude)
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await asyncio.wait_for(asyncio.shield(feed.ended), 5)

    asyncio.run(listen(handler, memory_log, check))
    assert payloads(memory_log) == [b"fine"]


def test_a_refused_upgrade_repeats_the_venues_words(memory_log) -> None:
    words = b'{"error":{"code":"header_timestamp_expired","message":"header timestamp expired"}}'

    def refuse(connection: ServerConnection, request: object):
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, words.decode())

    async def scenario() -> None:
        async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, process_request=refuse) as server:
            port = server.sockets[0].getsockname()[1]
            await open_connection(f"ws://127.0.0.1:{port}/", {}, SystemClock())

    with pytest.raises(HandshakeRefused, match="header timestamp expired") as refusal:
        asyncio.run(scenario())
    assert refusal.value.status == 401


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(open_connection("ws://127.0.0.1:1/", {}, SystemClock()))


def test_a_full_log_stops_the_reading_and_nothing_is_lost(memory_log) -> None:
    """Back-pressure reaches the venue's socket: far more is sent than fits into buffers on the way."""
    sent = [b"%07d" % number + b"x" * 993 for number in range(30_000)]
    taken = 0

    def stream(topic, key, record, partition=BY_KEY) -> None:
        nonlocal taken
        taken += 1
        if taken % 1_000 == 0:
            memory_log.full = True
        type(memory_log).send(memory_log, topic, key, record, partition)

    memory_log.stream = stream

    async def handler(socket: ServerConnection) -> None:
        for payload in sent:
            await socket.send(payload)
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        async with asyncio.timeout(30):
            while taken < len(sent) or len(payloads(memory_log)) < len(sent):
                await asyncio.sleep(0.01)
                memory_log.full = False

    asyncio.run(listen(handler, memory_log, check))
    assert payloads(memory_log) == sent
    frames = [record for record in memory_log.records() if record is not None]
    assert [record.frame_no for record in frames] == list(range(1, len(frames) + 1))


def test_bytes_that_lie_in_the_socket_are_counted(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(b"x" * 5_000)
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        assert connection.unread() == 0
        connection.transport.pause_reading()
        connection.send(b"go")
        await until(lambda: connection.unread() == 5_004)
        connection.transport.resume_reading()
        await until(lambda: connection.unread() == 0)

    asyncio.run(listen(handler, memory_log, check))


def test_frames_that_come_with_the_handshake_are_not_lost(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        socket.transport.write(text_frame(b"early"))
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: payloads(memory_log) == [b"early"])

    asyncio.run(listen(handler, memory_log, check))


def test_a_live_connection_ticks_four_times_a_second(memory_log) -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async def check(feed: Feed, connection: Connection) -> None:
        await until(lambda: memory_log.kinds().count("FeedTick") >= 3)

    asyncio.run(listen(handler, memory_log, check))
