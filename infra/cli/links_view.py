"""How `crossbook links` shows candidates and links."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from decide.links import fault, instruments_of, states_of, table_fault
from infra.links.desk import RULES_SHOWN, directions, source_of
from infra.links.match import Outcomes, Pair
from infra.links.standing import Standing
from infra.links.terms import Terms
from schemas.decision import Link

console = Console()
OUTCOMES_SHOWN = 8
_COLOURS = {"APPROVED": "green", "PROPOSED": "cyan", "SUSPENDED": "red", "REJECTED": "dim", "EXPIRED": "dim"}
_E6 = 1_000_000

__all__ = ["facts", "hashes", "instruments_of", "link_facts", "say", "show_candidates", "show_link", "show_links"]


def say(text: str, *, quiet: bool = False) -> None:
    """Print one line."""
    if not quiet:
        console.print(escape(text), highlight=False, soft_wrap=True)


# --- candidates


def facts(found: Pair | Outcomes) -> dict[str, Any]:
    """Return a candidate as JSON."""
    common = {"link": found.link, "score": found.score, "evidence": list(found.evidence)}
    if isinstance(found, Pair):
        table = [{"state": name, "a_e6": a, "b_e6": b} for name, a, b in found.table]
        return {
            **common,
            "kind": "PAIR",
            "polarity": found.polarity,
            "table": table,
            "titles": [found.a.title, found.b.title],
        }
    return {
        **common,
        "kind": "EVENT",
        "may_exhaust": found.may_exhaust,
        "instruments": [one.instrument for one in found.outcomes],
        "titles": [one.title for one in found.outcomes],
    }


def show_candidates(shown: Sequence[Pair | Outcomes], found: int, standing: Standing) -> None:
    """Print candidates with their reasons."""
    for one in shown:
        line = Text(f"{one.score:>3}  ", style="bold")
        line.append(one.link, style="green")
        if isinstance(one, Pair):
            line.append(f"  {one.polarity}", style="yellow" if one.polarity == "OPPOSITE" else "cyan")
            titles = [one.a, one.b]
        else:
            line.append("  may be exhaustive" if one.may_exhaust else "  not exhaustive", style="cyan")
            titles = list(one.outcomes)
        console.print(line, soft_wrap=True)
        for each in titles[:OUTCOMES_SHOWN]:
            console.print(Text(f"     {each.instrument}: {each.title}"), soft_wrap=True)
        if len(titles) > OUTCOMES_SHOWN:
            console.print(f"     … {len(titles) - OUTCOMES_SHOWN} more")
        for reason in one.evidence:
            console.print(Text(f"     {reason}", style="" if reason.startswith("+") else "red"), soft_wrap=True)
    say(
        f"{len(shown)} of {found} candidates; {len(standing.terms):,} descriptions read, {standing.unreadable} unreadable. "
        "A score is a hint: read both rule texts."
    )


# --- links


def hashes(names: Sequence[str], standing: Standing) -> tuple[str, ...]:
    """Return the hash of each instrument's rule text, as it stands."""
    known = [standing.instruments.get(name) for name in names]
    return tuple(one.rules_hash if one is not None else "" for one in known)


def link_facts(link: Link, standing: Standing) -> dict[str, Any]:
    """Return a link as JSON, with its fault and what each way of trading it guarantees."""
    return {
        **msgspec.to_builtins(link),
        "fault": _fault(link, standing),
        "ways": [
            {"way": words, "guaranteed_e6": floor, "worst_e6": worst}
            for words, _, floor, worst in ([] if table_fault(link) else directions(link))
        ],
    }


def _fault(link: Link, standing: Standing) -> str:
    return fault(link, standing.instruments) if link.status in {"APPROVED", "PROPOSED"} else link.reason


def show_links(links: Sequence[Link], standing: Standing) -> None:
    """Print a line for each link."""
    table = Table(box=None, pad_edge=False)
    for name in ("link", "version", "status", "kind", "polarity", "by", "until", "now"):
        table.add_column(name, overflow="fold")
    for link in links:
        wrong = _fault(link, standing)
        table.add_row(
            escape(link.id),
            str(link.version),
            Text(link.status, style=_COLOURS.get(link.status, "")),
            link.kind,
            "exhaustive" if link.exhaustive else (link.polarity if link.kind == "PAIR" else ""),
            escape(link.approved_by if link.status == "APPROVED" else link.set_by),
            _moment(link.expires_ts_ns) if link.expires_ts_ns else "",
            Text(wrong or "sound", style="red" if wrong and link.status == "APPROVED" else ""),
        )
    console.print(table)
    say(f"{len(links)} links")


def show_link(link: Link, standing: Standing) -> None:
    """Print one link in full."""
    console.print(
        Text.assemble(
            (link.id, "bold green"),
            f"  {link.kind}  version {link.version}  ",
            (link.status, _COLOURS.get(link.status, "")),
        )
    )
    wrong = _fault(link, standing)
    console.print(Text(f"now: {wrong or 'sound'}", style="red" if wrong else "green"), soft_wrap=True)
    if link.approved_by:
        say(f"approved by {link.approved_by} at {_moment(link.approved_ts_ns)}")
    if link.reason:
        say(f"{link.set_by or link.approved_by}: {link.reason}")
    if link.exhaustive:
        say("held to be exhaustive: one of the outcomes must win, or all are void")
    _show_table(link)
    show_rules(link, standing)
    for reason in link.evidence:
        console.print(Text(reason, style="red" if reason.startswith("-") else ""), soft_wrap=True)


def _show_table(link: Link) -> None:
    wrong = table_fault(link)
    if wrong:
        console.print(Text(wrong, style="red"))
        return
    names = instruments_of(link)
    table = Table(box=None, pad_edge=False)
    table.add_column("state")
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for state in states_of(link):
        weak = " (weak)" if state.name in link.weak_states else ""
        table.add_row(f"{escape(state.name)}{weak}", *(_dollars(paid) for paid in state.pays_e6))
    console.print(table)
    for words, _, floor, worst in directions(link):
        say(f"{words}: {_dollars(floor)} a contract of each guaranteed, {_dollars(worst)} at the very least")
    if link.weak_states:
        say(f"weak states cost {_dollars(link.haircut_e6)} a contract; at most {_dollars(link.cap_e6)} may be bound")


def show_rules(link: Link, standing: Standing) -> None:
    """Print what each venue says: title, close, source, and the whole rule text with its hash."""
    approved = link.sources or [""] * len(instruments_of(link))
    for name, source in zip(instruments_of(link), approved, strict=True):
        instrument, read = standing.instruments.get(name), standing.terms.get(name)
        console.print(Text(f"── {name} ", style="bold"))
        if instrument is None:
            console.print(Text("not described in this run", style="red"))
            continue
        title = read.title if read is not None else instrument.title
        closing = _moment(instrument.close_ts_ns) if instrument.close_ts_ns else "not stated"
        say(f"{title}\n{instrument.status}, closes {closing}; decided by {_source(read) or source or 'not named'}")
        say(f"rules {instrument.rules_hash[:RULES_SHOWN] or 'not stated'}:")
        console.print(Text(read.rules if read is not None else "(description not read)", style="dim"), soft_wrap=True)


def _source(read: Terms | None) -> str:
    return source_of(read) if read is not None else ""


def _dollars(e6: int) -> str:
    sign, e6 = ("-", -e6) if e6 < 0 else ("", e6)
    whole, rest = divmod(e6, _E6)
    return f"{sign}${whole}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def _moment(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, tz=UTC):%Y-%m-%d %H:%M} UTC"
