"""The live view: a screen where there is a terminal, a plain line every few seconds where there is none."""

import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core.runtime import topics
from infra.cli.reach import Reach
from infra.demo.tap import Figures

LINE_EVERY_S = 5.0
_CONFIGURATION = frozenset(
    topic.noun
    for topic in (
        topics.CONTROL_RUN,
        topics.DECISION_STRATEGY,
        topics.DECISION_LINK,
        topics.DECISION_LIMIT,
        topics.DECISION_PROFILE,
    )
)
"""Written once at the start: the screen shows what moves."""
SCREEN_COLUMNS = 150
STATE_STYLES = {"LIVE": "green", "STALE": "yellow", "SYNCING": "cyan", "SUSPECT": "red"}


@dataclass
class Picture:
    """Everything one look shows."""

    phase: str
    figures: Figures
    rates: dict[str, float] = field(default_factory=dict)
    """records a second by topic"""
    counts: dict[str, int] = field(default_factory=dict)
    lag: dict[str, int] = field(default_factory=dict)
    """records by consumer group"""
    lag_s: dict[str, float] = field(default_factory=dict)


class View:
    """Shows pictures until closed."""

    def __init__(self, reach: Reach, console: Console) -> None:
        self._reach = reach
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_line_s = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, picture: Picture, now_s: float) -> None:
        """Show one look."""
        if self._live is not None:
            self._live.update(screen(picture, self._reach), refresh=True)
        elif now_s - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = now_s
            self.say(line(picture))


def screen(picture: Picture, reach: Reach) -> Group:
    """Return the whole screen."""
    title = Text(f" crossbook demo  {picture.phase} ", style="bold reverse")
    left = Group(_topics(picture), Text(""), _lag(picture))
    right = Group(_hops(picture.figures), Text(""), _books(picture.figures), Text(""), _trading(picture.figures))
    look = Text(
        f"look: http://{reach.questdb_http}   crossbook tail derived.book -f   crossbook tail order.event -f   "
        "crossbook status",
        style="dim",
    )
    return Group(title, Text(""), Columns([left, right], padding=(0, 4)), Text(""), look)


def line(picture: Picture) -> str:
    """Return one line of the same."""
    figures = picture.figures
    sent = sum(counter["sent"] for counter in figures.orders.values())
    filled = sum(counter["filled"] for counter in figures.orders.values())
    states = Counter(figures.states.values())
    frames = picture.rates.get(topics.RAW_FRAME.noun, 0)
    p50, p99 = percentiles(figures.hops_us["socket to order"])
    return (
        f"{picture.phase}: {frames:,.0f} frames/s, books {dict(states)}, edges {figures.edges} "
        f"({len(figures.edges_open)} open), orders {sent} sent {filled} filled, fills {sum(figures.fills.values())}, "
        f"P&L ${figures.profit():,.2f}, socket to order p50 {p50 / 1e3:.1f} ms p99 {p99 / 1e3:.1f} ms, "
        f"lag {sum(picture.lag.values()):,}"
    )


def save(picture: Picture, reach: Reach, path: Path) -> None:
    """Write the screen as an SVG picture."""
    console = Console(record=True, width=SCREEN_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(screen(picture, reach))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The fonts are the reader's own: a picture fetches nothing from elsewhere.
    picture_text = console.export_svg(title="crossbook demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", picture_text, flags=re.DOTALL))


def percentiles(samples: "object") -> tuple[float, float]:
    """Return p50 and p99 of numbers, zeros when there are none."""
    values = sorted(float(value) for value in list(samples))  # type: ignore[call-overload] # any iterable
    if not values:
        return 0.0, 0.0
    return values[len(values) // 2], values[min(len(values) * 99 // 100, len(values) - 1)]


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="right")
    return table


def _topics(picture: Picture) -> Table:
    table = _table("topics", "topic", "records/s", "records")
    for noun, count in picture.counts.items():
        if count and noun not in _CONFIGURATION:
            table.add_row(noun, f"{picture.rates.get(noun, 0):,.0f}", f"{count:,}")
    return table


def _lag(picture: Picture) -> Table:
    table = _table("lag by consumer group", "group", "records", "seconds")
    for group, left in sorted(picture.lag.items()):
        seconds = picture.lag_s.get(group)
        table.add_row(group, f"{left:,}", "" if seconds is None else f"{seconds:.1f}")
    return table


def _hops(figures: Figures) -> Table:
    table = _table("time for each hop, ms", "hop", "p50", "p99")
    for name, samples in figures.hops_us.items():
        p50, p99 = percentiles(samples)
        style = "bold" if name == "socket to order" else ""
        table.add_row(name, f"{p50 / 1e3:.2f}", f"{p99 / 1e3:.2f}", style=style)
    return table


def _books(figures: Figures) -> Text:
    text = Text("books  ", style="bold")
    for state, count in sorted(Counter(figures.states.values()).items()):
        text.append(f"{state} {count}  ", style=STATE_STYLES.get(state, ""))
    text.append(f"edges {figures.edges}, {len(figures.edges_open)} open", style="")
    return text


def _trading(figures: Figures) -> Group:
    table = _table("trading", "account", "sent", "filled", "cancelled", "rejected", "fills", "cash", "fees", "P&L")
    for account in sorted(figures.orders.keys() | figures.cash_e6.keys()):
        counter = figures.orders.get(account, Counter())
        gain = figures.worth(account) - figures.cash_start_e6.get(account, 0) / 1e6
        table.add_row(
            account,
            *(f"{counter[name]:,}" for name in ("sent", "filled", "cancelled", "rejected")),
            f"{figures.fills[account]:,}",
            f"${figures.cash_e6.get(account, 0) / 1e6:,.2f}",
            f"${figures.fees_e6.get(account, 0) / 1e6:,.2f}",
            f"${gain:,.2f}",
        )
    states = Counter(figures.sagas.values())
    told = "  ".join(f"{state} {count}" for state, count in sorted(states.items())) or "none yet"
    return Group(table, Text(f"P&L together ${figures.profit():,.2f}, at mids    sagas  {told}"))
