"""The files that tell Prometheus where workers answer."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

import pytest

from core.domain.errors import Halt, Unavailable
from core.runtime.settings import WorkerSettings
from core.runtime.targets import FOLDER, Target, sweep
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


def test_a_worker_that_ends_well_takes_its_target_away(tmp_path):
    settings = WorkerSettings(_env_file=None, run="demo", worker_dir=str(tmp_path))
    folder = tmp_path / FOLDER
    with presence(settings, "derive", "book", lambda: {"ok": True}):
        note = json.loads((tmp_path / f"{os.getpid()}.json").read_text())
        assert told(folder) == {"derive.book.0": [f"127.0.0.1:{note['metrics_port']}"]}
    assert told(folder) == {}
    # Who was asked to stop while it waited for something ends well too.
    with pytest.raises(asyncio.CancelledError), presence(settings, "derive", "book", lambda: {"ok": True}):
        raise asyncio.CancelledError
    assert told(folder) == {}


@pytest.mark.parametrize(
    "error", [Halt("an invariant broke"), Unavailable("Kafka is away")], ids=lambda e: type(e).__name__
)
def test_a_worker_that_halts_shows_as_down_until_its_successor_takes_its_place(tmp_path, error):
    settings = WorkerSettings(_env_file=None, run="demo", worker_dir=str(tmp_path))
    folder = tmp_path / FOLDER
    for _ in range(5):
        with pytest.raises(type(error)), presence(settings, "derive", "book", lambda: {"ok": True}):
            (before,) = told(folder).values()
            raise error
        assert told(folder) == {"derive.book.0": before}
        with pytest.raises(OSError, match=r"refused"):
            urllib.request.urlopen(f"http://{before[0]}/metrics", timeout=5)
        assert list(tmp_path.glob("*.json")) == []
    with presence(settings, "derive", "book", lambda: {"ok": True}):
        (port,) = told(folder)["derive.book.0"]
        assert urllib.request.urlopen(f"http://{port}/metrics", timeout=5).status == 200
    assert told(folder) == {}


def test_what_the_dead_left_is_swept_and_what_the_living_hold_is_not(tmp_path):
    left = [Target.claim(tmp_path, FACTS, port) for port in range(3)]
    other = Target.claim(tmp_path, FACTS | {"log": "book.0"}, 7)
    left[0].leave()
    left[2].leave()
    other.leave()
    assert sweep(tmp_path, "derive.book", keep=3) == []
    # Of two that may stay one lives: the dead one of the lowest number waits for its successor.
    assert sweep(tmp_path, "derive.book", keep=2) == ["derive.book.2"]
    assert sweep(tmp_path, "derive.book", keep=1) == ["derive.book.0"]
    assert sweep(tmp_path, "derive.book") == []
    assert told(tmp_path) == {"derive.book.1": ["127.0.0.1:1"], "derive.book.0.0": ["127.0.0.1:7"]}
    (tmp_path / "mine.json").write_text("[]")
    assert sweep(tmp_path) == ["derive.book.0.0"]
    (tmp_path / "mine.json").unlink()
    left[1].release()
    assert sweep(tmp_path / "never made") == []
    assert told(tmp_path) == {}
