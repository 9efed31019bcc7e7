"""The sequencer: several topics into one log partition, in the order and with the time its task is to see.

It belongs to the owner of the log partition and runs on a thread of its own beside the task's loop. Sources are read by
hand; each forwarded record carries where it stood (`sequenced.pack`), so a new owner resumes each source after the
highest offset found in the log, and a thawed one does no harm. A `Clock` record is appended every 100 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException, Message, TopicPartition

from core.domain.errors import CrossbookError, Reject, Unavailable
from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.codec import Codec
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.producer import Publisher
from core.runtime.sequenced import pack, unpack
from core.runtime.topics import Topic
from schemas import decision
from schemas.record import Record

log = logs.get()

CLOCK_EVERY_NS = 100 * NS_PER_MS
_POLL_S = 0.02
_IDLE_POLL_S = 0.2
_BATCH = 500


@dataclass(frozen=True)
class SourceTopic:
    """One topic a sequencer forwards.

    Attributes:
        configures: its records are decoded and shown to the plan, from the beginning and before anything is forwarded.
        filtered: only records whose key the plan wants are forwarded; else all.
        may_skip: with nothing forwarded yet, start at the end: its records are repeated or replaced anyway.
    """

    topic: Topic
    configures: bool = False
    filtered: bool = False
    may_skip: bool = False


class Plan(Protocol):
    """What one log partition is to see: made from configuration records, remembers what it was shown."""

    def learn(self, record: Record) -> None:
        """Take in a configuration record."""
        ...

    def active(self) -> bool:
        """Return whether anything is to be sequenced for this partition."""
        ...

    def wants(self, noun: str, key: bytes) -> bool:
        """Return whether records under this key are to be forwarded. Called for every record: cheap."""
        ...


class Sequencer:
    """Appends to one partition of one log until stopped."""

    def __init__(
        self,
        *,
        log_topic: Topic,
        partition: int,
        sources: Sequence[SourceTopic],
        plan: Plan,
        publisher: Publisher,
        codec: Codec,
        clock: Clock,
        bootstrap: str,
        read_run: str,
        stage: str,
    ) -> None:
        """Prepare. Sources are read from `read_run`; the log is that of the publisher's run."""
        self._topic = log_topic
        self._partition = partition
        self._sources = {source.topic.name(self._run_of(source, read_run, publisher.run)): source for source in sources}
        self._plan = plan
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._bootstrap = bootstrap
        self._group = f"{publisher.run}.{stage}.sequencer"
        self._forwarded = metrics.EVENTS.labels(stage, f"sequenced {log_topic.noun}")
        self._stopping = threading.Event()
        self._last: dict[tuple[str, int], int] = {}
        self._now_ns = 0
        self._clock_ns = 0
        self.failure: CrossbookError | None = None
        self._thread = threading.Thread(target=self._run, name=f"sequencer-{log_topic.noun}-{partition}", daemon=True)

    @staticmethod
    def _run_of(source: SourceTopic, read_run: str, write_run: str) -> str:
        # Paper trading reads live market data, but its decisions, orders and configuration are its own run's.
        return read_run if source.topic.layer in ("raw", "market", "derived") else write_run

    def start(self) -> None:
        """Resume where the log ends, then forward until stopped. A failure ends the thread and is kept."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._resume()
            self._forward()
        except (CrossbookError, KafkaException) as e:
            self.failure = e if isinstance(e, CrossbookError) else Unavailable(str(e))
            log.error("sequencer.stopped", log=self._topic.noun, partition=self._partition, reason=str(e))

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask to stop and wait."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _resume(self) -> None:
        """Find the highest offset of each source in the log, and the log's time."""
        name = self._topic.name(self._publisher.run)
        reader = LogReader.assigned(
            self._bootstrap,
            group=f"{name}.sequencer",
            positions=[TopicPartition(name, self._partition, OFFSET_BEGINNING)],
        )
        try:
            done = False
            while not done and not self._stopping.is_set():
                messages, ended = reader.batch(_BATCH, 0.1)
                for message in messages:
                    stamp = unpack(message.headers())
                    if stamp is not None:
                        place = (stamp.source.noun, stamp.source.partition)
                        self._last[place] = max(stamp.source.offset, self._last.get(place, -1))
                        self._now_ns = max(self._now_ns, stamp.now_ns)
                done = bool(ended)
        finally:
            reader.close()

    def _configuration(self) -> LogReader:
        """Return a reader of what configures, read to its present end."""
        reader = LogReader.assigned(self._bootstrap, group=self._group, positions=[])
        places = [
            place
            for name, source in self._sources.items()
            if source.configures
            for place in from_beginning(name, reader.partition_count(name))
        ]
        reader.take(places)
        unread = {(place.topic, place.partition) for place in places}
        while unread and not self._stopping.is_set():
            messages, ended = reader.batch(_BATCH, _POLL_S)
            self._append_all(messages)
            unread -= {(place.topic, place.partition) for place in ended}
        return reader

    def _data(self, reader: LogReader) -> list[TopicPartition]:
        """Return where each data source goes on."""
        positions: list[TopicPartition] = []
        for name, source in self._sources.items():
            if source.configures:
                continue
            fresh = OFFSET_END if source.may_skip else OFFSET_BEGINNING
            for number in range(reader.partition_count(name)):
                last = self._last.get((source.topic.noun, number))
                positions.append(TopicPartition(name, number, fresh if last is None else last + 1))
        return positions

    def _forward(self) -> None:
        configuration = self._configuration()
        reader = LogReader.assigned(self._bootstrap, group=self._group, positions=[], ends=False)
        flowing = False
        try:
            while not self._stopping.is_set():
                if not flowing and self._plan.active():
                    reader.take(self._data(reader))
                    flowing = True
                    log.info("sequencer.flowing", log=self._topic.noun, partition=self._partition)
                messages, _ = reader.batch(_BATCH, _POLL_S) if flowing else ([], [])
                self._append_all(messages)
                if self._now_ns - self._clock_ns >= CLOCK_EVERY_NS or not flowing:
                    # What configures changes seldom: asked for as often as the time is told.
                    self._append_all(configuration.batch(_BATCH, 0 if flowing else _IDLE_POLL_S)[0])
                    if flowing:
                        self._tell_time()
                self._publisher.serve()
            self._publisher.wait_acknowledged()
        finally:
            reader.close()
            configuration.close()

    def _tell_time(self) -> None:
        self._clock_ns = self._now_ns
        value = self._codec.encode(decision.Clock(now_ns=self._now_ns))
        self._publisher.forward(self._topic, "clock", value, self._partition)

    def _append_all(self, messages: list[Message]) -> None:
        self._now_ns = max(self._clock.now_ns(), self._now_ns)
        count = 0
        for message in messages:
            count += self._append(message.topic() or "", message)
        if count:
            self._forwarded.inc(count)

    # hot: every record a strategy or an account sees
    def _append(self, name: str, message: Message) -> int:
        source = self._sources[name]
        value = value_bytes(message)
        if value is None:
            return 0
        noun = source.topic.noun
        number, offset = message.partition() or 0, message.offset() or 0
        key = message.key() or b""
        if source.configures:
            try:
                self._plan.learn(self._codec.decode(value))
            except Reject as e:
                log.warning("sequencer.configuration_unreadable", source=noun, offset=offset, reason=str(e))
                return 0
        elif source.filtered and not self._plan.wants(noun, key):
            return 0
        if offset <= self._last.get((noun, number), -1):
            return 0
        self._last[noun, number] = offset
        self._publisher.forward(self._topic, key, value, self._partition, pack(noun, number, offset, self._now_ns))
        return 1
