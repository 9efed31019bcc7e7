"""Whether Kafka has all brokers and all copies of everything again, after one of them was struck."""

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from core.runtime.client import kafka_at
from infra.stack.servers import is_ready
from infra.stack.settings import StackSettings

ASK_S = 1.0
TIMEOUT_S = 2.0


class Replicas:
    """Asks the brokers, at most once a second."""

    def __init__(self, stack: StackSettings) -> None:
        """Remember where; the client is made when it is first asked."""
        self._stack = stack
        self._admin: AdminClient | None = None
        self._asked_s = float("-inf")
        self._whole = True

    def are_whole(self) -> bool:
        """Say whether each broker serves and each partition has all its replicas in sync."""
        if time.monotonic() - self._asked_s >= ASK_S:
            # A broker that has just died stands in the others' metadata for seconds: each is asked itself.
            self._whole = all(is_ready(self._stack, name) for name in self._stack.broker_names) and self._in_sync()
            self._asked_s = time.monotonic()
        return self._whole

    def _in_sync(self) -> bool:
        if self._admin is None:
            self._admin = AdminClient({**kafka_at(self._stack.bootstrap), "log_level": 0})
        try:
            found = self._admin.list_topics(timeout=TIMEOUT_S).topics.values()
        except KafkaException:
            return False
        return all(len(one.isrs) == len(one.replicas) for topic in found for one in topic.partitions.values())
