"""One idempotent producer a process: lz4, one request in flight, linger 0, and no record is ever timed out.

One request in flight with linger 0 sends at once while idle and batches by itself under load. A record that Kafka
cannot take waits for ever in a bounded queue; when the queue is full the caller waits (`worker_produce_blocked_total`).
A record that was timed out in mid-stream would leave a hole nobody can see.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from core.domain.errors import Halt, InvariantBroken, Unavailable
from core.runtime import metrics, queues
from core.runtime.client import kafka_at
from core.runtime.clock import Clock
from core.runtime.codec import Codec
from core.runtime.flow import ALL_PARTITIONS, BY_KEY, Output
from core.runtime.topics import Topic
from schemas.record import Record

Headers = list[tuple[str, str | bytes | None]]
OnOffset = Callable[[int | None, str], None]

QUEUE_RECORDS_MAX = 200_000
QUEUE_KBYTES_MAX = 262_144
MESSAGE_BYTES_MAX = 1_048_576
PIPELINED_MAX = 5
"""Requests in flight of a producer whose few records are in a hurry; up to so many an idempotent one keeps their order."""
_QUEUE = "producer"
_ANY_PARTITION = -1


def producer_config(bootstrap: str, client_id: str) -> dict[str, object]:
    """Return the settings of every producer that writes a log."""
    return {
        **kafka_at(bootstrap),
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 0,
        "max.in.flight.requests.per.connection": 1,
        # 0 means: wait for ever. A time-out loses records in the middle of a stream.
        "message.timeout.ms": 0,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
        "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "delivery.report.only.error": True,
        "allow.auto.create.topics": False,
        "topic.metadata.refresh.interval.ms": 60_000,
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
    }


class Publisher:
    """Encodes outputs, produces them, and knows when Kafka has acknowledged all of them."""

    def __init__(
        self, *, bootstrap: str, codec: Codec, clock: Clock, run: str, stage: str, partitions: int, client_id: str = ""
    ) -> None:
        """Make the producer; `partitions` is the count of the run's hot topics (for `ALL_PARTITIONS`)."""
        self._codec = codec
        self._clock = clock
        self._run = run
        self._partitions = partitions
        self._stage = stage
        self._failure: KafkaError | None = None
        self._names: dict[str, str] = {}
        self._outputs = metrics.OUTPUTS.labels(stage)
        self._blocked = metrics.BLOCKED.labels(stage)
        self._ack = metrics.ACK.labels(stage)
        config = producer_config(bootstrap, client_id or f"{run}.{stage}")
        config["error_cb"] = self._on_error
        config["on_delivery"] = self._on_delivery
        self._producer = Producer(config)
        queues.watch(_QUEUE, self, lambda own: len(own._producer), QUEUE_RECORDS_MAX)

    @property
    def run(self) -> str:
        """The run whose topics it writes."""
        return self._run

    def publish(self, output: Output) -> None:
        """Encode and produce one output; waits while the queue is full."""
        value = self._codec.encode(output.record, self._clock.now_ns())
        self.forward(output.topic, output.key, value, output.partition)

    def forward(
        self,
        topic: Topic,
        key: str | bytes,
        value: bytes,
        partition: int = BY_KEY,
        headers: Headers | None = None,
    ) -> None:
        """Produce bytes as they are."""
        name = self._names.get(topic.noun)
        if name is None:
            name = self._names[topic.noun] = topic.name(self._run)
        if partition == ALL_PARTITIONS:
            count = self._partitions if topic.partitions == "hot" else 1
            for number in range(count):
                self._produce(name, key, value, number, headers)
            self._outputs.inc(count)
        else:
            self._produce(name, key, value, partition if partition != BY_KEY else _ANY_PARTITION, headers)
            self._outputs.inc()

    def serve(self) -> None:
        """Let callbacks run.

        Raises:
            Halt: a record was not delivered.
        """
        self._producer.poll(0)
        self._check()

    def wait_acknowledged(self, timeout_s: float = 1.0) -> bool:
        """Wait until Kafka has acknowledged everything produced so far; return False if time ran out.

        Raises:
            Halt: a record was not delivered.
        """
        began = self._clock.monotonic_s()
        left = self._producer.flush(timeout_s)
        self._check()
        if left == 0:
            self._ack.observe(self._clock.monotonic_s() - began)
        return left == 0

    def _produce(self, name: str, key: str | bytes, value: bytes, partition: int, headers: Headers | None) -> None:
        while True:
            try:
                if headers is None:
                    self._producer.produce(name, value, key, partition)
                else:
                    self._producer.produce(name, value, key, partition, headers=headers)
                return
            except BufferError:
                self._blocked.inc()
                queues.at_bound(_QUEUE, "waited")
                self._producer.poll(0.05)
                self._check()
            except KafkaException as e:
                raise InvariantBroken(f"{name}: {len(value)} bytes cannot be produced: {e}") from e

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        # Only failures are reported (delivery.report.only.error).
        if error is not None:
            self._failure = error

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = error

    def _check(self) -> None:
        if self._failure is not None:
            raise Halt(f"Kafka did not take a record of {self._stage}: {self._failure}; restart the worker")


class AckingProducer:
    """A producer for edges: each record's offset can be asked for, and the age of the oldest unacknowledged is known.

    A thread polls; callbacks run on it. Thread-safe.
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        codec: Codec,
        clock: Clock,
        run: str,
        stage: str,
        partitions: int,
        pipelined: bool = False,
    ) -> None:
        """With `pipelined` a record does not wait for the acknowledgement of those before it: see `PIPELINED_MAX`."""
        self._codec = codec
        self._clock = clock
        self._run = run
        self._partitions = partitions
        self._outputs = metrics.OUTPUTS.labels(stage)
        self._ack = metrics.ACK.labels(stage)
        self._lock = threading.Lock()
        self._sent = 0
        self._pending: dict[int, float] = {}
        self._unvouched: dict[tuple[str, int], float] = {}
        self._names: dict[str, str] = {}
        self._streamed = 0
        self._failure = ""
        config = producer_config(bootstrap, f"{run}.{stage}")
        config["delivery.report.only.error"] = False
        if pipelined:
            config["max.in.flight.requests.per.connection"] = PIPELINED_MAX
        config["error_cb"] = self._on_error
        config["on_delivery"] = self._on_streamed
        self._producer = Producer(config)
        queues.watch(_QUEUE, self, lambda own: len(own._producer), QUEUE_RECORDS_MAX)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="producer", daemon=True)
        self._thread.start()

    def produce(
        self,
        topic: Topic,
        key: str,
        record: Record | None,
        partition: int = BY_KEY,
        on_offset: OnOffset | None = None,
    ) -> None:
        """Produce one record (None: a tombstone); `on_offset(offset | None, reason)` is called on the polling thread.

        Raises:
            Unavailable: the queue is full, or a record was lost before.
        """
        if self._failure:
            raise Unavailable(self._failure)
        value = None if record is None else self._codec.encode(record, self._clock.now_ns())
        targets = [partition]
        if partition == ALL_PARTITIONS:
            targets = list(range(self._partitions if topic.partitions == "hot" else 1))
        name = topic.name(self._run)
        for target in targets:
            with self._lock:
                self._sent += 1
                number = self._sent
                # What was streamed to this partition before is acknowledged no later than this record.
                now_s = self._clock.monotonic_s()
                self._pending[number] = self._unvouched.get((name, target), now_s)
            try:
                self._producer.produce(name, value, key, target, on_delivery=self._reporter(number, on_offset))
            except BufferError as e:
                queues.at_bound(_QUEUE, "refused")
                with self._lock:
                    self._pending.pop(number, None)
                raise Unavailable(f"{name}: the produce queue is full ({QUEUE_RECORDS_MAX} records)") from e
            except KafkaException as e:
                with self._lock:
                    self._pending.pop(number, None)
                raise InvariantBroken(f"{name}: {len(value or b'')} bytes cannot be produced: {e}") from e
            with self._lock:
                self._unvouched.pop((name, target), None)
        self._outputs.inc(len(targets) + self._streamed)
        self._streamed = 0

    # hot: every frame of every feed (benchmarks/frames.py)
    def stream(self, topic: Topic, key: str, record: Record, partition: int) -> None:
        """Produce one record without a report of its own: the next `produce` to its partition vouches for it.

        A report for each record costs five times the record itself. One partition is written in order and
        idempotently, so the acknowledgement of a later record is that of all before it. Whoever streams must
        `produce` to the same partition now and then, and last.

        Raises:
            Unavailable: the queue is full, or a record was lost before.
        """
        if self._failure:
            raise Unavailable(self._failure)
        name = self._names.get(topic.noun)
        if name is None:
            name = self._names[topic.noun] = topic.name(self._run)
        value = self._codec.encode(record, self._clock.now_ns())
        try:
            self._producer.produce(name, value, key, partition)
        except BufferError as e:
            queues.at_bound(_QUEUE, "refused")
            raise Unavailable(f"{name}: the produce queue is full ({QUEUE_RECORDS_MAX} records)") from e
        except KafkaException as e:
            raise InvariantBroken(f"{name}: {len(value)} bytes cannot be produced: {e}") from e
        self._streamed += 1
        if (name, partition) not in self._unvouched:
            with self._lock:
                self._unvouched[name, partition] = self._clock.monotonic_s()

    def ack_age_s(self) -> float:
        """Return the age of the oldest unacknowledged record, 0 when none.

        A streamed record counts from when it was streamed until a later `produce` to its partition is acknowledged, or
        until the client holds no record any more: whoever streamed last may have ended without vouching for it.
        """
        with self._lock:
            if self._unvouched and not len(self._producer):
                self._unvouched.clear()
            oldest = min((*self._pending.values(), *self._unvouched.values()), default=None)
        return 0.0 if oldest is None else self._clock.monotonic_s() - oldest

    def close(self, timeout_s: float = 10.0) -> int:
        """Wait for acknowledgements, stop the thread; return how many records are not acknowledged."""
        left = self._producer.flush(timeout_s)
        self._stop.set()
        self._thread.join(2.0)
        return left

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.05)

    def _reporter(self, number: int, on_offset: OnOffset | None) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            with self._lock:
                began = self._pending.pop(number, None)
            if error is not None:
                self._failure = f"Kafka did not take a record: {error}; restart the worker"
            elif began is not None:
                self._ack.observe(self._clock.monotonic_s() - began)
            if on_offset is not None:
                on_offset(None if error is not None else message.offset(), str(error or ""))

        return delivered

    def _on_streamed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"Kafka did not take a record: {error}; restart the worker"

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._failure = f"Kafka producer failed: {error}; restart the worker"
