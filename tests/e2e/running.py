"""A run of some workers against simulated venues on a test's own servers, as the demo starts them; nothing is drained or judged."""

import os
import signal
import time
from collections import Counter

from core.runtime.admin import create_run, register_schemas
from infra.cli.reach import Reach
from infra.demo import cast
from infra.demo.tap import Tap
from infra.demo.world import World
from infra.stack.processes import Processes
from venues import VENUES

PARTITIONS = 2
WAIT_S = 30.0


def reach_of(stack, run):
    """Return where a run on a test's servers is to be found."""
    return Reach(
        run=run,
        partitions=PARTITIONS,
        replication=0,
        bootstrap=stack.bootstrap,
        registry_url=stack.registry_url,
        questdb_http=stack.questdb_http,
        questdb_pg="",
        stack=stack.settings,
    )


def environment_of(stack):
    """Return this process's environment with a test's servers in it, for commands."""
    settings = stack.settings
    ports = {
        f"CROSSBOOK_STACK_{name.upper()}": str(getattr(settings, name))
        for name in type(settings).model_fields
        if name.endswith("_port")
    }
    return {**os.environ, **ports, "CROSSBOOK_STACK_DATA": str(settings.data), "COLUMNS": "160"}


class Running:
    """The run: `start`, then `close` whatever happened."""

    def __init__(self, stack, run, options, parts, *, live_within_s=WAIT_S):
        self.reach = reach_of(stack, run)
        self.options = options
        self.processes = Processes(stack.settings.data, run)
        self.world = World(options, self.processes)
        self.parts = parts
        self.tap = Tap(self.reach)
        self._live_within_s = live_within_s

    def start(self):
        """Start everything and wait until all books are LIVE."""
        reach = self.reach
        register_schemas(reach.registry_url)
        create_run(bootstrap=reach.bootstrap, registry_url=reach.registry_url, run=reach.run, partitions=PARTITIONS)
        self.processes.start_arbiter()
        self.world.start()
        self.configure()
        cast.start(reach, self.processes, self.parts, cast.environment(reach, self.world, self.options))
        cast.wait_ready(reach, self.processes, self.parts, self.options.ready_timeout_s)
        self.tap.start()
        wanted = self.options.markets * len(VENUES)
        self.until(lambda: self._live() == wanted, "all books are LIVE", self._live_within_s)

    def configure(self):
        """Tell the run what it may do; nothing by default."""

    def close(self):
        """Thaw what is frozen and stop everything."""
        for pids in self.processes.list().values():
            for pid in pids:
                send(pid, signal.SIGCONT)
        self.tap.stop()
        self.processes.stop_all()

    def until(self, claim, what, timeout_s=WAIT_S):
        """Return when it holds."""
        deadline = time.monotonic() + timeout_s
        while not claim():
            assert time.monotonic() < deadline, (
                f"not within {timeout_s} s: {what}; {Counter(self.tap.figures.states.values())}"
            )
            time.sleep(0.05)

    def _live(self):
        return sum(state == "LIVE" for state in list(self.tap.figures.states.values()))


def send(pid, number):
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
