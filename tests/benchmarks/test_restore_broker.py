"""Takeovers are measured on a real broker, with and without a checkpoint, in one run."""

import pytest

from benchmarks import __main__ as bench
from benchmarks.measure import TINY


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_takeovers_are_measured_with_and_without_a_checkpoint(stack, monkeypatch):
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", stack.bootstrap)
    monkeypatch.setenv("CROSSBOOK_REGISTRY_URL", stack.registry_url)
    figures = {figure.name: figure for figure in bench.measure("restore", TINY)}
    assert figures["takeover after a handover"].peer_value
    assert len(figures) == 6
    assert all(figure.value > 0 for figure in figures.values())
