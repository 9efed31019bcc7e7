"""A report of Polymarket never states of a token what was read before it moved, however many tokens there are."""

import asyncio
import random
from types import SimpleNamespace

import orjson
import pytest

from core.runtime.clock import NS_PER_S
from execute.orders import Orders
from execute.polymarket import PolymarketVenue
from execute.polymarket_holdings import READS_MAX, Holdings
from execute.ports import Reply
from execute.upkeep import REFRESH_TRIES_MAX, Upkeep, outcomes_held
from execute.views import Held
from schemas.order import Fill, Settled, Submitting
from tests.execute.unreached import polymarket_venue

ONE = 1_000_000


class Chain:
    """A wallet of many tokens: answers what the exchange is asked, and counts the reads."""

    def __init__(self, count: int) -> None:
        self.now_s = 1_000
        self.sizes = {str(n): 0 for n in range(1, count + 1)}
        self.ours = dict(self.sizes)
        self.moved_ns = dict.fromkeys(self.sizes, 0)
        self.over: set[str] = set()
        self.read: list[str] = []

    def fill(self, token: str, size: int) -> None:
        self.now_s += 1
        self.sizes[token] += size
        self.ours[token] += size
        self.moved_ns[token] = self.now_s * NS_PER_S

    def held(self, **changes) -> list[Held]:
        held = [
            Held(
                f"polymarket:{token}", "YES", token, self.ours[token], self.moved_ns[token], is_over=token in self.over
            )
            for token in self.sizes
            if self.moved_ns[token]
        ]
        return [one._replace(**changes) for one in held]

    async def call(self, request, *, lane, order="", send_by_ns=0, headers=None, why_not=None) -> Reply:
        self.now_s += 1
        body: object = {"data": [], "next_cursor": "LTE="}
        if request.path == "/time":
            body = self.now_s
        elif "token_id=" in request.path:
            token = request.path.partition("token_id=")[2].partition("&")[0]
            self.read.append(token)
            body = {"balance": str(self.sizes[token]), "allowance": "1"}
        elif request.path.startswith("/balance-allowance"):
            body = {"balance": "5000000", "allowance": "1"}
        return Reply(200, orjson.dumps(body), 0, 0)


@pytest.fixture
def venue() -> PolymarketVenue:
    return polymarket_venue()


def sizes(report) -> dict[str, int]:
    return {one.instrument.removeprefix("polymarket:"): one.size for one in report.holdings}


async def stated(venue, chain):
    """Report until a report states what is held; return it and how many turns it took."""
    for turn in range(1, 20):
        began = len(chain.read)
        report = await venue.report(chain, chain.held())
        assert len(chain.read) - began <= READS_MAX
        if not report.unread:
            return report, turn
    raise AssertionError("no round came to its end")


async def test_two_hundred_tokens_are_stated_once_all_were_read_and_as_old_as_the_oldest_read(venue) -> None:
    chain = Chain(200)
    for token in chain.sizes:
        chain.fill(token, 5 * ONE)
    began_s = chain.now_s
    first = await venue.report(chain, chain.held())
    assert (first.unread, first.holdings) == (200 - READS_MAX, ())
    assert first.purse is not None
    assert first.purse.cash_e6 == {0: 5 * ONE}
    report, turns = await stated(venue, chain)
    assert turns == 3
    assert sizes(report) == dict.fromkeys(chain.sizes, 5 * ONE)
    assert report.as_of_ns == (began_s + 1) * NS_PER_S
    # The next one says nothing that was read for this one.
    chain.read.clear()
    await stated(venue, chain)
    assert set(chain.read) == set(chain.sizes)


async def test_fill_between_turns_is_read_next_and_never_stated_as_nothing(venue) -> None:
    chain = Chain(200)
    for token in chain.sizes:
        chain.fill(token, 5 * ONE)
    await stated(venue, chain)
    await venue.report(chain, chain.held())
    chain.read.clear()
    chain.fill("1", 10 * ONE)
    filled_ns = chain.moved_ns["1"]
    assert (await venue.report(chain, chain.held())).unread
    assert chain.read[0] == "1"
    for _ in range(12):
        report = await venue.report(chain, chain.held())
        # A ledger holds a report against itself only where it is later than the fill.
        if not report.unread and report.as_of_ns > filled_ns:
            assert sizes(report)["1"] == 15 * ONE
            break
    else:
        pytest.fail("no report was later than the fill")


@pytest.mark.parametrize("seed", range(8))
async def test_any_course_of_fills_states_only_what_was_held(venue, seed: int) -> None:
    dice, chain, compared = random.Random(seed), Chain(130), 0
    for token in chain.sizes:
        if dice.random() < 0.8:
            chain.fill(token, dice.randint(1, 9) * ONE)
    for _ in range(60):
        for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 3, 70])):
            token = dice.choice(list(chain.sizes))
            chain.fill(token, dice.choice([ONE, -chain.sizes[token]]))
        if dice.random() < 0.2:
            token = dice.choice([token for token, moved_ns in chain.moved_ns.items() if moved_ns])
            chain.over.add(token)
        report = await venue.report(chain, chain.held())
        if report.unread or report.as_of_ns <= max(chain.moved_ns.values()):
            continue
        compared += 1
        assert sizes(report) == {token: size for token, size in chain.sizes.items() if size}
    assert compared > 3


async def test_what_was_sold_or_paid_out_costs_no_more_turns_but_is_looked_at_in_turn(venue) -> None:
    chain = Chain(300)
    for token in chain.sizes:
        chain.fill(token, ONE)
    for token in list(chain.sizes)[10:200]:
        chain.fill(token, -ONE)
    for token in list(chain.sizes)[200:]:
        chain.over.add(token)
        chain.sizes[token] = 0  # redeemed
    await stated(venue, chain)
    await stated(venue, chain)
    report, turns = await stated(venue, chain)
    assert (turns, set(sizes(report))) == (1, set(list(chain.sizes)[:10]))
    # Somebody moved a token into the wallet.
    chain.sizes["150"] = 7 * ONE
    for _ in range(10):
        report, turns = await stated(venue, chain)
    assert (turns, sizes(report)["150"]) == (1, 7 * ONE)


async def test_token_the_venue_was_not_told_to_look_at_is_stated_once_it_was(venue) -> None:
    chain = Chain(1)
    chain.fill("1", 10 * ONE)
    chain.sizes["1"] = 0  # the exchange has not looked at the chain
    for _ in range(2):
        # Cash is known from the fill on, tokens from a look after the settlement: two such reports would agree.
        report = await venue.report(chain, chain.held(waits=True))
        assert (report.unread, report.holdings) == (1, ())
    chain.sizes["1"] = 10 * ONE
    report = await venue.report(chain, chain.held())
    assert report.unread == 0
    assert report.as_of_ns > chain.moved_ns["1"]
    assert sizes(report) == {"1": 10 * ONE}


def test_of_a_token_that_moved_since_it_was_read_no_more_may_be_sold_than_our_fills_leave() -> None:
    holdings, one = Holdings(), Held("polymarket:1", "YES", "1", 10, moved_ns=5)
    (read,) = holdings.choose([one])
    holdings.take(read, 10, 6)
    assert holdings.sellable([one]) == {"1": 10}
    assert holdings.sellable([one._replace(size=4, moved_ns=7)]) == {"1": 4}
    assert holdings.sellable([one._replace(size=20, moved_ns=7)]) == {"1": 10}


def fill(number: int, size: int, side: str = "BUY", *, settlement: str = "MATCHED") -> Fill:
    return Fill(event_id=f"f{number}", order="o", account="polymarket:main", instrument="polymarket:0xm", fill=f"t{number}",
                outcome="YES", token_side=side, size=size, price_e6=1, notional_e6=1, fee_e6=0, asset="pUSD",
                liquidity="TAKER", settlement=settlement, venue_ts_ns=number * 10, ts_ns=1, recv_ts_ns=1)  # fmt: skip


def settled(number: int, settlement: str, at_ns: int) -> Settled:
    return Settled(event_id=f"s{number}{settlement}", order="o", account="polymarket:main", instrument="polymarket:0xm",
                   fill=f"t{number}", settlement=settlement, venue_ts_ns=at_ns, ts_ns=1, recv_ts_ns=1)  # fmt: skip


def test_outcomes_held_follow_fills_and_failed_settlements_in_any_order() -> None:
    records = [
        fill(1, 10 * ONE),
        fill(2, 5 * ONE),
        fill(3, 3 * ONE, "SELL"),
        fill(4, 50 * ONE, settlement="FAILED"),
        settled(1, "CONFIRMED", 400),
        settled(2, "FAILED", 300),
        settled(2, "FAILED", 300),
        fill(3, 3 * ONE, "SELL"),
    ]
    instrument = SimpleNamespace(tokens=["yes", "no"], status="OPEN")
    market = SimpleNamespace(instruments={"polymarket:0xm": instrument})
    for seed in range(20):
        orders = Orders("polymarket:main")
        orders.apply(
            Submitting(event_id="s", order="o", account="polymarket:main", instrument="polymarket:0xm", writer="w",
                       method="POST", path="/", body=b"", send_by_ns=1, ts_ns=1, recv_ts_ns=1)
        )  # fmt: skip
        shuffled = records.copy()
        random.Random(seed).shuffle(shuffled)
        for record in shuffled:
            orders.apply(record)
        (one,) = outcomes_held(orders, market, waits={"yes"})
        assert (one.token, one.size, one.waits, one.is_over) == ("yes", 7 * ONE, True, False)
        assert one.moved_ns >= 40
    instrument.status = "SETTLED"
    assert outcomes_held(orders, market)[0].is_over


@pytest.mark.parametrize(("refusals", "asked"), [(2, 3), (99, REFRESH_TRIES_MAX)])
async def test_venue_that_refuses_to_look_is_asked_again_but_not_for_ever(venue, monkeypatch, refusals, asked) -> None:
    monkeypatch.setattr("execute.upkeep.REFRESH_PAUSE_S", 0.0)
    calls: list[str] = []

    async def call(request, *, lane) -> Reply:
        calls.append(request.path)
        assert "t" in upkeep.stale
        return Reply(500 if len(calls) <= refusals else 200, b"{}", 0, 0)

    upkeep = Upkeep(venue=venue, orders=None, journal=None, caller=SimpleNamespace(call=call), clock=None)
    upkeep.settled(Held("polymarket:1", "YES", "t"))
    task = asyncio.create_task(upkeep.refresh_balances())
    for _ in range(200):
        await asyncio.sleep(0)
    assert (len(calls), "t" in upkeep.stale) == (asked, False)
    assert all("/balance-allowance/update" in path for path in calls)
    task.cancel()
