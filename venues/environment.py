"""Environments of a venue, and what an endpoint of one may do."""

from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from core.domain.errors import Misconfigured


class Environment(StrEnum):
    """Where a venue's endpoints stand."""

    PRODUCTION = "production"
    DEMO = "demo"
    SIMULATED = "simulated"


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Base addresses of one venue in one environment; an empty address means that it does not exist there."""

    environment: Environment
    market_rest: str
    market_ws: str
    order_rest: str
    private_ws: str
    catalogue_rest: str


def simulated_base(address: str) -> str:
    """Return `host:port` of a simulated venue, checked to stand on this machine.

    Raises:
        Misconfigured: another machine, or no port.
    """
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = parts.port
    except ValueError as e:
        raise Misconfigured(f"simulated venue address {address!r}: {e}") from e
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"} or port is None:
        raise Misconfigured(f"a simulated venue is 127.0.0.1:<port>, found {address!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"
