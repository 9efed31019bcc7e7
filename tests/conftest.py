"""What many tests share: the real servers, and the folder with recorded venue messages."""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from core.runtime.admin import register_schemas
from infra.stack.temporary import StackProvider, TemporaryStack

# How long an example takes says nothing about the code on a machine that does other things too.
settings.register_profile("crossbook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbook")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test marked `alone` while no other worker of this session runs one; most of the rest only wait.

    Outermost, so that waiting for one's turn is not counted as the test's own time.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    # The folder of a worker's temporary files stands in that of its session.
    folder: Path = item.config._tmp_path_factory.getbasetemp().parent
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with contextlib.ExitStack() as locks:
        # Who waits to be alone keeps the door shut for all who come later.
        with (folder / "door").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(locks.enter_context((folder / "room").open("w")), kind)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what runs alone, first of it what brings servers of its own: nobody else's idle beside it yet.

    In the middle each would wait until the others are done with what they have in hand.
    """
    items.sort(key=lambda item: _turn(item.get_closest_marker("alone") is not None, getattr(item, "fixturenames", ())))


def _turn(is_alone: bool, fixtures: Collection[str]) -> int:
    return 2 if not is_alone else 1 if "stack" in fixtures else 0


def pytest_sessionstart() -> None:
    """End as with Ctrl-C on SIGTERM, so that fixtures stop the servers they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack() -> Iterator[StackProvider]:
    """Kafka, the registry (it knows all schemas) and QuestDB on free ports, started once, stopped at the end (about ten seconds)."""
    with TemporaryStack() as running:
        register_schemas(running.registry_url)
        yield running


@pytest.fixture(scope="session")
def captures() -> Path:
    """The recorded venue messages, read where they stand."""
    folder = (PROJECT / os.environ.get("CROSSBOOK_CAPTURES", "../shared/captures")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no captures at {folder}: set CROSSBOOK_CAPTURES to the folder with recorded venue messages")
    return folder


@pytest.fixture(scope="session")
def vectors(captures: Path) -> dict[str, Any]:
    """Signing, amount, fee and hash vectors of Polymarket, made with its official clients."""
    path = captures.parent / "venues" / "polymarket_vectors.json"
    if not path.is_file():
        pytest.skip(f"no vectors at {path}: they stand beside the captures, in venues/")
    return json.loads(path.read_text())
