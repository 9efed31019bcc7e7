"""`chaos.html`: one file, no script, nothing fetched. A picture over time, bars and a table of recovery times."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from infra.chaos.plan import named
from infra.chaos.watch import Look

WIDTH = 1160
LEFT = 150
RIGHT = 20
LANE = 15
STRIP = 74
KINDS = {"fault": "a", "kill": "b", "freeze": "c"}
"""Kind of an act -> its colour."""

STYLE = """
:root { --ink: #1d2329; --dim: #68727d; --rule: #d9dee3; --back: #fff; --a: #b26a00; --b: #b3261e; --c: #2b5fb0;
  --good: #2e7d4f; --wash: #e7f2ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #98a2ad; --rule: #333b43; --back: #14181c;
  --a: #f0a840; --b: #ff7b72; --c: #79a8f5; --good: #5fc48b; --wash: #1d2f26; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 1160px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); } .bad { color: var(--b); } .good { color: var(--good); }
.scroll { overflow-x: auto; } svg { display: block; font: 11px system-ui, sans-serif; }
text { fill: var(--ink); } .t { fill: var(--dim); } .r { stroke: var(--rule); }
.a { fill: var(--a); } .b { fill: var(--b); } .c { fill: var(--c); }
.area { fill: var(--wash); stroke: var(--good); stroke-width: 1; } .lag { fill: none; stroke: var(--c); }
.p50 { fill: var(--c); } .p99 { fill: var(--c); opacity: .35; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem .9rem .15rem 0; text-align: right; border-bottom: 1px solid var(--rule); font-weight: 400; }
td:first-child, th:first-child { text-align: left; } th { color: var(--dim); }
"""


def page_of(report: Mapping[str, Any], looks: Sequence[Look], begin_s: float) -> str:
    """Return the page of a report.

    Args:
        report: as in `chaos.json`.
        looks: what the watch saw, few enough to draw.
        begin_s: where time 0 of the picture is.
    """
    parts = [
        f"<title>Crossbook chaos, {_seeds(report)}</title><style>{STYLE}</style>",
        _head(report),
        "<h2>What was done, and what was felt</h2>",
        f'<div class="scroll">{_timeline(report, looks, begin_s)}</div>',
        "<h2>Time until recovered, by class</h2>",
        f'<div class="scroll">{_bars(report["recovery_s"])}</div>',
        _table(report["recovery_s"]),
    ]
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{"".join(parts)}</html>\n'


def _seeds(report: Mapping[str, Any]) -> str:
    return named([report["seed"], *report["then"]])


def _head(report: Mapping[str, Any]) -> str:
    differences, errors = report["truth_differences"], report["conservation_errors"]
    bad_orders = report["orders_on_bad_books"]
    verdict = '<span class="good">all good</span>' if report["good"] else '<span class="bad">not good</span>'
    detail = report["detail"]
    lines = [
        f"<h1>Chaos, {_seeds(report)}: {verdict}</h1>",
        (
            f'<p class="dim">run {escape(report["run"])}, {report["brokers"]} broker(s), {report["seconds"]} s: '
            f"{report['faults']} faults, {report['kills']} kills, {report['freezes']} freezes. "
            f"Books were usable {detail['usable_share']:.1%} of the time.</p>"
        ),
        (
            f"<p>Truth: {report['truth_checked']:,} records marked LIVE compared with the venues' books, "
            f"<b>{differences}</b> differences, {_unknowable(report)}<br>"
            f"Conservation: {detail['rows']:,} rows, {detail['fills']} fills asked for, <b>{errors}</b> errors.<br>"
            f"Trust: {detail['trust']['orders']} orders, <b>{bad_orders}</b> on a book that was not usable; "
            f"{detail['unknown_outcomes']} had an unknown outcome for a time.</p>"
        ),
    ]
    lines += [f'<p class="bad">{escape(problem)}</p>' for problem in report["problems"]]
    if "trading_resumes_s" in report:
        resumes = report["trading_resumes_s"]
        lines.append(
            f"<p>After a broker died trading went on in p50 {resumes['p50']} s, at most {resumes['max']} s.</p>"
        )
    return "".join(lines)


def _unknowable(report: Mapping[str, Any]) -> str:
    """Return what is said of the differences that no reader could know of, by fault."""
    by_fault = report["truth_unknowable"]
    told = f" ({', '.join(f'{escape(fault)} {count}' for fault, count in by_fault.items())})" if by_fault else ""
    share, most = report["truth_unknowable_share"], report["truth_unknowable_share_max"]
    colour = "bad" if share > most else "dim"
    return (
        f"{sum(by_fault.values())} that no reader could know of{told}: "
        f'<span class="{colour}">{share:.3%}, at most {most:.3%} with one hash in {report["hash_every"]} looked at</span>.'
    )


def _timeline(report: Mapping[str, Any], looks: Sequence[Look], begin_s: float) -> str:
    seconds = max(float(report["seconds"]), 1.0)

    def x(at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(at_s / seconds, 0.0), 1.0)

    events = report["detail"]["events"]
    labels = sorted({event["label"] for event in events}, key=lambda label: (_kind_of(events, label), label))
    shapes: list[str] = []
    y = 14.0
    for label in labels:
        shapes.append(f'<text x="{LEFT - 8}" y="{y + 9}" text-anchor="end">{escape(label)}</text>')
        shapes.append(f'<line class="r" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + 12}" y2="{y + 12}"/>')
        shapes += [_mark(event, x, y) for event in events if event["label"] == label]
        y += LANE
    y += 14
    shapes.append(_strip("books usable", y, lambda look: look.usable / max(look.known, 1), looks, begin_s, x, "share"))
    y += STRIP
    for name in sorted({name for look in looks for name in look.lag_s}):
        if max(look.lag_s.get(name, 0.0) for look in looks) >= 0.5:
            shapes.append(_strip(name, y, lambda look, n=name: look.lag_s.get(n), looks, begin_s, x, "lag"))  # type: ignore[misc]
            y += STRIP
    shapes += _axis(seconds, x, y)
    return f'<svg width="{WIDTH}" height="{y + 24:.0f}" role="img" aria-label="timeline">{"".join(shapes)}</svg>'


def _kind_of(events: Sequence[Mapping[str, Any]], label: str) -> int:
    kind = next(event["kind"] for event in events if event["label"] == label)
    return list(KINDS).index(kind)


def _mark(event: Mapping[str, Any], x: Callable[[float], float], y: float) -> str:
    begin = x(event["at_s"])
    until = event["at_s"] + (event["recovery_s"] or 0.0)
    felt = "not felt" if event["recovery_s"] is None else f"felt for {event['recovery_s']:.2f} s"
    title = escape(f"{event['at_s']:.1f} s {event['label']} {event['target']}: {event['problem'] or felt}")
    width = max(x(until) - begin, 0.0)
    colour = KINDS[event["kind"]]
    return (
        f'<g><title>{title}</title><rect class="{colour}" opacity=".3" x="{begin:.1f}" y="{y + 3:.1f}" '
        f'width="{width:.1f}" height="7"/><circle class="{colour}" cx="{begin:.1f}" cy="{y + 6.5:.1f}" r="3.5"/></g>'
    )


def _strip(
    name: str,
    y: float,
    value: Callable[[Look], float | None],
    looks: Sequence[Look],
    begin_s: float,
    x: Callable[[float], float],
    kind: str,
) -> str:
    """Return one curve over time: a share from 0 to 1, or a lag in seconds up to its largest."""
    found = [(x(look.at_s - begin_s), value(look)) for look in looks if look.at_s >= begin_s]
    top = 1.0 if kind == "share" else max([point for _, point in found if point is not None] or [1.0]) or 1.0
    height = STRIP - 22
    base = y + height
    points = [(at, base - height * min(point / top, 1.0)) for at, point in found if point is not None]
    path = " ".join(f"{at:.1f},{level:.1f}" for at, level in points)
    unit = "100 %" if kind == "share" else f"{top:.1f} s"
    if points and kind == "share":
        shape = f'<polygon class="area" points="{points[0][0]:.1f},{base} {path} {points[-1][0]:.1f},{base}"/>'
    else:
        shape = f'<polyline class="lag" points="{path}"/>'
    title = name if kind == "share" else f"lag {name}"
    return (
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">{escape(title)}</text>'
        f'<text class="t" x="{LEFT - 8}" y="{y + 8}" text-anchor="end">{unit}</text>'
        f'<line class="r" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>{shape}'
    )


def _axis(seconds: float, x: Callable[[float], float], y: float) -> list[str]:
    step = next((step for step in (5, 10, 20, 30, 60, 120, 300, 600) if seconds / step <= 12), 1_200)
    return [
        f'<text class="t" x="{x(at):.1f}" y="{y + 8}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(seconds) + 1, step)
    ]


def _bars(recovery: Mapping[str, Mapping[str, float]]) -> str:
    felt = {label: found for label, found in recovery.items() if found["n"]}
    if not felt:
        return '<p class="dim">nothing was felt</p>'
    longest = max(found["p99"] for found in felt.values()) or 1.0
    # A root keeps tenths of a second visible beside half a minute.
    scale = (WIDTH - LEFT - 120) / math.sqrt(longest)
    shapes = []
    y = 4.0
    for label, found in sorted(felt.items(), key=lambda item: item[1]["p99"]):
        shapes.append(
            f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end">{escape(label)}</text>'
            f'<rect class="p99" x="{LEFT}" y="{y}" width="{scale * math.sqrt(found["p99"]):.1f}" height="11"/>'
            f'<rect class="p50" x="{LEFT}" y="{y}" width="{scale * math.sqrt(found["p50"]):.1f}" height="11"/>'
            f'<text class="t" x="{LEFT + 6 + scale * math.sqrt(found["p99"]):.1f}" y="{y + 10}">'
            f"{found['p50']} s, p99 {found['p99']} s</text>"
        )
        y += 17
    return f'<svg width="{WIDTH}" height="{y + 4:.0f}" role="img" aria-label="recovery">{"".join(shapes)}</svg>'


def _table(recovery: Mapping[str, Mapping[str, float]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td>{found['n']}</td><td>{found['unnoticed']}</td>"
        + "".join(f"<td>{found.get(name, '')}</td>" for name in ("p50", "p99", "max"))
        + "</tr>"
        for label, found in recovery.items()
    )
    return (
        '<h2>The same in figures</h2><div class="scroll"><table><tr><th>class</th><th>felt</th><th>not felt</th>'
        f"<th>p50 s</th><th>p99 s</th><th>max s</th></tr>{rows}</table></div>"
    )
