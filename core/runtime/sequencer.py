"""The sequencer: several topics into one log partition, in the order and with the time its task is to see.

It belongs to the owner of the log partition and runs on a thread of its own beside the task's loop. Sources are read by
hand; each forwarded record carries where it stood (`sequenced.pack`), so a new owner resumes each source after the
highest offset found in the log, and a thawed one does no harm. A `Clock` record is appended every 100 ms.

Under load (`pressure`) it conflates what may be conflated, before it is in the log: sources that may skip are then held
back and appended in windows, the next one when the task has begun the one before, so that the task is never more than
two windows of its instruments behind. What is left out is never appended later: within a source partition offsets in
the log only rise. Everything else passes at once. What was appended is what happened: a replay knows nothing of this.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException, Message, TopicPartition

from core.domain.errors import CrossbookError, Misconfigured, Reject, Unavailable
from core.runtime import log as logs
from core.runtime import metrics, queues
from core.runtime.clock import NS_PER_MS, NS_PER_S, Clock
from core.runtime.codec import PREFIX_BYTES, Codec, patiently
from core.runtime.conflation import Held, Peek
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.pressure import Pressure, PressureLimits, Progress
from core.runtime.producer import Publisher
from core.runtime.sequenced import Reached, pack, unpack
from core.runtime.topics import Topic
from schemas import decision
from schemas.record import Record

log = logs.get()

CLOCK_EVERY_NS = 100 * NS_PER_MS
_POLL_S = 0.02
_HOLDING_POLL_S = 0.005
_IDLE_POLL_S = 0.2
_BATCH = 500
WAITING_MAX = 20_000
"""Records held back under load; then they are appended although the task is not ready for them."""
HOLD_NS_MAX = NS_PER_S
"""A window waits no longer than this for a task that has begun the one before and is behind for other reasons."""
_STRAIN_EVERY_S = 1.0
_STRAIN_SHARE = 10
"""More than one in so many left out in that time: the load has not passed yet."""


@dataclass(frozen=True)
class SourceTopic:
    """One topic a sequencer forwards.

    Attributes:
        configures: its records are decoded and shown to the plan, from the beginning and before anything is forwarded.
        filtered: only records whose key the plan wants are forwarded; else all.
        may_skip: its quotes are repeated or replaced anyway: with nothing forwarded yet, or when what was to be read
            next is gone, go on at the end; under load conflate. Of any other source not one record may be missing.
        sampled_ns: of one that may skip: append in windows of this length, conflated; 0: as it comes.
        forwards: False: it only configures, its records do not stand on the log.
        kinds: record types of it that are forwarded; empty: all that stand on the log.
        unfiltered: of one that is filtered: record types that are forwarded whatever their key.
    """

    topic: Topic
    configures: bool = False
    filtered: bool = False
    may_skip: bool = False
    sampled_ns: int = 0
    forwards: bool = True
    kinds: tuple[type[Record], ...] = ()
    unfiltered: tuple[type[Record], ...] = ()


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
        reader: str = "",
        progress: Progress | None = None,
        limits: PressureLimits | None = None,
        reached: tuple[int, Reached] | None = None,
    ) -> None:
        """Prepare. Sources are read from `read_run`; the log is that of the publisher's run.

        Args:
            reader: the last part of the group that reads the log, for the metric and the log line of its pressure.
            progress: how far the task that reads the log is; None: nobody knows, only what comes in counts.
            limits: when to conflate.
            reached: an offset of the log and how far its sources are below it; None: the log is read from its start.
        """
        self._from, known = reached or (OFFSET_BEGINNING, Reached(0, {}))
        self._topic = log_topic
        self._partition = partition
        self._sources = {source.topic.name(self._run_of(source, read_run, publisher.run)): source for source in sources}
        self._plan = plan
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._bootstrap = bootstrap
        self._stage = stage
        self._group = f"{publisher.run}.{stage}.sequencer"
        self._forwarded = metrics.EVENTS.labels(stage, f"sequenced {log_topic.noun}")
        self._stopping = threading.Event()
        self._last = dict(known.last)
        self._now_ns = known.log_ns
        self._clock_ns = 0
        self._kinds = frozenset(record.schema_name for record in log_topic.records)
        self._other: dict[tuple[str, tuple[type[Record], ...], bytes], bool] = {}
        self._sampled_ns = max((source.sampled_ns for source in sources), default=0)
        self._peek = Peek(codec)
        self._held: Held[Message] = Held()
        self._appended_ns = known.log_ns
        self._progress = progress or Progress()
        self._has_task = progress is not None
        self._limits = limits or PressureLimits()
        self._pressure = Pressure(
            stage=stage,
            reader=f"{reader or log_topic.noun} sequencer",
            partition=partition,
            limits=self._limits,
            name=f"{publisher.run}.{stage}.{reader or log_topic.noun}",
            advice=f"add replicas with `crossbook scale {reader or stage} N`",
            conflates=any(source.may_skip for source in sources),
        )
        self._conflated = metrics.CONFLATED.labels(stage, log_topic.noun)
        self._seen = self._dropped = 0
        self._strained = False
        self._strain_s = 0.0
        queues.watch("sequencer waiting", self._held, len, WAITING_MAX)
        self.failure: CrossbookError | None = None
        self._thread = threading.Thread(target=self._run, name=f"sequencer-{log_topic.noun}-{partition}", daemon=True)

    @property
    def pressure(self) -> Pressure:
        """How far it, or the task it feeds, is behind."""
        return self._pressure

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
        self._pressure.close()

    def _resume(self) -> None:
        """Find the highest offset of each source in the log, and the log's time."""
        name = self._topic.name(self._publisher.run)
        reader = LogReader.assigned(
            self._bootstrap,
            group=f"{name}.sequencer",
            positions=[TopicPartition(name, self._partition, self._from)],
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
                        self._now_ns = self._appended_ns = max(self._now_ns, stamp.now_ns)
                done = bool(ended)
        finally:
            reader.close()

    def _configuration(self) -> LogReader:
        """Return a reader of what configures, read to its present end."""
        reader = LogReader.assigned(self._bootstrap, group=self._group, positions=[], reset="error")
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
            self._take(messages)
            unread -= {(place.topic, place.partition) for place in ended}
        return reader

    def _data(self, reader: LogReader) -> list[TopicPartition]:
        """Return where each data source goes on.

        Raises:
            Misconfigured: a source of which nothing may be missing no longer holds what comes next.
        """
        positions: list[TopicPartition] = []
        for name, source in self._sources.items():
            if source.configures:
                continue
            for number in range(reader.partition_count(name)):
                last = self._last.get((source.topic.noun, number))
                place = TopicPartition(name, number, OFFSET_BEGINNING if last is None else last + 1)
                if last is None and source.may_skip:
                    place.offset = OFFSET_END
                elif source.topic.cleanup == "delete":
                    first, _ = reader.edges(place)
                    if first > (0 if last is None else last + 1):
                        place = self._beyond(place, first)
                positions.append(place)
        return positions

    def _beyond(self, place: TopicPartition, first: int | None = None) -> TopicPartition:
        """Return where to go on in a source that lost what was to be read next: at its end, if it may skip.

        Raises:
            Misconfigured: it may not.
        """
        source = self._sources[place.topic]
        last = self._last.get((source.topic.noun, place.partition))
        wanted = 0 if last is None else last + 1
        begins = "no longer holds it" if first is None else f"begins at {first}"
        if not source.may_skip:
            raise Misconfigured(
                f"{place.topic} [{place.partition}] {begins}, the sequencer of {self._topic.noun} "
                f"[{self._partition}] wants offset {wanted}: what is missing cannot be made up for; "
                "raise the topic's retention and start a new run"
            )
        metrics.SKIPPED.labels(self._stage, source.topic.noun).inc()
        log.warning(
            "sequencer.skipped",
            log=self._topic.noun,
            partition=self._partition,
            source=f"{place.topic} [{place.partition}]",
            reason=f"{begins}, offset {wanted} was wanted; going on at its end, books come with their next repeat",
        )
        return TopicPartition(place.topic, place.partition, OFFSET_END)

    def _forward(self) -> None:
        configuration = self._configuration()

        def trimmed(place: TopicPartition) -> None:
            reader.move(self._beyond(place))

        reader = LogReader.assigned(
            self._bootstrap, group=self._group, positions=[], reset="error", ends=False, on_trimmed=trimmed
        )
        flowing = False
        try:
            while not self._stopping.is_set():
                if not flowing and self._plan.active():
                    reader.take(self._data(reader))
                    flowing = True
                    log.info("sequencer.flowing", log=self._topic.noun, partition=self._partition)
                if flowing:
                    self._turn(reader)
                if self._now_ns - self._clock_ns >= CLOCK_EVERY_NS or not flowing:
                    # What configures changes seldom: asked for as often as the time is told.
                    self._take(configuration.batch(_BATCH, 0 if flowing else _IDLE_POLL_S)[0])
                    if flowing:
                        self._tell_time()
                self._publisher.serve()
            # What is held back is dropped: it is above the last offset in the log, so the next owner reads it again.
            self._publisher.wait_acknowledged()
        finally:
            reader.close()
            configuration.close()

    def _turn(self, reader: LogReader) -> None:
        sheds = self._pressure.sheds
        messages, _ = reader.batch(_BATCH, _HOLDING_POLL_S if self._held.since_ns and sheds else _POLL_S)
        came_ns = self._take(messages)
        self._judge_pressure(came_ns)
        if self._held.since_ns and (
            self._is_due(drained=len(messages) < _BATCH) if self._pressure.sheds else self._is_sampled()
        ):
            self._append_held()

    def _is_sampled(self) -> bool:
        """Say whether a window that waits only to be sampled is over."""
        return len(self._held) >= WAITING_MAX or self._now_ns - self._held.since_ns >= self._sampled_ns

    def _judge_pressure(self, came_ns: int) -> None:
        """Take in how far behind we, or the task, are; `came_ns` is the Kafka time of the record that came first."""
        now_s = self._clock.monotonic_s()
        if now_s - self._strain_s >= _STRAIN_EVERY_S:
            self._strained = self._dropped * _STRAIN_SHARE > self._seen
            self._seen = self._dropped = 0
            self._strain_s = now_s
        # What waits to be sampled is not late.
        held_ns = self._held.since_ns + self._sampled_ns if self._held.since_ns else self._now_ns
        oldest_ns = min(came_ns or self._now_ns, held_ns, self._now_ns)
        lag_s = max((self._now_ns - oldest_ns) / NS_PER_S, self._progress.lag_s(self._now_ns))
        self._pressure.observe(lag_s, now_s, strained=self._strained)

    def _is_due(self, *, drained: bool) -> bool:
        """Say whether the window that is held back is to be appended now."""
        held = self._held
        if len(held) >= WAITING_MAX:
            queues.at_bound("sequencer waiting", "appended early")
            return True
        if not self._has_task:
            return drained
        # Two windows are under way at most: the one the task is at, and this one.
        if self._progress.log_ns < self._appended_ns:
            return False
        keeps_up = drained and self._progress.lag_s(self._now_ns) < self._limits.conflate_s
        return keeps_up or self._now_ns - held.since_ns > HOLD_NS_MAX

    def _append_held(self) -> None:
        records, dropped = self._held.take()
        for noun, number, offset, message in records:
            self._append(noun, number, offset, message)
        self._appended_ns = self._now_ns
        self._forwarded.inc(len(records))
        self._conflated.inc(dropped)
        self._dropped += dropped

    def _tell_time(self) -> None:
        self._clock_ns = self._now_ns
        value = self._codec.encode(decision.Clock(now_ns=self._now_ns))
        self._publisher.forward(self._topic, "clock", value, self._partition)

    # hot: every record of every source
    def _take(self, messages: list[Message]) -> int:
        """Append or hold back what came and return the Kafka time of its first record, 0 when there is none to tell."""
        self._now_ns = max(self._clock.now_ns(), self._now_ns)
        sheds = self._pressure.sheds
        count = came_ns = 0
        for message in messages:
            source = self._sources[message.topic() or ""]
            if not came_ns and source.topic.cleanup == "delete":
                # A table is old by nature.
                came_ns = message.timestamp()[1] * NS_PER_MS
            noun, number, offset = source.topic.noun, message.partition() or 0, message.offset() or 0
            if not self._admits(source, message, number, offset):
                continue
            self._last[noun, number] = offset
            if source.may_skip and (sheds or source.sampled_ns or self._held.since_ns):
                head = self._peek(message.value() or b"")
                ts_ns = message.timestamp()[1] * NS_PER_MS
                self._held.add((noun, number, offset), message.key() or b"", head, message, ts_ns)
            else:
                self._append(noun, number, offset, message)
                count += 1
            self._seen += 1
        if count:
            self._forwarded.inc(count)
        return came_ns

    # hot
    def _admits(self, source: SourceTopic, message: Message, number: int, offset: int) -> bool:
        value = value_bytes(message)
        if value is None:
            return False
        if source.configures:
            try:
                self._plan.learn(patiently(self._codec.decode, value, self._stopping.is_set))
            except Reject as e:
                log.warning(
                    "sequencer.configuration_unreadable", source=source.topic.noun, offset=offset, reason=str(e)
                )
                return False
        elif (
            source.filtered
            and not self._plan.wants(source.topic.noun, message.key() or b"")
            and (not source.unfiltered or self._is_other(source, source.unfiltered, value, unreadable=True))
        ):
            return False
        if not source.forwards:
            return False
        # What cannot be read of a key that is wanted the task dead-letters.
        return not self._is_other(source, source.kinds, value, unreadable=False) and offset > self._last.get(
            (source.topic.noun, number), -1
        )

    # hot
    def _is_other(
        self, source: SourceTopic, wanted: tuple[type[Record], ...], value: bytes, *, unreadable: bool
    ) -> bool:
        """Say whether the record is of a type that does not stand on the log, or none of those wanted (empty: all)."""
        place = (source.topic.noun, wanted, value[:PREFIX_BYTES])
        found = self._other.get(place)
        if found is None:
            try:
                name = patiently(self._codec.record_name, value, self._stopping.is_set)
            except Reject:
                return unreadable
            names = {kind.schema_name for kind in wanted}
            found = self._other[place] = name not in self._kinds or (bool(names) and name not in names)
        return found

    # hot: every record a strategy or an account sees
    def _append(self, noun: str, number: int, offset: int, message: Message) -> None:
        stamp = pack(noun, number, offset, self._now_ns)
        self._publisher.forward(self._topic, message.key() or b"", message.value() or b"", self._partition, stamp)
