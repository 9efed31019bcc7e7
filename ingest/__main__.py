"""`python -m ingest feed --venue kalshi` and `python -m ingest catalogue --venue kalshi`."""

import argparse
import sys
from typing import cast

from core.runtime.settings import WorkerSettings
from core.runtime.worker import main
from ingest.process import run_catalogue, run_feeds
from ingest.settings import IngestSettings
from venues import VENUES


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ingest", description=__doc__)
    processes = parser.add_subparsers(dest="process", required=True)
    for name, words in (
        ("feed", "venue sockets to raw.frame, for this worker's share of the instruments"),
        ("catalogue", "what the venue lists to raw.instrument-<venue>"),
    ):
        one = processes.add_parser(name, help=words)
        one.add_argument("--venue", choices=VENUES, required=True)
    return parser.parse_args()


def _run(settings: WorkerSettings) -> int:
    settings = cast("IngestSettings", settings)
    return {"feed": run_feeds, "catalogue": run_catalogue}[chosen.process](settings, chosen.venue)


if __name__ == "__main__":
    chosen = _arguments()
    sys.exit(main(IngestSettings, _run))
