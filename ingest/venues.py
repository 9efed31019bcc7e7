"""The venues' sockets and listings, built from the settings: endpoints by environment, keys, limits."""

from pathlib import Path

import msgspec

from core.domain.errors import Misconfigured, UnknownInstrument
from core.runtime.clock import NS_PER_MS, Clock
from ingest.host import BreakerLimits
from ingest.kalshi import KalshiConversation
from ingest.kalshi_books import KalshiBooks
from ingest.kalshi_listing import KalshiListing
from ingest.listing import Listing
from ingest.polymarket import PolymarketConversation
from ingest.polymarket_books import PolymarketBooks
from ingest.polymarket_listing import PolymarketListing
from ingest.rest import RestClient
from ingest.settings import IngestSettings
from ingest.venue import Venue
from schemas.raw import Description
from venues.environment import Environment
from venues.kalshi import hosts as kalshi_hosts
from venues.kalshi.auth import Signer
from venues.polymarket import hosts as polymarket_hosts
from venues.polymarket.rest import decode_gamma_market

_KALSHI_REMEDY = (
    "check that the key is of this environment and not expired, and the clock of this host (chronyc tracking): "
    "the venue refuses 30 s"
)
_POLYMARKET_REMEDY = "market data needs no key there: check the address, and whether this host's country is blocked"


class _Key(msgspec.Struct):
    account: str
    key_id: str
    private_key_pem: str


class _Keys(msgspec.Struct):
    kalshi: list[_Key] = []


def venue_of(name: str, settings: IngestSettings) -> Venue:
    """Return a venue's market-data sockets.

    Raises:
        Misconfigured: no key where one is needed, or an environment the venue does not have.
    """
    return _kalshi(settings) if name == "kalshi" else _polymarket(settings)


def breaker_limits(settings: IngestSettings) -> BreakerLimits:
    """Return when a host is left alone."""
    return BreakerLimits(settings.feed_breaker_failures_max, settings.feed_breaker_pause_s)


def catalogue_base(name: str, settings: IngestSettings) -> str:
    """Return scheme and host of a venue's catalogue."""
    if name == "kalshi":
        return kalshi_hosts.endpoints(settings.kalshi_environment, simulated=settings.kalshi_simulated).catalogue_rest
    return polymarket_hosts.endpoints(
        settings.polymarket_environment, simulated=settings.polymarket_gamma_simulated
    ).catalogue_rest


def listing_of(name: str, rest: RestClient, clock: Clock, settings: IngestSettings) -> Listing:
    """Return a venue's list of markets."""
    if name == "kalshi":
        series = [text.strip() for text in settings.catalogue_series.split(",") if text.strip()]
        return KalshiListing(
            rest,
            clock,
            page=settings.catalogue_page,
            series=series,
            context_kept_s=settings.catalogue_context_s_max,
            context_requests_max=settings.catalogue_context_requests_max,
        )
    return PolymarketListing(rest, page=settings.catalogue_page)


def _kalshi(settings: IngestSettings) -> Venue:
    endpoints = kalshi_hosts.endpoints(settings.kalshi_environment, simulated=settings.kalshi_simulated)
    signer = _kalshi_signer(settings)

    def headers(now_ns: int) -> dict[str, str]:
        return signer.headers("GET", kalshi_hosts.WS_PATH, now_ns // NS_PER_MS)

    return Venue(
        name="kalshi",
        url=endpoints.market_ws + kalshi_hosts.WS_PATH,
        headers=headers,
        subject_of=lambda description: description.instrument.partition(":")[2],
        new_conversation=lambda subjects, venue_wide, random_bits: KalshiConversation(
            subjects, venue_wide=venue_wide, random_bits=random_bits
        ),
        per_feed_max=settings.kalshi_markets_per_connection,
        remedy=_KALSHI_REMEDY,
        quiet_s_max=settings.kalshi_quiet_s,
        rest_url=endpoints.market_rest,
        books=KalshiBooks(),
    )


def _kalshi_signer(settings: IngestSettings) -> Signer:
    variable, path = {
        Environment.SIMULATED: ("CROSSBOOK_SIM_CREDENTIALS_FILE", settings.sim_credentials_file),
        Environment.DEMO: ("CROSSBOOK_DEMO_CREDENTIALS_FILE", settings.demo_credentials_file),
        Environment.PRODUCTION: ("CROSSBOOK_DATA_CREDENTIALS_FILE", settings.data_credentials_file),
    }[settings.kalshi_environment]
    if path is None:
        raise Misconfigured(f"{variable} is not set: Kalshi's market-data sockets are signed, too")
    for key in _read_keys(path, variable).kalshi:
        if key.account == settings.data_account:
            return Signer.from_pem(key.key_id, key.private_key_pem)
    raise Misconfigured(f"{variable}: {path} has no Kalshi key of account {settings.data_account!r}")


def _read_keys(path: Path, variable: str) -> _Keys:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Keys)
    except OSError as e:
        raise Misconfigured(
            f"{variable}: {path}: {e.strerror}; start the simulated venues first, or set the path"
        ) from e
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # `from None`: the cause may quote a key.
        raise Misconfigured(f'{variable}: {path} is not of the form {{"kalshi": [...], "polymarket": [...]}}') from None


def _polymarket(settings: IngestSettings) -> Venue:
    endpoints = polymarket_hosts.endpoints(settings.polymarket_environment, simulated=settings.polymarket_simulated)
    return Venue(
        name="polymarket",
        url=endpoints.market_ws + polymarket_hosts.MARKET_WS_PATH,
        headers=lambda _: {},
        subject_of=_yes_token,
        new_conversation=lambda subjects, venue_wide, _: PolymarketConversation(subjects, venue_wide=venue_wide),
        per_feed_max=settings.polymarket_markets_per_connection,
        remedy=_POLYMARKET_REMEDY,
        quiet_s_max=settings.polymarket_quiet_s,
        rest_url=endpoints.market_rest,
        books=PolymarketBooks(),
    )


def _yes_token(description: Description) -> str:
    market = decode_gamma_market(description.payload)
    if not market.is_binary:
        raise UnknownInstrument(f"{description.instrument}: expected two tokens, found {len(market.token_ids)}")
    return market.token_ids[0]
