"""Work beside the sink that comes due by the clock: each run is written down in `job_run`, with what it did.

A job is asked every so often. A run that found nothing to do leaves no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.domain.errors import CrossbookError
from core.runtime import log as logs
from core.runtime.clock import Clock
from observe.postgres import Postgres, moment

log = logs.get()

KEPT_DAYS = 90
_NOTE = """
INSERT INTO job_run (job, run, began_at, ended_at, outcome, rows, detail) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


class Job(Protocol):
    """Something that is done every `every_s` seconds."""

    name: str
    every_s: float

    def run(self) -> tuple[int, str]:
        """Do it; return how many rows it wrote, and a word on it.

        Raises:
            Unavailable: PostgreSQL or QuestDB does not answer; it is tried again at its next time.
        """
        ...


@dataclass
class Jobs:
    """The jobs of one run."""

    database: Postgres
    clock: Clock
    run: str
    jobs: Sequence[Job]

    def __post_init__(self) -> None:
        self._due = {job.name: 0.0 for job in self.jobs}
        self._failed: dict[str, str] = {}

    def turn(self, now_s: float) -> None:
        """Run at most one job that is due, the one that waits longest.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        due = [job for job in self.jobs if self._due[job.name] <= now_s]
        if due:
            job = min(due, key=lambda job: self._due[job.name])
            self._due[job.name] = now_s + job.every_s
            run_job(self.database, self.clock, self.run, job, self._failed)


def run_job(
    database: Postgres, clock: Clock, run: str, job: Job, failed: dict[str, str] | None = None, *, raises: bool = False
) -> int:
    """Run one job and write down that it ran; return how many rows it wrote.

    Args:
        failed: what each job failed of before: the same failure is written down once.
        raises: raise what the job failed of, after it is written down.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    failed = {} if failed is None else failed
    error: CrossbookError | None = None
    began = moment(clock.now_ns())
    try:
        rows, detail = job.run()
        outcome = "DONE"
        failed.pop(job.name, None)
    except CrossbookError as e:
        error = e
        rows, detail, outcome = 0, str(e), "FAILED"
        if failed.get(job.name) == detail:
            return 0
        failed[job.name] = detail
        log.warning("job.failed", job=job.name, reason=detail)
    if rows or outcome == "FAILED":
        with database.transaction() as connection:
            connection.execute(
                _NOTE, (job.name, run, began, moment(clock.now_ns()), outcome, rows, detail.replace("\x00", "")[:1_000])
            )
    if error is not None and raises:
        raise error
    return rows


@dataclass
class Cleaning:
    """Deletes lines of `job_run` that are older than `KEPT_DAYS`."""

    database: Postgres
    name: str = "clean"
    every_s: float = 3_600.0

    def run(self) -> tuple[int, str]:
        """Delete them."""
        with self.database.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM job_run WHERE began_at < now() - make_interval(days => %s)", (KEPT_DAYS,)
            )
        return gone.rowcount, f"older than {KEPT_DAYS} days"
