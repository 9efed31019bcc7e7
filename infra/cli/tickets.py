"""`crossbook tickets`, `tickets show`, `tickets add`, `tickets withdraw`: what was wanted, what became of it, why."""

from __future__ import annotations

import getpass
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.domain.errors import Misconfigured
from infra.cli.options import By, Json, Run

if TYPE_CHECKING:
    from infra.cli.desk import Desk
    from infra.cli.reach import Reach
    from schemas.decision import ManualTicket


app = typer.Typer(
    help="List the tickets of a run, one per intent; look at one; write down a trade made by hand. See docs/postgres.md.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
console = Console()


_LIST = """
SELECT id, decided_at, strategy, link, legs, profit_e6, coalesce(state, 'NEW') AS state, coalesce(reason, '') AS reason,
    filled_e6, cash_e6, fees_e6
FROM ticket_now WHERE incarnation = %(incarnation)s AND (%(strategy)s = '' OR strategy = %(strategy)s)
    AND (%(state)s = '' OR coalesce(state, 'NEW') = %(state)s) AND decided_at >= %(since)s
ORDER BY decided_at DESC, id LIMIT %(most)s
"""
_MANUAL = """
SELECT id, traded_at, account, instrument, side, size_e6, price_e6, fee_e6, strategy, reference, who, why, withdrawn
FROM manual_ticket WHERE incarnation = %(incarnation)s AND traded_at >= %(since)s ORDER BY traded_at DESC, id LIMIT %(most)s
"""


@app.callback()
def tickets(
    context: typer.Context,
    run: Run = "",
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="Only this strategy.")] = "",
    state: Annotated[str, typer.Option("--state", help="Only this state: DONE, REFUSED, FIRST_LEG, HOLDING, …")] = "",
    since: Annotated[str, typer.Option("--from", help="Not older than -2h, -1d, or a time (ISO, UTC).")] = "",
    manual: Annotated[bool, typer.Option("--manual", help="Those of trades made by hand.")] = False,
    most: Annotated[int, typer.Option("-n", min=1, max=10_000, help="The newest N.")] = 30,
    json_: Json = False,
) -> None:
    """List the newest tickets: what was wanted, what became of it, what it cost."""
    context.obj = run
    if context.invoked_subcommand is not None:
        return
    from infra.cli.desk import moment_named, open_desk
    from infra.cli.reach import Reach

    desk = open_desk(Reach.load(run))
    (now,) = desk.database.rows("SELECT now()")[0]
    found = _records(
        desk,
        _MANUAL if manual else _LIST,
        strategy=strategy,
        state=state.upper(),
        most=most,
        since=moment_named(since, now) if since else desk.created_at,
    )
    if json_:
        print(_json(found))
    elif manual:
        console.print(_manual_table(found))
    else:
        console.print(_table(found) if found else f"no such ticket in run {desk.run}")


@app.command()
def show(
    context: typer.Context,
    ticket: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    run: Run = "",
    json_: Json = False,
) -> None:
    """Show one ticket whole: legs, states, orders, fills, and what the market said of them afterwards."""
    from infra.cli.desk import open_desk
    from infra.cli.reach import Reach

    desk = open_desk(Reach.load(run or context.obj or ""))
    whole = _whole(desk, _identity(desk, ticket))
    if json_:
        print(_json(whole))
        return
    for title, records in whole.items():
        if records:
            console.print(_plain(title, records))


@app.command()
def add(
    context: typer.Context,
    account: Annotated[str, typer.Option("--account", "-a", help="<venue>:<name>")],
    instrument: Annotated[str, typer.Option("--instrument", "-i", help="<venue>:<id>")],
    side: Annotated[str, typer.Option("--side", help="BUY or SELL, in YES: who bought NO sold YES.")],
    size: Annotated[str, typer.Option("--size", help="Contracts or shares, as plain decimals.")],
    price: Annotated[str, typer.Option("--price", help="Of YES, dollars.")],
    why: Annotated[str, typer.Option("--why", help="Why it was traded by hand.")],
    fee: Annotated[str, typer.Option("--fee", help="Dollars.")] = "0",
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="On whose behalf.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="The venue's id of it.")] = "",
    at: Annotated[str, typer.Option("--at", help="When (ISO, UTC). Default: now.")] = "",
    by: By = "",
    run: Run = "",
) -> None:
    """Write down a trade made by hand at the venue. It explains what the venue reports and moves nothing itself."""
    from core.domain.ids import text_id
    from core.runtime.clock import SystemClock
    from infra.cli.desk import moment_named
    from infra.cli.reach import Reach
    from observe.postgres import moment, ns_of
    from schemas.decision import ManualTicket
    from venues import VENUES

    venue = account.partition(":")[0]
    if venue not in VENUES or instrument.partition(":")[0] != venue:
        raise Misconfigured(f"{account} and {instrument}: expected an account and an instrument of one known venue")
    if side.upper() not in {"BUY", "SELL"}:
        raise Misconfigured(f"--side {side!r}: use BUY or SELL")
    who = _person(by, why)
    now_ns = SystemClock().now_ns()
    ticket = ManualTicket(
        id=text_id("manual", account, instrument, side, size, price, reference, str(now_ns)),
        account=account,
        instrument=instrument,
        side="BUY" if side.upper() == "BUY" else "SELL",
        size=_fixed("--size", size),
        price_e6=_fixed("--price", price),
        fee_e6=_fixed("--fee", fee),
        strategy=strategy,
        reference=reference,
        traded_ts_ns=ns_of(moment_named(at, moment(now_ns))) if at else now_ns,
        set_by=who,
        reason=why,
        ts_ns=now_ns,
    )
    if not 0 < ticket.price_e6 < 1_000_000 or not ticket.size:
        raise Misconfigured(f"--size {size} at --price {price}: expected a size above 0 and a price between 0 and 1")
    _publish(Reach.load(run or context.obj or "").require_kafka(), ticket)
    console.print(f"ticket {ticket.id} is written down; `crossbook tickets --manual` lists it", highlight=False)


@app.command()
def withdraw(
    context: typer.Context,
    ticket: Annotated[str, typer.Argument(help="Id of a ticket made by hand, or the beginning of it.")],
    why: Annotated[str, typer.Option("--why", help="What was wrong with it.")],
    by: By = "",
    run: Run = "",
) -> None:
    """Withdraw a ticket that was written down by mistake; both words stay in the audit."""
    from core.runtime.clock import SystemClock
    from infra.cli.desk import open_desk
    from infra.cli.reach import Reach
    from observe.postgres import ns_of
    from schemas.decision import ManualTicket

    reach = Reach.load(run or context.obj or "").require_kafka()
    desk = open_desk(reach)
    found = desk.database.rows(
        "SELECT id, account, instrument, side, size_e6, price_e6, fee_e6, strategy, reference, traded_at "
        "FROM manual_ticket WHERE incarnation = %(i)s AND starts_with(id, %(id)s)",
        {"i": desk.incarnation, "id": ticket},
    )
    if len(found) != 1:
        raise Misconfigured(f"{len(found)} tickets made by hand begin with {ticket!r}: `crossbook tickets --manual`")
    identity, account, instrument, side, size, price, fee, strategy, reference, traded_at = found[0]
    withdrawn = ManualTicket(
        id=identity,
        account=account,
        instrument=instrument,
        side=side,
        size=size,
        price_e6=price,
        fee_e6=fee,
        strategy=strategy,
        reference=reference,
        traded_ts_ns=ns_of(traded_at),
        set_by=_person(by, why),
        reason=why,
        withdrawn=True,
        ts_ns=SystemClock().now_ns(),
    )
    _publish(reach, withdrawn)
    console.print(f"ticket {identity} is withdrawn", highlight=False)


def _publish(reach: Reach, ticket: ManualTicket) -> None:
    from core.runtime import topics
    from core.runtime.clock import SystemClock
    from core.runtime.flow import Output

    reach.publish([Output(topics.DECISION_TICKET, ticket.id, ticket)], SystemClock(), otherwise="look before repeating")


def _person(by: str, why: str) -> str:
    who = by.strip() or getpass.getuser()
    if not why.strip():
        raise Misconfigured("--why is empty: say it for whoever reads the audit")
    return who


def _fixed(option: str, text: str) -> int:
    from core.domain.errors import NotExact
    from core.domain.units import MONEY_EXP, to_fixed

    try:
        return to_fixed(text, MONEY_EXP)
    except NotExact as e:
        raise Misconfigured(f"{option} {text!r}: {e}") from e


# Asking


def _records(desk: Desk, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    with desk.database.transaction() as connection:
        cursor = connection.execute(statement.encode(), {"incarnation": desk.incarnation, **parameters})
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _identity(desk: Desk, text: str) -> str:
    found = desk.database.rows(
        "SELECT id FROM ticket WHERE incarnation = %(i)s AND starts_with(id, %(id)s) UNION ALL "
        "SELECT id FROM manual_ticket WHERE incarnation = %(i)s AND starts_with(id, %(id)s) LIMIT 2",
        {"i": desk.incarnation, "id": text},
    )
    if len(found) != 1:
        raise Misconfigured(f"{'no' if not found else 'more than one'} ticket of run {desk.run} begins with {text!r}")
    return str(found[0][0])


_PARTS = {
    "ticket": "SELECT id, strategy, link, account_set, edge, profit_e6, input_partition, input_offset, decided_at, state, "
    "reason, cash_e6, fees_e6 FROM ticket_now WHERE incarnation = %(incarnation)s AND id = %(id)s",
    "made by hand": "SELECT * FROM manual_ticket WHERE incarnation = %(incarnation)s AND id = %(id)s",
    "legs": "SELECT leg, account, instrument, side, price, size, price_exp, size_exp, fee_max_e6, reduces "
    "FROM ticket_leg WHERE incarnation = %(incarnation)s AND ticket = %(id)s ORDER BY leg",
    "states": "SELECT at, state, reason, filled_e6, standing_e6, unwound_e6, cash_e6, fees_e6 FROM ticket_state "
    "WHERE incarnation = %(incarnation)s AND ticket = %(id)s ORDER BY log_partition, log_offset",
    "orders": "SELECT o.leg, o.attempt, o.purpose, o.id, s.status, s.terminal, s.filled_e6, s.venue_order, s.reason, s.at "
    "FROM venue_order o LEFT JOIN order_state s ON s.incarnation = o.incarnation AND s.order_id = o.id "
    "WHERE o.incarnation = %(incarnation)s AND o.ticket = %(id)s ORDER BY o.leg, o.attempt, s.log_offset",
    "fills": "SELECT f.at, f.leg, f.purpose, f.account, f.fill, f.outcome, f.token_side, f.size_e6, f.price_e6, f.fee_e6, "
    "f.failed, coalesce(s.settlement, '') AS settlement FROM fill_of f LEFT JOIN settlement s "
    "ON s.incarnation = f.incarnation AND s.account = f.account AND s.fill = f.fill "
    "WHERE f.incarnation = %(incarnation)s AND f.ticket = %(id)s ORDER BY f.at, f.log_offset",
    "mark-outs": "SELECT m.fill, m.horizon_ms / 1000 AS seconds, m.state, m.bid_e6, m.ask_e6, m.gain_e6 FROM mark_out m "
    "JOIN fill_of f ON f.incarnation = m.incarnation AND f.account = m.account AND f.fill = m.fill "
    "WHERE m.incarnation = %(incarnation)s AND f.ticket = %(id)s ORDER BY m.fill, m.horizon_ms",
}


def _whole(desk: Desk, identity: str) -> dict[str, list[dict[str, Any]]]:
    return {title: _records(desk, statement, id=identity) for title, statement in _PARTS.items()}


# Showing


def _table(records: list[dict[str, Any]]) -> Table:
    from infra.cli.desk import clock_time, money

    table = Table(title="tickets, the newest first", title_justify="left", box=None, pad_edge=False)
    for column in ("ticket", "decided", "strategy", "link", "state"):
        table.add_column(column, overflow="fold")
    for column in ("filled", "expected $", "cash $", "fees $"):
        table.add_column(column, justify="right")
    for record in records:
        table.add_row(
            record["id"],
            clock_time(record["decided_at"]),
            escape(record["strategy"]),
            escape(record["link"]),
            record["state"] + (f" ({escape(record['reason'])})" if record["reason"] else ""),
            " / ".join(money(size) for size in record["filled_e6"] or []),
            *(money(record[name]) for name in ("profit_e6", "cash_e6", "fees_e6")),
        )
    return table


def _manual_table(records: list[dict[str, Any]]) -> Table:
    return _plain("trades made by hand, the newest first", records)


def _plain(title: str, records: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    names = [name for name in (records[0] if records else {}) if name != "incarnation"]
    for name in names:
        table.add_column(name.removesuffix("_e6"), overflow="fold")
    for record in records:
        table.add_row(*(escape(_word(name, record[name])) for name in names))
    return table


def _word(name: str, value: Any) -> str:
    from infra.cli.desk import clock_time, money

    if value is None:
        return ""
    if isinstance(value, datetime):
        return clock_time(value)
    if name.endswith("_e6"):
        return " / ".join(money(item) for item in value) if isinstance(value, list) else money(value)
    return str(value)


def _json(found: Any) -> str:
    return json.dumps(
        found, indent=2, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)
    )
