"""Kalshi frames to Avro records on a topic, one worker: the real socket, feed and producer, until Kafka has them all.

Frames come from a process of their own over loopback. The peer is the straightforward way to write the same: the
websockets client, confluent's AvroSerializer, and a delivery report a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

from confluent_kafka import Producer
from websockets.asyncio.client import connect

from benchmarks import samples
from benchmarks.codec import CONTEXT, Peer
from benchmarks.measure import NS_PER_US, Effort, Figure
from core.domain.errors import InvariantBroken, Unavailable
from core.runtime.admin import delete_run, ensure_topics
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.edge import EdgeProducer
from core.runtime.producer import producer_config
from core.runtime.settings import WorkerSettings, load
from core.runtime.topics import RAW_FRAME
from infra.mock_cluster import MockCluster
from ingest.connection import open_connection
from ingest.feed import Feed, FeedSpec
from ingest.kalshi import KalshiConversation
from ingest.ports import Wire
from schemas.raw import Frame

AIM_PER_S = 100_000.0
PARTITIONS = 4
RUN = "bench-frames"
PEER = "websockets + AvroSerializer + report a record"
PROBE_S = 1.0
LIMIT_S = 120.0
_BATCH = 500
_SWITCH_INTERVAL_S = 0.0005
"""As the workers set it (core/runtime/worker.py)."""


class NoWire:
    """A socket that is none: for what a feed costs without one."""

    def __init__(self) -> None:
        self.paused = False

    def send(self, payload: bytes) -> None:
        """Say nothing."""

    def ping(self) -> None:
        """Say nothing."""

    def pause(self) -> None:
        """Note that the log is full."""
        self.paused = True

    def unread(self) -> int:
        """Return 0: nothing waits."""
        return 0

    def close(self) -> None:
        """Do nothing."""


def new_feed(producer: EdgeProducer) -> Feed:
    """Return a feed of the sample markets."""
    subjects = {samples.ticker(number): samples.instrument_name("kalshi", number) for number in range(samples.MARKETS)}
    spec = FeedSpec("kalshi", 0, 0, "bench", tuple(subjects.values()))
    return Feed(spec, KalshiConversation(subjects, venue_wide=False), producer, SystemClock())


def new_producer(bootstrap: str, run: str) -> EdgeProducer:
    """Return the producer of an ingest worker."""
    return EdgeProducer(
        bootstrap=bootstrap,
        codec=Codec(FileRegistry()),
        clock=SystemClock(),
        run=run,
        stage="ingest",
        partitions=PARTITIONS,
    )


class Passage(NamedTuple):
    """One set of frames on its way.

    Attributes:
        per_s: frames a second, from the first byte read to the last acknowledgement.
        cpu_us: CPU time of the worker's own thread a frame, without librdkafka's threads; other programs on the
            machine hardly touch it.
    """

    per_s: float
    cpu_us: float

    def better(self, other: Passage) -> Passage:
        """Return the best of both figures."""
        return Passage(max(self.per_s, other.per_s), min(self.cpu_us, other.cpu_us))


class Stopwatch:
    """Measures a passage from when it is made."""

    def __init__(self) -> None:
        self._began_s, self._cpu_ns = time.perf_counter(), time.thread_time_ns()

    def spent_s(self) -> float:
        """Return seconds since."""
        return time.perf_counter() - self._began_s

    def passage(self, count: int) -> Passage:
        """Return the figures of `count` frames."""
        return Passage(count / self.spent_s(), (time.thread_time_ns() - self._cpu_ns) / count / NS_PER_US)


async def through_socket(bootstrap: str, run: str, count: int) -> Passage:
    """Return the passage of frames from a socket, as an ingest worker reads it.

    Raises:
        Unavailable: the feed ended before all came, or Kafka does not acknowledge.
    """
    with _blast(count) as port:
        producer = new_producer(bootstrap, run)
        connection = await open_connection(f"ws://127.0.0.1:{port}/", {}, SystemClock())
        feed = new_feed(producer)
        await feed.open()
        watch = Stopwatch()
        connection.begin(feed)
        while feed.counts.frames < count + 1:
            if feed.over or watch.spent_s() > LIMIT_S:
                why = feed.ended.result().reason if feed.ended.done() else f"{LIMIT_S:.0f} s have passed"
                raise Unavailable(f"{feed.counts.frames} of {count + 1} frames came: {why}")
            await asyncio.sleep(0.001)
        feed.end("all came")
        left = await producer.close(LIMIT_S)
        passage = watch.passage(count)
        connection.close()
    if left:
        raise Unavailable(f"{left} records are not acknowledged")
    return passage


async def without_socket(bootstrap: str, run: str, count: int) -> Passage:
    """Return the passage of frames from memory: peek, number, encode, produce."""
    producer = new_producer(bootstrap, run)
    feed, wire = new_feed(producer), NoWire()
    await feed.open()
    frames = samples.kalshi_frames(count)
    checked: Wire = wire
    feed.begin(checked)
    watch = Stopwatch()
    for start in range(0, count, _BATCH):
        now_ns = time.time_ns()
        for frame in frames[start : start + _BATCH]:
            feed.received(frame, now_ns)
        while wire.paused:
            wire.paused = not feed.flush()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    feed.end("all came")
    left = await producer.close(LIMIT_S)
    passage = watch.passage(count)
    if left or feed.counts.frames != count:
        raise Unavailable(f"{left} records are not acknowledged, {feed.counts.frames} of {count} frames written")
    return passage


async def peer_through_socket(bootstrap: str, run: str, count: int) -> Passage:
    """Return the passage of the same frames the straightforward way."""
    serializer = Peer(Frame)
    name = RAW_FRAME.name(run)
    delivered = 0

    def report(error: object, _: object) -> None:
        nonlocal delivered
        if error is None:
            delivered += 1

    # The same settings; what differs is the code around them.
    config: dict[str, Any] = {**producer_config(bootstrap, "bench-peer"), "delivery.report.only.error": False}
    producer = Producer(config)
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            producer.poll(0.05)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    with _blast(count) as port:
        async with connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None) as client:
            await client.send("{}")
            watch = Stopwatch()
            for number in range(count + 1):
                payload = await client.recv(decode=False)
                now_ns = time.time_ns()
                frame = Frame(
                    feed="kalshi-0",
                    venue="kalshi",
                    epoch=samples.EPOCH,
                    frame_no=number,
                    recv_ts_ns=now_ns,
                    payload=bytes(payload),
                    trail=[now_ns],
                )
                value = serializer.encode(frame, CONTEXT)
                while True:
                    try:
                        producer.produce(name, value, "kalshi-0", 0, on_delivery=report)
                        break
                    except BufferError:
                        await asyncio.sleep(0.001)
            await asyncio.to_thread(producer.flush, LIMIT_S)
            passage = watch.passage(count)
    stop.set()
    thread.join()
    if delivered != count + 1:
        raise Unavailable(f"peer: {delivered} of {count + 1} records are acknowledged")
    return passage


def run(effort: Effort) -> list[Figure]:
    """Measure on the mock cluster, and on a real broker where one answers."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with MockCluster() as cluster:
        cluster.create_run(RUN, PARTITIONS)
        best = _best(
            effort.repeats,
            {
                "socket": lambda: through_socket(cluster.bootstrap, RUN, effort.frames),
                "memory": lambda: without_socket(cluster.bootstrap, RUN, effort.frames),
                "peer": lambda: peer_through_socket(cluster.bootstrap, RUN, effort.frames // 3),
            },
        )
    note = "librdkafka's mock cluster, in this process"
    ours, peer = best["socket"], best["peer"]
    figures = [
        Figure("socket to topic, mock cluster", ours.per_s, "/s", AIM_PER_S, PEER, peer.per_s, note),
        Figure("the worker's thread, a frame", ours.cpu_us, "us", 1e6 / AIM_PER_S, PEER, peer.cpu_us, "CPU time"),
        Figure("memory to topic, mock cluster", best["memory"].per_s, "/s", note="without the socket"),
    ]
    bootstrap = load(WorkerSettings).bootstrap
    if not answers(bootstrap):
        return figures
    name = f"{RUN}-{os.getpid()}"
    ensure_topics(bootstrap, name, PARTITIONS)
    try:
        best = _best(
            min(effort.repeats, 3),
            {
                "socket": lambda: through_socket(bootstrap, name, effort.frames),
                "peer": lambda: peer_through_socket(bootstrap, name, effort.frames // 3),
            },
        )
    finally:
        delete_run(bootstrap, name)
    note = "the broker of the settings, one node"
    ours, peer = best["socket"], best["peer"]
    return [*figures, Figure("socket to topic, real broker", ours.per_s, "/s", None, PEER, peer.per_s, note)]


def _best(repeats: int, ways: dict[str, Callable[[], Coroutine[Any, Any, Passage]]]) -> dict[str, Passage]:
    found = dict.fromkeys(ways, Passage(0.0, float("inf")))
    for _ in range(repeats):
        for name, way in ways.items():
            found[name] = found[name].better(asyncio.run(way()))
            gc.collect()  # ends the producers, which would miss their broker
    return found


def answers(bootstrap: str) -> bool:
    """Whether somebody listens at the first of these addresses."""
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_S).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _blast(count: int) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.blast", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise InvariantBroken(f"{' '.join(command[1:])} did not start")
            yield int(line)
        finally:
            process.terminate()
