"""A consumer that hears a partition no more is told from one whose log is quiet."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Producer, TopicPartition

from core.domain.errors import Unavailable
from core.runtime import hearing, topics
from core.runtime.consumer import LogReader, from_beginning

LOOK_S = 0.4


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "LOOK_S", LOOK_S)


class Line:
    """A log that is written to, and a reader of it whose client can be made deaf."""

    def __init__(self, cluster, positions: Callable[[str], list[TopicPartition]]) -> None:
        self.name = topics.MARKET_EVENT.name(cluster.run)
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap})
        self.reader = LogReader.assigned(cluster.bootstrap, group="hearing", positions=positions(self.name))
        self.read = 0

    def say(self, partition: int = 0) -> None:
        self._producer.produce(self.name, b"x", partition=partition)
        assert self._producer.flush(10) == 0

    def deafen(self, partition: int) -> None:
        # Below the reader: it knows nothing of it, as of a client that has lost its place.
        self.reader._consumer.pause([TopicPartition(self.name, partition)])

    def poll_for(self, seconds: float, *, speaking: int | None = None) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if speaking is not None:
                self.say(speaking)
            self.read += len(self.reader.batch(100, 0.05)[0])


@pytest.fixture
def line(cluster):
    lines = []

    def make(positions: Callable[[str], list[TopicPartition]] = lambda name: from_beginning(name, 4)) -> Line:
        lines.append(Line(cluster, positions))
        return lines[-1]

    yield make
    for one in lines:
        one.reader.close()


def test_a_partition_that_grows_unheard_ends_the_reader_and_a_new_one_reads_on(line):
    old = line()
    old.say(1)
    old.poll_for(3 * LOOK_S, speaking=0)
    assert old.read > 1
    old.deafen(1)
    with pytest.raises(Unavailable, match=rf"{old.name} \[1\] grew from \d+ to \d+ while this consumer stood at 1 for"):
        for _ in range(100):
            old.poll_for(0.1, speaking=1)
    new = line()
    new.poll_for(2 * LOOK_S)
    assert new.read > old.read


def test_one_that_never_heard_anything_is_told_too(line):
    for place in (OFFSET_BEGINNING, 0):
        one = line(lambda name, place=place: [TopicPartition(name, 2, place)])
        one.deafen(2)
        with pytest.raises(Unavailable, match="stood at 0 for"):
            for _ in range(100):
                one.poll_for(0.1, speaking=2)


def test_quiet_logs_paused_ones_and_logs_read_from_their_end_are_no_deafness(line):
    one = line(lambda name: [*from_beginning(name, 3), TopicPartition(name, 3, OFFSET_END)])
    paused = [TopicPartition(one.name, 1)]
    one.say(0)
    one.poll_for(1.0)
    one.reader.pause(paused)
    one.poll_for(5 * LOOK_S, speaking=1)
    assert one.read == 1
    one.reader.resume(paused)
    one.poll_for(5 * LOOK_S, speaking=1)
    assert one.read > 1


def test_a_reader_that_was_frozen_itself_is_not_deaf(line):
    one = line(lambda name: from_beginning(name, 1))
    one.say()
    one.poll_for(3 * LOOK_S)
    for _ in range(3):
        one.say()
        time.sleep(3 * LOOK_S)  # nobody polls
        one.say()
        one.reader.batch(1, 0.0)
    one.poll_for(3 * LOOK_S)
    assert one.read >= 5
