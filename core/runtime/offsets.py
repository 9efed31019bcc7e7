"""Where partitions begin and end, asked patiently: a leader that has just been chosen says for a moment that it is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # re-exported from C

AnswerT = TypeVar("AnswerT")

PAUSE_S = 0.1
"""Between two questions to a leader that is none, or none yet."""

_MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._TRANSPORT,
)


class Edges(NamedTuple):
    """Of a partition: its first offset, and the next to be written."""

    first: int
    end: int


def edges(consumer: Consumer, partition: TopicPartition, timeout_s: float) -> Edges:
    """Ask a consumer for the edges of a partition.

    Raises:
        KafkaException: the leader does not say within `timeout_s`.
    """
    first, end = _patiently(lambda left_s: consumer.get_watermark_offsets(partition, timeout=left_s), timeout_s)
    return Edges(int(first), int(end))


def offsets(
    admin: AdminClient, places: Iterable[TopicPartition], spec: OffsetSpec, timeout_s: float
) -> dict[tuple[str, int], int]:
    """Ask an admin client for one offset of each partition, by topic and partition.

    Raises:
        KafkaException: a leader does not say within `timeout_s`.
    """
    found: dict[tuple[str, int], int] = {}

    def ask(left_s: float) -> None:
        missing = [place for place in places if (place.topic, place.partition) not in found]
        asked = admin.list_offsets(dict.fromkeys(missing, spec), request_timeout=left_s) if missing else {}
        refused: KafkaException | None = None
        for place, future in asked.items():
            try:
                found[place.topic, place.partition] = future.result(left_s).offset
            except KafkaException as e:
                # What moves is asked again; what will not be said whatever is asked is said first.
                if refused is None or _is_moving(refused):
                    refused = e
        if refused is not None:
            raise refused

    places = list(places)
    _patiently(ask, timeout_s)
    return found


def _patiently(ask: Callable[[float], AnswerT], timeout_s: float) -> AnswerT:
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(deadline - time.monotonic(), PAUSE_S)
        try:
            return ask(left_s)
        except KafkaException as e:
            if not _is_moving(e) or time.monotonic() + PAUSE_S > deadline:
                raise
        time.sleep(PAUSE_S)


def _is_moving(error: KafkaException) -> bool:
    return error.args[0].code() in _MOVING
