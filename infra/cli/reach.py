"""Where the servers are, for commands: the worker settings where they are set, else the dev stack's."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from core.domain.errors import Misconfigured, Unavailable
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.settings import WorkerSettings, load
from core.runtime.topics import BY_NOUN, Topic
from infra.stack.settings import StackSettings
from observe.settings import ObserveSettings

if TYPE_CHECKING:  # what needs a Kafka client is imported when something is published
    from core.runtime.clock import Clock
    from core.runtime.flow import Output

PROBE_TIMEOUT_S = 2.0
ACK_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Reach:
    """Addresses and the run a command is about."""

    run: str
    partitions: int
    replication: int
    """of a run that is made; 0: the brokers' own default"""
    bootstrap: str
    registry_url: str
    questdb_http: str
    questdb_pg: str
    stack: StackSettings
    postgres_url: str = ""

    @classmethod
    def load(cls, run: str = "", brokers: int = 0) -> Reach:
        """Read the settings; `run` and `brokers` win over them.

        Raises:
            Misconfigured: a setting is not allowed.
        """
        stack = load(StackSettings, **({"brokers": brokers} if brokers else {}))
        worker = load(ObserveSettings, **({"run": run} if run else {}))
        given = worker.model_fields_set
        return cls(
            run=worker.run,
            partitions=worker.partitions if "partitions" in given else stack.partitions,
            replication=worker.replication,
            bootstrap=worker.bootstrap if "bootstrap" in given else stack.bootstrap,
            registry_url=worker.registry_url if "registry_url" in given else stack.registry_url,
            questdb_http=worker.questdb_http if "questdb_http" in given else stack.questdb_http,
            questdb_pg=stack.questdb_pg,
            postgres_url=worker.postgres_url if "postgres_url" in given else stack.postgres_url,
            stack=stack,
        )

    def require_kafka(self) -> Reach:
        """Return itself if something listens at one of the bootstrap addresses.

        Asked before any client is made: librdkafka would report each attempt on standard error.

        Raises:
            Unavailable: nothing does.
        """
        reason: OSError | None = None
        for address in self.bootstrap.split(","):
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host, int(port)), PROBE_TIMEOUT_S).close()
                return self
            except OSError as e:
                reason = e
        raise Unavailable(
            f"Kafka at {self.bootstrap} does not answer ({reason}): start it with `crossbook up`"
        ) from reason

    @cached_property
    def codec(self) -> Codec:
        """A codec over the registry."""
        return Codec(HttpRegistry(self.registry_url))

    def publish(self, outputs: Iterable[Output], clock: Clock, *, otherwise: str = "repeat") -> None:
        """Write an operator's records and wait until Kafka has them.

        Raises:
            Unavailable: Kafka does not acknowledge; says what to do `otherwise`.
        """
        from core.runtime.producer import Publisher

        publisher = Publisher(
            bootstrap=self.bootstrap,
            codec=self.codec,
            clock=clock,
            run=self.run,
            stage="decide",
            partitions=self.partitions,
            client_id=f"{self.run}.operator",
        )
        for output in outputs:
            publisher.publish(output)
        if not publisher.wait_acknowledged(ACK_TIMEOUT_S):
            raise Unavailable(
                f"Kafka at {self.bootstrap} does not acknowledge within {ACK_TIMEOUT_S:.0f} s, "
                f"nothing is known to be written: {otherwise}"
            )

    def environment(self) -> dict[str, str]:
        """Return the settings a worker of this run is started with."""
        prefix = str(WorkerSettings.model_config["env_prefix"])
        values = {
            "run": self.run,
            "partitions": str(self.partitions),
            "bootstrap": self.bootstrap,
            "registry_url": self.registry_url,
            "questdb_http": self.questdb_http,
            **({"postgres_url": self.postgres_url} if self.postgres_url else {}),
        }
        return {f"{prefix}{name.upper()}": value for name, value in values.items()}


def topic_named(text: str, run: str) -> Topic:
    """Return the topic a user means by `market.event` or `demo.market.event`.

    Raises:
        Misconfigured: there is none; names the nearest.
    """
    import difflib

    noun = text.removeprefix(f"{run}.")
    topic = BY_NOUN.get(noun)
    if topic is None:
        near = difflib.get_close_matches(noun, BY_NOUN, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`crossbook topics` lists them"
        raise Misconfigured(f"no topic {text!r} in run {run}: {hint}")
    return topic
