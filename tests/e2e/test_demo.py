"""The whole flow on real servers, as a user runs it: nothing lost, nothing doubled, accounts equal, replays the same.

One demo, with workers of every stage behind the sockets killed (-9), those that decide and send also frozen, and normalize
scaled while it trades; then replays; then the kill switch while the broker is dead.
"""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks.path import HOPS, measured
from infra.chaos.plan import MONEY
from infra.demo.cast import ACCOUNT
from infra.demo.options import Options
from infra.demo.world import World
from infra.stack.processes import Processes
from infra.stack.settings import PROJECT
from simulate.replay import replay, verify
from tests.e2e.running import environment_of, reach_of

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(420)]

RUN = "demo-e2e"
KILLED = ("normalize", "derive", "observe")
"""By the test; who decides and sends is struck by the demo itself: each is killed and frozen once."""
STRIKES = 2 * len(MONEY)
KILL_EVERY_S = 2.5
QUIET_S = 2.0
"""How long no order may come after the kill switch, with the broker dead, and once more when it is back."""
STRATEGIES = {"two-venue", "one-event", "momentum", "quoting"}
REST_S = 30.0
WAIT_S = 180.0


class Shell:
    """`crossbook demo` in a process of its own, on the test's own stack."""

    def __init__(self, stack, folder, *arguments):
        self.report = folder / "demo.json"
        self.output = folder / "demo.log"
        self.workers = Processes(stack.settings.data, RUN)
        # What halts this run's gateways stays in its own folder.
        self.environment = {**environment_of(stack), "CROSSBOOK_HALT_DIR": str(folder / "halt")}
        self.world = World(Options(folder=stack.settings.data / "simulate" / RUN), self.workers)
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                self.command(
                    "demo", "--markets", "20", "--rate", "200", "--edges", "4", "--warmup", "6",
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
    shell = Shell(stack, tmp_path_factory.mktemp("demo"), "--seconds", "40", "--kills", str(STRIKES))
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


def test_who_decides_and_sends_was_killed_and_frozen_and_no_money_went_astray(demo):
    _, report, text = demo
    assert report["kills"] == STRIKES, text
    labels = {"strategies": 1, "accounts": 1, "execute": 2}
    assert report["detail"]["kills"] == {
        f"{kind} {stage}": count for kind in ("kill", "freeze") for stage, count in labels.items()
    }
    wrong = ("reservations_leaked", "orders_doubled", "budgets_exceeded", "stops")
    assert {name: report[name] for name in wrong} == dict.fromkeys(wrong, 0), text


def test_the_report_tells_what_each_strategy_sent(demo):
    _, report, text = demo
    told = report["orders_by_strategy"]
    assert set(told) == STRATEGIES, text
    assert report["idle_strategies"] == sorted(name for name in STRATEGIES if not told[name]["sent"])
    for what in ("sent", "filled"):
        assert sum(counts[what] for counts in told.values()) == sum(
            counts[what] for counts in report["orders"].values()
        ), text


def test_frames_came_and_orders_were_filled_on_both_venues(demo):
    _, report, text = demo
    for venue in ("kalshi", "polymarket"):
        assert report["detail"]["frames"][venue]["sent"] > 1000, text
        assert report["orders"].get(venue, {}).get("filled"), (report["detail"]["refused"], text)
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


class Switch(Shell):
    """A demo whose broker dies while quotes rest at a venue."""

    def resting(self):
        """Return the open orders of our account, by venue, as the venues' own books have them."""
        return {
            venue: [order for state in states if state["account"] == ACCOUNT for order in state["open_orders"]]
            for venue, states in self.world.accounts().items()
        }

    def accepted(self):
        """Return how many orders of ours each venue has taken so far."""
        return {
            venue: sum(fact["accepted"] for fact in accounts.get(ACCOUNT, {}).values())
            for venue, accounts in self.world.orders().items()
        }

    def quotes_rest(self):
        """Return when orders rest at the venue."""
        self.world.facts = json.loads(self.world.ready_file.read_text())
        deadline = time.monotonic() + REST_S
        while not any(self.resting().values()):
            assert time.monotonic() < deadline, f"no order rests: {self.text()}"
            time.sleep(0.1)

    def freeze(self, name, number):
        (pid,) = self.workers.list()[name]
        self.workers.signal(name, pid, number)

    def assert_nothing_comes(self):
        """Look for a while: no order is open, and the venues took none after the first look."""
        taken, until = self.accepted(), time.monotonic() + QUIET_S
        while time.monotonic() < until:
            assert self.resting() == {"kalshi": [], "polymarket": []}
            time.sleep(0.2)
        assert self.accepted() == taken


def test_halt_direct_leaves_no_open_order_while_the_broker_is_dead(demo, stack, tmp_path):
    """Then a second demo has used no id again, and Ctrl-C ends every process.

    The gateway whose quotes rest is frozen meanwhile, as one that hangs: else it may take them back itself, as it does
    when Kafka acknowledges nothing.
    """
    _, first, _ = demo
    shell = Switch(stack, tmp_path, "--seconds", "120")
    try:
        shell.until("running")
        # Every id is a hash over the incarnation, so a new one makes new ids of the same log offsets.
        again = shell.call("tail", "control.run", "--json", "-n", "1")
        assert json.loads(again.stdout)["record"]["incarnation"] != first["incarnation"]
        shell.quotes_rest()
        shell.freeze("execute-kalshi", signal.SIGSTOP)
        assert shell.resting()["kalshi"], shell.text()
        (broker,) = stack.brokers
        stack.kill(broker)
        try:
            halted = shell.call("halt", "--direct", "--by", "test", "--why", "the broker is dead")
            assert halted.returncode == 0, halted.stdout + halted.stderr
            for venue in ("kalshi", "polymarket"):
                assert f"{venue}:{ACCOUNT}: the venue lists no open order" in halted.stdout
            shell.freeze("execute-kalshi", signal.SIGCONT)
            shell.assert_nothing_comes()
        finally:
            stack.start(broker)
        shell.assert_nothing_comes()
        pids = shell.pids()
        assert len(pids) > 10
        shell.process.send_signal(signal.SIGINT)
        assert shell.process.wait(60) == 130, shell.text()
    finally:
        shell.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert not shell.workers.is_running()
    assert not shell.report.exists()
