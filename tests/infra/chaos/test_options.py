"""What can be set about chaos reaches it from the command line, and the workers from it."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

from infra.chaos import stage
from infra.chaos.options import ChaosOptions
from infra.cli.app import app
from infra.cli.reach import Reach


@pytest.mark.parametrize(("words", "every"), [((), 1), (("--hash-every", "4"), 4)])
def test_how_many_hashes_are_looked_at_can_be_said(words, every, monkeypatch):
    given = []
    monkeypatch.setattr(stage, "run_chaos", lambda run, options, brokers, console: given.append(options) or 0)
    assert CliRunner().invoke(app, ["chaos", "--seconds", "20", *words]).exit_code == 0
    assert [options.hash_every for options in given] == [every]


def test_the_workers_are_told_how_many_hashes_to_look_at(tmp_path, monkeypatch):
    chaos = stage.Chaos(Reach.load("test-chaos"), ChaosOptions(hash_every=4, folder=tmp_path), Console(), own=False)
    monkeypatch.setattr(
        chaos._world,
        "facts",
        {"kalshi": {"rest_url": "http://a/"}, "polymarket": {"clob_url": "b://c", "gamma_url": "d://e"}},
    )
    assert chaos._environment()["CROSSBOOK_HASH_SAMPLE"] == "4"
