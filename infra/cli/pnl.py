"""`crossbook pnl`: what was made and by whom, and whether every account is what its venue says it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.domain.errors import Misconfigured
from infra.cli.options import Json, Run

if TYPE_CHECKING:
    from infra.cli.desk import Desk
    from observe.accounts import AccountLine
    from observe.marks import Mark
    from observe.performance import Book

EXIT_DIFFERS = 1
GROUPS = ("strategy", "account", "instrument", "event", "day")

console = Console()


def register(app: typer.Typer) -> None:
    """Add the command to `crossbook`."""
    app.command("pnl")(pnl)


def pnl(
    run: Run = "",
    by: Annotated[str, typer.Option("--by", help="strategy, account, instrument, event or day.")] = "strategy",
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if an account differs from its venue's report.")
    ] = False,
    markouts: Annotated[bool, typer.Option("--mark-outs", help="And the mark-outs of each strategy's fills.")] = False,
    json_: Json = False,
) -> None:
    """Show profit and loss, realised and open, and compare each account with its venue's own report."""
    from infra.cli.desk import open_desk
    from infra.cli.reach import Reach
    from observe.accounts import account_lines

    if by not in GROUPS:
        raise Misconfigured(f"--by {by!r}: use {', '.join(GROUPS)}")
    desk = open_desk(Reach.load(run))
    lines = account_lines(desk.database, desk.incarnation)
    rows = grouped(desk, by)
    later = mark_outs(desk) if markouts else []
    if json_:
        told = {"run": desk.run, "accounts": [_facts(line) for line in lines], f"by_{by}": rows, "mark_outs": later}
        print(
            json.dumps(
                told, indent=2, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)
            )
        )
    else:
        _show(lines, by, rows, later)
    if check and (not lines or any(line.differences for line in lines)):
        raise typer.Exit(EXIT_DIFFERS)


def grouped(desk: Desk, by: str) -> list[dict[str, Any]]:
    """Return profit and loss by one of `GROUPS`, from the fills as they stand.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    from observe.performance import fold, provisional, trades

    (now,) = desk.database.rows("SELECT now() + interval '1 day'")[0]
    book = fold(trades(desk.database, desk.incarnation, now))
    if by == "day":
        return _by_day(book)
    marks = desk.marks(instrument for (_, _, instrument), held in book.positions.items() if held.size_e6)
    return _by_part(book, by, marks, provisional(desk.database, desk.incarnation))


def mark_outs(desk: Desk) -> list[dict[str, Any]]:
    """Return, by strategy and seconds after a fill, what its fills had gained, and over how many contracts."""
    found = desk.database.rows(
        "SELECT f.strategy, m.horizon_ms / 1000, count(m.gain_e6), count(*) - count(m.gain_e6), "
        "coalesce(sum(f.size_e6) FILTER (WHERE m.gain_e6 IS NOT NULL), 0)::bigint, coalesce(sum(m.gain_e6), 0)::bigint "
        "FROM mark_out m JOIN fill_of f ON f.incarnation = m.incarnation AND f.account = m.account AND f.fill = m.fill "
        "WHERE m.incarnation = %(i)s AND NOT f.failed GROUP BY 1, 2 ORDER BY 1, 2",
        {"i": desk.incarnation},
    )
    names = ("strategy", "seconds", "fills", "without_price", "size_e6", "gain_e6")
    return [dict(zip(names, row, strict=True)) for row in found]


def _by_day(book: Book) -> list[dict[str, Any]]:
    return [
        {
            "day": day.isoformat(),
            "account": account,
            "strategy": strategy,
            "fills": made.fills,
            "volume_e6": made.volume_e6,
            "fees_e6": made.fees_e6,
            "realised_e6": made.realised_e6,
            "net_e6": made.realised_e6 - made.fees_e6,
            "open_cost_e6": made.open_cost_e6,
        }
        for (day, account, strategy), made in sorted(book.days.items())
    ]


def _by_part(book: Book, by: str, marks: dict[str, Mark], payouts: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Fold positions; `provisional_e6` is the part of what is unrealised that determined markets are to pay."""
    rows: dict[str, dict[str, Any]] = {}
    for (account, strategy, instrument), position in sorted(book.positions.items()):
        names = {"account": account, "strategy": strategy, "instrument": instrument, "event": book.events[instrument]}
        row = rows.setdefault(
            names[by],
            {
                by: names[by],
                **dict.fromkeys(
                    ("fills", "fees_e6", "realised_e6", "open_cost_e6", "unrealised_e6", "provisional_e6", "unmarked"),
                    0,
                ),
            },
        )
        row["fills"] += position.fills
        row["fees_e6"] += position.fees_e6
        row["realised_e6"] += position.realised_e6
        row["open_cost_e6"] += position.cost_e6
        if position.size_e6:
            price = payouts.get((account, instrument))
            if price is not None:
                row["provisional_e6"] += position.unrealised_e6(price)
            elif instrument in marks:
                price = marks[instrument].closing_e6(position.size_e6)
            row["unmarked"] += price is None
            row["unrealised_e6"] += 0 if price is None else position.unrealised_e6(price)
    for row in rows.values():
        row["net_e6"] = row["realised_e6"] + row["unrealised_e6"] - row["fees_e6"]
    return list(rows.values())


def _facts(line: AccountLine) -> dict[str, Any]:
    held = [
        {"instrument": name, "outcome": outcome, "size_e6": size} for (name, outcome), size in line.holdings.items()
    ]
    return {**asdict(line), "holdings": held, "matches": not line.differences, "late": line.is_late}


def _show(lines: list[AccountLine], by: str, rows: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    from infra.cli.desk import clock_time, money

    table = Table(title="accounts, beside their venues' own reports", title_justify="left", box=None, pad_edge=False)
    table.add_column("account")
    table.add_column("reported")
    for column in ("fills", "opening $", "cash $", "venue's $", "realised $", "fees $", "in positions $"):
        table.add_column(column, justify="right")
    table.add_column("")
    for line in lines:
        verdict = "equal" if not line.differences else "not yet equal" if line.is_late else "[red]DIFFERS[/]"
        amounts = (
            *(line.opening_cash_e6, line.our_cash_e6, line.venue_cash_e6, line.realised_e6, line.fees_e6),
            line.open_cost_e6,
        )
        table.add_row(line.account, clock_time(line.as_of), str(line.fills), *map(money, amounts), verdict)
    console.print(table)
    for line in lines:
        for difference in line.differences:
            console.print(f"  {line.account} {difference}", highlight=False, soft_wrap=True)
    console.print(_rows(f"profit and loss by {by}", rows) if rows else "no fills yet")
    if later:
        console.print(_rows("mark-outs: gain at the mid so long after the fill, without fees", later))


def _rows(title: str, rows: list[dict[str, Any]]) -> Table:
    from infra.cli.desk import money

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(
            name.removesuffix("_e6").replace("_", " "), justify="left" if isinstance(value, str) else "right"
        )
    for row in rows:
        table.add_row(*(money(value) if name.endswith("_e6") else escape(str(value)) for name, value in row.items()))
    return table
