"""`python -m normalize frame` and `python -m normalize instrument --venue kalshi`."""

import argparse
import sys

from core.runtime import topics
from core.runtime.settings import WorkerSettings
from core.runtime.task import LogSpec
from core.runtime.worker import assemble, main, run_tasks
from normalize.settings import NormalizeSettings
from normalize.stage import FrameTask, InstrumentTask
from venues import VENUES


def _frame(settings: WorkerSettings) -> int:
    spec = LogSpec(stage="normalize", log="frame", topic=topics.RAW_FRAME, remembers=False)
    return run_tasks(assemble(settings, spec.stage, log_name=spec.log), spec, FrameTask, with_tables=True)


def _instrument(settings: WorkerSettings, venue: str) -> int:
    spec = LogSpec(stage="normalize", log=f"instrument-{venue}", topic=topics.RAW_INSTRUMENT[venue], remembers=False)
    return run_tasks(assemble(settings, spec.stage, log_name=spec.log), spec, InstrumentTask)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m normalize", description=__doc__)
    logs = parser.add_subparsers(dest="log", required=True)
    logs.add_parser("frame", help="frames to market events")
    instrument = logs.add_parser("instrument", help="a venue's descriptions to instruments")
    instrument.add_argument("--venue", choices=VENUES, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _arguments()
    work = _frame if chosen.log == "frame" else lambda settings: _instrument(settings, chosen.venue)
    sys.exit(main(NormalizeSettings, work))
