"""The PostgreSQL sink's loop: exactly once, because a log's offset moves in the transaction that writes its rows.

A transaction first moves `sink_offset` of each partition it read from the offset it began at. If another process has moved
it meanwhile (this one was frozen and lost its partitions), nothing is written and the partition is read from where the
other got to. After an outage it is not known whether the last commit was done: the same question answers it. Offsets
are committed to Kafka, too, so that lag can be seen; nobody reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition
from psycopg import Connection

from core.domain.errors import InvariantBroken, Reject, Unavailable
from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.codec import PREFIX_BYTES, Codec
from core.runtime.consumer import LogReader, key_text, value_bytes
from core.runtime.pressure import Pressure, PressureLimits
from core.runtime.resent import unpack
from observe.jobs import Jobs
from observe.postgres import Postgres, moment
from observe.postgres_rows import AUDITED, READ, Place, Rows, is_wanted
from observe.settings import ObserveSettings
from schemas.control import Run
from schemas.record import Record

log = logs.get()

STAGE = "observe"
GROUP = "observe.postgres"
POLL_RECORDS_MAX = 2_000
PATIENCE_MS = 200
"""Records wait for each other so long at the broker: a transaction for each would cost the flow its processor."""
PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 2.0
LAG_INTERVAL_S = 1.0

Spot = tuple[str, int]
"""Topic and partition."""


class _Fenced(Exception):
    """Another process wrote the rows of these partitions."""

    def __init__(self, spots: list[Spot]) -> None:
        super().__init__(str(spots))
        self.spots = spots


class PostgresSink:
    """One consumer over the topics of the desk, one connection, one transaction a batch."""

    def __init__(
        self,
        *,
        settings: ObserveSettings,
        codec: Codec,
        clock: Clock,
        run: Run,
        database: Postgres,
        jobs: Jobs | None = None,
    ) -> None:
        """Prepare; `run` joins the group."""
        self._codec = codec
        self._clock = clock
        self._run = run
        self._database = database
        self._jobs = jobs
        self._nouns = {topic.name(settings.reads): topic.noun for topic in READ}
        self._wanted: dict[tuple[str, bytes], bool] = {}
        self._owned: set[Spot] = set()
        self._next: dict[Spot, int] = {}
        """where each owned partition goes on; one that is missing is not placed yet, and what comes of it is dropped"""
        self._ends: dict[Spot, tuple[int, int]] = {}
        """next offset, Kafka time of the last record in ms"""
        self._behind: set[Spot] = set()
        """with unread records when the lag was measured last"""
        self._outage = ""
        self._pause_s = 0.0
        self._next_try_s = 0.0
        self._stopping = False
        self._last_poll_s = self._last_lag_s = clock.monotonic_s()
        self._pressure = Pressure(
            stage=STAGE,
            reader="postgres",
            partition="all",
            limits=PressureLimits.of(settings).patient(PATIENCE_MS / 1_000),
            name=f"{settings.writes}.{GROUP}",
            advice="trading does not notice; is PostgreSQL up?",
        )
        self._reader = LogReader.joining(
            settings.bootstrap,
            group=f"{settings.writes}.{GROUP}",
            topics=list(self._nouns),
            on_assign=self._assigned,
            on_revoke=self._lost,
            on_lost=self._lost,
            patience_ms=PATIENCE_MS,
            ends=False,
        )

    def run(self) -> None:
        """Write until `stop`, then leave. What was read and not written is read again by whoever comes next.

        Raises:
            Misconfigured: a topic is missing.
            InvariantBroken: the tables hold more than Kafka has.
        """
        try:
            for name in self._nouns:
                self._reader.partition_count(name)
            while not self._stopping:
                self.turn()
        finally:
            self._reader.close()
            self._database.close()
            self._pressure.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True

    def health(self) -> dict[str, object]:
        """Return facts for the health endpoint."""
        return {
            "ok": self._clock.monotonic_s() - self._last_poll_s < 60.0,
            "postgres": "waiting" if self._outage else "taking",
            "reason": self._outage,
            "partitions": len(self._owned),
            "placed": len(self._next),
            "pressure": self._pressure.level,
        }

    def turn(self) -> None:
        """Poll once and write what came in one transaction."""
        now = self._clock.monotonic_s()
        if self._outage:
            # Polling keeps the membership; what comes is dropped, its partition is placed anew afterwards.
            messages, _ = self._reader.batch(1, max(min(self._next_try_s - now, 0.5), 0.05))
            if messages:
                self._reader.pause([TopicPartition(m.topic() or "", m.partition() or 0) for m in messages])
        else:
            messages, _ = self._reader.batch(POLL_RECORDS_MAX, 0.1)
        now = self._last_poll_s = self._clock.monotonic_s()
        if now >= self._next_try_s:
            try:
                self._work(messages, now)
                self._proceed()
            except Unavailable as e:
                self._hold(str(e), now)
        if now - self._last_lag_s >= LAG_INTERVAL_S:
            self._last_lag_s = now
            self._measure_lag()

    def _work(self, messages: list[Message], now_s: float) -> None:
        if not self._outage:
            batch = [message for message in messages if self._is_next(message)]
            if batch:
                metrics.BATCH.labels(STAGE).observe(len(batch))
                self._save(batch)
                metrics.HANDLE.labels(STAGE).observe(self._clock.monotonic_s() - now_s)
        missing = self._owned - self._next.keys()
        if missing:
            self._place(missing)
        if self._jobs is not None and len(messages) < POLL_RECORDS_MAX:
            self._jobs.turn(now_s)

    def _is_next(self, message: Message) -> bool:
        spot = (message.topic() or "", message.partition() or 0)
        return spot in self._next and (message.offset() or 0) >= self._next[spot]

    # Writing

    def _save(self, batch: list[Message]) -> None:
        ends: dict[Spot, int] = {}
        for message in batch:
            ends[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        try:
            with self._database.transaction() as connection:
                self._move(connection, ends)
                count = self._write(connection, batch)
        except _Fenced as e:
            log.warning("sink.fenced", partitions=len(e.spots), reason="another process writes them")
            metrics.EVENTS.labels(STAGE, "fenced").inc()
            for spot in e.spots:
                self._next.pop(spot, None)
            rest = [m for m in batch if (m.topic() or "", m.partition() or 0) not in e.spots]
            if rest:
                self._save(rest)
            return
        self._next |= ends
        for message in batch:
            spot = (message.topic() or "", message.partition() or 0)
            self._ends[spot] = (ends[spot], message.timestamp()[1])
        metrics.RECORDS.labels(STAGE, "ok").inc(len(batch))
        metrics.EVENTS.labels(STAGE, "rows").inc(count)
        self._reader.commit([TopicPartition(*spot, end) for spot, end in ends.items()])

    def _move(self, connection: Connection[Any], ends: dict[Spot, int]) -> None:
        """Move the offsets from where this process began; in one order, so that two processes never wait for each other.

        Raises:
            _Fenced: some are not where this process left them.
        """
        fenced = []
        for spot in sorted(ends):
            moved = connection.execute(
                "UPDATE sink_offset SET next_offset = %s "
                "WHERE incarnation = %s AND topic = %s AND partition = %s AND next_offset = %s",
                (ends[spot], self._run.incarnation, *spot, self._next[spot]),
            )
            if moved.rowcount != 1:
                fenced.append(spot)
        if fenced:
            raise _Fenced(fenced)

    def _write(self, connection: Connection[Any], batch: Sequence[Message]) -> int:
        """Write the rows of a batch; one PostgreSQL refuses is found by halving and noted as rejected."""
        try:
            with connection.transaction():
                return self._rows(batch).write(connection)
        except (psycopg.DataError, psycopg.IntegrityError) as e:
            if len(batch) == 1:
                rows = Rows(self._run.incarnation)
                self._reject(rows, self._place_of(batch[0]), type(e).__name__, str(e))
                return rows.write(connection)
            middle = len(batch) // 2
            return self._write(connection, batch[:middle]) + self._write(connection, batch[middle:])

    def _rows(self, batch: Sequence[Message]) -> Rows:
        rows = Rows(self._run.incarnation)
        for message in batch:
            place = self._place_of(message)
            try:
                record, wanted = self._decode(message, place.noun)
                if wanted:
                    rows.add(record, place)
            except (Reject, OverflowError) as e:
                self._reject(rows, place, type(e).__name__, str(e))
        return rows

    def _decode(self, message: Message, noun: str) -> tuple[Record | None, bool]:
        value = value_bytes(message)
        if unpack(message.headers()) is not None:
            return None, False  # a letter for another stage: it has its row
        if value is None:
            return None, noun in AUDITED
        key = (noun, value[:PREFIX_BYTES])
        wanted = self._wanted.get(key)
        if wanted is None:
            # Copies on sequenced logs are not decoded at all.
            wanted = self._wanted[key] = is_wanted(noun, self._codec.record_name(value))
        return (self._codec.decode(value), True) if wanted else (None, False)

    def _reject(self, rows: Rows, place: Place, error: str, reason: str) -> None:
        metrics.RECORDS.labels(STAGE, "rejected").inc()
        log.warning("record.rejected", topic=place.topic, partition=place.partition, offset=place.offset, error=error)
        rows.reject(place, error, reason)

    def _place_of(self, message: Message) -> Place:
        name = message.topic() or ""
        return Place(
            name,
            self._nouns[name],
            message.partition() or 0,
            message.offset() or 0,
            message.timestamp()[1],
            key_text(message),
        )

    # Placing

    def _place(self, spots: set[Spot]) -> None:
        """Read on where the tables say; what cannot be placed yet is tried again at the next turn.

        Raises:
            InvariantBroken: the tables are ahead of the log.
        """
        offsets = self._offsets(spots)
        for spot in sorted(spots):
            offset = offsets[spot]
            low, high = self._reader.edges(TopicPartition(*spot))
            if offset > high:
                raise InvariantBroken(
                    f"{spot[0]} [{spot[1]}]: PostgreSQL holds it up to {offset}, the log ends at {high}: this database "
                    "belongs to another Kafka; use another one, or delete this run's row in its table `run`"
                )
            if offset < low:
                if offset:
                    log.error("records.missed", topic=spot[0], partition=spot[1], first=offset, last=low - 1)
                self._skip(spot, offset, low)
                offset = low
            if self._reader.seek(TopicPartition(*spot, offset)):
                self._next[spot] = offset

    def _offsets(self, spots: set[Spot]) -> dict[Spot, int]:
        run = self._run
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO run (incarnation, name, created_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (run.incarnation, run.run, moment(run.created_ts_ns)),
            )
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO sink_offset (incarnation, topic, partition, next_offset) VALUES (%s, %s, %s, 0) "
                    "ON CONFLICT DO NOTHING",
                    [(run.incarnation, *spot) for spot in sorted(spots)],
                )
            return {
                (topic, partition): offset
                for topic, partition, offset in connection.execute(
                    "SELECT topic, partition, next_offset FROM sink_offset WHERE incarnation = %s", (run.incarnation,)
                )
            }

    def _skip(self, spot: Spot, offset: int, low: int) -> None:
        """Go on at the first record that is left, and write down what was missed."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE sink_offset SET next_offset = %s "
                "WHERE incarnation = %s AND topic = %s AND partition = %s AND next_offset = %s",
                (low, self._run.incarnation, *spot, offset),
            )
            connection.execute(
                "INSERT INTO sink_gap (incarnation, topic, partition, from_offset, to_offset) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (self._run.incarnation, *spot, offset, low),
            )

    def _assigned(self, places: list[TopicPartition]) -> None:
        # Where to begin is known to PostgreSQL, which is not asked in here: it may be away.
        self._reader.take([TopicPartition(place.topic, place.partition, OFFSET_BEGINNING) for place in places])
        self._owned |= {(place.topic, place.partition) for place in places}
        log.info("partitions.assigned", partitions=len(places))

    def _lost(self, places: list[TopicPartition]) -> None:
        for place in places:
            spot = (place.topic, place.partition)
            self._owned.discard(spot)
            self._next.pop(spot, None)
            self._ends.pop(spot, None)
        self._reader.give_up(places)
        log.info("partitions.given_up", partitions=len(places), owned=len(self._owned))

    # Outages, lag

    def _hold(self, reason: str, now_s: float) -> None:
        if not self._outage:
            log.warning("sink.waits", reason=reason)
            self._reader.pause([TopicPartition(*spot) for spot in self._owned])
        self._outage = reason
        self._next.clear()
        self._pause_s = min(max(self._pause_s * 2, PAUSE_S_MIN), PAUSE_S_MAX)
        self._next_try_s = now_s + self._pause_s

    def _proceed(self) -> None:
        if self._outage:
            log.info("sink.goes_on")
            self._reader.resume([TopicPartition(*spot) for spot in self._owned])
            # After a `resume` alone the client begins up to a second later: each is placed again.
            self._next.clear()
        self._outage, self._pause_s, self._next_try_s = "", 0.0, 0.0

    def _measure_lag(self) -> None:
        worst_s, left_sum, behind = 0.0, 0, set()
        now_s = self._clock.now_ns() / NS_PER_S
        for spot, (end, newest_ms) in self._ends.items():
            _, high = self._reader.edges(TopicPartition(*spot), cached=True)
            left = max(high - end, 0)
            left_sum += left
            if left:
                behind.add(spot)
                # What has just come is not late: the record before it may be as old as the log was quiet.
                if spot in self._behind:
                    worst_s = max(worst_s, now_s - newest_ms / 1_000)
        self._behind = behind
        metrics.LAG_RECORDS.labels(STAGE, "all").set(left_sum)
        metrics.LAG_SECONDS.labels(STAGE, "all").set(worst_s)
        self._pressure.observe(worst_s, self._clock.monotonic_s())
