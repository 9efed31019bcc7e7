"""A bench for gateways: a log in memory with Kafka's promises, and the simulated venues on loopback."""

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from core.domain.errors import Unavailable
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S, SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.flow import BY_KEY, Input
from execute.checks import Limits, Market
from execute.gateway import Gateway, Logs, Timing
from execute.kalshi import KalshiVenue
from execute.polymarket import PolymarketVenue
from schemas.decision import Beat, Cancel, Grant
from schemas.derived import Quote, Tick
from schemas.market import Instrument
from schemas.order import Alive, Fill, OrderUpdate, Submitting
from simulate.matching import Order, Side
from simulate.settings import SimulateSettings
from simulate.world import World
from tests.records import binary, granted
from venues.environment import Environment
from venues.kalshi import hosts as kalshi_hosts
from venues.kalshi.auth import Signer
from venues.polymarket import hosts as polymarket_hosts
from venues.polymarket.auth import Credentials, Wallet

E6 = 1_000_000


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run async test functions; nothing of asyncio outlives one."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


class MemoryLog:
    """Topics of one partition each: append returns the offset, every reader sees every record in order.

    Records pass through the real codec, so what cannot be encoded fails here too.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[tuple[str, bytes]]] = {}
        self.codec = Codec(FileRegistry())
        self.clock = SystemClock()
        self.grown = asyncio.Event()
        self.holds_acks = False
        self.unacked_since: float | None = None
        self.full = False

    def append(self, topic: topics.Topic, key: str, record: Any) -> int:
        log = self.records.setdefault(topic.noun, [])
        log.append((key, self.codec.encode(record, self.clock.now_ns())))
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()
        return len(log) - 1

    def read(self, topic: topics.Topic) -> list[Any]:
        return [self.codec.decode(data) for _, data in self.records.get(topic.noun, [])]

    def writer(self) -> "MemoryWriter":
        return MemoryWriter(self)

    def reader(self, topic: topics.Topic, *, from_end: bool = False) -> "MemoryReader":
        return MemoryReader(self, topic, len(self.records.get(topic.noun, [])) if from_end else 0)


class MemoryWriter:
    """One gateway's producer: in order, acknowledged a moment later; `stall` is a broker that does not answer."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.full = False
        self._stalled: list[tuple[Any, ...]] | None = None
        self._stalled_at = 0.0

    def stall(self) -> None:
        self._stalled = []
        self._stalled_at = asyncio.get_running_loop().time()

    def resume(self) -> None:
        stalled, self._stalled = self._stalled or [], None
        for topic, key, record, future in stalled:
            future.set_result(self.log.append(topic, key, record))

    def send(self, topic: topics.Topic, key: str, record: Any, partition: int = BY_KEY) -> None:
        if self.full:
            raise Unavailable("the produce queue is full")
        if self._stalled is not None:
            self._stalled.append((topic, key, record, asyncio.get_running_loop().create_future()))
        else:
            self.log.append(topic, key, record)

    async def send_acked(self, topic: topics.Topic, key: str, record: Any, partition: int = BY_KEY) -> int:
        if self.full:
            raise Unavailable("the produce queue is full")
        if self._stalled is not None:
            future = asyncio.get_running_loop().create_future()
            self._stalled.append((topic, key, record, future))
            return await future
        await asyncio.sleep(0.001)
        return self.log.append(topic, key, record)

    def ack_age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._stalled_at if self._stalled else 0.0


class MemoryReader:
    """One consumer of one topic."""

    def __init__(self, log: MemoryLog, topic: topics.Topic, start: int) -> None:
        self._log = log
        self._topic = topic
        self._next = start
        self.frozen = asyncio.Event()
        self.frozen.set()

    async def batches(self) -> AsyncIterator[list[Input]]:
        while True:
            grown = self._log.grown
            await self.frozen.wait()
            found = self._log.records.get(self._topic.noun, [])[self._next :]
            if not found:
                await grown.wait()
                continue
            items = [
                Input(self._log.codec.decode(data), self._topic.noun, 0, self._next + place, key)
                for place, (key, data) in enumerate(found)
            ]
            self._next += len(found)
            yield items


class Running:
    """A gateway that runs, and its ends of the log."""

    def __init__(
        self, gateway: Gateway, task: "asyncio.Task[None]", out: MemoryWriter, readers: list[MemoryReader]
    ) -> None:
        self.gateway = gateway
        self.task = task
        self.out = out
        self.readers = readers

    async def kill(self) -> None:
        """End it at once: nothing it still wanted to write is written."""
        self.out.full = True
        self.gateway.journal.drain = _no_drain  # type: ignore[method-assign]
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def _no_drain(timeout_s: float) -> bool:
    return True


class Bench:
    """One venue account with its market; other accounts are the counterparties."""

    def __init__(self, venue: str, world: World, ready: dict[str, Any], log: Any) -> None:
        self.name = venue
        self.account = f"{venue}:main"
        self.world = world
        self.ready = ready
        self.log = log
        self.clock = SystemClock()
        self.limits = Limits(
            size_max=1_000 * E6,
            order_notional_max_e6=1_000 * E6,
            day_notional_max_e6=10_000 * E6,
            open_orders_max=50,
            collar_e4=1_000,
            quote_age_max_ns=NS_PER_S,
        )
        self.timing = Timing(report_s=0.5, alive_s=0.1, stop_after_s=2.0, answer_timeout_s=0.6, open_poll_s=1.0)
        self.life_ms = 2_000
        """Of a grant that says nothing else: no test's own process may be kept waiting for so long."""
        self.beats = True
        self.ticks = True
        self.halt_file: Path | None = None
        self.sign_off_required = False
        self.front = ""
        """Address of what stands between the gateway's REST calls and the venue."""
        self.running: list[Running] = []
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        if venue == "kalshi":
            self.exchange: Any = world.kalshi.exchange
            self.faults = world.kalshi.mishaps
            self.place: Any = self.exchange.markets[0]
            self.instrument = kalshi_instrument(self.place)
        else:
            self.exchange = world.clob.exchange
            self.faults = world.clob.mishaps
            self.place = self.exchange.markets[0]
            self.instrument = polymarket_instrument(self.place)

    # --- the venue

    def stranger(self, side: str, price: int, size: int) -> None:
        """Let somebody else put an order into the book; in YES terms, price at 1e-4, size in contracts."""
        order = Order(f"s{next(self._numbers)}", Side.BID if side == "BUY" else Side.ASK, price, size * E6)
        self.exchange.apply(self.place, self.place.matcher.submit(order))

    async def cut_streams(self) -> None:
        """Drop every socket of the venue; gateways come back after their backoff."""
        url = f"{self.ready['sim_url']}/sim/drop"
        async with aiohttp.ClientSession() as session, session.post(url, json={"venue": self.name}) as reply:
            assert reply.status == 200

    @property
    def attempts(self) -> int:
        """How many create requests reached the venue, whatever became of them."""
        return sum(self.exchange.accounts["main"].attempts.values())

    @property
    def venue_orders(self) -> list[Any]:
        """The orders the venue has of the account."""
        return list(self.exchange.accounts["main"].orders.values())

    # --- the logs

    def quote(self, bid: int = 4_400, ask: int = 4_500, **changes: Any) -> None:
        """Let derive say what the book is."""
        fields: dict[str, Any] = dict(
            instrument=self.instrument.instrument,
            version_offset=next(self._numbers),
            version_index=0,
            depth_offset=1,
            depth_index=0,
            state="LIVE",
            price_exp=-4,
            size_exp=-6,
            bid_price=bid,
            bid_size=100 * E6,
            ask_price=ask,
            ask_size=100 * E6,
            epoch=1,
            recv_ts_ns=self.clock.now_ns(),
        )
        self.log.append(topics.DERIVED_BOOK, self.instrument.instrument, Quote(**(fields | changes)))

    def grant(self, *, write: bool = True, **changes: Any) -> Grant:
        """Let accounts grant an order."""
        number = next(self._numbers)
        now = self.clock.now_ns()
        outcome = changes.get("outcome", "YES")
        tokens = self.instrument.tokens
        fields: dict[str, Any] = dict(
            id=f"order{number:013d}",
            instrument=self.instrument.instrument,
            outcome=outcome,
            token=tokens[0 if outcome == "YES" else 1] if tokens else "",
            time_in_force="IOC" if self.name == "kalshi" else "GTC",
            client_id=f"client-{number}",
            salt=1_000 + number,
            timestamp_ms=now // NS_PER_MS,
            neg_risk=self.instrument.neg_risk,
            now_ns=now,
            send_by_ns=now + self.life_ms * NS_PER_MS,
            recv_ts_ns=now,
        )
        grant = granted(**(fields | changes))
        if write:
            self.log.append(topics.DECISION_ORDER, self.account, grant)
        return grant

    def cancel(self, order: str) -> None:
        """Let accounts take an order back."""
        now = self.clock.now_ns()
        record = Cancel(
            id=f"cancel{next(self._numbers)}",
            order=order,
            account=self.account,
            instrument=self.instrument.instrument,
            reason="not filled at once",
            now_ns=now,
            recv_ts_ns=now,
        )
        self.log.append(topics.DECISION_ORDER, self.account, record)

    def events(self, order: str, kind: Any = None) -> list[Any]:
        """Return the records of one order, of one type if asked, each event once."""
        found = {}
        for record in self.log.read(topics.ORDER_EVENT):
            if getattr(record, "order", None) == order and (kind is None or isinstance(record, kind)):
                found.setdefault(record.event_id, record)
        return list(found.values())

    def updates(self, order: str) -> list[OrderUpdate]:
        return self.events(order, OrderUpdate)

    def statuses(self, order: str) -> list[str]:
        return [update.status for update in self.updates(order)]

    def submittings(self, order: str) -> list[Submitting]:
        return self.events(order, Submitting)

    def fills(self, order: str) -> list[Fill]:
        return self.events(order, Fill)

    def alive(self) -> list[Alive]:
        return [record for record in self.log.read(topics.ORDER_EVENT) if isinstance(record, Alive)]

    async def until(self, claim: Callable[[], Any], what: str = "", timeout_s: float = 5.0) -> Any:
        """Wait until `claim` holds and return what it returned."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not (found := claim()):
            for one in self.running:
                if one.task.done() and not one.task.cancelled() and one.task.exception():
                    raise one.task.exception()  # type: ignore[misc]
            if asyncio.get_running_loop().time() > deadline:
                events = "\n".join(
                    str(r)
                    for r in self.log.read(topics.ORDER_EVENT)
                    if type(r).__name__ not in {"Alive", "VenueReport"}
                )
                raise AssertionError(f"not within {timeout_s} s: {what or inspect.getsource(claim).strip()}\n{events}")
            await asyncio.sleep(0.005)
        return found

    async def terminal(self, order: str, timeout_s: float = 5.0) -> OrderUpdate:
        """Wait for an order's terminal update and return it."""
        return await self.until(
            lambda: next((u for u in self.updates(order) if u.terminal), None), f"{order} terminal", timeout_s
        )

    # --- gateways

    def venue(self, market: Market | None) -> Any:
        if self.name == "kalshi":
            key = self.world.credentials.kalshi[0]
            return KalshiVenue(
                signer=Signer.from_pem(key.key_id, key.private_key_pem),
                endpoints=self.endpoints,
                tier="advanced",
                instruments=market.instruments if market is not None else None,
            )
        wallet = self.world.credentials.polymarket[0]
        return PolymarketVenue(
            wallet=Wallet(wallet.private_key),
            credentials=Credentials(api_key=wallet.api_key, secret=wallet.secret, passphrase=wallet.passphrase),
            funder=wallet.funder,
            signature_type=wallet.signature_type,
            chain_id=wallet.chain_id,
            endpoints=self.endpoints,
            instruments=market.instruments,
        )

    @property
    def endpoints(self) -> Any:
        found = self._endpoints()
        return msgspec.structs.replace(found, order_rest=f"http://{self.front}") if self.front else found

    def _endpoints(self) -> Any:
        if self.name == "kalshi":
            base = self.ready["kalshi"]["rest_url"].removeprefix("http://").partition("/")[0]
            return kalshi_hosts.endpoints(Environment.SIMULATED, simulated=base)
        base = self.ready["polymarket"]["clob_url"].removeprefix("http://")
        return polymarket_hosts.endpoints(Environment.SIMULATED, simulated=base)

    async def start(
        self, *, ready: bool = True, venue: Any = None, market: Market | None = None, hears_decisions: bool = True
    ) -> Running:
        """Start a gateway, and wait until it says that it can trade; one that hears no decisions never does."""
        out = self.log.writer()
        readers = [
            self.log.reader(topics.ORDER_EVENT),
            self.log.reader(topics.DECISION_ORDER),
            self.log.reader(topics.DERIVED_BOOK, from_end=True),
            self.log.reader(topics.MARKET_INSTRUMENT),
        ]
        if not hears_decisions:
            readers[1].frozen.clear()
        sign_offs = [self.log.reader(topics.DECISION_JURISDICTION), self.log.reader(topics.DECISION_PROFILE)]
        market = market or Market(self.name)
        gateway = Gateway(
            account=self.account,
            venue=venue or self.venue(market),
            base=self.endpoints.order_rest,
            logs=Logs(out, *readers, sign_offs=sign_offs),
            limits=self.limits,
            timing=self.timing,
            clock=self.clock,
            market=market,
            halt_file=self.halt_file,
            sign_off_required=self.sign_off_required,
        )
        task = asyncio.create_task(gateway.run())
        running = Running(gateway, task, out, readers)
        self.running.append(running)
        if ready and hears_decisions:
            # Its word is written up to WATCH_S after it: until then a twin takes it for one that is not ready.
            await self.until(
                lambda: any(alive.ready for alive in self.alive() if alive.writer == gateway.writer),
                "the gateway says that it is ready",
            )
            self.quote()
            await self.until(lambda: gateway.market.quotes and gateway.market.ticks, "the gateway has a quote")
        return running

    async def __aenter__(self) -> "Bench":
        self.log.append(topics.MARKET_INSTRUMENT, self.instrument.instrument, self.instrument)
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._tick())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for one in self.running:
            if not one.task.done():
                await one.kill()

    async def _beat(self) -> None:
        while True:
            if self.beats:
                beat = Beat(account=self.account, account_set="main", now_ns=self.clock.now_ns())
                self.log.append(topics.DECISION_ORDER, self.account, beat)
            await asyncio.sleep(0.05)

    async def _tick(self) -> None:
        while True:
            if self.ticks:
                self.log.append(topics.DERIVED_BOOK, "", Tick(partition=0, ts_ns=self.clock.now_ns()))
            await asyncio.sleep(0.05)


def kalshi_instrument(market: Any) -> Instrument:
    bands = market.grid.bands
    return binary(
        f"kalshi:{market.ticker}",
        tick_from=[band[0] for band in bands],
        tick_to=[band[1] for band in bands],
        tick_step=[band[2] for band in bands],
    )


def polymarket_instrument(market: Any) -> Instrument:
    tick = market.tick_e4
    return binary(
        f"polymarket:{market.condition_id}",
        tick_from=[tick],
        tick_to=[10_000 - tick],
        tick_step=[tick],
        taker_fee_e6=int(market.fee_rate * E6),
        tokens=list(market.tokens),
        neg_risk=market.neg_risk,
    )


@pytest.fixture(scope="session")
def credentials_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the test accounts' keys are; made once, since RSA keys take their time."""
    return tmp_path_factory.mktemp("keys") / "credentials.json"


@pytest.fixture
def new_bench(tmp_path: Path, credentials_file: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Bench]]:
    """Return a maker of benches: `async with new_bench("kalshi") as bench`."""

    @contextlib.asynccontextmanager
    async def make(venue: str, *, log: Callable[[], Any] = MemoryLog, **settings: Any) -> AsyncIterator[Bench]:
        world = World(
            SimulateSettings(
                markets=4,
                flow=False,
                seed=7,
                credentials_file=credentials_file,
                links_file=tmp_path / "links.json",
                truth_dir=tmp_path / "truth",
                neg_risk_share=0.25,
                mined_after_ms=50,
                confirmed_after_ms=100,
                **settings,
            )
        )
        # Books are empty until a test fills them.
        world.flow.seed_books = lambda: None  # type: ignore[method-assign]
        ready = await world.start()
        try:
            async with Bench(venue, world, ready, log()) as bench:
                yield bench
        finally:
            await world.stop()

    return make
