"""Stacks of killed tests are found and stopped; ports are free when they are handed out."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.stack.processes import Processes
from infra.stack.temporary import OWNER_FILE, PREFIX, free_ports, sweep


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files in which sockets have room for their names."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def abandoned(path: Path, owner: int) -> tuple[Path, Processes]:
    folder = path / f"{PREFIX}x"
    folder.mkdir()
    (folder / OWNER_FILE).write_text(str(owner))
    processes = Processes(folder / "data")
    processes.start_arbiter()
    processes.add("kafka", "sleep", ["1000"])
    return folder, processes


def test_a_stack_whose_owner_was_killed_is_stopped_and_deleted(short_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder, processes = abandoned(short_path, gone.pid)
    (pid,) = processes.list()["kafka"]
    assert sweep() == 1
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_a_stack_whose_owner_lives_is_left_alone(short_path: Path) -> None:
    folder, processes = abandoned(short_path, os.getpid())
    try:
        assert sweep() == 0
        assert len(processes.list()["kafka"]) == 1
        assert folder.exists()
    finally:
        processes.stop_all()


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.create_server(("127.0.0.1", port)):
            pass
