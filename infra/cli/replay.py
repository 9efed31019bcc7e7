"""`crossbook replay`: the pure stages over a run's own logs, and the comparison with what the run wrote itself."""

from collections.abc import Sequence

from rich.console import Console

from core.domain.errors import Misconfigured
from infra.cli.reach import Reach
from simulate import replay as replays


def replay_run(reach: Reach, into: str, stages: Sequence[str], speed: str, console: Console, *, verify: bool) -> bool:
    """Replay `reach.run` into `into`; return whether the two are equal (True when not asked).

    Raises:
        Misconfigured: the target is no fresh replay run, or the speed is no number.
    """
    replays.replay(
        bootstrap=reach.bootstrap,
        registry_url=reach.registry_url,
        source=reach.run,
        into=into,
        stages=stages,
        speed=_factor(speed),
        say=lambda line: console.print(line, highlight=False, soft_wrap=True),
    )
    if not verify:
        console.print(f"next: `crossbook replay --verify`, `crossbook tail derived.book --run {into}`", highlight=False)
        return True
    return compare(reach, into, stages, console)


def compare(reach: Reach, into: str, stages: Sequence[str], console: Console) -> bool:
    """Compare what both runs wrote, print the counts and the first difference of each topic; return whether equal."""
    found = replays.verify(
        bootstrap=reach.bootstrap, registry_url=reach.registry_url, source=reach.run, into=into, stages=stages
    )
    for noun, count in found.records.items():
        console.print(f"{noun}: {count:,} records compared", highlight=False)
    for difference in found.differences:
        console.print(
            f"{difference.topic} [{difference.partition}] key {difference.key}, record {difference.position}: "
            f"input {difference.input}\n  source {difference.source}\n  replay {difference.replay}",
            highlight=False,
            soft_wrap=True,
        )
    console.print("equal" if found.equal else "NOT EQUAL")
    return found.equal


def _factor(speed: str) -> float:
    """Return 0 for `max`, else the multiple of the recorded pace.

    Raises:
        Misconfigured: neither.
    """
    if speed == "max":
        return 0.0
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if factor <= 0:
        raise Misconfigured(f"--speed {speed!r}: use max, or a number above 0 such as 1")
    return factor
