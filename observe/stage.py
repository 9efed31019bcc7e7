"""The QuestDB sink's loop: poll, make rows, flush, commit.

Not a `TaskLoop`: its output is not Kafka, it reads many topics at once, and order does not matter to it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message, TopicPartition

from core.domain.errors import Reject, Unavailable
from core.runtime import log as logs
from core.runtime import metrics, queues, topics
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.codec import PREFIX_BYTES, Codec
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.flow import Output
from core.runtime.pressure import Pressure, PressureLimits
from core.runtime.producer import Publisher
from core.runtime.resent import SENT_TO_SINKS, Letter, letter_named, state_of, unpack
from core.runtime.topics import DEAD, Topic
from observe.first import FirstHeard
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.tables import Place, Row, belongs, rows
from schemas.dead import Dead, Returned

log = logs.get()

STAGE = "observe"
GROUP = "observe.questdb"
BATCH_BYTES_MAX = 16 * 1024 * 1024
"""QuestDB refuses a request above 100 MiB; a row is at most a few times its record."""
POLL_RECORDS_MAX = 2_000
PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 2.0
LAG_INTERVAL_S = 1.0
PATIENCE_MS_MAX = 200
COMMIT_AGAIN_S = 1.0
_ACK_WAIT_S = 5.0
_NOT_SUNK = frozenset(topic.noun for topic in (*topics.RAW_INSTRUMENT.values(), *topics.CHECKPOINT.values()))


def sunk_topics(layers: Iterable[str], *, raw_frames: bool = True) -> list[Topic]:
    """Return the topics a sink of these layers reads; without `raw_frames` what came from the sockets is left out."""
    wanted = set(layers)
    left_out = _NOT_SUNK if raw_frames else _NOT_SUNK | {topics.RAW_FRAME.noun}
    return [topic for topic in topics.TOPICS if topic.layer in wanted and topic.noun not in left_out]


@dataclass
class _Batch:
    """What was read and is not acknowledged by QuestDB yet."""

    rows: list[Row] = field(default_factory=list)
    sources: list[Message] = field(default_factory=list)
    """the message behind each row"""
    rejected: list[tuple[Message, str, str]] = field(default_factory=list)
    """messages that became no row: name of the error, reason"""
    letters: dict[Letter, list[Message]] = field(default_factory=dict)
    """letters of the sinks that came back"""
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> offset to commit"""
    bytes: int = 0
    began_s: float = 0.0


@dataclass
class _Outage:
    """A server that does not answer, and when it is asked again."""

    server: str
    lasts: bool = False
    pause_s: float = 0.0
    next_try_s: float = 0.0

    def goes_on(self, now_s: float) -> None:
        self.lasts = True
        self.pause_s = min(max(self.pause_s * 2, PAUSE_S_MIN), PAUSE_S_MAX)
        self.next_try_s = now_s + self.pause_s

    def ends(self) -> None:
        self.lasts, self.pause_s, self.next_try_s = False, 0.0, 0.0


class Sink:
    """One consumer over all topics, one connection to QuestDB, one batch in hand."""

    def __init__(
        self, *, settings: ObserveSettings, codec: Codec, clock: Clock, publisher: Publisher, questdb: QuestDb
    ) -> None:
        """Prepare; `run` joins the group."""
        self._codec = codec
        self._clock = clock
        self._publisher = publisher
        self._questdb = questdb
        self._run = settings.reads
        self._rows_max = settings.flush_rows_max
        self._interval_s = settings.flush_interval_ms / 1_000
        sunk = sunk_topics(settings.questdb_layers.split(","), raw_frames=settings.questdb_raw_frames)
        self._nouns = {topic.name(self._run): topic.noun for topic in sunk}
        # What comes back is of the run that is written: its dead letters are there.
        self._returned = topics.DEAD_RETURNED.name(settings.writes)
        self._nouns[self._returned] = topics.DEAD_RETURNED.noun
        self._first = FirstHeard(questdb.execute, self._run)
        self._wanted: dict[tuple[str, bytes], bool] = {}
        self._batch = _Batch()
        self._owned: set[tuple[str, int]] = set()
        self._written: dict[tuple[str, int], int] = {}
        """(topic, partition) -> offset whose rows QuestDB has"""
        self._behind: set[tuple[str, int]] = set()
        """of which Kafka did not take the commit"""
        self._questdb_outage = _Outage("questdb")
        self._registry_outage = _Outage("registry")
        self._unread: deque[Message] = deque()
        """Polled, and waiting for a schema: no more than one poll brings, for nothing is fetched meanwhile."""
        self._pressure = Pressure(
            stage=STAGE,
            reader="questdb",
            partition="all",
            limits=PressureLimits.of(settings).patient(self._interval_s + PATIENCE_MS_MAX / 1_000),
            name=f"{settings.writes}.{GROUP}",
            advice="trading does not notice; is QuestDB up?",
        )
        queues.watch("sink unread", self, lambda sink: len(sink._unread), POLL_RECORDS_MAX)
        queues.watch("sink rows", self, lambda sink: len(sink._batch.rows), self._rows_max + POLL_RECORDS_MAX)
        self._stopping = False
        self._last_poll_s = self._last_flush_s = self._last_lag_s = self._committed_s = clock.monotonic_s()
        self._read: dict[tuple[str, int], tuple[int, int]] = {}  # (topic, partition) -> next offset, Kafka time in ms
        # A batch waits for its interval anyway; asking at every record would take the flow's share of the processor.
        self._reader = LogReader.joining(
            settings.bootstrap,
            group=f"{settings.writes}.{GROUP}",
            topics=list(self._nouns),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
            on_uncommitted=self._uncommitted,
            patience_ms=min(settings.flush_interval_ms, PATIENCE_MS_MAX),
        )

    def run(self) -> None:
        """Sink until `stop`, then flush once more, commit and leave.

        Raises:
            Misconfigured: a topic is missing.
            Halt: a dead letter was not delivered.
        """
        try:
            for name in self._nouns:
                self._reader.partition_count(name)
            while not self._stopping:
                self.turn()
            self._flush(self._clock.monotonic_s(), wait=True)
        finally:
            self._reader.close()
            self._questdb.close()
            self._pressure.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True

    def health(self) -> dict[str, object]:
        """Return facts for the health endpoint."""
        now = self._clock.monotonic_s()
        return {
            "ok": now - self._last_poll_s < 60.0,
            "questdb": "waiting" if self._questdb_outage.lasts else "taking",
            "registry": "waiting" if self._registry_outage.lasts else "known",
            "rows_waiting": len(self._batch.rows),
            "pressure": self._pressure.level,
            "flush_age_s": round(now - self._last_flush_s, 3),
        }

    def turn(self) -> None:
        """Poll once and flush when the batch is full or old enough."""
        if self._is_paused:
            # Polling keeps the membership; nothing is fetched meanwhile.
            messages, _ = self._reader.batch(1, min(max(self._questdb_outage.pause_s, PAUSE_S_MIN), 0.5))
        else:
            messages, _ = self._reader.batch(POLL_RECORDS_MAX, self._wait_s())
        now = self._last_poll_s = self._clock.monotonic_s()
        if messages:
            metrics.BATCH.labels(STAGE).observe(len(messages))
            self._unread.extend(messages)
            if self._is_paused:
                # Of partitions that came while nothing is to be fetched.
                came = {(message.topic() or "", message.partition() or 0) for message in messages}
                self._reader.pause([TopicPartition(*place) for place in came])
        if self._unread and now >= self._registry_outage.next_try_s:
            self._take(now)
        if self._is_due(now):
            self._flush(now, wait=False)
        self._look_again(now)
        if self._behind and now - self._committed_s >= COMMIT_AGAIN_S:
            self._commit({}, wait=False)
        self._publisher.serve()
        if now - self._last_lag_s >= LAG_INTERVAL_S:
            self._last_lag_s = now
            self._measure_lag()

    def _look_again(self, now_s: float) -> None:
        """End an outage nothing in hand asks about any more: what waited was another member's, and reading goes on."""
        if self._questdb_outage.lasts and not self._batch.ends and now_s >= self._questdb_outage.next_try_s:
            self._proceed(self._questdb_outage)
        if self._registry_outage.lasts and not self._unread and now_s >= self._registry_outage.next_try_s:
            self._proceed(self._registry_outage)

    def _wait_s(self) -> float:
        if not self._batch.ends:
            return 0.1
        return max(min(self._batch.began_s + self._interval_s - self._clock.monotonic_s(), 0.1), 0.0)

    def _is_due(self, now_s: float) -> bool:
        batch = self._batch
        if not batch.ends or now_s < self._questdb_outage.next_try_s:
            return False
        full = len(batch.rows) >= self._rows_max or batch.bytes >= BATCH_BYTES_MAX
        return full or self._questdb_outage.lasts or now_s - batch.began_s >= self._interval_s

    @property
    def _is_paused(self) -> bool:
        return self._questdb_outage.lasts or self._registry_outage.lasts

    def _take(self, now_s: float) -> None:
        """Make rows of what was polled, as far as its schemas are known."""
        batch = self._batch
        if not batch.ends:
            batch.began_s = now_s
        while self._unread:
            message = self._unread[0]
            name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            try:
                self._add(batch, message, name)
            except Reject as e:
                batch.rejected.append((message, type(e).__name__, str(e)))
            except Unavailable as e:
                self._hold(self._registry_outage, self._clock.monotonic_s(), str(e))
                return
            self._unread.popleft()
            batch.ends[name, partition] = offset + 1
            self._read[name, partition] = offset + 1, message.timestamp()[1]
        self._proceed(self._registry_outage)

    def _add(self, batch: _Batch, message: Message, name: str) -> None:
        """Add the rows of one message, all or none.

        Raises:
            Reject: it becomes no row.
            Unavailable: its schema is new and the registry does not answer.
        """
        value = value_bytes(message)
        if value is None or unpack(message.headers()) is not None:
            return  # a tombstone: the rows of what was removed stay; a letter for another stage: it has its row
        noun = self._nouns[name]
        place = Place(noun, message.partition() or 0, message.offset() or 0, message.timestamp()[1] * NS_PER_MS)
        if name == self._returned:
            returned = self._codec.decode(value)
            assert isinstance(returned, Returned), "nothing else stands on that topic"
            noun, value = returned.noun, returned.value
            place = Place(noun, returned.partition, returned.offset, returned.kafka_ts_ns)
            letter = letter_named(returned.letter)
            if letter.stage in SENT_TO_SINKS:
                batch.letters.setdefault(letter, []).append(message)
        if self._is_wanted(noun, value):
            made = list(rows(self._run, self._codec.decode(value), place))
            batch.rows += made
            batch.sources += [message] * len(made)
        batch.bytes += len(value)

    def _is_wanted(self, noun: str, value: bytes) -> bool:
        """Say from the schema id alone whether the record has a table: sequenced copies are not decoded at all."""
        key = (noun, value[:PREFIX_BYTES])
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = belongs(self._codec.record_name(value), noun)
        return wanted

    def _flush(self, now_s: float, *, wait: bool) -> None:
        batch = self._batch
        if not batch.ends:
            return
        try:
            batch.rows = self._first.settle(batch.rows)
            refused = self._questdb.write(batch.rows)
        except Unavailable as e:
            self._hold(self._questdb_outage, now_s, str(e))
            return
        metrics.HANDLE.labels(STAGE).observe(self._clock.monotonic_s() - now_s)
        buried = [(batch.sources[number], "RowRefused", reason) for number, reason in refused] + batch.rejected
        again = self._tell_letters(batch, buried)
        for message, error, reason in buried:
            if id(message) not in again:
                self._bury(message, error, reason)
        while not self._publisher.wait_acknowledged(_ACK_WAIT_S):
            log.warning("commit.waiting", reason="dead letters are not acknowledged; is the broker up?")
        metrics.RECORDS.labels(STAGE, "ok").inc(len(batch.rows) - len(refused))
        for table, count in Counter(row.table for row in batch.rows).items():
            metrics.EVENTS.labels(STAGE, f"rows_{table}").inc(count)
        self._commit(batch.ends, wait=wait)
        self._batch = _Batch()
        self._last_flush_s = self._clock.monotonic_s()
        self._proceed(self._questdb_outage)

    def _tell_letters(self, batch: _Batch, buried: list[tuple[Message, str, str]]) -> set[int]:
        """Say of each letter of the sinks that came back what became of it; return the messages that died again."""
        why = {id(message): f"{error}: {reason}" for message, error, reason in buried}
        again: set[int] = set()
        for letter, messages in batch.letters.items():
            dead = [id(message) for message in messages if id(message) in why]
            again.update(dead)
            if dead:
                self._publisher.publish(state_of(letter, "AGAIN", self._clock, reason=why[dead[0]]))
            else:
                self._publisher.publish(state_of(letter, "THROUGH", self._clock, records=1))
        return again

    def _commit(self, ends: dict[tuple[str, int], int], *, wait: bool) -> None:
        self._written |= ends
        wanted = {place for place in (*ends, *self._behind) if place in self._owned}
        places = [TopicPartition(*place, self._written[place]) for place in sorted(wanted)]
        self._behind = set()
        self._committed_s = self._clock.monotonic_s()
        if places:
            refused = self._reader.commit(places, wait=wait)
            if refused:
                log.warning("commit.refused", reason=refused)

    def _uncommitted(self, places: list[TopicPartition], reason: str) -> None:
        """Keep what Kafka did not take, to be committed again: a log that is quiet now would stay behind for ever."""
        log.warning("commit.failed", reason=reason, partitions=len(places))
        self._behind |= {(place.topic, place.partition) for place in places} & self._owned

    def _hold(self, outage: _Outage, now_s: float, reason: str) -> None:
        """A server cannot be asked: keep what is in hand, read nothing more, try again later."""
        if not outage.lasts:
            log.warning(f"{outage.server}.lost", reason=reason, rows=len(self._batch.rows), unread=len(self._unread))
            if not self._is_paused:
                self._reader.pause([TopicPartition(*place) for place in self._owned])
        outage.goes_on(now_s)

    def _proceed(self, outage: _Outage) -> None:
        lasted = outage.lasts
        outage.ends()
        if lasted:
            log.info(f"{outage.server}.found")
            if not self._is_paused:
                self._reader.resume([TopicPartition(*place) for place in self._owned])

    def _bury(self, message: Message, error: str, reason: str) -> None:
        metrics.RECORDS.labels(STAGE, "rejected").inc()
        metrics.DEAD.labels(STAGE, error).inc()
        key = message.key() or b""
        self._publisher.publish(
            Output(
                DEAD[STAGE],
                key_text(message),
                Dead(
                    stage=STAGE,
                    source_topic=message.topic() or "",
                    source_partition=message.partition() or 0,
                    source_offset=message.offset() or 0,
                    error_class="REJECT",
                    error=error,
                    reason=reason,
                    key=key.encode() if isinstance(key, str) else key,
                    value=value_bytes(message) or b"",
                    ts_ns=self._clock.now_ns(),
                    kafka_ts_ns=message.timestamp()[1] * NS_PER_MS,
                ),
            )
        )

    def _assigned(self, places: list[TopicPartition]) -> None:
        self._reader.take(places)
        self._owned |= {(place.topic, place.partition) for place in places}
        self._first.others_wrote()
        # Not paused here: one that is resumed before its committed offset is known may never be fetched.
        log.info("partitions.assigned", partitions=len(places), paused=self._is_paused)

    def _revoked(self, places: list[TopicPartition]) -> None:
        self._flush(self._clock.monotonic_s(), wait=True)
        self._lost(places)

    def _lost(self, places: list[TopicPartition]) -> None:
        # What is not flushed stays in the batch without its offset: the new owner writes it too, as the same rows.
        gone = {(place.topic, place.partition) for place in places}
        self._owned -= gone
        for place in gone:
            self._batch.ends.pop(place, None)
            self._written.pop(place, None)
            self._behind.discard(place)
            self._read.pop(place, None)
        self._unread = deque(m for m in self._unread if (m.topic(), m.partition()) not in gone)
        if not self._batch.ends:
            self._batch = _Batch()
        self._reader.give_up(places)
        log.info("partitions.given_up", partitions=len(places), owned=len(self._owned))

    def _measure_lag(self) -> None:
        worst_s, left_sum = 0.0, 0
        now_s = self._clock.now_ns() / 1e9
        for (name, number), (end, newest_ms) in self._read.items():
            _, high = self._reader.edges(TopicPartition(name, number), cached=True)
            left = max(high - end, 0)
            left_sum += left
            if left:
                worst_s = max(worst_s, now_s - newest_ms / 1e3)
        if self._is_paused:
            # Nothing is fetched, so the ends that are known stand still: what is in hand grows old.
            oldest = [*self._batch.sources[:1], *list(self._unread)[:1]]
            worst_s = max([worst_s, *(now_s - message.timestamp()[1] / 1e3 for message in oldest)])
        metrics.LAG_RECORDS.labels(STAGE, "all").set(left_sum)
        metrics.LAG_SECONDS.labels(STAGE, "all").set(worst_s)
        self._pressure.observe(worst_s, self._clock.monotonic_s())
