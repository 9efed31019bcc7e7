"""The protocol of each venue by itself: requests are built and answers read, and no host is behind its endpoints."""

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from core.runtime.clock import SystemClock
from execute.calls import Http
from execute.kalshi import KalshiVenue
from execute.limiter import Limiter
from execute.polymarket import PolymarketVenue
from schemas.market import Instrument
from venues.environment import Environment
from venues.kalshi import hosts as kalshi_hosts
from venues.kalshi.auth import Signer
from venues.polymarket import hosts as polymarket_hosts
from venues.polymarket.auth import Credentials, Wallet

NOWHERE = "127.0.0.1:1"


class Tape:
    """A journal that keeps nothing."""

    account = "kalshi:main"

    def frame(self, record: Any) -> None:
        pass


def calls_to(port: int, venue: Any, *, limiter: Limiter | None = None, timeout_s: float = 2.0) -> Http:
    """Return what asks a listener on loopback as that venue."""
    clock = SystemClock()
    return Http(
        base=f"http://127.0.0.1:{port}",
        venue=venue,
        journal=Tape(),
        limiter=limiter or Limiter(venue.budgets, clock),
        clock=clock,
        timeout_s=timeout_s,
        on_refusal=lambda _: None,
    )


def kalshi_venue() -> KalshiVenue:
    """Return Kalshi's, with a key no venue knows."""
    return KalshiVenue(
        signer=Signer("key", ed25519.Ed25519PrivateKey.generate()),
        endpoints=kalshi_hosts.endpoints(Environment.SIMULATED, simulated=NOWHERE),
    )


def polymarket_venue(
    *, private_key: str = "0x" + "11" * 32, instruments: Mapping[str, Instrument] | None = None
) -> PolymarketVenue:
    """Return Polymarket's, for a wallet that funds itself."""
    wallet = Wallet(private_key)
    return PolymarketVenue(
        wallet=wallet,
        credentials=Credentials(api_key="me", secret="AAAA", passphrase="p"),
        funder=wallet.address,
        signature_type=0,
        chain_id=137,
        endpoints=polymarket_hosts.endpoints(Environment.SIMULATED, simulated=NOWHERE),
        instruments=instruments or {},
    )
