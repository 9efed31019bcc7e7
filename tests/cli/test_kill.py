"""`crossbook halt --direct` as a process of its own, with no Kafka anywhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.kill import reached

PROJECT = Path(__file__).resolve().parents[2]


def test_halt_says_what_it_needs():
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "halt", "--lift"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--direct" in done.stderr


def test_venues_of_a_demo_are_found_by_what_they_left(tmp_path, monkeypatch):
    folder = tmp_path / "simulate" / "demo-x"
    folder.mkdir(parents=True)
    (folder / "ready.json").write_text(
        json.dumps(
            {
                "kalshi": {"rest_url": "http://127.0.0.1:41001/trade-api/v2"},
                "polymarket": {"clob_url": "http://127.0.0.1:41002"},
            }
        )
    )
    monkeypatch.setenv("CROSSBOOK_STACK_DATA", str(tmp_path))
    overrides, chosen = reached(["kalshi:main"], "demo-x")
    assert overrides["kalshi_simulated"] == "127.0.0.1:41001"
    assert overrides["polymarket_simulated"] == "127.0.0.1:41002"
    assert overrides["sim_credentials_file"] == folder / "credentials.json"
    assert chosen == ["kalshi:main"]


def test_halt_is_left_where_workers_look_from_wherever_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides, _ = reached(["kalshi:main"], "demo-x")
    assert overrides["halt_dir"] == PROJECT / "build" / "halt"
    monkeypatch.setenv("CROSSBOOK_HALT_DIR", str(tmp_path / "there"))
    assert reached(["kalshi:main"], "demo-x")[0]["halt_dir"] == tmp_path / "there"


def test_what_is_set_wins_over_what_a_demo_left(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBOOK_KALSHI_SIMULATED", "127.0.0.1:5")
    overrides, _ = reached(["kalshi:main"], "demo-x")
    assert "kalshi_simulated" not in overrides


def test_no_key_anywhere_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBOOK_SIM_CREDENTIALS_FILE", str(tmp_path / "none.json"))
    with pytest.raises(Exception, match="no account has keys"):
        reached(None, "demo-x")
