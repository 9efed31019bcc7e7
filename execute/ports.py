"""What the gateway needs from outside: a log to write, logs to read, and a venue that speaks its own protocol.

`LogWriter` and `LogReader` are satisfied by `core.runtime.edge`; `Venue` by `execute/<venue>.py`. A venue answers in
`View`s: what it says about orders and fills by its own ids. `gateway.py` turns them into records by ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from core.runtime.flow import BY_KEY, Input
from core.runtime.topics import Topic
from schemas.decision import Amend, Grant
from schemas.enums import Liquidity, OrderStatus, Outcome, Settlement, Side, Verdict
from schemas.market import Instrument
from schemas.order import Holding, VenueCall
from schemas.record import Record
from venues.refusal import Outcome as Refusal
from venues.refusal import VenueError

# --- logs


class LogWriter(Protocol):
    """One idempotent producer that never times a record out."""

    def send(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> None:
        """Append in order; raises `Retry` when its bounded queue is full."""
        ...

    async def send_acked(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> int:
        """Append and return the offset Kafka gave it."""
        ...

    def ack_age_s(self) -> float:
        """Return the age of the oldest record Kafka has not acknowledged, 0 when none."""
        ...


class LogReader(Protocol):
    """A consumer whose batches come in order."""

    def batches(self) -> AsyncIterator[Sequence[Input]]:
        """Yield what was read, in order."""
        ...


# --- requests


class Lane(IntEnum):
    """Who goes first when the rate budget is short."""

    CANCEL = 0
    HEDGE = 1
    NEW = 2
    REPORT = 3


class Budget(NamedTuple):
    """A venue's token bucket."""

    refill_per_s: int
    capacity: int


class Request(NamedTuple):
    """The exact bytes of one request, its headers aside; those are signed when it leaves.

    Attributes:
        path: with the query; a whole address where another host of the venue answers (public reads only: the
            signature of the account never goes there).
        venue_order: the venue's id of the order where it is known before sending.
        bucket: which of the venue's budgets it draws on, `cost` tokens.
        is_public: answered to anybody, so that its answer says nothing of the key.
    """

    method: str
    path: str
    body: bytes = b""
    venue_order: str = ""
    bucket: str = ""
    cost: int = 1
    is_public: bool = False


class Reply(NamedTuple):
    """An answer, whatever it says; `date_ns` is the date its server put on it, 0 where none."""

    status: int
    body: bytes
    sent_ts_ns: int
    recv_ts_ns: int
    date_ns: int = 0


class Frames(Protocol):
    """Keeps what was exchanged with a venue: the journal of a gateway, a file where there is no Kafka."""

    @property
    def account(self) -> str:
        """The venue account."""
        ...

    def frame(self, record: VenueCall) -> None:
        """Keep one request and its answer, secrets removed."""
        ...


class Caller(Protocol):
    """Sends requests of one account within its rate budget, and keeps them on order.frame."""

    async def call(
        self,
        request: Request,
        *,
        lane: Lane,
        order: str = "",
        send_by_ns: int = 0,
        headers: Mapping[str, str] | None = None,
        why_not: Callable[[], str] | None = None,
    ) -> Reply:
        """Return the venue's answer; `headers` where they were signed before. Requests leave in the order of their tokens.

        `why_not` is asked when a connection is there, just before the write; what it returns keeps the bytes here.

        Raises:
            TooLate: `send_by_ns` (0: none) passed before a byte left, or `why_not` had a reason.
            Unavailable: no connection came about; not a byte left.
            OutcomeUnknown: bytes left, and no whole answer came back.
        """
        ...


# --- what a venue says


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


class Held(NamedTuple):
    """An outcome the account may hold."""

    instrument: str
    outcome: Outcome
    token: str


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
    """Cash, holdings and open orders (by venue ids), with the venue's own time of them."""

    as_of_ns: int
    cash_e6: int
    holdings: tuple[Holding, ...]
    open_orders: tuple[str, ...]
    purse: Purse | None = None


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


class Venue(Protocol):
    """One venue's protocol for one account: bodies, signatures, answers. No socket, no clock of its own."""

    name: str
    currency: str
    acceptance_window_s: float
    """An order may appear this long after its bytes left."""
    settles: bool
    """Fills are final only after a settlement."""
    budgets: Mapping[str, Budget]
    signs_slowly: bool
    """A signature costs more than some 50 us: it is made off the event loop, by `headers` and `stream` on another thread."""
    asks_standing: bool
    """The venue has an answer of its own to where an address may trade."""
    clock_remedy: str
    """What to do about a refused signature or clock, for the operator."""

    def build(self, grant: Grant, instrument: Instrument) -> Request:
        """Return the order's exact bytes; raises `OffGrid` where the venue would refuse them."""
        ...

    def headers(self, request: Request, now_ns: int) -> dict[str, str]:
        """Return the signed headers of one request."""
        ...

    def read_answer(self, grant: Grant, request: Request, reply: Reply) -> Answer:
        """Return what the answer to a create means."""
        ...

    def cancel(self, subject: Subject) -> Request:
        """Return the request that takes an order back; its `venue_order` must be known."""
        ...

    def read_cancel(self, subject: Subject, reply: Reply) -> Answer:
        """Return what the answer to a cancel means."""
        ...

    def amend(self, subject: Subject, amend: Amend) -> Request | None:
        """Return the request that changes an order that rests, None where the venue offers none.

        Identical bytes may be repeated: the size is the total, so what is done twice is done once.
        """
        ...

    def renew(self, subject: Subject, now_ns: int) -> Request | None:
        """Return the request that puts off the expiry of an order that rests, None where none is put on."""
        ...

    def cancel_all(self) -> Request:
        """Return the request that takes back every open order of the account."""
        ...

    def heartbeat(self, previous: str) -> Request | None:
        """Return the next heartbeat of the venue's dead-man switch, None where it has none."""
        ...

    def read_heartbeat(self, reply: Reply) -> str:
        """Return the id the next heartbeat is to name, from its acceptance or from its refusal.

        Raises:
            Unavailable: it was neither.
        """
        ...

    async def open_orders(self, caller: Caller) -> tuple[Resting, ...]:
        """Ask for every open order of the account; raises rather than to return an incomplete list."""
        ...

    def refusal(self, reply: Reply) -> VenueError:
        """Return any error answer as one value."""
        ...

    async def live_budgets(self, caller: Caller) -> Mapping[str, Budget]:
        """Ask for the account's own rate limits; empty where the venue does not tell."""
        ...

    async def look_up(self, caller: Caller, subject: Subject) -> Lookup:
        """Ask for an order and its fills.

        Raises:
            InvariantBroken: the venue has another order under this id.
        """
        ...

    async def reconcile(self, caller: Caller, since_ns: int) -> tuple[View, ...]:
        """Return orders and fills since a time: what a private stream may have missed."""
        ...

    def mode(self, error: VenueError) -> Mode | None:
        """Return what a refusal says of the whole venue, None where it is about its order only."""
        ...

    async def status(self, caller: Caller) -> Status | None:
        """Ask whether the venue trades; None where it has no such page."""
        ...

    def standing(self, error: VenueError) -> Standing | None:
        """Return what a refusal says of this account's right to trade, None where it says nothing of it."""
        ...

    async def ask_standing(self, caller: Caller) -> Standing:
        """Ask where this address and account may trade; UNKNOWN where the venue offers no answer."""
        ...

    def touch(self) -> Request:
        """Return the cheapest read there is: what keeps a connection warm."""
        ...

    def refresh(self, held: Held) -> Request | None:
        """Return the request that lets the venue look again at what is held of a token, None where it needs none."""
        ...

    async def report(self, caller: Caller, held: Sequence[Held]) -> Report:
        """Ask for cash, holdings (of `held` at least) and open orders."""
        ...

    def stream(self, now_ns: int) -> Stream:
        """Return how to open the private stream now."""
        ...

    def parse(self, payload: bytes) -> Sequence[View]:
        """Return what one private frame says; types it does not know say nothing.

        Raises:
            Reject: the frame is not what the protocol says.
        """
        ...
