"""Each fault of orders as a client sees it, on real sockets; the venue's own account stays true through all of them."""

import asyncio
import time

import aiohttp
import pytest

from simulate.faults import BadFault, parse, script
from simulate.matching import Order, Side
from simulate.order_faults import CHOICES, ORDER_NAMES, draw

E6 = 1_000_000


class Desk:
    """One venue with one market, somebody to trade with, and one client."""

    def __init__(self, venues, venue):
        self.venues = venues
        self.venue = venue
        is_kalshi = venue == "kalshi"
        self.exchange = venues.world.kalshi.exchange if is_kalshi else venues.world.clob.exchange
        self.client = venues.kalshi if is_kalshi else venues.polymarket
        self.market = self.exchange.markets[0]
        self.account = self.exchange.accounts["main"]

    def offer(self, size=100, price=4_500):
        """Let a stranger offer YES."""
        order = Order(f"s{time.time_ns()}", Side.ASK, price, size * E6)
        self.exchange.apply(self.market, self.market.matcher.submit(order))

    async def fault(self, name, **parameters):
        answer = await self.venues.sim("/sim/faults", {"venue": self.venue, "fault": name, **parameters})
        assert "error" not in answer, answer
        return answer

    async def buy(self, size=10, price=45, *, key="k1", **fields):
        """Buy YES, resting what is not matched; returns (status, body)."""
        if self.venue == "kalshi":
            return await self.client.order(
                self.market.ticker, "bid", f"0.{price}00", f"{size}.00", client_order_id=key, **fields
            )
        body = self.client.body(self.market.tokens[0], "BUY", price * size * 10_000, size * E6, **fields)
        return await self.client.call("POST", "/order", body)

    async def cancel(self, order):
        if self.venue == "kalshi":
            return await self.client.call(
                "DELETE", f"/portfolio/events/orders/{order}?market_ticker={self.market.ticker}"
            )
        return await self.client.call("DELETE", "/order", {"orderID": order})

    def stream(self):
        return self.client.stream() if self.venue == "kalshi" else self.client.user()

    async def subscribe(self, stream):
        if self.venue == "kalshi":
            await stream.send({"id": 1, "cmd": "subscribe", "params": {"channels": ["fill", "user_orders"]}})
            for _ in range(2):
                await stream.until("subscribed")

    @property
    def own(self):
        """The client's only order."""
        (own,) = self.account.orders.values()
        return own

    @property
    def held(self):
        if self.venue == "kalshi":
            return self.account.position(self.market.ticker).size_e6
        return self.account.tokens.get(self.market.tokens[0], 0)


@pytest.fixture
def desk(run):
    def runner(venue, scenario, **settings):
        run(lambda venues: scenario(Desk(venues, venue)), **settings)

    return runner


BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


@BOTH
@pytest.mark.parametrize("how", ["swallow", "reset", "504", "500"])
def test_order_whose_answer_is_lost_was_placed(desk, venue, how):
    async def scenario(desk):
        desk.offer()
        await desk.fault("accept_then_timeout", how=how)
        try:
            async with asyncio.timeout(0.5):
                status, _ = await desk.buy()
            assert status == int(how)
        except (TimeoutError, aiohttp.ClientError):
            assert how in {"swallow", "reset"}
        assert desk.own.engine.filled == desk.held == 10 * E6
        # It was one order: the next is answered.
        desk.offer()
        status, _ = await desk.buy(key="k2")
        assert status in {200, 201}

    desk(venue, scenario)


@BOTH
def test_cancel_whose_answer_is_lost_was_done(desk, venue):
    async def scenario(desk):
        await desk.buy()
        await desk.fault("accept_then_timeout", what="cancel", how="504")
        order = next(iter(desk.account.orders))
        status, _ = await desk.cancel(order)
        assert status == 504
        assert desk.market.matcher.best_bid() is None

    desk(venue, scenario)


@BOTH
def test_order_that_is_withdrawn_after_its_answer_never_trades(desk, venue):
    async def scenario(desk):
        desk.offer()
        await desk.fault("reject_after_accept", delay_ms=100)
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            status, body = await desk.buy()
            assert status in {200, 201}
            assert body.get("status", "live") == "live"
            assert body.get("remaining_count", "10.00") == "10.00"
            kind = "user_order" if venue == "kalshi" else "order"
            words = [await stream.until(kind) for _ in range(2)]
        stated = [word.get("msg", word)["status"] for word in words]
        assert stated == (["resting", "canceled"] if venue == "kalshi" else ["LIVE", "INVALID"])
        assert desk.held == 0
        assert desk.market.matcher.best_ask() == 4_500
        state = (await desk.venues.sim("/sim/accounts"))[venue][0]
        assert (state["open_orders"], state["reserved_e6"]) == ([], 0)

    desk(venue, scenario)


@BOTH
def test_order_to_be_withdrawn_may_be_cancelled_before(desk, venue):
    async def scenario(desk):
        await desk.fault("reject_after_accept", delay_ms=5_000)
        await desk.buy()
        status, _ = await desk.cancel(next(iter(desk.account.orders)))
        assert status == 200
        assert not (desk.account.resting if venue == "kalshi" else desk.account.open)

    desk(venue, scenario)


@BOTH
def test_others_are_faster_and_leave_a_part(desk, venue):
    async def scenario(desk):
        desk.offer(6)
        desk.offer(100, 4_400)
        await desk.fault("partial_fill", share=0.3)
        await desk.buy()
        assert desk.held == 3 * E6
        # What rests is ours; the rest of the book went to others.
        assert desk.market.matcher.best_ask() is None
        assert desk.own.engine.remaining == 7 * E6

    desk(venue, scenario)


@BOTH
def test_fill_is_told_before_the_acknowledgement(desk, venue):
    async def scenario(desk):
        desk.offer()
        await desk.fault("fill_before_acknowledgement", delay_ms=300)
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            answer = asyncio.create_task(desk.buy())
            await stream.until("fill" if venue == "kalshi" else "trade")
            assert not answer.done()
            assert (await answer)[0] in {200, 201}

    desk(venue, scenario)


@BOTH
def test_fills_are_told_late_and_the_orders_own_figure_at_once(desk, venue):
    async def scenario(desk):
        desk.offer()
        await desk.fault("late_fills", delay_ms=500)
        kind = "fill" if venue == "kalshi" else "trade"
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            await desk.buy()
            frames = await stream.drain(0.2)
            kinds = [frame.get("type") if venue == "kalshi" else frame["event_type"] for frame in frames]
            assert kind not in kinds
            assert kinds
            assert await _fills(desk) == 0
            await stream.until(kind)
            assert await _fills(desk) == 1

    desk(venue, scenario)


async def _fills(desk):
    if desk.venue == "kalshi":
        _, body = await desk.client.call("GET", "/portfolio/fills")
        return len(body["fills"])
    _, body = await desk.client.call("GET", "/data/trades")
    return len(body["data"])


@BOTH
def test_private_messages_come_twice_with_one_id(desk, venue):
    async def scenario(desk):
        desk.offer()
        await desk.fault("double_fills")
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            await desk.buy()
            frames = await stream.drain(0.4)
        kind = "fill" if venue == "kalshi" else "trade"
        if venue == "kalshi":
            ids = [frame["msg"]["trade_id"] for frame in frames if frame["type"] == kind]
            assert len(ids) == 2
        else:
            ids = [frame["id"] for frame in frames if frame["event_type"] == kind and frame["status"] == "MATCHED"]
            assert len(ids) == 2
        assert len(set(ids)) == 1
        assert desk.held == 10 * E6

    desk(venue, scenario)


@BOTH
def test_private_messages_come_in_the_reverse_order(desk, venue):
    async def scenario(desk):
        desk.offer(4)
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            await desk.fault("private_reordered", window_ms=100)
            await desk.buy()
            frames = await stream.drain(0.5)
        if venue == "kalshi":
            assert [frame["type"] for frame in frames] == ["user_order", "fill"]
        else:
            said = [(frame["event_type"], frame.get("type")) for frame in frames]
            assert said[-1] == ("trade", "TRADE")
            assert said[-3:-1] != [("order", "UPDATE"), ("order", "PLACEMENT")]

    desk(venue, scenario, mined_after_ms=60_000, confirmed_after_ms=60_000)


@BOTH
def test_silent_stream_says_nothing_and_answers_pings(desk, venue):
    async def scenario(desk):
        desk.offer()
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            await desk.fault("private_silent", seconds=0.4)
            await desk.buy()
            if venue == "polymarket":
                await stream.send("PING")
                assert await stream.next() == "PONG"
            else:
                await asyncio.wait_for(await stream.socket.ping(), 1)
            assert await stream.drain(0.2) == []
            await asyncio.sleep(0.3)
            desk.offer()
            await desk.buy(key="k2")
            assert await stream.drain(0.2)
        assert desk.held == 20 * E6

    desk(venue, scenario, mined_after_ms=60_000, confirmed_after_ms=60_000)


@BOTH
def test_reads_lag_behind_what_was_acknowledged(desk, venue):
    async def scenario(desk):
        desk.offer(4)
        _, body = await desk.buy()
        order = body["order_id"] if venue == "kalshi" else body["orderID"]
        began = time.time_ns()
        await desk.fault("lagging_reads", lag_ms=400, seconds=2)
        assert (await desk.cancel(order))[0] == 200
        assert await _status(desk, order) in {"resting", "LIVE"}
        if venue == "kalshi":
            _, age = await desk.client.call("GET", "/exchange/user_data_timestamp")
            assert age["as_of_time"] < _iso(began + 400_000_000)
        await asyncio.sleep(0.6)
        assert await _status(desk, order) in {"canceled", "CANCELED"}

    desk(venue, scenario)


def _iso(ns):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns / 1e9)) + f".{ns % 10**9 // 1_000:06d}Z"


async def _status(desk, order):
    if desk.venue == "kalshi":
        return (await desk.client.call("GET", f"/portfolio/orders/{order}"))[1]["order"]["status"]
    return (await desk.client.call("GET", f"/data/order/{order}"))[1]["status"]


@BOTH
@pytest.mark.parametrize(
    ("name", "parameters", "status", "placed"),
    [
        ("order_429", {}, 429, 0),
        ("order_5xx", {"statuses": [503]}, 503, 0),
        ("order_5xx", {"statuses": [503], "takes_effect": True}, 503, 1),
    ],
)
def test_refused_requests_have_the_effect_their_fault_says(desk, venue, name, parameters, status, placed):
    async def scenario(desk):
        await desk.fault(name, seconds=0.3, **parameters)
        assert (await desk.buy())[0] == status
        assert len(desk.account.orders) == placed
        await asyncio.sleep(0.35)
        assert (await desk.buy(key="k2"))[0] in {200, 201}

    desk(venue, scenario)


def test_restart_of_the_matching_engine_is_425_then_post_only_and_cancels_work(desk):
    async def scenario(desk):
        _, body = await desk.buy()
        await desk.fault("order_425", seconds=0.4, post_only_s=0.6)
        assert (await desk.buy())[0] == 425
        assert (await desk.cancel(body["orderID"]))[1]["canceled"] == [body["orderID"]]
        await asyncio.sleep(0.45)
        status, refused = await desk.buy()
        assert (status, refused["code"]) == (503, "post_only_mode")
        assert (await desk.buy(post_only=True))[0] == 200
        await asyncio.sleep(0.65)
        assert (await desk.buy())[0] == 200

    desk("polymarket", scenario)


def test_paused_trading_is_409_and_cancels_work(desk):
    async def scenario(desk):
        _, body = await desk.buy()
        await desk.fault("trading_paused", seconds=0.3)
        status, refused = await desk.buy(key="k2")
        assert (status, refused["error"]["code"]) == (409, "trading_is_paused")
        assert (await desk.cancel(body["order_id"]))[0] == 200

    desk("kalshi", scenario)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("failed", ["MATCHED", "RETRYING", "FAILED"]),
        ("retrying", ["MATCHED", "MINED", "RETRYING", "CONFIRMED"]),
        ("ghost", ["MATCHED"]),
    ],
)
def test_settlement_goes_the_way_its_fault_says(desk, how, told):
    async def scenario(desk):
        desk.offer()
        before = desk.account.collateral_e6
        await desk.fault("settlement_failed", how=how)
        async with desk.stream() as stream:
            await desk.subscribe(stream)
            await desk.buy()
            assert desk.account.collateral_e6 < before
            frames = await stream.drain(0.4)
        assert [frame["status"] for frame in frames if frame["event_type"] == "trade"] == told
        failed = how in {"failed", "ghost"}
        assert (desk.held, desk.account.collateral_e6 == before) == (0 if failed else 10 * E6, failed)
        assert desk.account.unsettled[desk.market.tokens[0]] == 0
        assert desk.account.fees_e6 == (0 if failed else before - desk.account.collateral_e6 - 4_500_000)
        _, listed = await desk.client.call("GET", "/data/trades")
        assert listed["data"][0]["status"] == "TRADE_STATUS_" + ("FAILED" if failed else "CONFIRMED")

    desk("polymarket", scenario)


def test_failed_sale_brings_the_tokens_back(desk):
    async def scenario(desk):
        desk.offer()
        await desk.buy()
        await asyncio.sleep(0.2)
        before = (desk.held, desk.account.collateral_e6, desk.account.fees_e6)
        bid = Order("bid", Side.BID, 4_400, 50 * E6)
        desk.exchange.apply(desk.market, desk.market.matcher.submit(bid))
        await desk.fault("settlement_failed")
        sale = desk.client.body(desk.market.tokens[0], "SELL", 10 * E6, 4_400_000)
        assert (await desk.client.call("POST", "/order", sale))[1]["status"] == "matched"
        assert desk.held == 0
        await asyncio.sleep(0.25)
        assert (desk.held, desk.account.collateral_e6, desk.account.fees_e6) == before

    desk("polymarket", scenario)


def test_delayed_order_cannot_be_cancelled_and_then_matches(desk):
    async def scenario(desk):
        desk.offer()
        await desk.fault("taker_delay", delay_ms=300)
        _, body = await desk.buy()
        assert body["status"] == "delayed"
        assert (await desk.cancel(body["orderID"]))[1]["not_canceled"] == {body["orderID"]: "order is delayed"}
        await asyncio.sleep(0.4)
        assert desk.held == 10 * E6

    desk("polymarket", scenario)


def test_cancel_without_its_market_goes_to_shard_0_and_finds_nothing(desk):
    async def scenario(desk):
        desk.market.exchange_index = 2
        status, refused = await desk.buy(key="k0")
        assert (status, refused["error"]["code"]) == (400, "insufficient_balance")
        desk.account.exchange_index = 2
        _, body = await desk.buy()
        path = f"/portfolio/events/orders/{body['order_id']}"
        assert (await desk.client.call("DELETE", path))[0] == 404
        assert (await desk.client.call("DELETE", f"{path}?exchange_index=1"))[0] == 404
        assert (await desk.client.call("DELETE", f"{path}?exchange_index=2"))[0] == 200

    desk("kalshi", scenario)


def test_fault_may_be_for_one_account_and_ends_by_its_time(desk):
    async def scenario(desk):
        await desk.fault("order_429", account="second", seconds=0.2)
        assert (await desk.buy())[0] == 201
        await desk.fault("order_429", account="main", seconds=0.2)
        assert (await desk.buy(key="k2"))[0] == 429
        await asyncio.sleep(0.3)
        stats = (await desk.venues.sim("/sim/stats"))["faults"]
        assert (stats["injected"]["order_429"], stats["active"]) == (2, [])

    desk("kalshi", scenario)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, words in CHOICES.items() for key in words])
def test_words_a_fault_does_not_know_are_refused(name, key):
    venue = ORDER_NAMES[name].venues[-1]
    with pytest.raises(BadFault, match=f"{key} must be one of"):
        parse({"fault": name, "venue": venue, key: "sideways"})


def test_a_seed_draws_every_fault_of_orders_on_every_venue():
    drawn = script(1, 300, faults=ORDER_NAMES)
    assert drawn == script(1, 300, faults=ORDER_NAMES)
    pairs = {(entry.wanted.fault, entry.wanted.venue) for entry in drawn}
    assert pairs == {(name, venue) for name, fault in ORDER_NAMES.items() for venue in fault.venues}
    for entry in drawn:
        body = entry.as_json()
        body.pop("at_s")
        assert parse(body) == entry.wanted


def test_every_fault_of_orders_names_its_document_and_draws_what_it_takes():
    import random

    for name, fault in ORDER_NAMES.items():
        assert ".md" in fault.seen or "general" in fault.seen, name
        drawn = draw(name, random.Random(1))
        assert set(drawn) - {"seconds"} <= set(fault.parameters), name
