"""How figures are taken: best of several repeats, ours and the peer's in turn, so that both see the same machine."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "confluent-kafka",
    "fastavro",
    "msgspec",
    "sortedcontainers",
    "websockets",
    "cryptography",
    "coincurve",
    "eth-account",
)
NS_PER_US = 1_000.0


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        repeats: of each figure; the best counts.
        records: of one repeat of a CPU-bound figure.
        frames: through the socket in one repeat.
        path_s: seconds the whole flow is watched at each rate.
        path_rates_per_s: messages a second of both venues together.
        markets: linked markets of the whole flow.
        orders: single orders through each gateway.
        lag_s: seconds the loop is watched in one repeat.
    """

    repeats: int
    records: int
    frames: int
    path_s: float
    path_rates_per_s: tuple[int, ...] = (1_000, 5_000)
    markets: int = 100
    orders: int = 150
    lag_s: float = 0.5


FULL = Effort(repeats=7, records=20_000, frames=300_000, path_s=20.0)
QUICK = Effort(repeats=3, records=5_000, frames=100_000, path_s=8.0, orders=60)
TINY = Effort(repeats=1, records=50, frames=2_000, path_s=6.0, path_rates_per_s=(150,), markets=10, orders=5, lag_s=0.1)
"""Only shows that everything runs."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        unit: `us` and `ms` are times, the less the better; `/s` are rates, the more the better.
        aim: what it should be, same unit; None where none is set.
        peer: what does the same; empty if nothing does.
        peer_value: the peer's figure of the same run, same unit.
    """

    name: str
    value: float
    unit: str
    aim: float | None = None
    peer: str = ""
    peer_value: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; None without one."""
        if not self.peer_value or not self.value:
            return None
        return self.value / self.peer_value if self.unit == "/s" else self.peer_value / self.value

    @property
    def meets_aim(self) -> bool | None:
        """Whether the aim is met; None where none is set."""
        if self.aim is None:
            return None
        return self.value >= self.aim if self.unit == "/s" else self.value <= self.aim

    def facts(self) -> dict[str, object]:
        """Return all of it for a file."""
        return {**asdict(self), "ratio": self.ratio, "meets_aim": self.meets_aim}


def best_us(repeats: int, count: int, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the CPU time in us of one of the `count` things that each way does in one call.

    CPU time of this thread, so that other programs on the machine count less; each way warms up once, then they take
    turns.
    """
    found = dict.fromkeys(ways, float("inf"))
    with _quiet():
        for turn in range(repeats + 1):
            for name, way in ways.items():
                began = time.thread_time_ns()
                way()
                spent = time.thread_time_ns() - began
                if turn:
                    found[name] = min(found[name], spent / count / NS_PER_US)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Measure without the collector's walks, as timeit does."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def machine() -> dict[str, object]:
    """Return what the figures depend on: processor, cores, load, memory, system, Python, packages."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 1),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages,
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
