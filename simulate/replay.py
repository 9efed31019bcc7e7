"""Replay: each pure task is fed the source run's own log and writes into topics of a new run.

The workers are the ordinary ones (`python -m normalize frame`, …) with other settings: they read the source run from
offset 0 to the offset its group had committed, write `replay-<id>`, and exit. Settings refuse any other run as target.

`verify` compares what the replay wrote with what the source run wrote: per partition and key, repeats dropped, the time
trail aside. Ids are hashes of the source run's incarnation and log offsets, so they are compared too.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.domain.errors import Misconfigured
from core.runtime import topics
from core.runtime.admin import create_run, find_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.consumer import LogReader, from_beginning, key_text, value_bytes
from core.runtime.topics import Topic
from schemas import decision
from schemas.record import Record
from venues import VENUES

_EXIT_WAIT_S = 900.0
_READ_WAIT_S = 120.0


@dataclass(frozen=True)
class Step:
    """One worker of a replay, and what of its output is compared.

    `only` narrows a topic that others write too (intents stand among sequenced records).
    """

    stage: str
    arguments: tuple[str, ...]
    log: Topic
    outputs: tuple[Topic, ...]
    only: tuple[type[Record], ...] = ()


STEPS: tuple[Step, ...] = (
    *(
        Step("normalize", ("instrument", "--venue", venue), topics.RAW_INSTRUMENT[venue], (topics.MARKET_INSTRUMENT,))
        for venue in VENUES
    ),
    Step("normalize", ("frame",), topics.RAW_FRAME, (topics.MARKET_EVENT, topics.MARKET_NOTICE)),
    Step("derive", ("book",), topics.MARKET_EVENT, (topics.DERIVED_BOOK, topics.DERIVED_RESYNC)),
    Step(
        "decide",
        ("strategies",),
        topics.DECISION_INPUT,
        (topics.DECISION_EDGE, topics.DECISION_ACCOUNT),
        (decision.Edge, decision.Intent, decision.Requote),
    ),
    Step(
        "decide",
        ("accounts",),
        topics.DECISION_ACCOUNT,
        (topics.DECISION_ORDER, topics.DECISION_LEDGER, topics.DECISION_SAGA),
    ),
)
STAGES = tuple(dict.fromkeys(step.stage for step in STEPS))


@dataclass
class Difference:
    """The first record that is not the same, and where its input stands."""

    topic: str
    partition: int
    key: str
    position: int
    source: dict[str, Any] | None
    replay: dict[str, Any] | None
    input: str = ""
    input_partition: int = -1


@dataclass
class Comparison:
    """What a verification found."""

    records: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Nothing differs, and something was compared."""
        return not self.differences and sum(self.records.values()) > 0


def replay(
    *,
    bootstrap: str,
    registry_url: str,
    source: str,
    into: str,
    stages: Sequence[str] = STAGES,
    speed: float = 0.0,
    environment: dict[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Feed each pure task of `stages` the log of `source` and write its output into the run `into`.

    Raises:
        Misconfigured: `into` is not a fresh replay-<id>, the source run is unknown, or a worker refused to start.
    """
    if not into.startswith("replay-"):
        raise Misconfigured(f"a replay may only write a run named replay-<id>, was {into!r}")
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise Misconfigured(
            f"stages that cannot be replayed: {', '.join(sorted(unknown))}; choose from {', '.join(STAGES)}"
        )
    codec = Codec(HttpRegistry(registry_url))
    clock = SystemClock()
    known = find_run(bootstrap, codec, source, clock)
    if known is None:
        raise Misconfigured(f"run {source} has no incarnation: nothing to replay")
    create_run(
        bootstrap=bootstrap,
        registry_url=registry_url,
        run=into,
        partitions=known.partitions,
        source=source,
        clock=clock,
    )
    if any(True for _ in _records(bootstrap, codec, into, topics.MARKET_EVENT, known.partitions)):
        raise Misconfigured(f"run {into} already holds records: choose another --into, each replay needs fresh topics")
    for step in STEPS:
        if step.stage not in stages:
            continue
        say(f"{step.stage} {' '.join(step.arguments)}: {step.log.name(source)} -> {into}")
        _run_step(
            step,
            {
                **(environment or {}),
                "CROSSBOOK_RUN": into,
                "CROSSBOOK_READ_RUN": source,
                "CROSSBOOK_WRITE_RUN": into,
                "CROSSBOOK_REPLAY": "true",
                "CROSSBOOK_REPLAY_SPEED": str(speed),
                "CROSSBOOK_BOOTSTRAP": bootstrap,
                "CROSSBOOK_REGISTRY_URL": registry_url,
                "CROSSBOOK_LOG_LEVEL": "warning",
                "CROSSBOOK_ARM": "",
            },
        )


def verify(
    *,
    bootstrap: str,
    registry_url: str,
    source: str,
    into: str,
    stages: Sequence[str] = STAGES,
    differences_max: int = 1,
) -> Comparison:
    """Compare what the two runs wrote; stop looking at a topic after `differences_max` differences."""
    codec = Codec(HttpRegistry(registry_url))
    known = find_run(bootstrap, codec, source, SystemClock())
    if known is None:
        raise Misconfigured(f"run {source} has no incarnation: nothing to compare")
    result = Comparison()
    done: set[str] = set()
    for step in STEPS:
        if step.stage not in stages:
            continue
        for topic in step.outputs:
            if topic.noun in done:
                continue
            done.add(topic.noun)
            only = step.only
            left = _digests(bootstrap, codec, source, topic, known.partitions, only)
            right = _digests(bootstrap, codec, into, topic, known.partitions, only)
            result.records[topic.noun] = sum(len(found) for found in left.values())
            found = _first_differences(left, right, topic, differences_max)
            for difference in found:
                _explain(difference, bootstrap, codec, (source, into), topic, known.partitions, step)
            result.differences += found
    return result


Place = tuple[int, int, str]
"""Partition of the input, partition, key: only what one task wrote has an order."""


def _digests(
    bootstrap: str, codec: Codec, run: str, topic: Topic, partitions: int, only: tuple[type[Record], ...]
) -> dict[Place, dict[bytes, None]]:
    """Return the distinct records of each place in order of first appearance, as hashes."""
    found: dict[Place, dict[bytes, None]] = {}
    for partition, key, record in _records(bootstrap, codec, run, topic, partitions):
        if only and type(record) not in only:
            continue
        place = (_input_partition(record), partition, key)
        if topic.cleanup == "compact":
            # Only the newest of a key is promised to stay.
            found[place] = {_digest(codec, record): None}
        else:
            found.setdefault(place, {})[_digest(codec, record)] = None
    return found


def _input_partition(record: Record) -> int:
    """Return which partition of the log a record came of, -1 where its key alone says so: shards share an output key."""
    for name in ("input_partition", "log_partition"):
        if hasattr(record, name):
            return int(getattr(record, name))
    return -1


def _digest(codec: Codec, record: Record) -> bytes:
    bare = msgspec.structs.replace(record, trail=[]) if type(record).has_trail else record
    return hashlib.blake2b(codec.encode(bare), digest_size=16).digest()


def _first_differences(
    left: dict[Place, dict[bytes, None]], right: dict[Place, dict[bytes, None]], topic: Topic, differences_max: int
) -> list[Difference]:
    found = []
    for place in sorted(left.keys() | right.keys()):
        ours, theirs = list(left.get(place, ())), list(right.get(place, ()))
        if ours == theirs:
            continue
        at = next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        found.append(Difference(topic.noun, place[1], place[2], at, None, None, input_partition=place[0]))
        if len(found) >= differences_max:
            break
    return found


def _explain(
    difference: Difference,
    bootstrap: str,
    codec: Codec,
    runs: tuple[str, str],
    topic: Topic,
    partitions: int,
    step: Step,
) -> None:
    """Fill in the two records and what is known of their input."""
    for run, side in zip(runs, ("source", "replay"), strict=True):
        seen: dict[bytes, None] = {}
        for partition, key, record in _records(bootstrap, codec, run, topic, partitions):
            place = (_input_partition(record), partition, key)
            if place != (difference.input_partition, difference.partition, difference.key) or (
                step.only and type(record) not in step.only
            ):
                continue
            digest = _digest(codec, record)
            if digest in seen:
                continue
            if len(seen) == difference.position:
                shown = {"type": type(record).schema_name, **msgspec.to_builtins(record)}
                setattr(difference, side, shown)
                difference.input = difference.input or _input_of(record, step)
                break
            seen[digest] = None


def _input_of(record: Record, step: Step) -> str:
    noun = step.log.noun
    for partition, offset in (("input_partition", "input_offset"), ("log_partition", "log_offset")):
        if hasattr(record, offset):
            return f"{noun} [{getattr(record, partition)}] offset {getattr(record, offset)}"
    if hasattr(record, "version_offset") and noun == topics.MARKET_EVENT.noun:
        return f"{noun} offset {record.version_offset} (the partition of key {getattr(record, 'instrument', '')})"
    if hasattr(record, "frame_no"):
        return f"{noun} epoch {getattr(record, 'epoch', '')} frame {record.frame_no}"
    return noun


def _records(
    bootstrap: str, codec: Codec, run: str, topic: Topic, partitions: int
) -> Iterator[tuple[int, str, Record]]:
    name = topic.name(run)
    count = partitions if topic.partitions == "hot" else 1
    reader = LogReader.assigned(bootstrap, group=f"{run}.verify", positions=from_beginning(name, count))
    clock = SystemClock()
    unread = set(range(count))
    deadline = clock.monotonic_s() + _READ_WAIT_S
    try:
        while unread:
            if clock.monotonic_s() > deadline:
                raise Misconfigured(f"{name} was not read within {_READ_WAIT_S} s: is Kafka up?")
            messages, ended = reader.batch(1000, 0.2)
            for message in messages:
                value = value_bytes(message)
                if value is not None:
                    yield message.partition() or 0, key_text(message), codec.decode(value)
            unread -= {place.partition for place in ended}
    finally:
        reader.close()


def _run_step(step: Step, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", step.stage, *step.arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_EXIT_WAIT_S,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise Misconfigured(f"replay of {step.stage} {' '.join(step.arguments)} ended with {done.returncode}: {last}")
