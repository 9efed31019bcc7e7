"""How a worker process starts and ends, seen from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from core.domain.errors import Misconfigured, Unavailable
from core.runtime.clock import SystemClock
from core.runtime.worker import wait_for
from infra.stack.settings import PROJECT


def start(tmp_path, **values):
    env = {**os.environ, **{f"CROSSBOOK_{name.upper()}": str(value) for name, value in values.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", "derive"],
        cwd=tmp_path,
        env={**env, "PYTHONPATH": str(PROJECT), "CROSSBOOK_START_WAIT_S": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process) -> list[str]:
    _, error = process.communicate(timeout=60)
    return [line for line in error.splitlines() if line.startswith("crossbook:")]


@pytest.fixture
def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_kafka_that_does_not_answer_is_one_line_and_exit_code_2(tmp_path, closed_port):
    process = start(tmp_path, bootstrap=f"127.0.0.1:{closed_port}", run="test-nowhere")
    (line,) = said(process)
    assert process.returncode == 2
    assert "must not start: Kafka does not answer" in line


def test_a_setting_that_is_not_allowed_is_one_line_and_exit_code_2(tmp_path):
    process = start(tmp_path, run="production!")
    (line,) = said(process)
    assert process.returncode == 2
    assert "CROSSBOOK_RUN" in line


@pytest.mark.broker
def test_a_run_without_topics_is_named_with_the_remedy(tmp_path, stack):
    process = start(
        tmp_path,
        bootstrap=stack.bootstrap,
        registry_url=stack.registry_url,
        run="test-never-made",
    )
    (line,) = said(process)
    assert process.returncode == 2
    assert "test-never-made.control.run does not exist: run `make dev-stack`" in line


@pytest.mark.broker
def test_a_registry_that_does_not_answer_is_one_line_and_exit_code_2(tmp_path, broker_cluster, closed_port):
    url = f"http://127.0.0.1:{closed_port}/apis/ccompat/v7"
    process = start(tmp_path, bootstrap=broker_cluster.bootstrap, registry_url=url, run=broker_cluster.run)
    (line,) = said(process)
    assert process.returncode == 2
    assert "schema registry" in line
    assert "does not answer" in line


@pytest.mark.broker
def test_sigterm_ends_a_worker_with_0_and_health_and_metrics_answer_before(tmp_path, broker_cluster):
    process = start(
        tmp_path,
        bootstrap=broker_cluster.bootstrap,
        registry_url=broker_cluster.registry_url,
        run=broker_cluster.run,
        worker_dir=tmp_path / "workers",
    )
    deadline = time.monotonic() + 30
    while not (notes := list((tmp_path / "workers").glob("*.json"))):
        assert process.poll() is None, said(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    port = json.loads(notes[0].read_text())["metrics_port"]
    health = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read())
    assert health["ok"] is True
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert "worker_commit_age_seconds" in metrics
    process.send_signal(signal.SIGTERM)
    assert said(process) == []
    assert process.returncode == 0
    assert list((tmp_path / "workers").glob("*.json")) == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)


def test_waiting_ends_when_the_server_answers():
    answers = iter([Unavailable("not yet"), Unavailable("not yet"), "here"])

    def ask(left_s):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for(ask, SystemClock(), 10.0) == "here"


def test_waiting_has_a_bound():
    def ask(left_s):
        raise Unavailable("nobody there")

    with pytest.raises(Misconfigured, match=r"nobody there \(waited 0\.5 s\)"):
        wait_for(ask, SystemClock(), 0.5)
