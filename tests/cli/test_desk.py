"""`crossbook tickets`, `pnl` and `export` over a real PostgreSQL."""

import csv
import json

import pytest

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from infra.cli import EXIT_REFUSED, export, pnl, tickets
from infra.cli.app import run
from observe.months import month_of
from schemas import decision
from tests.observe.conftest import database, postgres_stack  # noqa: F401 - fixtures
from tests.observe.desk_records import (
    T0,
    S,
    Writer,
    entry,
    fill,
    grant,
    instrument,
    intent,
    report,
    saga,
    settled,
    update,
)

pytestmark = pytest.mark.broker


@pytest.fixture
def writer(database, monkeypatch):  # noqa: F811
    made = Writer(database)
    made.write(
        *(instrument(), intent(1), intent(2, strategy="momentum"), grant(1, 1), grant(2, 2)),
        *(saga(1, "DONE"), saga(2, "REFUSED", 11, strategy="momentum", reason="LINK_SUSPENDED", filled_e6=[0])),
        *(report(10 * MICRO), update(1), fill(1, size=2 * MICRO), fill(2, 2, token_side="SELL", price=450_000)),
        report(10 * MICRO - 800_000 + 450_000 - 10_000, [("kalshi:M", "YES", MICRO)], at=T0 + S),
    )
    monkeypatch.setenv("CROSSBOOK_POSTGRES_URL", database._url)
    # Nobody listens there: what is open has no price, and that is said.
    monkeypatch.setenv("CROSSBOOK_QUESTDB_HTTP", "127.0.0.1:9")
    # Narrower terminals break the words of a cell.
    for module in (export, pnl, tickets):
        monkeypatch.setattr(module.console, "width", 250)
    return made


def told(capsys, *arguments, code=0):
    assert run(list(arguments)) == code
    return capsys.readouterr()


def test_tickets_are_listed_by_what_became_of_them(writer, capsys):
    found = json.loads(told(capsys, "tickets", "--json").out)
    assert [(t["id"], t["strategy"], t["state"], t["reason"]) for t in found] == [
        ("ticket1", "arb", "DONE", ""), ("ticket2", "momentum", "REFUSED", "LINK_SUSPENDED"),
    ]  # fmt: skip
    found = json.loads(told(capsys, "tickets", "--state", "refused", "--json").out)
    assert [t["id"] for t in found] == ["ticket2"]
    assert json.loads(told(capsys, "tickets", "--strategy", "nobody", "--json").out) == []
    assert "REFUSED (LINK_SUSPENDED)" in told(capsys, "tickets").out


def test_one_ticket_is_shown_whole(writer, capsys):
    whole = json.loads(told(capsys, "tickets", "show", "ticket1", "--json").out)
    assert [leg["instrument"] for leg in whole["legs"]] == ["kalshi:M"]
    assert [(o["status"], o["venue_order"]) for o in whole["orders"]] == [("FILLED", "v1")]
    assert [(f["fill"], f["settlement"]) for f in whole["fills"]] == [("fill1", "CONFIRMED")]
    assert "fill1" in told(capsys, "tickets", "show", "ticket1").out
    assert "more than one ticket of run demo begins with 'ticket'" in told(
        capsys, "tickets", "show", "ticket", code=EXIT_REFUSED
    ).err  # fmt: skip


def test_profit_and_loss_is_told_by_each_part_and_equals_the_venue(writer, capsys):
    out = told(capsys, "pnl", "--check", "--json")
    facts = json.loads(out.out)
    (account,) = facts["accounts"]
    assert (account["account"], account["matches"], account["differences"]) == ("kalshi:a", True, [])
    assert account["our_cash_e6"] == account["venue_cash_e6"] == 10 * MICRO - 360_000
    assert (account["realised_e6"], account["fees_e6"], account["open_cost_e6"]) == (50_000, 10_000, 400_000)
    by = {row["strategy"]: (row["realised_e6"], row["open_cost_e6"], row["unmarked"]) for row in facts["by_strategy"]}
    assert by == {"arb": (0, 800_000, 1), "momentum": (0, -450_000, 1)}
    assert "what is open is not marked" in out.err
    (row,) = json.loads(told(capsys, "pnl", "--by", "event", "--json").out)["by_event"]
    assert (row["event"], row["fills"], row["fees_e6"]) == ("kalshi:E", 2, 10_000)
    assert "equal" in told(capsys, "pnl", "--by", "day").out


def test_an_account_that_differs_is_named_and_fails_the_check(writer, capsys):
    writer.write(report(10 * MICRO, [("kalshi:M", "YES", MICRO)], at=T0 + 2 * S))
    out = told(capsys, "pnl", "--check", code=1).out
    assert "DIFFERS" in out
    assert f"kalshi:a cash: ours {10 * MICRO - 360_000}, the venue's {10 * MICRO}" in out


def test_mark_outs_are_added_up_by_strategy_and_horizon(writer, capsys):
    with writer.database.transaction() as connection:
        connection.execute(
            "INSERT INTO mark_out (incarnation, account, fill, horizon_ms, state, gain_e6) VALUES "
            "(77, 'kalshi:a', 'fill1', 1000, 'LIVE', 30), (77, 'kalshi:a', 'fill1', 10000, 'STALE', NULL)"
        )
    found = json.loads(told(capsys, "pnl", "--mark-outs", "--json").out)["mark_outs"]
    assert [(m["strategy"], m["seconds"], m["fills"], m["without_price"], m["gain_e6"]) for m in found] == [
        ("arb", 1, 1, 0, 30), ("arb", 10, 0, 1, 0),
    ]  # fmt: skip


def test_what_determined_markets_are_to_pay_is_shown_by_strategy_and_moves_no_account(writer, capsys):
    expected = decision.Entry(
        id="p1", account="kalshi:a", kind="SETTLEMENT", instrument="kalshi:M", outcome="YES", phase="PROVISIONAL",
        payout_e6=MICRO, held=MICRO, expected_e6=MICRO, now_ns=T0 + S, log_partition=0, log_offset=1,
    )  # fmt: skip
    writer.write(expected)
    facts = json.loads(told(capsys, "pnl", "--check", "--json").out)
    made = {
        row["strategy"]: (row["provisional_e6"], row["unrealised_e6"], row["unmarked"]) for row in facts["by_strategy"]
    }
    # Two were bought at 0.40 by the one, and one was sold at 0.45 by the other: one YES is to pay a dollar.
    assert made == {"arb": (1_200_000, 1_200_000, 0), "momentum": (-550_000, -550_000, 0)}
    assert all(line["matches"] for line in facts["accounts"])
    assert "provisional" in told(capsys, "pnl", "--by", "instrument").out


def test_a_run_made_again_begins_empty(writer, capsys):
    Writer(writer.database, 78)
    assert json.loads(told(capsys, "tickets", "--json").out) == []
    assert "holds nothing of run paper" in told(capsys, "tickets", "--run", "paper", code=EXIT_REFUSED).err


# The month's books


def sheet(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_month_is_exported_to_the_last_unit_and_again_byte_for_byte(writer, capsys, tmp_path):
    writer.write(settled(1), entry(1, size=-MICRO, cash=MICRO, at=T0 + S), entry(2, "REBATE", "", cash=77))
    out = told(capsys, "export", "--month", "2026-11", "--out", str(tmp_path / "a")).out
    told(capsys, "export", "--month", "2026-11", "--out", str(tmp_path / "b"))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        *("entries.csv", "fees.csv", "fills.csv", "lots.csv", "manifest.json", "manual_tickets.csv", "orders.csv"),
        *("payouts.csv", "settlements.csv", "tickets.csv"),
    ]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert "fills.csv" in out
    fills = sheet(tmp_path / "a", "fills")
    assert [(f["fill"], f["strategy"], f["size"], f["price"], f["fee"]) for f in fills] == [
        ("fill1", "arb", "2", "0.4", "0.005"), ("fill2", "momentum", "1", "0.45", "0.005"),
    ]  # fmt: skip
    assert [(o["order"], o["limit"], o["size"], o["status"], o["filled"]) for o in sheet(tmp_path / "a", "orders")] == [
        ("order1", "0.4", "2", "FILLED", "2"), ("order2", "0.4", "2", "", "1"),
    ]  # fmt: skip
    assert [(lot["close_fill"], lot["realised"]) for lot in sheet(tmp_path / "a", "lots")] == [
        ("fill2", "0.05"), ("entry1", "0.6"),
    ]  # fmt: skip
    assert [(e["kind"], e["cash"]) for e in sheet(tmp_path / "a", "entries")] == [
        ("REBATE", "0.000077"),
        ("SETTLEMENT", "1"),
    ]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert (manifest["run"], manifest["files"]["fills.csv"]["rows"]) == ("demo", 2)
    assert (
        writer.database.rows("SELECT job, outcome, detail FROM job_run") == [("export", "DONE", "2026-11 as csv")] * 2
    )


def test_parquet_holds_the_same_as_exact_decimals(writer, capsys, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install crossbook[archive]")
    told(capsys, "export", "--month", "2026-11", "--out", str(tmp_path), "--format", "parquet")
    fills = parquet.read_table(tmp_path / "fills.parquet").to_pylist()
    assert [(f["fill"], str(f["price"]), str(f["size"]), f["failed"]) for f in fills] == [
        ("fill1", "0.400000", "2.000000", False), ("fill2", "0.450000", "1.000000", False),
    ]  # fmt: skip
    assert parquet.read_table(tmp_path / "lots.parquet").num_rows == 2


def test_another_month_has_what_was_open_and_no_more(writer, capsys, tmp_path):
    told(capsys, "export", "--month", "2026-12", "--out", str(tmp_path))
    assert sheet(tmp_path, "fills") == []
    assert [(lot["closed_at"], lot["open_cash"]) for lot in sheet(tmp_path, "lots")] == [("", "-0.4")]
    assert sheet_of_october(capsys, tmp_path / "before") == []


def sheet_of_october(capsys, folder):
    told(capsys, "export", "--month", "2026-10", "--out", str(folder))
    return sheet(folder, "lots")


def test_a_word_that_is_no_month_is_refused():
    assert [at.isoformat()[:10] for at in month_of("2026-12")] == ["2026-12-01", "2027-01-01"]
    for text in ("2026", "2026-13", "november"):
        with pytest.raises(Misconfigured, match="expected a month such as"):
            month_of(text)


def test_a_name_that_would_be_a_formula_is_text(writer, capsys, tmp_path):
    writer.write(intent(3, strategy="=1+1"))
    told(capsys, "export", "--month", "2026-11", "--out", str(tmp_path))
    assert "'=1+1" in [ticket["strategy"] for ticket in sheet(tmp_path, "tickets")]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--account", "kalshi:a", "--instrument", "polymarket:M", "--size", "1", "--price", "0.4"],
            "of one known venue",
        ),
        (["--account", "kalshi:a", "--instrument", "kalshi:M", "--size", "0", "--price", "0.4"], "a size above 0"),
        (["--account", "kalshi:a", "--instrument", "kalshi:M", "--size", "1", "--price", "1e-1"], "plain decimal"),
    ],
    ids=["venue", "size", "price"],
)
def test_a_trade_by_hand_that_cannot_be_is_refused(arguments, reason, capsys):
    assert reason in told(
        capsys, "tickets", "add", *arguments, "--side", "BUY", "--why", "by hand", code=EXIT_REFUSED
    ).err  # fmt: skip
