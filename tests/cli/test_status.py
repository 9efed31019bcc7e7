"""`crossbook status`: what a worker's metrics come to on the screen."""

from prometheus_client import generate_latest
from rich.text import Text

from core.runtime import metrics, queues
from core.runtime.pressure import Pressure, PressureLimits
from infra.cli.status import Worker, count_by_state, pressure_of, read_metrics


def worker_of(scraped) -> Worker:
    return Worker(7, "decide", "strategies", scraped.lag_s, scraped.metrics, scraped.pressure, scraped.at_bound)


def test_the_worst_reader_gives_the_level_and_is_named():
    told = [
        Pressure(
            stage="decide",
            reader="status test",
            partition=partition,
            limits=PressureLimits(),
            name="demo.decide.strategies",
            advice="add replicas",
            conflates=True,
        )
        for partition in range(3)
    ]
    told[1].observe(0.3, 0.0)
    told[2].observe(0.12, 0.0)
    queues.at_bound("status test", "waited", 3)
    metrics.LAG_SECONDS.labels("decide", "1").set(0.3)
    worker = worker_of(read_metrics(generate_latest(metrics.REGISTRY).decode()))
    mine = {reader: level for reader, level in worker.pressure.items() if reader.startswith("status test")}
    assert mine == {"status test [1]": "conflating", "status test [2]": "busy"}
    assert worker.at_bound["status test: waited"] == 3
    assert worker.lag_s >= 0.3
    shown = Text.from_markup(pressure_of(worker._replace(pressure=mine)))
    assert shown.plain == "conflating: status test [1]"


def test_a_worker_that_keeps_up_is_calm_and_names_nobody():
    assert pressure_of(worker_of(read_metrics(""))) == "calm"


def test_stale_books_of_closed_and_paused_markets_are_counted_under_their_own_word():
    found = [
        ("LIVE", "", 40),
        ("STALE", "market closed", 7),
        ("STALE", "market paused", 2),
        ("STALE", "feed silent", 3),
        ("STALE", "behind venue: by more than 10000 ms", 1),
        ("SUSPECT", "closed: end", 5),
    ]
    assert count_by_state(found) == {"CLOSED": 7, "LIVE": 40, "PAUSED": 2, "STALE": 4, "SUSPECT": 5}
