"""The book task: market events to quotes and depth, the task alone and with the codec on both sides."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import samples
from benchmarks.measure import Effort, Figure, best_us
from benchmarks.normalize import handle_all, handle_bytes
from core.domain.errors import InvariantBroken
from core.runtime.codec import Codec, FileRegistry
from core.runtime.flow import Input
from derive.stage import BookTask
from schemas.derived import Quote


class Opened:
    """A task whose books are LIVE, and changes of them; each turn gets the next ones, for a repeat changes nothing."""

    def __init__(self, deltas: list[Input], turns: int) -> None:
        self.task = BookTask(samples.context())
        handle_all(self.task, samples.opening())
        self._turns = iter([samples.shifted(deltas, turn * len(deltas)) for turn in range(turns)])

    def next(self) -> list[Input]:
        """Return the changes of this turn."""
        return next(self._turns)


def run(effort: Effort) -> list[Figure]:
    """Measure changes of 100 books near their best."""
    deltas = samples.delta_inputs(effort.records)
    probe = Opened(deltas, 1)
    outputs = handle_all(probe.task, probe.next())
    quotes = sum(type(output.record) is Quote for output in outputs)
    if not quotes:
        raise InvariantBroken("the changes gave no quote; the samples are not read")
    turns = effort.repeats + 1
    alone, whole, codec = Opened(deltas, turns), Opened(deltas, turns), Codec(FileRegistry())
    encoded: list[tuple[list[Input], list[bytes]]] = []
    for _ in range(turns):
        items = whole.next()
        encoded.append((items, [codec.encode(item.record) for item in items]))
    waiting = iter(encoded)
    ready = iter([alone.next() for _ in range(turns)])
    ways: dict[str, Callable[[], object]] = {
        "task": lambda: handle_all(alone.task, next(ready)),
        "codec": lambda: handle_bytes(whole.task, codec, *next(waiting)),
    }
    us = best_us(effort.repeats, len(deltas), ways)
    note = f"{len(outputs) / len(deltas):.2f} records a change"
    return [
        Figure("BookDelta, the task alone", 1e6 / us["task"], "/s", note=note),
        Figure("BookDelta, decode + task + encode", 1e6 / us["codec"], "/s", note=note),
    ]
