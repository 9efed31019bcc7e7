"""`python -m observe questdb | postgres`: write a run's records into QuestDB, its tickets and money into PostgreSQL."""

from __future__ import annotations

import argparse
import sys
from typing import cast

from core.runtime import topics
from core.runtime.producer import Publisher
from core.runtime.worker import assemble, main, on_stop, presence, wait_for
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.stage import STAGE, Sink


def run_questdb(settings: ObserveSettings) -> int:
    """Build the parts and sink until told to stop."""
    parts = assemble(settings, STAGE, log_name="questdb")
    kinds = {kind for topic in topics.TOPICS if topic.layer != "control" for kind in topic.records}
    wait_for(lambda _: parts.codec.warm(*kinds), parts.clock, settings.start_wait_s)
    questdb = QuestDb(settings.questdb_http)
    questdb.prepare(settings.start_wait_s)
    publisher = Publisher(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        clock=parts.clock,
        run=settings.writes,
        stage=STAGE,
        partitions=parts.run.partitions,
    )
    sink = Sink(settings=settings, codec=parts.codec, clock=parts.clock, publisher=publisher, questdb=questdb)
    with presence(settings, STAGE, "questdb", sink.health):
        on_stop(sink.stop)
        sink.run()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m observe", description=__doc__)
    parser.add_argument("sink", choices=["questdb", "postgres"])
    chosen = run_questdb
    if parser.parse_args().sink == "postgres":
        from observe.desk import run as chosen
    sys.exit(main(ObserveSettings, lambda settings: chosen(cast("ObserveSettings", settings))))
