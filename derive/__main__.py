"""`python -m derive`: the books, quotes and trust of the instruments of this process's partitions."""

import argparse
import sys

from core.runtime import topics
from core.runtime.settings import WorkerSettings
from core.runtime.task import LogSpec
from core.runtime.worker import assemble, main, run_tasks
from derive.settings import DeriveSettings
from derive.stage import BookTask


def _book(settings: WorkerSettings) -> int:
    spec = LogSpec(stage="derive", log="book", topic=topics.MARKET_EVENT)
    assert isinstance(settings, DeriveSettings)
    return run_tasks(assemble(settings, spec.stage, log_name=spec.log), spec, BookTask, options=settings.options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m derive", description=__doc__)
    parser.add_argument("log", nargs="?", choices=["book"], default="book")
    parser.parse_args()
    sys.exit(main(DeriveSettings, _book))
