"""Processes that are kept alive: one circus arbiter, commanded over a socket only its user can reach.

A *group* is one arbiter with its watchers: `stack` holds the servers, a run has a group of its own for its workers. A
watcher is one command with `numprocesses` copies; `scale` is the replica count. The arbiter is a daemon: it outlives
the command line that started it. Every process of a watcher appends to one log file, `<data>/logs/<group>.<name>.log`.

Circus does one command at a time and refuses the next with ConflictError, so every command here waits for its end and
is repeated, within a bound, while another is under way.
"""

import configparser
import hashlib
import json
import os
import signal as signals
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from circus.client import CircusClient
from circus.exc import CallError

from core.domain.errors import Misconfigured, Unavailable
from core.runtime import targets
from infra.stack.settings import PROJECT

COMMAND_TIMEOUT_S = 60.0
CONFLICT_PAUSE_S = 0.1
START_TIMEOUT_S = 20.0
EXIT_TIMEOUT_S = 0.2
CHECK_DELAY_S = 0.5
LOG_BYTES_MAX = 20_000_000
SOCKET_PATH_MAX = 100  # the kernel takes 107 characters
OWNER = "CROSSBOOK_PROCESS_GROUP"

# The shell opens the log and is then replaced by the command: no byte of a worker's log passes through the arbiter.
REDIRECT = 'exec "$0" "$@" >>"$CROSSBOOK_PROCESS_LOG" 2>&1'


def last_words(log: Path) -> str:
    """Return the last line of a worker's log; of a structured one, what it says."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it said nothing"
    if not lines:
        return "it said nothing"
    try:
        facts = json.loads(lines[-1])
    except ValueError:
        return lines[-1][:300]
    return " ".join(f"{name}={value}" for name, value in facts.items() if name not in ("timestamp", "level"))[:300]


class Processes:
    """The processes of one group."""

    def __init__(self, data: Path, group: str = "stack") -> None:
        self.group = group
        self._data = data
        self.folder = data / "processes" / group
        self.logs = data / "logs"
        self._sockets = _socket_folder(self.folder)

    def start_arbiter(self) -> None:
        """Start the group's arbiter unless it runs; processes of a dead predecessor are stopped first.

        Raises:
            Unavailable: it does not answer within `START_TIMEOUT_S`.
        """
        if self.is_running():
            return
        self.stop_all()  # an arbiter that was killed leaves its children behind
        for folder in (self.folder, self.logs, self._sockets):
            folder.mkdir(parents=True, exist_ok=True)
        self._sockets.chmod(0o700)
        config = configparser.RawConfigParser()
        config["circus"] = {
            "endpoint": self._endpoint,
            "pubsub_endpoint": f"ipc://{self._sockets / 'events'}",
            "check_delay": str(CHECK_DELAY_S),
            "pidfile": str(self._pid_file),
            "logoutput": str(self.log("arbiter")),
            "loglevel": "warning",
            "umask": "077",
        }
        with (self.folder / "circus.ini").open("w") as file:
            config.write(file)
        self._begin_log("arbiter")
        command = [sys.executable, "-m", "circus.circusd", "--daemon", str(self.folder / "circus.ini")]
        subprocess.run(command, cwd=PROJECT, env={**os.environ, OWNER: str(self.folder)}, check=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                raise Unavailable(f"the process manager does not answer; look at {self.log('arbiter')}")
            time.sleep(0.05)

    def is_running(self) -> bool:
        """Say whether the group's arbiter lives and answers."""
        if self._arbiter() is None:
            return False
        try:
            self._call("list", timeout_s=5.0)
        except Unavailable:
            return False
        return True

    def add(
        self,
        name: str,
        cmd: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        numprocesses: int = 1,
        graceful_timeout_s: float = 10.0,
        *,
        respawn: bool = True,
        stop_signal: int = signals.SIGTERM,
    ) -> None:
        """Start `numprocesses` copies of a command under a name and keep them alive.

        A watcher that already has this name is stopped and replaced. A process that ends with exit code 2, or that
        dies `respawn.DEATHS_MAX` times in `respawn.WINDOW_S`, is not started again.

        Args:
            cmd: the program; it is found through `PATH`.
            env: added to this process's own environment.
            graceful_timeout_s: from `stop_signal` to SIGKILL when a copy is stopped.
            respawn: start a copy again when it dies.
            stop_signal: asks a copy to end.
        """
        if name in self._names():
            self.remove(name)
        self._begin_log(name)
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
            OWNER: str(self.folder),
            "CROSSBOOK_PROCESS_LOG": str(self.log(name)),
        }
        options = {
            "numprocesses": numprocesses,
            "graceful_timeout": graceful_timeout_s,
            "stop_signal": int(stop_signal),
            "working_dir": str(PROJECT),
            "env": environment,
            "respawn": respawn,
            "hooks": {
                "before_start": ["infra.stack.respawn.forget", False],
                "before_spawn": ["infra.stack.respawn.allow", False],
                "after_reap": ["infra.stack.respawn.note", True],
            },
        }
        self._call("add", name=name, cmd="/bin/sh", args=["-c", REDIRECT, cmd, *args], options=options, start=True)

    def start(self, name: str) -> None:
        """Start a stopped watcher again."""
        self._call("start", name=name, match="simple")

    def stop(self, name: str) -> None:
        """Stop a watcher's processes (SIGTERM, then SIGKILL); it stays known and can be started again."""
        self._call("stop", name=name, match="simple")

    def remove(self, name: str) -> None:
        """Stop a watcher's processes and forget it."""
        self._call("stop", name=name, match="simple")
        self._call("rm", name=name)

    def scale(self, name: str, n: int) -> int:
        """Bring a watcher to `n` processes; return the count it had."""
        before = int(self._call("numprocesses", name=name)["numprocesses"])
        wanted = int(self._call("get", name=name, keys=["numprocesses"])["options"]["numprocesses"])
        if n > wanted:
            self._call("incr", name=name, nb=n - wanted)
        elif n < wanted:
            self._call("decr", name=name, nb=wanted - n)
        return before

    def list(self) -> "dict[str, list[int]]":
        """Return the pids of every watcher, `{}` when the arbiter does not run."""
        if self._arbiter() is None:
            return {}
        return {name: [int(pid) for pid in self._call("list", name=name)["pids"]] for name in self._names()}

    def is_active(self, name: str) -> bool:
        """Say whether a watcher is meant to have processes; one that gave up or was stopped is not."""
        return bool(self._call("status", name=name)["status"] != "stopped")

    def signal(self, name: str, pid: int, sig: int) -> None:
        """Send a signal to one process of a watcher."""
        self._call("signal", name=name, pid=pid, signum=int(sig))

    def stop_all(self, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Stop every process of the group and its arbiter, also those an arbiter that was killed left behind.

        Nobody waits for those that had died before: Prometheus is told of them no more.
        """
        arbiter = self._arbiter()
        if arbiter is not None:
            try:
                self._call("quit", timeout_s=timeout_s)
                arbiter.wait(EXIT_TIMEOUT_S)  # its processes have gone; it alone would linger for seconds
            except (Unavailable, psutil.TimeoutExpired):
                arbiter.kill()
        left = self._left_behind()
        for process in left:
            _send(process, signals.SIGTERM)
        _, alive = psutil.wait_procs(left, timeout=10)
        for process in alive:
            _send(process, signals.SIGKILL)
        psutil.wait_procs(alive, timeout=5)
        self._pid_file.unlink(missing_ok=True)
        targets.sweep(worker_folder(self._data, self.group) / targets.FOLDER)

    def log(self, name: str) -> Path:
        """Return the file all processes of a watcher append to."""
        return self.logs / f"{self.group}.{name}.log"

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self._sockets / 'commands'}"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "circus.pid"

    def _names(self) -> Sequence[str]:
        return [str(name) for name in self._call("list")["watchers"]]

    def _arbiter(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            return process if str(self.folder / "circus.ini") in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _left_behind(self) -> Sequence[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(OWNER) == str(self.folder) and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue  # another user's, or gone
        return found

    def _begin_log(self, name: str) -> None:
        log = self.log(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        log.touch()  # whoever looks right after the start finds it

    def _call(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S, **properties: Any) -> dict[str, Any]:
        """Give the arbiter a command and return its answer once it is done.

        Raises:
            Unavailable: no answer, or other commands keep it busy past the timeout.
            Misconfigured: the arbiter refuses the command.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            client = CircusClient(endpoint=self._endpoint, timeout=max(deadline - time.monotonic(), 0.1))
            try:
                answer: dict[str, Any] = client.send_message(command, waiting=True, **properties)
            except CallError as e:
                raise Unavailable(f"the process manager of {self.group} does not answer to {command}: {e}") from e
            finally:
                client.stop()
            if answer.get("status") != "error":  # a watcher's own status comes in the same field
                return answer
            reason = str(answer.get("reason"))
            if "already running" not in reason:
                raise Misconfigured(f"the process manager of {self.group} refuses {command}: {reason}")
            if time.monotonic() > deadline:
                raise Unavailable(f"the process manager of {self.group} is busy: {reason}")
            time.sleep(CONFLICT_PAUSE_S)


def worker_folder(data: Path, group: str) -> Path:
    """Return where the workers of a group leave their notes and targets."""
    return data / "workers" / group


def groups(data: Path) -> list[str]:
    """Return the groups that were ever started over a data folder, the stack's own last."""
    found = sorted(path.name for path in (data / "processes").glob("*") if path.is_dir())
    return sorted(found, key=lambda name: name == "stack")


def python_command(module: str, *args: str) -> tuple[str, list[str]]:
    """Return the program and arguments that run `python -m module` in this environment."""
    return sys.executable, ["-m", module, *args]


def _socket_folder(folder: Path) -> Path:
    if len(str(folder / "commands")) <= SOCKET_PATH_MAX:
        return folder
    short = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"crossbook-{os.getuid()}-{short}"


def _send(process: psutil.Process, sig: int) -> None:
    try:
        process.send_signal(sig)
    except psutil.NoSuchProcess:
        return
