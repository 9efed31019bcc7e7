"""Polymarket's endpoints by environment.

Source: docs.polymarket.com; the addresses of the official client. There is no public demo: only production, and ours.
"""

from urllib.parse import urlsplit

from core.domain.errors import Misconfigured
from venues.environment import Endpoints, Environment, simulated_base

MARKET_WS_PATH = "/ws/market"
USER_WS_PATH = "/ws/user"
ORDER_PATH = "/order"
ORDERS_PATH = "/orders"
CANCEL_ALL_PATH = "/cancel-all"
CANCEL_MARKET_PATH = "/cancel-market-orders"
HEARTBEAT_PATH = "/v1/heartbeats"
OPEN_ORDERS_PATH = "/data/orders"
TRADES_PATH = "/data/trades"
BALANCE_PATH = "/balance-allowance"
BOOK_PATH = "/book"
BOOKS_PATH = "/books"
VERSION_PATH = "/version"
"""Answers `{"version": 2}`; signing is gated on it."""
GAMMA_MARKETS_PATH = "/markets/keyset"
GEOBLOCK_PATH = "/api/geoblock"
GEOBLOCK_URL = f"https://polymarket.com{GEOBLOCK_PATH}"
"""Says of the address that asks whether it may trade; the site's host, not the exchange's."""
CLOSED_ONLY_PATH = "/auth/ban-status/closed-only"
"""Says (signed) whether the account may only close."""

PROTOCOL_VERSION = 2

_PRODUCTION = Endpoints(
    environment=Environment.PRODUCTION,
    market_rest="https://clob.polymarket.com",
    market_ws="wss://ws-subscriptions-clob.polymarket.com",
    order_rest="https://clob.polymarket.com",
    private_ws="wss://ws-subscriptions-clob.polymarket.com",
    catalogue_rest="https://gamma-api.polymarket.com",
)


def endpoints(environment: Environment, *, simulated: str = "") -> Endpoints:
    """Return the base addresses (scheme, host, no path); `simulated` is `127.0.0.1:<port>` of a simulated venue.

    Raises:
        Misconfigured: the demo environment, which this venue does not have.
    """
    if environment is Environment.PRODUCTION:
        return _PRODUCTION
    if environment is Environment.DEMO:
        raise Misconfigured("polymarket has no demo environment: use simulated")
    base = simulated_base(simulated)
    rest, ws = f"http://{base}", f"ws://{base}"
    return Endpoints(
        environment=environment, market_rest=rest, market_ws=ws, order_rest=rest, private_ws=ws, catalogue_rest=rest
    )


def takes_production_orders(url: str) -> bool:
    """Say whether an order sent to `url` would reach the production exchange; any polymarket.com host does."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return host in {"polymarket.com", "polymarket.us"} or host.endswith((".polymarket.com", ".polymarket.us"))
