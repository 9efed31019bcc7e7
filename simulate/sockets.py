"""A WebSocket connection as the simulators send on it: numbered frames, gathered and written once per loop turn.

Frames are built here and written straight to the transport (servers do not mask), which costs a tenth of one
`send_str` coroutine per message; reading, pings and the closing handshake stay with aiohttp.
"""

import asyncio
import time
from typing import NamedTuple, cast

from aiohttp import web

from simulate.faults import Faults
from simulate.history import Stated
from simulate.truth import TruthLog


class Frame(NamedTuple):
    """One text frame: what the truth log calls it, what it says of books, and its place in a numbered sequence."""

    kind: str
    key: str
    ts_ms: int
    payload: bytes
    stated: tuple[Stated, ...] = ()
    sid: int = 0
    seq: int = 0


class Connection:
    """One client's socket."""

    def __init__(
        self, venue: str, number: int, socket: web.WebSocketResponse, truth: TruthLog, faults: Faults, bytes_max: int
    ) -> None:
        self.venue = venue
        self.number = number
        self.socket = socket
        self.ordinal = 0
        self.kinds: dict[str, int] = {}
        self.opened_ns = time.time_ns()
        self.closed_ns = 0
        self.dropped_frames = 0
        self._truth = truth
        self._faults = faults
        self._bytes_max = bytes_max
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def attach(self, request: web.Request) -> None:
        """Take the transport of a prepared WebSocket response."""
        self._transport = cast("asyncio.Transport", request.transport)

    # hot: once for each frame of each connection
    def send(self, frame: Frame) -> None:
        """Queue one text frame; frames queued in one turn of the loop leave in one write."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.ordinal += 1
        kind, payload = frame.kind, frame.payload
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self._truth.frame(self.venue, self.number, self.ordinal, kind, frame.key, frame.ts_ms, payload, frame.stated)
        if not self._out:
            self._loop.call_soon(self._flush)
        size = len(payload)
        if size < 126:
            header = bytes((0x81, size))
        elif size < 65_536:
            header = b"\x81\x7e" + size.to_bytes(2, "big")
        else:
            header = b"\x81\x7f" + size.to_bytes(8, "big")
        self._out.append(header)
        self._out.append(payload)

    def detach(self) -> None:
        """Send nothing more."""
        self._transport = None
        self._out.clear()
        self.closed_ns = time.time_ns()

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or not self._out:
            return
        transport.write(b"".join(self._out))
        self._out.clear()
        if transport.get_write_buffer_size() > self._bytes_max:
            self._truth.note("connections", event="slow_consumer", venue=self.venue, connection=self.number)
            self.abort()
