"""`crossbook status` and `crossbook scale`: what runs, how far it is behind, what the books are worth."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.domain.errors import CrossbookError, Misconfigured, Unavailable
from core.domain.trust import MARKET_CLOSED, MARKET_PAUSED, cause_in
from core.runtime.admin import group_lag
from core.runtime.pressure import LEVELS, Level, worst
from core.runtime.targets import FOLDER, sweep
from infra.cli.reach import Reach
from infra.stack.processes import Processes, groups, worker_folder
from infra.stack.stack import Stack

SCRAPE_TIMEOUT_S = 2.0
QUERY_TIMEOUT_S = 5.0
_BY_CAUSE = {MARKET_CLOSED: "CLOSED", MARKET_PAUSED: "PAUSED"}
"""What is shown of STALE books that nobody waits for."""


class Scraped(NamedTuple):
    """What a worker's metrics say."""

    metrics: dict[str, float]
    """summed by name"""
    lag_s: float
    """the largest of its partitions"""
    pressure: dict[str, Level]
    """by reader and partition, where it is not calm"""
    at_bound: dict[str, int]
    """what was done because a queue was full: how often, by queue and deed"""


class Worker(NamedTuple):
    """One worker process as its note and its metrics tell it."""

    pid: int
    stage: str
    log: str
    lag_s: float
    metrics: dict[str, float]
    """name{labels} summed over what is not told apart here"""
    pressure: dict[str, Level]
    at_bound: dict[str, int]

    @property
    def level(self) -> Level:
        """The worst of its readers."""
        return worst(list(self.pressure.values()))


def workers(reach: Reach) -> list[Worker]:
    """Return the workers of the run that left a note and still live."""
    found = []
    for note in sorted(worker_folder(reach.stack.data, reach.run).glob("*.json")):
        try:
            facts = json.loads(note.read_text())
        except (OSError, ValueError):
            continue  # just being written or removed
        pid = int(facts["pid"])
        if psutil.pid_exists(pid):
            told = scrape(int(facts["metrics_port"]))
            found.append(
                Worker(pid, facts["stage"], facts["log"], told.lag_s, told.metrics, told.pressure, told.at_bound)
            )
    return found


def scrape(port: int) -> Scraped:
    """Return what a worker's metrics say; empty when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            text = answer.read().decode()
    except OSError:
        return Scraped({}, 0.0, {}, {})
    return read_metrics(text)


def read_metrics(text: str) -> Scraped:
    """Return what metrics in Prometheus' text form say of a worker."""
    told = Scraped({}, 0.0, {}, {})
    sums, lag_s = told.metrics, 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "worker_lag_seconds":
                lag_s = max(lag_s, sample.value)
            elif sample.name == "worker_pressure" and sample.value:
                told.pressure[f"{sample.labels['reader']} [{sample.labels['partition']}]"] = LEVELS[int(sample.value)]
            elif sample.name == "queue_at_bound_total" and sample.value:
                told.at_bound[f"{sample.labels['queue']}: {sample.labels['did']}"] = int(sample.value)
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return told._replace(lag_s=lag_s)


def query(reach: Reach, sql: str) -> list[list[object]]:
    """Run one SQL query on QuestDB and return the rows; `$RUN` stands for the condition that picks the run.

    Raises:
        Unavailable: QuestDB does not answer, or a table is not there yet.
    """
    chosen = sql.replace("$RUN", f"run = '{reach.run}'")
    url = f"http://{reach.questdb_http}/exec?{urllib.parse.urlencode({'query': chosen})}"
    try:
        with urllib.request.urlopen(url, timeout=QUERY_TIMEOUT_S) as answer:
            rows: list[list[object]] = json.loads(answer.read())["dataset"]
            return rows
    except urllib.error.HTTPError as e:
        raise Unavailable(f"QuestDB refuses {sql[:60]!r}: {e.read().decode(errors='replace')[:200]}") from e
    except (OSError, ValueError, KeyError) as e:
        raise Unavailable(f"QuestDB at {reach.questdb_http} does not answer ({e}): `crossbook up`") from e


def books_by_state(reach: Reach) -> dict[str, int]:
    """Return how many instruments' newest quote is in each state; of closed and paused markets under a word of their own.

    Raises:
        Unavailable: QuestDB does not answer.
    """
    sql = (
        "SELECT state, cause, count() FROM "
        "(SELECT state, cause FROM derived_quote WHERE $RUN LATEST ON ts PARTITION BY instrument)"
    )
    return count_by_state((str(state), str(cause or ""), int(str(count))) for state, cause, count in query(reach, sql))


def count_by_state(found: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    """Sum counts of (state, cause) by the state that is shown: STALE says that somebody should look, CLOSED does not."""
    sums: dict[str, int] = {}
    for state, cause, count in found:
        shown = _BY_CAUSE.get(cause_in(cause, _BY_CAUSE), state) if state == "STALE" else state
        sums[shown] = sums.get(shown, 0) + count
    return dict(sorted(sums.items()))


def scale_workers(reach: Reach, stage: str, n: int) -> str:
    """Bring a watcher of the run to `n` processes and say what it had.

    Raises:
        Misconfigured: the run has no such worker, or the name means several.
    """
    from infra.demo import cast

    processes = Processes(reach.stack.data, reach.run)
    names = sorted(processes.list()) if processes.is_running() else []
    if not names:
        raise Misconfigured(f"no workers of run {reach.run} are running: start them with `crossbook demo`")
    meant = [name for name in names if name == stage] or [name for name in names if name.startswith(f"{stage}-")]
    if len(meant) != 1:
        problem = f"{stage!r} means several" if meant else f"there is no {stage!r}"
        raise Misconfigured(f"{problem} in run {reach.run}: choose one of {', '.join(meant or names)}")
    before = processes.scale(meant[0], n)
    known = {part.name: part.worker for part in [*cast.parts(), cast.DESK]}
    if meant[0] in known:
        # Of more than it is to have nobody waits for those that died.
        sweep(worker_folder(reach.stack.data, reach.run) / FOLDER, known[meant[0]], keep=n)
    return f"{meant[0]}: {before} -> {n} processes"


def show(reach: Reach, console: Console) -> None:
    """Print all of it; a part that cannot be asked says why in one line."""
    stack = Stack(reach.stack)
    stack.show(console)
    _show_processes(reach, console)
    for part in (_show_lag, _show_books):
        try:
            part(reach, console)
        except CrossbookError as e:
            console.print(f"[red]{e}[/]", highlight=False)
    console.print(
        f"next: `crossbook topics --run {reach.run}`, `crossbook tail derived.book --follow`, "
        f"console http://{reach.questdb_http}",
        highlight=False,
    )


def _show_processes(reach: Reach, console: Console) -> None:
    known = {worker.pid: worker for worker in workers(reach)}
    table = Table(title="workers", title_justify="left", box=None, pad_edge=False)
    for column in ("run", "worker", "pid"):
        table.add_column(column)
    for column in ("records", "published", "dead letters", "lag s"):
        table.add_column(column, justify="right")
    table.add_column("pressure")
    rows = 0
    for group in groups(reach.stack.data):
        if group == "stack":
            continue
        for name, pids in Processes(reach.stack.data, group).list().items():
            for pid in pids:
                rows += 1
                worker = known.get(pid)
                sums = worker.metrics if worker else {}
                table.add_row(
                    group,
                    name,
                    str(pid),
                    *(
                        f"{sums.get(key, 0):,.0f}"
                        for key in ("worker_records_total", "worker_outputs_total", "worker_dead_letters_total")
                    ),
                    f"{worker.lag_s:.1f}" if worker else "",
                    pressure_of(worker) if worker else "",
                )
    console.print(table if rows else "no workers are running: `crossbook demo` starts all of them")
    for worker in known.values():
        for deed, count in sorted(worker.at_bound.items()):
            console.print(f"[yellow]{worker.stage} {worker.log} ({worker.pid}): queue {deed} {count:,} times[/]")


def pressure_of(worker: Worker) -> str:
    """Return a worker's level, and below calm and busy which of its readers has it."""
    level = worker.level
    if level not in {"conflating", "behind"}:
        return level
    where = ", ".join(sorted(reader for reader, one in worker.pressure.items() if one == level))
    return f"[{'red' if level == 'behind' else 'yellow'}]{level}[/]: {escape(where)}"


def _show_lag(reach: Reach, console: Console) -> None:
    lag_s: dict[str, float] = {}
    for worker in workers(reach):
        group = f"{reach.run}.{worker.stage}.{worker.log}"
        lag_s[group] = max(lag_s.get(group, 0.0), worker.lag_s)
    table = Table(title="lag by consumer group", title_justify="left", box=None, pad_edge=False)
    for column in ("group", "topic"):
        table.add_column(column)
    table.add_column("records", justify="right")
    table.add_column("seconds", justify="right")
    for group, topics in sorted(group_lag(reach.require_kafka().bootstrap, reach.run).items()):
        seconds = f"{lag_s[group]:.1f}" if group in lag_s else ""
        for topic, left in sorted(topics.items()):
            table.add_row(group, topic, f"{left:,}", seconds)
    console.print(table if table.row_count else f"no consumer group of run {reach.run} has committed yet")


def _show_books(reach: Reach, console: Console) -> None:
    states = books_by_state(reach)
    text = "  ".join(f"{state} {count}" for state, count in states.items()) or "none yet"
    console.print(f"books of run {reach.run}: {text}", highlight=False)
