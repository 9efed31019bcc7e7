"""Settings of a gateway, and the run rule: which endpoints and keys a run may resolve."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from pydantic import Field, model_validator

from core.domain.errors import Misconfigured
from core.runtime.settings import LIVE, WorkerSettings
from venues import VENUES
from venues.environment import Endpoints, Environment
from venues.kalshi import hosts as kalshi_hosts
from venues.polymarket import hosts as polymarket_hosts


class ExecuteSettings(WorkerSettings):
    """What a gateway is told; limits are its own, whatever decide says."""

    account: str = Field("", description="<venue>:<name>, the venue account this gateway trades")
    region: str = Field("", description="where this host stands, such as us: what sign-offs may name (docs/hosts.md)")
    kalshi_environment: Environment = Field(Environment.SIMULATED, description="simulated, demo or production")
    polymarket_environment: Environment = Field(Environment.SIMULATED, description="simulated, demo or production")
    kalshi_simulated: str = Field("127.0.0.1:18801", description="simulated Kalshi")
    polymarket_simulated: str = Field("127.0.0.1:18802", description="simulated Polymarket CLOB")
    sim_credentials_file: Path = Field(
        Path("build/sim/credentials.json"), description="test accounts of the simulated venues"
    )
    trade_credentials_file: Path | None = Field(
        None, description="trading keys, in the same form; only the run live may have it"
    )
    demo_credentials_file: Path | None = Field(None, description="keys of the venues' demo environments, same form")

    halt_dir: Path = Field(
        Path("build/halt"), description="folder of halts by hand: what `crossbook halt --direct` leaves for gateways"
    )

    kalshi_tier: str = Field("basic", description="usage tier of the Kalshi account: its rate budget")
    polymarket_tier: str = Field("standard", description="trading tier of the Polymarket signer: its rate budget")

    contracts_max: int = Field(1_000, ge=1, description="size of one order")
    order_notional_max_usd: int = Field(1_000, ge=1, description="money of one order")
    day_notional_max_usd: int = Field(1_000_000, ge=1, description="money of all orders of one UTC day")
    open_orders_max: int = Field(200, ge=1, description="orders that may be out at once")
    collar_cents: int = Field(10, ge=0, le=99, description="how far beyond the opposite best a limit may reach")
    quote_age_max_ms: int = Field(1_000, ge=50, le=10_000, description="age of the last Tick of the quote's partition")

    report_interval_s: float = Field(2.0, gt=0, description="between two VenueReports")
    payout_interval_s: float = Field(10.0, gt=0, le=30, description="between two looks at what settled markets paid")
    alive_interval_s: float = Field(0.5, gt=0, le=2, description="between two Alive")
    stop_after_s: float = Field(2.0, gt=0, description="lateness of Beats or acknowledgements that stops the gateway")
    answer_timeout_s: float = Field(2.0, gt=0, le=30, description="a request without an answer after it is unknown")
    open_poll_s: float = Field(
        10.0, gt=0, description="a resting order is asked for this often, whatever the stream says"
    )
    heartbeat_s: float = Field(
        3.0, ge=0, le=4, description="between two heartbeats where a venue has a dead-man switch (10 s); 0: unused"
    )
    kalshi_expiry_s: int = Field(
        0,
        ge=0,
        description="resting Kalshi orders end so long after they were last renewed (3 polls at least); 0: never",
    )

    warm_connections: int = Field(
        8, ge=0, le=16, description="connections to the venue kept open and warm, one for each leg that leaves at once"
    )
    warm_interval_s: float = Field(
        15.0, ge=1, le=60, description="between two reads over each warm connection; sooner where the venue says so"
    )

    @model_validator(mode="after")
    def _expiry_outlives_polls(self) -> Self:
        if self.kalshi_expiry_s and self.kalshi_expiry_s < 3 * self.open_poll_s:
            raise ValueError(
                f"CROSSBOOK_KALSHI_EXPIRY_S {self.kalshi_expiry_s}: orders are renewed every open_poll_s "
                f"({self.open_poll_s}), so at least three times that"
            )
        return self


class KalshiKey(msgspec.Struct, frozen=True):
    """One API key of a Kalshi account."""

    account: str
    key_id: str
    private_key_pem: str


class PolymarketWallet(msgspec.Struct, frozen=True):
    """One wallet with its API credentials."""

    account: str
    private_key: str
    address: str
    funder: str
    signature_type: int
    chain_id: int
    api_key: str
    secret: str
    passphrase: str


class Credentials(msgspec.Struct, frozen=True):
    """Keys of accounts by venue; of several keys of one account the first is used."""

    kalshi: list[KalshiKey] = []
    polymarket: list[PolymarketWallet] = []


class Resolved(NamedTuple):
    """Where a gateway may send, and the file its keys are in."""

    venue: str
    name: str
    endpoints: Endpoints
    credentials_file: Path


def resolve_endpoints(settings: ExecuteSettings) -> Resolved:
    """Return the account's endpoints and credentials file, if this run may use them.

    Only the run `live` with `CROSSBOOK_ARM=<account>` reaches production order endpoints or is given trading keys; any
    other run that finds either does not start.

    Raises:
        Misconfigured: not allowed, or not complete; says which setting to change.
    """
    venue, _, name = settings.account.partition(":")
    if venue not in VENUES or not name:
        raise Misconfigured(f"--account: expected <venue>:<name> with a venue of {VENUES}, found {settings.account!r}")
    environments = _environments(settings)
    armed = settings.writes == LIVE and settings.arm == settings.account
    if not armed:
        # Every venue's settings are looked at, not only this account's: a key that lies about is a mistake already.
        for other, environment in environments.items():
            if environment is Environment.PRODUCTION:
                raise Misconfigured(
                    f"CROSSBOOK_{other.upper()}_ENVIRONMENT is production, but run {settings.writes!r} is not armed for "
                    f"{settings.account}: only the run live with CROSSBOOK_ARM={settings.account} sends orders there"
                )
        if settings.trade_credentials_file is not None:
            raise Misconfigured(
                f"CROSSBOOK_TRADE_CREDENTIALS_FILE is set, but run {settings.writes!r} is not armed for "
                f"{settings.account}: only the run live with CROSSBOOK_ARM={settings.account} loads trading keys"
            )
    environment = environments[venue]
    if venue == "kalshi":
        endpoints = kalshi_hosts.endpoints(environment, simulated=settings.kalshi_simulated)
        reaches_production = kalshi_hosts.takes_production_orders(endpoints.order_rest)
    else:
        endpoints = polymarket_hosts.endpoints(environment, simulated=settings.polymarket_simulated)
        reaches_production = polymarket_hosts.takes_production_orders(endpoints.order_rest)
    if reaches_production and not armed:
        raise Misconfigured(f"{endpoints.order_rest} takes production orders: only an armed live run may use it")
    path = credentials_file(settings, venue)
    return Resolved(venue, name, endpoints, path)


def credentials_file(settings: ExecuteSettings, venue: str) -> Path:
    """Return the file that holds the keys of a venue's accounts in its environment.

    Raises:
        Misconfigured: the setting that names it is empty.
    """
    environment = _environments(settings)[venue]
    variable, path = {
        Environment.PRODUCTION: ("CROSSBOOK_TRADE_CREDENTIALS_FILE", settings.trade_credentials_file),
        Environment.DEMO: ("CROSSBOOK_DEMO_CREDENTIALS_FILE", settings.demo_credentials_file),
        Environment.SIMULATED: ("CROSSBOOK_SIM_CREDENTIALS_FILE", settings.sim_credentials_file),
    }[environment]
    if path is None:
        name = settings.account or venue
        raise Misconfigured(f"{variable} is not set: the keys of {name} ({environment}) are not known")
    return path


def _environments(settings: ExecuteSettings) -> dict[str, Environment]:
    return {"kalshi": settings.kalshi_environment, "polymarket": settings.polymarket_environment}


def load_credentials(path: Path) -> Credentials:
    """Read a credentials file.

    Raises:
        Misconfigured: missing or not of this form; nothing of its content is repeated.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except OSError as e:
        raise Misconfigured(
            f"credentials file {path}: {e.strerror}; start the simulated venues first, or set it"
        ) from e
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # `from None`: the cause may quote a key.
        raise Misconfigured(
            f"credentials file {path} is not of the expected form (kalshi: [...], polymarket: [...])"
        ) from None
