"""`crossbook ledger enter | show`: what moved accounts otherwise than by trading.

What is entered is one record on `decision.limit`, with who said it and why; the accounts' task makes an Entry of it when
it stands in its log. What is shown are the Entry records on `decision.ledger`, those that accounts write by themselves
included.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.domain.units import MONEY_EXP, PREDICTION_SIZE_EXP, from_fixed
from infra.cli.ledger_desk import Typed, check, posting_of, sums
from infra.cli.limits_desk import Signed
from infra.cli.options import By, Json, Run, Why
from schemas.decision import Entry, Limit, Posting, Profile
from schemas.enums import EntryKind

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from infra.cli.reach import Reach

app = typer.Typer(
    help="Enter and show what moved accounts otherwise than by trading. See docs/ledger.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()


@dataclass
class Stated:
    """What stands on Kafka about the accounts of one set."""

    limit: Limit | None = None
    profiles: dict[str, Profile] = field(default_factory=dict)
    postings: dict[str, Posting] = field(default_factory=dict)


def register(root: typer.Typer) -> None:
    """Add the commands to `crossbook`."""
    root.add_typer(app, name="ledger")


@app.command()
def enter(
    kind: Annotated[
        str,
        typer.Argument(
            help="deposit, withdrawal, transfer, rebate, reward, interest, fee, rounding, gas or conversion."
        ),
    ],
    account: Annotated[str, typer.Option("--account", help="The venue account: kalshi:main.")],
    why: Why,
    amount: Annotated[
        str, typer.Option("--amount", help="Dollars. With + or - for transfer, rounding and conversion.")
    ] = "",
    instrument: Annotated[str, typer.Option("--instrument", help="What is held more or less of.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="yes or no.")] = "",
    size: Annotated[str, typer.Option("--size", help="Contracts or tokens of it.")] = "",
    reference: Annotated[
        str, typer.Option("--reference", help="The venue's or bank's own: one reference moves an account once.")
    ] = "",
    at: Annotated[
        str, typer.Option("--at", help="When it moved: -2h, -3d, 2026-11-21T14:00 (UTC). Default: now.")
    ] = "",
    run: Run = "",
    account_set: Annotated[str, typer.Option("--set", help="The account set.")] = "main",
    by: By = "",
    approved_by: Annotated[
        str, typer.Option("--approved-by", help="The second person, where the set asks for two.")
    ] = "",
) -> None:
    """Enter what moved, or is about to move, an account: `crossbook ledger enter deposit --account kalshi:main --amount 100 --why …`."""
    from core.runtime import topics
    from core.runtime.clock import SystemClock
    from core.runtime.flow import Output
    from infra.cli.desk import moment_named
    from infra.cli.reach import Reach

    clock = SystemClock()
    now_ns = clock.now_ns()
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    at_ns = int(moment_named(at, now).timestamp()) * 1_000_000_000 if at else now_ns
    typed = Typed(kind, account, amount, instrument, outcome, size, reference)
    signed = Signed(by or getpass.getuser(), approved_by, why)
    posting = posting_of(typed, signed, account_set, at_ns=at_ns, now_ns=now_ns)
    reach = Reach.load(run).require_kafka()
    stated = read(reach, account_set)
    check(posting, stated.limit, stated.profiles, stated.postings)
    reach.publish([Output(topics.DECISION_LIMIT, posting.id, posting)], clock)
    console.print(f"{posting.account}: {posting.kind} {_moved(posting)} entered by {signed.by} as {posting.id}")


@app.command()
def show(
    run: Run = "",
    account: Annotated[str, typer.Option("--account", help="Of one venue account. Default: all.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Of one kind: deposit, opening, external …")] = "",
    limit: Annotated[int, typer.Option("-n", min=0, help="The newest N. 0: all.")] = 50,
    json_: Json = False,
) -> None:
    """Show entries, oldest first, and what each kind moved of each account's cash."""
    from infra.cli.reach import Reach

    found = entries(Reach.load(run).require_kafka())
    found = [one for one in found if account in {"", one.account} and kind.upper() in {"", one.kind}]
    totals = sums(found)
    listed = found[-limit:] if limit else found
    if json_:
        moved = [{"account": name, "kind": word, "cash_e6": cash} for (name, word), cash in totals.items()]
        print(json.dumps({"entries": msgspec.to_builtins(listed), "sums": moved}, ensure_ascii=False, indent=2))
        return
    _show(listed, totals)


# --- Kafka


def read(reach: Reach, account_set: str) -> Stated:
    """Return what stands on Kafka about one account set, and what was entered of it.

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
        elif isinstance(record, Posting) and record.account_set == account_set:
            stated.postings[record.id] = record
    for _, _, record in Tail(reach, Wish(topics.DECISION_PROFILE, "beginning")).records():
        if isinstance(record, Profile):
            stated.profiles[record.id] = record
    return stated


def entries(reach: Reach) -> list[Entry]:
    """Return every entry of a run, in the order of its logs' times.

    Raises:
        Unavailable: Kafka does not answer.
        Misconfigured: the run has no such topic.
    """
    from core.runtime import topics
    from infra.cli.tail import Tail, Wish

    found = {
        record.id: record
        for _, _, record in Tail(reach, Wish(topics.DECISION_LEDGER, "beginning", kind="Entry")).records()
        if isinstance(record, Entry)
    }
    return sorted(found.values(), key=lambda one: (one.now_ns, one.log_partition, one.log_offset, one.id))


# --- the screen


def _show(listed: list[Entry], totals: Mapping[tuple[str, EntryKind], int]) -> None:
    table = Table(title="Entries", title_justify="left")
    for head in ("at (UTC)", "account", "kind", "cash", "instrument", "outcome", "size", "why"):
        table.add_column(head, justify="right" if head in {"cash", "size"} else "left")
    for one in listed:
        at = datetime.fromtimestamp(one.now_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        word = f"{one.kind} ({one.phase})" if one.phase != "UNKNOWN" else one.kind
        outcome = one.outcome if one.instrument else ""
        table.add_row(
            at, one.account, word, _money(one.cash_e6), one.instrument, outcome, _size(one.size), escape(one.reason)
        )
    console.print(table)
    table = Table(title="Cash moved", title_justify="left")
    for head in ("account", "kind", "cash"):
        table.add_column(head, justify="right" if head == "cash" else "left")
    for (account, kind), cash_e6 in totals.items():
        table.add_row(account, kind, from_fixed(cash_e6, MONEY_EXP, places_min=2))
    console.print(table)


def _moved(posting: Posting) -> str:
    held = f"{_size(posting.size)} {posting.outcome} of {posting.instrument}" if posting.size else ""
    return ", ".join(part for part in (f"{_money(posting.cash_e6)} $" if posting.cash_e6 else "", held) if part)


def _money(amount_e6: int) -> str:
    return from_fixed(amount_e6, MONEY_EXP, places_min=2) if amount_e6 else ""


def _size(size: int) -> str:
    return from_fixed(size, PREDICTION_SIZE_EXP) if size else ""
