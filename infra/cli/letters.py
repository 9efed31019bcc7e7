"""Dead letters of a run: read, matched against what the user asked for, with what has become of each.

A letter is named `<stage>/<offset>`: its place in `dead.<stage>`, which has one partition. What became of it stands on
`dead.state`; without a word there it is open. Letters are read as a stream: a record may be a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from core.domain.errors import Misconfigured, Reject
from core.runtime.resent import Letter, letter_named
from core.runtime.topics import DEAD, DEAD_STATE, STAGES
from infra.cli.reach import Reach
from infra.cli.tail import Tail
from infra.cli.tail import Wish as TailWish
from schemas.dead import Dead, State

OPEN = "open"
STATES = (OPEN, "resent", "through", "again", "dropped")
WAITING = frozenset({OPEN, "again"})
"""States of letters somebody should look at."""
NS_PER_S = 1_000_000_000
_AGO = re.compile(r"-(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Found(NamedTuple):
    """One letter and the newest word about it."""

    letter: Letter
    dead: Dead
    state: State | None

    @property
    def word(self) -> str:
        """One of `STATES`."""
        return OPEN if self.state is None or self.state.state == "UNKNOWN" else self.state.state.lower()

    @property
    def run(self) -> str:
        """The run its source belongs to."""
        return self.dead.source_topic.removesuffix(f".{self.noun}")

    @property
    def noun(self) -> str:
        """Its source topic without the run, which holds no dot."""
        return self.dead.source_topic.partition(".")[2]

    @property
    def key(self) -> str:
        """The source record's key as text."""
        return self.dead.key.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Wish:
    """Which letters the user means; what is empty matches all."""

    letters: frozenset[Letter] = frozenset()
    stages: tuple[str, ...] = STAGES
    topic: str = ""
    error: str = ""
    reason: str = ""
    key: str = ""
    since_ns: int = 0
    until_ns: int = 0
    offsets: tuple[int, int] = (0, 2**63 - 1)
    states: frozenset[str] = frozenset(STATES)

    def matches(self, found: Found) -> bool:
        """Say whether a letter is meant."""
        dead = found.dead
        if self.letters and found.letter not in self.letters:
            return False
        if self.error and self.error.lower() not in (dead.error.lower(), dead.error_class.lower()):
            return False
        if self.key and not _key_matches(self.key, found.key):
            return False
        return (
            found.word in self.states
            and (not self.topic or found.noun == self.topic)
            and self.reason.lower() in dead.reason.lower()
            and self.since_ns <= dead.ts_ns
            and (not self.until_ns or dead.ts_ns < self.until_ns)
            and self.offsets[0] <= dead.source_offset <= self.offsets[1]
        )


def wish_of(
    *,
    letters: list[str],
    stages: list[str],
    topic: str,
    error: str,
    reason: str,
    key: str,
    since: str,
    until: str,
    offsets: str,
    state: str,
    run: str,
) -> Wish:
    """Return what a user's words mean.

    Raises:
        Misconfigured: one of them means nothing; names what would.
    """
    named = frozenset(_letter(text) for text in letters)
    for stage in (*stages, *(letter.stage for letter in named)):
        if stage not in STAGES:
            raise Misconfigured(f"no stage {stage!r}: choose from {', '.join(STAGES)}")
    if state != "all" and state not in STATES and state != "waiting":
        raise Misconfigured(f"--state {state!r}: use waiting, all, {', '.join(STATES)}")
    now_ns = int(datetime.now(UTC).timestamp() * NS_PER_S)
    return Wish(
        letters=named,
        stages=tuple(stages) or (tuple(sorted({letter.stage for letter in named})) or STAGES),
        topic=topic.removeprefix(f"{run}."),
        error=error,
        reason=reason,
        key=key,
        since_ns=moment(since, now_ns),
        until_ns=moment(until, now_ns),
        offsets=_span(offsets),
        states=frozenset(STATES) if state == "all" else WAITING if state == "waiting" else frozenset([state]),
    )


def find(reach: Reach, wish: Wish) -> Iterator[Found]:
    """Yield the letters that are meant, stage by stage in the order they were written.

    Raises:
        Misconfigured: the run has no such topics.
        Unavailable: Kafka does not answer.
    """
    words = states(reach)
    for stage in wish.stages:
        for message, _, record in Tail(reach, TailWish(DEAD[stage], "beginning")).records():
            letter = Letter(stage, message.offset() or 0)
            if isinstance(record, Dead):
                found = Found(letter, record, words.get(str(letter)))
                if wish.matches(found):
                    yield found


def states(reach: Reach) -> dict[str, State]:
    """Return the newest word about each letter that has one."""
    found: dict[str, State] = {}
    for _, _, record in Tail(reach, TailWish(DEAD_STATE, "beginning")).records():
        if isinstance(record, State):
            found[record.letter] = record
    return found


def moment(text: str, now_ns: int) -> int:
    """Return the time `-2h` or `2026-11-20T14:30` means, in ns; 0 for nothing.

    Raises:
        Misconfigured: it is not a time.
    """
    if not text:
        return 0
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ns - int(timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds()) * NS_PER_S
    try:
        when = datetime.fromisoformat(text)
    except ValueError as e:
        raise Misconfigured(f"time {text!r}: use -30m, -2h, -1d or a time such as 2026-11-20T14:30:00 (UTC)") from e
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * NS_PER_S)


def facts(found: Found) -> dict[str, Any]:
    """Return a letter's facts for JSON."""
    dead, state = found.dead, found.state
    return {
        "letter": str(found.letter),
        "state": found.word,
        "state_reason": state.reason if state else "",
        "topic": dead.source_topic,
        "partition": dead.source_partition,
        "offset": dead.source_offset,
        "error_class": dead.error_class,
        "error": dead.error,
        "reason": dead.reason,
        "key": found.key,
        "ts_ns": dead.ts_ns,
        "bytes": len(dead.value),
    }


def _key_matches(wanted: str, key: str) -> bool:
    return key.startswith(wanted[:-1]) if wanted.endswith("*") else key == wanted


def _letter(text: str) -> Letter:
    try:
        return letter_named(text)
    except Reject as e:
        raise Misconfigured(f"letter {text!r}: expected <stage>/<offset>, as `crossbook dead list` shows it") from e


def _span(text: str) -> tuple[int, int]:
    if not text:
        return Wish.offsets
    low, dash, high = text.partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise Misconfigured(f"--offsets {text!r}: use 120 or 120-180")
    return int(low), int(high) if dash else int(low)
