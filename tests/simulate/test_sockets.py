"""Frames as they leave a simulated venue, and what the truth log keeps of them."""

import asyncio
import hashlib
import json

import pytest
import websockets
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from simulate.history import Stated
from simulate.settings import TruthFrames
from simulate.sockets import Connection, Frame
from simulate.truth import TruthLog


class Transport:
    """Keeps what is written and says how much of it waits."""

    def __init__(self, waiting: int = 0) -> None:
        self.written = b""
        self.waiting = waiting
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Request:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport


def send(payloads: list[bytes], transport: Transport, truth: TruthLog) -> Connection:
    async def play() -> Connection:
        connection = Connection("kalshi", 1, None, truth, bytes_max=1_000)
        connection.attach(Request(transport))
        for payload in payloads:
            connection.send(Frame("delta", "M", 5, payload, (Stated("M", 7),)))
        assert transport.written == b""
        await asyncio.sleep(0)
        return connection

    return asyncio.run(play())


def frames(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Return the frames of a byte stream as another library reads them."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while True:
        parser = WireFrame.parse(reader.read_exact, mask=False, max_size=None)
        try:
            next(parser)
        except StopIteration as done:
            found.append((done.value.opcode, bytes(done.value.data)))
        except EOFError:
            return found


@pytest.mark.parametrize("mode", list(TruthFrames))
def test_frames_of_all_lengths_leave_in_one_write_and_are_logged(tmp_path, mode):
    payloads = [b"x", b"y" * 125, b"z" * 126, b"a" * 65_535, b"b" * 65_536]
    transport, truth = Transport(), TruthLog(tmp_path, mode)
    connection = send(payloads, transport, truth)
    truth.close()
    assert frames(transport.written) == [(Opcode.TEXT, payload) for payload in payloads]
    assert (connection.ordinal, connection.kinds) == (5, {"delta": 5})
    assert truth.frames_sent == {"kalshi": 5}
    if mode is TruthFrames.NONE:
        assert list(tmp_path.iterdir()) == []
        return
    kept = [json.loads(line) for line in (tmp_path / "frames-kalshi.jsonl").read_text().splitlines()]
    assert [line[:5] for line in kept] == [[1, number, "delta", "M", 5] for number in range(1, 6)]
    wanted = [p.decode() if mode is TruthFrames.FULL else hashlib.sha1(p).hexdigest() for p in payloads]
    assert [line[5] for line in kept] == wanted
    assert [line[6:] for line in kept] == [[[7], None]] * 5


def test_slow_consumer_is_dropped_and_sent_nothing_more(tmp_path):
    transport, truth = Transport(waiting=1_001), TruthLog(tmp_path, TruthFrames.DIGEST)
    connection = send([b"x"], transport, truth)
    assert transport.aborted
    connection.send(Frame("delta", "M", 6, b"later"))
    assert connection.ordinal == 1
    truth.close()
    assert json.loads((tmp_path / "connections.jsonl").read_text())["event"] == "slow_consumer"


def test_cut_connection_ends_without_a_good_bye(run):
    async def scenario(venues):
        async with venues.polymarket.market(["123"]) as stream:
            await stream.next()
            assert (await venues.sim("/sim/drop", {"venue": "polymarket"})) == {"dropped": [1]}
            with pytest.raises(websockets.ConnectionClosedError):
                await stream.next()

    run(scenario)
