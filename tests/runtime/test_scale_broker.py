"""Workers come, go, die and freeze under load on a real broker: nothing is lost, nothing is doubled, the state is equal.

Processes as `crossbook scale` makes them. What an event costs is measured from outside, as the longest silence of each
output partition by Kafka's own timestamps, while every partition gets a record every few milliseconds.
"""

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from core.runtime import topics
from core.runtime.admin import find_run
from core.runtime.checkpoint import KafkaStore
from core.runtime.clock import SystemClock
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import Input, Output, TaskContext
from schemas.market import Trade

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
INSTRUMENTS = [f"kalshi:{n}" for n in range(64)]
PER_SECOND = 800
SILENCE_S_MAX = 12.0
"""A takeover from a killed or frozen worker: 3 s of session, a heartbeat, a restore; on a loaded machine."""

pytestmark = pytest.mark.broker


def toy():
    spec = importlib.util.spec_from_file_location("scale_worker", HERE / "scale_worker.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Workers:
    """Processes of one group."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.running: list[subprocess.Popen] = []
        self._made = 0

    def add(self, count):
        for _ in range(count):
            self._made += 1
            values = {
                "RUN": self.cluster.run,
                "BOOTSTRAP": self.cluster.bootstrap,
                "REGISTRY_URL": self.cluster.registry_url,
                "CHECKPOINT_INTERVAL_S": "1",
                "WORKER_DIR": str(self.folder / "workers"),
            }
            env = {**os.environ, **{f"CROSSBOOK_{name}": value for name, value in values.items()}}
            with (self.folder / f"worker-{self._made}.log").open("w") as output:
                self.running.append(
                    subprocess.Popen(
                        [sys.executable, str(HERE / "scale_worker.py")],
                        cwd=self.folder,
                        env={**env, "PYTHONPATH": str(PROJECT)},
                        stdout=output,
                        stderr=output,
                    )
                )

    def stop(self, count):
        """As scaling down does: SIGTERM, one after another."""
        for _ in range(count):
            process = self.running.pop()
            process.terminate()
            assert process.wait(30) == 0

    def owners(self, dead=()):
        """Return how many partitions each worker that answers has."""
        found = {}
        for note in (self.folder / "workers").glob("*.json"):
            facts = json.loads(note.read_text())
            if facts["pid"] in dead or not any(p.pid == facts["pid"] and p.poll() is None for p in self.running):
                continue
            with urllib.request.urlopen(f"http://127.0.0.1:{facts['metrics_port']}/health", timeout=2) as answer:
                found[facts["pid"]] = json.loads(answer.read())["partitions"]
        return found

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


class Load(threading.Thread):
    """A steady stream of trades to every partition."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.publisher = cluster.publisher("normalize")
        self.stopping = threading.Event()
        self.count = 0

    def run(self):
        began = time.monotonic()
        while not self.stopping.is_set():
            due = int((time.monotonic() - began) * PER_SECOND)
            while self.count < due:
                name = INSTRUMENTS[self.count % len(INSTRUMENTS)]
                self.count += 1
                self.publisher.publish(Output(topics.MARKET_EVENT, name, trade(name, self.count)))
            self.publisher.serve()
            time.sleep(0.005)
        assert self.publisher.wait_acknowledged(20)

    def stop(self):
        self.stopping.set()
        self.join(30)
        assert not self.is_alive()


def trade(name, number):
    return Trade(
        instrument=name,
        epoch=1,
        frame_no=number,
        index=0,
        price_exp=-4,
        size_exp=-6,
        price=5_000,
        size=number % 97,
        aggressor="BUY",
        recv_ts_ns=number,
    )


def until(condition, timeout_s=40.0):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except OSError:
            pass  # one that is frozen or just going does not answer
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def read_all(cluster, topic):
    """Return (partition, offset, Kafka time in ms, record) of a whole topic."""
    name = topic.name(cluster.run)
    places = from_beginning(name, cluster.partitions)
    reader = LogReader.assigned(cluster.bootstrap, group=f"{cluster.run}.test", positions=places)
    codec, found, unread = cluster.codec, [], set(range(cluster.partitions))
    while unread:
        messages, ended = reader.batch(500, 0.2)
        found += [(m.partition(), m.offset(), m.timestamp()[1], codec.decode(value_bytes(m) or b"")) for m in messages]
        unread -= {place.partition for place in ended}
    reader.close()
    return found


def committed(cluster):
    name = topics.MARKET_EVENT.name(cluster.run)
    reader = LogReader.assigned(cluster.bootstrap, group=f"{cluster.run}.derive.book", positions=[])
    places = reader.committed([TopicPartition(name, p) for p in range(cluster.partitions)])
    reader.close()
    return sum(max(place.offset, 0) for place in places)


def longest_silences(said, since_ms, until_ms):
    """Return each input partition's longest time without an output between two moments, in seconds."""
    silences = {}
    for partition in {record.version_index for *_, record in said}:
        times = sorted(ms for _, _, ms, record in said if record.version_index == partition)
        times = [since_ms, *(ms for ms in times if since_ms < ms < until_ms), until_ms]
        silences[partition] = max(later - earlier for earlier, later in itertools.pairwise(times)) / 1000
    return silences


def checkpoint_of(cluster, partition):
    store = KafkaStore(
        bootstrap=cluster.bootstrap,
        run=cluster.run,
        group=f"{cluster.run}.derive.book",
        topic=topics.DERIVED_CHECKPOINT,
        log_topic=topics.MARKET_EVENT.name(cluster.run),
        task=f"derive.book/{partition}",
        partition=partition,
        incarnation=incarnation_of(cluster),
        codec=cluster.codec,
        clock=SystemClock(),
    )
    loaded = store.open()
    store.close()
    return loaded


def incarnation_of(cluster):
    return find_run(cluster.bootstrap, cluster.codec, cluster.run, SystemClock()).incarnation


def test_scale_kill_and_freeze_under_load_lose_and_double_nothing(broker_cluster, tmp_path, record_property):
    cluster = broker_cluster
    workers, load = Workers(cluster, tmp_path), Load(cluster)
    moments = {}

    def begin(name):
        moments[name] = [time.time() * 1000, 0]

    def end(name, settle_s=2.0):
        time.sleep(settle_s)
        moments[name][1] = time.time() * 1000

    try:
        workers.add(1)
        until(lambda: sum(map(len, workers.owners().values())) == 4)
        load.start()
        time.sleep(3)

        begin("scale 1 to 4")
        workers.add(3)
        until(lambda: sorted(map(len, workers.owners().values())) == [1, 1, 1, 1])
        end("scale 1 to 4")

        frozen = workers.running[1]
        begin("freeze 10 s and thaw")
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(10)
        frozen.send_signal(signal.SIGCONT)
        until(lambda: sorted(map(len, workers.owners().values())) == [1, 1, 1, 1])
        end("freeze 10 s and thaw")

        killed = workers.running.pop(2)
        begin("kill -9")
        killed.kill()
        killed.wait()
        until(lambda: sum(map(len, workers.owners(dead={killed.pid}).values())) == 4)
        end("kill -9")

        begin("scale 3 to 1")
        workers.stop(2)
        until(lambda: sum(map(len, workers.owners().values())) == 4)
        end("scale 3 to 1")

        load.stop()
        until(lambda: committed(cluster) == load.count)
        workers.stop(1)
    finally:
        load.stopping.set()
        workers.close()

    said = read_all(cluster, topics.DERIVED_RESYNC)
    inputs = read_all(cluster, topics.MARKET_EVENT)
    assert len(inputs) == load.count
    repeats = 0
    for partition in range(cluster.partitions):
        task = toy().Sums(TaskContext())
        expected = {}
        for _, offset, _, record in sorted((i for i in inputs if i[0] == partition), key=lambda i: i[1]):
            (output,) = task.handle(Input(record, "market.event", partition, offset, record.instrument))
            expected[offset] = output.record
        found = {}
        for *_, record in said:
            if record.version_index != partition:
                continue
            repeats += record.version_offset in found
            # A repeat is the same record; the first of each is in the log's order (below).
            assert found.setdefault(record.version_offset, record).cause == record.cause
        assert {offset: record.cause for offset, record in found.items()} == {
            offset: record.cause for offset, record in expected.items()
        }
        loaded = checkpoint_of(cluster, partition)
        restored = toy().Sums(TaskContext())
        restored.restore(loaded.items.items())
        assert (restored.total, restored.sums) == (task.total, task.sums)
        assert loaded.head.offset == len(expected)
    check_order(said)
    figures = {name: longest_silences(said, *times) for name, times in moments.items()}
    for name, silences in figures.items():
        worst = max(silences.values())
        record_property(name, worst)
        print(f"{name:22} longest silence by partition: {silences}")
        assert worst < SILENCE_S_MAX
    print(f"records {load.count}, repeats {repeats}, restores in ms {restores(tmp_path)}")


def check_order(said):
    """What is new to a reader comes in the log's order: by instrument, which one output partition holds."""
    last = {}
    for *_, record in sorted(said, key=lambda s: (s[0], s[1])):
        place = last.get(record.instrument, -1)
        seen = int(record.cause.split()[1])
        assert seen <= place + 1 or place == -1
        last[record.instrument] = max(place, seen)


def restores(folder):
    """Return what each restore took, in ms, as the workers logged it."""
    found = []
    for path in sorted(folder.glob("worker-*.log")):
        for line in path.read_text().splitlines():
            if "checkpoint.restored" in line:
                found.append(json.loads(line)["took_ms"])
    return sorted(found)
