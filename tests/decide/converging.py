"""Everything between an intent and the venues' own accounts, real but for Kafka: accounts, gateways, sockets, both venues.

Accounts are the task itself, behind a sequencer that may repeat and hold back what gateways say; it is checkpointed,
killed, restored and frozen. Gateways are whole. The venues are the simulated ones with their faults of orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.runtime import topics
from core.runtime.flow import Input, Output, TaskContext
from decide.accounts import AccountsTask
from schemas import decision, order
from schemas.record import Record
from simulate.faults import BadFault, parse
from simulate.matching import Order, Side
from simulate.settings import SimulateSettings
from simulate.world import World
from tests.checkpoints import keep
from tests.decide.conftest import intent, leg, limit, link, profile
from tests.execute.conftest import Bench, MemoryLog, Running, kalshi_instrument
from tests.leaping import Process

E6 = 1_000_000
NS_PER_MS = 1_000_000
VENUES = ("kalshi", "polymarket")
WHO = ("decide", *VENUES)
OTHER = "kalshi, the other market"
QUIET_S = 120.0
"""How long everything may take to come to rest once nothing goes wrong any more."""
CHECKPOINT_ITEMS = 40
BOOKS = {
    # Kalshi's bid and ask, Polymarket's bid and ask: bought there and sold here, or the other way round.
    "buy": ((5_000, 5_100), (3_900, 4_000)),
    "sell": ((4_900, 5_000), (6_000, 6_100)),
}
PAIRS = {"buy": (4_400, 4_500), "sell": (5_500, 5_600)}
"""Bid and ask of both of Kalshi's markets, of which one wins: both bought, or both sold."""
BEHIND_E4 = 300
"""So much worse is what stands behind the best."""


class Decide:
    """The accounts' worker: a sequencer, one log, the task on it, and its checkpoints."""

    def __init__(self, out: MemoryLog, dice: random.Random) -> None:
        self.out = out
        self.dice = dice
        self.log: list[Input] = []
        self.records: dict[tuple[str, str], Record] = {}
        """The newest saga and ledger records by id."""
        self.grants: dict[str, decision.Grant] = {}
        self.published = 0
        self.entries: set[str] = set()
        """Kinds of entries that were written."""
        self.copies = 0.0
        """How often a gateway's word is read twice."""
        self.fuse = 0
        """After so many outputs it dies; 0: never."""
        self.blown: Callable[[], None] = lambda: None
        self.hold_ms = 0
        """How late a word of a gateway is read."""
        self.process = Process()
        self.zombies: list[asyncio.Task[None]] = []
        self._read = 0
        self._waiting: list[Record] = []
        self._held: list[tuple[int, Record]] = []
        self._state: dict[str, bytes] = {}
        self._at = 0
        self.task = self._restored()
        self.next = 0

    def take(self, record: Record) -> None:
        """Let the sequencer read a record of another topic than order.event."""
        self._waiting.append(record)

    def start(self) -> asyncio.Task[None]:
        """Begin to work: from the last checkpoint, saying again what was said since."""
        self.process = Process()
        self.task, self.next = self._restored(), self._at
        with self.process.inside():
            return asyncio.create_task(self._work())

    def _restored(self) -> AccountsTask:
        task = AccountsTask(TaskContext(incarnation=77))
        task.restore(list(self._state.items()))
        return task

    def usurp(self, after_ms: int, steps: int) -> asyncio.Task[None]:
        """Freeze it, let a successor take over, and let it thaw beside that one: it says `steps` of its records more."""
        process, task, place = self.process, self.task, self.next
        process.kill()
        successor = self.start()
        self.zombies.append(asyncio.create_task(self._haunt(task, place, after_ms, steps)))
        return successor

    async def _haunt(self, task: AccountsTask, place: int, after_ms: int, steps: int) -> None:
        await asyncio.sleep(after_ms / 1_000)
        # Its sequencer appends what the log holds already, which the inbox drops; its task goes on in the log.
        for item in self.log[place : place + steps]:
            for output in task.handle(item):
                self._publish(output)

    async def _work(self) -> None:
        clock_ns = 0
        while True:
            now_ns = self.out.clock.now_ns()
            self._sequence(now_ns)
            if now_ns - clock_ns >= 100 * NS_PER_MS:
                clock_ns = now_ns
                self._append(decision.Clock(now_ns=now_ns), now_ns)
            while self.next < len(self.log):
                self._handle(self.log[self.next])
                # A crash between any two records, and between a record and its outputs.
                if self.dice.random() < 0.02:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.02)

    def _sequence(self, now_ns: int) -> None:
        for record in self.out.read_from(topics.ORDER_EVENT, self._read):
            self._read += 1
            self._held.append((now_ns + self.hold_ms * NS_PER_MS, record))
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._append(record, now_ns)
        while self._held and self._held[0][0] <= now_ns:
            _, record = self._held.pop(0)
            self._append(record, now_ns)
            if self.dice.random() < self.copies:
                self._append(record, now_ns)

    def _append(self, record: Record, now_ns: int) -> None:
        self.log.append(Input(record, "log", 0, len(self.log), "", now_ns))

    def _handle(self, item: Input) -> None:
        outputs = list(self.task.handle(item))
        self.next += 1
        for output in outputs:
            self.fuse -= 1
            if self.fuse == 0:
                self.process.kill()
                self.blown()
                raise asyncio.CancelledError
            self._publish(output)
            if isinstance(output.record, decision.Entry):
                self.entries.add(output.record.kind)
            if isinstance(output.record, decision.Saga | decision.Ledger):
                self.records[type(output.record).__name__, output.record.id] = output.record
        if self.next - self._at >= CHECKPOINT_ITEMS:
            keep(self.task.changed(), self._state)
            self._at = self.next

    def _publish(self, output: Output) -> None:
        record = output.record
        if output.topic is not topics.DECISION_ORDER:
            return
        self.out.append(output.topic, output.key, record)
        self.published += 1
        if isinstance(record, decision.Grant):
            known = self.grants.setdefault(record.id, record)
            assert known == record, "a grant was made again, and differs"

    def sagas(self) -> list[Any]:
        return [record for (kind, _), record in self.records.items() if kind == "Saga"]


class _Fuse:
    """Counts steps; at the last one somebody dies."""

    def __init__(self, steps: int, die: Any) -> None:
        self._steps = steps
        self._die = die

    def step(self) -> None:
        """Count one.

        Raises:
            CancelledError: it was the last.
        """
        self._steps -= 1
        if self._steps == 0:
            self._die()
            raise asyncio.CancelledError


def _lay(running: Running, where: str, fuse: _Fuse) -> None:
    """Let a gateway's step count."""
    if where == "write":
        log, append = running.out.log, running.out.log.append

        def counted(topic: topics.Topic, key: str, record: Record) -> int:
            if isinstance(record, order.Submitting | order.OrderUpdate | order.Fill | order.Settled):
                fuse.step()
            return append(topic, key, record)

        running.out.log = SimpleNamespace(append=counted, holds_acks=log.holds_acks)  # type: ignore[assignment]
        return
    call = running.gateway._http.call

    async def called(request: Any, **named: Any) -> Any:
        is_change = request.method in {"POST", "DELETE"}
        if is_change and where == "call":
            fuse.step()
        reply = await call(request, **named)
        if is_change and where == "answer":
            fuse.step()
        return reply

    running.gateway._http.call = called  # type: ignore[method-assign]


class TailedLog(MemoryLog):
    """A log that can be read from a place on."""

    def read_from(self, topic: topics.Topic, start: int) -> list[Any]:
        return [self.codec.decode(data) for _, data in self.records.get(topic.noun, [])[start:]]


class Whole:
    """Both venues, both gateways and accounts; a test moves time, makes intents and makes trouble."""

    def __init__(self, world: World, ready: dict[str, Any], seed: int) -> None:
        self.world = world
        self.log = TailedLog()
        self.dice = random.Random(seed)
        self.decide = Decide(self.log, self.dice)
        self.benches = {venue: Bench(venue, world, ready, self.log) for venue in VENUES}
        self.running: dict[str, list[tuple[Running, Process]]] = {venue: [] for venue in VENUES}
        self.intents = 0
        self.quotes: list[str] = []
        """Intents that rest, in the order in which they were made."""
        self.other: Any = world.kalshi.exchange.markets[1]
        """Kalshi's second market."""
        self.other_instrument = kalshi_instrument(self.other)
        self._strangers: dict[str, list[Order]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._later: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._mid = dict.fromkeys((*VENUES, OTHER), (4_900, 5_000))

    async def start(self) -> None:
        """Begin, and wait until both gateways can trade and both accounts are known."""
        for bench in self.benches.values():
            bench.beats = False
            await bench.__aenter__()
            self.decide.take(bench.instrument)
        kalshi, poly = (self.benches[venue].instrument.instrument for venue in VENUES)
        other = self.other_instrument.instrument
        self.log.append(topics.MARKET_INSTRUMENT, other, self.other_instrument)
        self.decide.take(self.other_instrument)
        self.decide.take(link(instrument_a=kalshi, instrument_b=poly))
        self.decide.take(
            link(id="L2", instrument_a=kalshi, instrument_b=other, polarity="OPPOSITE", payout_b_e6=[0, E6])
        )
        for venue in VENUES:
            self.decide.take(profile(venue))
        self.decide.take(limit(order_notional_max_e6=10_000 * E6, market_notional_max_e6=50_000 * E6, heal_max_e6=0))
        self._worker = self.decide.start()
        self._tasks.append(asyncio.create_task(self._quote()))
        for venue in VENUES:
            await self.begin_gateway(venue)
        await asyncio.sleep(2.0)

    async def stop(self) -> None:
        for task in [*self._tasks, *self._later, *self.decide.zombies, self._worker]:
            if task is not None:
                task.cancel()
        for venue in VENUES:
            for running, process in self.running[venue]:
                await self._kill(running, process)
            await self.benches[venue].__aexit__()

    async def _quote(self) -> None:
        while True:
            for name in (*VENUES, OTHER):
                matcher = self._place(name).matcher
                bid, ask = matcher.best_bid(), matcher.best_ask()
                if bid is not None and ask is not None:
                    self._mid[name] = (bid, ask)
                self._say_quote(name)
            await asyncio.sleep(0.2)

    def _place(self, name: str) -> Any:
        return self.other if name == OTHER else self.benches[name].place

    def _say_quote(self, name: str) -> None:
        bid, ask = self._mid[name]
        if name == OTHER:
            self.benches["kalshi"].quote(bid, ask, instrument=self.other_instrument.instrument)
        else:
            self.benches[name].quote(bid, ask)

    def _be_strange(self, name: str, orders: list[tuple[Side, int, int]]) -> None:
        """Let strangers' orders stand in a market instead of those that stood before; quote it by the first two."""
        place = self._place(name)
        exchange = self.benches[name.partition(",")[0]].exchange
        for stranger in self._strangers.pop(name, []):
            exchange.apply(place, place.matcher.cancel(stranger))
        for side, price, size in (one for one in orders if one[2]):
            self.intents += 1
            stranger = Order(f"stranger-{self.intents}", side, price, size)
            self._strangers.setdefault(name, []).append(stranger)
            exchange.apply(place, place.matcher.submit(stranger))
        self._mid[name] = (orders[0][1], orders[1][1])
        self._say_quote(name)

    # ------------------------------------------------------------------ what a plan does
    def open_edge(self, way: str, size: int) -> None:
        """Let strangers quote an edge, and a strategy want all of it."""
        for venue, (bid, ask) in zip(VENUES, BOOKS[way], strict=True):
            self._be_strange(venue, [(Side.BID, bid, 60 * E6), (Side.ASK, ask, 60 * E6)])
        self.intents += 1
        now_ns = self.log.clock.now_ns()
        kalshi, poly = (self.benches[venue].instrument.instrument for venue in VENUES)
        (kalshi_bid, kalshi_ask), (poly_bid, poly_ask) = BOOKS[way]
        first, second = ("BUY", "SELL") if way == "buy" else ("SELL", "BUY")
        legs = [
            leg(poly, first, [(poly_ask if way == "buy" else poly_bid, size * E6)], recv_ts_ns=now_ns),
            leg(kalshi, second, [(kalshi_bid if way == "buy" else kalshi_ask, size * E6)], recv_ts_ns=now_ns),
        ]
        self.decide.take(
            intent(
                id=f"intent-{self.intents:04d}",
                # Each of its own: sagas run side by side.
                strategy=f"strategy-{self.intents}",
                now_ns=now_ns,
                recv_ts_ns=now_ns,
                legs=legs,
                trail=[now_ns],
            )
        )

    def open_pair(self, way: str, size: int, there: int, leg_order: str = "TOGETHER") -> None:
        """Let a strategy want both of Kalshi's markets; of the second one only so many contracts are there.

        With none it is empty; else there are others behind the best.
        """
        bid, ask = PAIRS[way]
        for name, size_there in (("kalshi", 60), (OTHER, there)):
            best = [(Side.BID, bid, size_there * E6), (Side.ASK, ask, size_there * E6)]
            behind = [(Side.BID, bid - BEHIND_E4, 60 * E6), (Side.ASK, ask + BEHIND_E4, 60 * E6)]
            self._be_strange(name, [*best, *behind] if size_there else best)
        self.intents += 1
        now_ns = self.log.clock.now_ns()
        names = (self.benches["kalshi"].instrument.instrument, self.other_instrument.instrument)
        side, price = ("BUY", ask) if way == "buy" else ("SELL", bid)
        self.decide.take(
            intent(
                id=f"intent-{self.intents:04d}",
                strategy=f"strategy-{self.intents}",
                link="L2",
                now_ns=now_ns,
                recv_ts_ns=now_ns,
                legs=[leg(name, side, [(price, size * E6)], recv_ts_ns=now_ns) for name in names],
                leg_order=leg_order,
                trail=[now_ns],
            )
        )

    def rest(self, venue: str, side: str, size: int, life_s: int, silence_ms: int) -> None:
        """Let a strategy quote a cent behind the best of strangers."""
        self.intents += 1
        now_ns = self.log.clock.now_ns()
        bid, ask = self._mid[venue]
        name = self.benches[venue].instrument.instrument
        one = leg(
            name,
            side,
            [(bid - 100 if side == "BUY" else ask + 100, size * E6)],
            recv_ts_ns=now_ns,
            rests=True,
            expires_s=now_ns // 1_000_000_000 + life_s,
            silence_ms=silence_ms,
        )
        self.quotes.append(f"quote-{self.intents:04d}")
        self.decide.take(
            intent(
                id=self.quotes[-1],
                strategy=f"quoter-{self.intents}",
                link=name,
                legs=[one],
                profit_e6=0,
                now_ns=now_ns,
                recv_ts_ns=now_ns,
                trail=[now_ns],
            )
        )

    def word(self, action: str, back: int, shift: int, size: int) -> None:
        """Let a strategy say what it wants of one of its last quotes."""
        if not self.quotes:
            return
        name = self.quotes[-1 - back % len(self.quotes)]
        asked = next((item.record for item in self.decide.log if getattr(item.record, "id", "") == name), None)
        if asked is None:
            return
        self.intents += 1
        now_ns = self.log.clock.now_ns()
        self.decide.take(
            decision.Requote(
                id=f"word-{self.intents}",
                strategy=asked.strategy,
                account_set="main",
                action=action,
                intents=[name],
                price=asked.legs[0].price + shift,
                size=size * E6,
                expires_s=now_ns // 1_000_000_000 + 20,
                now_ns=now_ns,
                input_partition=0,
                input_offset=self.intents,
                recv_ts_ns=now_ns,
            )
        )

    def sweep(self, venue: str, side: str, size: int) -> None:
        """Let a stranger take what rests, ours behind that of others."""
        self.intents += 1
        bench = self.benches[venue]
        bid, ask = self._mid[venue]
        order_side, price = (Side.ASK, bid - 300) if side == "SELL" else (Side.BID, ask + 300)
        taker = Order(f"taker-{self.intents}", order_side, price, size * E6)
        bench.exchange.apply(bench.place, bench.place.matcher.submit(taker))
        bench.exchange.apply(bench.place, bench.place.matcher.cancel(taker))

    def fault(self, venue: str, name: str, **parameters: Any) -> None:
        """Let a venue do something wrong with orders."""
        with contextlib.suppress(BadFault):
            self.world.injector.inject(parse({"venue": venue, "fault": name, **parameters}))

    async def begin_gateway(self, venue: str) -> None:
        """Start a gateway, beside others of the account if there are any."""
        process = Process()
        with process.inside():
            running = await self.benches[venue].start(ready=False)
        self.running[venue].append((running, process))

    async def kill(self, who: str, after_ms: int) -> None:
        """Kill -9 a worker; another is there `after_ms` later."""
        if who == "decide":
            self.decide.process.kill()
        else:
            for running, process in self.running[who]:
                await self._kill(running, process)
            self.running[who].clear()
        self._spawn(self._again(who, after_ms))

    def fuse(self, who: str, where: str, steps: int, after_ms: int) -> None:
        """Let a worker die right at one of its steps: the `steps`-th from now; another is there `after_ms` later.

        `where`: "write" (before a record about an order leaves), "call" (before an order or cancel leaves) or "answer"
        (when its answer is in hand and nothing was done with it). Of accounts it is between two of their outputs.
        """
        if who == "decide":
            self.decide.fuse = steps
            self.decide.blown = lambda: self._spawn(self._again(who, after_ms))
            return
        for running, process in self.running[who]:
            if not process.dead:
                blown = _Fuse(steps, lambda r=running, p=process: self._blow(who, r, p, after_ms))  # type: ignore[misc]
                _lay(running, where, blown)

    def _blow(self, who: str, running: Running, process: Process, after_ms: int) -> None:
        running.out.full = True
        process.kill()
        self._spawn(self._bury(who, running, process, after_ms))

    async def _bury(self, who: str, running: Running, process: Process, after_ms: int) -> None:
        await running.kill()
        if (running, process) in self.running[who]:
            self.running[who].remove((running, process))
        await self._again(who, after_ms)

    async def _again(self, who: str, after_ms: int) -> None:
        await asyncio.sleep(after_ms / 1_000)
        if who == "decide":
            if self.decide.process.dead:
                self._worker = self.decide.start()
        elif not self.running[who]:
            await self.begin_gateway(who)

    def freeze(self, who: str, for_ms: int) -> None:
        """SIGSTOP a worker for a while."""
        processes = [self.decide.process] if who == "decide" else [process for _, process in self.running[who]]
        for process in processes:
            process.freeze()
            asyncio.get_running_loop().call_later(for_ms / 1_000, process.thaw)

    def usurp(self, after_ms: int, steps: int) -> None:
        """Let accounts be taken over while they are frozen, and thaw beside their successor."""
        if not self.decide.process.dead:
            self._worker = self.decide.usurp(after_ms, steps)

    async def cut(self, venue: str) -> None:
        """Drop the private streams."""
        connections = self.world.kalshi.connections if venue == "kalshi" else self.world.clob.connections
        for connection in connections:
            if not connection.closed_ns:
                connection.abort()

    async def _kill(self, running: Running, process: Process) -> None:
        running.out.full = True
        process.kill()
        await running.kill()

    def _spawn(self, work: Any) -> None:
        # Of no process: whoever dies may be the one who says so.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # ------------------------------------------------------------------ how it ends
    async def settle(self) -> None:
        """Let nothing go wrong any more and wait until everything has come to rest.

        Raises:
            AssertionError: it does not, naming what differs.
        """
        await asyncio.sleep(6.0)
        self.decide.copies, self.decide.hold_ms, self.decide.fuse = 0.0, 0, 0
        deadline = asyncio.get_running_loop().time() + QUIET_S
        while differs := self.differs():
            for who in VENUES:
                for running, _ in self.running[who]:
                    if running.task.done() and not running.task.cancelled():
                        raise AssertionError(f"gateway {who} ended: {running.task.exception()!r}")
            if self._worker is not None and self._worker.done() and not self.decide.process.dead:
                self._worker.result()
            for zombie in self.decide.zombies:
                if zombie.done():
                    zombie.result()
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError("\n".join(differs))
            await asyncio.sleep(0.5)

    def differs(self) -> list[str]:
        """Return where our account is not the venue's own, or something is not at its end."""
        found = [
            f"saga {saga.id} {saga.state} {saga.reason}"
            for saga in self.decide.sagas()
            if saga.state not in {"DONE", "HOLDING", "REFUSED"}
        ]
        task = self.decide.task
        if task.reserved_e6():
            found.append(f"reserved {task.reserved_e6()}")
        for venue in VENUES:
            ours, theirs = self.ours(venue), self.theirs(venue)
            if ours != theirs:
                found.append(f"{venue}: ours {ours}, theirs {theirs}")
            if self.open_orders(venue):
                found.append(f"{venue}: {self.open_orders(venue)} orders rest")
        return found

    def ours(self, venue: str) -> dict[str, int]:
        records = self.decide.records
        account = records["Ledger", f"{venue}:main"]
        other = self.other_instrument.instrument
        held = {
            f"{record.outcome} of the other" if record.instrument == other else record.outcome: record.size
            for (kind, name), record in records.items()
            if kind == "Ledger" and name.startswith(f"{venue}:main|") and record.size
        }
        return {"cash": account.cash_e6, "fees": account.fees_e6, **held}

    def theirs(self, venue: str) -> dict[str, int]:
        bench = self.benches[venue]
        account = bench.exchange.accounts["main"]
        if venue == "kalshi":
            held = {
                word: account.position(place.ticker).size_e6
                for word, place in (("YES", bench.place), ("YES of the other", self.other))
            }
            sizes = {word: size for word, size in held.items() if size}
            return {"cash": account.cash_e6, "fees": account.fees_e6, **sizes}
        held = {
            word: account.tokens.get(token, 0) for word, token in zip(("YES", "NO"), bench.place.tokens, strict=True)
        }
        sizes = {word: size for word, size in held.items() if size}
        return {"cash": account.collateral_e6, "fees": account.fees_e6, **sizes}

    def open_orders(self, venue: str) -> int:
        account = self.benches[venue].exchange.accounts["main"]
        return len(account.resting if venue == "kalshi" else account.open)

    def check_nothing_healed(self) -> None:
        """Only trading happened: whatever reports said, and whenever, nothing of it is taken for a difference."""
        accounts = self.decide.task._sets["main"]
        assert accounts.risk.stopped == {}
        assert self.decide.entries <= {"OPENING"}

    def check_orders(self) -> None:
        """Check that each grant became one order at most, with what was granted, and each fill is known once."""
        grants = self.decide.grants
        assert len({(grant.intent, grant.leg, grant.attempt) for grant in grants.values()}) == len(grants)
        events = [record for record in self.log.read(topics.ORDER_EVENT) if isinstance(record, order.Fill)]
        for venue in VENUES:
            bench = self.benches[venue]
            mine = [grant for grant in grants.values() if grant.account == f"{venue}:main"]
            orders = bench.venue_orders
            assert len(orders) <= len(mine)
            if venue == "kalshi":
                ids = [own.client_order_id for own in orders]
                assert set(ids) <= {grant.client_id for grant in mine}
            else:
                ids = [own.order_id for own in orders]
                assert {own.body["order"]["salt"] for own in orders} <= {grant.salt for grant in mine}
            assert len(set(ids)) == len(ids)
            known = {record.fill: record.size for record in events if record.account == f"{venue}:main"}
            assert sum(known.values()) == sum(own.engine.filled for own in orders)


def _new_world(folder: Path, credentials: Path) -> World:
    """Return both venues with two markets and empty books; Kalshi's two are a pair, too."""
    world = World(
        SimulateSettings(
            markets=2,
            flow=False,
            quote_at_start=False,
            seed=7,
            inverted_share=0,
            neg_risk_share=0,
            credentials_file=credentials,
            links_file=folder / "links.json",
            truth_dir=folder / "truth",
            mined_after_ms=300,
            confirmed_after_ms=900,
        )
    )
    world.flow.seed_books = lambda: None  # type: ignore[method-assign]
    return world


@contextlib.asynccontextmanager
async def begun(credentials: Path, seed: int) -> AsyncIterator[Whole]:
    """Start both venues and all that trades at them; stop everything at the end."""
    with tempfile.TemporaryDirectory() as folder:
        world = _new_world(Path(folder), credentials)
        ready = await world.start()
        whole = Whole(world, ready, seed)
        try:
            await whole.start()
            yield whole
        finally:
            await whole.stop()
            await world.stop()
