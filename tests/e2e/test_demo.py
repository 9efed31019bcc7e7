"""The whole flow on real servers: nothing lost, nothing doubled, accounts equal, and a replay that says the same.

One demo, with a worker of every stage killed (-9) and normalize scaled while it trades; then two replays of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.stack.processes import Processes
from simulate.replay import replay, verify

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(420)]

PROJECT = Path(__file__).resolve().parents[2]
RUN = "demo-e2e"
KILLED = ("normalize", "derive", "strategies", "accounts", "execute-kalshi", "execute-polymarket")


def environment(stack) -> dict[str, str]:
    values = {
        f"CROSSBOOK_STACK_{name.upper()}": str(getattr(stack.settings, name)) for name in type(stack.settings).model_fields
    }
    return {**os.environ, **values, "CROSSBOOK_RUN": RUN}


def wait_for(condition, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def demo(stack, tmp_path_factory):
    """Run a demo with kills and a scaling in the middle; return (report, output)."""
    folder = tmp_path_factory.mktemp("demo")
    report, output = folder / "demo.json", folder / "output.txt"
    env = environment(stack)
    command = [sys.executable, "-m", "infra.cli", "demo", "--run", RUN, "--markets", "20", "--rate", "300"]
    command += ["--edges", "2", "--warmup", "3", "--seconds", "30", "--report", str(report)]
    with output.open("wb") as sink:
        process = subprocess.Popen(command, cwd=PROJECT, env=env, stdout=sink, stderr=subprocess.STDOUT)
        try:
            workers = Processes(stack.settings.data, RUN)
            wait_for(
                lambda: process.poll() is not None or b"warming up" in output.read_bytes(), 120, "the demo's warm-up"
            )
            assert process.poll() is None, output.read_text()
            time.sleep(6)
            for name in KILLED:
                (pid,) = workers.list()[name]
                workers.signal(name, pid, signal.SIGKILL)
                time.sleep(3)
            workers.scale("normalize", 3)
            time.sleep(3)
            workers.scale("normalize", 1)
            process.wait(240)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    text = output.read_text(errors="replace")
    assert report.exists(), text
    return json.loads(report.read_text()), text


def test_orders_are_filled_on_both_venues(demo):
    report, text = demo
    for venue in ("kalshi", "polymarket"):
        assert report["orders"][venue]["filled"] > 0, text
        assert report["orders"][venue]["open"] == 0, text


def test_no_record_is_lost_or_doubled_though_every_stage_was_killed(demo):
    report, text = demo
    assert report["lost"] == 0, text
    assert report["duplicated"] == 0, text
    assert report["topics"]["raw.frame"] > 1000


def test_our_accounts_are_the_venues_own(demo):
    report, text = demo
    assert report["accounts_match"] is True, text


def test_two_replays_say_what_the_demo_said(demo, stack):
    where = {"bootstrap": stack.bootstrap, "registry_url": stack.registry_url, "source": RUN}
    for into in ("replay-e2e-1", "replay-e2e-2"):
        replay(**where, into=into, environment={"CROSSBOOK_WORKER_DIR": ""}, say=lambda _: None)
        result = verify(**where, into=into)
        assert result.differences == []
        for noun in ("market.event", "derived.book", "decision.edge", "decision.account", "decision.order"):
            assert result.records[noun] > 0, noun


def test_verify_names_the_first_differing_record_and_its_input(demo, stack):
    where = {"bootstrap": stack.bootstrap, "registry_url": stack.registry_url, "source": RUN}
    replay(**where, into="replay-e2e-3", stages=["normalize"], environment={"CROSSBOOK_WORKER_DIR": ""}, say=lambda _: None)
    result = verify(**where, into="replay-e2e-3", stages=["normalize", "derive"])
    missing = [difference for difference in result.differences if difference.topic == "derived.book"]
    assert len(missing) == 1
    assert missing[0].replay is None
    assert missing[0].source["type"].startswith("crossbook.")
    assert "market.event" in missing[0].input
    assert not [difference for difference in result.differences if difference.topic == "market.event"]
