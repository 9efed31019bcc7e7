"""A worker of a toy task with state, run as a process by `test_scale_broker.py`: `python scale_worker.py`."""

import sys
import time
from collections.abc import Iterator

import msgspec

from core.runtime import topics
from core.runtime.flow import Input, Output, StateCodec, TaskContext
from core.runtime.settings import WorkerSettings
from core.runtime.task import LogSpec
from core.runtime.worker import assemble, main, run_tasks
from schemas.derived import Resync
from schemas.market import Trade

SPEC = LogSpec("derive", "book", topics.MARKET_EVENT)
WORK_S = 0.0002
"""About what a book costs."""


class Sum(msgspec.Struct, frozen=True):
    total: int
    seen: int
    padding: str


class Sums:
    """A sum and a count for each instrument and over all; each output depends on everything before it."""

    states = StateCodec(Sum, version=1)

    def __init__(self, context: TaskContext) -> None:
        self.sums: dict[str, tuple[int, int]] = {}
        self.total = 0
        self._changed: set[str] = set()

    def handle(self, item: Input) -> Iterator[Output]:
        record = item.record
        assert isinstance(record, Trade)
        total, seen = self.sums.get(record.instrument, (0, 0))
        self.total += record.size
        self.sums[record.instrument] = (total + record.size, seen + 1)
        self._changed.add(record.instrument)
        yield Output(
            topics.DERIVED_RESYNC,
            item.key,
            Resync(
                instrument=record.instrument,
                venue="kalshi",
                epoch=1,
                version_offset=item.offset,
                version_index=item.partition,
                cause=f"{total + record.size} {seen + 1} {self.total}",
                ts_ns=0,
            ),
        )

    def changed(self):
        names, self._changed = self._changed, set()
        yield "", str(self.total).encode()
        for name in sorted(names):
            yield name, self.states.encode(Sum(*self.sums[name], "x" * 2_000))

    def restore(self, items):
        for name, state in items:
            if name:
                found = self.states.decode(state)
                self.sums[name] = (found.total, found.seen)
            else:
                self.total = int(state)


class Working(Sums):
    """The same, taking the time a real task takes."""

    def handle(self, item):
        outputs = list(super().handle(item))
        until = time.perf_counter() + WORK_S
        while time.perf_counter() < until:
            pass
        return outputs


def work(settings: WorkerSettings) -> int:
    return run_tasks(assemble(settings, SPEC.stage, log_name=SPEC.log), SPEC, Working)


if __name__ == "__main__":
    sys.exit(main(WorkerSettings, work))
