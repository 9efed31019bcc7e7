"""Settings of the paper venues: `CROSSBOOK_PAPER_*` beside what every worker is told."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from core.runtime.settings import WorkerSettings


class PaperStart(StrEnum):
    """From where the live run's books are read."""

    END = "end"
    BEGINNING = "beginning"


class PaperSettings(WorkerSettings):
    """What the paper venues are told; run `paper` reads a live run and writes its own."""

    paper_folder: Path = Field(
        Path("build/paper"), description="where the paper venues leave ready.json, keys and their own log"
    )
    paper_accounts: int = Field(1, ge=1, le=50, description="accounts at each paper venue; the first is main")
    paper_cash_usd: int = Field(10_000, ge=1, description="opening balance of each account at each paper venue")
    paper_latency_ms: int = Field(
        50,
        ge=0,
        le=5_000,
        description="how long after its arrival here a resting order counts as there: the way to the real venue and back",
    )
    paper_tick_age_ms: int = Field(
        1_000, ge=50, le=10_000, description="age of a partition's last Tick beyond which its books fill nothing"
    )
    paper_taker_delay_ms: int = Field(
        150, ge=0, le=60_000, description="how long a taker is held in markets that hold takers"
    )
    paper_from: PaperStart = Field(
        PaperStart.END, description="end: books as they come (each repeats within seconds); beginning: the whole log"
    )
    paper_kalshi_port: int = Field(0, ge=0, le=65_535, description="of paper Kalshi on loopback; 0: any free one")
    paper_clob_port: int = Field(0, ge=0, le=65_535, description="of paper Polymarket on loopback; 0: any free one")
