"""`crossbook flatten`: sell what is held with keys alone, after everything that rests was cancelled."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from core.domain.units import CENT_E4
from infra.cli import kill
from infra.cli.kill import EXIT_OPEN, Accounts, By, Why
from infra.cli.options import Run

if TYPE_CHECKING:
    from core.runtime.clock import Clock
    from execute.direct import Said
    from execute.flatten import Flattened

console = Console()


def register(app: typer.Typer) -> None:
    """Add the command to `crossbook`."""
    app.command("flatten")(flatten)


def flatten(
    accounts: Accounts = None,
    slip_cents: Annotated[
        int, typer.Option("--slip", min=0, max=99, help="How far below the best bid a sale may go, in cents.")
    ] = 5,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Sell. Without it: say what would be sold.")] = False,
    run: Run = "",
    by: By = "",
    why: Why = "by hand",
) -> None:
    """Sell everything that is held, with keys alone. Cancels first (`halt --direct`), and leaves the gateways stopped."""
    from core.runtime.clock import SystemClock
    from execute.direct import Said

    overrides, chosen = kill.reached(accounts, run)
    said, clock = Said(by or getpass.getuser(), why), SystemClock()
    if not yes:
        asyncio.run(_plan(chosen, overrides, clock, said, slip_cents * CENT_E4))
        console.print("nothing was sent: `--yes` sells")
        return
    if kill.halt_direct(chosen, run, said.by, why):
        console.print("not flattened: what rests could cross what is sold")
        raise typer.Exit(EXIT_OPEN)
    found = asyncio.run(_sell(chosen, overrides, clock, said, slip_cents * CENT_E4))
    for one in found:
        _show(one)
    raise typer.Exit(0 if all(one.flat for one in found) else EXIT_OPEN)


async def _plan(accounts: list[str], overrides: dict[str, Any], clock: Clock, said: Said, slip_e4: int) -> None:
    from execute.direct import flattener

    for account in accounts:
        async with flattener(account, overrides, clock, said, slip_e4=slip_e4) as one:
            for lot, order in await one.plan():
                what = order if isinstance(order, str) else f"{order.side} at {order.price}e-4 (YES) or better"
                console.print(f"{account}: {lot.size}e-6 {lot.outcome} of {lot.instrument}: {what}")


async def _sell(
    accounts: list[str], overrides: dict[str, Any], clock: Clock, said: Said, slip_e4: int
) -> list[Flattened]:
    from execute.direct import flattener

    async def sell(account: str) -> Flattened:
        async with flattener(account, overrides, clock, said, slip_e4=slip_e4) as one:
            return await one.run()

    return list(await asyncio.gather(*(sell(account) for account in accounts)))


def _show(one: Flattened) -> None:
    for (instrument, outcome), size in one.sold.items():
        console.print(f"{one.account}: sold {size}e-6 {outcome} of {instrument}")
    for lot in one.left:
        reason = one.stuck.get((lot.instrument, lot.outcome), "")
        console.print(f"{one.account}: STILL HELD: {lot.size}e-6 {lot.outcome} of {lot.instrument}: {reason}")
    if one.error:
        console.print(f"{one.account}: NOT KNOWN: {one.error}")
    if one.flat:
        console.print(f"{one.account}: nothing is held")
