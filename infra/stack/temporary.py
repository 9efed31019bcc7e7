"""A stack of its own on free ports over a folder that is deleted: for tests and benchmarks.

It never touches a developer's running stack. `StackProvider` is the seam: whoever hands out these addresses and can
kill and start a server by name, containers for example, can take the place of the processes.

Where the machine has a file system in memory with room, Kafka's logs stand there: a broker writes a few small files to
the disk for each of its partitions, and tests make thousands. Nothing of what a test may do to a process shows the
difference: what a killed one had written stays either way.
"""

import os
import random
import shutil
import socket
import tempfile
import time
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from core.domain.errors import Unavailable
from infra.stack.settings import HOST, StackSettings
from infra.stack.stack import Stack

PREFIX = "crossbook-stack-"
MEMORY = Path("/dev/shm")  # noqa: S108 -- folders in it are made by mkdtemp
MEMORY_FREE_MIN = 4 << 30
"""Bytes; a test's topics take some ten megabytes."""
OWNER_FILE = "owner.pid"
# Below the kernel's ephemeral ports, so that no outgoing connection takes one while its server is being restarted.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS = 1_000
KILL_TIMEOUT_S = 10.0


class StackProvider(Protocol):
    """What a test may ask of its servers."""

    bootstrap: str
    """Kafka, `host:port`; by commas where there are three."""
    brokers: tuple[str, ...]
    """Kafka's nodes by name: `kafka`, or `kafka-1`, `kafka-2`, `kafka-3`."""
    registry_url: str
    """The registry's Confluent-compatible API."""
    questdb_http: str
    """`host:port` for HTTP."""
    questdb_pg: tuple[str, int]
    """Host and port of QuestDB's PostgreSQL wire."""
    postgres_url: str
    """PostgreSQL's database, for stacks that were asked for one."""

    def kill(self, name: str) -> None:
        """Kill a server (one of `brokers`, `registry`, `questdb`, `postgres`) by -9; it stays dead until `start`."""
        ...

    def start(self, name: str) -> None:
        """Start a killed server on its old port and data, and wait until it answers."""
        ...


class TemporaryStack:
    """The dev stack's processes on free ports; a context manager."""

    def __init__(
        self,
        names: tuple[str, ...] = ("kafka", "registry", "questdb"),
        *,
        brokers: int = 1,
        respawn: bool = False,
        host: str = HOST,
        tls: Path | None = None,
    ) -> None:
        """Choose ports; `kafka` among the names stands for all of its nodes. PostgreSQL is there only when named."""
        sweep()
        self.data = Path(tempfile.mkdtemp(prefix=PREFIX))
        _sign(self.data)
        self.memory = _memory_folder()
        fields = [name for name in StackSettings.model_fields if name.endswith("_port")]
        chosen: dict[str, Any] = dict(zip(fields, free_ports(len(fields)), strict=True))
        self.settings = StackSettings(
            data=self.data / "data",
            brokers=brokers,
            respawn=respawn,
            host=host,
            tls=tls,
            questdb_heap_mb=512,
            questdb_page_kb=256,
            postgres="postgres" in names,
            **chosen,
        )
        self.bootstrap = self.settings.bootstrap
        self.brokers = self.settings.broker_names
        self.registry_url = self.settings.registry_url
        self.questdb_http = self.settings.questdb_http
        self.questdb_pg = (HOST, self.settings.questdb_pg_port)
        nodes = self.brokers if "kafka" in names else ()
        self.postgres_url = self.settings.postgres_url
        self._stack = Stack(self.settings, (*nodes, *(name for name in names if name != "kafka")))
        if self.memory is not None:
            self._stack.claim()
            for node in nodes:
                (self.memory / node).mkdir()
                (self.settings.data / node).symlink_to(self.memory / node)

    def __enter__(self) -> Self:
        try:
            self._stack.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pid(self, name: str) -> int:
        """Return a running server's process id."""
        return self._stack.pids()[name][0]

    def kill(self, name: str) -> None:
        """Kill a server by -9; it stays dead until `start`, or until it is respawned where that was asked for."""
        processes = self._stack.processes
        pid = self.pid(name)
        processes.signal(name, pid, SIGKILL)
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while psutil.pid_exists(pid) or (processes.is_active(name) and not self.settings.respawn):
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} is still alive {KILL_TIMEOUT_S:.0f} s after kill -9")
            time.sleep(0.05)

    def start(self, name: str) -> None:
        """Start a killed server on its old port and data, and wait until it answers."""
        self._stack.processes.start(name)
        self._stack.wait(name)

    def close(self) -> None:
        """Stop everything and delete the folder."""
        self._stack.down()
        shutil.rmtree(self.data, ignore_errors=True)
        if self.memory is not None:
            shutil.rmtree(self.memory, ignore_errors=True)


def sweep() -> int:
    """Stop and delete the temporary stacks whose owner was killed; return how many there were."""
    found = 0
    for folder in (*Path(tempfile.gettempdir()).glob(PREFIX + "*"), *MEMORY.glob(PREFIX + "*")):
        try:
            owner, processes = (folder / OWNER_FILE).read_text().split()
            is_dead = processes == _processes() and not psutil.pid_exists(int(owner))
        except (OSError, ValueError):
            continue  # another user's, or just being made
        if is_dead:
            if (folder / "data").exists():
                Stack(StackSettings(data=folder / "data")).down()
                found += 1
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _memory_folder() -> Path | None:
    """Make a folder in memory, marked as ours; None where there is no room."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < MEMORY_FREE_MIN:
        return None
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
    _sign(folder)
    return folder


def _sign(folder: Path) -> None:
    """Say whose folder it is: a process, and among which processes that number is its own."""
    (folder / OWNER_FILE).write_text(f"{os.getpid()} {_processes()}")


def _processes() -> str:
    """Return what tells this namespace of processes from a container's; `-` where there is none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, each tried by binding it."""
    chosen: set[int] = set()
    for port in random.sample(PORTS, PORT_ATTEMPTS):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        chosen.add(port)
        if len(chosen) == count:
            return list(chosen)
    raise Unavailable(f"found {len(chosen)} free ports of {count} between {PORTS.start} and {PORTS.stop}")
