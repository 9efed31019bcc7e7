"""Where partitions begin and end is asked again while leadership moves, and for no longer than was allowed."""

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from core.domain.errors import Unavailable
from core.runtime import offsets, topics
from core.runtime.consumer import LogReader

MOVES = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
MISSING = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


class Leaders:
    """Both kinds of client, before leaders that refuse so many times. No broker refuses on request."""

    def __init__(self, refusals: dict[int, list[KafkaError]]) -> None:
        self.refusals = refusals
        self.asked: list[list[int]] = []

    def _answer(self, number: int):
        if self.refusals.get(number):
            raise KafkaException(self.refusals[number].pop(0))
        return 100 + number

    def get_watermark_offsets(self, partition, timeout=0.0, cached=False):
        self.asked.append([partition.partition])
        return 7, self._answer(partition.partition)

    def list_offsets(self, places, request_timeout):
        self.asked.append([place.partition for place in places])
        futures = {}
        for place in places:
            futures[place] = future = Future()
            try:
                future.set_result(TopicPartition(place.topic, place.partition, self._answer(place.partition)))
            except KafkaException as e:
                future.set_exception(e)
        return futures


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(offsets, "PAUSE_S", 0.01)


def test_a_leader_that_is_none_yet_is_asked_again_for_the_edges():
    leaders = Leaders({0: [MOVES, MOVES]})
    assert offsets.edges(leaders, TopicPartition("t", 0), 10.0) == (7, 100)
    assert len(leaders.asked) == 3


def test_only_those_that_did_not_say_are_asked_again():
    leaders = Leaders({1: [MOVES], 2: [MOVES, MOVES]})
    places = [TopicPartition("t", number) for number in range(3)]
    assert offsets.offsets(leaders, places, OffsetSpec.latest(), 10.0) == {("t", n): 100 + n for n in range(3)}
    assert leaders.asked == [[0, 1, 2], [1, 2], [2]]


@pytest.mark.parametrize("refusals", [{0: [MISSING]}, {0: [MOVES], 1: [MISSING], 2: [MOVES]}])
def test_what_is_no_move_of_a_leader_is_said_at_once(refusals):
    leaders = Leaders(refusals)
    places = [TopicPartition("t", number) for number in range(3)]
    with pytest.raises(KafkaException) as caught:
        offsets.offsets(leaders, places, OffsetSpec.latest(), 10.0)
    assert caught.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert len(leaders.asked) == 1


def test_a_leader_that_never_is_one_is_given_up_in_time():
    leaders = Leaders({0: [MOVES] * 1_000})
    reader = LogReader(leaders)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Unavailable, match=r"t \[0\]: offsets cannot be read"):
        patch.setattr("core.runtime.consumer.EDGES_TIMEOUT_S", 0.1)
        reader.edges(TopicPartition("t", 0))
    assert 2 <= len(leaders.asked) <= 11


def test_nothing_is_asked_where_there_are_no_partitions():
    leaders = Leaders({})
    assert offsets.offsets(leaders, [], OffsetSpec.latest(), 10.0) == {}
    assert leaders.asked == []


def test_real_clients_say_where_a_log_begins_and_ends(cluster):
    name = topics.MARKET_EVENT.name(cluster.run)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for _ in range(3):
        producer.produce(name, b"x", partition=1)
    assert producer.flush(10) == 0
    reader = LogReader.assigned(cluster.bootstrap, group="offsets", positions=[])
    try:
        assert reader.edges(TopicPartition(name, 1)) == (0, 3)
    finally:
        reader.close()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    places = [TopicPartition(name, 0), TopicPartition(name, 1)]
    assert offsets.offsets(admin, places, OffsetSpec.latest(), 10.0) == {(name, 0): 0, (name, 1): 3}
