"""What can be set about a demo."""

from dataclasses import dataclass
from pathlib import Path

from infra.stack.settings import PROJECT


@dataclass(frozen=True)
class Options:
    """All of it with the defaults of `make demo`."""

    seconds: float = 60.0
    """after the warm-up; 0: until Ctrl-C"""
    warmup_s: float = 8.0
    """the first seconds of a broker are five to ten times slower"""
    markets: int = 100
    rate_per_s: int = 1_000
    edges_per_s: float = 1.0
    events: int = 2
    """of which one outcome must win; each has five markets, of every twenty one such event"""
    seed: int = 1
    kills: int = 0
    """workers that decide and send are killed (-9) or frozen so often, by the seed"""
    ending: bool = False
    """one market is determined and paid in the middle"""
    drive: Path | None = None
    report: Path = PROJECT / "build" / "demo.json"
    screen: Path | None = None
    """where the last live screen is kept as an SVG picture"""
    folder: Path = PROJECT / "build" / "sim"
    """what the simulated venues write: keys, links, their truth"""
    ready_timeout_s: float = 60.0
    drain_timeout_s: float = 60.0
