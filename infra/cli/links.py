"""`crossbook links suggest | show | approve | reject | expire`: which instruments pay by one event, as a human says."""

from __future__ import annotations

import getpass
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.domain.errors import Misconfigured
from infra.cli.options import By, Json, Run, Yes

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from core.runtime.clock import Clock
    from infra.cli.reach import Reach
    from infra.links.match import Outcomes, Pair
    from infra.links.standing import Standing
    from schemas.decision import Link

app = typer.Typer(
    help="Propose, read and approve links between instruments. See docs/links.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="The link's id, as `suggest` and `show` print it.")]
FOREVER = "never"


@app.command()
def suggest(
    run: Run = "",
    venues: Annotated[
        str, typer.Option("--venues", help="The two venues of pairs; the order names a and b.")
    ] = "kalshi,polymarket",
    events: Annotated[bool, typer.Option("--events", help="Events of one venue in place of pairs of two.")] = False,
    score_min: Annotated[int, typer.Option("--min-score", min=0, max=100, help="Of 100.")] = 60,
    limit: Annotated[int, typer.Option("-n", min=0, help="The best N. 0: all.")] = 20,
    again: Annotated[bool, typer.Option("--again", help="Also what is linked, proposed or rejected already.")] = False,
    propose: Annotated[bool, typer.Option("--propose", help="Write them down as PROPOSED.")] = False,
    by: By = "",
    json_: Json = False,
) -> None:
    """Compare the catalogues and list candidates with reasons for (+) and against (-). Nothing is traded by it."""
    from core.runtime.clock import SystemClock
    from infra.cli import links_view as view
    from infra.links import desk
    from infra.links.standing import publish, read_links, read_terms

    reach, clock = _reach(run), SystemClock()
    standing = read_links(reach)
    read_terms(reach, standing)
    found: list[Pair | Outcomes] = [*_events(standing, venues)] if events else [*_pairs(standing, venues, score_min)]
    found = [one for one in found if one.score >= score_min and (again or one.link not in standing.links)]
    shown = found[: limit or None]
    if json_:
        for one in shown:
            print(json.dumps(view.facts(one), ensure_ascii=False))
    else:
        view.show_candidates(shown, len(found), standing)
    if propose:
        now_ns = clock.now_ns()
        made = [desk.propose(one, standing.instruments, by=_who(by), now_ns=now_ns) for one in shown]
        made = [_above(link, standing) for link in made]
        publish(reach, clock, made)
        view.say(f"proposed: {len(made)}; next: `crossbook links show <id>`", quiet=json_)


@app.command()
def show(
    link: Annotated[str, typer.Argument(help="One link in full. None: all of them.")] = "",
    run: Run = "",
    status: Annotated[str, typer.Option("--status", "-s", help="Only these, by comma: PROPOSED, APPROVED, …")] = "",
    json_: Json = False,
) -> None:
    """List links with what is wrong with them now; or show one: table, what each way guarantees, rule texts, reasons."""
    from infra.cli import links_view as view
    from infra.links.standing import read_links, read_terms

    reach = _reach(run)
    standing = read_links(reach)
    if not link:
        wanted = {word.strip().upper() for word in status.split(",") if word.strip()}
        found = [one for _, one in sorted(standing.links.items()) if not wanted or one.status in wanted]
        if json_:
            for one in found:
                print(json.dumps(view.link_facts(one, standing), ensure_ascii=False))
        else:
            view.show_links(found, standing)
        return
    one = _link(standing, link)
    if json_:
        print(json.dumps(view.link_facts(one, standing), ensure_ascii=False))
        return
    read_terms(reach, standing, view.instruments_of(one))
    view.show_link(one, standing)


@app.command()
def approve(
    link: Name,
    why: Annotated[str, typer.Option("--why", help="What was read and compared.")],
    run: Run = "",
    by: By = "",
    rules: Annotated[
        str, typer.Option("--rules", help="By comma: the hash of each rule text you read, or its first 8 characters.")
    ] = "",
    polarity: Annotated[str, typer.Option("--polarity", help="SAME or OPPOSITE, if it was proposed wrong.")] = "",
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="name=1,0.5: dollars one YES of each pays in that state; repeatable."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A state that cannot happen; repeatable.")] = None,
    weak: Annotated[
        list[str] | None, typer.Option("--weak", help="A state that may pay too little; needs --haircut and --cap.")
    ] = None,
    haircut: Annotated[str, typer.Option("--haircut", help="Dollars of a contract for the weak states.")] = "",
    cap: Annotated[str, typer.Option("--cap", help="Dollars the link may bind.")] = "",
    exhaustive: Annotated[
        bool | None, typer.Option("--exhaustive/--not-exhaustive", help="Of an event: one of its outcomes must win.")
    ] = None,
    expires: Annotated[str, typer.Option("--expires", help="A time (ISO, UTC) at which it ends, or never.")] = "",
    yes: Yes = False,
) -> None:
    """Approve a link: shows both rule texts and the payout table, and asks. With --yes, --rules says what was read."""
    from core.runtime.clock import SystemClock
    from infra.cli import links_view as view
    from infra.links import desk
    from infra.links.standing import read_links, read_terms

    reach, clock = _reach(run), SystemClock()
    standing = read_links(reach)
    one = _link(standing, link)
    names = view.instruments_of(one)
    read_terms(reach, standing, names)
    if yes and not rules:
        view.show_rules(one, standing)
        raise Misconfigured("--yes needs --rules: what you read, by the hashes above")
    seen = tuple(rules.split(",")) if rules else view.hashes(names, standing)
    made = desk.approve(
        one,
        standing.instruments,
        desk.Approval(
            by=_who(by),
            why=why,
            now_ns=clock.now_ns(),
            rules=seen,
            sources=tuple(desk.source_of(standing.terms[name]) if name in standing.terms else "" for name in names),
            polarity=_polarity(polarity),
            states=tuple(state or ()),
            drop=tuple(drop or ()),
            weak=tuple(weak or ()),
            haircut_e6=desk.money_e6(haircut, "--haircut") if haircut else 0,
            cap_e6=desk.money_e6(cap, "--cap") if cap else 0,
            exhaustive=exhaustive,
            expires_ts_ns=_expiry(expires),
        ),
    )
    if not yes:
        view.show_link(made, standing)
        _ask(f"Approve {made.id} on these rules and this table, as {made.approved_by}?")
    _publish_checked(reach, clock, made)
    view.say(f"{made.id} is approved, version {made.version}")


@app.command()
def reject(
    link: Name,
    why: Annotated[str, typer.Option("--why", help="What differs; kept, so that it is not proposed again.")],
    run: Run = "",
    by: By = "",
) -> None:
    """Reject a candidate: it is not suggested again."""
    from core.runtime.clock import SystemClock
    from infra.cli import links_view as view
    from infra.links import desk
    from infra.links.standing import publish, read_links

    reach, clock = _reach(run), SystemClock()
    one = _link(read_links(reach), link)
    made = desk.close(one, "REJECTED", by=_who(by), why=why, now_ns=clock.now_ns())
    publish(reach, clock, [made])
    view.say(f"{made.id} is rejected, version {made.version}")


@app.command()
def expire(
    link: Name,
    why: Annotated[str, typer.Option("--why", help="Why it ends.")],
    run: Run = "",
    at: Annotated[str, typer.Option("--at", help="A time (ISO, UTC). None: now, and its edges end with it.")] = "",
    by: By = "",
) -> None:
    """End a link now, or at a time. What is held stays held; sagas under way are finished."""
    from core.runtime.clock import SystemClock
    from infra.cli import links_view as view
    from infra.links import desk
    from infra.links.standing import publish, read_links

    reach, clock = _reach(run), SystemClock()
    one = _link(read_links(reach), link)
    now_ns = clock.now_ns()
    if at:
        made = desk.expire_later(one, _moment_ns(at, "--at"), by=_who(by), why=why, now_ns=now_ns)
    else:
        made = desk.close(one, "EXPIRED", by=_who(by), why=why, now_ns=now_ns)
    publish(reach, clock, [made])
    view.say(f"{made.id} {f'ends at {at}' if at else 'has ended'}, version {made.version}")


# --- what the commands share


def _pairs(standing: Standing, venues: str, score_min: int) -> list[Pair]:
    from infra.links import match

    a, b = _two(venues)
    sides = [[one for _, one in sorted(standing.terms.items()) if one.venue == venue] for venue in (a, b)]
    return match.pairs(*sides, score_min=score_min)


def _events(standing: Standing, venues: str) -> list[Outcomes]:
    from infra.links import match

    found: list[Outcomes] = []
    for venue in venues.split(","):
        known = {one: standing.instruments[one] for one, read in standing.terms.items() if read.venue == venue.strip()}
        found += match.events(
            [standing.terms[one] for one in sorted(known)],
            exclusive={one: instrument.exclusive for one, instrument in known.items()},
            grows={one: instrument.grows for one, instrument in known.items()},
        )
    return sorted(found, key=lambda one: (-one.score, one.link))


def _two(venues: str) -> tuple[str, str]:
    from venues import VENUES

    named = [venue.strip() for venue in venues.split(",")]
    if len(named) != 2 or not set(named) <= set(VENUES):
        raise Misconfigured(f"--venues {venues!r}: expected two of {', '.join(VENUES)}")
    return named[0], named[1]


def _above(link: Link, standing: Standing) -> Link:
    """Return a proposal as the next version of what is known of it; what is approved is never proposed over."""
    import msgspec

    known = standing.links.get(link.id)
    if known is None:
        return link
    if known.status == "APPROVED":
        raise Misconfigured(f"link {link.id} is approved: `crossbook links expire` ends it first")
    return msgspec.structs.replace(link, version=known.version + 1)


def _link(standing: Standing, name: str) -> Link:
    found = standing.links.get(name)
    if found is None:
        import difflib

        near = difflib.get_close_matches(name, standing.links, n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?" if near else "`crossbook links suggest --propose` writes candidates down"
        )
        raise Misconfigured(f"no link {name!r}: {hint}")
    return found


def _publish_checked(reach: Reach, clock: Clock, made: Link) -> None:
    """Publish an approval unless somebody else decided on the link meanwhile.

    Raises:
        Misconfigured: its newest version is not the one that was shown.
    """
    from infra.links import standing as stands

    now = stands.read_links(reach).links.get(made.id)
    if now is not None and now.version >= made.version:
        raise Misconfigured(
            f"link {made.id}: {now.set_by or now.approved_by} made it {now.status} meanwhile: look again"
        )
    stands.publish(reach, clock, [made])


def _polarity(text: str) -> Literal["UNKNOWN", "SAME", "OPPOSITE"]:
    match text.upper():
        case "":
            return "UNKNOWN"
        case "SAME":
            return "SAME"
        case "OPPOSITE":
            return "OPPOSITE"
        case _:
            raise Misconfigured(f"--polarity {text!r}: SAME if YES of a is YES of b, else OPPOSITE")


def _expiry(text: str) -> int | None:
    if not text:
        return None
    return 0 if text == FOREVER else _moment_ns(text, "--expires")


def _moment_ns(text: str, what: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as e:
        raise Misconfigured(f"{what} {text!r}: use a time such as 2026-11-20T14:30:00") from e
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def _who(by: str) -> str:
    return by.strip() or getpass.getuser()


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise Misconfigured(f"{question} Nobody can be asked here: say --yes and --rules")
    typer.confirm(question, abort=True)


def _reach(run: str) -> Reach:
    from infra.cli.reach import Reach

    return Reach.load(run).require_kafka()
