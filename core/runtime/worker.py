"""A worker process: read settings, check what must be there, run one loop, stop on SIGTERM.

Exit codes: 0 done or asked to stop, 2 must not start (one line says why), 3 an invariant broke, 4 a server went away.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.domain.errors import CrossbookError, Halt, Misconfigured, Unavailable
from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.admin import find_run
from core.runtime.checkpoint import KafkaStore
from core.runtime.clock import NS_PER_S, Clock, SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import TaskContext, TaskFactory
from core.runtime.keeper import Keeper
from core.runtime.pressure import PressureLimits, worst
from core.runtime.producer import Publisher
from core.runtime.sequencer import Plan, Sequencer, SourceTopic
from core.runtime.settings import WorkerSettings, load
from core.runtime.tables import KafkaTables
from core.runtime.targets import FOLDER, Target
from core.runtime.task import LogSpec, TaskLoop
from core.runtime.topics import CHECKPOINT, TOPICS, WRITES
from schemas.control import Run
from schemas.dead import Dead, Returned, State
from schemas.record import Record

log = logs.get()

EXIT_MUST_NOT_START = 2
EXIT_HALTED = 3
EXIT_SERVER_GONE = 4
_SWITCH_INTERVAL_S = 0.0005
_START_PAUSE_S = 0.2
_START_PAUSE_S_MAX = 2.0
FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Parts:
    """What every worker is built from, checked: the servers answer, the run exists, the schemas are registered."""

    settings: WorkerSettings
    codec: Codec
    clock: Clock
    run: Run
    """of the run whose log it reads"""


def assemble(settings: WorkerSettings, stage: str, *, log_name: str = "") -> Parts:
    """Check the surroundings and return the parts.

    Raises:
        Misconfigured: the run has no topics or no incarnation, or Kafka or the registry does not answer within
            `start_wait_s`.
    """
    logs.configure(stage, settings.writes, level=settings.log_level, **({"log": log_name} if log_name else {}))
    # A thread that waits for Kafka must get the interpreter back quickly, or each hop costs up to 5 ms.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    clock = SystemClock()
    codec = Codec(HttpRegistry(settings.registry_url))
    run = wait_for(
        lambda left_s: find_run(settings.bootstrap, codec, settings.reads, clock, left_s), clock, settings.start_wait_s
    )
    if run is None:
        raise Misconfigured(
            f"run {settings.reads} has no incarnation: create it with `crossbook up --run {settings.reads}`"
        )
    return Parts(settings, codec, clock, run)


def wait_for(ask: Callable[[float], FoundT], clock: Clock, wait_s: float) -> FoundT:
    """Return what `ask(seconds left)` returns, asking again with growing pauses while a server does not answer.

    Raises:
        Misconfigured: it did not answer within `wait_s`: a worker that starts then is started in the wrong place.
    """
    deadline = clock.monotonic_s() + wait_s
    pause_s = _START_PAUSE_S
    while True:
        left_s = deadline - clock.monotonic_s()
        try:
            return ask(max(left_s, _START_PAUSE_S))
        except Unavailable as e:
            if left_s <= pause_s:
                raise Misconfigured(f"{e} (waited {wait_s:g} s)") from e
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _START_PAUSE_S_MAX)


def run_tasks(
    parts: Parts,
    spec: LogSpec,
    factory: TaskFactory,
    *,
    with_tables: bool = False,
    options: dict[str, str] | None = None,
    sources: Sequence[SourceTopic] = (),
    new_plan: Callable[[int, int], Plan] | None = None,
) -> int:
    """Run the tasks of one log (and, where it is sequenced, the sequencers of owned partitions) until told to stop.

    `new_plan(partition, partitions)` makes the plan of a sequencer. In a replay nothing is sequenced: the source run's
    own log is handled up to its committed offset.
    """
    settings, codec, clock = parts.settings, parts.codec, parts.clock
    wait_for(lambda _: codec.warm(*_records_of(spec)), clock, settings.start_wait_s)
    publisher = Publisher(
        bootstrap=settings.bootstrap,
        codec=codec,
        clock=clock,
        run=settings.writes,
        stage=spec.stage,
        partitions=parts.run.partitions,
    )
    group = spec.group(settings.writes)
    tables = None
    if with_tables:
        tables = KafkaTables(
            bootstrap=settings.bootstrap,
            run=settings.reads,
            group=group,
            codec=codec,
            clock=clock,
            partitions=parts.run.partitions,
        )
        wait_for(tables.load, clock, settings.start_wait_s)
    sequencers: dict[int, Sequencer] = {}
    limits = PressureLimits.of(settings)

    def owned(partition: int) -> None:
        if new_plan is None or settings.replay:
            return
        sequencer = sequencers[partition] = Sequencer(
            log_topic=spec.topic,
            partition=partition,
            sources=sources,
            plan=new_plan(partition, parts.run.partitions),
            publisher=sequencing,
            codec=codec,
            clock=clock,
            bootstrap=settings.bootstrap,
            read_run=settings.reads,
            stage=spec.stage,
            reader=spec.log,
            progress=loop.progress(partition),
            limits=limits,
            reached=loop.reached(partition),
        )
        sequencer.start()

    def dropped(partition: int) -> None:
        sequencer = sequencers.pop(partition, None)
        if sequencer is not None:
            sequencer.stop()

    def check() -> None:
        for sequencer in sequencers.values():
            if sequencer.failure is not None:
                # The process ends and is started again; a log nobody appends to would only look quiet.
                raise Unavailable(f"the sequencer of {spec.topic.noun} stopped: {sequencer.failure}")

    # A producer of its own: the task's commits must not wait for what is being sequenced.
    sequencing = publisher
    if new_plan is not None:
        sequencing = Publisher(
            bootstrap=settings.bootstrap,
            codec=codec,
            clock=clock,
            run=settings.writes,
            stage=spec.stage,
            partitions=parts.run.partitions,
            client_id=f"{group}.sequencer",
        )
    loop = TaskLoop(
        spec=spec,
        factory=factory,
        publisher=publisher,
        codec=codec,
        clock=clock,
        bootstrap=settings.bootstrap,
        # A sequenced log is the writer's own: its sequencer lives here.
        read_run=settings.reads if settings.replay or not spec.sequenced else settings.writes,
        context=TaskContext(partitions=parts.run.partitions, incarnation=parts.run.incarnation, options=options or {}),
        tables=tables,
        batch_records_max=settings.batch_records_max,
        commit_interval_s=settings.commit_interval_ms / 1000,
        on_owned=owned,
        on_dropped=dropped,
        check=check,
        limits=limits,
        keeper=_keeper(parts, spec) if spec.remembers and not settings.replay else None,
    )

    def health() -> dict[str, object]:
        facts = loop.health()
        here = list(sequencers.values())
        failed = [s.failure for s in here if s.failure is not None]
        pressure = worst([*loop.levels(), *(s.pressure.level for s in here)])
        return {
            **facts,
            "ok": facts["ok"] and not failed,
            "failures": [str(f) for f in failed],
            "pressure": pressure,
        }

    with presence(settings, spec.stage, spec.log, health):
        on_stop(loop.stop)
        log.info("worker.started", group=group, reads=settings.reads, writes=settings.writes, replay=settings.replay)
        if settings.replay:
            ends = loop.replay(spec.group(settings.reads), settings.replay_speed)
            log.info("replay.finished", records=sum(ends.values()))
        else:
            loop.run()
        log.info("worker.stopped")
    return 0


def _keeper(parts: Parts, spec: LogSpec) -> Keeper:
    """Return what keeps the checkpoints of this worker's tasks."""
    settings = parts.settings
    run, group = settings.writes, spec.group(settings.writes)

    def new_store(partition: int) -> KafkaStore:
        return KafkaStore(
            bootstrap=settings.bootstrap,
            run=run,
            group=group,
            topic=CHECKPOINT[spec.stage],
            log_topic=spec.topic.name(run if spec.sequenced else settings.reads),
            task=f"{spec.stage}.{spec.log}/{partition}",
            partition=partition,
            incarnation=parts.run.incarnation,
            codec=parts.codec,
            clock=parts.clock,
        )

    return Keeper(new_store, stage=spec.stage, clock=parts.clock, interval_s=settings.checkpoint_interval_s)


def _records_of(spec: LogSpec) -> set[type[Record]]:
    """Return the record types a worker of this stage may read or write: known now, none is looked up in mid-stream."""
    layer = WRITES[spec.stage]
    kinds = {record for topic in TOPICS if topic.layer == layer for record in topic.records}
    return kinds | set(spec.topic.records) | {Dead, Returned, State}


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


class presence:  # noqa: N801 - reads as a statement
    """Serve metrics and health while the worker lives, and leave a note where to find them."""

    def __init__(
        self, settings: WorkerSettings, stage: str, log_name: str, health: Callable[[], dict[str, object]]
    ) -> None:
        self._settings = settings
        self._facts = {"pid": os.getpid(), "stage": stage, "log": log_name, "run": settings.writes}
        self._health = health
        self._note: Path | None = None
        self._target: Target | None = None

    def __enter__(self) -> None:
        self._endpoint = metrics.Endpoint(self._settings.metrics_port, self._health)
        metrics.STARTED.set(SystemClock().now_ns() / NS_PER_S)
        if self._settings.worker_dir:
            folder = Path(self._settings.worker_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self._note = folder / f"{os.getpid()}.json"
            self._note.write_text(json.dumps({**self._facts, "metrics_port": self._endpoint.port}), encoding="utf-8")
            self._target = Target.claim(folder / FOLDER, self._facts, self._endpoint.port)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._endpoint.close()
        if self._target is not None:
            # A worker that an error ended is missing until a successor takes its place. What is no Exception (a cancelled
            # task, Ctrl-C) was asked for.
            if kind is not None and issubclass(kind, Exception):
                self._target.leave()
            else:
                self._target.release()
        if self._note is not None:
            self._note.unlink(missing_ok=True)


def main(kind: type[WorkerSettings], run: Callable[[WorkerSettings], int], **overrides: object) -> int:
    """Load settings of `kind`, call `run`, and turn an error into one line and an exit code."""
    try:
        return run(load(kind, **overrides))
    except Misconfigured as e:
        _say(f"must not start: {e}")
        return EXIT_MUST_NOT_START
    except Halt as e:
        _say(f"halted: {e}")
        return EXIT_HALTED
    except Unavailable as e:
        _say(f"a server does not answer: {e}")
        return EXIT_SERVER_GONE
    except CrossbookError as e:
        _say(f"stopped: {e}")
        return EXIT_HALTED


def _say(line: str) -> None:
    print(f"crossbook: {line}", file=sys.stderr, flush=True)
