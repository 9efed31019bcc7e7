"""`python -m observe questdb`: write every record of a run into QuestDB."""

from __future__ import annotations

import argparse
import sys
from typing import cast

from core.runtime import topics
from core.runtime.producer import Publisher
from core.runtime.settings import WorkerSettings
from core.runtime.worker import assemble, main, on_stop, presence, wait_for
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.stage import STAGE, Sink


def run(settings: WorkerSettings) -> int:
    """Build the parts and sink until told to stop."""
    settings = cast("ObserveSettings", settings)
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
    parser.add_argument("sink", choices=["questdb"])
    parser.parse_args()
    sys.exit(main(ObserveSettings, run))
