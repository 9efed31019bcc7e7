"""librdkafka's in-process mock cluster: a fast Kafka for tests and benchmarks, without a server.

It speaks produce, fetch, KIP-848 groups, offsets and transactions over a loopback socket. It does not create topics by
request (they are made here), keeps at most 5 MiB per partition, and does not hide aborted transactions.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import confluent_kafka

from core.runtime.topics import TOPICS

_PRODUCER = 0
_ERROR_BYTES = 512
_KNOCK_S = 0.02


class MockCluster:
    """A cluster that lives as long as this object: `with MockCluster() as cluster: cluster.bootstrap`."""

    def __init__(self, brokers: int = 1) -> None:
        """Start `brokers` mock brokers on free loopback ports."""
        self._lib = _library()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._client = self._lib.rd_kafka_new(_PRODUCER, self._lib.rd_kafka_conf_new(), error, _ERROR_BYTES)
        if not self._client:
            raise RuntimeError(f"librdkafka: {error.value.decode()}")
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, brokers)
        self._brokers = brokers
        self.bootstrap: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic, empty."""
        code = self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, self._brokers)
        if code:
            raise RuntimeError(f"topic {name}: librdkafka error {code}")

    def create_run(self, run: str, partitions: int) -> None:
        """Create all topics of a run."""
        with self._awake():
            for topic in TOPICS:
                self.create_topic(topic.name(run), partitions if topic.partitions == "hot" else 1)

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        """Keep the cluster's thread awake: it now and then misses that it was asked, and looks a second later.

        What comes to its sockets it never misses.
        """
        host, port = self.bootstrap.split(",")[0].rsplit(":", 1)
        done = threading.Event()

        def knock() -> None:
            while not done.wait(_KNOCK_S):
                with contextlib.suppress(OSError):
                    socket.create_connection((host, int(port)), 1.0).close()

        thread = threading.Thread(target=knock, name="knock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def broker_down(self, broker: int = 1) -> None:
        """Take a broker away: its connections close and new ones are refused."""
        self._lib.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def broker_up(self, broker: int = 1) -> None:
        """Bring it back."""
        self._lib.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def refuse(self, api_key: int, code: int, count: int = 1) -> None:
        """Answer the next `count` requests of a kind (8: OffsetCommit) with an error code of the protocol."""
        codes = (ctypes.c_int * count)(*[code] * count)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, count, codes)

    def close(self) -> None:
        """End the cluster."""
        if self._cluster:
            self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
            self._lib.rd_kafka_destroy(self._client)
            self._cluster = None

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent
    found = sorted((folder.parent / "confluent_kafka.libs").glob("librdkafka*")) + sorted(folder.glob("librdkafka*"))
    if not found:
        raise RuntimeError(f"no librdkafka beside {folder}: install the confluent-kafka wheel")
    lib = ctypes.CDLL(str(found[0]))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
    ):
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib
