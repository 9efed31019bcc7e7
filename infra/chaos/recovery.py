"""How long each act was felt, by class.

Acts that books feel (faults of the stream, ingest, normalize, derive, Kafka): from the act until every book that it made
unusable is usable again for a reader of `derived.book`. A book belongs to an act when it became unusable between the act
and `NOTICE_S` after its end, and it is of the market, the connection or the venue that was struck. The time a fault lasts, or a process is frozen, is in it.

Acts that only a stage feels (decide, execute, observe, catalogues, the registry, QuestDB): from the act until all of the
stage's processes answer again, none of them the killed one, and none is more than a second behind. QuestDB is felt by
observe.

An act that was not felt (a kill that another process bridged within the freshness of a tick, a duplicate) counts as
`unnoticed` and not among the times.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from infra.chaos.hands import Done
from infra.chaos.plan import stage_of
from infra.chaos.watch import LAG_S_MAX, Look
from simulate.faults import MARKET_NAMES

NOTICE_S = 5.0
"""How long an act may take to show: a dead member is noticed after 3 s, stopped ticks after 1 s."""
JOIN_S = 1.0
"""A book that was usable for less than this between two spans was not well."""
BOOK_STAGES = frozenset({"ingest", "normalize", "derive", "kafka"})
FELT_BY = {"questdb": "observe"}
Spans = Mapping[str, Sequence[tuple[float, float]]]


def by_class(done: Sequence[Done]) -> dict[str, dict[str, float]]:
    """Return p50, p99, max, n, unnoticed by class of act, from what each felt."""
    times: dict[str, list[float | None]] = {}
    for one in done:
        if not one.problem:
            times.setdefault(one.act.label, []).append(one.felt_s)
    return {label: _summary(found) for label, found in sorted(times.items())}


def felt_s(done: Done, spans: Spans, looks: Sequence[Look], counts: Mapping[str, int]) -> float | None:
    """Return how long one act was felt, None if it was not.

    Args:
        spans: for each instrument when it was not usable.
        counts: how many processes each worker has.
    """
    act = done.act
    if act.kind == "fault" or stage_of(act.target) in BOOK_STAGES:
        return books_s(done, spans)
    name = FELT_BY.get(act.target, act.target)
    return stage_s(done, looks, name, counts.get(name, 1))


def books_s(done: Done, spans: Spans) -> float | None:
    """Return from the act to the last book's return."""
    begin_s = done.ts_ns / 1e9
    notice_s = max(done.until_ns / 1e9, begin_s) + NOTICE_S
    end_s = None
    for instrument, own in spans.items():
        if not _concerns(done, instrument):
            continue
        back_s = None
        for first_s, last_s in own:
            if begin_s <= first_s <= notice_s or (back_s is not None and first_s - back_s < JOIN_S):
                back_s = last_s
        if back_s is not None:
            end_s = max(back_s, end_s or 0.0)
    return None if end_s is None else end_s - begin_s


def stage_s(done: Done, looks: Sequence[Look], name: str, n: int) -> float | None:
    """Return from the act to the first look that found the stage well again."""
    begin_s = done.ts_ns / 1e9
    ill = False
    for look in looks:
        if look.at_s < begin_s:
            continue
        pids = look.answering.get(name, ())
        gone = done.act.kind == "kill" and done.act.target == name and done.pid in pids
        well = len(pids) >= n and not gone and look.lag_s.get(name, 0.0) <= LAG_S_MAX
        if ill and well:
            return look.at_s - begin_s
        ill = ill or not well
        if not ill and look.at_s > max(done.until_ns / 1e9, begin_s) + NOTICE_S:
            return None
    return looks[-1].at_s - begin_s if ill and looks else None


def _concerns(done: Done, instrument: str) -> bool:
    """Say whether an act can have made an instrument's book unusable."""
    act = done.act
    if done.struck is not None:
        return instrument in done.struck
    if act.kind == "fault":
        # What befalls orders touches no book.
        return act.name in MARKET_NAMES and instrument.startswith(f"{act.target}:")
    stage, _, venue = act.target.partition("-")
    return stage != "ingest" or instrument.startswith(f"{venue}:")


def _summary(found: Sequence[float | None]) -> dict[str, float]:
    felt = sorted(value for value in found if value is not None)
    summary: dict[str, Any] = {"n": len(felt), "unnoticed": len(found) - len(felt)}
    if felt:
        summary["p50"] = round(felt[math.ceil(len(felt) * 0.5) - 1], 2)
        summary["p99"] = round(felt[math.ceil(len(felt) * 0.99) - 1], 2)
        summary["max"] = round(felt[-1], 2)
    return summary
