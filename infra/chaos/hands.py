"""What does the acts: signals to processes found by name, faults at the venues' control port.

Each act runs in a thread of its own (of a small pool), so that a server that answers late delays no other act. Whatever
was frozen is thawed at the end, also when everything is broken off.
"""

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from core.domain.errors import CrossbookError, Unavailable
from infra.chaos.plan import Act
from infra.demo.world import World
from infra.stack.processes import Processes

THREADS = 32
FIND_S = 60.0
"""How long a fault that finds nothing to act on is tried again."""
FIND_PAUSE_S = 0.5


@dataclass
class Done:
    """An act as it happened.

    Attributes:
        ts_ns: when.
        pid: of the process it was done to.
        problem: why it was not done.
        answer: what the venue said of the fault: which connection, which market.
        struck: the instruments a fault can have touched, None where that is not known.
        felt_s: how long it was felt, None if it was not.
    """

    act: Act
    ts_ns: int
    pid: int = 0
    until_ns: int = 0
    problem: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    struck: frozenset[str] | None = None
    felt_s: float | None = None


class Hands:
    """Does acts on workers, servers and venues."""

    def __init__(self, workers: Processes, servers: Processes, world: World) -> None:
        self._groups = (workers, servers)
        self._world = world
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hands")
        self._frozen: set[int] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._begun: list[Future[None]] = []
        self.done: list[Done] = []

    def begin(self, act: Act) -> Done:
        """Begin an act and return what will tell of it."""
        done = Done(act, time.time_ns())
        self.done.append(done)
        self._begun.append(self._pool.submit(self._do, done))
        return done

    def close(self) -> None:
        """Thaw what is frozen and wait for acts under way; nothing begins any more."""
        self._over.set()
        self.thaw()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.thaw()

    def wait(self) -> None:
        """Return when every act that was begun is over."""
        for future in self._begun:
            future.result()

    def thaw(self) -> None:
        """Let everything run that was frozen."""
        with self._lock:
            for pid in self._frozen:
                _signal(pid, signal.SIGCONT)
            self._frozen.clear()

    def _do(self, done: Done) -> None:
        try:
            if done.act.kind == "fault":
                self._fault(done)
            else:
                self._strike(done)
        except CrossbookError as e:
            done.problem = str(e)

    def _fault(self, done: Done) -> None:
        act = done.act
        body = {"venue": act.target, "fault": act.name, **dict(act.parameters)}
        if act.seconds:
            body["seconds"] = act.seconds
        deadline = time.monotonic() + FIND_S
        while True:
            done.ts_ns = time.time_ns()
            try:
                done.answer = self._world.fault(body)
                break
            except Unavailable:
                # It found nothing to act on: no connection is open while another fault lasts.
                if time.monotonic() > deadline or self._over.wait(FIND_PAUSE_S):
                    raise
        done.until_ns = done.ts_ns + int(act.seconds * 1e9)

    def _strike(self, done: Done) -> None:
        act = done.act
        pids = self._pids(act.target)
        if not pids:
            done.problem = f"{act.target} has no process"
            return
        done.pid = pids[min(int(act.draw * len(pids)), len(pids) - 1)]
        done.ts_ns = time.time_ns()
        if act.kind == "kill":
            if not _signal(done.pid, signal.SIGKILL):
                done.problem = f"{act.target} {done.pid} had gone before"
            return
        with self._lock:
            if self._over.is_set():
                return
            self._frozen.add(done.pid)
            if not _signal(done.pid, signal.SIGSTOP):
                done.problem = f"{act.target} {done.pid} had gone before"
        self._over.wait(act.seconds)
        with self._lock:
            self._frozen.discard(done.pid)
            _signal(done.pid, signal.SIGCONT)
        done.until_ns = time.time_ns()

    def _pids(self, name: str) -> list[int]:
        for group in self._groups:
            pids = group.list().get(name, [])
            if pids:
                return sorted(pids)
        return []


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
