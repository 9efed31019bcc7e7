"""The whole flow is measured on real servers: every order's way has all its hops, in order."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.path import HOPS, Passage, figures_of, quantile
from infra.stack.settings import PROJECT


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_path_is_measured_hop_by_hop(stack, tmp_path):
    ports = {
        f"CROSSBOOK_STACK_{name.upper()}": str(getattr(stack.settings, name))
        for name in type(stack.settings).model_fields
        if name.endswith("_port")
    }
    report = tmp_path / "bench.json"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "path", "--effort", "tiny", "--report", str(report)],
        cwd=PROJECT,
        env={**os.environ, **ports, "CROSSBOOK_STACK_DATA": str(stack.settings.data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads(report.read_text())["path"]
    assert len(figures) == 2 + len(HOPS)
    assert all(figure["value"] > 0 for figure in figures), figures
    whole = figures[0]
    assert whole["unit"] == "ms"
    assert "lost 0, duplicated 0" in whole["note"]


def test_hops_add_up_to_the_whole_way():
    passage = Passage((0, 1_000_000, 3_000_000, 6_000_000, 6_500_000, 7_000_000, 8_000_000, 9_000_000))
    assert passage.hops_ms() == [1.0, 2.0, 3.0, 0.5, 0.5, 1.0, 1.0]
    assert sum(passage.hops_ms()) == passage.total_ms == 9.0
    figures = figures_of(1_000, [passage], "")
    assert [figure.value for figure in figures] == [9.0, 9.0, *passage.hops_ms()]


def test_a_quantile_is_a_value_that_was_measured():
    values = [float(number) for number in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.99) == 100.0
    assert quantile([3.0], 0.99) == 3.0
