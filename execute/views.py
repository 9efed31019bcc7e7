"""What a venue says of orders, fills, money and itself, by its own ids and in our numbers.

`execute/<venue>.py` makes these of answers and frames; `journal.py` and `guards.py` turn them into records and refusals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from core.domain.errors import Reject
from schemas.enums import Liquidity, OrderStatus, Outcome, Settlement, Side, Verdict
from schemas.order import Holding
from venues.refusal import Outcome as Refusal
from venues.refusal import VenueError


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """The state of an order. `filled` is the venue's cumulative figure at 1e-6; `client_id` may be empty.

    `price` (YES, 1e-4) and `size` (total, 1e-6) as they stand now, where the venue lets orders be amended; else 0.
    """

    venue_order: str
    status: OrderStatus
    filled: int
    client_id: str = ""
    reason: str = ""
    price: int = 0
    size: int = 0
    venue_ts_ns: int = 0

    @property
    def terminal(self) -> bool:
        """Say whether nothing more can be filled."""
        return self.status in {"REJECTED", "CANCELLED", "EXPIRED", "FILLED"}


@dataclass(frozen=True, kw_only=True)
class FillView:
    """One execution as the venue states it; prices and money at 1e-6 of the token and of the asset."""

    venue_order: str
    fill: str
    instrument: str
    outcome: Outcome
    token_side: Side
    size: int
    price_e6: int
    notional_e6: int
    fee_e6: int
    asset: str
    liquidity: Liquidity
    settlement: Settlement
    client_id: str = ""
    venue_ts_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class SettledView:
    """The end of a fill's settlement."""

    venue_order: str
    fill: str
    instrument: str
    settlement: Settlement
    reference: str = ""
    venue_ts_ns: int = 0


View = OrderView | FillView | SettledView


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an answer to a create or a cancel means.

    Attributes:
        views: what is known now; empty where it must be looked up.
        refusal: None where the venue did what was asked; else whether it is certain that it did not.
        error: the venue's words for the refusal.
    """

    views: tuple[View, ...] = ()
    refusal: Refusal | None = None
    error: VenueError | None = None


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What the venue knows of one order. Not found proves something only if `as_of_ns` is late enough."""

    found: bool
    as_of_ns: int
    views: tuple[View, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An order that is looked up or cancelled."""

    order: str
    instrument: str
    client_id: str
    venue_order: str
    side: Side
    price: int
    """YES price at 1e-4."""
    size: int
    """Ordered, at 1e-6; 0 where the Grant is not known any more: side and price are not known then either."""
    submitted_ns: int
    answered: bool
    """The venue spoke of it before: not finding it does not mean that it never arrived."""
    amended: bool = False
    """It was to be amended: price and size above may be older than what stands at the venue."""


@dataclass(frozen=True, kw_only=True)
class PayoutView:
    """What a settled market paid the account, at 1e-6; `payout_e6` of one YES, -1 where it is not stated."""

    instrument: str
    result: str
    yes_size: int
    no_size: int
    revenue_e6: int
    fee_e6: int
    payout_e6: int
    venue_ts_ns: int = 0


class Held(NamedTuple):
    """An outcome the account may hold.

    Attributes:
        size: what the fills of our orders leave of it, at 1e-6.
        moved_ns: the venue's time of its newest fill or settlement; what was read before does not know of it.
        waits: the venue was not told yet to look at the chain since: what it says may be older than it seems.
        is_over: its market is decided.
    """

    instrument: str
    outcome: Outcome
    token: str
    size: int = 0
    moved_ns: int = 0
    waits: bool = False
    is_over: bool = False


class Resting(NamedTuple):
    """An order the venue lists as open, whoever sent it; `instrument` is empty where it does not say."""

    venue_order: str
    instrument: str
    client_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Purse:
    """What a venue says may be spent.

    Attributes:
        cash_e6: by shard; a venue without shards has shard 0.
        allowance_e6: what its exchanges may move, None: without a bound or not stated.
        tokens: what may be sold, by token, at 1e-6; None where the venue nets and none is needed.
        resting_is_out: cash and tokens bound by resting orders are taken out of the figures already.
    """

    as_of_ns: int
    cash_e6: Mapping[int, int]
    allowance_e6: int | None = None
    tokens: Mapping[str, int] | None = None
    resting_is_out: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """Cash, holdings and open orders (by venue ids), with the venue's own time of the oldest of them.

    Attributes:
        unread: holdings that are still to be read: above 0 it states nothing of what is held, only the purse.
        cash_by_shard: what of the cash lies on which exchange shard; empty where the venue has none or does not say.
    """

    as_of_ns: int
    cash_e6: int
    holdings: tuple[Holding, ...]
    open_orders: tuple[str, ...]
    purse: Purse | None = None
    unread: int = 0
    cash_by_shard: Mapping[int, int] = field(default_factory=dict)


class Mode(IntEnum):
    """What a venue takes, from everything to nothing new."""

    OPEN = 0
    POST_ONLY = 1
    CANCEL_ONLY = 2


class Status(NamedTuple):
    """What a venue's own status page says; shards that do not trade while the venue does."""

    mode: Mode
    why: str = ""
    shards_paused: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Standing:
    """What a venue itself says of an address and an account.

    Attributes:
        verdict: ALLOWED, CLOSE_ONLY or FORBIDDEN; UNKNOWN where the venue offers no such answer.
    """

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Stream:
    """How the private stream is opened and kept.

    Attributes:
        hello: text messages to send once it is open; never recorded, they may hold secrets.
        ping: text to send every `ping_s`, empty where the protocol's own pings serve.
        pong: its answer, which is no message.
        silence_s: without any frame, ping or pong for this long it is dead.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    hello: tuple[str, ...] = ()
    ping: str = ""
    pong: str = ""
    ping_s: float = 10.0
    silence_s: float = 30.0


def unreadable(status: int, error: Reject) -> Answer:
    """Return what a success in words we cannot read means: whether it was done is looked up."""
    words = VenueError(status=status, code="unreadable", message=str(error), outcome=Refusal.UNKNOWN)
    return Answer(refusal=Refusal.UNKNOWN, error=words)
