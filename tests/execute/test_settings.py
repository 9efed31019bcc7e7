"""The run rule: which run may reach production order endpoints and load trading keys."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.domain.errors import Misconfigured
from core.runtime.settings import load
from execute.settings import ExecuteSettings, load_credentials, resolve_endpoints


def settings(**changes):
    return load(ExecuteSettings, **({"account": "kalshi:main"} | changes))


def test_simulated_venues_are_the_default():
    resolved = resolve_endpoints(settings())
    assert (resolved.venue, resolved.name) == ("kalshi", "main")
    assert resolved.endpoints.order_rest.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("run", ["demo", "paper", "test-1", "live"])
@pytest.mark.parametrize("variable", ["kalshi_environment", "polymarket_environment"])
def test_run_that_is_not_armed_live_does_not_reach_production(run, variable):
    with pytest.raises(Misconfigured, match="CROSSBOOK_ARM=kalshi:main"):
        resolve_endpoints(settings(run=run, **{variable: "production"}))


@pytest.mark.parametrize("run", ["demo", "paper", "live"])
def test_run_that_is_not_armed_live_loads_no_trading_keys(run, tmp_path):
    with pytest.raises(Misconfigured, match="CROSSBOOK_TRADE_CREDENTIALS_FILE"):
        resolve_endpoints(settings(run=run, trade_credentials_file=tmp_path / "keys.json"))


def test_live_armed_for_another_account_is_not_armed():
    with pytest.raises(Misconfigured, match="not armed for kalshi:main"):
        resolve_endpoints(settings(run="live", arm="kalshi:second", kalshi_environment="production"))


def test_arming_another_run_than_live_is_refused():
    with pytest.raises(Misconfigured, match="CROSSBOOK_ARM"):
        settings(run="demo", arm="kalshi:main")


def test_armed_live_run_reaches_production_with_trading_keys(tmp_path):
    resolved = resolve_endpoints(
        settings(
            run="live",
            arm="kalshi:main",
            kalshi_environment="production",
            trade_credentials_file=tmp_path / "keys.json",
        )
    )
    assert resolved.endpoints.order_rest == "https://external-api.kalshi.com"
    assert resolved.credentials_file == tmp_path / "keys.json"


def test_armed_live_run_without_keys_says_which_setting_is_missing():
    with pytest.raises(Misconfigured, match="CROSSBOOK_TRADE_CREDENTIALS_FILE is not set"):
        resolve_endpoints(settings(run="live", arm="kalshi:main", kalshi_environment="production"))


@pytest.mark.parametrize("account", ["", "kalshi", "kalshi:", "nowhere:main"])
def test_account_that_names_no_venue_is_refused(account):
    with pytest.raises(Misconfigured, match="--account"):
        resolve_endpoints(settings(account=account))


def test_simulated_venue_on_another_machine_is_refused():
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1"):
        resolve_endpoints(settings(kalshi_simulated="api.elections.kalshi.com:443"))


def test_unreadable_credentials_are_named_without_their_content(tmp_path):
    path = tmp_path / "keys.json"
    with pytest.raises(Misconfigured, match="No such file"):
        load_credentials(path)
    path.write_text('{"kalshi": [{"account": "main", "key_id": 5, "private_key_pem": "hidden"}]}', encoding="utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_credentials(path)
    assert "hidden" not in str(caught.value)


def test_process_exits_with_code_2_and_one_clear_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "execute", "--account", "kalshi:main"],
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "/usr/bin:/bin", "CROSSBOOK_RUN": "paper", "CROSSBOOK_KALSHI_ENVIRONMENT": "production"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "CROSSBOOK_ARM=kalshi:main" in lines[0]
