"""Who listens to Kalshi's WebSocket: connections, their subscriptions, and what a wrong command is answered with."""

from collections.abc import Callable
from typing import NamedTuple

from simulate.history import Stated
from simulate.kalshi.ledger import KalshiAccount
from simulate.sockets import Connection
from simulate.truth import Mark

BOOK = "orderbook_delta"
PRIVATE = ("fill", "user_orders", "market_positions")
UNSEQUENCED = frozenset({"ticker", *PRIVATE})
CHANNELS = frozenset({BOOK, "trade", "ticker", "market_lifecycle_v2", *PRIVATE})
SUBSCRIPTION_MARKETS_MAX = 500_000
ERRORS = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    26: "Subscription market limit exceeded",
}


class CommandError(Exception):
    """A command that is answered with one of `ERRORS`."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code])
        self.code = code


class Subscription:
    """One channel of one connection; `tickers` None means all markets."""

    __slots__ = ("channel", "seq", "sid", "skip_ack", "tickers", "use_yes_price")

    def __init__(self, sid: int, channel: str, tickers: dict[str, None] | None, *, use_yes_price: bool) -> None:
        self.sid = sid
        self.channel = channel
        self.tickers = tickers
        self.use_yes_price = use_yes_price
        self.skip_ack = False
        self.seq = 0


class Client:
    """One connection with its subscriptions."""

    def __init__(self, connection: Connection, account: KalshiAccount) -> None:
        self.connection = connection
        self.account = account
        self.subscriptions: dict[int, Subscription] = {}
        self.silent: dict[str, Callable[[Message], bool]] = {}
        """Tickers whose messages are given to somebody before they are numbered; False lets one through."""
        self.owed: dict[str, int] = {}
        """Tickers whose first snapshot comes only after so many deltas."""
        self.owed_mark: Mark | None = None
        self._sid = 0

    def add(self, channel: str, tickers: dict[str, None] | None, *, use_yes_price: bool) -> Subscription:
        """Open a subscription under the next sid."""
        self._sid += 1
        subscription = Subscription(self._sid, channel, tickers, use_yes_price=use_yes_price)
        self.subscriptions[self._sid] = subscription
        return subscription

    def on_channel(self, channel: str) -> Subscription | None:
        """Return the subscription of a channel; there is at most one."""
        return next((sub for sub in self.subscriptions.values() if sub.channel == channel), None)


class Message(NamedTuple):
    """One message of a subscription before it is numbered."""

    subscription: Subscription
    kind: str
    ticker: str
    text: str
    stated: tuple[Stated, ...]
