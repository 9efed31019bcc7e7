"""`python -m benchmarks [NAME…] [--quick]`: measure, print a table, write `build/bench.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import FULL, QUICK, TINY, Effort, Figure, machine
from core.domain.errors import CrossbookError

NAMES = ("frames", "book", "codec", "normalize", "derive", "sign", "legs", "gateway", "path", "reshard", "restore")
EFFORTS = {"full": FULL, "quick": QUICK, "tiny": TINY}
WIDTH = 150
"""Columns where there is no terminal."""
REPORT = Path(__file__).resolve().parents[1] / "build" / "bench.json"


def measure(name: str, effort: Effort) -> list[Figure]:
    """Run one benchmark."""
    figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").run(effort)
    return figures


def table_of(name: str, figures: list[Figure]) -> Table:
    """Return the figures of one benchmark beside their aims and peers."""
    table = Table(title=name, title_justify="left", title_style="bold")
    for column in ("what", "figure", "aim", "peer", "its figure", "ratio", "note"):
        table.add_column(column, justify="right" if column in ("figure", "aim", "its figure", "ratio") else "left")
    for one in figures:
        met = {True: "green", False: "yellow", None: "white"}[one.meets_aim]
        table.add_row(
            one.name,
            f"[{met}]{_number(one.value, one.unit)}[/]",
            "" if one.aim is None else ("≥ " if one.unit == "/s" else "≤ ") + _number(one.aim, one.unit),
            one.peer,
            "" if one.peer_value is None else _number(one.peer_value, one.unit),
            "" if one.ratio is None else f"{one.ratio:.1f} x",
            one.note,
        )
    return table


def main(arguments: list[str]) -> int:
    """Measure what is named, all if nothing is; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, with machine and peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; none: all")
    parser.add_argument(
        "--quick", dest="effort", action="store_const", const="quick", default="full", help="fewer repeats"
    )
    parser.add_argument("--effort", choices=EFFORTS, default="full", help="how much is measured (default: full)")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the figures are written as JSON")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    facts = machine()
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    packages = facts["packages"]
    assert isinstance(packages, dict)
    console.print(f"[bold]$ {command}[/]")
    console.print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_1min']}, {facts['memory_gib']} GiB")
    console.print(f"{facts['system']}, {facts['python']}, " + ", ".join(f"{k} {v}" for k, v in packages.items()))
    report: dict[str, object] = {"command": command, "effort": chosen.effort, "machine": facts}
    failed = 0
    for name in chosen.names or NAMES:
        try:
            with console.status(f"measuring {name}"):
                figures = measure(name, EFFORTS[chosen.effort])
        except CrossbookError as e:
            failed += 1
            report[name] = {"not_measured": str(e)}
            console.print(f"[yellow]{name}: not measured: {e}[/]")
            continue
        report[name] = [figure.facts() for figure in figures]
        console.print(table_of(name, figures))
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _number(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f} /s"
    return f"{value:,.2f} {'µs' if unit == 'us' else unit}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
