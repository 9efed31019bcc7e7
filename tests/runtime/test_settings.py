"""Settings and the run rule."""

import pytest

from core.domain.errors import Misconfigured
from core.runtime.settings import WorkerSettings, load


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("RUN", "READ_RUN", "WRITE_RUN", "ARM", "REPLAY"):
        monkeypatch.delenv(f"CROSSBOOK_{name}", raising=False)


def test_a_worker_reads_and_writes_its_run():
    settings = load(WorkerSettings, run="demo")
    assert (settings.reads, settings.writes) == ("demo", "demo")


def test_paper_reads_live_and_writes_paper():
    settings = load(WorkerSettings, run="paper", read_run="live")
    assert (settings.reads, settings.writes) == ("live", "paper")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"run": "Live!"}, "is not a run", id="a name that is no run"),
        pytest.param({"run": "demo", "write_run": "live"}, "only the run live", id="demo writing live"),
        pytest.param({"run": "demo", "arm": "kalshi:main"}, "only live trades", id="arming a demo"),
        pytest.param({"run": "demo", "replay": True}, "replay-<id>", id="a replay into its source"),
        pytest.param({"run": "demo", "write_run": "paper", "replay": True}, "replay-<id>", id="a replay into paper"),
        pytest.param({"run": "live", "write_run": "live", "replay": True}, "replay-<id>", id="a replay into live"),
        pytest.param({"partitions": 0}, "greater than or equal to 1", id="no partitions"),
    ],
)
def test_what_must_not_start_is_refused_with_a_reason(values, says):
    with pytest.raises(Misconfigured, match=says):
        load(WorkerSettings, **values)


def test_the_environment_is_read_with_its_prefix(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_RUN", "test-env")
    assert load(WorkerSettings).writes == "test-env"


def test_a_refusal_names_the_variable_and_never_its_value(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_PARTITIONS", "secret-ish")
    with pytest.raises(Misconfigured, match="CROSSBOOK_PARTITIONS") as caught:
        load(WorkerSettings)
    assert "secret-ish" not in str(caught.value)
