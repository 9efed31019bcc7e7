"""All metrics of all workers, in one place, and the small server that shows them.

A help text says what to do when the number is bad. Labels come from closed sets; never an instrument id.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

RECORDS = Counter(
    "worker_records_total",
    "Records handled. `outcome`: ok, rejected (see the dead-letter topic), retried (a table it waits for is behind).",
    ["stage", "outcome"],
    registry=REGISTRY,
)
OUTPUTS = Counter("worker_outputs_total", "Records published.", ["stage"], registry=REGISTRY)
BATCH = Histogram(
    "worker_batch_records",
    "Records a poll returned. At the maximum all the time: add replicas.",
    ["stage"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    registry=REGISTRY,
)
HANDLE = Histogram(
    "worker_handle_seconds", "Time to handle and publish one batch.", ["stage"], buckets=_SECONDS, registry=REGISTRY
)
ACK = Histogram(
    "worker_ack_seconds",
    "From produce to Kafka's acknowledgement. Growing: the broker is slow or short of in-sync replicas.",
    ["stage"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
STARTED = Gauge(
    "worker_start_time_seconds",
    "When the process began, s since the epoch. Changing: it dies again and again.",
    registry=REGISTRY,
)
LAG_RECORDS = Gauge(
    "worker_lag_records", "Records not yet handled. Growing: add replicas.", ["stage", "partition"], registry=REGISTRY
)
LAG_SECONDS = Gauge(
    "worker_lag_seconds", "Age of the next unread record, 0 when none.", ["stage", "partition"], registry=REGISTRY
)
PRESSURE = Gauge(
    "worker_pressure",
    "0 calm, 1 busy, 2 conflating (only the newest quote of an instrument goes on), 3 behind (ticks age, nobody trades "
    "on these books). Above 1 for minutes: add replicas with `crossbook scale`; `crossbook status` says whose.",
    ["stage", "reader", "partition"],
    registry=REGISTRY,
)
CONFLATED = Counter(
    "sequencer_conflated_total",
    "Records a sequencer left out under load because a newer one of the same instrument was there. Rising all the time: "
    "add replicas.",
    ["stage", "log"],
    registry=REGISTRY,
)
SKIPPED = Counter(
    "sequencer_skipped_total",
    "Times a sequencer went on at the end of a source that may skip because the records it wanted were gone. Rising: "
    "retention is shorter than an outage; books come back with the next repeat.",
    ["stage", "source"],
    registry=REGISTRY,
)
COMMIT_AGE = Gauge(
    "worker_commit_age_seconds",
    "Since the last commit. Above 10 s: outputs are not acknowledged; look at the broker.",
    ["stage"],
    registry=REGISTRY,
)
CHECKPOINT_AGE = Gauge(
    "worker_checkpoint_age_seconds",
    "Since all of a task's state was known to be on its checkpoint topic. Above 60 s: a takeover handles so much again; "
    "look for checkpoint.waiting in the worker's log.",
    ["stage", "partition"],
    registry=REGISTRY,
)
RESTORE = Gauge(
    "worker_restore_seconds",
    "From the assignment of a partition to its task being ready to handle. Growing: the checkpoint topic is not "
    "compacted, or the broker is slow.",
    ["stage", "partition"],
    registry=REGISTRY,
)
DEAD = Counter(
    "worker_dead_letters_total",
    "Records given up, by error. `crossbook tail dead.<stage>`.",
    ["stage", "error"],
    registry=REGISTRY,
)
BLOCKED = Counter(
    "worker_produce_blocked_total",
    "Times the producer's queue was full and the worker waited. Rising: the broker is slower than the worker.",
    ["stage"],
    registry=REGISTRY,
)
DUPLICATES = Counter(
    "worker_duplicates_total",
    "Records dropped because they were seen before (restarts, twins).",
    ["stage"],
    registry=REGISTRY,
)
EVENTS = Counter("stage_events_total", "Countable things a stage saw, by name.", ["stage", "event"], registry=REGISTRY)
LEVELS = Gauge("stage_level", "Sizes a stage keeps an eye on, by name.", ["stage", "name"], registry=REGISTRY)


def forget(gauge: Gauge, labels: Sequence[str]) -> None:
    """Take one series of a gauge away: what it spoke of is somebody else's now."""
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)


class Endpoint:
    """Serves `/metrics` and `/health` on 127.0.0.1 from a thread of its own."""

    def __init__(self, port: int, health: Callable[[], dict[str, object]]) -> None:
        """Bind `port` (0: any free one); `health` returns the facts, with `ok` among them."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/metrics"):
                    self._answer(200, "text/plain; version=0.0.4", generate_latest(REGISTRY))
                elif self.path.startswith("/health"):
                    facts = health()
                    self._answer(200 if facts.get("ok") else 503, "application/json", json.dumps(facts).encode())
                else:
                    self._answer(404, "text/plain", b"try /metrics or /health\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                # Whoever asked may have given up while the worker was frozen: nothing to say about that.
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing: a scrape is not an event."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
