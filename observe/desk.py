"""The parts of `python -m observe postgres`: the sink, and the jobs that run beside it."""

from __future__ import annotations

from core.runtime import topics
from core.runtime.worker import assemble, on_stop, presence, wait_for
from observe.jobs import Cleaning, Jobs
from observe.markouts import MarkOuts
from observe.marks import Marks
from observe.performance import Performance
from observe.postgres import Postgres
from observe.postgres_rows import READ
from observe.postgres_sink import STAGE, PostgresSink
from observe.questdb import QuestDb
from observe.settings import ObserveSettings

LOG = "postgres"


def run(settings: ObserveSettings) -> int:
    """Build the parts and write until told to stop."""
    parts = assemble(settings, STAGE, log_name=LOG)
    kinds = {
        kind for topic in (*READ, *topics.TOPICS) if topic.layer in {"decision", "order"} for kind in topic.records
    }
    wait_for(lambda _: parts.codec.warm(*kinds), parts.clock, settings.start_wait_s)
    database = Postgres(settings.postgres_url, name=f"crossbook {settings.writes}")
    wait_for(lambda _: database.prepare(), parts.clock, settings.start_wait_s)
    marks = Marks(QuestDb(settings.questdb_http).execute, settings.reads, parts.run.created_ts_ns)
    beside = (database, marks, parts.clock, parts.run.incarnation)
    jobs = Jobs(database, parts.clock, settings.reads, [MarkOuts(*beside), Performance(*beside), Cleaning(database)])
    sink = PostgresSink(
        settings=settings, codec=parts.codec, clock=parts.clock, run=parts.run, database=database, jobs=jobs
    )
    with presence(settings, STAGE, LOG, sink.health):
        on_stop(sink.stop)
        sink.run()
    return 0
