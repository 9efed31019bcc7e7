"""Takeover of a partition by a new owner: from its checkpoint, and from the start of its log, in one run.

The real loop, book task and Kafka; the new owner is a loop of this process. Measured from the assignment of the partition
to the log's end being handled: what is published then is new. Beside it what a checkpoint costs its owner.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import samples
from benchmarks.measure import Effort, Figure
from benchmarks.normalize import handle_all
from core.domain.errors import CrossbookError, Unavailable
from core.runtime.admin import create_run, delete_run, register_schemas
from core.runtime.checkpoint import Head, KafkaStore
from core.runtime.clock import SystemClock
from core.runtime.flow import Output, TaskContext
from core.runtime.keeper import Keeper
from core.runtime.producer import Publisher
from core.runtime.task import LogSpec, TaskLoop
from core.runtime.topics import DERIVED_CHECKPOINT, MARKET_EVENT
from derive.stage import BookTask
from infra.cli.reach import Reach
from schemas.control import Run
from schemas.record import Record

RUN = "bench-restore"
SPEC = LogSpec("derive", "book", MARKET_EVENT)
ITEMS = 500
PRODUCERS = (4, 12)
LOG_FACTOR = 10
"""A log is longer than what other benchmarks handle in one repeat."""
TAIL_SHARE = 10
"""One in so many records came after the checkpoint that a killed owner left."""
LOOK_S = 0.002
LIMIT_S = 300.0


def run(effort: Effort) -> list[Figure]:
    """Measure on a run of its own, which is deleted.

    Raises:
        Unavailable: no Kafka or registry answers.
    """
    reach = Reach.load(RUN).require_kafka()
    register_schemas(reach.registry_url)
    delete_run(reach.bootstrap, RUN)
    try:
        made = create_run(bootstrap=reach.bootstrap, registry_url=reach.registry_url, run=RUN, partitions=1)
        return [*_takeovers(reach, made, effort), *_costs(reach, made, effort)]
    finally:
        delete_run(reach.bootstrap, RUN)


def _takeovers(reach: Reach, made: Run, effort: Effort) -> list[Figure]:
    count = effort.records * LOG_FACTOR
    tail = max(count // TAIL_SHARE, 1)
    deltas = [item.record for item in samples.delta_inputs(count + tail)]
    head = [*(item.record for item in samples.opening()), *deltas[:count]]
    _publish(reach, made, head)
    _own(reach, made, len(head), with_checkpoints=True)
    turns = max(effort.repeats // 2, 1)
    restored = [_own(reach, made, len(head), with_checkpoints=True) for _ in range(turns)]
    read = [_own(reach, made, len(head), with_checkpoints=False) for _ in range(turns)]
    # A killed owner had published and committed the tail, and written nothing down since the checkpoint.
    _publish(reach, made, deltas[count:])
    _own(reach, made, len(head) + tail, with_checkpoints=False)
    killed = _own(reach, made, len(head) + tail, with_checkpoints=True)
    books = f"{samples.MARKETS} books, {len(head):,} records"
    return [
        Figure(
            "takeover after a handover",
            statistics.median(restored),
            "ms",
            peer="from the log's start",
            peer_value=statistics.median(read),
            note=books,
        ),
        Figure("takeover after a kill", killed, "ms", note=f"{tail:,} records are handled again"),
    ]


def _costs(reach: Reach, made: Run, effort: Effort) -> list[Figure]:
    """Return what a checkpoint of 500 books holds the loop for and takes beside it, and what many owners cost."""
    task = BookTask(TaskContext())
    handle_all(task, samples.opening(ITEMS))
    began = time.perf_counter()
    items = dict(task.changed())
    holds_ms = (time.perf_counter() - began) * 1e3
    store = _store(reach, made, "costs/0")
    store.open()
    times = []
    for turn in range(max(effort.repeats, 3)):
        began = time.perf_counter()
        store.write(1, Head(turn), items)
        times.append((time.perf_counter() - began) * 1e3)
    store.close()
    size = sum(len(state) for state in items.values() if state is not None)
    note = f"{len(items)} items, {size / 1024:,.0f} KiB"
    figures = [
        Figure("a checkpoint of 500 books holds the loop", holds_ms, "ms", note=note),
        Figure("its transaction, beside the loop", statistics.median(times), "ms", note=note),
    ]
    for count in PRODUCERS:
        stores = [_store(reach, made, f"owners-{count}/{number}") for number in range(count)]
        threads = threading.active_count()
        cpu = time.process_time()
        openers = [threading.Thread(target=store.open) for store in stores]
        began = time.perf_counter()
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
        took_ms = (time.perf_counter() - began) * 1e3
        spent_ms = (time.process_time() - cpu) * 1e3
        figures.append(
            Figure(
                f"fence and load {count} partitions at once", took_ms, "ms", note=f"{spent_ms:.0f} ms of processor time"
            )
        )
        for store in stores:
            store.close()
        if threading.active_count() > threads:
            raise Unavailable("threads of the checkpoints are still there")
    return figures


# One owner after another


def _own(reach: Reach, made: Run, end: int, *, with_checkpoints: bool) -> float:
    """Take the partition, handle its log to the end, leave; return ms from assignment to the end."""
    keeper = None
    if with_checkpoints:
        keeper = Keeper(
            lambda partition: _store(reach, made, f"derive.book/{partition}"),
            stage="derive",
            clock=SystemClock(),
            interval_s=1.0,
        )
    loop = TaskLoop(
        spec=SPEC,
        factory=BookTask,
        publisher=_publisher(reach, made, "derive"),
        codec=reach.codec,
        clock=SystemClock(),
        bootstrap=reach.bootstrap,
        read_run=RUN,
        context=TaskContext(incarnation=made.incarnation),
        keeper=keeper,
    )
    with _running(loop) as failed:
        _until(lambda: loop.is_owner, failed)
        began = time.perf_counter()
        _until(lambda: loop.position(0) >= end, failed)
        return (time.perf_counter() - began) * 1e3


@contextmanager
def _running(loop: TaskLoop) -> Iterator[list[CrossbookError]]:
    failed: list[CrossbookError] = []

    def target() -> None:
        try:
            loop.run()
        except CrossbookError as e:
            failed.append(e)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield failed
    finally:
        loop.stop()
        thread.join()


def _until(condition: Callable[[], bool], failed: list[CrossbookError]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if failed:
            raise failed[0]
        if time.monotonic() > deadline:
            raise Unavailable(f"the log was not handled within {LIMIT_S} s")
        time.sleep(LOOK_S)


def _store(reach: Reach, made: Run, task: str) -> KafkaStore:
    return KafkaStore(
        bootstrap=reach.bootstrap,
        run=RUN,
        group=f"{RUN}.{task.partition('/')[0]}",
        topic=DERIVED_CHECKPOINT,
        log_topic=MARKET_EVENT.name(RUN),
        task=task,
        partition=0,
        incarnation=made.incarnation,
        codec=reach.codec,
        clock=SystemClock(),
    )


def _publisher(reach: Reach, made: Run, stage: str) -> Publisher:
    return Publisher(
        bootstrap=reach.bootstrap,
        codec=reach.codec,
        clock=SystemClock(),
        run=RUN,
        stage=stage,
        partitions=made.partitions,
    )


def _publish(reach: Reach, made: Run, records: list[Record]) -> None:
    publisher = _publisher(reach, made, "normalize")
    for record in records:
        publisher.publish(Output(MARKET_EVENT, "", record))
    if not publisher.wait_acknowledged(LIMIT_S):
        raise Unavailable("Kafka did not acknowledge the log")
