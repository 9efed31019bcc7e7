"""Run both simulated venues: `python -m simulate [--config FILE] [--ready-file FILE] [--drive FILE] [--faults …]`.

`python -m simulate paper` runs them on the books of a live run (`simulate/paper.py`).
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop
from pydantic import ValidationError

from core.domain.errors import Misconfigured
from simulate.settings import SimulateSettings
from simulate.world import World


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit code 2 when the settings must not start."""
    parser = argparse.ArgumentParser(prog="python -m simulate", description="Simulated Kalshi and Polymarket.")
    parser.add_argument("--config", type=Path, help="JSON file of settings; environment: CROSSBOOK_SIM_*")
    parser.add_argument("--ready-file", type=Path, help="where to write the addresses once the ports are open")
    parser.add_argument("--credentials-file", type=Path, help="keys of the test accounts; made when missing")
    parser.add_argument("--drive", type=Path, help="recorded top-of-book CSV to follow")
    parser.add_argument("--faults", help="script of faults: a JSON file, or seed:N (simulate/faults.py); default: none")
    parser.add_argument("--faults-s", type=float, help="over how many seconds seed:N draws its faults (default: 3600)")
    arguments = parser.parse_args()
    try:
        values: dict[str, Any] = orjson.loads(arguments.config.read_bytes()) if arguments.config else {}
        for name in ("ready_file", "credentials_file", "drive", "faults", "faults_s"):
            if getattr(arguments, name) is not None:
                values[name] = getattr(arguments, name)
        settings = SimulateSettings(**values)
        uvloop.run(_serve(settings))
    except (Misconfigured, ValidationError, OSError, orjson.JSONDecodeError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: SimulateSettings) -> None:
    world = World(settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    ready = await world.start()
    print(orjson.dumps(ready).decode(), flush=True)
    await stopped.wait()
    await world.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["paper"]:
        from simulate.paper import start as main  # it needs a Kafka client, the simulated venues need none
    sys.exit(main())
