"""The checkpoints of the tasks one process owns: opened and written on threads beside the loop, never within it.

The loop asks for what it needs (`open`, `opened`, `write`, `settle`) and waits for nothing but a task's own `changed`;
only on the way out it waits, and not for long (`finish`). A change is forgotten when its transaction is known to be
committed, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core.domain.errors import Fenced, Misconfigured, StateUnreadable, Unavailable
from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.checkpoint import Head, Loaded, Store
from core.runtime.clock import Clock
from core.runtime.flow import Checkpointed, Task

log = logs.get()

THREADS = 4
_CANCEL_WAIT_S = 2.0


class Opened(NamedTuple):
    """A task that is ready to go on, and where; `head` is None for one that starts at its log's beginning."""

    task: Task
    head: Head | None
    loaded: Loaded


@dataclass
class _Kept:
    """One owned task's checkpoints."""

    store: Store
    began_s: float
    opening: Future[Opened] | None = None
    line: int = 0
    pending: dict[str, bytes | None] = field(default_factory=dict)
    """changed, and not known to be written"""
    due_s: float = 0.0
    writing: Future[None] | None = None
    in_flight: dict[str, bytes | None] = field(default_factory=dict)
    in_flight_offset: int = -1
    in_flight_s: float = 0.0
    written_offset: int = -1
    written_s: float = 0.0
    is_mute: bool = False
    """the task says that its state cannot be written down"""


class Keeper:
    """All checkpoints of a process. Used by one thread."""

    def __init__(
        self,
        new_store: Callable[[int], Store],
        *,
        stage: str,
        clock: Clock,
        interval_s: float,
        executor: Executor | None = None,
    ) -> None:
        """Prepare; `new_store(partition)` makes the store of one task, `executor` runs what blocks."""
        self._new_store = new_store
        self._stage = stage
        self._clock = clock
        self._interval_s = interval_s
        self._executor = executor or ThreadPoolExecutor(THREADS, thread_name_prefix="checkpoint")
        self._kept: dict[int, _Kept] = {}

    # A new owner

    def open(self, partition: int, place: str, new_task: Callable[[], Task]) -> None:
        """Begin to fence, load and restore; `place` names the log partition in errors."""
        store = self._new_store(partition)
        kept = self._kept[partition] = _Kept(store, self._clock.monotonic_s())
        kept.opening = self._executor.submit(_open, store, place, new_task)

    @property
    def is_opening(self) -> bool:
        """Whether some task is not ready yet."""
        return any(kept.opening is not None for kept in self._kept.values())

    def opened(self) -> list[tuple[int, Opened]]:
        """Return what became ready since the last call.

        Raises:
            Misconfigured: a log cannot be gone on with: trimmed, or not as long as its checkpoint says.
            Unavailable: Kafka does not answer.
        """
        ready = []
        for partition, kept in self._kept.items():
            if kept.opening is None or not kept.opening.done():
                continue
            opened = kept.opening.result()
            kept.opening = None
            kept.line = opened.loaded.line
            kept.pending = dict.fromkeys(opened.loaded.void)
            now_s = kept.written_s = self._clock.monotonic_s()
            kept.written_offset = opened.head.offset if opened.head is not None else -1
            # Not all partitions at once.
            kept.due_s = now_s + self._interval_s * (partition % THREADS + 1) / THREADS
            metrics.RESTORE.labels(self._stage, str(partition)).set(now_s - kept.began_s)
            log.info(
                "checkpoint.restored" if opened.head is not None else "checkpoint.none",
                partition=partition,
                offset=opened.head.offset if opened.head is not None else 0,
                items=len(opened.loaded.items),
                took_ms=round((now_s - kept.began_s) * 1000),
                reason=opened.loaded.reason,
            )
            ready.append((partition, opened))
        return ready

    # An owner

    def is_due(self, partition: int) -> bool:
        """Say whether a checkpoint of the task is to be written now."""
        kept = self._kept.get(partition)
        return (
            kept is not None
            and kept.opening is None
            and kept.writing is None
            and self._clock.monotonic_s() >= kept.due_s
        )

    def write(self, partition: int, task: Checkpointed, head: Head) -> None:
        """Begin a transaction with what changed; everything below `head` is published and acknowledged."""
        kept = self._kept[partition]
        if kept.writing is not None:
            return
        now_s = self._clock.monotonic_s()
        kept.due_s = now_s + self._interval_s
        changes = task.changed()
        if changes is None:
            if not kept.is_mute:
                log.info("checkpoint.not_offered", stage=self._stage, partition=partition)
            kept.is_mute = True
            return
        kept.is_mute = False
        kept.pending.update(changes)
        if not kept.pending and head.offset == kept.written_offset:
            kept.written_s = now_s
            return
        kept.in_flight, kept.pending = kept.pending, {}
        kept.in_flight_offset, kept.in_flight_s = head.offset, now_s
        kept.writing = self._executor.submit(kept.store.write, kept.line, head, kept.in_flight)

    def settle(self) -> list[int]:
        """Take in which transactions ended; return the partitions whose task has a newer owner.

        Raises:
            Halt: a transaction can never succeed.
        """
        fenced = []
        now_s = self._clock.monotonic_s()
        for partition, kept in self._kept.items():
            metrics.CHECKPOINT_AGE.labels(self._stage, str(partition)).set(now_s - kept.written_s)
            if kept.writing is None or not kept.writing.done():
                continue
            writing, kept.writing = kept.writing, None
            try:
                writing.result()
            except Fenced as e:
                log.warning("checkpoint.fenced", stage=self._stage, partition=partition, reason=str(e))
                fenced.append(partition)
            except Unavailable as e:
                log.warning("checkpoint.waiting", stage=self._stage, partition=partition, reason=str(e))
                kept.pending = {**kept.in_flight, **kept.pending}
            else:
                kept.written_offset, kept.written_s = kept.in_flight_offset, kept.in_flight_s
            kept.in_flight = {}
        return fenced

    def finish(self, partitions: Iterable[int], timeout_s: float) -> list[int]:
        """Wait for the transactions of these partitions, then `settle`."""
        found = (self._kept.get(partition) for partition in partitions)
        wait([kept.writing for kept in found if kept is not None and kept.writing is not None], timeout_s)
        return self.settle()

    def age_s(self) -> float:
        """Return the age of the oldest newest checkpoint, 0 when there is none to write."""
        now_s = self._clock.monotonic_s()
        return max((now_s - kept.written_s for kept in self._kept.values() if kept.opening is None), default=0.0)

    # Leaving

    def drop(self, partitions: Iterable[int]) -> None:
        """Let tasks go: what is being opened is ended, and waited for shortly, so that it fences nobody later."""
        under_way: list[Future[Any]] = []
        for partition in partitions:
            kept = self._kept.pop(partition, None)
            if kept is None:
                continue
            kept.store.close()
            under_way += [future for future in (kept.opening, kept.writing) if future is not None]
            for gauge in (metrics.CHECKPOINT_AGE, metrics.RESTORE):
                with suppress(KeyError):  # it may never have come so far
                    gauge.remove(self._stage, str(partition))
        if wait(under_way, _CANCEL_WAIT_S).not_done:
            log.warning("checkpoint.left_behind", stage=self._stage, reason="Kafka did not answer in time")

    def close(self) -> None:
        """Let all go."""
        self.drop(list(self._kept))
        self._executor.shutdown(wait=False)


def _open(store: Store, place: str, new_task: Callable[[], Task]) -> Opened:
    """Fence, load, and return a task with its state."""
    loaded = store.open()
    first, end = store.log_edges()
    task = new_task()
    head = loaded.head
    if head is not None and isinstance(task, Checkpointed):
        if not first <= head.offset <= end:
            raise Misconfigured(
                f"{place} holds offsets {first} to {end}, its task's checkpoint goes on at {head.offset}: what is "
                "missing cannot be made up for; raise the topic's retention and start a new run"
            )
        try:
            task.restore(loaded.items.items())
        except StateUnreadable as e:
            loaded, task = loaded.refused(str(e)), new_task()
    if loaded.reason:
        log.warning("checkpoint.ignored", place=place, reason=loaded.reason)
    if loaded.head is None and first > 0:
        why = f"its checkpoint is not usable ({loaded.reason})" if loaded.reason else "it has no checkpoint"
        raise Misconfigured(
            f"{place} begins at offset {first} and {why}: a task with state then needs the whole log; "
            "raise the topic's retention or start a new run"
        )
    return Opened(task, loaded.head, loaded)
