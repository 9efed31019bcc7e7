"""A run of every stage against the simulated venues: started, looked at, drained in the order of the flow.

What happens between start and drain, and what is asked at the end, is the matter of whoever plays: the demo, chaos.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from confluent_kafka import KafkaException
from rich.console import Console

from core.domain.errors import CrossbookError, Unavailable
from core.runtime import topics
from core.runtime.admin import create_run, delete_run, group_lag
from core.runtime.clock import SystemClock
from core.runtime.topics import TOPICS
from infra.cli.reach import Reach
from infra.cli.status import workers
from infra.demo import cast, desk, scan, setup
from infra.demo.budgets import OPEN
from infra.demo.options import Options
from infra.demo.tap import Tap
from infra.demo.view import Picture, View
from infra.demo.world import World
from infra.stack.processes import Processes
from infra.stack.servers import is_ready
from infra.stack.stack import Stack
from observe.stage import GROUP, sunk_topics
from schemas.control import Run
from venues import VENUES

LOOK_S = 0.5
LAG_EVERY_S = 2.0
SETTLE_S = 2.5
"""After the flow has stopped: orders in flight end, and the venue settles what was matched (about a second)."""
QUIET_S = 0.3


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


class Play:
    """The servers, the simulated venues, the workers of a run and the view of them."""

    def __init__(
        self, reach: Reach, options: Options, console: Console, parts: Sequence[cast.Part] | None = None
    ) -> None:
        self._reach = reach
        self._options = options
        self._console = console
        self._parts = [*(parts or cast.parts()), *([cast.DESK] if reach.stack.postgres else [])]
        self._clock = SystemClock()
        self._processes = Processes(reach.stack.data, reach.run)
        self._world = World(options, self._processes)
        self._tap = Tap(reach)
        self._counts: dict[str, int] = {}
        self._counted_s = 0.0
        self._incarnation = 0
        self._picture = Picture("starting", self._tap.figures)

    def _start(self, view: View) -> Run:
        reach, options = self._reach, self._options
        view.say("starting Kafka, the schema registry, QuestDB and PostgreSQL")
        Stack(reach.stack).up(reach.run)
        self._processes.stop_all()  # of a demo that was killed
        delete_run(reach.bootstrap, reach.run)
        run = create_run(
            bootstrap=reach.bootstrap,
            registry_url=reach.registry_url,
            run=reach.run,
            partitions=reach.partitions,
            replication=reach.replication,
        )
        self._incarnation = run.incarnation
        self._processes.start_arbiter()
        view.say(f"starting the simulated venues: {options.markets} linked markets, {options.rate_per_s}/s")
        self._world.start()
        setup.write(reach, self._clock, self._world, options.folder / "desk.json")
        view.say(f"starting {sum(part.n for part in self._parts)} workers")
        cast.start(reach, self._processes, self._parts, self._environment())
        cast.wait_ready(reach, self._processes, self._parts, options.ready_timeout_s)
        self._tap.start()
        self._await_books(view)
        return run

    def _environment(self) -> dict[str, str]:
        """Return the settings every worker is started with."""
        return cast.environment(self._reach, self._world, self._options)

    def _await_books(self, view: View) -> None:
        """Return when every linked instrument has a LIVE book."""
        wanted = self._options.markets * len(VENUES)
        deadline = time.monotonic() + self._options.ready_timeout_s
        while True:
            self._look(view, "waiting for the books")
            states = self._tap.figures.states
            live = sum(1 for state in list(states.values()) if state == "LIVE")
            if live >= wanted:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{live} of {wanted} books are LIVE after {self._options.ready_timeout_s:.0f} s: "
                    f"look at `crossbook status` and the logs in {self._reach.stack.logs}"
                )
            time.sleep(LOOK_S)

    # The end: flow first, then one stage after the other, each when its input is used up

    def _drain(self, view: View) -> None:
        view.say("stopping: the flow first, then each stage when it has handled everything")
        self._world.set_flow(running=False)
        setup.stop_quoting(self._reach, self._clock, self._options.folder / "desk.json")
        self._settle(view)
        for venue in VENUES:
            self._processes.stop(f"catalogue-{venue}")
            self._processes.stop(f"ingest-{venue}")
        self._stop_when_done(view, "normalize", "normalize.frame", topics.RAW_FRAME)
        for venue in VENUES:
            self._stop_when_done(
                view, f"instrument-{venue}", f"normalize.instrument-{venue}", topics.RAW_INSTRUMENT[venue]
            )
        self._stop_when_done(view, "derive", "derive.book", topics.MARKET_EVENT)
        # Both sequencers make time records as long as they live: these two stop on their own drain.
        self._processes.stop("strategies")
        for venue in VENUES:
            self._processes.stop(f"execute-{venue}")
        self._processes.stop("accounts")
        self._wait_until(view, "the sink", lambda: scan.left(self._reach, GROUP, self._sunk()) == 0)
        self._processes.stop("observe")
        if self._reach.stack.postgres:
            self._wait_until(view, "the desk", lambda: desk.left(self._reach, self._incarnation) == 0)
            self._processes.stop(cast.DESK.name)

    def _settle(self, view: View) -> None:
        """Wait until no saga is open and the venues have settled."""

        def done() -> bool:
            return not any(state in OPEN for state in list(self._tap.figures.sagas.values()))

        time.sleep(SETTLE_S)
        self._wait_until(view, "open orders", done)
        time.sleep(SETTLE_S)

    def _stop_when_done(self, view: View, name: str, group: str, log: topics.Topic) -> None:
        self._wait_until(view, name, lambda: scan.left(self._reach, group, [log]) == 0)
        self._processes.stop(name)

    def _wait_until(self, view: View, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._options.drain_timeout_s
        while not done():
            self._look(view, f"draining: {what}")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{what} did not finish in {self._options.drain_timeout_s:.0f} s: "
                    f"look at the logs in {self._reach.stack.logs}"
                )
            time.sleep(QUIET_S)

    def _sunk(self) -> list[topics.Topic]:
        return sunk_topics(("raw", "market", "derived", "decision", "order"))

    # Looking

    def _look(self, view: View, phase: str) -> None:
        now = time.monotonic()
        picture = self._picture
        picture.phase = phase
        if now - self._counted_s >= LAG_EVERY_S:
            with contextlib.suppress(CrossbookError, KafkaException, TimeoutError):
                self._count(now)
        view.show(picture, now)

    def _count(self, now_s: float) -> None:
        if not any(is_ready(self._reach.stack, name) for name in self._reach.stack.broker_names):
            return  # whatever runs goes on without the broker, and nobody waits for it
        picture = self._picture
        counts = {noun: sum(places.values()) for noun, places in scan.ends(self._reach, TOPICS).items()}
        elapsed = now_s - self._counted_s
        picture.rates = {noun: (count - self._counts.get(noun, count)) / elapsed for noun, count in counts.items()}
        picture.counts = self._counts = counts
        self._counted_s = now_s
        picture.lag = {
            group: sum(by_topic.values())
            for group, by_topic in group_lag(self._reach.bootstrap, self._reach.run).items()
        }
        for worker in workers(self._reach):
            picture.lag_s[f"{self._reach.run}.{worker.stage}.{worker.log}"] = worker.lag_s


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted on the first Ctrl-C or SIGTERM; later ones wait, so that everything started is stopped."""
    armed = True

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet(log: Any) -> Iterator[None]:
    """Send what libraries print on standard error to a file: librdkafka would write across the live view."""
    sys.stderr.flush()
    kept = os.dup(2)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
