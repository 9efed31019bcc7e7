"""Dead letters that come back: the mark they carry, and the one way a task loop handles them.

`crossbook dead resend` puts a letter's bytes on its source topic again with the header `resent`. Of all readers only the
stage that wrote the letter looks at them, and only if its tasks remember nothing. What they become is for the sinks: it
goes to `dead.returned`, which nobody else reads, so that no book ever takes a record that comes back. Of a compacted
topic the bytes are still the newest under their key: there the record is handled like any other.

What became of the letter is written to `dead.state`: THROUGH, or AGAIN with the reason. A letter that comes back can
neither be kept waiting (that would hold up what is alive) nor stop the stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from confluent_kafka import Message

from core.domain.errors import CrossbookError, Halt, MalformedFrame
from core.domain.partition import partition_of
from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.codec import Codec
from core.runtime.consumer import key_text
from core.runtime.flow import ALL_PARTITIONS, BY_KEY, Input, Output, Task
from core.runtime.producer import Headers, Publisher
from core.runtime.sequenced import Headers as AnyHeaders
from core.runtime.topics import DEAD_RETURNED, DEAD_STATE, Topic
from schemas.dead import Returned, State
from schemas.enums import LetterState

log = logs.get()

RESENT_HEADER = "resent"
SENT_TO_SINKS = frozenset({"derive", "observe"})
"""Stages whose letters go straight to the sinks, which say what became of them."""
NEVER_STOOD = -1
"""Offset of a record that did not stand on its topic."""


class Letter(NamedTuple):
    """Which dead letter: its stage, and its offset in `dead.<stage>`, which has one partition."""

    stage: str
    offset: int

    def __str__(self) -> str:
        return f"{self.stage}/{self.offset}"


class Mark(NamedTuple):
    """What the header says: the letter, and where its record stood first."""

    letter: Letter
    partition: int
    offset: int


def letter_named(text: str) -> Letter:
    """Return the letter of `<stage>/<offset>`.

    Raises:
        MalformedFrame: it is not of that form.
    """
    stage, slash, offset = text.partition("/")
    if not slash or not offset.isdecimal():
        raise MalformedFrame(f"expected <stage>/<offset>, found {text[:80]!r}")
    return Letter(stage, int(offset))


def pack(mark: Mark) -> Headers:
    """Return the headers of a record that comes back."""
    return [(RESENT_HEADER, f"{mark.letter}|{mark.partition}|{mark.offset}".encode())]


# hot: every record of every pure stage
def unpack(headers: AnyHeaders) -> Mark | None:
    """Return the mark among a record's headers, None if it does not come back.

    Raises:
        MalformedFrame: the header is there and not in its form.
    """
    if not headers:
        return None
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        if name == RESENT_HEADER and value is not None:
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            letter, *place = text.split("|")
            if len(place) != 2 or not all(number.isdecimal() for number in place):
                raise MalformedFrame(f"header resent: expected letter|partition|offset, found {text[:80]!r}")
            return Mark(letter_named(letter), int(place[0]), int(place[1]))
    return None


def state_of(letter: Letter, state: LetterState, clock: Clock, *, reason: str = "", records: int = 0) -> Output:
    """Return the newest word about a letter, to be published."""
    said = State(letter=str(letter), state=state, reason=reason, records=records, ts_ns=clock.now_ns())
    return Output(DEAD_STATE, str(letter), said)


class Returns:
    """What one task loop does with the records of its log that come back."""

    def __init__(
        self,
        *,
        stage: str,
        topic: Topic,
        remembers: bool,
        partitions: int,
        publisher: Publisher,
        codec: Codec,
        clock: Clock,
    ) -> None:
        """`partitions` is the count of the hot topics of the run that is written."""
        self._stage = stage
        self._topic = topic
        self._remembers = remembers
        self._partitions = partitions
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._passed = metrics.EVENTS.labels(stage, "resent.passed_over")
        self._handled = metrics.EVENTS.labels(stage, "resent.handled")

    def handle(self, mark: Mark, message: Message, value: bytes, new_task: Callable[[], Task]) -> None:
        """Handle a record that comes back, or pass over it: never by the log's own task, never into a book.

        Raises:
            Halt: what it became cannot be published.
        """
        if self._remembers or mark.letter.stage != self._stage:
            self._passed.inc()
            return
        self._handled.inc()
        place = (self._topic.noun, message.partition() or 0, message.offset() or 0)
        try:
            # A task of its own: what the log's task collects (chunks of a frame under way) is not touched.
            item = Input(self._codec.decode(value), *place, key_text(message))
            outputs: tuple[Output, ...] = tuple(new_task().handle(item))
        except CrossbookError as e:
            log.warning("letter.dead_again", letter=str(mark.letter), reason=str(e))
            outputs = ()  # what could be read of it, and the resets, were published when it died
            word = state_of(mark.letter, "AGAIN", self._clock, reason=f"{type(e).__name__}: {e}")
        else:
            word = state_of(mark.letter, "THROUGH", self._clock, records=len(outputs))
        try:
            for output in outputs:
                self._publisher.publish(self._sent_back(mark, message, output))
            self._publisher.publish(word)
        except CrossbookError as e:
            raise Halt(f"{self._topic.noun}: letter {mark.letter} came back and cannot be published: {e}") from e

    def _sent_back(self, mark: Mark, message: Message, output: Output) -> Output:
        if self._topic.cleanup == "compact":
            return output
        returned = Returned(
            letter=str(mark.letter),
            noun=output.topic.noun,
            partition=self._partition_of(output),
            offset=NEVER_STOOD,
            kafka_ts_ns=message.timestamp()[1] * NS_PER_MS,
            key=output.key.encode(),
            value=self._codec.encode(output.record, self._clock.now_ns()),
        )
        return Output(DEAD_RETURNED, output.key, returned)

    def _partition_of(self, output: Output) -> int:
        if output.partition == ALL_PARTITIONS or output.topic.partitions != "hot":
            return 0
        return partition_of(output.key, self._partitions) if output.partition == BY_KEY else output.partition
