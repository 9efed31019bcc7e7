"""`crossbook limits show | set | budget`, `crossbook halt | reduce | resume`: what may be risked, and who may trade.

Each is one record on `decision.limit`, with who said it and why; the accounts' task acts on it when it stands in its
log. Money is given in dollars, `none` is without limit. What stops trading while Kafka is gone is `crossbook halt
--direct`.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from core.domain.units import MONEY_EXP, from_fixed
from decide.risk import budget_before
from infra.cli.limits_desk import (
    LIMIT_FIGURES,
    MONEY,
    Part,
    Signed,
    amount,
    changed_budget,
    changed_limit,
    command_of,
    figures_of,
    require_second,
    scope_named,
)
from infra.cli.options import By, Json, Run, Why
from schemas.decision import Budget, Command, Limit, Ruling, Standing
from schemas.enums import TradingState

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from core.runtime.clock import Clock
    from infra.cli.reach import Reach


app = typer.Typer(
    help="Show and set what may be risked. See docs/limits.md.", no_args_is_help=True, pretty_exceptions_enable=False
)
console = Console()

Set = Annotated[str, typer.Option("--set", help="The account set.")]
Second = Annotated[str, typer.Option("--approved-by", help="The second person, where a raised limit needs one.")]
OfSet = Annotated[str, typer.Option("--part", help="strategy:<id>, venue:<name> or instrument:<id>.")]
Figures = Annotated[list[str], typer.Argument(help="name=value: dollars (day_loss_halt=250), counts, ms, or none.")]


@dataclass
class Stated:
    """What stands on Kafka about the limits of one account set."""

    limit: Limit | None = None
    budgets: dict[str, Budget] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)


def register(root: typer.Typer) -> None:
    """Add the commands to `crossbook`; `halt` is added by `infra.cli.kill`, which shares it."""
    root.add_typer(app, name="limits")
    root.command("reduce")(reduce_command)
    root.command("resume")(resume_command)


# --- commands


@app.command()
def show(
    run: Run = "",
    account_set: Set = "main",
    json_: Json = False,
) -> None:
    """Show the limits of an account set, its budgets with what is used, and how it stands."""
    from infra.cli.reach import Reach

    stated = read(Reach.load(run).require_kafka(), account_set)
    if json_:
        print(json.dumps(msgspec.to_builtins(_facts(stated)), ensure_ascii=False, indent=2))
        return
    if stated.limit is None:
        console.print(f"{account_set} has no limit record: it is HALTED. `crossbook limits set` makes one.")
    else:
        _show_limit(stated.limit)
    _show_standings(stated)


@app.command("set")
def set_command(
    figures: Figures,
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    by: By = "",
    approved_by: Second = "",
) -> None:
    """Change figures of an account set's limit record: `crossbook limits set day_loss_halt=250 --why "first week"`.

    `state=RUNNING|REDUCING|HALTED` and `two_people=yes|no` are figures too. What is not named stays as it is.
    """
    from core.runtime.clock import SystemClock
    from infra.cli.reach import Reach

    reach = Reach.load(run).require_kafka()
    before = read(reach, account_set).limit
    after = changed_limit(before, account_set, figures, Signed(by or getpass.getuser(), approved_by, why))
    publish(reach, SystemClock(), [after])
    _show_limit(after)


@app.command()
def budget(
    scope: Annotated[str, typer.Argument(help="strategy, event, category, venue, shard or instrument.")],
    name: Annotated[str, typer.Argument(help="Which one; * for each that has none of its own.")],
    figures: Figures,
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    by: By = "",
    approved_by: Second = "",
) -> None:
    """Set what a part may use: `crossbook limits budget event '*' worst_loss_max=100 notional_max=500 --why …`.

    What is not named stays as it is: a first budget of a part's own begins as the one that is in force for it.
    """
    from core.runtime.clock import SystemClock
    from infra.cli.reach import Reach

    reach = Reach.load(run).require_kafka()
    stated = read(reach, account_set)
    word = scope_named(scope)
    clock = SystemClock()
    joined: list[str] = []
    if word == "EVENT" and stated.budgets:
        from decide.budgets import joined_to
        from infra.links.standing import read_links

        # What is bound is known to the accounts' task only: it looks again, with that.
        joined = joined_to(name, read_links(reach), clock.now_ns())
    in_place = {(one.scope, one.name): one for one in stated.budgets.values()}
    before = budget_before(in_place, (word, name), joined)
    signed = Signed(by or getpass.getuser(), approved_by, why)
    after = changed_budget(before, Part(account_set, word, name), figures, signed)
    needs_two = stated.limit is not None and stated.limit.two_people
    require_second(before, after, needs_two=needs_two)
    publish(reach, clock, [after])
    console.print(f"{after.id}: " + ", ".join(figures_of(after)))


def halt_set(run: str, account_set: str, part: str, by: str, why: str) -> None:
    """Halt a set, or one part of it such as `strategy:arb`: orders are taken back, and nothing is granted."""
    _command("HALTED", run, account_set, part, by, why)


def reduce_command(
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    part: OfSet = "",
    by: By = "",
    flatten: Annotated[
        int | None,
        typer.Option(
            "--flatten", metavar="CENTS", min=0, max=99, help="Sell what is held, at most so far from the best price."
        ),
    ] = None,
) -> None:
    """Take no new risk: hedges, unwinds and exits go on. `crossbook resume` ends it.

    With `--flatten` everything that is held there is sold for as long as the command stands: see docs/limits.md.
    """
    _command("REDUCING", run, account_set, part, by, why, flatten)


def resume_command(
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    part: OfSet = "",
    by: By = "",
) -> None:
    """End what `halt`, `reduce`, a loss, silence or a difference from the venue's report had stopped."""
    _command("RUNNING", run, account_set, part, by, why)


def _command(
    state: TradingState, run: str, account_set: str, part: str, by: str, why: str, flatten: int | None = None
) -> None:
    from core.runtime.clock import SystemClock
    from infra.cli.reach import Reach

    clock = SystemClock()
    who = by or getpass.getuser()
    record = command_of(state, account_set, part, Signed(who, "", why), clock.now_ns(), flatten)
    reach = Reach.load(run).require_kafka()
    publish(reach, clock, [record])
    console.print(f"{record.id}: {state} by {who}: {why}")
    if flatten is not None:
        console.print(
            "What is held is being sold: `crossbook sagas show --all` and `crossbook pnl` tell how far it is."
        )
    limit = read(reach, account_set).limit
    if state == "RUNNING" and not part and (limit is None or limit.state != "RUNNING"):
        told = "there is none" if limit is None else f"it says {limit.state}"
        console.print(f"Its limit record stands in the way still ({told}): `crossbook limits set state=RUNNING`.")


# --- Kafka


def read(reach: Reach, account_set: str) -> Stated:
    """Return what stands on Kafka about one account set.

    Raises:
        Unavailable: Kafka does not answer.
        Misconfigured: the run has no such topics.
    """
    from core.runtime import topics
    from infra.cli.tail import Tail, Wish

    stated = Stated()
    for _, _, record in Tail(reach, Wish(topics.DECISION_LIMIT, "beginning")).records():
        if isinstance(record, Limit) and record.id == account_set:
            stated.limit = record
        elif isinstance(record, Budget) and record.account_set == account_set:
            stated.budgets[record.id] = record
        elif isinstance(record, Command) and record.account_set == account_set:
            stated.commands[record.id] = record
    for _, _, record in Tail(reach, Wish(topics.DECISION_LEDGER, "beginning", kind="Standing")).records():
        if isinstance(record, Standing) and record.account_set == account_set:
            stated.standings[record.id] = record
    return stated


def publish(reach: Reach, clock: Clock, records: Sequence[Limit | Budget | Command | Ruling]) -> None:
    """Write records and wait until Kafka has them.

    Raises:
        Unavailable: Kafka does not acknowledge.
    """
    from core.runtime import topics
    from core.runtime.flow import Output

    reach.publish(
        (Output(topics.DECISION_LIMIT, record.id, record) for record in records),
        clock,
        otherwise="repeat; `crossbook halt --direct` needs no Kafka",
    )


# --- the screen


def _facts(stated: Stated) -> dict[Literal["limit", "budgets", "commands", "standings"], object]:
    return {
        "limit": stated.limit,
        "budgets": list(stated.budgets.values()),
        "commands": list(stated.commands.values()),
        "standings": list(stated.standings.values()),
    }


def _show_limit(limit: Limit) -> None:
    table = Table(title=f"{limit.id}: {limit.state}, set by {limit.set_by} ({limit.reason})", title_justify="left")
    table.add_column("limit")
    table.add_column("figure", justify="right")
    for name in LIMIT_FIGURES:
        table.add_row(name.removesuffix(MONEY), amount(name, getattr(limit, name)))
    table.add_row("two_people", "yes" if limit.two_people else "no")
    console.print(table)


def _show_standings(stated: Stated) -> None:
    table = Table(title="As it stands", title_justify="left")
    for head in ("part", "state", "cause", "bound", "of", "worst loss", "of", "day's profit", "loss limit", "stale"):
        table.add_column(head, justify="left" if head in {"part", "state", "cause"} else "right")
    for standing in sorted(stated.standings.values(), key=lambda one: (one.scope != "SET", one.id)):
        part = standing.account_set if standing.scope == "SET" else f"{standing.scope.lower()} {standing.name}"
        table.add_row(
            part,
            standing.state,
            standing.cause,
            amount(MONEY, standing.notional_e6),
            amount(MONEY, standing.notional_max_e6),
            amount(MONEY, standing.worst_loss_e6) if standing.scope == "EVENT" else "",
            amount(MONEY, standing.worst_loss_max_e6) if standing.scope == "EVENT" else "",
            from_fixed(standing.day_pnl_e6, MONEY_EXP, places_min=2),
            amount(MONEY, standing.day_loss_max_e6),
            str(standing.stale or ""),
        )
    if table.row_count:
        console.print(table)
    for record in stated.budgets.values():
        if record.id not in stated.standings:
            console.print(f"{record.id}: " + ", ".join(figures_of(record)))
