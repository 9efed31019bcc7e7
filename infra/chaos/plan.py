"""What is done when: drawn from the seed alone, before anything starts.

Three kinds of acts: a *fault* of a simulated venue, a *kill* (-9) and a *freeze* (SIGSTOP, later SIGCONT) of a worker or
a server. In 300 s each fault happens at each venue that knows it, each stage and each server is killed, and each stage
frozen; a shorter plan is a part of that, other seeds another part. Acts stand so far apart that what each did can be
told: those which everything feels (the broker) are followed by a pause.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from simulate.faults import NAMES, script
from venues import VENUES

Kind = Literal["fault", "kill", "freeze"]

FULL_S = 300.0
"""A plan this long holds everything."""
FAULTS = sum(len(fault.venues) for fault in NAMES.values())
FREEZE_S = (2.0, 10.0)
HEAVY_UNITS = 3.0
"""The pause after what everything feels, as a multiple of the usual one."""
QUIET_S = 8.0
"""At the end nothing new is done; of a short plan a fifth."""
STAGES = (
    *(f"ingest-{venue}" for venue in VENUES),
    *(f"catalogue-{venue}" for venue in VENUES),
    *(f"instrument-{venue}" for venue in VENUES),
    "normalize",
    "derive",
    "strategies",
    "accounts",
    *(f"execute-{venue}" for venue in VENUES),
    "observe",
)
"""Workers by the names of their watchers."""


class Act(NamedTuple):
    """One thing that is done.

    Attributes:
        at_s: after the warm-up.
        target: venue of a fault, watcher of a worker, name of a server.
        name: of the fault, else empty.
        seconds: how long a fault lasts or a process is frozen; 0: it is over at once.
        draw: in [0, 1): which of several like processes.
        parameters: of the fault.
    """

    at_s: float
    kind: Kind
    target: str
    name: str = ""
    seconds: float = 0.0
    draw: float = 0.0
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The class it is counted under: `gap`, `kill derive`, `freeze kafka`; several like targets are one class."""
        return self.name if self.kind == "fault" else f"{self.kind} {stage_of(self.target)}"


def stage_of(target: str) -> str:
    """Return `execute` for `execute-kalshi`, `kafka` for `kafka-2`."""
    return target.partition("-")[0]


def draw(seed: int, seconds: float, brokers: Sequence[str], pace: float = 1.0) -> list[Act]:
    """Return the acts in the order of their times.

    Args:
        seed: decides everything.
        seconds: from the first act to the end of the quiet after the last.
        brokers: names of Kafka's nodes; of several each is killed.
        pace: 2 does twice as much in the same time.
    """
    rng = random.Random(f"chaos/{seed}")
    share = seconds / FULL_S * pace
    kills = list(_take(rng, _killed(brokers), share))
    frozen = list(_take(rng, _frozen(brokers), share))
    acts = _faults(seed, max(round(FAULTS * share), 1))
    acts += [Act(0, "kill", target, draw=rng.random()) for target in kills]
    longest = min(FREEZE_S[1], max(FREEZE_S[0], seconds / 12))
    acts += [
        Act(0, "freeze", target, "", round(rng.uniform(FREEZE_S[0], longest), 1), rng.random()) for target in frozen
    ]
    rng.shuffle(acts)
    return _spread(rng, acts, seconds - min(QUIET_S, seconds / 5))


def named(seeds: Sequence[int]) -> str:
    """Return `seed 1`, or `seeds 1, 2, 3`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def draw_all(seeds: Sequence[int], seconds: float, brokers: Sequence[str], pace: float = 1.0) -> list[Act]:
    """Return the plans of several seeds, one after the other, each `seconds` long."""
    return [
        act._replace(at_s=round(act.at_s + number * seconds, 2))
        for number, seed in enumerate(seeds)
        for act in draw(seed, seconds, brokers, pace)
    ]


MONEY = ("strategies", "accounts", *(f"execute-{venue}" for venue in VENUES))
"""Workers that decide and send."""


def strikes(seed: int, seconds: float, count: int) -> list[Act]:
    """Return so many kills and freezes of workers that decide and send, each of them struck before any comes again.

    Kills and freezes come in turn, and who was killed is frozen the next time: two for each worker do both to each.
    """
    rng = random.Random(f"strikes/{seed}")
    targets = list(_take(rng, MONEY, count / len(MONEY)))
    targets += rng.choices(MONEY, k=max(count - len(targets), 0))
    was_killed: dict[str, bool] = {}
    acts = []
    for number, target in enumerate(targets[:count]):
        kills = was_killed[target] = not was_killed.get(target, number % 2 == 1)
        lasts_s = 0.0 if kills else round(rng.uniform(FREEZE_S[0], FREEZE_S[0] + 3.0), 1)
        acts.append(Act(0, "kill" if kills else "freeze", target, "", lasts_s, rng.random()))
    return _spread(rng, acts, seconds - min(QUIET_S, seconds / 5))


def _killed(brokers: Sequence[str]) -> list[str]:
    return ["registry", "questdb", *brokers, *STAGES]


def _frozen(brokers: Sequence[str]) -> list[str]:
    return [*(stage for stage in STAGES if stage_of(stage) not in ("catalogue", "instrument")), brokers[0], "questdb"]


def _take(rng: random.Random, deck: Sequence[str], share: float) -> Iterator[str]:
    """Yield that part of the deck, one at least, from the shuffled deck, shuffled anew when it is used up."""
    count = max(round(len(deck) * share), 1)
    while count > 0:
        chosen = list(deck)
        rng.shuffle(chosen)
        yield from chosen[:count]
        count -= len(chosen)


def _faults(seed: int, count: int) -> list[Act]:
    """Return so many faults of the simulator's own draw, each with each venue once before any comes again."""
    drawn = script(seed, 3.0 * count + 1, faults=tuple(NAMES), first_s=0.0, last_s=0.0, every_s=1.0)[:count]
    return [
        Act(0, "fault", wanted.venue, wanted.fault, wanted.seconds, parameters=tuple(sorted(wanted.parameters.items())))
        for _, wanted in drawn
    ]


def is_heavy(act: Act) -> bool:
    """Say whether everything feels it."""
    return act.kind != "fault" and stage_of(act.target) == "kafka"


def _spread(rng: random.Random, acts: list[Act], seconds: float) -> list[Act]:
    units = sum(HEAVY_UNITS if is_heavy(act) else 1.0 for act in acts)
    unit = seconds / max(units, 1.0)
    placed = []
    at_s = 0.0
    for act in acts:
        placed.append(act._replace(at_s=round(at_s + rng.uniform(0, 0.3) * unit, 2)))
        at_s += unit * (HEAVY_UNITS if is_heavy(act) else 1.0)
    return placed
