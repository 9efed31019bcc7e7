"""The runtime's contract suite runs against two Kafkas: librdkafka's mock cluster and the real broker."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from core.runtime.admin import create_run
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
    if request.param == "broker":
        return request.getfixturevalue("broker_cluster")
    return request.getfixturevalue("mock_cluster")


@pytest.fixture
def mock_cluster(mock_kafka: MockCluster) -> Cluster:
    """The mock cluster alone, for what the real broker cannot be made to do."""
    run = _fresh_run()
    mock_kafka.create_run(run, 4)
    return Cluster("mock", mock_kafka.bootstrap, "", run, lambda: Codec(FileRegistry()))


@pytest.fixture
def broker_cluster(stack) -> Cluster:
    """The real broker alone, for what the mock cluster cannot do."""
    run = _fresh_run()
    create_run(bootstrap=stack.bootstrap, registry_url=stack.registry_url, run=run, partitions=4)
    return Cluster("broker", stack.bootstrap, stack.registry_url, run, lambda: Codec(HttpRegistry(stack.registry_url)))


def _fresh_run() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"
