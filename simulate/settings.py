"""Settings of the simulated venues: `CROSSBOOK_SIM_*`, a JSON file, or both (the file wins)."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TruthFrames(StrEnum):
    """How much of each sent frame the truth log keeps."""

    FULL = "full"
    DIGEST = "digest"
    NONE = "none"


class SimulateSettings(BaseSettings):
    """Everything that can be set; the defaults make the demo."""

    model_config = SettingsConfigDict(env_prefix="CROSSBOOK_SIM_", frozen=True, extra="forbid")

    seed: int = 1
    markets: int = Field(default=100, ge=1, le=2_000)
    inverted_share: float = Field(default=0.1, ge=0, le=1)
    """Part of the Polymarket markets that ask the opposite question."""
    neg_risk_share: float = Field(default=0.1, ge=0, le=1)

    host: str = "127.0.0.1"
    kalshi_port: int = 0
    clob_port: int = 0
    gamma_port: int = 0
    control_port: int = 0
    ready_file: Path | None = None
    credentials_file: Path = Path("build/sim/credentials.json")
    links_file: Path = Path("build/sim/links.json")
    truth_dir: Path = Path("build/sim/truth")
    truth_frames: TruthFrames = TruthFrames.DIGEST
    truth_flush_s: float = 0.25

    flow: bool = True
    quote_at_start: bool = True
    """Quote every market before the ports open; off, the books are empty."""
    messages_per_s: int = Field(default=1_000, ge=0, le=50_000)
    """Market data messages of both venues together."""
    tick_ms: int = Field(default=5, ge=1)
    levels: int = Field(default=6, ge=1, le=40)
    taker_share: float = Field(default=0.05, ge=0, le=1)
    """Part of the flow's actions that take instead of quote."""
    volatility_per_s: float = 0.01
    """Standard deviation of the latent logit after one second."""
    lag_ms: int = 100
    """By how much Polymarket's quoters see the latent probability later than Kalshi's."""
    noise: float = 0.002
    """Standard deviation of a venue's own view of the probability."""
    edges_per_s: float = 1.0
    event_edges: float = Field(default=0.1, ge=0, le=1)
    """Share of them that is within an event, on both venues alike, where there are events."""
    edge_s: float = 2.0
    """Mean life of an edge."""
    edge_cents_min: int = 7
    edge_cents_max: int = 12
    events: int = Field(default=0, ge=0)
    """Events whose outcomes exclude each other and leave none out: their probabilities sum to one."""
    drive: Path | None = None
    """A recorded top-of-book CSV that takes the latent probability's place."""
    drive_speed: float = 60.0

    accounts: int = Field(default=2, ge=1, le=50)
    cash_usd: int = 100_000
    """Opening balance of each account on each venue."""
    kalshi_tier: str = "advanced"
    kalshi_clock_skew_s: float = 10.0
    """The venue accepts 5 s and refuses 30 s; the bound between is not published."""
    ping_s: float = 10.0
    write_buffer_bytes_max: int = 64 * 1024 * 1024
    """A connection that has this much unread is dropped as a slow consumer."""

    polymarket_tier: str = "standard"
    chain_id: int = 137
    mined_after_ms: int = 300
    confirmed_after_ms: int = 900
    taker_delay_share: float = Field(default=0.0, ge=0, le=1)
    taker_delay_ms: int = 150
    heartbeat_limit_s: float = 10.0
    heartbeat_sweep_s: float = 5.0
    print_before_book: bool = True
    """Send `last_trade_price` before the `book` whose hash contains it; production's order is not established."""

    faults: str = ""
    """A script of faults: a JSON file, or `seed:N`; empty: none but those the control port asks for."""
    faults_s: float = Field(default=3_600.0, gt=0)
    """Over how long `seed:N` draws."""
    order_answer_delay_ms: int = 0
    order_swallow_answer_rate: float = Field(default=0.0, ge=0, le=1)
    """Part of the accepted orders whose answer is never sent."""
