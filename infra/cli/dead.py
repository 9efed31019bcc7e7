"""`crossbook dead list | show | resend | drop`: records nobody could handle, and what is to become of them."""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from core.domain.errors import Misconfigured
from infra.cli.options import Json, Run, Yes

if TYPE_CHECKING:  # what needs a Kafka client is imported when a command runs
    from core.runtime.resent import Letter
    from infra.cli.letters import Found, Wish
    from infra.cli.reach import Reach
    from infra.cli.resend import Tally

EXIT_NOT_ALL = 1

app = typer.Typer(
    help="Look at records that could not be handled; send them back, or drop them. See docs/dead-letters.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Letters = Annotated[list[str] | None, typer.Argument(help="Letters by name, such as normalize/12. None: all that fit.")]
Stage = Annotated[list[str] | None, typer.Option("--stage", "-s", help="Stage that could not handle it; repeatable.")]
Topic = Annotated[str, typer.Option("--topic", "-t", help="Source topic, with or without its run: raw.frame.")]
Error = Annotated[str, typer.Option("--error", "-e", help="Error or its class: MalformedFrame, REJECT.")]
Reason = Annotated[str, typer.Option("--reason", help="Words the reason must contain.")]
Key = Annotated[str, typer.Option("--key", "-k", help="Key: a feed, an instrument, an account. kalshi:KXSIM* matches.")]
Since = Annotated[str, typer.Option("--from", help="Not older than -2h, -1d, or a time (ISO, UTC).")]
Until = Annotated[str, typer.Option("--to", help="Older than that.")]
Offsets = Annotated[str, typer.Option("--offsets", help="Source offsets: 120 or 120-180.")]
State = Annotated[
    str, typer.Option("--state", help="waiting (open or again), open, resent, through, again, dropped or all.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]


@app.command("list")
def list_letters(
    letters: Letters = None,
    run: Run = "",
    stage: Stage = None,
    topic: Topic = "",
    error: Error = "",
    reason: Reason = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    offsets: Offsets = "",
    state: State = "waiting",
    limit: Annotated[int, typer.Option("-n", min=0, help="Show the newest N. 0: all.")] = 50,
    json_: Json = False,
) -> None:
    """List letters with their reasons, and how many there are of each kind."""
    import msgspec

    from infra.cli import dead_view as view
    from infra.cli.letters import facts, find

    reach = _reach(run)
    wish = _wish(reach, letters, stage, topic, error, reason, key, since, until, offsets, state)
    if json_:
        for found in find(reach, wish):
            print(json.dumps(facts(found), ensure_ascii=False))
        return
    kinds: Counter[tuple[str, str, str, str]] = Counter()
    newest: list[Found] = []
    for found in find(reach, wish):
        kinds[found.letter.stage, found.noun, found.dead.error, found.word] += 1
        newest.append(found._replace(dead=msgspec.structs.replace(found.dead, value=b"")))
        if limit and len(newest) > limit:
            newest.pop(0)
    view.show_list(reach, wish, newest, kinds)


@app.command("show")
def show_letters(
    letters: Letters = None,
    run: Run = "",
    stage: Stage = None,
    topic: Topic = "",
    error: Error = "",
    reason: Reason = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    offsets: Offsets = "",
    state: State = "waiting",
    limit: Annotated[int, typer.Option("-n", min=1, help="Of those that are not named, the newest N.")] = 5,
    json_: Json = False,
) -> None:
    """Show letters in full: where the record stood, why it died, what became of the letter, and the record."""
    from infra.cli import dead_view as view
    from infra.cli.letters import facts, find

    reach = _reach(run)
    wish = _wish(reach, letters, stage, topic, error, reason, key, since, until, offsets, state)
    missing = set(wish.letters)
    newest = find(reach, wish)
    for found in newest if letters else deque(newest, maxlen=limit):
        missing.discard(found.letter)
        record = view.record_of(reach, found)
        if json_:
            print(json.dumps({**facts(found), **record}, ensure_ascii=False))
        else:
            view.show_letter(found, record, view.way_text(reach, found))
    if missing:
        raise Misconfigured(f"run {reach.run} has no letter {', '.join(sorted(map(str, missing)))}")


@app.command()
def resend(
    letters: Letters = None,
    run: Run = "",
    stage: Stage = None,
    topic: Topic = "",
    error: Error = "",
    reason: Reason = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    offsets: Offsets = "",
    again: Annotated[
        bool, typer.Option("--again", help="Also what was resent before: sending twice does no harm.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what becomes of them.")] = 15.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Send letters back, then tell how many came through and which are dead again.

    Ends with exit code 1 if not all of those that were sent came through.
    """
    from infra.cli import dead_view as view
    from infra.cli.letters import find
    from infra.cli.resend import Sender, Tally

    reach = _reach(run)
    wish = _wish(reach, letters, stage, topic, error, reason, key, since, until, offsets, "all")
    tally = Tally()
    meant = frozenset(_sendable(reach, wish, tally, again=again))
    if dry_run:
        view.show_plan(reach, wish, meant, tally, as_json=json_)
        return
    if meant:
        _ask(f"Send {len(meant):,} letters of run {reach.run} back?", yes=yes)
        sender = Sender(reach)
        try:
            chosen = replace(wish, letters=meant, stages=tuple(sorted({letter.stage for letter in meant})))
            with view.progress("resending", len(meant), quiet=json_) as bar:
                sender.send(find(reach, chosen), tally, bar.advance)
            with view.progress("waiting for their fate", len(tally.sent), quiet=json_) as bar:
                sender.listen(tally, wait, lambda now: bar.reach(now.through + len(now.again)))
        finally:
            sender.close()
    view.show_tally(tally, as_json=json_)
    if tally.again or tally.silent:
        raise typer.Exit(EXIT_NOT_ALL)


@app.command()
def drop(
    letters: Letters = None,
    run: Run = "",
    stage: Stage = None,
    topic: Topic = "",
    error: Error = "",
    reason: Reason = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    offsets: Offsets = "",
    because: Annotated[str, typer.Option("--because", help="Why, to be kept with them.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Mark letters as done with. They stay on their topic until it expires, and can still be shown and resent."""
    from infra.cli import dead_view as view
    from infra.cli.letters import find
    from infra.cli.resend import Sender

    reach = _reach(run)
    wish = _wish(reach, letters, stage, topic, error, reason, key, since, until, offsets, "all")
    found = [(one.letter, one.word) for one in find(reach, wish)]
    meant = [letter for letter, word in found if word != "dropped"]
    if meant and not dry_run:
        _ask(f"Drop {len(meant):,} letters of run {reach.run}?", yes=yes)
        sender = Sender(reach)
        try:
            with view.progress("dropping", len(meant), quiet=json_) as bar:
                sender.drop(meant, because, bar.advance)
        finally:
            sender.close()
    done = "would drop" if dry_run else "dropped"
    view.show_counts({done: len(meant), "already dropped": len(found) - len(meant)}, as_json=json_)


def _ask(question: str, *, yes: bool) -> None:
    """Return if the answer is yes.

    Raises:
        Misconfigured: there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misconfigured(f"{question} Nobody can be asked here: say --yes, or --dry-run to see what would be done")
    typer.confirm(question, abort=True)


def _reach(run: str) -> Reach:
    from infra.cli.reach import Reach

    return Reach.load(run).require_kafka()


def _wish(
    reach: Reach,
    letters: list[str] | None,
    stage: list[str] | None,
    topic: str,
    error: str,
    reason: str,
    key: str,
    since: str,
    until: str,
    offsets: str,
    state: str,
) -> Wish:
    from infra.cli.letters import wish_of

    return wish_of(
        letters=letters or [],
        stages=stage or [],
        topic=topic,
        error=error,
        reason=reason,
        key=key,
        since=since,
        until=until,
        offsets=offsets,
        state="all" if letters else state,
        run=reach.run,
    )


def _sendable(reach: Reach, wish: Wish, tally: Tally, *, again: bool) -> Iterator[Letter]:
    """Yield the letters that are to go; the others are counted with the reason."""
    from infra.cli.letters import find

    for found in find(reach, wish):
        if found.word in ("resent", "through") and not again:
            tally.skipped["already resent" if found.word == "resent" else "already through"] += 1
        elif found.word == "dropped" and not wish.letters:
            tally.skipped["dropped"] += 1
        else:
            yield found.letter
