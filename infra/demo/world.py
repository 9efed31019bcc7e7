"""The simulated venues as one process of the run, and their control port."""

import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from core.domain.errors import Unavailable
from infra.demo.options import Options
from infra.stack.processes import Processes, python_command

NAME = "simulate"
CALL_TIMEOUT_S = 10.0
POLL_S = 0.1


class World:
    """Both venues."""

    def __init__(self, options: Options, processes: Processes) -> None:
        self._options = options
        self._processes = processes
        self._ready_file = options.folder / "ready.json"
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        """Start the venues and wait until their ports are open; the flow begins at once.

        Raises:
            Unavailable: they do not get ready.
        """
        options = self._options
        folder = options.folder
        shutil.rmtree(folder / "truth", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        config = {
            "seed": options.seed,
            "markets": options.markets,
            "messages_per_s": options.rate_per_s,
            "edges_per_s": options.edges_per_s,
            "events": options.events,
            "truth_frames": "digest",
            "truth_dir": str(folder / "truth"),
            "links_file": str(folder / "links.json"),
            "credentials_file": str(folder / "credentials.json"),
            "ready_file": str(self._ready_file),
            **({"drive": str(options.drive)} if options.drive else {}),
        }
        (folder / "simulate.json").write_text(json.dumps(config, indent=2))
        program, arguments = python_command(NAME, "--config", str(folder / "simulate.json"))
        self._processes.add(NAME, program, arguments, respawn=False)
        deadline = time.monotonic() + options.ready_timeout_s
        while not self._ready_file.exists():
            if time.monotonic() > deadline or not self._processes.list().get(NAME):
                raise Unavailable(f"the simulated venues did not start; look at {self._processes.log(NAME)}")
            time.sleep(POLL_S)
        self.facts = json.loads(self._ready_file.read_text())

    def address(self, venue: str, name: str) -> str:
        """Return `host:port` of one of a venue's servers."""
        return str(self.facts[venue][name]).split("://", 1)[1].split("/", 1)[0]

    def links(self) -> list[dict[str, Any]]:
        """Return the linked markets."""
        found: list[dict[str, Any]] = json.loads((self._options.folder / "links.json").read_text())["links"]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the events of which one outcome must win, each with its Kalshi tickers."""
        found: list[dict[str, Any]] = json.loads((self._options.folder / "links.json").read_text())["events"]
        return found

    def accounts(self) -> dict[str, Any]:
        """Return the venues' own accounts."""
        return self._call("accounts")

    def stats(self) -> dict[str, Any]:
        """Return frames sent and connections."""
        return self._call("stats")

    def orders(self) -> dict[str, Any]:
        """Return how often each order id was sent and accepted."""
        return self._call("orders")

    def set_flow(self, *, running: bool) -> None:
        """Stop or start the flow; sockets, accounts and settlements go on."""
        self._call("flow", {"running": running})

    def fault(self, body: dict[str, Any]) -> dict[str, Any]:
        """Let a venue do something wrong, `{"venue", "fault", ...}`; the fault's names stand in `simulate/faults.py`."""
        return self._call("faults", body)

    @property
    def truth_folder(self) -> Path:
        """Where the truth log is."""
        return self._options.folder / "truth"

    def truth(self, name: str) -> list[Any]:
        """Return a file of the truth log, line by line; empty when nothing of it happened."""
        path = self.truth_folder / name
        if not path.exists():
            return []
        with path.open("rb") as file:
            return [json.loads(line) for line in file if line.endswith(b"\n")]

    def _call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.facts['sim_url']}/sim/{path}", data=json.dumps(body).encode() if body is not None else None
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (OSError, ValueError) as e:
            log = self._processes.log(NAME)
            raise Unavailable(f"the simulated venues do not answer /sim/{path} ({e}); look at {log}") from e
