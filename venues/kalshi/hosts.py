"""Kalshi's endpoints by environment.

Source: docs.kalshi.com/getting_started/api_environments. Keys belong to one environment. One REST host serves market
data and orders, so every production base takes orders if a trading key is used with it.
"""

from urllib.parse import urlsplit

from venues.environment import Endpoints, Environment, simulated_base

API_ROOT = "/trade-api/v2"
"""Every REST path begins with it, in the request and in the signed text."""
WS_PATH = "/trade-api/ws/v2"
"""Path of the WebSocket upgrade, as it is signed."""
ORDERS_PATH = f"{API_ROOT}/portfolio/events/orders"
"""Create; cancel is DELETE on `<this>/<order id>`, amend POST on `<this>/<order id>/amend`."""
ORDERBOOKS_PATH = f"{API_ROOT}/markets/orderbooks"
"""Several books in one answer: `tickers` repeated."""

# The recommended hosts since 2026-05-07; the older `api.elections.kalshi.com` and `demo-api.kalshi.co` serve the same.
_REST_HOSTS = {
    Environment.PRODUCTION: "external-api.kalshi.com",
    Environment.DEMO: "external-api.demo.kalshi.co",
}
_WS_HOSTS = {
    Environment.PRODUCTION: "external-api-ws.kalshi.com",
    Environment.DEMO: "external-api-ws.demo.kalshi.co",
}


def endpoints(environment: Environment, *, simulated: str = "") -> Endpoints:
    """Return the base addresses (scheme, host, no path); `simulated` is `127.0.0.1:<port>` of a simulated venue.

    REST paths are joined to `API_ROOT`, the sockets to `WS_PATH`.
    """
    if environment is Environment.SIMULATED:
        base = simulated_base(simulated)
        rest, ws = f"http://{base}", f"ws://{base}"
    else:
        rest, ws = f"https://{_REST_HOSTS[environment]}", f"wss://{_WS_HOSTS[environment]}"
    return Endpoints(
        environment=environment, market_rest=rest, market_ws=ws, order_rest=rest, private_ws=ws, catalogue_rest=rest
    )


def orderbook_path(ticker: str) -> str:
    """Return the path of one market's order book."""
    return f"{API_ROOT}/markets/{ticker}/orderbook"


def takes_production_orders(url: str) -> bool:
    """Say whether an order sent to `url` would reach the production exchange; any unlisted kalshi.com host does."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return host == "kalshi.com" or host.endswith(".kalshi.com")
