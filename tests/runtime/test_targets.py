"""The files that tell Prometheus where workers answer."""

import json
import os
import subprocess
import sys

import pytest

from core.runtime.settings import WorkerSettings
from core.runtime.targets import FOLDER, Target
from core.runtime.worker import presence

FACTS = {"stage": "derive", "log": "book", "run": "demo", "pid": 1}
DIES = """
import os, signal, sys
from pathlib import Path
from core.runtime.targets import Target
held = Target.claim(Path(sys.argv[1]), {"stage": "derive", "log": "book", "run": "demo"}, 5)
print(held.path.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def told(folder):
    """Return port by instance."""
    found = {}
    for path in folder.glob("*.json"):
        (group,) = json.loads(path.read_text())
        assert (group["labels"]["job"], group["labels"]["run"]) == ("crossbook", "demo")
        found[group["labels"]["instance"]] = group["targets"]
    return found


def test_workers_of_one_log_have_places_of_their_own_and_leave_none_behind(tmp_path):
    first, second = Target.claim(tmp_path, FACTS, 1), Target.claim(tmp_path, FACTS, 2)
    assert told(tmp_path) == {"derive.book.0": ["127.0.0.1:1"], "derive.book.1": ["127.0.0.1:2"]}
    first.release()
    assert told(tmp_path) == {"derive.book.1": ["127.0.0.1:2"]}
    third = Target.claim(tmp_path, FACTS, 3)
    assert third.path.name == "derive.book.0.json"
    second.release()
    third.release()
    assert told(tmp_path) == {}


def test_a_killed_worker_shows_as_down_until_its_successor_takes_its_place(tmp_path):
    for _ in range(2):
        died = subprocess.run(
            [sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (died.returncode, died.stdout) == (-9, "derive.book.0.json\n"), died.stderr
        assert told(tmp_path) == {"derive.book.0": ["127.0.0.1:5"]}
    successor = Target.claim(tmp_path, FACTS, 6)
    assert told(tmp_path) == {"derive.book.0": ["127.0.0.1:6"]}
    successor.release()


def test_a_worker_is_a_target_while_it_lives(tmp_path):
    settings = WorkerSettings(_env_file=None, run="demo", worker_dir=str(tmp_path))
    folder = tmp_path / FOLDER
    with pytest.raises(RuntimeError), presence(settings, "derive", "book", lambda: {"ok": True}):
        note = json.loads((tmp_path / f"{os.getpid()}.json").read_text())
        assert told(folder) == {"derive.book.0": [f"127.0.0.1:{note['metrics_port']}"]}
        raise RuntimeError("the worker halts")
    assert told(folder) == {}
