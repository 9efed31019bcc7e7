"""The demo as a user runs it, on real servers, with workers killed in the middle; then its replay."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from infra.stack.processes import Processes
from infra.stack.settings import PROJECT

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(420)]

RUN = "demo-test"
KILLED = ("normalize", "derive", "strategies", "accounts", "observe")
WAIT_S = 120.0


@pytest.fixture
def environment(stack):
    """The settings of a shell that uses the test's own stack."""
    ports = {
        f"CROSSBOOK_STACK_{name.upper()}": str(getattr(stack.settings, name))
        for name in type(stack.settings).model_fields
        if name.endswith("_port")
    }
    return {**os.environ, **ports, "CROSSBOOK_STACK_DATA": str(stack.settings.data), "COLUMNS": "160"}


class Shell:
    """`crossbook demo` in a process of its own."""

    def __init__(self, environment, stack, report, *arguments):
        self.report = report
        self.processes = Processes(stack.settings.data, RUN)
        self.output = report.with_suffix(".log")
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "infra.cli", "demo", "--run", RUN, "--markets", "10", "--rate", "150",
                    "--edges", "2", "--warmup", "2", "--report", str(report), *arguments,
                ],
                cwd=PROJECT,
                env=environment,
                stdout=file,
                stderr=file,
            )  # fmt: skip

    def until(self, words):
        deadline = time.monotonic() + WAIT_S
        while words not in self.output.read_text():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.1)

    def pids(self):
        return [pid for pids in self.processes.list().values() for pid in pids]


def test_workers_killed_in_the_middle_lose_nothing_and_the_replay_is_equal(stack, environment, tmp_path):
    shell = Shell(environment, stack, tmp_path / "demo.json", "--seconds", "20")
    try:
        shell.until("running")
        for name in KILLED:
            shell.processes.signal(name, shell.processes.list()[name][0], signal.SIGKILL)
            time.sleep(1.5)
        scaled = subprocess.run(
            [sys.executable, "-m", "infra.cli", "scale", "normalize", "3", "--run", RUN],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert scaled.returncode == 0, scaled.stderr
        assert "-> 3 processes" in scaled.stdout
        assert shell.process.wait(WAIT_S) == 0, shell.output.read_text()
    finally:
        shell.process.terminate()
        shell.process.wait(60)
    report = json.loads((tmp_path / "demo.json").read_text())
    assert (report["lost"], report["duplicated"], report["accounts_match"]) == (0, 0, True), report
    assert report["detail"]["frames"]["kalshi"]["sent"] > 100
    assert report["detail"]["frames"]["polymarket"]["sent"] > 100
    for venue in ("kalshi", "polymarket"):
        assert report["orders"][venue]["filled"] > 0, report["orders"]
    assert shell.pids() == []
    replayed = subprocess.run(
        [sys.executable, "-m", "infra.cli", "replay", "--run", RUN, "--into", "replay-test", "--verify"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert replayed.stdout.rstrip().endswith("equal")


def test_ctrl_c_ends_every_process_it_started(stack, environment, tmp_path):
    shell = Shell(environment, stack, tmp_path / "demo.json", "--seconds", "60")
    try:
        shell.until("running")
        pids = shell.pids()
        assert len(pids) > 10
        shell.process.send_signal(signal.SIGINT)
        assert shell.process.wait(60) == 130, shell.output.read_text()
    finally:
        shell.process.terminate()
        shell.process.wait(60)
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert not shell.processes.is_running()
    assert not (tmp_path / "demo.json").exists()
