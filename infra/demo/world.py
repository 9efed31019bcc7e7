"""The demo's simulated venues: linked markets, a flow, faults, and the log of what really was."""

import json
from typing import Any

from infra.demo.options import Options
from infra.demo.venues import Venues
from infra.stack.processes import Processes

NAME = "simulate"


class World(Venues):
    """Both venues with the markets of the options."""

    def __init__(self, options: Options, processes: Processes) -> None:
        super().__init__(NAME, processes, options.folder)
        self._options = options

    def start(self) -> None:
        """Start the venues and wait until their ports are open; the flow begins at once.

        Raises:
            Unavailable: they do not get ready.
        """
        options, folder = self._options, self.folder
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "seed": options.seed,
            "markets": options.markets,
            "messages_per_s": options.rate_per_s,
            "edges_per_s": options.edges_per_s,
            "events": options.events,
            "truth_frames": "digest",
            "truth_dir": str(self.truth_folder),
            "links_file": str(folder / "links.json"),
            "credentials_file": str(folder / "credentials.json"),
            "ready_file": str(self.ready_file),
            **({"drive": str(options.drive)} if options.drive else {}),
        }
        (folder / "simulate.json").write_text(json.dumps(config, indent=2))
        self.launch("--config", str(folder / "simulate.json"), timeout_s=options.ready_timeout_s)

    def links(self) -> list[dict[str, Any]]:
        """Return the linked markets."""
        found: list[dict[str, Any]] = json.loads((self.folder / "links.json").read_text())["links"]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the events of which one outcome must win, each with its Kalshi tickers."""
        found: list[dict[str, Any]] = json.loads((self.folder / "links.json").read_text())["events"]
        return found

    def accounts(self) -> dict[str, Any]:
        """Return the venues' own accounts."""
        return self.call("accounts")

    def stats(self) -> dict[str, Any]:
        """Return frames sent and connections."""
        return self.call("stats")

    def orders(self) -> dict[str, Any]:
        """Return how often each order id was sent and accepted."""
        return self.call("orders")

    def set_flow(self, *, running: bool) -> None:
        """Stop or start the flow; sockets, accounts and settlements go on."""
        self.call("flow", {"running": running})

    def fault(self, body: dict[str, Any]) -> dict[str, Any]:
        """Let a venue do something wrong, `{"venue", "fault", ...}`; the fault's names stand in `simulate/faults.py`."""
        return self.call("faults", body)

    def truth(self, name: str) -> list[Any]:
        """Return a file of the truth log, line by line; empty when nothing of it happened."""
        path = self.truth_folder / name
        if not path.exists():
            return []
        with path.open("rb") as file:
            return [json.loads(line) for line in file if line.endswith(b"\n")]
