"""`crossbook halt --direct` and `crossbook flatten`: what works with keys alone, while Kafka and every worker are gone."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from core.domain.errors import Misconfigured
from infra.cli.options import Run

if TYPE_CHECKING:
    from execute.kill import Halted

EXIT_OPEN = 1
"""Something is open still, or it is not known that nothing is."""

console = Console()

Accounts = Annotated[
    list[str] | None,
    typer.Option("--account", "-a", help="<venue>:<name>; repeatable. Default: every account that has keys."),
]
By = Annotated[str, typer.Option("--by", help="Who does this. Default: the user of this machine.")]
Why = Annotated[str, typer.Option("--why", help="Why; kept with what was done.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `crossbook`."""
    app.command("halt")(halt_command)


def halt_command(
    direct: Annotated[
        bool, typer.Option("--direct", help="With keys alone: cancel at the venues, tell no Kafka.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="With --direct: let gateways of this machine go on.")] = False,
    accounts: Accounts = None,
    account_set: Annotated[str, typer.Option("--set", help="Without --direct: the account set.")] = "main",
    part: Annotated[
        str, typer.Option("--part", help="Without --direct, of it: strategy:<id>, venue:<name>, instrument:<id>.")
    ] = "",
    run: Run = "",
    by: By = "",
    why: Why = "by hand",
    deadline_s: Annotated[float, typer.Option("--deadline", min=1, help="Give up after so many seconds.")] = 60.0,
) -> None:
    """Stop trading. --direct: cancel every open order with keys alone, while Kafka and all workers may be gone."""
    if lift and not direct:
        raise Misconfigured("--lift goes with --direct; what was halted on Kafka is resumed by `crossbook resume`")
    if not direct:
        from infra.cli.limits import halt_set

        halt_set(run, account_set, part, by, why)
        return
    raise typer.Exit(lift_direct(accounts, run) if lift else halt_direct(accounts, run, by, why, deadline_s))


def halt_direct(
    accounts: Sequence[str] | None = None,
    run: str = "",
    by: str = "",
    why: str = "by hand",
    deadline_s: float = 60.0,
) -> int:
    """Cancel every open order with keys alone and tell the gateways of this machine to stop; return the exit code.

    0 only if each venue has listed no open order for as long as one on its way may still appear.
    """
    from core.runtime.clock import SystemClock
    from execute.direct import Said, halt_all

    overrides, chosen = reached(accounts, run)
    said = Said(by or getpass.getuser(), why)
    found = asyncio.run(halt_all(chosen, overrides, SystemClock(), said, deadline_s=deadline_s))
    for one in found:
        _show(one)
    console.print(
        "Gateways of this machine stay stopped until `crossbook halt --direct --lift`. Kafka was not told: once it is "
        "back, halt the account set there too (`crossbook halt`)."
    )
    return 0 if all(one.clean for one in found) else EXIT_OPEN


def lift_direct(accounts: Sequence[str] | None = None, run: str = "") -> int:
    """Let the gateways of this machine go on; return the exit code."""
    from execute.direct import lift

    overrides, chosen = reached(accounts, run)
    lifted = lift(chosen, overrides)
    console.print(f"lifted: {', '.join(lifted) or 'nothing was halted by hand'}")
    return 0


def reached(accounts: Sequence[str] | None, run: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that reach a run's venues, and the accounts meant.

    Simulated venues that `crossbook demo` started are found by what they left in the data folder.

    Raises:
        Misconfigured: no account has keys.
    """
    from core.runtime.settings import load
    from execute.direct import accounts_of
    from execute.settings import ExecuteSettings
    from infra.stack.settings import PROJECT, StackSettings

    overrides: dict[str, Any] = {"run": run} if run else {}
    settings = load(ExecuteSettings, **overrides)
    # Workers run in the project's folder: from wherever this is called, they must find what is left for them.
    overrides["halt_dir"] = PROJECT / settings.halt_dir
    folder = load(StackSettings).data / "simulate" / settings.writes
    overrides |= _simulated(folder, settings.model_fields_set)
    chosen = list(accounts or []) or accounts_of(load(ExecuteSettings, **overrides))
    if not chosen:
        raise Misconfigured("no account has keys here: name one with --account, or set CROSSBOOK_*_CREDENTIALS_FILE")
    return overrides, chosen


def _simulated(folder: Path, given: set[str]) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "ready.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {
        "kalshi_simulated": facts["kalshi"]["rest_url"].split("://", 1)[1].split("/", 1)[0],
        "polymarket_simulated": facts["polymarket"]["clob_url"].split("://", 1)[1].split("/", 1)[0],
        "sim_credentials_file": folder / "credentials.json",
    }
    return {name: value for name, value in found.items() if name not in given}


def _show(one: Halted) -> None:
    singly = f"; {one.cancelled} needed a cancel of their own" if one.cancelled else ""
    if one.clean:
        console.print(f"{one.account}: the venue lists no open order{singly}")
        return
    left = ", ".join(f"{order.venue_order} ({order.instrument})" for order in one.left)
    console.print(f"{one.account}: NOT CLEAN: {one.error}{' open: ' + left if left else ''}{singly}")
