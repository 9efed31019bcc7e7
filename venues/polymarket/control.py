"""What we say on Polymarket's sockets, and their keep-alive.

Source: docs.polymarket.com/market-data/websocket/*. Nothing is acknowledged; subscriptions do not survive a reconnect.
"""

import msgspec

from venues.polymarket.auth import Credentials

PING = "PING"
"""A text frame, not a WebSocket ping; the answer is the text `PONG`."""
PING_EVERY_S = 10
STALE_AFTER_S = 30
"""Without a PONG for this long the connection is dead."""
ASSETS_PER_CONNECTION_MAX = 400
"""Ours. Near 750 the initial books stop coming without an error (observed 2026-08); the venue names no limit."""
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""The first frame holds the books of all subscribed tokens."""

_encode = msgspec.json.Encoder().encode


def subscribe_market(asset_ids: list[str]) -> bytes:
    """Return the opening message of the market channel; the books of all tokens follow in one array.

    `custom_feature_enabled` brings `best_bid_ask`, `new_market` and `market_resolved`: without it they are absent.
    """
    return _encode({"assets_ids": asset_ids, "type": "market", "custom_feature_enabled": True})


def add_market(asset_ids: list[str]) -> bytes:
    """Return the message that adds tokens to an open market channel."""
    return _encode({"operation": "subscribe", "assets_ids": asset_ids, "custom_feature_enabled": True})


def drop_market(asset_ids: list[str]) -> bytes:
    """Return the message that removes tokens."""
    return _encode({"operation": "unsubscribe", "assets_ids": asset_ids})


def subscribe_user(credentials: Credentials, condition_ids: list[str] | None = None) -> bytes:
    """Return the opening message of the user channel; no markets means all of the account.

    It carries the API secret in the clear: never log or store it.
    """
    return _encode({"auth": credentials.user_auth(), "type": "user", "markets": condition_ids or []})
