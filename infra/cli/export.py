"""`crossbook export --month 2026-11`: the month's books as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.domain.errors import Misconfigured
from infra.cli.options import Run

console = Console()


def register(app: typer.Typer) -> None:
    """Add the command to `crossbook`."""
    app.command("export")(export)


def export(
    month: Annotated[str, typer.Option("--month", "-m", help="Such as 2026-11, in UTC.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", file_okay=False, help="Folder. Default: build/export/<run>-<month>.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    run: Run = "",
) -> None:
    """Write a month's tickets, orders, fills, fees, lots, settlements and entries, with a manifest."""
    from infra.cli.desk import open_desk
    from infra.cli.reach import Reach
    from infra.stack.settings import PROJECT
    from observe import months
    from observe.jobs import run_job

    if form not in {"csv", "parquet"}:
        raise Misconfigured(f"--format {form!r}: use csv or parquet")
    months.month_of(month)
    desk = open_desk(Reach.load(run))
    folder = out or PROJECT / "build" / "export" / f"{desk.run}-{month}"
    job = months.Export(desk.database, desk.incarnation, desk.run, month, folder, "csv" if form == "csv" else "parquet")
    run_job(desk.database, job.clock, desk.run, job, raises=True)
    for name, count in job.written.items():
        console.print(f"{count:>8,}  {folder / name}.{form}", highlight=False, soft_wrap=True)
    if not job.complete:
        console.print(f"{month} is not over: what is still to come is not in these files")
