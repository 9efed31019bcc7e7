"""The worker processes of a run against the simulated venues: names, commands, settings, order of start and stop."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.domain.errors import Misconfigured, Unavailable
from infra.cli.reach import Reach
from infra.demo.options import Options
from infra.demo.world import World
from infra.stack.processes import Processes, last_words, python_command, worker_folder
from venues import VENUES

ACCOUNT = "main"
GRACEFUL_TIMEOUT_S = 15.0
POLL_S = 0.1


class Part(NamedTuple):
    """One watcher: a name, what follows `python -m`, and how many processes it begins with."""

    name: str
    command: tuple[str, ...]
    n: int = 1

    @property
    def worker(self) -> str:
        """`<stage>.<log>` of its processes, under which they take their places (`core/runtime/targets.py`)."""
        stage, *words = [word for word in self.command if not word.startswith("--")]
        return f"{stage}.{'-'.join(words)}"


DESK = Part("desk", ("observe", "postgres"))
"""Beside the others where the stack has a PostgreSQL."""


def parts(counts: Mapping[str, int] | None = None) -> list[Part]:
    """Return all workers in the order in which they start; they stop in the order of the flow.

    Args:
        counts: how many processes a worker begins with, by name; one where it is not told.
    """
    found = [
        Part("observe", ("observe", "questdb")),
        *(Part(f"execute-{venue}", ("execute", "--account", f"{venue}:{ACCOUNT}")) for venue in VENUES),
        Part("accounts", ("decide", "accounts")),
        Part("strategies", ("decide", "strategies")),
        Part("derive", ("derive", "book")),
        Part("normalize", ("normalize", "frame")),
        *(Part(f"instrument-{venue}", ("normalize", "instrument", "--venue", venue)) for venue in VENUES),
        *(Part(f"catalogue-{venue}", ("ingest", "catalogue", "--venue", venue)) for venue in VENUES),
        *(Part(f"ingest-{venue}", ("ingest", "feed", "--venue", venue)) for venue in VENUES),
    ]
    return [part._replace(n=(counts or {}).get(part.name, part.n)) for part in found]


def environment(reach: Reach, world: World, options: Options) -> dict[str, str]:
    """Return the settings every worker is started with."""
    return {
        **reach.environment(),
        "CROSSBOOK_WORKER_DIR": str(worker_dir(reach)),
        "CROSSBOOK_KALSHI_SIMULATED": world.address("kalshi", "rest_url"),
        "CROSSBOOK_POLYMARKET_SIMULATED": world.address("polymarket", "clob_url"),
        "CROSSBOOK_POLYMARKET_GAMMA_SIMULATED": world.address("polymarket", "gamma_url"),
        "CROSSBOOK_SIM_CREDENTIALS_FILE": str(options.folder / "credentials.json"),
    }


def worker_dir(reach: Reach) -> Path:
    """Return where the workers of a run leave their notes."""
    return worker_folder(reach.stack.data, reach.run)


def start(reach: Reach, processes: Processes, chosen: Sequence[Part], settings: dict[str, str]) -> None:
    """Start the workers; `wait_ready` tells when each is there."""
    folder = worker_dir(reach)
    folder.mkdir(parents=True, exist_ok=True)
    for note in folder.glob("*.json"):
        note.unlink()
    for part in chosen:
        program, arguments = python_command(*part.command)
        processes.add(
            part.name, program, arguments, settings, numprocesses=part.n, graceful_timeout_s=GRACEFUL_TIMEOUT_S
        )


def wait_ready(reach: Reach, processes: Processes, chosen: Sequence[Part], timeout_s: float) -> None:
    """Return when every worker has left its note.

    Raises:
        Misconfigured: a worker must not start; its own words are repeated.
        Unavailable: one does not get ready in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        noted = {int(note.stem) for note in worker_dir(reach).glob("*.json")}
        pids = processes.list()
        waiting = {part.name for part in chosen if not pids.get(part.name) or not set(pids[part.name]) <= noted}
        if not waiting:
            return
        for name in waiting:
            if not processes.is_active(name):
                raise Misconfigured(f"worker {name} stopped: {last_words(processes.log(name))}")
        if time.monotonic() > deadline:
            name = sorted(waiting)[0]
            raise Unavailable(
                f"worker {name} is not ready after {timeout_s:.0f} s: {last_words(processes.log(name))} "
                f"(look at {processes.log(name)})"
            )
        time.sleep(POLL_S)
