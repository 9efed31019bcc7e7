"""The runtime's contract suite runs against two Kafkas: librdkafka's mock cluster and the real broker."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from core.runtime.admin import create_run, register_schemas
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry, HttpRegistry
from core.runtime.producer import Publisher
from infra.mock_cluster import MockCluster

_numbers = itertools.count()


@dataclass
class Cluster:
    """A Kafka with one fresh run on it."""

    kind: str
    bootstrap: str
    registry_url: str
    run: str
    new_codec: Callable[[], Codec]
    partitions: int = 4

    @property
    def codec(self) -> Codec:
        return self.new_codec()

    def publisher(self, stage: str) -> Publisher:
        return Publisher(
            bootstrap=self.bootstrap,
            codec=self.codec,
            clock=SystemClock(),
            run=self.run,
            stage=stage,
            partitions=self.partitions,
        )


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture(params=[pytest.param("mock", marks=pytest.mark.mock), pytest.param("broker", marks=pytest.mark.broker)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    run = f"test-{os.getpid()}-{next(_numbers)}"
    if request.param == "mock":
        kafka = request.getfixturevalue("mock_kafka")
        kafka.create_run(run, 4)
        return Cluster("mock", kafka.bootstrap, "", run, lambda: Codec(FileRegistry()))
    stack = request.getfixturevalue("registered_stack")
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=run, partitions=4)
    return Cluster("broker", stack.bootstrap, stack.registry_url, run, lambda: Codec(HttpRegistry(stack.registry_url)))


@pytest.fixture(scope="session")
def registered_stack(stack):
    register_schemas(stack.registry_url)
    return stack
