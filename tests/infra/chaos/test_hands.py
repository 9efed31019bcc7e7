"""Acts on real processes: killed is dead, frozen stands still and runs again, also when all is broken off."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from core.domain.errors import Unavailable
from infra.chaos import hands as module
from infra.chaos.hands import Hands
from infra.chaos.plan import Act


class Group:
    """Processes by watcher, as the process manager lists them."""

    def __init__(self, **pids):
        self.pids = pids

    def list(self):
        return self.pids


class Venues:
    def __init__(self, refusals=0):
        self.refusals = refusals
        self.bodies = []

    def fault(self, body):
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("HTTP 409")
        self.bodies.append(body)
        return {"connection": 3}


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.fixture
def make():
    made = []

    def build(group, venues=None):
        made.append(Hands(group, Group(), venues or Venues()))
        return made[-1]

    yield build
    for hands in made:
        hands.close()


def is_stopped(process):
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def until(holds):
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_kill_is_minus_nine(make, sleeper):
    hands = make(Group(derive=[sleeper.pid]))
    done = hands.begin(Act(0, "kill", "derive"))
    assert sleeper.wait(5) == -signal.SIGKILL
    hands.wait()
    assert (done.pid, done.problem) == (sleeper.pid, "")


def test_a_frozen_process_runs_again_after_its_time(make, sleeper):
    hands = make(Group(derive=[sleeper.pid]))
    done = hands.begin(Act(0, "freeze", "derive", seconds=0.5))
    until(lambda: is_stopped(sleeper))
    hands.wait()
    until(lambda: not is_stopped(sleeper))
    assert 0.5e9 <= done.until_ns - done.ts_ns < 5e9


def test_breaking_off_thaws_what_is_frozen(make, sleeper):
    hands = make(Group(derive=[sleeper.pid]))
    hands.begin(Act(0, "freeze", "derive", seconds=60))
    until(lambda: is_stopped(sleeper))
    began = time.monotonic()
    hands.close()
    assert time.monotonic() - began < 5
    until(lambda: not is_stopped(sleeper))


def test_the_draw_chooses_among_like_processes(make, sleeper):
    hands = make(Group(derive=[1, sleeper.pid]))
    assert sleeper.pid > 1
    done = hands.begin(Act(0, "kill", "derive", draw=0.99))
    hands.wait()
    assert done.pid == sleeper.pid


def test_a_target_without_a_process_is_a_problem_and_not_a_kill(make):
    hands = make(Group())
    done = hands.begin(Act(0, "kill", "derive"))
    hands.wait()
    assert done.problem == "derive has no process"


def test_a_fault_goes_to_its_venue_with_its_parameters(make):
    venues = Venues()
    hands = make(Group(), venues)
    done = hands.begin(Act(0, "fault", "kalshi", "gap", 2.5, parameters=(("count", 3),)))
    hands.wait()
    assert venues.bodies == [{"venue": "kalshi", "fault": "gap", "count": 3, "seconds": 2.5}]
    assert done.answer == {"connection": 3}
    assert done.until_ns - done.ts_ns == 2_500_000_000


def test_a_fault_that_finds_nothing_to_act_on_is_tried_again_and_then_told(make, monkeypatch):
    monkeypatch.setattr(module, "FIND_PAUSE_S", 0.01)
    hands = make(Group(), Venues(refusals=3))
    done = hands.begin(Act(0, "fault", "kalshi", "gap"))
    hands.wait()
    assert done.problem == ""
    monkeypatch.setattr(module, "FIND_S", 0.05)
    hands = make(Group(), Venues(refusals=10_000))
    done = hands.begin(Act(0, "fault", "kalshi", "gap"))
    hands.wait()
    assert "409" in done.problem
