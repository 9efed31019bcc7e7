"""Pressure: how far behind a reader is in time, as one of four words, with hysteresis.

Lag in time is now minus the Kafka timestamp of the next unread record, 0 when there is none: it means the same for a
topic of ten records a day and for one of ten thousand a second. A level rises at once and falls only after the lag has
been small for a while, so what hangs on it (conflation, a log line, an operator) does not flap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from core.runtime import log as logs
from core.runtime import metrics
from core.runtime.settings import WorkerSettings

log = logs.get()

Level = Literal["calm", "busy", "conflating", "behind"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""In rising order; the gauge `worker_pressure` holds the place in this list."""

STRAINED_FACTOR = 5
"""How much longer a reader that is calm only because it leaves things out waits until it stops doing so."""


@dataclass(frozen=True)
class PressureLimits:
    """Lags in seconds at which a level is reached, and how one is left.

    Attributes:
        calm_s: below it a reader keeps up.
        busy_s: from here on it is busy.
        conflate_s: from here on a sequencer appends only the newest quote of each instrument.
        behind_s: from here on it is behind. Ticks that are a second old make quotes unusable, hence the default.
        calm_after_s: how long the lag must have been small before a level falls.
    """

    calm_s: float = 0.05
    busy_s: float = 0.1
    conflate_s: float = 0.25
    behind_s: float = 1.0
    calm_after_s: float = 1.0

    @classmethod
    def of(cls, settings: WorkerSettings) -> PressureLimits:
        """Return the limits a worker was told."""
        return cls(
            calm_s=settings.pressure_calm_ms / 1000,
            busy_s=settings.pressure_busy_ms / 1000,
            conflate_s=settings.pressure_conflate_ms / 1000,
            behind_s=settings.pressure_behind_ms / 1000,
            calm_after_s=settings.pressure_calm_after_ms / 1000,
        )

    def patient(self, patience_s: float) -> PressureLimits:
        """Return the limits of a reader that is told of records up to so much later than they come."""
        return PressureLimits(
            self.calm_s + patience_s,
            self.busy_s + patience_s,
            self.conflate_s + patience_s,
            self.behind_s + patience_s,
            self.calm_after_s,
        )


@dataclass
class Progress:
    """How far a task is in its log: written by its loop, read by the sequencer that feeds it.

    Attributes:
        log_ns: the log time the task has reached.
        since_ns: Kafka time of the record it has in hand, 0 when there was none at the last poll.
    """

    log_ns: int = 0
    since_ns: int = 0

    def lag_s(self, now_ns: int) -> float:
        """Return the lag in time."""
        since_ns = self.since_ns
        return max(now_ns - since_ns, 0) / 1e9 if since_ns else 0.0


class Pressure:
    """The level of one reader."""

    def __init__(
        self,
        *,
        stage: str,
        reader: str,
        partition: int | str,
        limits: PressureLimits,
        name: str,
        advice: str,
        conflates: bool = False,
    ) -> None:
        """Begin calm.

        Args:
            stage: folder name.
            reader: which reader of the stage; from a closed set.
            partition: of the log, or `all`.
            limits: when a level is reached and left.
            name: of the group or topic, for the log line.
            advice: what to do when it is behind, for the log line.
            conflates: it can leave out what is old; else it is busy until it is behind.
        """
        self.level: Level = "calm"
        self.lag_s = 0.0
        self._limits = limits
        self._place = f"{name} [{partition}]"
        self._advice = advice
        self._conflates = conflates
        self._small_since_s: float | None = None
        self._settles_at: Level = "calm"
        self._labels = (stage, reader, str(partition))
        self._gauge = metrics.PRESSURE.labels(*self._labels)
        self._gauge.set(0)

    @property
    def sheds(self) -> bool:
        """Whether what is old is to be left out."""
        return self._conflates and self.level in {"conflating", "behind"}

    def observe(self, lag_s: float, now_s: float, *, strained: bool = False) -> Level:
        """Take in a lag at a monotonic time and return the level.

        With `strained` the lag is small only because much was left out: the level then falls later.
        """
        self.lag_s = lag_s
        reached = self._reached(lag_s)
        if LEVELS.index(reached) >= LEVELS.index(self.level):
            self._small_since_s = None
            if reached != self.level:
                self._become(reached)
            return self.level
        if self._small_since_s is None:
            self._small_since_s, self._settles_at = now_s, reached
        elif LEVELS.index(reached) > LEVELS.index(self._settles_at):
            self._settles_at = reached
        wait_s = self._limits.calm_after_s * (STRAINED_FACTOR if strained else 1)
        if now_s - self._small_since_s >= wait_s:
            self._small_since_s = None
            self._become(self._settles_at)
        return self.level

    def close(self) -> None:
        """Take the gauge away: somebody else owns the partition now."""
        metrics.forget(metrics.PRESSURE, self._labels)

    def _reached(self, lag_s: float) -> Level:
        """Return the level of a lag; between the limits of rising and falling, the present one stays."""
        limits = self._limits
        if lag_s >= limits.behind_s:
            return "behind"
        shedding = self._conflates and self.level in {"conflating", "behind"}
        if self._conflates and (lag_s >= limits.conflate_s or (shedding and lag_s >= limits.calm_s)):
            return "conflating"
        if lag_s >= limits.busy_s or (self.level != "calm" and lag_s >= limits.calm_s):
            return "busy"
        return "calm"

    def _become(self, level: Level) -> None:
        before, self.level = self.level, level
        self._gauge.set(LEVELS.index(level))
        grave = {"conflating", "behind"}
        if level in grave:
            said = f"lag {self.lag_s:.1f} s on {self._place}: {level}; {self._advice}"
            log.warning("pressure.changed", level=level, before=before, reason=said)
        elif before in grave:
            log.info("pressure.changed", level=level, before=before, reason=f"{self._place} keeps up again")
        else:
            log.debug("pressure.changed", level=level, before=before, reason=f"{self._place}: lag {self.lag_s:.2f} s")


def worst(levels: list[Level]) -> Level:
    """Return the highest of some levels, calm when there is none."""
    return max(levels, key=LEVELS.index, default="calm")
