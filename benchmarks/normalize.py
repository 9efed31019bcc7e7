"""The frame task: raw frames to market events, the task alone and with the codec on both sides."""

from __future__ import annotations

from benchmarks import samples
from benchmarks.measure import Effort, Figure, best_us
from core.domain.errors import InvariantBroken
from core.runtime.codec import Codec, FileRegistry
from core.runtime.flow import Input, Output, Task
from normalize.stage import FrameTask

_STAMP_NS = samples.RECV_NS


def handle_all(task: Task, items: list[Input]) -> list[Output]:
    """Return what follows from all."""
    return [output for item in items for output in task.handle(item)]


def handle_bytes(task: Task, codec: Codec, items: list[Input], values: list[bytes]) -> int:
    """Decode, handle and encode all, as the loop does; return how many bytes left."""
    total = 0
    for item, value in zip(items, values, strict=True):
        for output in task.handle(item._replace(record=codec.decode(value))):
            total += len(codec.encode(output.record, _STAMP_NS))
    return total


def rates(name: str, effort: Effort, task: Task, items: list[Input], *, note: str) -> list[Figure]:
    """Return records a second of a stateless task, alone and with the codec."""
    codec = Codec(FileRegistry())
    values = [codec.encode(item.record) for item in items]
    us = best_us(
        effort.repeats,
        len(items),
        {
            "task": lambda: handle_all(task, items),
            "codec": lambda: handle_bytes(task, codec, items, values),
        },
    )
    return [
        Figure(f"{name}, the task alone", 1e6 / us["task"], "/s", note=note),
        Figure(f"{name}, decode + task + encode", 1e6 / us["codec"], "/s", note=note),
    ]


def run(effort: Effort) -> list[Figure]:
    """Measure both venues."""
    figures = []
    for venue, payloads, label in (
        ("kalshi", samples.kalshi_frames(effort.records), "kalshi orderbook_delta"),
        ("polymarket", samples.polymarket_frames(effort.records), "polymarket price_change"),
    ):
        items = samples.raw_inputs(samples.raw_records(venue, payloads))
        task = FrameTask(samples.context())
        events = len(handle_all(task, items))
        if events < len(items):
            raise InvariantBroken(f"{venue}: {len(items)} frames gave {events} events; the samples are not read")
        figures += rates(label, effort, task, items, note=f"{events / len(items):.2f} events a frame")
    return figures
