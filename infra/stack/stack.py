"""The dev stack as a whole: up, down, reset, status."""

import fcntl
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from rich.console import Console
from rich.table import Table

from core.domain.errors import Misconfigured, Unavailable
from infra.stack import postgres
from infra.stack.jars import fetch
from infra.stack.processes import Processes, groups
from infra.stack.servers import Server, is_ready, java, ports, servers
from infra.stack.settings import StackSettings, brokers_of

MARKER = ".crossbook-data"
LOCK = ".lock"
POLL_S = 0.1
GRACEFUL_TIMEOUT_S = 15.0


class Stack:
    """Kafka, the registry, QuestDB and PostgreSQL over one data folder."""

    def __init__(self, settings: StackSettings | None = None, names: tuple[str, ...] = ()) -> None:
        """Remember which servers are meant; by default all of the settings."""
        self.settings = settings or StackSettings()
        self._chosen = names
        self.processes = Processes(self.settings.data)

    @property
    def names(self) -> tuple[str, ...]:
        """The servers of this stack, in the order they are started."""
        return self._chosen or self.settings.server_names

    def up(self, run: str | None = None) -> list[str]:
        """Start the servers, then create the run's topics and register the schemas; idempotent.

        Args:
            run: whose topics; by default the settings' run.

        Returns:
            the names of the servers that had to be started.
        """
        from infra.stack.provision import provision

        started = self.start()
        provision(self.settings, run or self.settings.run)
        return started

    def start(self) -> list[str]:
        """Start the servers that do not run, wait until all of them answer, and return the names of what was started.

        Raises:
            Misconfigured: a port is taken, a runtime or an archive is not what it should be.
            Unavailable: a server does not answer in time.
        """
        program = java() if set(self.names) - {postgres.NAME} else ""
        self.claim()
        with self._alone():  # two at once would start two process managers
            missing = self._missing()
            if missing:
                _check_ports(self.settings, missing)
                self._launch(program, list(missing))
        for name in self.names:
            self.wait(name)
        return list(missing)

    def wait(self, name: str) -> None:
        """Return when a server answers.

        Raises:
            Unavailable: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + self.settings.ready_timeout_s
        log = self.processes.log(name)
        while not is_ready(self.settings, name):
            if not self.processes.list().get(name):
                raise Unavailable(f"{name} ended while starting: {_last_line(log.read_text())} (see {log})")
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} does not answer after {self.settings.ready_timeout_s:.0f} s; look at {log}")
            time.sleep(POLL_S)

    def down(self) -> list[str]:
        """Stop the workers of every run, then the servers; return the groups that ran. The data stays."""
        stopped = []
        for group in groups(self.settings.data):
            processes = Processes(self.settings.data, group)
            if any(processes.list().values()):
                stopped.append(group)
            processes.stop_all()
        return stopped

    def reset(self) -> bool:
        """Stop everything and delete the data folder; return whether there was one.

        Raises:
            Misconfigured: the folder does not carry the stack's marker, so it may be somebody's own.
        """
        data = self.settings.data
        if not data.exists():
            return False
        if not (data / MARKER).exists():
            raise Misconfigured(f"{data} was not made by the dev stack (no {MARKER} in it): delete it by hand")
        self.down()
        shutil.rmtree(data)
        return True

    def pids(self) -> dict[str, list[int]]:
        """Return the pids of each server that is known to the process manager."""
        return self.processes.list() if self.processes.is_running() else {}

    def endpoints(self) -> list[tuple[str, str, str]]:
        """Return (server, what it is for, address)."""
        settings = self.settings
        return [
            *((name, "broker", settings.broker_address(name)) for name in settings.broker_names),
            ("registry", "schemas", settings.registry_url),
            ("questdb", "web console", f"http://{settings.questdb_http}"),
            ("questdb", "SQL", f"postgresql://admin:quest@{settings.questdb_pg}/qdb"),
            *([("postgres", "tickets, P&L", settings.postgres_url)] if settings.postgres else []),
        ]

    def show(self, console: Console | None = None) -> None:
        """Print the table of endpoints."""
        running = self.pids()
        table = Table(title="dev stack", title_justify="left")
        for column in ("server", "for", "address", "pid"):
            table.add_column(column, overflow="fold")
        for name, use, address in self.endpoints():
            table.add_row(name, use, address, " ".join(map(str, running.get(name, []))) or "stopped")
        out = console or Console()
        out.print(table)
        out.print(f"data {self.settings.data}\nlogs {self.settings.logs}", soft_wrap=True)

    def _missing(self) -> dict[str, dict[str, int]]:
        running, listening = self.pids(), ports(self.settings)
        return {name: listening[name] for name in self.names if not running.get(name)}

    def _launch(self, program: str, names: list[str]) -> None:
        wanted: list[Server] = []
        if set(names) - {postgres.NAME}:
            wanted += [server for server in servers(self.settings, fetch()) if server.name in names]
        if postgres.NAME in names:
            wanted.append(postgres.postgres(self.settings))
        with ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(lambda server: server.prepare(), wanted))
        self.processes.start_arbiter()
        for server in wanted:
            self.processes.add(
                server.name,
                server.program or program,
                server.args,
                graceful_timeout_s=GRACEFUL_TIMEOUT_S,
                respawn=self.settings.respawn,
                stop_signal=server.stop_signal,
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.settings.data / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def claim(self) -> None:
        """Make the data folder ours, so that nobody else's is ever deleted.

        Raises:
            Misconfigured: it holds what we did not write, or was made for another number of brokers.
        """
        data = self.settings.data
        made, wanted = brokers_of(data), len(self.settings.broker_names)
        if made and made != wanted:
            raise Misconfigured(
                f"{data} was made for {made} Kafka node{'s' * (made > 1)}, the settings ask for {wanted} "
                "(CROSSBOOK_STACK_BROKERS): `make dev-stack-reset` deletes it, CROSSBOOK_STACK_DATA names another folder"
            )
        if data.exists() and any(data.iterdir()) and not (data / MARKER).exists():
            raise Misconfigured(f"{data} is not empty and not ours: name another folder in CROSSBOOK_STACK_DATA")
        data.mkdir(parents=True, exist_ok=True)
        (data / MARKER).write_text("The dev stack's data. `make dev-stack-reset` deletes this folder.\n")


def _check_ports(settings: StackSettings, wanted: dict[str, dict[str, int]]) -> None:
    """Raise Misconfigured, naming every port somebody else listens on."""
    taken = [
        f"port {port} ({server}) is taken by {_listener(port)}: stop it or set CROSSBOOK_STACK_{setting.upper()}"
        for server, found in wanted.items()
        for setting, port in found.items()
        if not _is_free(settings.bind_address(setting), port)
    ]
    if taken:
        raise Misconfigured("; ".join(taken))


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _listener(port: int) -> str:
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.pid and found.laddr and found.laddr.port == port:
                return f"pid {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        pass
    return "another program"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
