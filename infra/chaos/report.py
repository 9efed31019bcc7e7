"""What chaos tells: `chaos.json`, and the same as a page with a picture."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.chaos import conservation, trust, truth
from infra.chaos.hands import Done
from infra.chaos.plan import Act
from infra.chaos.watch import Look

LOOKS_MAX = 600
"""Points of the picture."""
JUDGED = ("orders_by_strategy", "reservations_leaked", "budgets_exceeded", "stops")
"""Of the demo's verdict, beside its detail."""
UNKNOWABLE_SHARE_MAX = 0.001
"""Which part of what was compared may have been wrong where no reader could know, for each hash in so many that is looked at
beyond the first: with all of them none is."""


@dataclass
class Story:
    """Everything there is to tell.

    Attributes:
        begin_s, end_s: of the acts, seconds since the epoch.
        problems: what did not go as it must, in words; any is a failure.
    """

    run: str
    seeds: Sequence[int]
    brokers: int
    plan: Sequence[Act]
    done: Sequence[Done]
    begin_s: float
    end_s: float
    looks: Sequence[Look]
    recovery_s: Mapping[str, Mapping[str, float]]
    causes: Mapping[str, int]
    usable_share: float
    truth: truth.Outcome
    trust: trust.Outcome
    frames: Mapping[str, conservation.FrameCount]
    errors: Mapping[str, int]
    verdict: Mapping[str, Any]
    resumes_s: Sequence[float] = ()
    problems: list[str] = field(default_factory=list)
    dead: Mapping[str, int] = field(default_factory=dict)
    hash_every: int = 1

    @property
    def unknowable_share(self) -> float:
        """Return which part of what was compared was wrong where no reader could know."""
        return sum(self.truth.unknowable.values()) / max(self.truth.checked, 1)

    @property
    def unknowable_share_max(self) -> float:
        """Return how large it may be."""
        return UNKNOWABLE_SHARE_MAX * (self.hash_every - 1)

    @property
    def is_good(self) -> bool:
        """Say whether both oracles are content and everything came back."""
        if self.unknowable_share > self.unknowable_share_max:
            return False
        return not (self.truth.differences or self.trust.errors or sum(self.errors.values()) or self.problems)


def as_json(story: Story) -> dict[str, Any]:
    """Return the content of `chaos.json`."""
    kinds = Counter(one.act.kind for one in story.done if not one.problem)
    resumes = {"trading_resumes_s": _spread(story.resumes_s)} if story.resumes_s else {}
    return {
        "run": story.run,
        "seed": story.seeds[0],
        "then": list(story.seeds[1:]),
        "brokers": story.brokers,
        "seconds": round(story.end_s - story.begin_s, 1),
        "faults": kinds["fault"],
        "kills": kinds["kill"],
        "freezes": kinds["freeze"],
        "truth_checked": story.truth.checked,
        "truth_differences": story.truth.differences,
        "truth_unknowable": dict(sorted(story.truth.unknowable.items())),
        "truth_unknowable_share": round(story.unknowable_share, 6),
        "truth_unknowable_share_max": story.unknowable_share_max,
        "hash_every": story.hash_every,
        "conservation_errors": sum(story.errors.values()),
        "orders_on_bad_books": story.trust.errors,
        "problems": list(story.problems),
        "recovery_s": {label: dict(found) for label, found in story.recovery_s.items()},
        **resumes,
        "good": story.is_good,
        "detail": {
            "usable_share": round(story.usable_share, 4),
            "left_live_by_cause": dict(story.causes),
            "truth": {"differences_by_kind": dict(story.truth.kinds), "examples": story.truth.examples},
            "trust": {
                "legs": story.trust.legs,
                "grants": story.trust.grants,
                "orders": story.trust.orders,
                "errors_by_kind": dict(story.trust.kinds),
                "examples": story.trust.examples,
            },
            "conservation": dict(story.errors),
            "frames": {venue: asdict(count) for venue, count in story.frames.items()},
            "rows": story.verdict["detail"]["rows"],
            "fills": story.verdict["detail"]["fills"],
            "orders": story.verdict["orders"],
            "unknown_outcomes": story.verdict.get("unknown_outcomes", 0),
            "topics": story.verdict["topics"],
            "dead_letters": dict(story.dead),
            "verdict": {**story.verdict["detail"], **{name: story.verdict[name] for name in JUDGED}},
            "lag_max": _lag_max(story.looks),
            "plan": [_act(act) for act in story.plan],
            "events": [_done(one, story.begin_s) for one in story.done],
        },
    }


def write(story: Story, file: Path, page: Path) -> dict[str, Any]:
    """Write both files and return the content of the first."""
    from infra.chaos.page import page_of

    report = as_json(story)
    for path in (file, page):
        path.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    page.write_text(page_of(report, thinned(story.looks), story.begin_s), encoding="utf-8")
    return report


def thinned(looks: Sequence[Look]) -> list[Look]:
    """Return at most `LOOKS_MAX` of the looks, evenly."""
    step = max(-(-len(looks) // LOOKS_MAX), 1)
    return list(looks[::step])


def _act(act: Act) -> dict[str, Any]:
    return {**act._asdict(), "parameters": dict(act.parameters)}


def _done(one: Done, begin_s: float) -> dict[str, Any]:
    return {
        "at_s": round(one.ts_ns / 1e9 - begin_s, 3),
        "until_s": round(one.until_ns / 1e9 - begin_s, 3) if one.until_ns else None,
        "kind": one.act.kind,
        "target": one.act.target,
        "label": one.act.label,
        "pid": one.pid,
        "recovery_s": one.felt_s,
        "problem": one.problem,
        "answer": one.answer,
    }


def _lag_max(looks: Sequence[Look]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for look in looks:
        for name, lag_s in look.lag_s.items():
            worst = found.setdefault(name, {"seconds": 0.0, "records": 0.0})
            worst["seconds"] = max(worst["seconds"], round(lag_s, 2))
            worst["records"] = max(worst["records"], look.lag.get(name, 0.0))
    return dict(sorted(found.items()))


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "max": round(ordered[-1], 2),
        "n": len(ordered),
    }
