"""What is said about subscriptions on Kalshi's WebSocket: our commands and the venue's replies.

Source: docs.kalshi.com quick_start_websockets, asyncapi.yaml. Replies that carry `sid` and `seq` take a number of that
subscription's sequence, so a gap is looked for over every frame, before its type is.
"""

import msgspec

from venues.kalshi.wire import Envelope
from venues.text import decode

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""The venue's own limit of one message."""
PING_S = 10
"""The venue pings this often; a connection silent for several of these is dead."""
SESSION_MARKETS_MAX = 500_000
COMMANDS_PER_S_MAX = 10_000
CONNECTIONS_MAX = 200
"""Default of the lowest tier, per user."""

_encode = msgspec.json.Encoder().encode


class Subscribed(msgspec.Struct, frozen=True):
    """The venue gave a channel its `sid`. One subscribe of several channels is answered once for each."""

    channel: str
    sid: int


class WireError(msgspec.Struct, frozen=True):
    """An error frame; `sid` is None where it does not concern one subscription."""

    code: int
    message: str
    command_id: int | None
    sid: int | None

    @property
    def ends_subscription(self) -> bool:
        """Say whether the channel is dead and must be subscribed anew (channel error, buffer overflow)."""
        return self.code in {10, 25}


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


class _Ok(msgspec.Struct):
    market_tickers: list[str] | None = None


_SUBSCRIBED = msgspec.json.Decoder(Subscribed)
_ERROR = msgspec.json.Decoder(_ErrorBody)
_OK = msgspec.json.Decoder(_Ok | list[Subscribed] | None)


def decode_subscribed(frame: Envelope) -> Subscribed:
    """Return what a `subscribed` frame grants."""
    return decode(_SUBSCRIBED, frame.msg, "kalshi subscribed")


def decode_ok(frame: Envelope) -> list[str]:
    """Return the full list of tickers after an update, empty where the venue was asked to leave it out."""
    if not bytes(frame.msg):
        return []
    body = decode(_OK, frame.msg, "kalshi ok")
    return (body.market_tickers or []) if isinstance(body, _Ok) else []


def decode_error(frame: Envelope) -> WireError:
    """Return an error frame."""
    body = decode(_ERROR, frame.msg, "kalshi error")
    return WireError(body.code, body.msg, frame.id, frame.sid)


def subscribe_command(command_id: int, channels: list[str], tickers: list[str] | None = None) -> bytes:
    """Return a subscribe command; tickers are required for `orderbook_delta` and refused for the life cycle.

    `use_yes_price` is always stated: the venue announced that its default will change.
    """
    params: dict[str, object] = {"channels": channels}
    if tickers is not None:
        params["market_tickers"] = tickers
    if "orderbook_delta" in channels:
        params["use_yes_price"] = True
    # The acknowledgement would list every ticker of the subscription.
    params["skip_ticker_ack"] = True
    return _encode({"id": command_id, "cmd": "subscribe", "params": params})


def unsubscribe_command(command_id: int, sids: list[int]) -> bytes:
    """Return an unsubscribe command."""
    return _encode({"id": command_id, "cmd": "unsubscribe", "params": {"sids": sids}})


def get_snapshot_command(command_id: int, sid: int, tickers: list[str]) -> bytes:
    """Return the command for new snapshots in the sequence of `sid`; the subscription stays as it is."""
    return _update(command_id, sid, "get_snapshot", tickers)


def add_markets_command(command_id: int, sid: int, tickers: list[str]) -> bytes:
    """Return the command that adds markets; snapshots of the new ones follow on the same `sid`."""
    return _update(command_id, sid, "add_markets", tickers)


def delete_markets_command(command_id: int, sid: int, tickers: list[str]) -> bytes:
    """Return the command that removes markets."""
    return _update(command_id, sid, "delete_markets", tickers)


def _update(command_id: int, sid: int, action: str, tickers: list[str]) -> bytes:
    params = {"sids": [sid], "action": action, "market_tickers": tickers}
    return _encode({"id": command_id, "cmd": "update_subscription", "params": params})
