"""`crossbook sagas show | hold | unwind`: what is under way or could not be balanced, and a human's word on that.

A word is one record on `decision.limit`, with who said it and why; the accounts' task takes it once, while the saga is
HOLDING.
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.domain.errors import Misconfigured, NotExact, Reject
from core.domain.units import MONEY_EXP, ONE_DOLLAR_E4, from_fixed, to_fixed
from infra.cli.options import By, Run, Why
from infra.demo.budgets import OPEN
from schemas.decision import Ruling, Saga

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from infra.cli.reach import Reach
    from schemas.enums import RulingAction

SIZE_EXP = -6
CENTS_EXP = -2

app = typer.Typer(
    help="Show sagas and decide on those that are held. See docs/sagas.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()

Name = Annotated[str, typer.Argument(help="The saga's id, as `crossbook sagas show` says it.")]


@app.command("show")
def show(
    run: Run = "", everything: Annotated[bool, typer.Option("--all", help="Those that ended too.")] = False
) -> None:
    """List the sagas that are under way or held: what each leg filled, what stands, why."""
    from infra.cli.reach import Reach

    sagas = read(Reach.load(run).require_kafka())
    shown = [saga for saga in sagas.values() if everything or saga.state in OPEN or saga.state == "HOLDING"]
    table = Table("saga", "strategy", "link", "state", "reason", "filled", "stands", "cash", "fees")
    for saga in shown:
        table.add_row(
            saga.id,
            saga.strategy,
            saga.link,
            saga.state,
            saga.reason,
            _sizes(saga.filled_e6),
            _sizes(saga.standing_e6),
            from_fixed(saga.cash_e6, MONEY_EXP, places_min=2),
            from_fixed(saga.fees_e6, MONEY_EXP, places_min=2),
        )
    console.print(table)
    held = sum(saga.state == "HOLDING" for saga in sagas.values())
    console.print(f"{len(shown)} of {len(sagas)} sagas; {held} held: `crossbook sagas hold|unwind <saga> --why …`")


@app.command("hold")
def hold(saga: Name, why: Why, run: Run = "", by: By = "") -> None:
    """Approve that what stands of a saga is kept to resolution."""
    _say(saga, "HOLD", run, by, why, "0", "5")


@app.command("unwind")
def unwind(
    saga: Name,
    why: Why,
    budget: Annotated[str, typer.Option("--budget", help="Dollars it may cost beyond the saga's budget.")],
    slip: Annotated[str, typer.Option("--slip", help="Cents from the entry's limit it may go.")] = "5",
    run: Run = "",
    by: By = "",
) -> None:
    """Take back once more what no other leg covers."""
    _say(saga, "UNWIND", run, by, why, budget, slip)


def _say(name: str, action: RulingAction, run: str, by: str, why: str, budget: str, slip: str) -> None:
    from core.runtime.clock import SystemClock
    from infra.cli.limits import publish
    from infra.cli.reach import Reach

    clock = SystemClock()
    reach = Reach.load(run).require_kafka()
    who = by or getpass.getuser()
    record = ruling_of(read(reach).get(name), name, action, who, why, budget, slip, clock.now_ns())
    publish(reach, clock, [record])
    console.print(f"{name}: {action} by {who}: {why}")


def ruling_of(
    saga: Saga | None, name: str, action: RulingAction, by: str, why: str, budget: str, slip: str, now_ns: int
) -> Ruling:
    """Return the record of a word on a saga.

    Args:
        saga: as it stands on Kafka.
        name: how it was named.
        action: HOLD or UNWIND.
        by: who says it.
        why: and why.
        budget: dollars as text.
        slip: cents as text.
        now_ns: when it is said.

    Raises:
        Misconfigured: there is no such saga, it is not held, no reason, or a figure that cannot be.
    """
    if saga is None:
        raise Misconfigured(f"saga {name!r}: there is none in this run; `crossbook sagas show` lists them")
    if saga.state != "HOLDING":
        raise Misconfigured(f"saga {name}: it is {saga.state} {saga.reason}; only one that is HOLDING waits for a word")
    if not why.strip() or not by.strip():
        raise Misconfigured("say who decides and why: --by, --why")
    budget_e6, slip_e4 = _figure(budget, MONEY_EXP, "budget"), _figure(slip, CENTS_EXP, "slip")
    if slip_e4 >= ONE_DOLLAR_E4:
        raise Misconfigured(f"slip {slip}: expected less than a dollar, in cents")
    return Ruling(
        id=f"ruling|{saga.id}",
        saga=saga.id,
        account_set=saga.account_set,
        action=action,
        budget_e6=budget_e6,
        slip_e4=slip_e4,
        set_by=by,
        reason=why,
        ts_ns=now_ns,
    )


def read(reach: Reach) -> dict[str, Saga]:
    """Return all sagas of a run as they stand, oldest first.

    Raises:
        Unavailable: Kafka does not answer.
        Misconfigured: the run has no such topic.
    """
    from core.runtime import topics
    from infra.cli.tail import Tail, Wish

    found: dict[str, Saga] = {}
    for _, _, record in Tail(reach, Wish(topics.DECISION_SAGA, "beginning")).records():
        if isinstance(record, Saga):
            found[record.id] = record
    return found


def _figure(text: str, exp: int, name: str) -> int:
    try:
        value = to_fixed(text, exp)
    except (NotExact, Reject) as e:
        raise Misconfigured(f"{name} {text!r}: expected a plain decimal, no finer than 1e{exp}: {e}") from e
    if value < 0:
        raise Misconfigured(f"{name} {text}: expected 0 or more")
    return value


def _sizes(sizes: list[int]) -> str:
    return " ".join(from_fixed(size, SIZE_EXP) for size in sizes)
