"""Turns what a venue says into records, once each, and appends them to the account's logs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from core.domain.errors import Retry
from core.domain.ids import order_event_id
from core.runtime import log, metrics, queues
from core.runtime.clock import NS_PER_MS, Clock
from core.runtime.topics import ORDER_EVENT, ORDER_FRAME, Topic
from execute.orders import REFUSAL, Orders, Tracked
from execute.ports import LogWriter
from execute.views import FillView, OrderView, PayoutView, SettledView, View
from schemas.decision import Amend
from schemas.order import Alive, Fill, OrderUpdate, Payout, PrivateFrame, Settled, Submitting, VenueCall, VenueReport
from schemas.record import Record

BACKLOG_MAX = 100_000
"""Order events that wait here while the producer's own queue is full; raw frames are dropped and counted then."""


class Journal:
    """Writes order.event and order.frame of one account; what was written is not written twice."""

    def __init__(self, *, writer: str, account: str, out: LogWriter, orders: Orders, clock: Clock) -> None:
        self.writer = writer
        self.account = account
        self.frames_dropped = 0
        self.foreign = 0
        self._out = out
        self._orders = orders
        self._clock = clock
        self._written: set[str] = set()
        self._backlog: deque[Record] = deque()
        queues.watch("order events unsaid", self, lambda own: len(own._backlog), BACKLOG_MAX)
        self._foreign_seen: set[str] = set()
        self._returning: dict[str, PayoutView] = {}
        """Markets whose last answer had an older statement again."""

    def ack_age_s(self) -> float:
        """Return the age of the oldest record Kafka has not acknowledged."""
        return self._out.ack_age_s()

    # --- what we say of an order

    def submitting(self, tracked: Tracked, *, method: str, path: str, body: bytes, venue_order: str) -> Submitting:
        """Return the record that must be the first of its order before bytes leave."""
        grant = tracked.grant
        assert grant is not None
        return Submitting(
            event_id=order_event_id(tracked.id, "submitting", self.writer),
            order=tracked.id,
            account=self.account,
            instrument=tracked.instrument,
            writer=self.writer,
            method=method,
            path=path,
            body=body,
            venue_order=venue_order,
            client_id=grant.client_id,
            send_by_ns=grant.send_by_ns,
            ts_ns=self._clock.now_ns(),
            recv_ts_ns=grant.recv_ts_ns,
            trail=grant.trail,
        )

    async def claim(self, record: Submitting) -> int:
        """Append a Submitting and return the offset Kafka gave it."""
        return await self._out.send_acked(ORDER_EVENT, self.account, record)

    def refused(self, tracked: Tracked, reason: str) -> None:
        """Say that this gateway does not send an order."""
        self._update(tracked, "REJECTED", terminal=True, reason=REFUSAL + reason, ref=self.writer)

    def unsent(self, tracked: Tracked, reason: str) -> None:
        """Say that not a byte of an order left, and none will."""
        self._update(tracked, "EXPIRED_UNSENT", terminal=True, reason=reason, ref=self.writer)

    def unknown(self, tracked: Tracked, reason: str) -> None:
        """Say that bytes may have left and no outcome is known."""
        self._update(tracked, "OUTCOME_UNKNOWN", terminal=False, reason=reason, ref=self.writer)

    def amend_refused(self, tracked: Tracked, amend: Amend, reason: str) -> None:
        """Say that an order stays as it is."""
        self._update(tracked, "ACCEPTED", terminal=False, reason=f"not amended: {reason}", ref=f"amend/{amend.id}")

    def never_arrived(self, tracked: Tracked, as_of_ns: int) -> None:
        """Say that the venue, asked after its acceptance window, knows nothing of an order."""
        reason = f"not found at the venue, as of {as_of_ns}"
        self._update(tracked, "REJECTED", terminal=True, reason=reason, ref="not-found")

    def _update(self, tracked: Tracked, status: str, *, terminal: bool, reason: str, ref: str) -> None:
        now = self._clock.now_ns()
        self._event(
            OrderUpdate(
                event_id=order_event_id(tracked.id, status, ref),
                order=tracked.id,
                account=self.account,
                instrument=tracked.instrument,
                status=status,  # type: ignore[arg-type] # one of the words of OrderStatus, see the callers
                terminal=terminal,
                venue_order=tracked.venue_order,
                filled=tracked.filled,
                reason=reason,
                writer=self.writer,
                ts_ns=now,
                recv_ts_ns=tracked.grant.recv_ts_ns if tracked.grant else now,
                trail=tracked.grant.trail if tracked.grant else [],
            )
        )

    # --- what the venue says

    def views(self, views: Iterable[View], recv_ts_ns: int, *, order: Tracked | None = None) -> None:
        """Write what a venue said; `order` where it is known which one it speaks of."""
        for view in views:
            tracked = order
            if tracked is None:
                client_id = "" if isinstance(view, SettledView) else view.client_id
                tracked = self._orders.find(venue_order=view.venue_order, client_id=client_id)
            elif view.venue_order and not tracked.venue_order:
                self._orders.name(tracked, view.venue_order)
            if tracked is None:
                self._note_foreign(view.venue_order)
            elif isinstance(view, OrderView):
                self._order_view(tracked, view, recv_ts_ns)
            elif isinstance(view, FillView):
                self._fill_view(tracked, view, recv_ts_ns)
            else:
                self._settled_view(tracked, view, recv_ts_ns)

    def _order_view(self, tracked: Tracked, view: OrderView, recv_ts_ns: int) -> None:
        if tracked.terminal and not view.terminal:
            return
        ref = "venue" if view.status == "REJECTED" else str(view.filled)
        price, size = _changed(tracked, view)
        if size:
            # With the venue's time, to what its stream and its lists share of it: an order may come back to a price.
            ref = f"{view.filled}/{price}/{size}/{view.venue_ts_ns // NS_PER_MS}"
        self._event(
            OrderUpdate(
                event_id=order_event_id(tracked.id, view.status, ref),
                order=tracked.id,
                account=self.account,
                instrument=tracked.instrument,
                status=view.status,
                terminal=view.terminal,
                venue_order=view.venue_order or tracked.venue_order,
                filled=view.filled,
                price=price,
                size=size,
                reason=view.reason,
                writer=self.writer,
                venue_ts_ns=view.venue_ts_ns,
                ts_ns=self._clock.now_ns(),
                recv_ts_ns=recv_ts_ns,
                trail=_trail(tracked),
            )
        )

    def _fill_view(self, tracked: Tracked, view: FillView, recv_ts_ns: int) -> None:
        self._event(
            Fill(
                event_id=order_event_id(tracked.id, "fill", view.fill),
                order=tracked.id,
                account=self.account,
                instrument=tracked.instrument or view.instrument,
                fill=view.fill,
                outcome=view.outcome,
                token_side=view.token_side,
                size=view.size,
                price_e6=view.price_e6,
                notional_e6=view.notional_e6,
                fee_e6=view.fee_e6,
                asset=view.asset,
                liquidity=view.liquidity,
                settlement=view.settlement,
                venue_ts_ns=view.venue_ts_ns,
                ts_ns=self._clock.now_ns(),
                recv_ts_ns=recv_ts_ns,
                trail=_trail(tracked),
            )
        )

    def _settled_view(self, tracked: Tracked, view: SettledView, recv_ts_ns: int) -> None:
        self._event(
            Settled(
                event_id=order_event_id(tracked.id, view.settlement, view.fill),
                order=tracked.id,
                account=self.account,
                instrument=tracked.instrument or view.instrument,
                fill=view.fill,
                settlement=view.settlement,
                reference=view.reference,
                venue_ts_ns=view.venue_ts_ns,
                ts_ns=self._clock.now_ns(),
                recv_ts_ns=recv_ts_ns,
                trail=_trail(tracked),
            )
        )

    def payouts(self, views: Iterable[PayoutView], recv_ts_ns: int) -> None:
        """Write what markets paid by one answer, each statement once: one that says anything else of its market is another.

        The last one about a market stands. If it was said before another that was said since, the venue has come back to
        it: that is written, too, once two answers in a row have it so, as one list may lag behind another.
        """
        stand: dict[str, PayoutView] = {}
        for view in views:
            self._payout(view, self._payout_id(view), recv_ts_ns)
            stand[view.instrument] = view
        for name, view in stand.items():
            last = self._orders.payouts.get(name)
            if last is None or _stated(view) == _stated(last):
                self._returning.pop(name, None)
            elif self._returning.pop(name, None) == view:
                self._payout(view, self._payout_id(view, after=last.event_id), recv_ts_ns)
            else:
                self._returning[name] = view

    def _payout_id(self, view: PayoutView, *, after: str = "") -> str:
        reference = "/".join(str(fact) for fact in (*_stated(view), *([after] if after else [])))
        return order_event_id(f"{self.account}/{view.instrument}", "payout", reference)

    def _payout(self, view: PayoutView, event_id: str, recv_ts_ns: int) -> None:
        record = Payout(
            event_id=event_id,
            account=self.account,
            instrument=view.instrument,
            result=view.result,
            yes_size=view.yes_size,
            no_size=view.no_size,
            revenue_e6=view.revenue_e6,
            fee_e6=view.fee_e6,
            payout_e6=view.payout_e6,
            venue_ts_ns=view.venue_ts_ns,
            ts_ns=self._clock.now_ns(),
            recv_ts_ns=recv_ts_ns,
        )
        if self._event(record):
            self._orders.payouts[view.instrument] = record

    def _note_foreign(self, venue_order: str) -> None:
        # Somebody trades this account beside us: the VenueReport will show the difference, this line says why.
        self.foreign += 1
        metrics.EVENTS.labels("execute", "order_foreign").inc()
        if venue_order not in self._foreign_seen and len(self._foreign_seen) < 1_000:
            self._foreign_seen.add(venue_order)
            log.get().warning("order.foreign", account=self.account, venue_order=venue_order)

    # --- the rest

    def report(self, record: VenueReport | Alive) -> None:
        """Append what repeats anyway; left out while events wait."""
        if not self._backlog:
            self._try(ORDER_EVENT, record)

    def frame(self, record: VenueCall | PrivateFrame) -> None:
        """Append a raw request or frame; dropped and counted while the producer is full."""
        if self._backlog or not self._try(ORDER_FRAME, record):
            self.frames_dropped += 1
            queues.at_bound("order events unsaid", "dropped a raw frame")
            metrics.EVENTS.labels("execute", "frame_dropped").inc()

    def flush(self) -> bool:
        """Write what waits; return whether nothing waits any more."""
        while self._backlog:
            if not self._try(ORDER_EVENT, self._backlog[0]):
                return False
            self._backlog.popleft()
        return True

    async def drain(self, timeout_s: float) -> bool:
        """Flush until nothing waits, at most `timeout_s`."""
        deadline = self._clock.monotonic_s() + timeout_s
        while not self.flush():
            if self._clock.monotonic_s() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _event(self, record: Submitting | OrderUpdate | Fill | Settled | Payout) -> bool:
        """Write what was not written before; return whether it was not."""
        event = record.event_id
        if event in self._written or event in self._orders.event_ids:
            return False
        kind = record.status if isinstance(record, OrderUpdate) else type(record).__name__
        metrics.EVENTS.labels("execute", f"order_{kind.lower()}").inc()
        if len(self._backlog) >= BACKLOG_MAX:
            # Reading on would lose words of the venue: they can be had again by looking up, after a restart.
            queues.at_bound("order events unsaid", "refused")
            raise Retry(f"order.event takes nothing: {BACKLOG_MAX} events wait; restart the gateway when Kafka is back")
        self._written.add(event)
        self._backlog.append(record)
        self.flush()
        return True

    def _try(self, topic: Topic, record: Record) -> bool:
        try:
            self._out.send(topic, self.account, record)
        except Retry:
            return False
        return True


def _changed(tracked: Tracked, view: OrderView) -> tuple[int, int]:
    """Return price and total where an amendment made them other than the log says, else zeros."""
    if not view.size or tracked.grant is None or not tracked.amended:
        return 0, 0
    if (view.price, view.size) == (tracked.grant.price, tracked.grant.size) or view.venue_ts_ns < tracked.stands_ns:
        return 0, 0
    return view.price, view.size


def _stated(said: PayoutView | Payout) -> tuple[str | int, ...]:
    """Return all that is stated of a market."""
    sizes = (said.yes_size, said.no_size)
    return (said.result, *sizes, said.revenue_e6, said.fee_e6, said.payout_e6, said.venue_ts_ns)


def _trail(tracked: Tracked) -> list[int]:
    # From the socket to the Submitting that was read back, where there is one.
    source = tracked.submitting or tracked.grant
    return list(source.trail) if source else []
