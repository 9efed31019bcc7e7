"""A WebSocket connection as the simulators send on it: numbered frames, gathered and written once per loop turn.

Frames are built here and written straight to the transport (servers do not mask), which costs a tenth of one
`send_str` coroutine per message. Pings are answered here too, so that a fault can stop or delay everything the server
writes; reading and the closing handshake stay with aiohttp.

Faults stand in the way of frames (`Interference`), of bytes (`Pace`) or of the whole connection (`mute`). What a client
who believes every frame would then hold is followed by `Reader` (`simulate/reader.py`).
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast

from aiohttp import WSMessage, WSMsgType, web

from simulate.history import Stated
from simulate.truth import Mark, TruthLog

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
KEEP_ALIVES = frozenset({"PONG"})
"""Kinds of text frames that answer keep-alives; the truth log has them, faults on data leave them alone."""


class Frame(NamedTuple):
    """One text frame: what the truth log calls it, what it says of books, and its place in a numbered sequence."""

    kind: str
    key: str
    ts_ms: int
    payload: bytes
    stated: tuple[Stated, ...] = ()
    sid: int = 0
    seq: int = 0


class Interference(Protocol):
    """Something that stands between the venue and a connection's bytes."""

    def take(self, connection: "Connection", frame: Frame) -> bool:
        """Keep a frame (to drop it, or to pass it on later); False lets it through."""
        ...

    def gone(self, connection: "Connection") -> None:
        """Learn that the connection ended."""
        ...


class Witness(Protocol):
    """Is shown every frame that leaves, with its ordinal and what marks it."""

    def see(self, connection: "Connection", frame: Frame, ordinal: int, mark: Mark | None) -> None: ...


class Pace(Protocol):
    """Takes over the writing of bytes."""

    @property
    def mark(self) -> Mark:
        """Return what marks the frames it writes."""
        ...

    def write(self, connection: "Connection", data: bytes) -> None: ...

    def waiting(self) -> int:
        """Return how many bytes wait."""
        ...


class Connection:
    """One client's socket."""

    def __init__(
        self,
        venue: str,
        number: int,
        socket: web.WebSocketResponse,
        truth: TruthLog,
        bytes_max: int,
        witness: Witness | None = None,
    ) -> None:
        self.venue = venue
        self.number = number
        self.socket = socket
        self.ordinal = 0
        self.kinds: dict[str, int] = {}
        self.opened_ns = time.time_ns()
        self.closed_ns = 0
        self.dropped_frames = 0
        self.interferences: list[Interference] = []
        self.pace: Pace | None = None
        self._truth = truth
        self._witness = witness
        self._bytes_max = bytes_max
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._mark: Mark | None = None
        self._muted: Mark | None = None

    def attach(self, request: web.Request) -> None:
        """Take the transport of a prepared WebSocket response."""
        self._transport = cast("asyncio.Transport", request.transport)

    @property
    def is_open(self) -> bool:
        """Tell whether something may still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_muted(self) -> bool:
        """Tell whether a fault made it read and write nothing."""
        return self._muted is not None

    # hot: once for each frame of each connection
    def send(self, frame: Frame) -> None:
        """Queue one text frame; frames queued in one turn of the loop leave in one write."""
        if self.interferences:
            self._pass(frame, 0)
        else:
            self.emit(frame)

    def resume(self, interference: Interference, frame: Frame, mark: Mark | None = None) -> None:
        """Send what an interference kept: through those that came after it."""
        with self.marked(mark):
            place = self.interferences.index(interference) + 1 if interference in self.interferences else 0
            self._pass(frame, place)

    def remove(self, interference: Interference) -> None:
        """Take an interference away."""
        with contextlib.suppress(ValueError):
            self.interferences.remove(interference)

    @contextmanager
    def marked(self, mark: Mark | None) -> Iterator[None]:
        """Mark what is sent meanwhile as a fault's doing."""
        before, self._mark = self._mark, mark or self._mark
        try:
            yield
        finally:
            self._mark = before

    # hot: once for each frame of each connection
    def emit(self, frame: Frame) -> None:
        """Queue one text frame past all interferences."""
        if not self.is_open:
            return
        mark = self._mark or (self.pace.mark if self.pace is not None else None)
        if self._muted is not None:
            self.drop(frame, self._muted)
            return
        self.ordinal += 1
        kind = frame.kind
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self._truth.frame(
            self.venue, self.number, self.ordinal, kind, frame.key, frame.ts_ms, frame.payload, frame.stated, mark
        )
        if self._witness is not None:
            self._witness.see(self, frame, self.ordinal, mark)
        self._queue(TEXT, frame.payload)

    def drop(self, frame: Frame, mark: Mark) -> None:
        """Note a frame that is never sent."""
        self.dropped_frames += 1
        self._truth.frame(
            self.venue, self.number, 0, frame.kind, frame.key, frame.ts_ms, frame.payload, frame.stated, mark
        )

    def control(self, opcode: int, payload: bytes = b"") -> None:
        """Queue a ping, a pong or a close frame behind what is queued."""
        if self.is_open and self._muted is None:
            self._queue(opcode, payload)

    def keep_alive(self, message: WSMessage) -> bool:
        """Answer a ping; tell whether the message was a ping or a pong."""
        if message.type is WSMsgType.PING:
            self.control(PONG, bytes(message.data))
        return message.type in {WSMsgType.PING, WSMsgType.PONG}

    def mute(self, mark: Mark) -> None:
        """Read and write nothing any more, as if the other host were gone; the TCP connection stays."""
        self._muted = mark
        self._out.clear()
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def detach(self) -> None:
        """Send nothing more."""
        self._transport = None
        self._out.clear()
        self.closed_ns = time.time_ns()
        for interference in list(self.interferences):
            interference.gone(self)
        self.interferences.clear()

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    def close(self, payload: bytes = b"") -> None:
        """Send a close frame behind everything queued and end the connection; empty: without a code."""
        self.control(CLOSE, payload)
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Write bytes now; a client that leaves too many unread is dropped."""
        transport = self._transport
        if transport is None or self._muted is not None:
            return
        transport.write(data)
        waiting = transport.get_write_buffer_size() + (self.pace.waiting() if self.pace is not None else 0)
        if waiting > self._bytes_max:
            self._truth.note("connections", event="slow_consumer", venue=self.venue, connection=self.number)
            self.abort()

    def _pass(self, frame: Frame, place: int) -> None:
        for interference in self.interferences[place:]:
            if interference.take(self, frame):
                return
        self.emit(frame)

    def _queue(self, opcode: int, payload: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        size = len(payload)
        first = 0x80 | opcode
        if size < 126:
            header = bytes((first, size))
        elif size < 65_536:
            header = bytes((first, 126)) + size.to_bytes(2, "big")
        else:
            header = bytes((first, 127)) + size.to_bytes(8, "big")
        self._out.append(header)
        self._out.append(payload)

    def _flush(self) -> None:
        if self._transport is None or not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        if self.pace is not None:
            self.pace.write(self, data)
        else:
            self.write(data)
