"""Where Prometheus finds the workers: a file of targets (`file_sd`) for each, under a name that outlives its process.

Ports are free ones and pids pass, so a worker takes a place: `<stage>.<log>.<n>.json`, the first `n` whose lock nobody
holds. The file is written whole or not at all. A worker that ends well takes its file away; one that halts or is killed
leaves it and loses the lock, so it shows as down until its successor takes the same place: `up` and
`worker_start_time_seconds` of one `instance` tell a crash loop from a worker that was scaled away. Successors take the
first free place, so of a log no more files are left than it had workers at a time; whoever stops workers for good
sweeps those.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

JOB = "crossbook"
FOLDER = "targets"
"""Within a run's `worker_dir`; `infra/alerts/prometheus.yml` looks there."""
PLACES_MAX = 1_000
"""Workers of one log on one host; one more is not scraped."""


class Target:
    """One worker's place, from `claim` to `release` or its death."""

    def __init__(self, path: Path, lock: TextIO) -> None:
        """`lock`, held, is that of `path`."""
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, folder: Path, facts: Mapping[str, object], port: int) -> Target | None:
        """Take a place for a worker that answers on `port` and say so; `None` if all are taken. `facts`: stage, log, run."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(PLACES_MAX):
            instance = f"{facts['stage']}.{facts['log']}.{number}".replace("/", "-")
            lock = _lock(folder / f".{instance}.lock")
            if lock is not None:
                labels = {name: str(facts[name]) for name in ("stage", "log", "run")} | {"instance": instance}
                path = folder / f"{instance}.json"
                _write(path, json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": labels | {"job": JOB}}]))
                return cls(path, lock)
        return None

    def release(self) -> None:
        """Say that the worker is gone for good."""
        self.path.unlink(missing_ok=True)
        self._lock.close()

    def leave(self) -> None:
        """Give up the place and let the file say that a worker is missing, as the death of the process would."""
        self._lock.close()


def sweep(folder: Path, worker: str = "", keep: int = 0) -> list[str]:
    """Take away what the dead left and nobody will take over; return the instances. The living keep their places.

    Args:
        worker: `<stage>.<log>` of the only one that is meant; otherwise all are.
        keep: so many places stay: who died in the lowest ones is missing still.
    """
    found = [path for path in folder.glob("*.json") if _number(path) >= 0 and worker in {"", _worker(path)}]
    left = len(found)
    swept = []
    for path in sorted(found, key=_number, reverse=True):
        lock = _lock(folder / f".{path.stem}.lock") if left > keep else None
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.close()
            left -= 1
            swept.append(path.stem)
    return swept


def _worker(path: Path) -> str:
    return path.stem.rpartition(".")[0]


def _number(path: Path) -> int:
    number = path.stem.rpartition(".")[2]
    return int(number) if number.isdecimal() else -1  # not one of ours


def _lock(path: Path) -> TextIO | None:
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    written = Path(file.name)
    written.chmod(0o644)
    written.replace(path)
