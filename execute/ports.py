"""What the gateway needs from outside: a log to write, logs to read, and a venue that speaks its own protocol.

`LogWriter` and `LogReader` are satisfied by `core.runtime.edge`; `Venue` by `execute/<venue>.py`. A venue answers in
`View`s (`views.py`): what it says about orders and fills by its own ids. `journal.py` turns them into records by ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from core.runtime.flow import BY_KEY, Input
from core.runtime.topics import Topic
from execute.views import (
    Answer,
    Held,
    Lookup,
    Mode,
    PayoutView,
    Report,
    Resting,
    Standing,
    Status,
    Stream,
    Subject,
    View,
)
from schemas.decision import Amend, Grant
from schemas.market import Instrument
from schemas.order import VenueCall
from schemas.record import Record
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

    @property
    def is_elsewhere(self) -> bool:
        """Whether another host of the venue answers."""
        return "://" in self.path


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


# --- venues


class Venue(Protocol):
    """One venue's protocol for one account: bodies, signatures, answers. No socket, no clock of its own."""

    name: str
    currency: str
    acceptance_window_s: float
    """An order may appear this long after its bytes left."""
    settles: bool
    """Fills are final only after a settlement."""
    states_payouts: bool
    """It lists what each settled market paid."""
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
            CutOff: the lists they stand on are longer than is read: nothing is known of it.
            InvariantBroken: the venue has another order under this id.
        """
        ...

    async def reconcile(self, caller: Caller, since_ns: int) -> tuple[View, ...]:
        """Return orders and fills since a time: what a private stream may have missed.

        Raises:
            CutOff: there are more than are read.
        """
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

    async def account_fault(self, caller: Caller) -> str:
        """Ask for a setting of the account under which our figures would not be the venue's; empty if there is none."""
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

    async def payouts(self, caller: Caller, since_ns: int) -> tuple[PayoutView, ...]:
        """Ask what markets paid since a time, newest first; empty where it does not list them.

        Raises:
            CutOff: the list is longer than is read.
        """
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
