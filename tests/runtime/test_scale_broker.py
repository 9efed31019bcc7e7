"""Workers come, go, die and freeze under load on a real broker: nothing is lost, nothing is doubled, the state is equal.

Processes as `crossbook scale` makes them, of a toy task and of derive itself. What an event costs is measured from
outside, as the longest silence of each output partition by Kafka's own timestamps, while every partition gets a record
every few milliseconds.
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

import msgspec
import pytest
from confluent_kafka import TopicPartition

from core.runtime import topics
from core.runtime.admin import find_run
from core.runtime.checkpoint import KafkaStore
from core.runtime.clock import SystemClock
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import ALL_PARTITIONS, Input, Output, TaskContext
from derive.stage import BookTask
from schemas.derived import Quote
from schemas.market import BookDelta, BookSnapshot, Tick, Trade

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
INSTRUMENTS = [f"kalshi:{n}" for n in range(64)]
PER_SECOND = 800
SILENCE_S_MAX = 12.0
"""A takeover from a killed or frozen worker: 3 s of session, a heartbeat, a restore; on a loaded machine."""

pytestmark = [pytest.mark.broker, pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(400)]


def toy():
    spec = importlib.util.spec_from_file_location("scale_worker", HERE / "scale_worker.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ToyWork:
    """A task of sums; each of its outputs depends on everything before."""

    command = (str(HERE / "scale_worker.py"),)
    topic = topics.DERIVED_RESYNC

    def __init__(self):
        self.count = 0

    def records(self, due):
        """Return what is to be published until `due` records are: topic records with the partition they go to."""
        made = []
        while self.count < due:
            name = INSTRUMENTS[self.count % len(INSTRUMENTS)]
            self.count += 1
            made.append(Output(topics.MARKET_EVENT, name, trade(name, self.count)))
        return made

    def task(self, partition):
        return toy().Sums(TaskContext(partition=partition, partitions=4))

    def place(self, partition, record):
        return record.version_index


class DeriveWork:
    """Books under change, with the ticks of their feed: the real stage."""

    command = ("-m", "derive")
    topic = topics.DERIVED_BOOK

    def __init__(self):
        self.count = self._frame = 0
        self._ticked_ns = 0

    def records(self, due):
        made = []
        while self.count < due:
            self.count += 1
            self._frame += 1
            now_ns = time.time_ns()
            name = INSTRUMENTS[self.count % len(INSTRUMENTS)]
            if self.count <= len(INSTRUMENTS):
                made.append(Output(topics.MARKET_EVENT, name, self._snapshot(name, now_ns)))
            elif now_ns - self._ticked_ns > 250_000_000:
                self._ticked_ns = now_ns
                tick = Tick(feed="kalshi-0", venue="kalshi", epoch=1, frame_no=self._frame, recv_ts_ns=now_ns)
                made.append(Output(topics.MARKET_EVENT, "kalshi-0", tick, ALL_PARTITIONS))
            else:
                made.append(Output(topics.MARKET_EVENT, name, self._delta(name, now_ns)))
        return made

    def _snapshot(self, name, now_ns):
        return BookSnapshot(
            **self._origin(name, now_ns),
            bid_prices=[5_000 - 100 * n for n in range(1, 9)],
            bid_sizes=[10**9] * 8,
            ask_prices=[5_000 + 100 * n for n in range(1, 9)],
            ask_sizes=[10**9] * 8,
        )

    def _delta(self, name, now_ns):
        price, size = 5_000 - 100 * (1 + self._frame % 8), 10**6 * (1 + self._frame % 7)
        return BookDelta(**self._origin(name, now_ns), side="BUY", kind="SIGNED", price=price, size=size)

    def _origin(self, name, now_ns):
        return {
            "instrument": name,
            "epoch": 1,
            "frame_no": self._frame,
            "index": 0,
            "price_exp": -4,
            "size_exp": -6,
            "venue_ts_ns": now_ns,
            "recv_ts_ns": now_ns,
        }

    def task(self, partition):
        return BookTask(TaskContext(partition=partition, partitions=4))

    def place(self, partition, record):
        return partition


class Workers:
    """Processes of one group."""

    def __init__(self, cluster, folder, command):
        self.cluster, self.folder, self.command = cluster, folder, command
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
                        [sys.executable, *self.command],
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
    """A steady stream of records to every partition."""

    def __init__(self, cluster, work):
        super().__init__(daemon=True)
        self.publisher, self.work = cluster.publisher("normalize"), work
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        began = time.monotonic()
        try:
            while not self.stopping.is_set():
                for output in self.work.records(int((time.monotonic() - began) * PER_SECOND)):
                    self.publisher.publish(output)
                self.publisher.serve()
                time.sleep(0.005)
            assert self.publisher.wait_acknowledged(20)
        except BaseException as e:
            self.failure = e
            raise

    def stop(self):
        self.stopping.set()
        self.join(30)
        assert not self.is_alive()
        assert self.failure is None


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
    for partition in sorted({place for place, _, _ in said}):
        times = sorted(ms for place, ms, _ in said if place == partition)
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


@pytest.mark.parametrize("work", [ToyWork, DeriveWork], ids=["toy", "derive"])
def test_scale_kill_and_freeze_under_load_lose_and_double_nothing(broker_cluster, tmp_path, record_property, work):
    cluster, work = broker_cluster, work()
    workers, load = Workers(cluster, tmp_path, work.command), Load(cluster, work)
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
        inputs = read_all(cluster, topics.MARKET_EVENT)
        until(lambda: committed(cluster) == len(inputs))
        workers.stop(1)
    finally:
        load.stopping.set()
        workers.close()

    said = [(work.place(p, record), ms, record) for p, _, ms, record in read_all(cluster, work.topic)]
    for partition in range(cluster.partitions):
        mine = sorted((offset, record) for p, offset, _, record in inputs if p == partition)
        check_partition(cluster, work, partition, mine, [record for place, _, record in said if place == partition])
    dark = [record for *_, record in said if isinstance(record, Quote) and record.state not in ("LIVE", "SYNCING")]
    assert dark == []
    for name, times in moments.items():
        silences = longest_silences(said, *times)
        record_property(name, max(silences.values()))
        print(f"{name:22} longest silence by partition: {silences}")
        assert max(silences.values()) < SILENCE_S_MAX
    print(f"records {len(inputs)}, restores in ms {restores(tmp_path)}")


def check_partition(cluster, work, partition, inputs, said):
    """What was said is what one pass says, whatever was said twice; what was written down is its state."""
    task = work.task(partition)
    expected = []
    for number, (offset, record) in enumerate(inputs):
        assert offset == number
        key = getattr(record, "instrument", "kalshi-0")
        expected += [plain(o.record) for o in task.handle(Input(record, "market.event", partition, offset, key))]
    found = list(dict.fromkeys(map(plain, said)))
    assert found == list(dict.fromkeys(expected))
    print(f"partition {partition}: {len(inputs)} records, {len(said)} outputs, {len(said) - len(expected)} said twice")
    loaded = checkpoint_of(cluster, partition)
    assert loaded.head.offset == len(inputs)
    restored = work.task(partition)
    restored.restore(loaded.items.items())
    again = work.task(partition)
    again.restore(dict(task.changed()).items())
    for item in probes(work, len(inputs)):
        says = [[plain(output.record) for output in one.handle(item)] for one in (restored, again, task)]
        assert says[0] == says[1] == says[2]


def plain(record):
    """A record as it is but for the times at which it passed."""
    return msgspec.json.encode(msgspec.structs.replace(record, trail=[]))


def probes(work, offset):
    """Records of every instrument that come next, so that all of a task's state shows."""
    more = type(work)()
    more.count = more._frame = 10**9
    outputs = more.records(10**9 + 2 * len(INSTRUMENTS))
    return [Input(o.record, "market.event", 0, offset + n, o.key) for n, o in enumerate(outputs)]


def restores(folder):
    """Return what each restore took, in ms, as the workers logged it."""
    found = []
    for path in sorted(folder.glob("worker-*.log")):
        for line in path.read_text().splitlines():
            if "checkpoint.restored" in line:
                found.append(json.loads(line)["took_ms"])
    return sorted(found)
