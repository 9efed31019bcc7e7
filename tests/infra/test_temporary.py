"""Stacks of killed tests are found and stopped; ports are free when they are handed out."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from infra.stack.processes import Processes
from infra.stack.temporary import OWNER_FILE, PREFIX, free_ports, sweep


def abandoned(tmp_path: Path, owner: int) -> tuple[Path, Processes]:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / OWNER_FILE).write_text(str(owner))
    processes = Processes(folder / "data")
    processes.start_arbiter()
    processes.add("kafka", "sleep", ["1000"])
    return folder, processes


def test_a_stack_whose_owner_was_killed_is_stopped_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder, processes = abandoned(tmp_path, gone.pid)
    (pid,) = processes.list()["kafka"]
    assert sweep() == 1
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_a_stack_whose_owner_lives_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, processes = abandoned(tmp_path, os.getpid())
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
