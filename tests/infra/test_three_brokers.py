"""Three Kafka nodes: killed one by one under load they lose nothing that was acknowledged, and the gap is short.

`pytest tests/infra/test_three_brokers.py -s` shows the figures.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource

from core.domain.errors import Misconfigured
from core.runtime import topics
from core.runtime.admin import create_run, default_replication, register_schemas
from core.runtime.consumer import consumer_config
from core.runtime.producer import producer_config
from infra.chaos.replicas import Replicas
from infra.stack.settings import StackSettings, names_of
from infra.stack.stack import Stack
from infra.stack.temporary import TemporaryStack

RUN = "test-three"
STREAM = topics.RAW_FRAME.name(RUN)
MOVED = topics.DECISION_LEDGER.name(RUN)
PAUSE_S = 0.003
RESUMES_S = 5.0
"""The promise: trading goes on within this time after a broker was killed."""


def test_two_brokers_are_refused_because_they_have_no_majority():
    with pytest.raises(ValueError, match="two lose their majority"):
        StackSettings(brokers=2)


@pytest.mark.parametrize(("made", "wanted"), [(1, 3), (3, 1)])
def test_a_folder_made_for_another_number_of_brokers_is_refused_by_name(tmp_path: Path, made: int, wanted: int):
    Stack(StackSettings(data=tmp_path)).claim()
    (tmp_path / names_of(made)[0]).mkdir()
    with pytest.raises(Misconfigured, match=rf"made for {made} Kafka node.*ask for {wanted} .*make dev-stack-reset"):
        Stack(StackSettings(data=tmp_path, brokers=wanted)).claim()


@pytest.mark.parametrize("made", [1, 3])
def test_a_folder_says_by_itself_for_how_many_brokers_it_was_made(tmp_path: Path, made: int):
    (tmp_path / names_of(made)[0]).mkdir()
    settings = StackSettings(data=tmp_path)
    assert settings.broker_names == names_of(made)
    assert settings.bootstrap.count(":") == made == settings.replication


class Stream:
    """Producer settings as every worker has them; each record's way from produce to acknowledgement to a reader."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.sent: list[float] = []
        self.acknowledged: dict[int, float] = {}
        self.read: Counter[int] = Counter()
        self.read_at: dict[int, float] = {}
        self.committed: list[tuple[int, float]] = []
        self.errors: list[str] = []
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,)) for work in (self._produce, self._consume, self._move)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def wait_past(self, moment: float, timeout_s: float = 20.0) -> None:
        """Return when records sent after `moment` are acknowledged, read and moved."""
        deadline = time.monotonic() + timeout_s
        first = len(self.sent)
        while first not in self.acknowledged or first not in self.read_at or self.committed[-1][1] < moment:
            assert time.monotonic() < deadline, self.errors or "nothing goes on"
            time.sleep(0.05)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as e:
            self.errors.append(f"{work.__name__}: {e!r}")

    def _produce(self) -> None:
        def delivered(error: object, message: Message) -> None:
            if error is not None:
                self.errors.append(str(error))
            else:
                self.acknowledged[int(message.value() or b"")] = time.monotonic()

        producer = Producer(
            {**producer_config(self.bootstrap, "three"), "delivery.report.only.error": False, "on_delivery": delivered}
        )
        while not self._stopping.is_set():
            number = len(self.sent)
            self.sent.append(time.monotonic())
            producer.produce(STREAM, str(number).encode(), str(number % 64).encode())
            producer.poll(0)
            time.sleep(PAUSE_S)
        assert producer.flush(30) == 0

    def _consume(self) -> None:
        reader = Consumer(consumer_config(self.bootstrap, group=f"{RUN}.three", joins=True, ends=False))
        reader.subscribe([STREAM])
        quiet_since = time.monotonic()
        while not self._stopping.is_set() or time.monotonic() - quiet_since < 3.0:
            for message in reader.consume(500, 0.05):
                if message.error() is None:
                    quiet_since = time.monotonic()
                    self.read[int(message.value() or b"")] += 1
                    self.read_at.setdefault(int(message.value() or b""), quiet_since)
        reader.close()

    def _move(self) -> None:
        producer = Producer({**producer_config(self.bootstrap, "mover"), "transactional.id": "mover"})
        producer.init_transactions(30)
        number = 0
        while not self._stopping.is_set():
            producer.begin_transaction()
            producer.produce(MOVED, str(number).encode(), str(number).encode())
            if self._commits(producer):
                self.committed.append((number, time.monotonic()))
            number += 1
            time.sleep(0.02)

    def _commits(self, producer: Producer) -> bool:
        while True:
            try:
                producer.commit_transaction(30)
                return True
            except KafkaException as e:
                if e.args[0].txn_requires_abort():
                    producer.abort_transaction(30)
                    return False
                if not e.args[0].retriable():
                    raise


@pytest.fixture(scope="module")
def three() -> Iterator[TemporaryStack]:
    with TemporaryStack(("kafka", "registry"), brokers=3, respawn=True) as running:
        register_schemas(running.registry_url)
        create_run(bootstrap=running.bootstrap, registry_url=running.registry_url, run=RUN, partitions=4)
        yield running


def in_sync(admin: AdminClient) -> dict[str, int]:
    """Fewest replicas in sync of each topic of the run."""
    found = admin.list_topics(timeout=10).topics
    return {
        name: min(len(part.isrs) for part in meta.partitions.values())
        for name, meta in found.items()
        if name.startswith(f"{RUN}.")
    }


def wait_whole(admin: AdminClient, timeout_s: float = 45.0) -> None:
    deadline = time.monotonic() + timeout_s
    while set(in_sync(admin).values()) != {3}:
        assert time.monotonic() < deadline, in_sync(admin)
        time.sleep(0.1)


def wait_until(replicas: Replicas, *, whole: bool, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while replicas.are_whole() != whole:
        assert time.monotonic() < deadline, f"whole is {not whole}"
        time.sleep(0.05)


def read_committed(bootstrap: str, topic: str, count: int) -> Counter[int]:
    reader = Consumer(consumer_config(bootstrap, group=f"{RUN}.check", joins=False))
    reader.assign(partitions(bootstrap, topic))
    found: Counter[int] = Counter()
    deadline = time.monotonic() + 20
    while found.total() < count and time.monotonic() < deadline:
        found.update(int(m.value() or b"") for m in reader.consume(1_000, 0.5) if m.error() is None)
    reader.close()
    return found


def partitions(bootstrap: str, topic: str):
    from core.runtime.consumer import from_beginning

    admin = AdminClient({"bootstrap.servers": bootstrap})
    return from_beginning(topic, len(admin.list_topics(topic, timeout=10).topics[topic].partitions))


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_every_topic_of_a_run_stands_on_three_brokers_and_needs_two(three: TemporaryStack):
    admin = AdminClient({"bootstrap.servers": three.bootstrap})
    assert default_replication(admin) == 3
    wait_whole(admin)
    assert set(in_sync(admin)) == {topic.name(RUN) for topic in topics.TOPICS}
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic.name(RUN)) for topic in topics.TOPICS]
    found = [future.result(10) for future in admin.describe_configs(asked).values()]
    assert {config["min.insync.replicas"].value for config in found} == {"2"}


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_brokers_killed_one_by_one_lose_nothing_and_the_flow_goes_on_within_five_seconds(three: TemporaryStack):
    admin = AdminClient({"bootstrap.servers": three.bootstrap})
    wait_whole(admin)
    replicas = Replicas(three.settings)
    assert replicas.are_whole()
    stream = Stream(three.bootstrap)
    stream.start()
    moments: list[tuple[str, float]] = []
    try:
        deadline = time.monotonic() + 20
        while not stream.read or not stream.committed:
            assert time.monotonic() < deadline, stream.errors
            time.sleep(0.05)
        for name in three.brokers:
            old = three.pid(name)
            moments.append((name, time.monotonic()))
            three.kill(name)
            wait_until(replicas, whole=False)
            stream.wait_past(time.monotonic())
            wait_whole(admin)  # started again by itself, and everything is on three brokers again
            wait_until(replicas, whole=True)
            assert three.pid(name) != old
    finally:
        stream.stop()
    gaps = {name: figures(stream, begun, end) for (name, begun), end in zip(moments, ends(moments), strict=True)}
    for name, figure in gaps.items():
        print(f"{name} killed: " + ", ".join(f"{what} {value:.2f} s" for what, value in figure.items()))
    print(f"{len(stream.acknowledged)} records acknowledged, {len(stream.committed)} transactions committed")
    assert stream.errors == []
    assert set(stream.acknowledged) <= set(stream.read), "acknowledged records are lost"
    everything = read_committed(three.bootstrap, STREAM, len(stream.sent))
    assert everything == Counter(range(len(stream.sent))), "lost or doubled"
    moved = read_committed(three.bootstrap, MOVED, len(stream.committed))
    assert {number for number, _ in stream.committed} <= set(moved)
    assert set(moved.values()) == {1}
    assert max(figure["acknowledged"] for figure in gaps.values()) < RESUMES_S


def ends(moments: list[tuple[str, float]]) -> list[float]:
    return [begun for _, begun in moments[1:]] + [float("inf")]


def figures(stream: Stream, begun: float, end: float) -> dict[str, float]:
    """Longest time a record of this span needed to be acknowledged, to be read, and between two commits."""
    span = [number for number, sent in enumerate(stream.sent) if begun - 1 <= sent < end]
    commits = [at for _, at in stream.committed if begun - 1 <= at < end]
    return {
        "acknowledged": max(stream.acknowledged[n] - stream.sent[n] for n in span if n in stream.acknowledged),
        "read": max(stream.read_at[n] - stream.sent[n] for n in span if n in stream.read_at),
        "transaction": max(after - before for before, after in pairwise(commits)),
    }
