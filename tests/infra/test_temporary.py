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

from infra.stack import temporary
from infra.stack.processes import Processes
from infra.stack.temporary import OWNER_FILE, PREFIX, TemporaryStack, free_ports, sweep


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files in which sockets have room for their names."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def abandoned(path: Path, owner: int, space: str = "") -> tuple[Path, Processes]:
    folder = path / f"{PREFIX}x"
    folder.mkdir()
    (folder / OWNER_FILE).write_text(f"{owner} {space or temporary._processes()}")
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


def test_a_stack_of_another_namespace_is_left_alone_though_its_owner_looks_dead(short_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder, processes = abandoned(short_path, gone.pid, "pid:[1]")
    try:
        assert sweep() == 0
        assert folder.exists()
    finally:
        processes.stop_all()


def test_what_a_killed_owner_had_in_memory_is_deleted_too(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = short_path / "memory"
    monkeypatch.setattr(temporary, "MEMORY", memory)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    space = ""
    for name, owner in (("gone", gone.pid), ("lives", os.getpid())):
        folder = memory / f"{PREFIX}{name}"
        folder.mkdir(parents=True)
        (folder / OWNER_FILE).write_text(f"{owner} {space or temporary._processes()}")
    sweep()
    assert [folder.name for folder in memory.iterdir()] == [f"{PREFIX}lives"]


def test_kafka_keeps_its_logs_in_memory_where_there_is_room(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = short_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(temporary, "MEMORY", memory)
    monkeypatch.setattr(temporary, "MEMORY_FREE_MIN", 1)
    with_room = TemporaryStack(brokers=3)
    assert {(with_room.settings.data / name).resolve().parent.parent for name in with_room.brokers} == {
        memory.resolve()
    }
    with_room.close()
    assert not list(memory.iterdir())
    monkeypatch.setattr(temporary, "MEMORY_FREE_MIN", 1 << 62)
    without = TemporaryStack()
    assert without.memory is None
    without.close()


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.create_server(("127.0.0.1", port)):
            pass
