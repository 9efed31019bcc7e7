"""What a feed worker and a catalogue are told, `CROSSBOOK_*`."""

from pathlib import Path

from pydantic import Field

from core.runtime.settings import WorkerSettings
from venues.environment import Environment


class IngestSettings(WorkerSettings):
    """Simulated venues are the default; production market data is read only when asked for."""

    kalshi_environment: Environment = Field(Environment.SIMULATED, description="simulated, demo or production")
    polymarket_environment: Environment = Field(Environment.SIMULATED, description="simulated, demo or production")
    kalshi_simulated: str = Field("127.0.0.1:18801", description="simulated Kalshi")
    polymarket_simulated: str = Field("127.0.0.1:18802", description="simulated Polymarket CLOB and its sockets")
    polymarket_gamma_simulated: str = Field("127.0.0.1:18803", description="simulated Gamma")
    sim_credentials_file: Path = Field(
        Path("build/sim/credentials.json"), description="test accounts of the simulated venues"
    )
    demo_credentials_file: Path | None = Field(None, description="keys of the venues' demo environments, same form")
    data_credentials_file: Path | None = Field(
        None, description="production keys with the scope read, same form; trading keys do not belong here"
    )
    data_account: str = Field("main", description="whose key of the credentials file signs the market-data sockets")

    kalshi_markets_per_connection: int = Field(
        500, ge=1, le=5_000, description="the venue publishes no limit; Opened lists them all"
    )
    polymarket_markets_per_connection: int = Field(
        200, ge=1, le=700, description="near 750 the venue silently leaves books out"
    )
    feed_connections_max: int = Field(50, ge=1, le=200, description="of one worker")
    feed_connecting_max: int = Field(4, ge=1, le=50, description="handshakes under way at a time")
    feed_silence_s_max: float = Field(15.0, ge=1, le=60, description="without a frame or pong a feed ends")

    kalshi_quiet_s: float = Field(
        120.0, ge=0, description="a feed without a frame for so long gets a successor; 0: never"
    )
    polymarket_quiet_s: float = Field(30.0, ge=0, description="the same; there feeds fall silent and answer pings")
    feed_age_s_max: float = Field(21_600.0, ge=0, description="an older feed gets a successor; 0: never")
    feed_patches_max: int = Field(
        3, ge=0, description="small feeds beside one feed for its suspect books; then all of it is renewed"
    )

    feed_backoff_first_s: float = Field(0.5, gt=0, description="longest first pause before a new connection")
    feed_backoff_s_max: float = Field(30.0, gt=0, description="longest pause before a new connection")
    feed_refused_pause_s: float = Field(60.0, gt=0, description="after the venue refused the key")
    feed_breaker_failures_max: int = Field(5, ge=1, description="failures in a row before a host is left alone")
    feed_breaker_pause_s: float = Field(15.0, gt=0, description="how long a host is left alone")

    feed_overlap_s_max: float = Field(10.0, ge=0, description="how long a moved feed waits for its successor")
    feed_stop_overlap_s_max: float = Field(2.0, ge=0, description="the same when the worker is stopped")
    feed_settle_s: float = Field(
        1.0, ge=0, description="how long new instruments are collected before a feed is opened"
    )
    feed_resyncs_per_s: float = Field(
        20.0, gt=0, description="books derive misses, asked for again of one venue by all its workers; not after a skip"
    )
    feed_degraded_after_s: float = Field(
        10.0, ge=0, description="books are polled by REST when no socket can be had for so long; 0: never"
    )
    feed_degraded_instruments_max: int = Field(50, ge=1, le=1_000, description="polled by one worker")

    books_requests_per_s: float = Field(
        5.0, gt=0, description="order books over REST, audits and polls, of one venue by all its workers"
    )
    books_request_s_max: float = Field(5.0, gt=0, description="for one answer")
    audit_requests_per_s: float = Field(
        1.0, ge=0, description="books compared with REST, of one venue by all its workers; 0: none"
    )

    catalogue_poll_s: float = Field(30.0, ge=0.2, description="between two looks at the venue's list")
    catalogue_page: int = Field(100, ge=1, le=1_000, description="markets a request")
    catalogue_markets_max: int = Field(20_000, ge=1, description="more are left out, and said so")
    catalogue_series: str = Field("", description="Kalshi: only these series, by comma; empty: all")
    catalogue_context_s_max: float = Field(
        60.0, ge=0, description="Kalshi: what is known of an event or series is read again when it is older"
    )
    catalogue_context_requests_max: int = Field(
        100, ge=2, le=1_000, description="for that, a poll; oldest first, 100 events or one series a request"
    )
    catalogue_requests_per_s: float = Field(10.0, gt=0, description="to one venue, at most")
    catalogue_request_s_max: float = Field(10.0, gt=0, description="for one answer")
