"""Socket to order request: the demo's own stack, every stage a process, against the simulated venues at two rates.

Measured from the receive time of the frame whose quote triggered an order to the moment its bytes are written. What lies
between is on the records: each stage puts its timestamp on the trail, so a hop is the difference of two of them. Seven
Kafka hops: raw.frame, market.event, derived.book, decision.input, decision.account, decision.order, order.event.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console

from benchmarks.measure import Effort, Figure
from core.domain.errors import Unavailable
from core.runtime import topics
from core.runtime.admin import delete_run
from infra.cli.reach import Reach
from infra.demo import scan
from infra.demo.options import Options
from infra.demo.stage import Demo
from infra.stack.settings import PROJECT
from schemas.decision import Grant
from schemas.order import Submitting, VenueCall

RUN = "bench-path"
AIMS_MS = {1_000: (5.0, 20.0)}
"""p50 and p99."""
EDGES_PER_S = 5.0
"""More than the demo's one, so that a percentile stands on more orders."""
WARMUP_S = 8.0
HOPS = ("ingest", "normalize", "derive", "strategies", "accounts", "gateway", "bytes leave")
"""ingest: read and numbered. strategies: sequenced into decision.input, read back, decided. gateway: checked and signed.
bytes leave: Submitting acknowledged and read back, then written."""
FOLDER = PROJECT / "build" / "bench"


@dataclass(frozen=True)
class Passage:
    """One order's way, in ns since the epoch: received, then one time for each hop; the last is the write."""

    times_ns: tuple[int, ...]

    @property
    def total_ms(self) -> float:
        """Socket to order request."""
        return (self.times_ns[-1] - self.times_ns[0]) / 1e6

    def hops_ms(self) -> list[float]:
        """Return what each hop took."""
        return [(later - earlier) / 1e6 for earlier, later in pairwise(self.times_ns)]


def run(effort: Effort) -> list[Figure]:
    """Measure each rate.

    Raises:
        Unavailable: the dev stack is not up, or no order was sent.
    """
    Reach.load(RUN).require_kafka()
    return [figure for rate in effort.path_rates_per_s for figure in at_rate(rate, effort)]


def at_rate(rate_per_s: int, effort: Effort) -> list[Figure]:
    """Run the demo and return its latencies."""
    reach = Reach.load(f"{RUN}-{rate_per_s}")
    report_file = FOLDER / f"{reach.run}.json"
    options = Options(
        seconds=effort.path_s,
        warmup_s=min(WARMUP_S, effort.path_s),
        markets=effort.markets,
        rate_per_s=rate_per_s,
        edges_per_s=EDGES_PER_S,
        report=report_file,
        folder=FOLDER / "sim",
    )
    report_file.unlink(missing_ok=True)
    said = io.StringIO()
    try:
        code = Demo(reach, options, Console(file=said, width=120)).run()
        if not report_file.exists():
            raise KeyboardInterrupt if code == 130 else Unavailable(f"the demo ended early: {said.getvalue()[-500:]}")
        report = json.loads(report_file.read_text(encoding="utf-8"))
        return measured(reach, rate_per_s, report)
    finally:
        delete_run(reach.bootstrap, reach.run)


def measured(reach: Reach, rate_per_s: int, report: Mapping[str, Any]) -> list[Figure]:
    """Return the latencies of a demo that has ended, whose report is `report`.

    Raises:
        Unavailable: it sent no order.
    """
    passages = passages_of(reach, report["seconds"])
    if not passages:
        raise Unavailable(f"no order of {reach.run} was sent at {rate_per_s} messages/s: {report['orders']}")
    # An order that is late is not sent: half a second is the longest way there can be.
    late = sum(counts["expired_unsent"] for counts in report["orders"].values())
    note = (
        f"{len(passages)} orders, {late} too late to send, {report['rate_per_s']:,.0f} frames/s, "
        f"lost {report['lost']}, duplicated {report['duplicated']}"
    )
    return figures_of(rate_per_s, passages, note)


def passages_of(reach: Reach, seconds: float) -> list[Passage]:
    """Return the ways of the first legs, without those of the warm-up."""
    grants: dict[str, Grant] = {}
    submitted: dict[str, Submitting] = {}
    sent_ns: dict[str, int] = {}
    for found in scan.records(reach, [topics.DECISION_ORDER, topics.ORDER_EVENT, topics.ORDER_FRAME]):
        record = found.record
        if isinstance(record, Grant) and record.purpose == "ENTRY":
            grants.setdefault(record.id, record)
        elif isinstance(record, Submitting):
            submitted.setdefault(record.order, record)
        elif isinstance(record, VenueCall) and record.order and record.method == "POST":
            sent_ns[record.order] = min(sent_ns.get(record.order, record.sent_ts_ns), record.sent_ts_ns)
    last_ns = max(sent_ns.values(), default=0)
    passages = []
    for order, grant in grants.items():
        if order not in submitted or order not in sent_ns or last_ns - sent_ns[order] > seconds * 1e9:
            continue
        times = (grant.recv_ts_ns, *submitted[order].trail, sent_ns[order])
        if len(times) == len(HOPS) + 1:
            passages.append(Passage(times))
    return passages


def figures_of(rate_per_s: int, passages: list[Passage], note: str) -> list[Figure]:
    """Return the percentiles of the whole way and of each hop."""
    totals = [passage.total_ms for passage in passages]
    aims = AIMS_MS.get(rate_per_s, (None, None))
    at = f"{rate_per_s:,}/s"
    figures = [
        Figure(f"{at} socket to order, p50", quantile(totals, 0.5), "ms", aims[0], note=note),
        Figure(f"{at} socket to order, p99", quantile(totals, 0.99), "ms", aims[1]),
    ]
    for name, hop in zip(HOPS, zip(*(passage.hops_ms() for passage in passages), strict=True), strict=True):
        p50, p99 = quantile(hop, 0.5), quantile(hop, 0.99)
        figures.append(Figure(f"{at}   of it {name}, p50", p50, "ms", note=f"p99 {p99:.2f} ms"))
    return figures


def quantile(values: list[float] | tuple[float, ...], part: float) -> float:
    """Return the value below which `part` of all lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
