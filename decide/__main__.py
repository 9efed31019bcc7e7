"""`python -m decide strategies` and `python -m decide accounts`: each with the sequencer of the partitions it owns."""

import argparse
import functools
import sys

from core.runtime import topics
from core.runtime.settings import WorkerSettings
from core.runtime.task import LogSpec
from core.runtime.worker import assemble, main, run_tasks
from decide.accounts import AccountsTask
from decide.settings import DecideSettings
from decide.sources import ACCOUNT_SOURCES, STRATEGY_SOURCES, AccountPlan, StrategyPlan
from decide.strategies.registry import load_kinds
from decide.strategies_task import StrategiesTask


def _strategies(settings: WorkerSettings) -> int:
    spec = LogSpec(stage="decide", log="strategies", topic=topics.DECISION_INPUT, sequenced=True)
    task = functools.partial(StrategiesTask, kinds=load_kinds())
    parts = assemble(settings, spec.stage, log_name=spec.log)
    return run_tasks(parts, spec, task, sources=STRATEGY_SOURCES, new_plan=StrategyPlan)


def _accounts(settings: WorkerSettings) -> int:
    spec = LogSpec(stage="decide", log="accounts", topic=topics.DECISION_ACCOUNT, sequenced=True)
    parts = assemble(settings, spec.stage, log_name=spec.log)
    return run_tasks(parts, spec, AccountsTask, sources=ACCOUNT_SOURCES, new_plan=AccountPlan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m decide", description=__doc__)
    parser.add_argument("log", choices=["strategies", "accounts"], help="which of the stage's two logs")
    sys.exit(main(DecideSettings, _strategies if parser.parse_args().log == "strategies" else _accounts))
