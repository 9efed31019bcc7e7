"""Whether a consumer still hears its logs.

A client may stay without the records of a partition for ever after its broker was away or frozen, though its connection
is up and its neighbours read on (librdkafka issue 5153; one way there, an `assign` whose offset a quick `pause` loses, is
its issue 2190). No error says so, and the lag it knows stands still with it. So the ends are asked for beside it: a
position that has not moved between two looks, below an end that has, is deafness, and only a new consumer heals it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from core.domain.errors import Unavailable
from core.runtime.clock import Clock, SystemClock

LOOK_S = 10.0
"""Between two looks. A healthy client has a broker's records within a second or two of its return."""
ASK_TIMEOUT_S = 0.5
"""A broker that does not answer now is asked at the next look."""
_EARLIEST = -2
"""The timestamp that asks for the first offset; `OFFSET_END` asks for the next one."""

Place = tuple[str, int]


@dataclass
class _Still:
    """A partition whose position has not moved.

    Attributes:
        position: negative until a first record came.
        end: of the log when it was first seen above the position, -1 before.
    """

    position: int
    end: int = -1


class Hearing:
    """Looks after the partitions of one consumer; for its own thread."""

    def __init__(self, consumer: Consumer, clock: Clock | None = None) -> None:
        self._consumer = consumer
        self._clock = clock or SystemClock()
        self._begun: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._still: dict[Place, _Still] = {}
        self._looked_s = self._clock.monotonic_s()

    def begin(self, places: Iterable[TopicPartition]) -> None:
        """Take in what is read from now on; an offset below zero is one of the client's names for a place."""
        for place in places:
            self._begun[place.topic, place.partition] = place.offset
            self._still.pop((place.topic, place.partition), None)

    def end(self, places: Iterable[TopicPartition]) -> None:
        """Take in what is read no longer."""
        for place in places:
            for known in (self._begun, self._still):
                known.pop((place.topic, place.partition), None)
            self._paused.discard((place.topic, place.partition))

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """Expect nothing of these until `resume`."""
        self._paused.update((place.topic, place.partition) for place in places)

    def resume(self, places: Iterable[TopicPartition]) -> None:
        """Expect records of these again."""
        for place in places:
            self._paused.discard((place.topic, place.partition))
            self._still.pop((place.topic, place.partition), None)

    def look(self) -> None:
        """Look, if it is time to.

        Raises:
            Unavailable: a log grew twice while nothing of it was read; a new consumer reads it.
        """
        now_s = self._clock.monotonic_s()
        waited_s = now_s - self._looked_s
        if waited_s < LOOK_S:
            return
        self._looked_s = now_s
        if waited_s > 2 * LOOK_S:
            self._still.clear()  # not the client stood still but who polls it: frozen, or busy elsewhere
        places = [TopicPartition(*place) for place in self._begun if place not in self._paused]
        try:
            silent = self._silent(self._consumer.position(places))
            if silent:
                self._judge(silent, self._ask(silent, OFFSET_END))
        except KafkaException:
            return  # no broker answers: that is another error's to say

    def _silent(self, positions: Iterable[TopicPartition]) -> list[Place]:
        found = []
        for one in positions:
            place = (one.topic, one.partition)
            still = self._still.get(place)
            if still is not None and still.position == one.offset:
                found.append(place)
            else:
                self._still[place] = _Still(one.offset)
        return found

    def _judge(self, silent: list[Place], ends: dict[Place, int]) -> None:
        unread = [place for place in silent if self._still[place].position < 0]
        begins = self._begins(unread)
        for place, end in ends.items():
            still = self._still[place]
            position = still.position if still.position >= 0 else begins.get(place, end)
            if end <= position:
                still.end = -1
            elif still.end < 0:
                still.end = end
            elif end > still.end:
                topic, number = place
                raise Unavailable(
                    f"{topic} [{number}] grew from {still.end} to {end} while this consumer stood at {position} for "
                    f"{LOOK_S:g} s: it hears nothing any more, a new one does"
                )

    def _begins(self, places: list[Place]) -> dict[Place, int]:
        """Return where partitions begin of which no record came yet, without those that begin at their end."""
        found = {place: self._begun[place] for place in places if self._begun[place] >= 0}
        rest = [place for place in places if place not in found and self._begun[place] != OFFSET_END]
        named = [place for place in rest if self._begun[place] != OFFSET_BEGINNING]
        if named:
            for one in self._consumer.committed([TopicPartition(*place) for place in named], timeout=ASK_TIMEOUT_S):
                if one.offset >= 0:
                    found[one.topic, one.partition] = one.offset
        rest = [place for place in rest if place not in found]
        return found | (self._ask(rest, _EARLIEST) if rest else {})

    def _ask(self, places: list[Place], which: int) -> dict[Place, int]:
        asked = [TopicPartition(*place, which) for place in places]
        answers = self._consumer.offsets_for_times(asked, timeout=ASK_TIMEOUT_S)
        return {(one.topic, one.partition): one.offset for one in answers if one.error is None and one.offset >= 0}
