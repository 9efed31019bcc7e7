"""`crossbook jurisdiction show | sign`: which legal entity may trade what, as a human signed it off."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from core.domain.errors import Misconfigured
from infra.cli.options import Run
from venues import VENUES

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from infra.cli.reach import Reach
    from schemas.decision import Jurisdiction
    from schemas.enums import Verdict

VERDICTS: dict[str, Verdict] = {"allowed": "ALLOWED", "close-only": "CLOSE_ONLY", "forbidden": "FORBIDDEN"}

app = typer.Typer(
    help="Sign off which legal entity may trade which category of a venue. See docs/jurisdiction.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def show(run: Run = "") -> None:
    """List what is signed off, by whom and until when."""
    from rich.console import Console
    from rich.table import Table

    table = Table("entity", "venue", "category", "verdict", "from", "signed by", "at", "until", "reason")
    for record in sorted(_read(_reach(run)), key=lambda one: one.id):
        until = _day(record.expires_ts_ns) if record.expires_ts_ns else "never"
        table.add_row(
            record.entity,
            record.venue,
            record.category,
            record.verdict,
            " ".join(record.regions) or "anywhere",
            record.signed_by,
            _day(record.signed_ts_ns),
            until,
            record.reason,
        )
    Console().print(table)


@app.command()
def sign(
    entity: Annotated[str, typer.Argument(help="The legal entity, as the account's profile names it.")],
    venue: Annotated[str, typer.Argument(help="kalshi, polymarket, …")],
    verdict: Annotated[str, typer.Argument(help="allowed, close-only or forbidden.")],
    why: Annotated[str, typer.Option("--why", help="What it rests on: counsel's note, a licence, a ticket.")],
    category: Annotated[str, typer.Option("--category", "-c", help="As instruments state it. *: all others.")] = "*",
    regions: Annotated[
        list[str] | None, typer.Option("--from", help="Where its gateways must stand: their CROSSBOOK_REGION. Repeat.")
    ] = None,
    until: Annotated[str, typer.Option("--until", help="A date (UTC); from then on as if never signed.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who signs. Default: the user of this machine.")] = "",
    run: Run = "",
) -> None:
    """Sign off one (entity, venue, category). The newest word counts; gateways hear it within a second."""
    from core.runtime import topics
    from core.runtime.clock import SystemClock
    from core.runtime.flow import Output

    clock = SystemClock()
    who = by or getpass.getuser()
    record = signed(entity, venue, category, verdict, who, why, until, clock.now_ns(), regions=regions or [])
    _reach(run).publish([Output(topics.DECISION_JURISDICTION, record.id, record)], clock)
    print(f"{record.id}: {record.verdict}, signed by {record.signed_by}")


def signed(
    entity: str,
    venue: str,
    category: str,
    verdict: str,
    by: str,
    why: str,
    until: str,
    now_ns: int,
    *,
    regions: Sequence[str] = (),
) -> Jurisdiction:
    """Return the record of a sign-off.

    Raises:
        Misconfigured: an unknown venue or verdict, nobody, no reason, a date that is none or past.
    """
    from schemas.decision import Jurisdiction

    if venue not in VENUES:
        raise Misconfigured(f"no venue {venue!r}: one of {', '.join(VENUES)}")
    if verdict not in VERDICTS:
        raise Misconfigured(f"no verdict {verdict!r}: one of {', '.join(VERDICTS)}")
    if regions and verdict == "forbidden":
        raise Misconfigured(
            "forbidden --from: what is forbidden leaves from nowhere; sign what is allowed, and from where"
        )
    said = [
        ("entity", entity),
        ("category", category),
        ("--by", by),
        ("--why", why),
        *(("--from", one) for one in regions),
    ]
    for name, text in said:
        if not text.strip():
            raise Misconfigured(f"{name} is empty: a sign-off says who, what and why")
    expires_ns = 0
    if until:
        try:
            moment = datetime.fromisoformat(until)
        except ValueError as e:
            raise Misconfigured(f"--until {until!r} is no date: write 2027-03-31 or 2027-03-31T12:00") from e
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        expires_ns = int(moment.timestamp()) * 1_000_000_000
        if expires_ns <= now_ns:
            raise Misconfigured(f"--until {until!r} is past")
    return Jurisdiction(
        id=f"{entity}/{venue}/{category}",
        entity=entity,
        venue=venue,
        category=category,
        verdict=VERDICTS[verdict],
        signed_by=by,
        reason=why,
        signed_ts_ns=now_ns,
        expires_ts_ns=expires_ns,
        regions=list(regions),
    )


def _read(reach: Reach) -> list[Jurisdiction]:
    from core.runtime import topics
    from infra.cli.tail import Tail, Wish
    from schemas.decision import Jurisdiction

    newest: dict[str, Jurisdiction] = {}
    for _, _, record in Tail(reach, Wish(topics.DECISION_JURISDICTION, "beginning")).records():
        if isinstance(record, Jurisdiction):
            newest[record.id] = record
    return list(newest.values())


def _reach(run: str) -> Reach:
    from infra.cli.reach import Reach

    return Reach.load(run).require_kafka()


def _day(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M")
