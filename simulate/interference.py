"""What faults put in the way of one connection's frames and bytes.

Each is given the frames as the venue would send them, numbered where the venue numbers them. A frame is kept, changed or
repeated here; what a fault does before a venue numbers its frames is in that venue's own stream.
"""

import asyncio
import contextlib
from collections import deque

from simulate.journal import Injected, Journal
from simulate.sockets import KEEP_ALIVES, Connection, Frame
from simulate.truth import Mark

HELD_FRAMES_MAX = 50_000
"""A connection for which more waits is dropped, as a venue drops a slow consumer."""
CHANGES = frozenset({"orderbook_delta", "price_change"})
BOOKS = frozenset({"orderbook_snapshot", "book", "dump"})


class _Kept:
    """What all have in common."""

    def __init__(self, injected: Injected, journal: Journal) -> None:
        self.injected = injected
        self._journal = journal

    def gone(self, connection: Connection) -> None:
        """Nobody is there any more: note what was held as never sent."""
        for frame in self._held_frames():
            connection.drop(frame, self.injected.mark("dropped"))
        self._journal.end(self.injected)

    def _held_frames(self) -> list[Frame]:
        """Return what is held, and hold it no longer."""
        return []

    def _drop(self, connection: Connection, frame: Frame) -> None:
        connection.drop(frame, self.injected.mark("dropped"))
        self._missed(connection, frame)

    def _let_go(self, connection: Connection, frame: Frame) -> None:
        """Send what was held, or note that nobody is there any more."""
        if connection.is_open:
            connection.resume(self, frame, self.injected.mark("delayed"))  # type: ignore[arg-type]
        else:
            connection.drop(frame, self.injected.mark("dropped"))

    def _missed(self, connection: Connection, frame: Frame) -> None:
        if frame.seq:
            self._journal.missing(self.injected, connection, frame.key)
        else:
            for said in frame.stated:
                self._journal.missing(self.injected, connection, said.key)


class _Counted(_Kept):
    """Acts on the next `count` book changes, of one market if it has one."""

    kinds = CHANGES

    def __init__(self, injected: Injected, journal: Journal, count: int) -> None:
        super().__init__(injected, journal)
        self._count = count

    def take(self, connection: Connection, frame: Frame) -> bool:
        if frame.kind not in self.kinds or not frame.stated or self.injected.market not in {None, frame.key}:
            return False
        self._count -= 1
        self._act(connection, frame)
        if self._count <= 0:
            connection.remove(self)
            self._journal.end(self.injected)
        return True

    def _act(self, connection: Connection, frame: Frame) -> None:
        raise AssertionError("each fault has its own")


class Gap(_Counted):
    """Drops changes, and the books that are sent in place of a change."""

    kinds = CHANGES | {"book"}

    def _act(self, connection: Connection, frame: Frame) -> None:
        self._drop(connection, frame)


class Twice(_Counted):
    """Sends changes twice."""

    def _act(self, connection: Connection, frame: Frame) -> None:
        connection.resume(self, frame)
        connection.resume(self, frame, self.injected.mark("duplicated"))


class Broken(_Counted):
    """Sends bytes that are no message in place of a change."""

    def __init__(self, injected: Injected, journal: Journal, how: str) -> None:
        super().__init__(injected, journal, 1)
        self._how = how

    def _act(self, connection: Connection, frame: Frame) -> None:
        payload = {
            "cut": frame.payload[: len(frame.payload) // 2],
            "garbage": b"<html><body>502 Bad Gateway</body></html>",
            "empty": b"",
            "utf8": frame.payload[:40] + b"\xff\xfe" + frame.payload[40:],
        }[self._how]
        self._drop(connection, frame)
        broken = Frame(frame.kind, frame.key, frame.ts_ms, payload)
        connection.resume(self, broken, self.injected.mark("changed"))
        self._journal.reveal(self.injected, connection, connection.ordinal, frame.key, "parse")


class Swap(_Kept):
    """Holds a change until the next has left."""

    def __init__(self, injected: Injected, journal: Journal, count: int, wait_s: float) -> None:
        super().__init__(injected, journal)
        self._count = count
        self._wait_s = wait_s
        self._held: Frame | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _held_frames(self) -> list[Frame]:
        held, self._held = self._held, None
        return [held] if held is not None else []

    def take(self, connection: Connection, frame: Frame) -> bool:
        held = self._held
        if held is None:
            if frame.kind not in CHANGES or self.injected.market not in {None, frame.key}:
                return False
            self._held = frame
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._wait_s, self._release, connection)
            return True
        if not _follows(frame, held):
            return False
        self._missed(connection, held)
        connection.resume(self, frame)
        self._count -= 1
        self._release(connection, overtaken=True)
        return True

    def _release(self, connection: Connection, *, overtaken: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for held in self._held_frames():
            self._let_go(connection, held)
            if overtaken and not held.seq:
                # It may have put back a size that had moved on.
                self._missed(connection, held)
        if self._count <= 0 or not connection.is_open:
            connection.remove(self)
            self._journal.end(self.injected)


class Late(_Kept):
    """Holds the next whole book of a market until some later changes have left."""

    def __init__(self, injected: Injected, journal: Journal, behind: int) -> None:
        super().__init__(injected, journal)
        self._behind = behind
        self._held: Frame | None = None

    def _held_frames(self) -> list[Frame]:
        held, self._held = self._held, None
        return [held] if held is not None else []

    def take(self, connection: Connection, frame: Frame) -> bool:
        held = self._held
        if held is None:
            if frame.kind not in BOOKS or not frame.stated or frame.key != self.injected.market:
                return False
            self._held = frame
            if frame.seq:
                self._missed(connection, frame)
            return True
        if _follows(frame, held) and frame.kind in CHANGES:
            self._behind -= 1
            connection.resume(self, frame)
            # Its time must be older than that of what was sent: otherwise nothing would tell.
            if self._behind <= 0 and (frame.seq or frame.ts_ms > held.ts_ms):
                self.end(connection)
            return True
        return False

    def end(self, connection: Connection) -> None:
        """Let the book go."""
        for held in self._held_frames():
            self._let_go(connection, held)
        connection.remove(self)
        self._journal.end(self.injected)


class Silence(_Kept):
    """Drops everything of one market, or of all."""

    def take(self, connection: Connection, frame: Frame) -> bool:
        if frame.kind in KEEP_ALIVES or self.injected.market not in {None, frame.key}:
            return False
        self._drop(connection, frame)
        return True


class Hold(_Kept):
    """Keeps everything back."""

    def __init__(self, injected: Injected, journal: Journal) -> None:
        super().__init__(injected, journal)
        self._held: list[Frame] = []

    def take(self, connection: Connection, frame: Frame) -> bool:
        if frame.kind in KEEP_ALIVES:
            return False
        if len(self._held) >= HELD_FRAMES_MAX:
            connection.abort()
        self._held.append(frame)
        return True

    def _held_frames(self) -> list[Frame]:
        held, self._held = self._held, []
        return held

    def release(self, connection: Connection, *, lose: bool) -> None:
        """Let go of what waited, or lose it."""
        for frame in self._held_frames():
            if lose:
                self._drop(connection, frame)
            else:
                self._let_go(connection, frame)
        connection.remove(self)


class Trickle:
    """Writes bytes late, or in small pieces, or both; in order."""

    def __init__(self, injected: Injected, delay_s: float, piece: int, pause_s: float) -> None:
        self.injected = injected
        self._delay_s = delay_s
        self._piece = piece
        self._pause_s = pause_s
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def mark(self) -> Mark:
        return self.injected.mark("delayed")

    def waiting(self) -> int:
        """Return how many bytes wait."""
        return self._waiting

    def write(self, connection: Connection, data: bytes) -> None:
        """Take bytes."""
        loop = asyncio.get_running_loop()
        self._queue.append((loop.time() + self._delay_s, memoryview(data)))
        self._waiting += len(data)
        connection.write(b"")
        if self._task is None:
            self._task = loop.create_task(self._run(connection))

    async def finish(self, connection: Connection) -> None:
        """Write what waits at once and give the writing back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        connection.pace = None
        rest = b"".join(data for _, data in self._queue)
        self._queue.clear()
        self._waiting = 0
        connection.write(rest)

    async def _run(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while connection.is_open:
            if not self._queue:
                await asyncio.sleep(self._pause_s)
                continue
            due, data = self._queue[0]
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            piece = data[: self._piece] if self._piece else data
            # Taken before it is written, with nothing awaited between: a cancelled task loses and repeats nothing.
            if len(piece) < len(data):
                self._queue[0] = (due, data[len(piece) :])
            else:
                self._queue.popleft()
            self._waiting -= len(piece)
            connection.write(bytes(piece))
            if self._piece:
                await asyncio.sleep(self._pause_s)


def _follows(frame: Frame, held: Frame) -> bool:
    """Tell whether a frame stands in one order with another: the sid's, or the market's."""
    if held.seq:
        return frame.sid == held.sid and frame.seq > held.seq
    return frame.key == held.key and bool(frame.stated)
