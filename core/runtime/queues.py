"""Every queue has a name, a bound, and a behaviour at the bound; this is where all three can be seen.

`watch` shows a queue's depth and bound at `/metrics` for as long as its owner lives (asked at the scrape, so watching
costs the flow nothing); `at_bound` counts what was done because it was full. Names come from a closed set, never an
instrument id: queues of one name are added up. The table of all of them stands in ARCHITECTURE.md, "Limits".
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.runtime import metrics

OwnerT = TypeVar("OwnerT")
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

AT_BOUND = Counter(
    "queue_at_bound_total",
    "What was done because a queue was full. Rising: its reader is slower than its writer for longer than the bound "
    "bridges; see the table of limits in ARCHITECTURE.md.",
    ["queue", "did"],
    registry=metrics.REGISTRY,
)


class _Watched(Collector):
    """Asks the queues that live how deep they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[int, tuple[str, weakref.ref[object], Callable[[object], int], int]] = {}
        self._next = 0

    def add(self, name: str, owner: object, depth: Callable[[object], int], bound: int) -> None:
        with self._lock:
            number = self._next = self._next + 1
            self._queues[number] = (name, weakref.ref(owner, lambda _: self._queues.pop(number, None)), depth, bound)

    def depths(self) -> dict[str, tuple[int, int]]:
        """Return (depth, bound) by name, added up over the queues of that name."""
        found: dict[str, tuple[int, int]] = {}
        with self._lock:
            queues = list(self._queues.values())
        for name, ref, depth, bound in queues:
            owner = ref()
            if owner is None:
                continue
            try:
                deep = depth(owner)
            except RuntimeError:  # it changed size while it was counted
                continue
            known = found.get(name, (0, 0))
            found[name] = (known[0] + deep, known[1] + bound)
        return found

    def collect(self) -> Iterable[Metric]:
        deep = GaugeMetricFamily(
            "queue_depth", "Entries in a queue. At its bound: see its behaviour.", labels=["queue"]
        )
        bound = GaugeMetricFamily("queue_bound", "Most entries a queue may hold.", labels=["queue"])
        for name, (entries, most) in sorted(self.depths().items()):
            deep.add_metric([name], entries)
            bound.add_metric([name], most)
        return [deep, bound]


_WATCHED = _Watched()
metrics.REGISTRY.register(_WATCHED)


def watch(name: str, owner: OwnerT, depth: Callable[[OwnerT], int], bound: int) -> None:
    """Show a queue's depth and bound until `owner` is gone; `depth` must not keep hold of the owner itself."""
    _WATCHED.add(name, owner, depth, bound)  # type: ignore[arg-type]  # each depth is called with its own owner


def depths() -> dict[str, tuple[int, int]]:
    """Return (depth, bound) of what is watched, by name."""
    return _WATCHED.depths()


def at_bound(name: str, did: str, count: int = 1) -> None:
    """Count what was done because the queue `name` was full."""
    AT_BOUND.labels(name, did).inc(count)


class NewestDict(Generic[KeyT, ValueT]):
    """A dict of bounded size: what was written longest ago makes room for what is new, and is counted.

    For memories that sharpen a judgement and may forget: ids seen, facts of what is long closed.
    """

    def __init__(self, name: str, bound: int) -> None:
        """Make it empty and watched."""
        self._name = name
        self._bound = bound
        self._items: OrderedDict[KeyT, ValueT] = OrderedDict()
        watch(name, self, len, bound)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[KeyT]:
        return iter(self._items)

    def __getitem__(self, key: KeyT) -> ValueT:
        return self._items[key]

    def __setitem__(self, key: KeyT, value: ValueT) -> None:
        items = self._items
        if key in items:
            items.move_to_end(key)
        elif len(items) >= self._bound:
            items.popitem(last=False)
            at_bound(self._name, "forgot the oldest")
        items[key] = value

    def get(self, key: KeyT) -> ValueT | None:
        """Return the value of a key, None if there is none (any more)."""
        return self._items.get(key)

    def pop(self, key: KeyT) -> ValueT | None:
        """Take a key out and return its value, None if there was none."""
        return self._items.pop(key, None)
