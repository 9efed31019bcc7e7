"""A small world of two linked markets, and a log that feeds one task and can feed it again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from core.runtime.flow import Input, Source, TaskContext
from decide.accounts import AccountsTask
from decide.strategies.registry import load_kinds
from decide.strategies_task import StrategiesTask
from schemas import decision, derived, market, order
from tests.records import binary, sides

# Its checks are said as fully as those of a test.
pytest.register_assert_rewrite("tests.decide.scripted")

SECOND = 1_000_000_000
START_NS = 1_795_000_000 * SECOND
KALSHI = "kalshi:KX-1"
POLY = "polymarket:0xc1"
ONE = 1_000_000


def instrument(name: str, **changes) -> market.Instrument:
    return binary(name, **{"recv_ts_ns": START_NS, **changes})


def link(**changes) -> decision.Link:
    fields = dict(
        id="L1",
        version=1,
        status="APPROVED",
        instrument_a=KALSHI,
        instrument_b=POLY,
        polarity="SAME",
        states=["yes", "no"],
        payout_a_e6=[ONE, 0],
        payout_b_e6=[ONE, 0],
        approved_by="a human",
        approved_ts_ns=START_NS,
    )
    return decision.Link(**{**fields, **changes})


def depth(name: str, version: int, bids=(), asks=(), *, recv_ns: int = START_NS, **changes) -> derived.Depth:
    fields = dict(
        instrument=name,
        version_offset=version,
        version_index=0,
        state="LIVE",
        price_exp=-4,
        size_exp=-6,
        **sides(bids, asks),
        epoch=0,
        recv_ts_ns=recv_ns,
        trail=[recv_ns],
    )
    return derived.Depth(**{**fields, **changes})


def quote(of: derived.Depth, *, state: str = "LIVE", index: int = 1, **changes) -> derived.Quote:
    live = state == "LIVE"
    fields = dict(
        instrument=of.instrument,
        version_offset=of.version_offset,
        version_index=index,
        depth_offset=of.version_offset,
        depth_index=of.version_index,
        state=state,
        price_exp=-4,
        size_exp=-6,
        bid_price=of.bid_prices[0] if live and of.bid_prices else 0,
        bid_size=of.bid_sizes[0] if live and of.bid_prices else 0,
        ask_price=of.ask_prices[0] if live and of.ask_prices else 0,
        ask_size=of.ask_sizes[0] if live and of.ask_prices else 0,
        epoch=0,
        recv_ts_ns=of.recv_ts_ns,
        trail=of.trail,
    )
    return derived.Quote(**{**fields, **changes})


def limit(**changes) -> decision.Limit:
    fields = dict(
        id="main",
        state="RUNNING",
        order_notional_max_e6=1_000 * ONE,
        market_notional_max_e6=10_000 * ONE,
        open_sagas_max=10,
        unwind_budget_e6=2 * ONE,
        set_by="a human",
        reason="test",
    )
    return decision.Limit(**{**fields, **changes})


def budget(scope: str, name: str = "*", **changes) -> decision.Budget:
    fields = dict(
        id=f"main|{scope}|{name}", account_set="main", scope=scope, name=name, set_by="a human", reason="test"
    )
    return decision.Budget(**{**fields, **changes})


def command(state: str, scope: str = "SET", name: str = "", **changes) -> decision.Command:
    fields = dict(
        id=f"command|main|{scope}|{name}",
        account_set="main",
        scope=scope,
        name=name,
        state=state,
        set_by="a human",
        reason="test",
        ts_ns=START_NS,
    )
    return decision.Command(**{**fields, **changes})


def tick(ts_ns: int, partition: int = 0) -> derived.Tick:
    return derived.Tick(partition=partition, ts_ns=ts_ns)


def book_source(partition: int = 0) -> Source:
    return Source("derived.book", partition, 0)


def profile(venue: str, **changes) -> decision.Profile:
    fields = dict(id=f"{venue}:main", venue=venue, account_set="main", entity="Test", currency="USD")
    return decision.Profile(**{**fields, **changes})


def holding(account: str, name: str) -> decision.Ledger:
    return decision.Ledger(
        id=f"{account}|{name}|YES",
        account=account,
        instrument=name,
        outcome="YES",
        size=1,
        now_ns=1,
        log_partition=0,
        log_offset=0,
    )


def strategy(**changes) -> decision.Strategy:
    fields = dict(id="arb-1", kind="cross_venue", status="RUNNING", account_set="main", params="{}")
    return decision.Strategy(**{**fields, **changes})


def leg(name: str, side: str, levels, **changes) -> decision.Leg:
    fields = dict(
        instrument=name,
        account=f"{name.partition(':')[0]}:main",
        side=side,
        price=levels[-1][0],
        size=sum(size for _, size in levels),
        price_exp=-4,
        size_exp=-6,
        fee_max_e6=0,
        version_offset=7,
        version_index=0,
        recv_ts_ns=START_NS,
        level_prices=[price for price, _ in levels],
        level_sizes=[size for _, size in levels],
    )
    return decision.Leg(**{**fields, **changes})


def intent(**changes) -> decision.Intent:
    """Buy 10 YES on Polymarket at .40, sell 10 YES on Kalshi at .50."""
    fields = dict(
        id="intent-1",
        strategy="arb-1",
        link="L1",
        account_set="main",
        now_ns=START_NS,
        legs=[leg(POLY, "BUY", [(4_000, 10 * ONE)]), leg(KALSHI, "SELL", [(5_000, 10 * ONE)])],
        profit_e6=500_000,
        input_partition=0,
        input_offset=1,
        recv_ts_ns=START_NS,
        trail=[START_NS],
    )
    return decision.Intent(**{**fields, **changes})


def submitting(grant, now_ns: int, writer: str = "gw") -> order.Submitting:
    return order.Submitting(
        event_id=f"s/{grant.id}/{writer}",
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        writer=writer,
        method="POST",
        path="/",
        body=b"",
        send_by_ns=grant.send_by_ns,
        ts_ns=now_ns,
        recv_ts_ns=now_ns,
    )


def update(grant, status: str, filled: int, now_ns: int, **changes) -> order.OrderUpdate:
    fields = dict(
        event_id=f"u/{grant.id}/{status}/{filled}",
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        status=status,
        terminal=status not in {"ACCEPTED", "OUTCOME_UNKNOWN"},
        filled=filled,
        writer="gw",
        ts_ns=now_ns,
        recv_ts_ns=now_ns,
    )
    return order.OrderUpdate(**{**fields, **changes})


def settled(grant, fill_id: str, settlement: str, now_ns: int) -> order.Settled:
    return order.Settled(
        event_id=f"st/{fill_id}/{settlement}",
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        fill=fill_id,
        settlement=settlement,
        ts_ns=now_ns,
        recv_ts_ns=now_ns,
    )


class Log:
    """One partition of a sequenced log with its task; `again` feeds a fresh task what was fed so far."""

    def __init__(self, make_task) -> None:
        self.new_task = make_task
        self.task = make_task()
        self.items: list[Input] = []
        self.outputs: list = []
        self.now_ns = START_NS

    def feed(self, record, *, ms: int = 0, source: Source | None = None) -> list:
        """Append a record `ms` later and return the records that follow."""
        self.now_ns += ms * 1_000_000
        item = Input(record, "log", 0, len(self.items), "", self.now_ns, source)
        self.items.append(item)
        outputs = list(self.task.handle(item))
        self.outputs += outputs
        return [output.record for output in outputs]

    def clock(self, ms: int = 100) -> list:
        return self.feed(decision.Clock(now_ns=self.now_ns + ms * 1_000_000), ms=ms)

    def again(self) -> list:
        task = self.new_task()
        return [output for item in self.items for output in task.handle(item)]

    def all(self, kind) -> list:
        return [output.record for output in self.outputs if type(output.record) is kind]

    def entries(self) -> list:
        """Return all entries but those that an account opens with."""
        return [entry for entry in self.all(decision.Entry) if entry.kind != "OPENING"]

    def last(self, kind):
        return self.all(kind)[-1]


class Accounts(Log):
    """The accounts' log, with the words a gateway would say."""

    def __init__(self, **context) -> None:
        super().__init__(lambda: AccountsTask(TaskContext(**{"incarnation": 77, **context})))
        self._events = 0

    def start(self, *, cash: int = 1_000 * ONE, limits: decision.Limit | None = None) -> Accounts:
        for record in (link(), instrument(KALSHI), instrument(POLY), profile("kalshi"), profile("polymarket")):
            self.feed(record)
        self.feed(limits or limit())
        for venue in ("kalshi", "polymarket"):
            self.report(f"{venue}:main", cash)
            self.alive(f"{venue}:main")
        return self

    def report(self, account: str, cash: int, holdings=(), *, as_of_ns: int | None = None) -> list:
        return self.feed(
            order.VenueReport(
                account=account,
                as_of_ns=self.now_ns if as_of_ns is None else as_of_ns,
                cash_e6=cash,
                holdings=[order.Holding(instrument=i, outcome=o, size=s) for i, o, s in holdings],
                open_orders=[],
                ts_ns=self.now_ns,
            )
        )

    def alive(self, account: str, *, ready: bool = True) -> list:
        return self.feed(order.Alive(account=account, writer="gw", ready=ready, ts_ns=self.now_ns))

    def submitting(self, grant, writer: str = "gw") -> list:
        return self.feed(submitting(grant, self.now_ns, writer))

    def update(self, grant, status: str, filled: int = 0, *, terminal: bool | None = None, **changes) -> list:
        if terminal is not None:
            changes["terminal"] = terminal
        return self.feed(update(grant, status, filled, self.now_ns, **changes))

    def fill(self, grant, size: int, yes_price: int, *, fee: int = 0, name: str = "", **changes) -> list:
        self._events += 1
        token_price = 10_000 - yes_price if grant.outcome == "NO" else yes_price
        fill_id = name or f"f{self._events}"
        fields = dict(
            event_id=f"f/{grant.id}/{fill_id}",
            order=grant.id,
            account=grant.account,
            instrument=grant.instrument,
            fill=fill_id,
            outcome=grant.outcome,
            token_side=grant.token_side,
            size=size,
            price_e6=token_price * 100,
            notional_e6=size * token_price // 10_000,
            fee_e6=fee,
            asset="USD",
            liquidity="TAKER",
            settlement="CONFIRMED" if grant.account.startswith("kalshi") else "MATCHED",
            ts_ns=self.now_ns,
            recv_ts_ns=self.now_ns,
        )
        return self.feed(order.Fill(**{**fields, **changes}))

    def settle(self, grant, fill_id: str, settlement: str = "CONFIRMED") -> list:
        return self.feed(settled(grant, fill_id, settlement, self.now_ns))

    def done(self, grant, size: int, yes_price: int, *, fee: int = 0, name: str = "") -> list:
        """Fill an order and end it: FILLED, or CANCELLED where it was not filled in full."""
        self.fill(grant, size, yes_price, fee=fee, name=name)
        return self.update(grant, "FILLED" if size == grant.size else "CANCELLED", size)

    def ledger(self, name: str) -> decision.Ledger:
        return [record for record in self.all(decision.Ledger) if record.id == name][-1]


class Strategies(Log):
    """The strategies' log."""

    def __init__(self, **context) -> None:
        super().__init__(lambda: StrategiesTask(TaskContext(**{"incarnation": 77, **context}), load_kinds()))

    def start(self, *, params: str = "{}", links=None, instruments=None) -> Strategies:
        for record in instruments or (instrument(KALSHI), instrument(POLY)):
            self.feed(record)
        for record in links or (link(),):
            self.feed(record)
        self.feed(profile("kalshi"))
        self.feed(profile("polymarket"))
        self.feed(strategy(params=params))
        self.tick()
        return self

    def tick(self, partition: int = 0) -> list:
        return self.feed(derived.Tick(partition=partition, ts_ns=self.now_ns))

    def book(self, name: str, version: int, bids=(), asks=(), **changes) -> list:
        """Feed a depth and its quote; return what follows from the quote."""
        seen = depth(name, version, bids, asks, recv_ns=self.now_ns)
        source = Source("derived.book", 0, len(self.items))
        self.feed(seen, source=source)
        return self.feed(quote(seen, **changes), source=source)


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the simulated venues keep the test accounts' keys; made once, since RSA keys take their time."""
    return tmp_path_factory.mktemp("keys") / "credentials.json"


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Builders of records and logs, in the documented shapes."""
    return SimpleNamespace(
        instrument=instrument,
        link=link,
        depth=depth,
        quote=quote,
        limit=limit,
        budget=budget,
        command=command,
        tick=tick,
        book_source=book_source,
        profile=profile,
        strategy=strategy,
        leg=leg,
        intent=intent,
        accounts=Accounts,
        strategies=Strategies,
        replace=msgspec.structs.replace,
        KALSHI=KALSHI,
        POLY=POLY,
        ONE=ONE,
        START_NS=START_NS,
    )
