"""The QuestDB sink's loop: poll, make rows, flush, commit.

Not a `TaskLoop`: its output is not Kafka, it reads many topics at once, and order does not matter to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message, TopicPartition

from core.domain.errors import Reject, Unavailable
from core.runtime import log as logs
from core.runtime import metrics, topics
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.codec import PREFIX_BYTES, Codec
from core.runtime.consumer import LogReader, consumer_config, key_text, value_bytes
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.topics import DEAD, Topic
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.tables import Place, Row, belongs, rows
from schemas.dead import Dead

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
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> offset to commit"""
    bytes: int = 0
    began_s: float = 0.0


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
        self._wanted: dict[tuple[str, bytes], bool] = {}
        self._batch = _Batch()
        self._owned: set[tuple[str, int]] = set()
        self._paused = False
        self._pause_s = 0.0
        self._next_try_s = 0.0
        self._stopping = False
        self._last_poll_s = self._last_flush_s = self._last_lag_s = clock.monotonic_s()
        self._read: dict[tuple[str, int], tuple[int, int]] = {}  # (topic, partition) -> next offset, Kafka time in ms
        # A batch waits for its interval anyway; asking at every record would take the flow's share of the processor.
        config = consumer_config(
            settings.bootstrap,
            group=f"{settings.writes}.{GROUP}",
            joins=True,
            patience_ms=min(settings.flush_interval_ms, PATIENCE_MS_MAX),
        )
        consumer = Consumer(config)
        self._reader = LogReader(consumer)
        consumer.subscribe(
            list(self._nouns),
            on_assign=lambda _, places: self._assigned(places),
            on_revoke=lambda _, places: self._revoked(places),
            on_lost=lambda _, places: self._lost(places),
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

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True

    def health(self) -> dict[str, object]:
        """Return facts for the health endpoint."""
        now = self._clock.monotonic_s()
        return {
            "ok": now - self._last_poll_s < 60.0,
            "questdb": "waiting" if self._paused else "taking",
            "rows_waiting": len(self._batch.rows),
            "flush_age_s": round(now - self._last_flush_s, 3),
        }

    def turn(self) -> None:
        """Poll once and flush when the batch is full or old enough."""
        if self._paused:
            # Polling keeps the membership; nothing is fetched meanwhile.
            messages, _ = self._reader.batch(1, min(self._pause_s, 0.5))
        else:
            messages, _ = self._reader.batch(POLL_RECORDS_MAX, self._wait_s())
        now = self._last_poll_s = self._clock.monotonic_s()
        if messages:
            metrics.BATCH.labels(STAGE).observe(len(messages))
            self._take(messages, now)
        if self._is_due(now):
            self._flush(now, wait=False)
        self._publisher.serve()
        if now - self._last_lag_s >= LAG_INTERVAL_S:
            self._last_lag_s = now
            self._measure_lag()

    def _wait_s(self) -> float:
        if not self._batch.ends:
            return 0.1
        return max(min(self._batch.began_s + self._interval_s - self._clock.monotonic_s(), 0.1), 0.0)

    def _is_due(self, now_s: float) -> bool:
        batch = self._batch
        if not batch.ends or now_s < self._next_try_s:
            return False
        full = len(batch.rows) >= self._rows_max or batch.bytes >= BATCH_BYTES_MAX
        return full or self._paused or now_s - batch.began_s >= self._interval_s

    def _take(self, messages: list[Message], now_s: float) -> None:
        batch = self._batch
        if not batch.ends:
            batch.began_s = now_s
        for message in messages:
            name, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            batch.ends[name, partition] = offset + 1
            self._read[name, partition] = offset + 1, message.timestamp()[1]
            value = value_bytes(message)
            if value is None:
                continue  # a tombstone: the rows of what was removed stay
            try:
                if self._is_wanted(self._nouns[name], value):
                    place = Place(self._nouns[name], partition, offset, message.timestamp()[1] * NS_PER_MS)
                    for row in rows(self._run, self._codec.decode(value), place):
                        batch.rows.append(row)
                        batch.sources.append(message)
                    batch.bytes += len(value)
            except Reject as e:
                batch.rejected.append((message, type(e).__name__, str(e)))

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
            refused = self._questdb.write(batch.rows)
        except Unavailable as e:
            self._hold(now_s, str(e))
            return
        metrics.HANDLE.labels(STAGE).observe(self._clock.monotonic_s() - now_s)
        for number, reason in refused:
            self._bury(batch.sources[number], "RowRefused", reason)
        for message, error, reason in batch.rejected:
            self._bury(message, error, reason)
        while not self._publisher.wait_acknowledged(_ACK_WAIT_S):
            log.warning("commit.waiting", reason="dead letters are not acknowledged; is the broker up?")
        metrics.RECORDS.labels(STAGE, "ok").inc(len(batch.rows) - len(refused))
        for table, count in Counter(row.table for row in batch.rows).items():
            metrics.EVENTS.labels(STAGE, f"rows_{table}").inc(count)
        self._commit(batch, wait=wait)
        self._batch = _Batch()
        self._last_flush_s = self._clock.monotonic_s()
        self._proceed()

    def _commit(self, batch: _Batch, *, wait: bool) -> None:
        places = [TopicPartition(name, number, end) for (name, number), end in batch.ends.items()]
        owned = [place for place in places if (place.topic, place.partition) in self._owned]
        if owned:
            refused = self._reader.commit(owned, wait=wait)
            if refused:
                log.warning("commit.refused", reason=refused)

    def _hold(self, now_s: float, reason: str) -> None:
        """QuestDB cannot be asked: keep the batch, read nothing more, try again later."""
        if not self._paused:
            log.warning("questdb.lost", reason=reason, rows=len(self._batch.rows))
            self._paused = True
            self._reader.pause([TopicPartition(*place) for place in self._owned])
        self._pause_s = min(max(self._pause_s * 2, PAUSE_S_MIN), PAUSE_S_MAX)
        self._next_try_s = now_s + self._pause_s

    def _proceed(self) -> None:
        self._pause_s = self._next_try_s = 0.0
        if self._paused:
            log.info("questdb.found")
            self._paused = False
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
                ),
            )
        )

    def _assigned(self, places: list[TopicPartition]) -> None:
        self._reader.take(places)
        self._owned |= {(place.topic, place.partition) for place in places}
        if self._paused and places:
            self._reader.pause([TopicPartition(place.topic, place.partition) for place in places])

    def _revoked(self, places: list[TopicPartition]) -> None:
        self._flush(self._clock.monotonic_s(), wait=True)
        self._lost(places)

    def _lost(self, places: list[TopicPartition]) -> None:
        # What is not flushed stays in the batch without its offset: the new owner writes it too, as the same rows.
        gone = {(place.topic, place.partition) for place in places}
        self._owned -= gone
        for place in gone:
            self._batch.ends.pop(place, None)
            self._read.pop(place, None)
        if not self._batch.ends:
            self._batch = _Batch()
        self._reader.give_up(places)

    def _measure_lag(self) -> None:
        worst_s, left_sum = 0.0, 0
        now_s = self._clock.now_ns() / 1e9
        for (name, number), (end, newest_ms) in self._read.items():
            _, high = self._reader.edges(TopicPartition(name, number), cached=True)
            left = max(high - end, 0)
            left_sum += left
            if left:
                worst_s = max(worst_s, now_s - newest_ms / 1e3)
        metrics.LAG_RECORDS.labels(STAGE, "all").set(left_sum)
        metrics.LAG_SECONDS.labels(STAGE, "all").set(worst_s)
