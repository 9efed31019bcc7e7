"""The process manager with real, tiny processes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from core.domain.errors import Halt, Misconfigured
from core.runtime.settings import WorkerSettings
from core.runtime.targets import FOLDER, Target
from core.runtime.worker import presence
from infra.cli.reach import Reach
from infra.cli.status import scale_workers
from infra.demo import cast
from infra.stack.processes import OWNER, Processes, groups
from infra.stack.respawn import DEATHS_MAX
from infra.stack.settings import StackSettings

ANSWER_S = 10.0


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    group = Processes(tmp_path_factory.mktemp("data"), "demo")
    group.start_arbiter()
    yield group
    group.stop_all()


def eventually(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + ANSWER_S
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_watcher_runs_as_many_copies_as_asked_and_is_scaled_both_ways(processes: Processes) -> None:
    processes.add("normalize", "sleep", ["1000"], numprocesses=2)
    first = processes.list()["normalize"]
    assert len(first) == 2
    assert processes.scale("normalize", 3) == 2
    more = processes.list()["normalize"]
    assert len(more) == 3
    assert set(first) < set(more)
    processes.scale("normalize", 1)
    assert len(processes.list()["normalize"]) == 1
    assert sum(psutil.pid_exists(pid) for pid in more) == 1


def test_a_killed_process_comes_back_with_the_same_command(processes: Processes) -> None:
    processes.add("derive", "sleep", ["1000"])
    (pid,) = processes.list()["derive"]
    processes.signal("derive", pid, signal.SIGKILL)
    assert eventually(lambda: processes.list()["derive"] not in ([], [pid]))
    (successor,) = processes.list()["derive"]
    assert psutil.Process(successor).cmdline() == ["sleep", "1000"]


def test_a_process_that_says_it_is_misconfigured_is_not_started_again(processes: Processes) -> None:
    processes.add("decide", "sh", ["-c", "echo no such topic; exit 2"])
    assert eventually(lambda: not processes.is_active("decide"))
    assert processes.log("decide").read_text() == "no such topic\n"


def test_a_process_that_had_run_before_is_started_again_though_its_servers_are_away(
    processes: Processes, tmp_path: Path
) -> None:
    # Runs, is killed, finds no server once, then finds it: as a worker does while the registry is started again.
    script = f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); echo $((n+1)) > {tmp_path}/n; echo start $n; "
    script += "test $n = 1 && exit 2; sleep 1000"
    processes.add("observe", "sh", ["-c", script])
    assert eventually(lambda: "start 0" in processes.log("observe").read_text())
    (pid,) = processes.list()["observe"]
    processes.signal("observe", pid, signal.SIGKILL)
    assert eventually(lambda: "start 2" in processes.log("observe").read_text())
    assert processes.is_active("observe")


def test_a_process_that_keeps_dying_is_given_up(processes: Processes) -> None:
    processes.add("ingest", "sh", ["-c", "echo died; exit 1"])
    assert eventually(lambda: not processes.is_active("ingest"))
    assert processes.log("ingest").read_text() == "died\n" * DEATHS_MAX


def test_stop_sends_sigterm_and_waits_for_the_graceful_end(processes: Processes) -> None:
    script = "trap 'sleep 0.3; echo drained; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    processes.add("execute", "sh", ["-c", script])
    assert eventually(lambda: "ready" in processes.log("execute").read_text())
    processes.stop("execute")
    assert processes.log("execute").read_text() == "ready\ndrained\n"
    assert processes.list()["execute"] == []
    processes.start("execute")
    assert len(processes.list()["execute"]) == 1


def test_a_process_deaf_to_sigterm_is_killed_after_its_graceful_time(processes: Processes) -> None:
    processes.add("deaf", "sh", ["-c", "trap '' TERM; while :; do sleep 0.05; done"], graceful_timeout_s=0.5)
    (pid,) = processes.list()["deaf"]
    time.sleep(0.2)
    processes.remove("deaf")
    assert not psutil.pid_exists(pid)
    assert "deaf" not in processes.list()


def test_environment_and_arguments_arrive_as_they_were_given(processes: Processes) -> None:
    processes.add("echo", "sh", ["-c", 'echo "$0|$1|$GREETING"; sleep 1000', "a b", "$(c) 'd'"], {"GREETING": "x y"})
    assert eventually(lambda: processes.log("echo").read_text() == "a b|$(c) 'd'|x y\n")


def test_a_name_that_is_taken_is_replaced(processes: Processes) -> None:
    processes.add("observe", "sleep", ["1000"])
    (before,) = processes.list()["observe"]
    processes.add("observe", "sleep", ["2000"])
    (after,) = processes.list()["observe"]
    assert not psutil.pid_exists(before)
    assert psutil.Process(after).cmdline() == ["sleep", "2000"]


def test_an_unknown_watcher_is_named_in_the_error(processes: Processes) -> None:
    with pytest.raises(Misconfigured, match="absent"):
        processes.scale("absent", 3)


def test_what_a_killed_arbiter_leaves_behind_is_stopped_before_a_new_one_starts(tmp_path: Path) -> None:
    first = Processes(tmp_path, "demo")
    first.start_arbiter()
    first.add("normalize", "sleep", ["1000"])
    (pid,) = first.list()["normalize"]
    os.kill(int((first.folder / "circus.pid").read_text()), signal.SIGKILL)
    second = Processes(tmp_path, "demo")
    assert eventually(lambda: not second.is_running())
    assert psutil.pid_exists(pid)
    second.start_arbiter()
    assert not psutil.pid_exists(pid)
    assert second.list() == {}
    second.stop_all()


def test_stop_all_leaves_nothing_of_its_group_and_touches_no_other(tmp_path: Path) -> None:
    ours, other = Processes(tmp_path, "demo"), Processes(tmp_path, "stack")
    for group in (ours, other):
        group.start_arbiter()
        group.add("worker", "sleep", ["1000"])
    (kept,) = other.list()["worker"]
    ours.stop_all()
    assert not ours.is_running()
    assert ours.list() == {}
    assert other.list() == {"worker": [kept]}
    assert groups(tmp_path) == ["demo", "stack"]
    other.stop_all()
    owners = [p.info["environ"] or {} for p in psutil.process_iter(["environ"])]
    assert not [o for o in owners if str(tmp_path) in o.get(OWNER, "")]


def targets(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).glob("*.json"))


def test_a_worker_that_was_given_up_stays_a_target_until_it_is_scaled_away_or_all_are_stopped(tmp_path: Path) -> None:
    reach = replace(Reach.load("demo"), stack=StackSettings(_env_file=None, data=tmp_path))
    group, folder = Processes(tmp_path, "demo"), cast.worker_dir(reach)
    group.start_arbiter()
    try:
        group.add("normalize", "sleep", ["1000"])
        halts = WorkerSettings(_env_file=None, run="demo", worker_dir=str(folder))
        with pytest.raises(Halt), presence(halts, "derive", "book", dict):
            raise Halt("an invariant broke")
        group.add("derive", "sh", ["-c", "exit 2"])
        assert eventually(lambda: not group.is_active("derive"))
        assert targets(folder) == ["derive.book.0.json"]
        other = Target.claim(folder / FOLDER, {"stage": "normalize", "log": "frame", "run": "demo"}, 1)
        assert other is not None
        other.leave()
        alive = Target.claim(folder / FOLDER, {"stage": "execute", "log": "kalshi:main", "run": "demo"}, 2)
        assert alive is not None
        scale_workers(reach, "derive", 1)
        assert targets(folder) == ["derive.book.0.json", "execute.kalshi:main.0.json", "normalize.frame.0.json"]
        scale_workers(reach, "derive", 0)
        assert targets(folder) == ["execute.kalshi:main.0.json", "normalize.frame.0.json"]
        scale_workers(reach, "normalize", 2)
        assert targets(folder) == ["execute.kalshi:main.0.json", "normalize.frame.0.json"]
    finally:
        group.stop_all()
    # One that somebody started by hand lives on.
    assert targets(folder) == ["execute.kalshi:main.0.json"]
    alive.release()


def test_each_worker_is_swept_under_the_name_it_takes_its_place_by() -> None:
    names = {part.name: part.worker for part in [*cast.parts(), cast.DESK]}
    assert names == {
        "observe": "observe.questdb",
        "execute-kalshi": "execute.kalshi:main",
        "execute-polymarket": "execute.polymarket:main",
        "accounts": "decide.accounts",
        "strategies": "decide.strategies",
        "derive": "derive.book",
        "normalize": "normalize.frame",
        "instrument-kalshi": "normalize.instrument-kalshi",
        "instrument-polymarket": "normalize.instrument-polymarket",
        "catalogue-kalshi": "ingest.catalogue-kalshi",
        "catalogue-polymarket": "ingest.catalogue-polymarket",
        "ingest-kalshi": "ingest.feed-kalshi",
        "ingest-polymarket": "ingest.feed-polymarket",
        "desk": "observe.postgres",
    }
