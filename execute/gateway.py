"""The gateway of one venue account: logs in, requests out, and what becomes of them.

It reads its account's order.event to a mark of its own before it looks at the first Grant, so it knows of every order
that anybody ever submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.domain.errors import Halt
from core.runtime import log
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.edge import Unreadable
from core.runtime.topics import ORDER_EVENT
from execute.calls import Http
from execute.checks import Limits, Market
from execute.decisions import Decisions
from execute.follow import Follower
from execute.guards import Funds, Guards, Jurisdiction, VenueState
from execute.health import START, Health
from execute.heartbeat import Heartbeat
from execute.journal import Journal
from execute.kill import read_halt
from execute.limiter import Limiter
from execute.orders import Orders, Tracked
from execute.pages import as_far_back_as_read
from execute.payouts import Payouts
from execute.ports import LogReader, LogWriter, Venue
from execute.private import PrivateStream
from execute.reports import UNREAD, Reporter, say_alive
from execute.submission import Submitter
from execute.twins import Twins
from execute.unreadable import Undertaker
from execute.upkeep import Upkeep, outcomes_held, token_of
from execute.warmth import Warmth
from schemas.decision import Amend, Beat, Cancel, Grant
from schemas.order import Alive, Settled, Submitting
from venues.refusal import VenueError

WATCH_S = 0.05
SETTLE_S = 0.1
DRAIN_S = 5.0
RECONCILE_MARGIN_NS = 60 * NS_PER_S
"""Asked for again over REST before the last sign of life: venues state times in seconds."""
RECONCILE_MAX_NS = 24 * 3_600 * NS_PER_S


@dataclass(frozen=True)
class Logs:
    """The logs of one gateway. `events` and `decisions` are whole, from their beginning."""

    out: LogWriter
    events: LogReader
    decisions: LogReader
    books: LogReader
    instruments: LogReader
    sign_offs: Sequence[LogReader] = ()
    """Jurisdictions and profiles."""


@dataclass(frozen=True)
class Timing:
    """How often and how long, in seconds."""

    report_s: float = 2.0
    payout_s: float = 10.0
    """Between two looks at what settled markets paid."""
    alive_s: float = 0.5
    stop_after_s: float = 2.0
    answer_timeout_s: float = 2.0
    open_poll_s: float = 10.0
    heartbeat_s: float = 0.0
    """Between two heartbeats of a venue's dead-man switch; 0: it stays unused."""
    warm_connections: int = 0
    """Kept open and warm, so that an order finds one; 0: none."""
    warm_s: float = 15.0
    """Between two uses of each."""


class Gateway:
    """Runs one venue account."""

    def __init__(
        self,
        *,
        account: str,
        venue: Venue,
        base: str,
        logs: Logs,
        limits: Limits,
        timing: Timing,
        clock: Clock,
        market: Market,
        halt_file: Path | None = None,
        sign_off_required: bool = False,
        host: str = "",
        region: str = "",
    ) -> None:
        """`base` is the venue's REST address for orders, without a path; `market` is filled from here.

        `host` becomes part of the name this gateway writes under; `region` is where it stands before the law.

        `halt_file` stops it while it exists: the kill switch of this machine, which needs no Kafka. `sign_off_required`:
        without a human's word that the legal entity may trade here nothing is sent.
        """
        self.writer = "/".join(filter(None, (account, host, f"{clock.random_bits(64):016x}")))
        self.twins = Twins(self.writer, clock)
        self.orders = Orders(account)
        self.market = market
        self.health = Health(clock=clock, ack_age_s=logs.out.ack_age_s, stop_after_s=timing.stop_after_s)
        self.journal = Journal(writer=self.writer, account=account, out=logs.out, orders=self.orders, clock=clock)
        self.guards = Guards(
            VenueState(),
            Jurisdiction(account=account, required=sign_off_required, asked=venue.asks_standing, region=region),
            Funds(),
        )
        self.health.fault(UNREAD, "the account's cash was not read yet")
        self._account = account
        self._venue = venue
        self._logs = logs
        self._limits = limits
        self._timing = timing
        self._clock = clock
        self._halt_file = halt_file
        self._look_for_halt()
        self._limiter = Limiter(venue.budgets, clock)
        self._http = Http(
            base=base,
            venue=venue,
            journal=self.journal,
            limiter=self._limiter,
            clock=clock,
            timeout_s=timing.answer_timeout_s,
            on_refusal=self._on_refusal,
        )
        self._submitter = Submitter(
            venue=venue,
            orders=self.orders,
            market=self.market,
            limits=limits,
            journal=self.journal,
            caller=self._http,
            health=self.health,
            clock=clock,
            guards=self.guards,
            sign=self._http.signatures.sign,
        )
        self._follower = Follower(
            venue=venue,
            journal=self.journal,
            caller=self._http,
            health=self.health,
            clock=clock,
            open_poll_s=timing.open_poll_s,
            why_not_amend=self._submitter.why_not_amend,
            spawn=self._spawn,
        )
        self._decisions = Decisions(
            writer=self.writer,
            orders=self.orders,
            submitter=self._submitter,
            follower=self._follower,
            journal=self.journal,
            health=self.health,
            twins=self.twins,
            clock=clock,
            spawn=self._spawn,
        )
        self.heartbeat = Heartbeat(
            venue=venue,
            caller=self._http,
            health=self.health,
            clock=clock,
            interval_s=timing.heartbeat_s,
            is_owner=self.twins.we_come_first,
        )
        self._undertaker = Undertaker(
            account=account, orders=self.orders, out=logs.out, clock=clock, refuse=self._decisions.refuse_unread
        )
        self._upkeep = Upkeep(venue=venue, orders=self.orders, journal=self.journal, caller=self._http, clock=clock)
        self._group: asyncio.TaskGroup | None = None
        self._marked = asyncio.Event()
        self._whole_until_ns = 0
        """Up to here nothing of the private stream was missed."""

    async def run(self) -> None:
        """Run until cancelled; what waits to be written is written before it returns.

        Raises:
            ExceptionGroup: of what ended it; with a Halt among it, what rests was cancelled before.
        """
        async with self._http:
            await self._run()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._read_events())
                group.create_task(self._read_books())
                group.create_task(self._read_instruments())
                for reader in self._logs.sign_offs:
                    group.create_task(self._read_sign_offs(reader))
                await self._reach_mark()
                self._whole_until_ns = self._since_ns()
                for tracked in list(self.orders):
                    if tracked.submitting is not None:
                        self._follower.start(tracked)
                group.create_task(self._read_decisions())
                group.create_task(self._undertaker.run())
                group.create_task(self._watch())
                stream = PrivateStream(
                    venue=self._venue,
                    journal=self.journal,
                    health=self.health,
                    clock=self._clock,
                    session=self._http.session,
                    signatures=self._http.signatures,
                    reconcile=self._reconcile,
                )
                group.create_task(stream.run())
                reporter = Reporter(
                    venue=self._venue,
                    caller=self._http,
                    journal=self.journal,
                    orders=self.orders,
                    health=self.health,
                    clock=self._clock,
                    held=lambda: outcomes_held(self.orders, self.market, waits=self._upkeep.stale),
                    interval_s=self._timing.report_s,
                    funds=self.guards.funds,
                )
                group.create_task(reporter.run())
                payouts = Payouts(
                    venue=self._venue,
                    caller=self._http,
                    journal=self.journal,
                    clock=self._clock,
                    interval_s=self._timing.payout_s,
                )
                group.create_task(payouts.run())
                warmth = Warmth(
                    venue=self._venue,
                    http=self._http,
                    connections=self._timing.warm_connections,
                    interval_s=self._timing.warm_s,
                )
                group.create_task(warmth.run())
                group.create_task(self._upkeep.learn_budgets(self._limiter))
                group.create_task(self._upkeep.chase_settlements())
                group.create_task(self.heartbeat.run())
                group.create_task(self._upkeep.refresh_balances())
                group.create_task(self._upkeep.watch_account(self.health))
                group.create_task(self._upkeep.watch_status(self.guards.venue_state))
                group.create_task(self._upkeep.watch_standing(self.guards.jurisdiction))
                await self._settle_in()
        except* Halt as broken:
            log.get().critical("gateway.halted", reason=str(broken.exceptions[0]))
            await self._upkeep.cancel_for_good()
            raise
        finally:
            if not await self.journal.drain(DRAIN_S):
                log.get().error("gateway.events_lost", remedy="start it again: it reconciles with the venue")

    async def stop(self) -> None:
        """Take no more Grants, and wait until none is between Submitting and its answer."""
        await self._decisions.stop()

    async def _settle_in(self) -> None:
        # Instruments come in one go; an entry before they are read would be refused for no reason.
        seen = -1
        while seen != len(self.market.instruments) or not seen:
            seen = len(self.market.instruments)
            await asyncio.sleep(SETTLE_S)
        self.health.fault(START, "")

    # --- logs

    async def _reach_mark(self) -> None:
        mark = Alive(
            account=self._account,
            writer=self.writer,
            ready=False,
            reason="start: reading the logs",
            ts_ns=self._clock.now_ns(),
        )
        await self._logs.out.send_acked(ORDER_EVENT, self._account, mark)
        await self._marked.wait()
        log.get().info("gateway.caught_up", account=self._account, writer=self.writer, out=len(self.orders.out()))

    async def _read_events(self) -> None:
        async for batch in self._logs.events.batches():
            for item in batch:
                record = item.record
                if isinstance(record, Alive):
                    if record.account == self._account:
                        self._sign_of_life(record)
                    continue
                tracked = self.orders.apply(record)
                if tracked is not None and self._marked.is_set():
                    if isinstance(record, Settled) and (held := token_of(tracked, record.fill, self.market)):
                        self._upkeep.settled(held)
                    self._after_event(tracked)

    def _sign_of_life(self, record: Alive) -> None:
        if record.writer == self.writer:
            self._marked.set()
        else:
            self.twins.hear(record, before_us=not self._marked.is_set())

    def _after_event(self, tracked: Tracked) -> None:
        # What this process sends it follows by itself, once the bytes left.
        foreign = isinstance(tracked.first, Submitting) and tracked.owner != self.writer
        if foreign or (tracked.left and not tracked.complete):
            self._follower.start(tracked)

    async def _read_books(self) -> None:
        async for batch in self._logs.books.batches():
            for item in batch:
                self.market.apply(item)

    async def _read_instruments(self) -> None:
        async for batch in self._logs.instruments.batches():
            for item in batch:
                self.market.apply(item)

    async def _read_sign_offs(self, reader: LogReader) -> None:
        async for batch in reader.batches():
            for item in batch:
                self.guards.jurisdiction.apply(item.record)

    def unreadable(self, found: Unreadable) -> None:
        """Take in a record of `decision.order` that cannot be decoded."""
        self._undertaker.take(found)

    async def _read_decisions(self) -> None:
        async for batch in self._logs.decisions.batches():
            for item in batch:
                record = item.record
                if isinstance(record, Grant | Cancel | Amend | Beat) and record.account == self._account:
                    self._decisions.take(record)

    # --- the rest

    async def _watch(self) -> None:
        was_ready, said_s = False, 0.0
        was_stopped = False
        while True:
            self._look_for_halt()
            self.health.fault("jurisdiction", self.guards.jurisdiction.start_reason(self._clock.now_ns()))
            stopped = self.health.is_stopped()
            if stopped and not was_stopped:
                self._cancel_all()
            was_stopped = stopped
            self.journal.flush()
            ready = not self.health.not_ready_reason()
            now_s = self._clock.monotonic_s()
            if ready != was_ready or now_s - said_s >= self._timing.alive_s:
                was_ready, said_s = ready, now_s
                say_alive(journal=self.journal, health=self.health, clock=self._clock)
            await asyncio.sleep(WATCH_S)

    def _look_for_halt(self) -> None:
        if self._halt_file is not None:
            self.health.halt_by_hand(read_halt(self._halt_file))

    def _cancel_all(self) -> None:
        # Followers cancel what is theirs while the gateway is stopped; they need only look.
        for tracked in self.orders.out():
            if tracked.left or tracked.owner != self.writer:
                self._follower.start(tracked)
            tracked.changed.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        assert self._group is not None, "spawned while running"
        self._group.create_task(work)

    def _on_refusal(self, error: VenueError | None) -> None:
        if error is None:
            self.health.fault("key", "")
        else:
            self.health.fault(
                "key", f"{error.code}: {error.message} {error.details}".strip() + f"; {self._venue.clock_remedy}"
            )

    async def _reconcile(self) -> None:
        began = self._clock.now_ns()
        # Orders that are not complete are looked up one by one, however far back this reads.
        views = await as_far_back_as_read(
            lambda since_ns: self._venue.reconcile(self._http, since_ns), self._whole_until_ns, began, "what was missed"
        )
        self.journal.views(views, self._clock.now_ns())
        self._whole_until_ns = began - RECONCILE_MARGIN_NS

    def _since_ns(self) -> int:
        now = self._clock.now_ns()
        since = self.twins.alive_ns or now
        return max(since - RECONCILE_MARGIN_NS, now - RECONCILE_MAX_NS)
