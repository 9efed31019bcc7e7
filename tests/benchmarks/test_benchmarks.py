"""Each benchmark runs and says what it must; no figure is asserted, for they depend on the machine."""

import json
import math

import pytest

from benchmarks import __main__ as bench
from benchmarks.measure import TINY, Figure, machine

CPU_BOUND = ["book", "codec", "normalize", "derive", "sign"]


@pytest.mark.parametrize("name", CPU_BOUND)
def test_a_benchmark_of_the_processor_runs(name):
    figures = bench.measure(name, TINY)
    assert figures
    for figure in figures:
        assert figure.value > 0
        assert math.isfinite(figure.value)


@pytest.mark.mock
def test_frames_pass_from_a_socket_to_a_topic(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", "127.0.0.1:1")  # nothing answers: the mock cluster alone
    figures = bench.measure("frames", TINY)
    assert {figure.name for figure in figures} >= {"socket to topic, mock cluster", "memory to topic, mock cluster"}
    assert all(figure.value > 0 for figure in figures)


def test_the_report_names_the_machine_the_command_and_every_figure(tmp_path, capsys):
    report = tmp_path / "bench.json"
    assert bench.main(["book", "--effort", "tiny", "--report", str(report)]) == 0
    written = json.loads(report.read_text())
    printed = capsys.readouterr().out
    assert written["command"] in printed.replace("\n", "")
    assert written["machine"]["python"] in printed
    for figure in written["book"]:
        assert figure["name"] in printed


def test_an_unknown_name_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["nothing"])
    assert caught.value.code == 2
    assert "codec" in capsys.readouterr().err


def test_a_ratio_above_one_is_better_for_times_and_for_rates():
    assert Figure("time", 2.0, "us", peer="p", peer_value=6.0).ratio == 3.0
    assert Figure("rate", 6.0, "/s", peer="p", peer_value=2.0).ratio == 3.0
    assert Figure("alone", 6.0, "/s").ratio is None


def test_an_aim_is_an_upper_bound_for_times_and_a_lower_one_for_rates():
    assert Figure("time", 2.0, "us", aim=3.0).meets_aim
    assert not Figure("rate", 2.0, "/s", aim=3.0).meets_aim
    assert Figure("time", 2.0, "us").meets_aim is None


def test_the_machine_is_described_without_its_name():
    facts = machine()
    assert facts["cores"]
    assert set(facts) == {"cpu", "cores", "load_1min", "memory_gib", "system", "python", "packages"}


@pytest.mark.parametrize(("arguments", "effort"), [([], "full"), (["--quick"], "quick")])
def test_all_effort_is_spent_unless_told_otherwise(tmp_path, monkeypatch, arguments, effort):
    monkeypatch.setitem(bench.EFFORTS, effort, TINY)
    report = tmp_path / "bench.json"
    assert bench.main(["sign", *arguments, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["effort"] == effort
