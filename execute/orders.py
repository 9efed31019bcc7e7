"""What order.event says of each order of one account: the gateway's only memory.

The first record of any type for an order decides who may send it. A word of a gateway about bytes that never left
(EXPIRED_UNSENT, or a refusal of its own checks) counts only as the first record of its order or from the writer of its
Submitting: any other gateway cannot know. A word of the venue always counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from core.domain.units import MICRO, ceil_div
from execute.views import Subject
from schemas.decision import Amend, Cancel, Grant
from schemas.enums import OrderStatus, Outcome
from schemas.order import Fill, OrderUpdate, Payout, Settled, Submitting
from schemas.record import Record

REFUSAL = "gateway: "
"""How the reason of a gateway's own refusal begins."""
DAY_NS = 86_400 * 1_000_000_000


@dataclass(slots=True, eq=False)
class Tracked:
    """One order.

    Attributes:
        first: the first record of any type for it on order.event.
        owner: writer of that record if it is a Submitting: the one gateway that may send.
        answered: the venue said what became of it, at least once.
        filled: the venue's cumulative figure, the largest seen.
        taken: this process handles its Grant now, or has.
        left: bytes of it left from this process.
        amend: the change that is asked for and not yet known to be done.
        amended: an Amend was read for it, ever.
        amend_until_ns: the last Amend that was read may be sent until then.
        stands: price and total as an amendment left them, (0, 0) as the Grant says; `stands_ns` is the venue's time of it.
        changed: set whenever anything of it changed.
    """

    id: str
    instrument: str = ""
    grant: Grant | None = None
    cancel: Cancel | None = None
    amend: Amend | None = None
    amended: bool = False
    amend_until_ns: int = 0
    stands: tuple[int, int] = (0, 0)
    stands_ns: int = 0
    first: Record | None = None
    owner: str = ""
    submitting: Submitting | None = None
    venue_order: str = ""
    status: OrderStatus = "UNKNOWN"
    answered: bool = False
    terminal: bool = False
    filled: int = 0
    fills: dict[str, Fill] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    taken: bool = False
    left: bool = False
    followed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def filled_known(self) -> int:
        """Sum of the fills we know, at 1e-6."""
        return sum(fill.size for fill in self.fills.values())

    @property
    def complete(self) -> bool:
        """Say whether it is terminal and every fill the venue counts is known."""
        return self.terminal and self.filled_known >= self.filled

    def subject(self) -> Subject:
        """Return what a venue needs to find it."""
        grant = self.grant
        return Subject(
            order=self.id,
            instrument=self.instrument,
            client_id=grant.client_id if grant else self.submitting.client_id if self.submitting else "",
            venue_order=self.venue_order,
            side=grant.side if grant else "UNKNOWN",
            price=grant.price if grant else 0,
            size=grant.size if grant else 0,
            submitted_ns=self.submitting.ts_ns if self.submitting else 0,
            answered=self.answered,
            amended=self.amended,
        )

    def amend_grant(self) -> None:
        """Let the Grant say what stands: many look at its price and size."""
        if self.grant is not None and self.stands != (0, 0):
            price, size = self.stands
            self.grant = msgspec.structs.replace(self.grant, price=price, size=size)


@dataclass(slots=True)
class Moves:
    """What fills made of one outcome: what they leave of it at 1e-6, and the venue's time of the newest word on them."""

    size: int = 0
    moved_ns: int = 0


class Orders:
    """All orders of one account, folded from its records in the order of the log."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.event_ids: set[str] = set()
        """Every event that stands in the log: what is not here may have to be written."""
        self.payouts: dict[str, Payout] = {}
        """What was said last of what a market paid."""
        self.moves: dict[tuple[str, Outcome], Moves] = {}
        """instrument and outcome -> what the fills of it came to"""
        self._by_id: dict[str, Tracked] = {}
        self._out: dict[str, Tracked] = {}
        self._unsettled: dict[str, Tracked] = {}
        self._spent_e6: dict[int, int] = {}
        self._held: dict[str, tuple[int, int]] = {}
        """Orders this process submits whose Submitting was not read back: UTC day and money."""
        self._by_client: dict[str, Tracked] = {}
        self._by_venue: dict[str, Tracked] = {}

    def __iter__(self) -> Iterator[Tracked]:
        return iter(self._by_id.values())

    def __getitem__(self, order: str) -> Tracked:
        """Return an order, remembered from now on."""
        tracked = self._by_id.get(order)
        if tracked is None:
            tracked = self._by_id[order] = Tracked(order)
        return tracked

    def grant(self, grant: Grant) -> Tracked:
        """Remember a Grant, which may come more than once; the first counts."""
        tracked = self[grant.id]
        if tracked.grant is None:
            tracked.grant = grant
            tracked.instrument = grant.instrument
            self._by_client[grant.client_id] = tracked
            self._spend(tracked)
            tracked.amend_grant()
        return tracked

    def find(self, *, venue_order: str, client_id: str = "") -> Tracked | None:
        """Return the order the venue speaks of, None if it is not one of ours."""
        found = self._by_venue.get(venue_order) if venue_order else None
        if found is None and client_id:
            found = self._by_client.get(client_id) or self._by_id.get(client_id)
        if found is not None and venue_order and not found.venue_order:
            self.name(found, venue_order)
        return found

    def name(self, tracked: Tracked, venue_order: str) -> None:
        """Remember the venue's id of an order."""
        if venue_order:
            tracked.venue_order = venue_order
            self._by_venue[venue_order] = tracked

    def apply(self, record: Record) -> Tracked | None:
        """Take one record of order.event, in the order of the log; returns the order it is about, if any."""
        if isinstance(record, Payout) and record.account == self.account:
            self.event_ids.add(record.event_id)
            self.payouts[record.instrument] = record
        if not isinstance(record, Submitting | OrderUpdate | Fill | Settled) or record.account != self.account:
            return None
        tracked = self[record.order]
        self.event_ids.add(record.event_id)
        tracked.instrument = tracked.instrument or record.instrument
        is_first = tracked.first is None
        if is_first:
            tracked.first = record
            self.release(tracked)
        if isinstance(record, Submitting):
            if is_first:
                tracked.submitting = record
                tracked.owner = record.writer
                self.name(tracked, record.venue_order)
                if record.client_id:
                    self._by_client[record.client_id] = tracked
                self._out[tracked.id] = tracked
                self._spend(tracked)
        elif isinstance(record, OrderUpdate):
            self._update(tracked, record, is_first=is_first)
        elif isinstance(record, Fill):
            is_new = record.fill not in tracked.fills
            tracked.fills[record.fill] = record
            self._settle(tracked)
            if is_new:
                self._move(tracked, record, 0 if record.fill in tracked.failed else _moved(record), record)
        else:
            tracked.settled.add(record.fill)
            self._settle(tracked)
            has_failed = record.settlement == "FAILED" and record.fill not in tracked.failed
            if has_failed:
                tracked.failed.add(record.fill)
            fill = tracked.fills.get(record.fill)
            if fill is not None:
                self._move(tracked, fill, -_moved(fill) if has_failed else 0, record)
        tracked.changed.set()
        return tracked

    def _update(self, tracked: Tracked, update: OrderUpdate, *, is_first: bool) -> None:
        unsent = update.status == "EXPIRED_UNSENT" or update.reason.startswith(REFUSAL)
        if unsent and not is_first and update.writer != tracked.owner:
            return
        self.name(tracked, update.venue_order)
        tracked.filled = max(tracked.filled, update.filled)
        if update.size:
            self._amended(tracked, update)
        if tracked.terminal:
            return
        tracked.status = update.status
        tracked.terminal = update.terminal
        if tracked.terminal:
            self._out.pop(tracked.id, None)
        if update.status != "OUTCOME_UNKNOWN":
            tracked.answered = True

    def _amended(self, tracked: Tracked, update: OrderUpdate) -> None:
        tracked.amended = True
        if update.venue_ts_ns < tracked.stands_ns:
            return  # a read that lagged, written by a twin
        before = notional_e6(tracked.grant) if tracked.grant else 0
        tracked.stands_ns = update.venue_ts_ns
        tracked.stands = (update.price, update.size)
        tracked.amend_grant()
        if tracked.grant and tracked.submitting:
            # What an amendment adds is money of the day, too; what it takes away was allowed all the same.
            day = update.ts_ns // DAY_NS
            self._spent_e6[day] = self._spent_e6.get(day, 0) + max(notional_e6(tracked.grant) - before, 0)

    def _move(self, tracked: Tracked, fill: Fill, size: int, word: Fill | Settled) -> None:
        moves = self.moves.setdefault((tracked.instrument, fill.outcome), Moves())
        moves.size += size
        moves.moved_ns = max(moves.moved_ns, word.venue_ts_ns or word.ts_ns)

    def out(self) -> list[Tracked]:
        """Return the orders that may rest at the venue."""
        return list(self._out.values())

    def hold(self, tracked: Tracked, now_ns: int) -> None:
        """Count an order as out and its money as spent from now on: many are decided on before one is read back."""
        if tracked.grant is not None and tracked.first is None:
            self._held[tracked.id] = (now_ns // DAY_NS, notional_e6(tracked.grant))

    def release(self, tracked: Tracked) -> None:
        """Count it no more as held: the log speaks of it, or it will not be submitted."""
        self._held.pop(tracked.id, None)

    def out_count(self) -> int:
        """Return how many orders may rest at the venue or are on their way there."""
        return len(self._out) + len(self._held)

    def unsettled(self) -> list[Tracked]:
        """Return the orders with fills whose settlement is open."""
        return list(self._unsettled.values())

    def _settle(self, tracked: Tracked) -> None:
        if all(_is_final(fill) or key in tracked.settled for key, fill in tracked.fills.items()):
            self._unsettled.pop(tracked.id, None)
        else:
            self._unsettled[tracked.id] = tracked

    def day_notional_e6(self, now_ns: int) -> int:
        """Return the money of all orders that were submitted on this UTC day, or are on their way."""
        today = now_ns // DAY_NS
        return self._spent_e6.get(today, 0) + sum(money for day, money in self._held.values() if day == today)

    def _spend(self, tracked: Tracked) -> None:
        # Submitting and Grant stand on two topics: whichever is read second completes the pair.
        if tracked.grant and tracked.submitting:
            day = tracked.submitting.ts_ns // DAY_NS
            self._spent_e6[day] = self._spent_e6.get(day, 0) + notional_e6(tracked.grant)


def notional_e6(grant: Grant) -> int:
    """Return what an order can cost or earn before fees, rounded up.

    A token is priced by its outcome; without tokens (Kalshi) buying YES costs p and selling it 1 - p.
    """
    one = int(10**-grant.price_exp)
    is_yes = grant.outcome == "YES" or (grant.outcome != "NO" and grant.side == "BUY")
    price = grant.price if is_yes else one - grant.price
    return ceil_div(grant.size * price * MICRO, one * int(10**-grant.size_exp))


def shrinks(grant: Grant, amend: Amend) -> bool:
    """Say whether an amendment only takes risk away, or renews an expiry."""
    return amend.price == grant.price and amend.size <= grant.size


def _moved(fill: Fill) -> int:
    if fill.settlement == "FAILED":
        return 0
    return fill.size if fill.token_side == "BUY" else -fill.size  # noqa: S105  a side, no secret


def _is_final(fill: Fill) -> bool:
    return fill.settlement in {"CONFIRMED", "FAILED"}
