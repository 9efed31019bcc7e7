"""The chain in memory: the real tasks of derive and decide, and what of a gateway needs no socket, on logs with Kafka's promises.

Nothing runs by itself: `Chain.advance` moves the clock, lets feeds tick, and lets each worker that is not frozen read on.
Records pass the real codec, sequenced logs the real inbox.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.domain.partition import partition_of
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.conflation import Held, Peek
from core.runtime.flow import ALL_PARTITIONS, BY_KEY, Input, Output, Source, TaskContext
from core.runtime.sequenced import Inbox, Reached, Stamp
from core.runtime.topics import Topic
from decide.accounts import AccountsTask
from decide.strategies.registry import load_kinds
from decide.strategies_task import StrategiesTask
from derive.stage import BookTask
from execute.calls import TooLate
from execute.checks import Limits, Market
from execute.guards import Funds, Guards, Jurisdiction, VenueState
from execute.health import START, Health
from execute.journal import Journal
from execute.kalshi import KalshiVenue
from execute.orders import Orders
from execute.polymarket import PolymarketVenue
from execute.ports import Reply, Request
from execute.reports import say_alive
from execute.submission import Refusal, Submitter
from execute.views import Purse
from schemas import decision, derived, market, order
from schemas.record import Record
from tests.chain.judge import Seen, Sending, unsound_intents, unsound_sendings
from tests.checkpoints import keep
from tests.decide.conftest import limit, link, profile, strategy
from tests.records import binary, granted, sides
from venues.environment import Environment
from venues.kalshi import hosts as kalshi_hosts
from venues.kalshi.auth import Signer
from venues.polymarket import hosts as polymarket_hosts
from venues.polymarket.auth import Credentials, Wallet

START_NS = 1_795_000_000 * NS_PER_S
ONE = 1_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"
"""In different partitions of two."""
PEERS = {KALSHI: "kalshi:KX-2", POLY: "polymarket:0xc4"}
"""Other instruments of the same feeds, linked to nothing."""
TWIN = "kalshi:KX-3"
"""Linked to KALSHI in chains that have it: a pair at one venue, whose legs may leave together."""
PARTITIONS = 2
STEP_MS = 50
FEED_TICK_MS, CLOCK_MS, ALIVE_MS = 250, 100, 500
LIMITS = Limits(
    size_max=1_000 * ONE,
    order_notional_max_e6=1_000 * ONE,
    day_notional_max_e6=100_000 * ONE,
    open_orders_max=50,
    collar_e4=1_000,
    quote_age_max_ns=NS_PER_S,
)

_HOT = {topics.MARKET_EVENT.noun, topics.DERIVED_BOOK.noun}

Levels = Sequence[tuple[int, int]]


def venue_of(instrument: str) -> str:
    return instrument.partition(":")[0]


class Wire:
    """All topics: append returns the place, readers see what stands there in order of arrival."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.codec = Codec(FileRegistry())
        self._logs: dict[str, list[tuple[int, int, str, bytes, Stamp | None]]] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def append(
        self, topic: Topic, key: str, record: Record, partition: int = BY_KEY, stamp: Stamp | None = None
    ) -> None:
        count = PARTITIONS if topic.noun in _HOT else 1
        chosen = range(count) if partition == ALL_PARTITIONS else [partition]
        for number in chosen:
            place = partition_of(key, count) if number == BY_KEY else number
            offset = self._ends[topic.noun, place] = self._ends.get((topic.noun, place), -1) + 1
            data = self.codec.encode(record, self.clock.now_ns())
            self._logs.setdefault(topic.noun, []).append((place, offset, key, data, stamp))

    def read(self, topic: Topic, start: int = 0) -> list[tuple[Input, Stamp | None]]:
        return [
            (Input(self.codec.decode(data), topic.noun, place, offset, key), stamp)
            for place, offset, key, data, stamp in self._logs.get(topic.noun, [])[start:]
        ]

    def size(self, topic: Topic) -> int:
        return len(self._logs.get(topic.noun, []))

    def all(self, topic: Topic, kind: Any) -> list[Any]:
        """Return the distinct records of a type: a restarted worker may say again what it said."""
        found = {}
        for item, _ in self.read(topic):
            if type(item.record) is kind:
                bare = msgspec.structs.replace(item.record, trail=[]) if kind.has_trail else item.record
                found.setdefault(msgspec.msgpack.encode(bare), item.record)
        return list(found.values())


class Reader:
    """One consumer of one topic."""

    def __init__(self, wire: Wire, topic: Topic, start: int = 0) -> None:
        self.wire, self.topic, self.next = wire, topic, start

    def take(self) -> list[tuple[Input, Stamp | None]]:
        found = self.wire.read(self.topic, self.next)
        self.next += len(found)
        return found


class Normalize:
    """What stands for the normalizer: it passes on what feeds brought, late where it was frozen, again where it died.

    That it reads frames rightly is tried with its own tasks; here it is a worker on the way.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._waiting: list[tuple[str, Record, int]] = []
        self._said: list[tuple[str, Record, int]] = []

    def bring(self, key: str, record: Record, partition: int) -> None:
        """Let a feed bring what is to be said of it."""
        self._waiting.append((key, record, partition))

    def step(self) -> bool:
        taken, self._waiting = self._waiting, []
        self._say(taken)
        self._said += taken
        return bool(taken)

    def restart(self, uncommitted: int = 0) -> None:
        """Say the last records again: they were not committed."""
        self._say(self._said[max(len(self._said) - uncommitted, 0) :])

    def checkpoint(self) -> None:
        """Write nothing down."""

    restore = restart

    def _say(self, records: Iterable[tuple[str, Record, int]]) -> None:
        for key, record, partition in records:
            self.wire.append(topics.MARKET_EVENT, key, record, partition)


class Derive:
    """All partitions of the book task in one process."""

    def __init__(self, wire: Wire, limits: Mapping[str, str]) -> None:
        self.wire, self._limits = wire, limits
        self.reader = Reader(wire, topics.MARKET_EVENT)
        self.tasks = [
            BookTask(TaskContext(partition=number, partitions=PARTITIONS, options=limits))
            for number in range(PARTITIONS)
        ]
        self.hung: set[int] = set()
        """Partitions that are not handled at present."""
        self._waiting: list[Input] = []
        self._items: list[dict[str, bytes]] = [{} for _ in self.tasks]
        self._written: set[tuple[int, int]] = set()
        """Places of the records that the checkpoint is made of."""

    def checkpoint(self) -> None:
        """Write the state down, as the loop would."""
        for task, items in zip(self.tasks, self._items, strict=True):
            _write_down(task, items)
        waiting = {(item.partition, item.offset) for item in self._waiting}
        taken = [(item.partition, item.offset) for item, _ in self.wire.read(topics.MARKET_EVENT)[: self.reader.next]]
        self._written = set(taken) - waiting

    def restore(self) -> None:
        """Begin again from the checkpoint; what was handled after it is said once more."""
        fresh = Derive(self.wire, self._limits)
        for task, items in zip(fresh.tasks, self._items, strict=True):
            task.restore(items.items())
        fresh.hung, fresh._items, fresh._written = self.hung, self._items, self._written
        fresh._waiting = [item for item, _ in fresh.reader.take() if (item.partition, item.offset) not in self._written]
        self.__dict__ = fresh.__dict__
        self.step()

    def step(self) -> bool:
        taken = self._waiting + [item for item, _ in self.reader.take()]
        self._waiting = [item for item in taken if item.partition in self.hung]
        ready = [item for item in taken if item.partition not in self.hung]
        for item in ready:
            _publish(self.wire, self.tasks[item.partition].handle(item))
        return bool(ready)

    def restart(self, uncommitted: int = 0) -> None:
        """Begin again from the log; the outputs of the last `uncommitted` records are published once more."""
        self.step()
        fresh = self._again(uncommitted, uncommitted)
        fresh.hung, fresh._waiting = self.hung, self._waiting
        # What it writes down next is written whole.
        self.__dict__ = fresh.__dict__

    def thaw_predecessor(self, back: int, count: int) -> None:
        """Let a worker that was replaced say again what it had made of `count` records, `back` from the end."""
        self._again(back, count)

    def _again(self, back: int, count: int) -> Derive:
        fresh = Derive(self.wire, self._limits)
        waiting = {(item.partition, item.offset) for item in self._waiting}
        items = [item for item, _ in fresh.reader.take() if (item.partition, item.offset) not in waiting]
        first = len(items) - back
        for number, item in enumerate(items):
            outputs = list(fresh.tasks[item.partition].handle(item))
            if first <= number < first + count:
                _publish(self.wire, outputs)
        return fresh


class Decide:
    """One worker of decide: a sequencer that appends to its log, and the task that reads it back."""

    def __init__(self, wire: Wire, log: Topic, sources: Iterable[Topic], make: Callable[[], Any]) -> None:
        self.wire, self.log, self._make = wire, log, make
        self.sources = [Reader(wire, topic) for topic in sources]
        self.conflates = False
        self._peek = Peek(wire.codec)
        self._begin()

    def _begin(self) -> None:
        self.reader, self.inbox, self.task = Reader(self.wire, self.log), Inbox(), self._make()
        self._items: dict[str, bytes] = {}
        self._written: tuple[int, Reached] = (0, self.inbox.reached())

    def checkpoint(self) -> None:
        """Write the state down, as the loop would."""
        if _write_down(self.task, self._items):
            self._written = (self.reader.next, self.inbox.reached())

    def restore(self) -> None:
        """Begin again from the checkpoint; what was handled after it is said once more."""
        items, (position, reached) = self._items, self._written
        self._begin()
        if position:
            self.task.restore(items.items())
        self._items, self._written = items, (position, reached)
        self.reader.next, self.inbox = position, Inbox(reached)

    def sequence(self) -> None:
        """Append what the sources hold, stamped with the time of now."""
        now = self.wire.clock.now_ns()
        for source in self.sources:
            taken = [item for item, _ in source.take()]
            for item in self._conflated(taken) if self.conflates else taken:
                stamp = Stamp(Source(item.noun, item.partition, item.offset), now)
                self.wire.append(self.log, item.key, item.record, 0, stamp)

    def _conflated(self, items: list[Input]) -> list[Input]:
        held: Held[Input] = Held()
        for item in items:
            head = self._peek(self.wire.codec.encode(item.record))
            held.add((item.noun, item.partition, item.offset), item.key.encode(), head, item, 1)
        return [item for _, _, _, item in held.take()[0]]

    def tell_time(self) -> None:
        self.wire.append(self.log, "clock", decision.Clock(now_ns=self.wire.clock.now_ns()), 0)

    def step(self) -> bool:
        self.sequence()
        taken = self.reader.take()
        for item, stamp in taken:
            _publish(self.wire, self._handle(item, stamp))
        return bool(taken)

    def _handle(self, item: Input, stamp: Stamp | None) -> list[Output]:
        if not self.inbox.admit(item.record, stamp):
            return []
        item = item._replace(log_ns=self.inbox.log_ns, source=stamp.source if stamp else None)
        return list(self.task.handle(item))

    def restart(self, uncommitted: int = 0) -> None:
        position = self.reader.next
        self._begin()
        for number, (item, stamp) in enumerate(self.reader.take()[:position]):
            outputs = self._handle(item, stamp)
            if number >= position - uncommitted:
                _publish(self.wire, outputs)
        self.reader.next = position


class Door:
    """Where bytes leave. As `execute.calls.Http` up to the write; the venue behind it refuses what comes."""

    def __init__(self, clock: ManualClock, reads: Callable[[], int]) -> None:
        self.clock, self.reads = clock, reads
        self.left: list[tuple[str, Request]] = []
        self.sent_ns: list[int] = []
        self.read_to: list[int] = []
        """How much of derived.book its gateway had read then."""
        self.before_write: Callable[[], None] = lambda: None
        self.answer: Callable[[str, Request], tuple[int, bytes]] = lambda order, request: (400, b'{"error":"no funds"}')

    async def call(
        self, request: Request, *, lane: Any, order: str = "", send_by_ns: int = 0, headers: Any = None, why_not: Any
    ) -> Reply:
        self.before_write()
        if send_by_ns and self.clock.now_ns() > send_by_ns:
            raise TooLate("send_by passed")
        if reason := why_not():
            raise TooLate(reason)
        self.left.append((order, request))
        self.sent_ns.append(self.clock.now_ns())
        self.read_to.append(self.reads())
        status, body = self.answer(order, request)
        return Reply(status, body, self.clock.now_ns(), self.clock.now_ns())


class Gateway:
    """The parts of one gateway that need no socket, wired as `execute.gateway.Gateway` wires them."""

    def __init__(self, wire: Wire, venue: str, keys: Any) -> None:
        self.wire, self.venue, self._keys = wire, venue, keys
        self.account = f"{venue}:main"
        self.door = Door(wire.clock, lambda: self._books.next)
        self._lives = itertools.count(1)
        self.books_held = False
        self._begin(start_of_books=0)

    def _begin(self, *, start_of_books: int) -> None:
        wire, clock = self.wire, self.wire.clock
        self.market, self.orders = Market(self.venue), Orders(self.account)
        self.health = Health(clock=clock, ack_age_s=lambda: 0.0, stop_after_s=2.0)
        self.journal = Journal(
            writer=f"{self.account}/{next(self._lives)}",
            account=self.account,
            out=self,
            orders=self.orders,
            clock=clock,
        )
        self.protocol = self._protocol()
        self.submitter = Submitter(
            venue=self.protocol,
            orders=self.orders,
            market=self.market,
            limits=LIMITS,
            journal=self.journal,
            caller=self.door,
            health=self.health,
            clock=clock,
            guards=self._guards(),
        )
        self._events, self._decisions = Reader(wire, topics.ORDER_EVENT), Reader(wire, topics.DECISION_ORDER)
        self._books = Reader(wire, topics.DERIVED_BOOK, start_of_books)
        self._instruments = Reader(wire, topics.MARKET_INSTRUMENT)
        self.read_events()
        self.health.fault(START, "")

    def _guards(self) -> Guards:
        # Rich, and no law: what is tried here is time and trust.
        funds = Funds()
        funds.report(Purse(as_of_ns=0, cash_e6={0: 10**15}, tokens=None, resting_is_out=True))
        return Guards(VenueState(), Jurisdiction(account=self.account, required=False), funds)

    def _protocol(self) -> Any:
        if self.venue == "kalshi":
            endpoints = kalshi_hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1")
            return KalshiVenue(signer=Signer.from_pem("key", self._keys), endpoints=endpoints)
        return PolymarketVenue(
            wallet=Wallet("11" * 32),
            credentials=Credentials(api_key="key", secret="c2VjcmV0", passphrase="pass"),
            funder="0x" + "11" * 20,
            signature_type=0,
            chain_id=137,
            endpoints=polymarket_hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1"),
            instruments=self.market.instruments,
        )

    # What a gateway needs of a producer; what it writes on order.event it reads back at once.

    def send(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> None:
        self.wire.append(topic, key, record)
        self.read_events()

    async def send_acked(self, topic: Topic, key: str, record: Record, partition: int = BY_KEY) -> int:
        self.send(topic, key, record)
        return self.wire.size(topic) - 1

    def ack_age_s(self) -> float:
        return 0.0

    def read_events(self) -> None:
        for item, _ in self._events.take():
            self.orders.apply(item.record)

    def read_books(self) -> None:
        for reader in (self._instruments, self._books):
            for item, _ in reader.take():
                self.market.apply(item)

    def step(self) -> bool:
        self.read_events()
        if not self.books_held:
            self.read_books()
        taken = self._decisions.take()
        for item, _ in taken:
            record = item.record
            if getattr(record, "account", "") != self.account:
                continue
            if isinstance(record, decision.Beat):
                self.health.beat(record.now_ns)
            elif isinstance(record, decision.Grant):
                self.submit(record)
            elif isinstance(record, decision.Cancel):
                self.orders[record.order].cancel = record
        return bool(taken)

    def submit(self, grant: decision.Grant) -> str:
        """Take a Grant as from the log, up to the bytes; returns why not, empty if they left."""
        tracked = self.orders.grant(grant)
        request = self.submitter.prepare(tracked)
        if isinstance(request, Request):
            asyncio.run(self.submitter.submit(tracked, request))
            self.orders.release(tracked)
        elif isinstance(request, Refusal):
            asyncio.run(self.submitter.refuse(tracked, request, at_once=True))
        if any(name == grant.id for name, _ in self.door.left):
            return ""
        updates = [
            record for record in self.wire.all(topics.ORDER_EVENT, order.OrderUpdate) if record.order == grant.id
        ]
        assert updates, "neither sent nor refused"
        return updates[-1].reason

    def say_alive(self) -> None:
        say_alive(journal=self.journal, health=self.health, clock=self.wire.clock)

    def restart(self) -> None:
        """Begin again: order.event and decision.order from their start, books from their end."""
        self._begin(start_of_books=self.wire.size(topics.DERIVED_BOOK))


class Chain:
    """Two linked markets, one strategy, two venue accounts."""

    def __init__(
        self,
        keys: Any,
        *,
        params: str = '{"cooldown_ms": 100}',
        limits: Mapping[str, str] | None = None,
        twin: bool = False,
    ) -> None:
        """`limits` are the book task's, as text."""
        self.clock = ManualClock(START_NS)
        self.wire = Wire(self.clock)
        self.frozen: set[str] = set()
        self.silent: set[str] = set()
        """Venues whose feed does not tick."""
        self._epochs = itertools.count(1)
        self._ids, self.polls = itertools.count(1), itertools.count(1)
        self.epochs = {venue: next(self._epochs) for venue in ("kalshi", "polymarket")}
        self._frames = {venue: itertools.count(1) for venue in self.epochs}
        self.strategies = Decide(
            self.wire,
            topics.DECISION_INPUT,
            (
                topics.DECISION_STRATEGY,
                topics.DECISION_LINK,
                topics.DECISION_PROFILE,
                topics.MARKET_INSTRUMENT,
                topics.MARKET_NOTICE,
                topics.DECISION_SAGA,
                topics.DERIVED_BOOK,
            ),
            lambda: StrategiesTask(TaskContext(incarnation=77), load_kinds()),
        )
        self.accounts = Decide(
            self.wire,
            topics.DECISION_ACCOUNT,
            (
                topics.DECISION_PROFILE,
                topics.DECISION_LIMIT,
                topics.DECISION_LINK,
                topics.MARKET_INSTRUMENT,
                topics.MARKET_NOTICE,
                topics.ORDER_EVENT,
            ),
            lambda: AccountsTask(TaskContext(incarnation=77)),
        )
        self.normalize = Normalize(self.wire)
        self.derive = Derive(self.wire, limits or {})
        self.gateways = {venue: Gateway(self.wire, venue, keys) for venue in self.epochs}
        self.workers = {
            "normalize": self.normalize,
            "derive": self.derive,
            "strategies": self.strategies,
            "accounts": self.accounts,
            **self.gateways,
        }
        self._configure(params, twin=twin)

    def _configure(self, params: str, *, twin: bool) -> None:
        for name in (KALSHI, POLY, TWIN) if twin else (KALSHI, POLY):
            self.wire.append(topics.MARKET_INSTRUMENT, name, instrument(name))
        for name, other in (("L1", POLY), ("L2", TWIN)) if twin else (("L1", POLY),):
            pair = link(id=name, instrument_a=KALSHI, instrument_b=other, approved_ts_ns=START_NS)
            self.wire.append(topics.DECISION_LINK, name, pair)
        self.wire.append(topics.DECISION_LIMIT, "main", limit())
        for venue in self.gateways:
            account = f"{venue}:main"
            self.wire.append(topics.DECISION_PROFILE, account, profile(venue))
            report = order.VenueReport(
                account=account, as_of_ns=START_NS, cash_e6=10_000 * ONE, holdings=[], open_orders=[], ts_ns=START_NS
            )
            self.wire.append(topics.ORDER_EVENT, account, report)
        self.wire.append(topics.DECISION_STRATEGY, "arb-1", strategy(params=params))

    # Time

    def advance(self, ms: int) -> None:
        """Let time go on; feeds tick, sequencers tell the time, gateways say that they are alive."""
        for _ in range(ms // STEP_MS):
            self.clock.advance(ms=STEP_MS)
            passed_ms = (self.clock.now_ns() - START_NS) // NS_PER_MS
            if passed_ms % FEED_TICK_MS == 0:
                for venue in self.epochs.keys() - self.silent:
                    self.tick(venue)
            for name in ("strategies", "accounts"):
                if passed_ms % CLOCK_MS == 0 and name not in self.frozen:
                    self.workers[name].tell_time()
            for venue, gateway in self.gateways.items():
                if passed_ms % ALIVE_MS == 0 and venue not in self.frozen:
                    gateway.say_alive()
            self.settle()

    def settle(self) -> None:
        """Let every worker that is not frozen read until nothing is left to read."""
        while any(worker.step() for name, worker in self.workers.items() if name not in self.frozen):
            pass

    # What normalize would write

    def place(self, name: str, *, frame_no: int | None = None) -> dict[str, int]:
        """Return the next origin of the feed of an instrument's venue."""
        venue = venue_of(name)
        number = next(self._frames[venue]) if frame_no is None else frame_no
        return {"epoch": self.epochs[venue], "frame_no": number, "index": 0}

    def market(self, record: Record, partition: int = BY_KEY) -> None:
        """Bring the normalizer what it is to say, and let the workers read."""
        self.normalize.bring(getattr(record, "instrument", ""), record, partition)
        self.settle()

    def snapshot(self, name: str, bids: Levels, asks: Levels, **changes: Any) -> None:
        fields: dict[str, Any] = dict(
            instrument=name,
            **self.place(name),
            price_exp=-4,
            size_exp=-6,
            **sides(bids, asks),
            venue_ts_ns=self.clock.now_ns(),
            recv_ts_ns=self.clock.now_ns(),
        )
        self.market(market.BookSnapshot(**(fields | changes)))

    def level(self, name: str, side: str, price: int, size: int, **changes: Any) -> None:
        """Set one level."""
        fields: dict[str, Any] = dict(
            instrument=name,
            **self.place(name),
            price_exp=-4,
            size_exp=-6,
            side=side,
            kind="ABSOLUTE",
            price=price,
            size=size,
            venue_ts_ns=self.clock.now_ns(),
            recv_ts_ns=self.clock.now_ns(),
        )
        self.market(market.BookDelta(**(fields | changes)))

    def cheapen(self, name: str, ask: int = 3_900) -> None:
        """Let a calm market fall by changes alone: who buys it here and sells it at the other venue gains."""
        for price in (4_800, 4_700):
            self.level(name, "BUY", price, 0)
        self.level(name, "SELL", ask, 50 * ONE)

    def raise_other(self, name: str, bid: int = 5_600) -> None:
        """Let the market linked to a calm one rise: what was last seen of the calm one would be a gain."""
        other = POLY if name == KALSHI else KALSHI
        for price in (5_000, 5_100):
            self.level(other, "SELL", price, 0)
        self.level(other, "BUY", bid, 50 * ONE)

    def provoke(self, name: str) -> None:
        """Make a gain of whatever is believed of a market: of what its feed says now, and of what it said before."""
        self.raise_other(name)
        self.cheapen(name)

    def stir(self) -> None:
        """Let both calm books say something new, so that what was taken of them may be there again; then some time."""
        for name in (KALSHI, POLY):
            self.level(name, "BUY", 4_700, (60 + next(self._ids)) * ONE)
        self.advance(200)

    def gap(self, name: str, **changes: Any) -> market.FeedReset:
        """Return what normalize says of a gap in the feed of one instrument."""
        fields: dict[str, Any] = dict(
            feed=f"{venue_of(name)}-0",
            venue=venue_of(name),
            **self.place(name),
            instruments=[name],
            reason="gap: expected seq 4, found 6",
            recv_ts_ns=self.clock.now_ns(),
        )
        return market.FeedReset(**(fields | changes))

    def reset(self, name: str, reason: str, *, of_all: bool = False, closed: bool = False) -> None:
        record = self.gap(name, reason=reason, closed=closed, instruments=[] if of_all else [name])
        self.market(record, ALL_PARTITIONS)

    def status(self, name: str, **changes: Any) -> None:
        fields: dict[str, Any] = dict(
            instrument=name,
            **self.place(name),
            price_exp=-4,
            venue_ts_ns=self.clock.now_ns(),
            recv_ts_ns=self.clock.now_ns(),
        )
        self.market(market.Status(**(fields | changes)))

    def notice(self, reason: str, **about: str) -> None:
        """Let a venue say that its catalogue changed: `instrument` or `event_group`."""
        name = next(iter(about.values()))
        record = market.Notice(
            venue=venue_of(name),
            reason=reason,
            feed=f"{venue_of(name)}-0",
            **self.place(name),
            recv_ts_ns=self.clock.now_ns(),
            **about,
        )
        self.wire.append(topics.MARKET_NOTICE, name, record)
        self.settle()

    def tick(self, venue: str) -> None:
        place = self.place(f"{venue}:")
        record = market.Tick(
            feed=f"{venue}-0",
            venue=venue,
            epoch=place["epoch"],
            frame_no=place["frame_no"],
            recv_ts_ns=self.clock.now_ns(),
        )
        self.market(record, ALL_PARTITIONS)

    def reopen(self, name: str) -> None:
        """Begin a new feed of the venue; its books come with its snapshots."""
        self.epochs[venue_of(name)] = next(self._epochs) + 10

    def calm(self, *names: str) -> None:
        """Give books that hold no edge to markets, of the present feeds."""
        for name in names or (KALSHI, POLY):
            self.snapshot(name, [(4_800, 50 * ONE), (4_700, 50 * ONE)], [(5_000, 50 * ONE), (5_100, 50 * ONE)])

    def fill(self, grant: decision.Grant) -> None:
        """Let the venue say that an order was filled in full."""
        venue = venue_of(grant.instrument)
        price = grant.price if grant.outcome != "NO" else 10_000 - grant.price
        record = order.Fill(
            event_id=f"fill-{grant.id}",
            order=grant.id,
            account=grant.account,
            instrument=grant.instrument,
            fill=f"fill-{grant.id}",
            outcome=grant.outcome,
            token_side=grant.token_side,
            size=grant.size,
            price_e6=price * 100,
            notional_e6=grant.size * price // 10_000,
            fee_e6=0,
            asset="USD",
            liquidity="TAKER",
            settlement="CONFIRMED" if venue == "kalshi" else "MATCHED",
            ts_ns=self.clock.now_ns(),
            recv_ts_ns=self.clock.now_ns(),
        )
        self.wire.append(topics.ORDER_EVENT, grant.account, record)
        self.settle()

    # What became of it

    def quotes(self, name: str) -> list[derived.Quote]:
        return [record for record in self.wire.all(topics.DERIVED_BOOK, derived.Quote) if record.instrument == name]

    def quote(self, name: str) -> derived.Quote:
        return self.quotes(name)[-1]

    def intents(self) -> list[decision.Intent]:
        return self.wire.all(topics.DECISION_ACCOUNT, decision.Intent)

    def grants(self) -> list[decision.Grant]:
        return self.wire.all(topics.DECISION_ORDER, decision.Grant)

    def sagas(self) -> list[decision.Saga]:
        return self.wire.all(topics.DECISION_SAGA, decision.Saga)

    def edges(self) -> list[decision.Edge]:
        return self.wire.all(topics.DECISION_EDGE, decision.Edge)

    def left(self) -> list[str]:
        """Return the ids of the orders whose bytes left, on all venues."""
        return [name for gateway in self.gateways.values() for name, _ in gateway.door.left]

    def sendings(self) -> list[Sending]:
        """Return what left, for the judge; orders that were handed over past decide are not among them."""
        return [sending for sending, _ in self._sendings()]

    def _sendings(self) -> Iterator[tuple[Sending, int]]:
        grants = {grant.id: grant for grant in self.grants()}
        for gateway in self.gateways.values():
            door = gateway.door
            for (name, _), sent_ns, read_to in zip(door.left, door.sent_ns, door.read_to, strict=True):
                if name in grants:
                    grant = grants[name]
                    yield Sending(name, grant.instrument, sent_ns, grant.send_by_ns), read_to

    def unsound(self) -> list[str]:
        """Return what the judge finds wrong."""
        books = self.seen(topics.DERIVED_BOOK)
        found = unsound_intents(self.intents(), self.seen(topics.DECISION_INPUT))
        found += unsound_sendings(self.sendings(), books)
        # Here it is known what each gateway had read.
        for sending, read_to in self._sendings():
            found += unsound_sendings([sending], books[:read_to], read_all=True)
        return found

    def seen(self, topic: Topic) -> list[Seen]:
        """Return a log for the judge."""
        return [Seen(item.partition, item.offset, item.record, stamp) for item, stamp in self.wire.read(topic)]

    def events(self, name: str, kind: Any = order.OrderUpdate) -> list[Any]:
        """Return what order.event says of one order."""
        return [record for record in self.wire.all(topics.ORDER_EVENT, kind) if record.order == name]

    def hand_over(self, name: str, side: str, price: int, **changes: Any) -> str:
        """Give the gateway of a market an order nobody decided on; returns why it does not leave, empty if it did."""
        now = self.clock.now_ns()
        venue = venue_of(name)
        tokens = instrument(name).tokens
        fields: dict[str, Any] = dict(
            id=f"bypass{next(self._ids):011d}",
            intent="nobody",
            instrument=name,
            side=side,
            outcome=("YES" if side == "BUY" else "NO") if tokens else "NONE",
            token_side="BUY" if tokens else side,
            token=tokens[0 if side == "BUY" else 1] if tokens else "",
            price=price,
            time_in_force="GTC" if tokens else "IOC",
            client_id=f"client-{next(self._ids)}",
            salt=next(self._ids),
            timestamp_ms=now // NS_PER_MS,
            now_ns=now,
            send_by_ns=now + 500 * NS_PER_MS,
        )
        return self.gateways[venue].submit(granted(**(fields | changes)))


def instrument(name: str) -> market.Instrument:
    tokens = [] if venue_of(name) == "kalshi" else ["111", "222"]
    return binary(name, tick_from=[100], tick_to=[9_900], tokens=tokens, recv_ts_ns=START_NS)


def _write_down(task: Any, items: dict[str, bytes]) -> bool:
    changes = task.changed()
    if changes is None:
        return False
    keep(changes, items)
    return True


def _publish(wire: Wire, outputs: Iterable[Output]) -> None:
    for output in outputs:
        wire.append(output.topic, output.key, output.record, output.partition)


@pytest.fixture(scope="session")
def kalshi_key() -> bytes:
    """Return a private key no venue knows."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="session")
def new_chain(kalshi_key: bytes) -> Callable[..., Chain]:
    """Return a maker of chains: both books LIVE, both gateways ready, no edge."""

    def make(*, calm: bool = True, **options: Any) -> Chain:
        chain = Chain(kalshi_key, **options)
        if calm:
            chain.calm(KALSHI, POLY, *PEERS.values(), *([TWIN] if options.get("twin") else []))
        chain.advance(1_000)
        return chain

    return make
