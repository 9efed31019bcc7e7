"""The wire: one WebSocket, read as fast as it comes.

`websockets` does the handshake, control frames, fragments, closing and TLS. Whole data frames, which are nearly all there
is, are cut out of the stream here: the library's own way through a generator and a queue costs 4 us a frame, this 0.7
(benchmarks/frames.py). There is no queue between socket and log: one read is handled to its end before the next,
and when the log has no room the socket is not read.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, PayloadTooBig, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State

from core.domain.errors import CrossbookError, Unavailable
from core.runtime.clock import Clock
from ingest.feed import FRAME_BYTES_MAX, Feed, too_large
from ingest.host import named_pause_s
from ingest.pulse import TICK_MS

OPEN_S_MAX = 10.0
CLOSE_S_MAX = 1.0
ROOM_S = 0.005
"""Pause before a full log is tried again."""
UNSENT_BYTES_MAX = 1_048_576
"""A venue that does not read this much of what was said is gone."""
EARLY_BYTES_MAX = 1_048_576
"""Read before the feed has its epoch; nothing was asked for then, so more is left in the socket."""

FRAGMENT_BYTES = 65_536
"""What is taken to be missing of a message in fragments, whose length nobody states."""

_BODY_CHARS = 300
_TEXT_HEAD = 0x81
_BINARY_HEAD = 0x82
_HEAD_END = b"\r\n\r\n"
_SWITCHING = b" 101"
_HEAD_BYTES_MAX = 65_536
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class HandshakeRefused(CrossbookError):
    """The venue answered the upgrade with something else than yes."""

    def __init__(self, status: int, said: str, wait_s: float = 0.0) -> None:
        """`wait_s`: the pause the venue named."""
        super().__init__(f"HTTP {status}: {said}")
        self.status = status
        self.said = said
        self.wait_s = wait_s


class Connection(ClientConnection):
    """An open socket that hands its frames to one feed."""

    def __init__(self, protocol: ClientProtocol, clock: Clock, **options: object) -> None:
        super().__init__(protocol, **options)  # type: ignore[arg-type] # passed through as the library gives them
        self._clock = clock
        self._feed: Feed | None = None
        self._head = bytearray()
        self._is_upgraded = False
        self._rest = bytearray()
        self._needed = 0
        self._parts: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._room_timer: asyncio.TimerHandle | None = None
        self._deaf = False

    def begin(self, feed: Feed) -> None:
        """Hand everything to `feed` from here on."""
        self._feed = feed
        feed.begin(self)
        self._read(feed, b"")
        self.transport.resume_reading()
        self._timer = self.loop.call_later(TICK_MS / 1000, self._strike)
        if self.protocol.state is State.CLOSED:
            feed.end(self._close_words())

    # --- what the feed asks for

    def send(self, payload: bytes) -> None:  # type: ignore[override] # a feed does not wait
        """Send one text message."""
        if self.protocol.state is not State.OPEN:
            return
        self.protocol.send_text(payload)
        self.send_data()
        if self._feed is not None and self.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._feed.end(f"the venue does not read: {UNSENT_BYTES_MAX} bytes are unsent")

    def ping(self) -> None:  # type: ignore[override] # a feed does not wait
        """Send a protocol ping."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_ping(b"crossbook")
            self.send_data()

    def pause(self) -> None:
        """Read no further until the feed has flushed what waits for room."""
        if self._room_timer is None and not self._deaf:
            self.transport.pause_reading()
            self._room_timer = self.loop.call_later(ROOM_S, self._look_for_room)

    def unread(self) -> int:
        """Return how many bytes lie in the socket, or are to come until the frame under way is whole, if that is more.

        A frame that trickles in holds back all that is behind it: a feed must not pass for fresh meanwhile.
        """
        if self._deaf or self.transport.is_closing():
            return 0
        number = self.transport.get_extra_info("socket").fileno()
        waiting = int(struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, b"\0\0\0\0"))[0])
        if self._parts:
            return max(waiting, FRAGMENT_BYTES)
        return max(waiting, self._needed - len(self._rest), 1) if self._rest else waiting

    def close(self) -> None:  # type: ignore[override] # a feed does not wait
        """Say goodbye and hear nothing more."""
        if self._deaf:
            return
        self._deaf = True
        for timer in (self._timer, self._room_timer):
            if timer is not None:
                timer.cancel()
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(1000)
            self.send_data()
        self.loop.call_later(CLOSE_S_MAX, self.transport.abort)

    # --- what the event loop calls

    # hot: 100k frames/s/worker (benchmarks/frames.py)
    def data_received(self, data: bytes) -> None:
        """Cut whole data frames out of what was read; everything else is the library's business."""
        if self._deaf:
            return
        if not self._is_upgraded:
            data = self._take_head(data)
            if not data:
                return
        if self._feed is not None and self.protocol.state is State.OPEN:
            self._read(self._feed, data)
        elif self._feed is not None:
            super().data_received(data)
        else:
            self._rest += data
            if len(self._rest) > EARLY_BYTES_MAX:
                self.transport.pause_reading()

    def _take_head(self, data: bytes) -> bytes:
        """Give the answer to the upgrade to the library, nothing behind it: its parser would begin with the frames."""
        before = len(self._head)
        if before < _HEAD_BYTES_MAX:
            self._head += data
        at = self._head.find(_HEAD_END)
        if at < 0 or _SWITCHING not in self._head[:16]:
            super().data_received(data)
            return b""
        end = at + len(_HEAD_END) - before
        self._is_upgraded = True
        self._head.clear()
        super().data_received(data[:end])
        return data[end:]

    def _read(self, feed: Feed, data: bytes) -> None:
        now_ns = self._clock.now_ns()
        if not feed.wakes(now_ns):
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                feed.chunk_read(len(data))
                return
            chunk = bytes(self._rest)
            self._rest.clear()
        else:
            chunk = data
        at = self._cut(feed, chunk, now_ns)
        if at < len(chunk) and not self._deaf:
            self._rest += memoryview(chunk)[at:]
        feed.chunk_read(len(data))

    def _cut(self, feed: Feed, chunk: bytes, now_ns: int) -> int:
        at, end = 0, len(chunk)
        received = feed.received
        self._needed = 0
        while end - at >= 2:
            head, size = chunk[at], chunk[at + 1]
            start = at + 2
            if size == 126:
                start = at + 4
                size = int.from_bytes(chunk[at + 2 : start], "big") if end >= start else -1
            elif size == 127:
                start = at + 10
                size = int.from_bytes(chunk[at + 2 : start], "big") if end >= start else -1
            elif size > 127:
                # A server must not mask: the library says so to it and fails the connection.
                super().data_received(chunk[at:])
                return end
            if size < 0:
                break
            stop = start + size
            if size > FRAME_BYTES_MAX:
                # The library tells the venue why it is left.
                super().data_received(chunk[at:])
                feed.end(too_large(size))
                return end
            if stop > end:
                self._needed = stop - at
                break
            if head in (_TEXT_HEAD, _BINARY_HEAD):
                received(chunk[start:stop], now_ns)
            else:
                super().data_received(chunk[at:stop])
            at = stop
            if self._deaf:
                return end
        return at

    def process_event(self, event: object) -> None:
        """Take the frames that went through the library: fragments."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)  # type: ignore[arg-type] # the library's own union
            return
        self._parts.append(bytes(event.data))
        if not event.fin:
            return
        payload = b"".join(self._parts)
        self._parts.clear()
        if self._feed is not None and not self._deaf:
            self._feed.received(payload, self._clock.now_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        """End the feed."""
        super().connection_lost(exc)
        if self._feed is not None:
            self._feed.end(f"{self._close_words()}{f' ({exc})' if exc else ''}")

    def _strike(self) -> None:
        if self._feed is not None and not self._deaf:
            self._timer = self.loop.call_later(TICK_MS / 1000, self._strike)
            self._feed.strike()

    def _look_for_room(self) -> None:
        self._room_timer = None
        if self._feed is None or self._deaf:
            return
        if self._feed.flush():
            self.transport.resume_reading()
        else:
            self._room_timer = self.loop.call_later(ROOM_S, self._look_for_room)

    def _close_words(self) -> str:
        broken = self.protocol.parser_exc
        if isinstance(broken, PayloadTooBig):
            return f"a message in fragments above the limit of {FRAME_BYTES_MAX}"
        if isinstance(broken, WebSocketException):
            return f"the venue broke the protocol: {broken}"
        close = self.protocol.close_rcvd
        code, reason = (close.code, close.reason) if close is not None else (self.protocol.close_code, "")
        return f"the connection was closed, code {code}{f': {reason}' if reason else ''}"


async def open_connection(url: str, headers: Mapping[str, str], clock: Clock) -> Connection:
    """Open a WebSocket that waits for its feed.

    Raises:
        HandshakeRefused: the venue answered with another status than 101.
        Unavailable: nobody answers, or not in time.
    """

    def new_connection(protocol: ClientProtocol, **options: object) -> Connection:
        return Connection(protocol, clock, **options)

    try:
        connection = await connect(
            url,
            additional_headers=dict(headers),
            compression=None,
            # The environment is not looked at for proxies.
            proxy=None,
            open_timeout=OPEN_S_MAX,
            close_timeout=CLOSE_S_MAX,
            ping_interval=None,
            max_size=FRAME_BYTES_MAX,
            create_connection=new_connection,  # type: ignore[arg-type] # any callable will do
        )
    except InvalidStatus as e:
        wait_s = named_pause_s(e.response.headers.get("Retry-After"))
        raise HandshakeRefused(e.response.status_code, _words(e.response), wait_s) from e
    except (OSError, TimeoutError, InvalidMessage, WebSocketException, EOFError) as e:
        raise Unavailable(f"{url} does not answer: {type(e).__name__} {e}") from e
    if not isinstance(connection, Connection):
        raise Unavailable(f"{url}: the library opened a {type(connection).__name__}")
    return connection


def _words(response: Response) -> str:
    body = bytes(response.body or b"")[:_BODY_CHARS].decode(errors="replace")
    return body or response.reason_phrase
