"""Settings of the decide stage's processes."""

from __future__ import annotations

from pydantic import Field

from core.runtime.settings import WorkerSettings


class DecideSettings(WorkerSettings):
    """What `python -m decide` is told beyond every worker's settings."""

    clock_interval_ms: int = Field(100, ge=10, le=250, description="between time records of a sequenced log")
