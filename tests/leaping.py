"""Time that leaps, and processes that freeze: an event loop in which nobody waits, for real sockets and real workers.

When nothing is ready the loop does not sleep: its clock, and that of everything in the process, leaps to the next timer.
Tasks that begin inside a `Process` are of that process: it can be frozen (SIGSTOP: no step of it runs, while time and
everybody else go on) and killed (-9: no step of it runs any more).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

NS_PER_S = 1_000_000_000
START_NS = 1_795_000_000 * NS_PER_S
LEAP_MIN_NS = 1_000
_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Leaps(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that never waits; what would have been waited for is added to `now_ns`."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START_NS

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0) or super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            return super().select(0.01)
        self.now_ns += max(int(timeout * NS_PER_S), LEAP_MIN_NS)
        return []


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop on that selector."""

    def __init__(self) -> None:
        self.leaps = Leaps()
        super().__init__(self.leaps)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        # Small, so that a float can tell a microsecond.
        return (self.leaps.now_ns - START_NS) / NS_PER_S

    def wall_ns(self) -> int:
        return self.leaps.now_ns

    def wall_s(self) -> float:
        return self.leaps.now_ns / NS_PER_S


class Process:
    """What would be one operating system process."""

    def __init__(self) -> None:
        self.frozen = False
        self.dead = False
        self._thaw: list[asyncio.Future[None]] = []

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let tasks that are made meanwhile, and those they make, be of this process."""
        token = _process.set(self)
        try:
            yield
        finally:
            _process.reset(token)

    def freeze(self) -> None:
        """Stop it."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on where it stood."""
        self.frozen = False
        waiting, self._thaw = self._thaw, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def kill(self) -> None:
        """End it: each task ends at its next step."""
        self.dead = True
        self.thaw()

    def wait(self) -> asyncio.Future[None]:
        """Return what is done when it goes on."""
        future = asyncio.get_running_loop().create_future()
        self._thaw.append(future)
        future._asyncio_future_blocking = True  # as `await` would
        return future


class _Stoppable(Coroutine[Any, Any, Any]):
    """A coroutine whose steps wait while its process is frozen."""

    def __init__(self, inner: Coroutine[Any, Any, Any], process: Process) -> None:
        self._inner = inner
        self._process = process
        self._kept: BaseException | None = None
        self._ended = False

    def send(self, value: Any) -> Any:
        if self._process.dead and not self._ended:
            self._ended = True
            return self._inner.throw(asyncio.CancelledError())
        if self._process.frozen:
            return self._process.wait()
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return self._inner.throw(kept)
        return self._inner.send(value)

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        if self._process.frozen and not self._process.dead:
            self._kept = error
            return self._process.wait()
        self._ended = self._ended or self._process.dead
        return self._inner.throw(error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()


def _make_task(loop: Any, coroutine: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
    process = (contextvars.copy_context() if context is None else context).get(_process)
    if process is not None:
        coroutine = _Stoppable(coroutine, process)
    return asyncio.Task(coroutine, loop=loop, context=context)


def leaping(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let an async test run on a loop that leaps: what it waits for comes at its time, however busy the machine is."""

    @functools.wraps(test)
    def runner(*arguments: Any, **named: Any) -> None:
        run(lambda: test(*arguments, **named))

    return runner


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run to the end on a loop that leaps, with every clock of this process showing its time."""
    loop = LeapingLoop()
    with (
        mock.patch.object(time, "time_ns", loop.wall_ns),
        mock.patch.object(time, "time", loop.wall_s),
        mock.patch.object(time, "monotonic", loop.time),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        return runner.run(main())
