"""Simulated venues as one process of a run: started on a folder of its own, known by their ready file, asked over their control port."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.domain.errors import Unavailable
from infra.stack.processes import Processes, last_words, python_command

CALL_TIMEOUT_S = 10.0
POLL_S = 0.1


class Venues:
    """Both venues of one run."""

    def __init__(self, name: str, processes: Processes, folder: Path) -> None:
        """Prepare; `folder` gets `ready.json`, the keys and the truth log."""
        self.name = name
        self.folder = folder
        self.facts: dict[str, Any] = {}
        """what the ready file says: addresses, keys' file, chain"""
        self._processes = processes

    @property
    def ready_file(self) -> Path:
        """What the process writes once its ports are open."""
        return self.folder / "ready.json"

    @property
    def truth_folder(self) -> Path:
        """Where the truth log is; that of an earlier process is deleted by `launch`."""
        return self.folder / "truth"

    def launch(self, *words: str, settings: Mapping[str, str] | None = None, timeout_s: float) -> None:
        """Start `python -m simulate …` and wait until the ports are open.

        It is never started again by itself: the accounts live in it, and one that began anew would not be the venue of the
        orders before.

        Raises:
            Unavailable: they do not get ready.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.truth_folder, ignore_errors=True)
        self.ready_file.unlink(missing_ok=True)
        program, arguments = python_command("simulate", *words)
        self._processes.add(self.name, program, arguments, settings, respawn=False)
        deadline = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            if time.monotonic() > deadline or not self.are_alive():
                log = self._processes.log(self.name)
                raise Unavailable(f"the simulated venues did not start: {last_words(log)} (look at {log})")
            time.sleep(POLL_S)
        self.facts = json.loads(self.ready_file.read_text())

    def are_alive(self) -> bool:
        """Say whether the process is there."""
        return bool(self._processes.list().get(self.name))

    def address(self, venue: str, name: str) -> str:
        """Return `host:port` of one of a venue's servers."""
        return str(self.facts[venue][name]).split("://", 1)[1].split("/", 1)[0]

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the control port, or tell it `body`.

        Raises:
            Unavailable: it does not answer.
        """
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.facts['sim_url']}/sim/{path}", data=json.dumps(body).encode() if body is not None else None
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (OSError, ValueError) as e:
            log = self._processes.log(self.name)
            raise Unavailable(f"the simulated venues do not answer /sim/{path} ({e}); look at {log}") from e
