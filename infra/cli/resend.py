"""Dead letters back to where they can be handled: decided on one by one, sent, and followed until they have an end.

Which way a letter takes depends on its stage (docs/dead-letters.md): `normalize` gets the bytes on their source topic
again, with a header; letters of `derive` and `observe` go to the sinks alone; what decided or traded never comes back.
Sending twice is harmless: what follows has the same identity. So the word RESENT is written before the bytes are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import Message, TopicPartition

from core.domain.errors import CrossbookError, Reject, Unavailable
from core.runtime import resent
from core.runtime.clock import SystemClock
from core.runtime.consumer import LogReader, value_bytes
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.resent import SENT_TO_SINKS, Letter, Mark
from core.runtime.topics import BY_NOUN, DEAD_RETURNED, DEAD_STATE, RAW_FRAME, Topic
from infra.cli.letters import Found
from infra.cli.reach import Reach
from schemas.dead import Returned, State
from schemas.raw import Frame

Way = Literal["source", "sinks"]
BATCH = 100
TIMEOUT_S = 20.0
_POLL_S = 0.1


@dataclass
class Tally:
    """What became of the letters that were meant."""

    sent: set[str] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)
    """why -> how many"""
    refused: Counter[str] = field(default_factory=Counter)
    through: int = 0
    records: int = 0
    """what those that came through became"""
    again: dict[str, str] = field(default_factory=dict)
    """letter -> reason"""

    @property
    def silent(self) -> int:
        """Sent letters nobody has said a word about yet."""
        return len(self.sent) - self.through - len(self.again)


def way_of(reach: Reach, found: Found) -> Way | str:
    """Return which way a letter goes, or in a sentence why it cannot.

    Raises:
        Unavailable: Kafka or the registry does not answer.
    """
    stage = found.letter.stage
    if stage in SENT_TO_SINKS:
        return "sinks"
    if stage != "normalize":
        return _NEVER.get(stage, f"{stage} takes nothing back")
    topic = BY_NOUN.get(found.noun)
    if topic is None:
        return f"its source {found.dead.source_topic} is no topic of this version"
    if found.run != reach.run:
        return f"its source belongs to run {found.run}, which run {reach.run} never writes"
    if topic is RAW_FRAME and _is_chunk(reach, found):
        return "it is one chunk of a frame, and the letter holds only that chunk"
    if topic.cleanup == "compact":
        newer = newest_since(reach, topic, found, found.dead.source_offset + 1)
        if newer is not None:
            return f"a newer record stands under its key (offset {newer.offset()})"
    return "source"


_NEVER = {
    "decide": "its log has gone on: what was missed is reconciled from the venue's reports, never decided afterwards",
    "execute": "an order is never sent from a dead letter: its reservation was freed, strategies decide anew",
    "ingest": "ingest reads sockets: nothing can be put back there",
}


class Sender:
    """Sends letters of one run back and listens for what becomes of them."""

    def __init__(self, reach: Reach) -> None:
        """Connect; from here on every word about letters is heard."""
        self._reach = reach
        self._clock = SystemClock()
        reach.codec.warm(Returned, State)
        self._publisher = Publisher(
            bootstrap=reach.bootstrap,
            codec=reach.codec,
            clock=self._clock,
            run=reach.run,
            stage="infra",
            partitions=reach.partitions,
            client_id=f"{reach.run}.dead",
        )
        self._states = LogReader.assigned(reach.bootstrap, group=f"{reach.run}.dead", positions=[])
        place = TopicPartition(DEAD_STATE.name(reach.run), 0)
        _, place.offset = self._states.edges(place)
        self._states.take([place])

    def close(self) -> None:
        """Disconnect."""
        self._states.close()

    def drop(self, letters: list[Letter], reason: str, advance: Callable[[int], None]) -> None:
        """Say of these letters that nobody will look at them any more; they stay until their retention ends."""
        for first in range(0, len(letters), BATCH):
            batch = letters[first : first + BATCH]
            for letter in batch:
                self._publisher.publish(resent.state_of(letter, "DROPPED", self._clock, reason=reason))
            self._acknowledge()
            advance(len(batch))

    def send(self, found: Iterator[Found], tally: Tally, advance: Callable[[int], None]) -> None:
        """Send what can be sent, in the order given; what cannot be is counted with its reason.

        Raises:
            Unavailable: Kafka does not acknowledge in time; what was sent may be sent again without care.
        """
        batch: list[tuple[Found, Way]] = []
        for one in found:
            way = way_of(self._reach, one)
            if way not in ("source", "sinks"):
                tally.refused[way] += 1
                advance(1)
                continue
            batch.append((one, way))  # type: ignore[arg-type]  # one of the two words
            if len(batch) == BATCH:
                self._send(batch, tally, advance)
                batch = []
        self._send(batch, tally, advance)

    def _send(self, batch: list[tuple[Found, Way]], tally: Tally, advance: Callable[[int], None]) -> None:
        if not batch:
            return
        # Said first: the stage's own word comes later and is the one that stays.
        for one, _ in batch:
            self._publisher.publish(resent.state_of(one.letter, "RESENT", self._clock))
        self._acknowledge()
        for one, way in batch:
            if way == "sinks":
                self._publisher.publish(Output(DEAD_RETURNED, one.key, self._returned(one)))
            else:
                self._put_back(one)
        self._acknowledge()
        for one, _ in batch:
            topic = BY_NOUN.get(one.noun)
            if one.letter.stage == "normalize" and topic is not None and topic.cleanup == "compact":
                self._restore_newer(one, topic)
            tally.sent.add(str(one.letter))
        advance(len(batch))

    def _put_back(self, one: Found) -> None:
        dead = one.dead
        mark = Mark(one.letter, dead.source_partition, dead.source_offset)
        self._publisher.forward(BY_NOUN[one.noun], dead.key, dead.value, dead.source_partition, resent.pack(mark))

    def _returned(self, one: Found) -> Returned:
        dead = one.dead
        if one.noun == DEAD_RETURNED.noun:  # it came back once already, out of another letter
            inner = self._reach.codec.decode(dead.value)
            assert isinstance(inner, Returned), "nothing else stands on that topic"
            place = (inner.noun, inner.partition, inner.offset, inner.kafka_ts_ns)
            key, value = inner.key, inner.value
        else:
            place = (one.noun, dead.source_partition, dead.source_offset, dead.kafka_ts_ns or dead.ts_ns)
            key, value = dead.key, dead.value
        noun, partition, offset, kafka_ts_ns = place
        return Returned(
            letter=str(one.letter),
            noun=noun,
            partition=partition,
            offset=offset,
            kafka_ts_ns=kafka_ts_ns,
            key=key,
            value=value,
        )

    def _restore_newer(self, one: Found, topic: Topic) -> None:
        """Put back what came under the letter's key while it was on its way: the newest record must stay the newest."""
        newer = newest_since(self._reach, topic, one, one.dead.source_offset + 1, besides=one.letter)
        value = value_bytes(newer) if newer is not None else None
        if value is not None:
            self._publisher.forward(topic, one.dead.key, value, one.dead.source_partition)
            self._acknowledge()

    def listen(self, tally: Tally, wait_s: float, show: Callable[[Tally], None] = lambda _: None) -> None:
        """Take in what is said about the letters that were sent, until all have an end or time is up."""
        deadline = time.monotonic() + wait_s
        ended: dict[str, State] = {}
        while len(ended) < len(tally.sent) and time.monotonic() < deadline:
            messages, _ = self._states.batch(500, _POLL_S)
            for message in messages:
                value = value_bytes(message)
                record = self._reach.codec.decode(value) if value else None
                if isinstance(record, State) and record.letter in tally.sent:
                    if record.state in ("THROUGH", "AGAIN"):
                        ended[record.letter] = record
                    else:
                        ended.pop(record.letter, None)
            came = [state for state in ended.values() if state.state == "THROUGH"]
            tally.through, tally.records = len(came), sum(state.records for state in came)
            tally.again = {name: state.reason for name, state in ended.items() if state.state == "AGAIN"}
            show(tally)

    def _acknowledge(self) -> None:
        if not self._publisher.wait_acknowledged(TIMEOUT_S):
            raise Unavailable(f"Kafka at {self._reach.bootstrap} did not acknowledge within {TIMEOUT_S:.0f} s: repeat")


def newest_since(
    reach: Reach, topic: Topic, found: Found, first: int, *, besides: Letter | None = None
) -> Message | None:
    """Return the newest record under a letter's key from an offset of its partition on, None if there is none.

    Args:
        reach: where Kafka is.
        topic: the letter's source.
        found: the letter.
        first: offset to begin at.
        besides: leave out what this letter put there itself.
    """
    name, partition = topic.name(reach.run), found.dead.source_partition
    reader = LogReader.assigned(
        reach.bootstrap, group=f"{reach.run}.dead", positions=[TopicPartition(name, partition, first)]
    )
    newest = None
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            messages, ended = reader.batch(500, _POLL_S)
            for message in messages:
                key = message.key() or b""
                same = (key.encode() if isinstance(key, str) else key) == found.dead.key
                if same and (besides is None or not _is_of(message, besides)):
                    newest = message
            if ended:
                return newest
        raise Unavailable(f"{name} [{partition}] cannot be read to its end within {TIMEOUT_S:.0f} s")
    finally:
        reader.close()


def _is_of(message: Message, letter: Letter) -> bool:
    try:
        mark = resent.unpack(message.headers())
    except CrossbookError:
        return False
    return mark is not None and mark.letter == letter


def _is_chunk(reach: Reach, found: Found) -> bool:
    try:
        record = reach.codec.decode(found.dead.value)
    except Reject:
        return False
    return isinstance(record, Frame) and record.chunks > 1
