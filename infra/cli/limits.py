"""`crossbook limits show | set | budget`, `crossbook halt | reduce | resume`: what may be risked, and who may trade.

Each is one record on `decision.limit`, with who said it and why; the accounts' task acts on it when it stands in its
log. Money is given in dollars, `none` is without limit. What stops trading while Kafka is gone is `crossbook halt
--direct`.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from core.domain.errors import Misconfigured, NotExact, Reject, Unavailable
from core.domain.units import MONEY_EXP, from_fixed, to_fixed
from schemas.decision import Budget, Command, Limit, Ruling, Standing
from schemas.enums import Scope, TradingState

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from core.runtime.clock import Clock
    from infra.cli.reach import Reach

ACK_TIMEOUT_S = 20.0
NONE = "none"
UNLIMITED = -1
MONEY = "_e6"
SCOPES: Mapping[str, Scope] = {
    "strategy": "STRATEGY",
    "event": "EVENT",
    "category": "CATEGORY",
    "venue": "VENUE",
    "shard": "SHARD",
    "instrument": "INSTRUMENT",
}
LIMIT_FIGURES = (
    "order_notional_max_e6",
    "market_notional_max_e6",
    "open_sagas_max",
    "unwind_budget_e6",
    "day_loss_reduce_e6",
    "day_loss_halt_e6",
    "silence_reduce_ms",
    "silence_halt_ms",
    "heal_max_e6",
)
ALWAYS = frozenset(LIMIT_FIGURES[:4])
"""These are never without limit."""
BUDGET_FIGURES: Mapping[str, frozenset[Scope]] = {
    "notional_max_e6": frozenset(SCOPES.values()),
    "worst_loss_max_e6": frozenset({"EVENT"}),
    "day_loss_max_e6": frozenset({"STRATEGY"}),
    "orders_per_min": frozenset({"VENUE"}),
    "orders_burst": frozenset({"VENUE"}),
}

app = typer.Typer(
    help="Show and set what may be risked. See docs/limits.md.", no_args_is_help=True, pretty_exceptions_enable=False
)
console = Console()

Run = Annotated[str, typer.Option("--run", "-r", help="Run. Default: CROSSBOOK_RUN, demo.")]
Set = Annotated[str, typer.Option("--set", help="The account set.")]
By = Annotated[str, typer.Option("--by", help="Who says this. Default: the user of this machine.")]
Second = Annotated[str, typer.Option("--approved-by", help="The second person, where a raised limit needs one.")]
Why = Annotated[str, typer.Option("--why", help="Why; kept with the record.")]
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
    json_: Annotated[bool, typer.Option("--json", help="JSON in place of tables.")] = False,
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
    """Set what a part may use: `crossbook limits budget event '*' worst_loss_max=100 notional_max=500 --why …`."""
    from core.runtime.clock import SystemClock
    from infra.cli.reach import Reach

    reach = Reach.load(run).require_kafka()
    stated = read(reach, account_set)
    word = scope_named(scope)
    before = stated.budgets.get(f"{account_set}|{word}|{name}")
    signed = Signed(by or getpass.getuser(), approved_by, why)
    after = changed_budget(before, Part(account_set, word, name), figures, signed)
    needs_two = stated.limit is not None and stated.limit.two_people
    require_second(before, after, needs_two=needs_two)
    publish(reach, SystemClock(), [after])
    console.print(f"{after.id}: " + ", ".join(_figures_of(after)))


def halt_set(run: str, account_set: str, part: str, by: str, why: str) -> None:
    """Halt a set, or one part of it such as `strategy:arb`: orders are taken back, and nothing is granted."""
    _command("HALTED", run, account_set, part, by, why)


def reduce_command(
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    part: Annotated[str, typer.Option("--part", help="strategy:<id>, venue:<name> or instrument:<id>.")] = "",
    by: By = "",
) -> None:
    """Take no new risk: hedges, unwinds and exits go on. `crossbook resume` ends it."""
    _command("REDUCING", run, account_set, part, by, why)


def resume_command(
    why: Why,
    run: Run = "",
    account_set: Set = "main",
    part: Annotated[str, typer.Option("--part", help="strategy:<id>, venue:<name> or instrument:<id>.")] = "",
    by: By = "",
) -> None:
    """End what `halt`, `reduce`, a loss, silence or a difference from the venue's report had stopped."""
    _command("RUNNING", run, account_set, part, by, why)


def _command(state: TradingState, run: str, account_set: str, part: str, by: str, why: str) -> None:
    from core.runtime.clock import SystemClock
    from infra.cli.reach import Reach

    clock = SystemClock()
    who = by or getpass.getuser()
    record = command_of(state, account_set, part, Signed(who, "", why), clock.now_ns())
    reach = Reach.load(run).require_kafka()
    publish(reach, clock, [record])
    console.print(f"{record.id}: {state} by {who}: {why}")
    limit = read(reach, account_set).limit
    if state == "RUNNING" and not part and (limit is None or limit.state != "RUNNING"):
        told = "there is none" if limit is None else f"it says {limit.state}"
        console.print(f"Its limit record stands in the way still ({told}): `crossbook limits set state=RUNNING`.")


# --- records


@dataclass(frozen=True)
class Signed:
    """Who says something, who agrees, and why."""

    by: str
    approved_by: str
    why: str


@dataclass(frozen=True)
class Part:
    """What a budget is for."""

    account_set: str
    scope: Scope
    name: str


def changed_limit(before: Limit | None, account_set: str, texts: Sequence[str], signed: Signed) -> Limit:
    """Return a limit record with figures changed.

    Raises:
        Misconfigured: an unknown name, a value that is none, no reason; a first record that leaves something out; a
            raised limit without a second person where the record before asks for one.
    """
    _check_signed(signed)
    values: dict[str, object] = {} if before is None else msgspec.structs.asdict(before)
    given = _pairs(texts)
    for name, text in given.items():
        if name == "state":
            values[name] = _state(text)
        elif name == "two_people":
            values[name] = _yes(text)
        else:
            known = _figure_named(name, LIMIT_FIGURES)
            values[known] = _value(known, text)
            if known in ALWAYS and values[known] == UNLIMITED:
                raise Misconfigured(f"{known}: {NONE} is not possible; name an amount")
    values |= {"id": account_set, "set_by": signed.by, "approved_by": signed.approved_by, "reason": signed.why}
    missing = sorted(name for name in {*ALWAYS, "state"} if name not in values)
    if missing:
        raise Misconfigured(f"{account_set} has no limit record yet: name {', '.join(missing)} as well")
    after = msgspec.convert(values, Limit, strict=True)
    require_second(before, after, needs_two=before is not None and before.two_people)
    return after


def changed_budget(before: Budget | None, part: Part, texts: Sequence[str], signed: Signed) -> Budget:
    """Return a budget record with figures changed.

    Raises:
        Misconfigured: a figure that its scope does not have, a value that is none, no reason.
    """
    _check_signed(signed)
    values: dict[str, object] = {} if before is None else msgspec.structs.asdict(before)
    for name, text in _pairs(texts).items():
        known = _figure_named(name, tuple(BUDGET_FIGURES))
        if part.scope not in BUDGET_FIGURES[known]:
            fits = ", ".join(sorted(BUDGET_FIGURES[known])).lower()
            raise Misconfigured(f"{known} is a figure of {fits}, not of {part.scope.lower()}")
        values[known] = 0 if known == "orders_burst" and text == NONE else _value(known, text)
    values |= {
        "id": f"{part.account_set}|{part.scope}|{part.name}",
        "account_set": part.account_set,
        "scope": part.scope,
        "name": part.name,
        "set_by": signed.by,
        "approved_by": signed.approved_by,
        "reason": signed.why,
    }
    return msgspec.convert(values, Budget, strict=True)


def command_of(state: TradingState, account_set: str, part: str, signed: Signed, now_ns: int) -> Command:
    """Return a command on a whole set (`part` empty) or on `strategy:<id>`, `venue:<name>`, `instrument:<id>`.

    Raises:
        Misconfigured: another part, or no reason.
    """
    _check_signed(signed)
    scope: Scope = "SET"
    name = ""
    if part:
        word, _, name = part.partition(":")
        scope = scope_named(word)
        if scope not in {"STRATEGY", "VENUE", "INSTRUMENT"} or not name:
            raise Misconfigured(f"part {part!r}: expected strategy:<id>, venue:<name> or instrument:<id>")
    return Command(
        id=f"{account_set}|{scope}|{name}",
        account_set=account_set,
        scope=scope,
        name=name,
        state=state,
        set_by=signed.by,
        reason=signed.why,
        ts_ns=now_ns,
    )


def require_second(before: Limit | Budget | None, after: Limit | Budget, *, needs_two: bool) -> None:
    """Refuse to raise what two people must raise.

    Raises:
        Misconfigured: one person would do it.
    """
    from decide.risk import allows_more, is_signed

    raised = allows_more(before, after) if before is not None else []
    if needs_two and raised and not is_signed(after):
        raise Misconfigured(
            f"{', '.join(raised)} would allow more than before: name a second person with --approved-by, "
            f"another than {after.set_by}"
        )


def scope_named(word: str) -> Scope:
    """Return a scope by its word.

    Raises:
        Misconfigured: there is none.
    """
    scope = SCOPES.get(word.lower())
    if scope is None:
        raise Misconfigured(f"{word!r} is no part of an account set: use {', '.join(SCOPES)}")
    return scope


def _check_signed(signed: Signed) -> None:
    if not signed.by.strip() or not signed.why.strip():
        raise Misconfigured("who and why must be said: --by, --why")


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    bad = [name for name, sign, value in pairs if not (name and sign and value)]
    if bad:
        raise Misconfigured(f"{bad[0]!r}: expected name=value, such as day_loss_halt=250")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _figure_named(name: str, known: Sequence[str]) -> str:
    for suffix in ("", MONEY, "_ms"):
        if f"{name}{suffix}" in known:
            return f"{name}{suffix}"
    raise Misconfigured(f"no figure {name!r}: use {', '.join(one.removesuffix(MONEY) for one in known)}")


def _value(name: str, text: str) -> int:
    if text.lower() == NONE:
        return UNLIMITED
    try:
        return to_fixed(text, MONEY_EXP if name.endswith(MONEY) else 0)
    except (NotExact, Reject) as e:
        raise Misconfigured(f"{name}={text}: {e}") from e


def _state(text: str) -> TradingState:
    word = text.upper()
    if word not in set(get_args(TradingState)) - {"UNKNOWN"}:
        raise Misconfigured(f"state={text}: use RUNNING, REDUCING or HALTED")
    return cast("TradingState", word)


def _yes(text: str) -> bool:
    answers: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in answers:
        raise Misconfigured(f"two_people={text}: use yes or no")
    return answers[text.lower()]


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
    from core.runtime.producer import Publisher

    publisher = Publisher(
        bootstrap=reach.bootstrap,
        codec=reach.codec,
        clock=clock,
        run=reach.run,
        stage="decide",
        partitions=reach.partitions,
        client_id=f"{reach.run}.limits",
    )
    for record in records:
        publisher.publish(Output(topics.DECISION_LIMIT, record.id, record))
    if not publisher.wait_acknowledged(ACK_TIMEOUT_S):
        raise Unavailable(
            f"Kafka at {reach.bootstrap} does not acknowledge within {ACK_TIMEOUT_S:.0f} s: repeat; "
            "`crossbook halt --direct` needs no Kafka"
        )


# --- the screen


def amount(name: str, value: int) -> str:
    """Return a figure as people read it."""
    if value == UNLIMITED:
        return NONE
    return f"{from_fixed(value, MONEY_EXP, places_min=2)} $" if name.endswith(MONEY) else str(value)


def _figures_of(record: Limit | Budget) -> list[str]:
    names = LIMIT_FIGURES if isinstance(record, Limit) else tuple(BUDGET_FIGURES)
    return [f"{name.removesuffix(MONEY)} {amount(name, getattr(record, name))}" for name in names]


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
            console.print(f"{record.id}: " + ", ".join(_figures_of(record)))
