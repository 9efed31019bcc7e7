"""What can be set about chaos."""

from dataclasses import dataclass
from pathlib import Path

from infra.demo.options import Options
from infra.stack.settings import PROJECT
from venues import VENUES

SHARED = ("normalize", "derive", *(f"ingest-{venue}" for venue in VENUES))
"""Workers whose processes share their work."""


@dataclass(frozen=True)
class ChaosOptions(Options):
    """All of it with the defaults of `make chaos`."""

    seconds: float = 300.0
    """of faults, after the warm-up"""
    warmup_s: float = 6.0
    markets: int = 30
    rate_per_s: int = 300
    edges_per_s: float = 2.0
    report: Path = PROJECT / "build" / "chaos.json"
    page: Path = PROJECT / "build" / "chaos.html"
    ready_timeout_s: float = 120.0
    drain_timeout_s: float = 90.0
    """after a broker was killed a group may have minutes of records to catch up with"""
    recover_s: float = 60.0
    """how long the books may take to be LIVE again after the last act"""
    pace: float = 1.0
    """2 does twice as much in the same time"""
    hash_every: int = 1
    """derive compares one of so many stated hashes; with all of them a frame that gives a loss away must be believed"""
    then: tuple[int, ...] = ()
    """seeds whose plans follow, each as long as the first"""
    workers: int = 2
    """processes with which each of `SHARED` begins: what dies is taken over by its like"""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed, in the order of their plans."""
        return (self.seed, *self.then)

    @property
    def counts(self) -> dict[str, int]:
        """Processes by worker."""
        return dict.fromkeys(SHARED, self.workers)
