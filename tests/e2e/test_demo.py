"""The whole flow on real servers, as a user runs it: nothing lost, nothing doubled, accounts equal, replays the same.

One demo, with workers of every stage behind the sockets killed (-9) and normalize scaled while it trades; then replays.
"""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks.path import HOPS, measured
from infra.stack.processes import Processes
from infra.stack.settings import PROJECT
from simulate.replay import replay, verify
from tests.e2e.running import environment_of, reach_of

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(420)]

RUN = "demo-e2e"
KILLED = ("normalize", "derive", "strategies", "accounts", "execute-kalshi", "execute-polymarket", "observe")
KILL_EVERY_S = 2.5
WAIT_S = 180.0


class Shell:
    """`crossbook demo` in a process of its own, on the test's own stack."""

    def __init__(self, stack, folder, *arguments):
        self.report = folder / "demo.json"
        self.output = folder / "demo.log"
        self.workers = Processes(stack.settings.data, RUN)
        self.environment = environment_of(stack)
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                self.command(
                    "demo", "--markets", "20", "--rate", "200", "--edges", "2", "--warmup", "3",
                    "--report", str(self.report), *arguments,
                ),
                cwd=PROJECT,
                env=self.environment,
                stdout=file,
                stderr=file,
            )  # fmt: skip

    def command(self, *words):
        return [sys.executable, "-m", "infra.cli", words[0], "--run", RUN, *words[1:]]

    def call(self, *words):
        return subprocess.run(
            self.command(*words), cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False
        )

    def until(self, words):
        deadline = time.monotonic() + WAIT_S
        while words not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)

    def text(self):
        return self.output.read_text(errors="replace")

    def pids(self):
        return [pid for pids in self.workers.list().values() for pid in pids]

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture(scope="module")
def demo(stack, tmp_path_factory):
    """A demo with kills and a scaling in the middle: its report and what it printed."""
    shell = Shell(stack, tmp_path_factory.mktemp("demo"), "--seconds", "32")
    try:
        shell.until("running")
        time.sleep(5)
        for name in KILLED:
            (pid,) = shell.workers.list()[name]
            shell.workers.signal(name, pid, signal.SIGKILL)
            time.sleep(KILL_EVERY_S)
        scaled = shell.call("scale", "normalize", "3")
        assert scaled.returncode == 0, scaled.stderr
        assert "-> 3 processes" in scaled.stdout
        code = shell.process.wait(WAIT_S)
    finally:
        shell.close()
    assert shell.report.exists(), shell.text()
    assert shell.pids() == []
    return code, json.loads(shell.report.read_text()), shell.text()


def test_the_demo_ends_well_though_every_stage_was_killed(demo):
    code, report, text = demo
    assert (report["lost"], report["duplicated"], report["accounts_match"]) == (0, 0, True), text
    assert code == 0, text


def test_frames_came_and_orders_were_filled_on_both_venues(demo):
    _, report, text = demo
    for venue in ("kalshi", "polymarket"):
        assert report["detail"]["frames"][venue]["sent"] > 1000, text
        assert report["orders"][venue]["filled"] > 0, text
        assert report["orders"][venue]["open"] == 0, text


def test_the_way_of_its_orders_is_measured_hop_by_hop(demo, stack):
    _, report, text = demo
    figures = measured(reach_of(stack, RUN), 200, report)
    assert len(figures) == 2 + len(HOPS)
    assert all(figure.value > 0 for figure in figures), figures
    assert figures[0].unit == "ms"
    assert "lost 0, duplicated 0" in figures[0].note, text


def test_a_replay_says_what_the_demo_said(demo, stack):
    """Record for record; so any two replays say the same."""
    where = {"bootstrap": stack.bootstrap, "registry_url": stack.registry_url, "source": RUN}
    replay(**where, into="replay-e2e-1", say=lambda _: None)
    result = verify(**where, into="replay-e2e-1")
    assert result.differences == []
    for noun in ("market.event", "derived.book", "decision.edge", "decision.account", "decision.order"):
        assert result.records[noun] > 0, noun


def test_verify_names_the_first_differing_record_and_its_input(demo, stack):
    where = {"bootstrap": stack.bootstrap, "registry_url": stack.registry_url, "source": RUN}
    replay(**where, into="replay-e2e-3", stages=["normalize"], say=lambda _: None)
    result = verify(**where, into="replay-e2e-3", stages=["normalize", "derive"])
    (missing,) = [difference for difference in result.differences if difference.topic == "derived.book"]
    assert missing.replay is None
    assert missing.source["type"].startswith(("crossbook.derived.", "crossbook.market."))
    assert "market.event" in missing.input
    assert not [difference for difference in result.differences if difference.topic == "market.event"]


def test_a_second_demo_reuses_no_id_and_ctrl_c_ends_every_process(demo, stack, tmp_path):
    _, first, _ = demo
    shell = Shell(stack, tmp_path, "--seconds", "60")
    try:
        shell.until("running")
        pids = shell.pids()
        assert len(pids) > 10
        shell.process.send_signal(signal.SIGINT)
        assert shell.process.wait(60) == 130, shell.text()
    finally:
        shell.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert not shell.workers.is_running()
    assert not shell.report.exists()
    # Every id is a hash over the incarnation, so a new one makes new ids of the same log offsets.
    again = shell.call("tail", "control.run", "--json", "-n", "1")
    assert json.loads(again.stdout)["record"]["incarnation"] != first["incarnation"]
