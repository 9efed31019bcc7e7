"""What a derive process is told beyond every worker's settings: when a book is believed no more."""

from dataclasses import fields

from pydantic import Field

from core.runtime.settings import WorkerSettings
from derive.limits import TrustLimits

_DEFAULTS = TrustLimits()


class DeriveSettings(WorkerSettings):
    """Settings of `python -m derive`; what each means stands in `derive.limits.TrustLimits`."""

    crossed_ms: int = Field(_DEFAULTS.crossed_ms, ge=0, le=60_000, description="a book crossed for longer is suspect")
    feed_silent_ms: int = Field(
        _DEFAULTS.feed_silent_ms, ge=300, le=60_000, description="a feed without a tick for longer has stopped"
    )
    hash_sample: int = Field(
        _DEFAULTS.hash_sample, ge=0, le=100_000, description="one in so many stated hashes is recomputed; 0: none"
    )
    behind_venue_ms: int = Field(
        _DEFAULTS.behind_venue_ms, ge=0, le=600_000, description="a feed so much later than usual is stale; 0: off"
    )
    behind_venue_max_ms: int = Field(
        _DEFAULTS.behind_venue_max_ms, ge=0, le=86_400_000, description="one so late is stale however usual; 0: off"
    )
    silent_floor_ms: int = Field(
        _DEFAULTS.silent_floor_ms, ge=0, le=86_400_000, description="no instrument is silent before this; 0: off"
    )
    silent_factor: int = Field(
        _DEFAULTS.silent_factor, ge=1, le=1_000, description="times its longest usual pause an instrument may pause"
    )
    silent_learn_ms: int = Field(
        _DEFAULTS.silent_learn_ms, ge=100, le=86_400_000, description="how long an instrument's pauses are learnt first"
    )
    audit_before_ms: int = Field(
        _DEFAULTS.audit_before_ms, ge=0, le=60_000, description="how much older than its question a REST book may be"
    )
    audit_after_ms: int = Field(
        _DEFAULTS.audit_after_ms, ge=0, le=60_000, description="how much later the stream may bring what REST shows"
    )
    audit_strikes: int = Field(
        _DEFAULTS.audit_strikes, ge=1, le=100, description="audits in a row that make a book suspect"
    )

    @property
    def options(self) -> dict[str, str]:
        """What the book task is told."""
        return {one.name: str(getattr(self, one.name)) for one in fields(TrustLimits)}
