"""What is seen while it happens: a reader of `derived.book` as a trading stage is one, and a look at each worker.

A book is usable for the reader when its newest quote is LIVE and the last tick of its partition is less than a second
old; times are those of the reader's own clock, when a record came, not when it was made. A worker answers when its
metrics can be read; a stage is well when all of its processes answer and none is a second behind.
"""

import json
import re
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from core.runtime import topics
from infra.cli.reach import Reach
from infra.demo.cast import DESK
from infra.demo.tail import Tail
from infra.stack.servers import is_ready
from schemas.derived import Quote, Tick
from schemas.record import Record

TICK_AGE_S = 1.0
"""A tick this old vouches for nothing, as for every reader of quotes."""
LOOK_S = 0.5
SCRAPE_TIMEOUT_S = 0.4
LAG_S_MAX = 1.0
REGISTRY = "registry"
_LAG = re.compile(r"^worker_lag_(seconds|records)\{[^}]*\} ([0-9.e+-]+)$", re.MULTILINE)
_KINDS = (Quote.schema_name, Tick.schema_name)


@dataclass
class Books:
    """When each book was usable for the reader: spans of time in which it was not, by instrument."""

    partition: dict[str, int] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    since_s: dict[str, float] = field(default_factory=dict)
    """instrument -> when it stopped being LIVE"""
    dark: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    """how often a book left LIVE, by the first word of the cause"""
    tick_s: dict[int, float] = field(default_factory=dict)
    silent: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """partition -> spans without a fresh tick"""

    def quote(self, now_s: float, partition: int, instrument: str, state: str, cause: str) -> None:
        """Take in one quote."""
        self.partition[instrument] = partition
        before = self.state.get(instrument)
        self.state[instrument] = state
        if state == "LIVE":
            since_s = self.since_s.pop(instrument, None)
            if since_s is not None:
                self.dark.setdefault(instrument, []).append((since_s, now_s))
        elif before == "LIVE":
            self.since_s[instrument] = now_s
            word = cause.partition(":")[0]
            self.causes[word] = self.causes.get(word, 0) + 1

    def tick(self, now_s: float, partition: int, tick_s: float) -> None:
        """Take in one tick: `tick_s` is the time it states."""
        last_s = self.tick_s.get(partition)
        if last_s is not None:
            stale_s = last_s + TICK_AGE_S
            if now_s > stale_s:
                # Ticks of a backlog vouch for nothing yet: the span goes on until one is fresh.
                self._silence(partition, stale_s, now_s)
            if tick_s < last_s:
                return
        self.tick_s[partition] = tick_s

    def _silence(self, partition: int, begin_s: float, end_s: float) -> None:
        spans = self.silent.setdefault(partition, [])
        if spans and begin_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end_s)
        else:
            spans.append((begin_s, end_s))

    def usable(self, now_s: float) -> int:
        """Return how many books are usable now."""
        fresh = {partition for partition, tick_s in self.tick_s.items() if now_s - tick_s < TICK_AGE_S}
        return sum(1 for name, state in list(self.state.items()) if state == "LIVE" and self.partition[name] in fresh)

    def spans(self, now_s: float) -> dict[str, list[tuple[float, float]]]:
        """Return for each instrument the spans in which it was not usable, the last perhaps not over at `now_s`."""
        found = {}
        for name, partition in self.partition.items():
            spans = [*self.dark.get(name, []), *self.silent.get(partition, [])]
            if name in self.since_s:
                spans.append((self.since_s[name], now_s))
            stale_s = self.tick_s.get(partition, 0.0) + TICK_AGE_S
            if now_s > stale_s:
                spans.append((stale_s, now_s))
            found[name] = merged(spans)
        return found


def merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans in order, those that touch made one."""
    found: list[tuple[float, float]] = []
    for begin_s, end_s in sorted(spans):
        if found and begin_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((begin_s, end_s))
    return found


@dataclass(frozen=True)
class Look:
    """All workers at one moment.

    Attributes:
        answering: pids that answered, by (stage, log).
        lag_s: the largest of them; lag: records, by (stage, log).
        usable: books.
    """

    at_s: float
    answering: dict[str, tuple[int, ...]]
    lag_s: dict[str, float]
    lag: dict[str, float]
    usable: int
    known: int


class Watch:
    """Two threads: one reads `derived.book`, one looks at the workers."""

    def __init__(self, reach: Reach, folder: Path) -> None:
        """Prepare.

        Args:
            folder: where workers leave their notes.
        """
        self.books = Books()
        self.looks: list[Look] = []
        self._reach = reach
        self._folder = folder
        self._stop = threading.Event()
        self._tail = Tail(
            reach,
            name="watch",
            topics=[topics.DERIVED_BOOK.name(reach.run)],
            take=self._take,
            wanted=lambda kind, _: kind in _KINDS,
        )
        self._thread = threading.Thread(target=self._look_on, name="looks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._tail.start()
        self._thread.start()

    def stop(self) -> None:
        """End both threads."""
        self._stop.set()
        self._tail.stop()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _take(self, record: Record, partition: int) -> None:
        now_s = time.time()
        if isinstance(record, Quote):
            self.books.quote(now_s, partition, record.instrument, record.state, record.cause)
        elif isinstance(record, Tick):
            self.books.tick(now_s, partition, record.ts_ns / 1e9)

    # Workers

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.looks.append(self._look())

    def _look(self) -> Look:
        at_s = time.time()
        answering: dict[str, tuple[int, ...]] = {}
        lag_s: dict[str, float] = {}
        lag: dict[str, float] = {}
        for note in self._folder.glob("*.json"):
            try:
                facts = json.loads(note.read_text())
            except (OSError, ValueError):
                continue  # just being written or removed
            pid, name = int(facts["pid"]), worker_name(facts["stage"], facts["log"])
            found = scrape(int(facts["metrics_port"])) if psutil.pid_exists(pid) else None
            if found is None:
                continue
            answering[name] = (*answering.get(name, ()), pid)
            lag_s[name] = max(lag_s.get(name, 0.0), found[0])
            lag[name] = lag.get(name, 0.0) + found[1]
        if is_ready(self._reach.stack, REGISTRY):
            answering[REGISTRY] = (0,)
        return Look(at_s, answering, lag_s, lag, self.books.usable(at_s), len(self.books.state))


def worker_name(stage: str, log: str) -> str:
    """Return the watcher's name of a worker by its note: `execute`, `kalshi:main` is `execute-kalshi`."""
    if stage == "decide":
        return log
    if stage == "execute":
        return f"execute-{log.partition(':')[0]}"
    if (stage, log) == (DESK.command[0], DESK.command[1]):
        return DESK.name
    kind, _, venue = log.partition("-")
    if not venue:
        return stage
    return f"ingest-{venue}" if kind == "feed" else log


def scrape(port: int) -> tuple[float, float] | None:
    """Return a worker's lag, the largest in seconds and the sum in records; None when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    seconds = records = 0.0
    for unit, value in _LAG.findall(text):
        if unit == "seconds":
            seconds = max(seconds, float(value))
        else:
            records += float(value)
    return seconds, records
