"""How dead letters are shown: tables, one letter in full, what would be done, what became of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from core.domain.errors import Reject
from core.runtime.resent import Letter
from infra.cli.letters import Found, Wish, find
from infra.cli.reach import Reach
from infra.cli.resend import Tally, way_of
from schemas.raw import Frame

SHOWN_MAX = 4_000
"""Characters of a record that are shown; --json shows all."""

console = Console()


def show_plan(reach: Reach, wish: Wish, meant: frozenset[Letter], tally: Tally, *, as_json: bool) -> None:
    """Print which way each letter would go, and why others would not."""
    ways: Counter[str] = Counter()
    for found in find(reach, wish):
        if found.letter in meant:
            ways[way_text(reach, found)] += 1
    if as_json:
        print(json.dumps({"would": dict(ways), "skipped": dict(tally.skipped)}, ensure_ascii=False))
        return
    table = Table(title=f"would be done with {len(meant):,} letters", title_justify="left", box=None, pad_edge=False)
    table.add_column("letters", justify="right")
    table.add_column("way", overflow="fold")
    for way, count in ways.most_common():
        table.add_row(f"{count:,}", escape(way))
    for why, count in tally.skipped.most_common():
        table.add_row(f"{count:,}", f"skipped: {why}")
    console.print(table)


def show_tally(tally: Tally, *, as_json: bool) -> None:
    """Print what became of the letters that were sent."""
    counts = {
        "resent": len(tally.sent),
        "came through": tally.through,
        "records they became": tally.records,
        "dead again": len(tally.again),
        "no word yet": tally.silent,
        "skipped": tally.skipped.total(),
        "refused": tally.refused.total(),
    }
    if as_json:
        why = {"skipped_why": dict(tally.skipped), "refused_why": dict(tally.refused), "again_why": tally.again}
        print(json.dumps({**counts, **why}, ensure_ascii=False))
        return
    show_counts(counts, as_json=False)
    for title, reasons in (("skipped", tally.skipped), ("refused", tally.refused)):
        for why_not, count in reasons.most_common():
            console.print(f"{title} {count:,}: {escape(why_not)}", highlight=False)
    for letter, why_again in list(tally.again.items())[:10]:
        console.print(f"[red]{letter}[/] dead again: {escape(why_again)}", highlight=False)
    if tally.silent:
        console.print("no word yet: is the stage running (`crossbook status`)? `crossbook dead list --state resent`")


def show_counts(counts: dict[str, int], *, as_json: bool) -> None:
    """Print counts on one line."""
    if as_json:
        print(json.dumps(counts))
        return
    console.print("  ".join(f"{name} {count:,}" for name, count in counts.items()), highlight=False)


class Bar:
    """One progress bar on standard error."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        """Move on."""
        self._progress.advance(self._task, count)

    def reach(self, count: int) -> None:
        """Be at `count`."""
        self._progress.update(self._task, completed=count)


@contextmanager
def progress(title: str, total: int, *, quiet: bool) -> Iterator[Bar]:
    """Show a bar while the block runs."""
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as shown:
        yield Bar(shown, shown.add_task(title, total=total))


def show_list(reach: Reach, wish: Wish, newest: list[Found], kinds: Counter[tuple[str, str, str, str]]) -> None:
    """Print the newest letters and how many there are of each kind (stage, source, error, state)."""
    if not kinds:
        console.print(f"no dead letters of run {reach.run} fit ({asked(wish)})", highlight=False)
        return
    console.print(letter_table(newest))
    console.print(kind_table(kinds))
    total = kinds.total()
    more = f", the newest {len(newest)} shown (-n 0 shows all)" if total > len(newest) else ""
    console.print(f"{total:,} letters{more}; next: `crossbook dead show LETTER`", highlight=False)


def letter_table(newest: list[Found]) -> Table:
    """Return a row for each letter."""
    table = Table(title="dead letters", title_justify="left", box=None, pad_edge=False)
    for column in ("letter", "state", "time (UTC)", "source", "key"):
        table.add_column(column, no_wrap=column != "key", overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for found in newest:
        dead = found.dead
        when = datetime.fromtimestamp(dead.ts_ns / 1e9, tz=UTC)
        table.add_row(
            str(found.letter),
            found.word,
            f"{when:%m-%d %H:%M:%S}",
            f"{found.noun} {dead.source_partition}@{dead.source_offset}",
            escape(found.key),
            escape(f"{dead.error}: {dead.reason}"),
        )
    return table


def kind_table(kinds: Counter[tuple[str, str, str, str]]) -> Table:
    """Return how many letters there are of each kind."""
    table = Table(title="by kind", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "source", "error", "state"):
        table.add_column(column)
    table.add_column("letters", justify="right")
    for (stage, noun, error, word), count in kinds.most_common():
        table.add_row(stage, noun, error, word, f"{count:,}")
    return table


def show_letter(found: Found, record: dict[str, Any], way: str) -> None:
    """Print one letter in full."""
    dead, state = found.dead, found.state
    when = datetime.fromtimestamp(dead.ts_ns / 1e9, tz=UTC)
    said = f"{found.word}{f' ({state.reason})' if state and state.reason else ''}"
    lines = {
        "stood on": f"{dead.source_topic} [{dead.source_partition}] offset {dead.source_offset}, key {found.key!r}",
        "died": f"{when:%Y-%m-%d %H:%M:%S} UTC, {dead.error} ({dead.error_class}): {dead.reason}",
        "state": said,
        "resend": way,
        "bytes": f"{len(dead.value):,}",
    }
    console.print(f"[bold]{found.letter}[/]", highlight=False)
    for name, text in lines.items():
        console.print(f"  {name:9} {escape(text)}", highlight=False, soft_wrap=True)
    for name, value in record.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        cut = f"\n  … ({len(text):,} characters; --json shows all)" if len(text) > SHOWN_MAX else ""
        console.print(f"  {name:9} {escape(text[:SHOWN_MAX])}{cut}", highlight=False, soft_wrap=True)


def record_of(reach: Reach, found: Found) -> dict[str, Any]:
    """Return the record in words: its type and fields, or its bytes and why they cannot be read."""
    value = found.dead.value
    try:
        record = reach.codec.decode(value)
    except Reject as e:
        return {"unreadable": f"{type(e).__name__}: {e}", "hex": value.hex()}
    fields = msgspec.to_builtins(record, builtin_types=(bytes,))
    payload = {"payload": _text(fields.pop("payload"))} if isinstance(record, Frame) else {}
    return {"type": type(record).__name__, "record": json.loads(json.dumps(fields, default=_text)), **payload}


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def asked(wish: Wish) -> str:
    """Return in words what was asked for."""
    words = sorted(wish.states)
    return f"states {', '.join(words)}; stages {', '.join(wish.stages)}"


def way_text(reach: Reach, found: Found) -> str:
    """Return in words which way a letter would go."""
    way = way_of(reach, found)
    return {"source": "back to its source topic", "sinks": "to the sinks alone"}.get(way, f"cannot be resent: {way}")
