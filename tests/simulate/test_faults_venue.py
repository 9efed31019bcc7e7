"""Faults of connections and of a venue as a whole: sockets that end or lie, HTTP that refuses, maintenance, limits."""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest
import websockets

from simulate.faults import NAMES
from simulate.matching import Order, Side
from simulate.universe import make_universe

UNIVERSE = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
TICKERS = [market.kalshi_ticker for market in UNIVERSE]
CONDITIONS = [market.condition_id for market in UNIVERSE]
TOKENS = [market.yes_token for market in UNIVERSE]
SUBSCRIBE = {
    "id": 1,
    "cmd": "subscribe",
    "params": {"channels": ["orderbook_delta"], "market_tickers": TICKERS[:2], "use_yes_price": True},
}
VENUES = ["kalshi", "polymarket"]


@contextlib.asynccontextmanager
async def books(venues, venue):
    """Follow the books of two markets and read their first snapshots."""
    if venue == "kalshi":
        async with venues.kalshi.stream() as stream:
            await stream.send(SUBSCRIBE)
            for _ in range(3):
                await stream.next()
            yield stream
    else:
        async with venues.polymarket.market(TOKENS[:2]) as stream:
            await stream.next()
            yield stream


def change(venues, venue, price=4_000):
    exchange = venues.world.kalshi.exchange if venue == "kalshi" else venues.world.clob.exchange
    market = exchange.markets[0]
    exchange.apply(market, market.matcher.submit(Order(f"v{time.monotonic_ns()}", Side.BID, price, 5_000_000)))


async def inject(venues, venue, fault, **parameters):
    answer = await venues.sim("/sim/faults", {"venue": venue, "fault": fault, **parameters})
    assert "error" not in answer, answer
    return answer


def told(venues):
    venues.world.truth.flush()
    return [json.loads(line) for line in venues.world.truth.path("faults.jsonl").read_text().splitlines()]


def frames(venues, venue):
    venues.world.truth.flush()
    return [json.loads(line) for line in venues.world.truth.path(f"frames-{venue}.jsonl").read_text().splitlines()]


async def status_of(venues, url):
    async with venues.session.get(url) as response:
        return response.status, response.headers, await response.text()


def public_url(venues, venue):
    if venue == "kalshi":
        return f"{venues.kalshi.rest}/markets"
    return f"{venues.polymarket.urls['clob_url']}/book?token_id={TOKENS[0]}"


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("how", ["abort", "close"])
def test_connection_closes_without_a_reason(run, venue, how):
    async def scenario(venues):
        async with books(venues, venue) as stream:
            injected = await inject(venues, venue, "close_without_reason", how=how)
            assert injected["connection"] == 1
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await stream.next()
            if how == "abort":
                assert closed.value.rcvd is None
            else:
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1005, "")
        assert [line["event"] for line in told(venues)] == ["begin", "end"]

    run(scenario)


@pytest.mark.parametrize("venue", VENUES)
def test_half_open_connection_stays_and_answers_nothing(run, venue):
    async def scenario(venues):
        async with books(venues, venue) as stream:
            await inject(venues, venue, "half_open", seconds=1.0)
            change(venues, venue)
            pong = await stream.socket.ping()
            await stream.send("PING")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.socket.recv(), 0.5)
            assert not pong.done()
            assert stream.socket.close_code is None
            # In the end it is reset, as by a host that does not know it.
            with pytest.raises(websockets.ConnectionClosedError):
                await stream.next()
        assert [line[1] for line in frames(venues, venue) if line[7]] == [0]

    run(scenario)


@pytest.mark.parametrize("venue", VENUES)
def test_a_change_comes_before_the_first_snapshot(run, venue):
    async def scenario(venues):
        async with books(venues, venue) as first:
            injected = await inject(venues, venue, "delta_before_snapshot", deltas=2)
            with pytest.raises(websockets.ConnectionClosedError):
                await first.next()
        async with venues.kalshi.stream() if venue == "kalshi" else venues.polymarket.market(TOKENS[:2]) as stream:
            if venue == "kalshi":
                await stream.send(SUBSCRIBE)
                assert (await stream.next())["type"] == "subscribed"
            else:
                await stream.send("PING")
                assert await stream.next() == "PONG"
            for price in (4_000, 4_100, 4_200):
                change(venues, venue, price)
            got = [await stream.next() for _ in range(4)]
            if venue == "kalshi":
                assert [(frame["type"], frame["seq"]) for frame in got] == [
                    ("orderbook_delta", 1),
                    ("orderbook_delta", 2),
                    ("orderbook_snapshot", 3),
                    ("orderbook_delta", 4),
                ]
                assert len(got[2]["msg"]["yes_dollars_fp"]) == 2
                # The other market did not change: its snapshot comes all the same.
                assert (await stream.next())["msg"]["market_ticker"] == TICKERS[1]
            else:
                assert [type(frame) for frame in got] == [dict, dict, list, dict]
                assert len(got[2][0]["bids"]) == 2
            events = [line["event"] for line in told(venues) if line["id"] == injected["id"]]
            assert events[:2] == ["begin", "strikes"]
        assert [line[7][1] for line in frames(venues, venue) if line[7]][:1] == ["delayed"]
        assert venues.world.journal.unexplained == 0

    run(scenario)


def test_storm_of_429_is_bare_on_kalshi_and_says_when_on_polymarket(run):
    async def scenario(venues):
        for venue in VENUES:
            await inject(venues, venue, "http_429", seconds=0.5, retry_after_s=3)
        status, headers, text = await status_of(venues, public_url(venues, "kalshi"))
        assert (status, json.loads(text), "Retry-After" in headers) == (429, {"error": "too many requests"}, False)
        for url in (public_url(venues, "polymarket"), f"{venues.polymarket.urls['gamma_url']}/markets"):
            status, headers, text = await status_of(venues, url)
            assert (status, headers["Retry-After"], json.loads(text)) == (429, "3", {"error": "Too Many Requests"})
        # Orders, accounts and sockets go on.
        assert (await venues.kalshi.order(TICKERS[0], "bid", "0.4000", "1.00"))[0] == 201
        assert (await venues.kalshi.call("GET", "/portfolio/balance"))[0] == 200
        assert (await venues.polymarket.call("GET", "/data/orders"))[0] == 200
        async with books(venues, "kalshi"), books(venues, "polymarket"):
            pass
        stats = (await venues.sim("/sim/stats"))["faults"]
        assert stats["refused"] == {"kalshi": {"http_429": 1}, "polymarket": {"http_429": 2}}
        assert (stats["injected"], stats["active"]) == ({"http_429": 2}, [1, 2])
        await asyncio.sleep(0.6)
        assert (await status_of(venues, public_url(venues, "kalshi")))[0] == 200

    run(scenario)


def test_storm_of_5xx_may_strike_orders_and_sockets_too(run):
    async def scenario(venues):
        for venue in VENUES:
            await inject(venues, venue, "http_5xx", seconds=5, orders=True, sockets=True, statuses=[503])
        status, body = await venues.kalshi.order(TICKERS[0], "bid", "0.4000", "1.00")
        assert (status, body["error"]["code"]) == (503, "service_unavailable")
        assert venues.world.kalshi.exchange.accounts["main"].orders == {}
        assert (await venues.polymarket.call("GET", "/data/orders"))[0] == 503
        for venue in VENUES:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with books(venues, venue):
                    pass
            assert refused.value.response.status_code == 503

    run(scenario)


def test_proxy_errors_are_pages_not_json(run):
    async def scenario(venues):
        await inject(venues, "polymarket", "http_5xx", statuses=[502], share=1.0)
        status, headers, text = await status_of(venues, public_url(venues, "polymarket"))
        assert (status, headers["Content-Type"].partition(";")[0]) == (502, "text/html")
        assert "Bad Gateway" in text

    run(scenario)


def test_a_share_of_requests_gets_through_a_storm(run):
    async def scenario(venues):
        await inject(venues, "kalshi", "http_429", share=0.5)
        found = [(await status_of(venues, public_url(venues, "kalshi")))[0] for _ in range(60)]
        assert 10 < found.count(200) < 50

    run(scenario)


@pytest.mark.parametrize("venue", VENUES)
def test_maintenance_closes_sockets_refuses_all_and_stops_the_flow(run, venue):
    async def scenario(venues):
        async with venues.polymarket.user() as user, books(venues, venue) as stream:
            await inject(venues, venue, "maintenance", seconds=1.0)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await stream.next()
            assert closed.value.rcvd.code == 1001
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with books(venues, venue):
                    pass
            assert refused.value.response.status_code == 503
            assert (await status_of(venues, public_url(venues, venue)))[0] == 503
            before = (await venues.sim("/sim/books"))[venue]
            if venue == "kalshi":
                status, _, text = await status_of(venues, f"{venues.kalshi.rest}/exchange/status")
                assert (status, json.loads(text)) == (503, {"exchange_active": False, "trading_active": False})
            else:
                # Private streams and order endpoints stay unless asked for.
                await user.send("PING")
                assert await user.next() == "PONG"
                assert (await venues.polymarket.call("GET", "/data/orders"))[0] == 200
            await asyncio.sleep(0.4)
            now = await venues.sim("/sim/books")
            assert now[venue] == before
        await asyncio.sleep(0.8)
        assert (await status_of(venues, public_url(venues, venue)))[0] == 200
        async with books(venues, venue) as stream:
            await stream.next()

    run(scenario, flow=True, quote_at_start=True, messages_per_s=500)


def test_maintenance_of_orders_closes_private_streams_and_refuses_as_a_restarting_engine(run):
    async def scenario(venues):
        async with venues.polymarket.user() as user:
            await inject(venues, "polymarket", "maintenance", seconds=5, orders=True)
            with pytest.raises(websockets.ConnectionClosed):
                await user.next()
        order = venues.polymarket.body(TOKENS[0], "BUY", 4_000_000, 10_000_000)
        assert (await venues.polymarket.call("POST", "/order", order))[0] == 425
        await inject(venues, "kalshi", "maintenance", seconds=5, orders=True)
        assert (await venues.kalshi.order(TICKERS[0], "bid", "0.4000", "1.00"))[0] == 503

    run(scenario)


@pytest.mark.parametrize("venue", VENUES)
def test_connection_limit_refuses_the_successor_of_the_one_it_cut(run, venue):
    async def scenario(venues):
        async with books(venues, venue) as first, books(venues, venue) as second:
            injected = await inject(venues, venue, "connection_limit", seconds=0.6)
            cut = told(venues)[0]["detail"]["cut"]
            assert told(venues)[0]["detail"]["limit"] == 1
            with pytest.raises(websockets.ConnectionClosedError):
                await (first if cut == 1 else second).next()
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with books(venues, venue):
                    pass
            assert refused.value.response.status_code == 429
            change(venues, venue)
            assert await (second if cut == 1 else first).next()
            await asyncio.sleep(0.7)
            async with books(venues, venue):
                pass
        assert [line["event"] for line in told(venues) if line["id"] == injected["id"]] == ["begin", "end"]

    run(scenario)


def test_kalshi_says_as_of_when_its_account_reads_are(run):
    async def scenario(venues):
        status, body = await venues.get(f"{venues.kalshi.rest}/exchange/user_data_timestamp")
        assert status == 200
        assert body["as_of_time"].startswith(time.strftime("%Y-%m-%dT%H:", time.gmtime()))
        assert body["as_of_time"].endswith("Z")

    run(scenario)


def test_faults_spare_private_streams(run):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            params = {"channels": ["orderbook_delta", "fill"], "market_tickers": TICKERS}
            await stream.send({"id": 1, "cmd": "subscribe", "params": params})
            await stream.until("subscribed")
            await stream.until("subscribed")
            answer = await venues.sim("/sim/faults", {"venue": "kalshi", "fault": "close_without_reason"})
            assert "no open market data connection" in answer["error"]

    run(scenario)


def test_the_control_port_names_the_faults_and_refuses_what_it_does_not_know(run):
    async def scenario(venues):
        known = await venues.sim("/sim/faults")
        assert set(known) == set(NAMES)
        assert all(fault["does"] and fault["known"] and fault["seen"] for fault in known.values())
        url = venues.ready["sim_url"] + "/sim/faults"
        for body, status, word in (
            ({"venue": "kalshi", "fault": "earthquake"}, 400, "no fault is called"),
            ({"venue": "nasdaq", "fault": "gap"}, 400, "venue must be"),
            ({"venue": "kalshi", "fault": "gap", "count": "3"}, 400, "expected count"),
            ({"venue": "kalshi", "fault": "gap", "colour": 3}, 400, "has no colour"),
            ({"venue": "kalshi", "fault": "gap", "seconds": -1}, 400, "seconds"),
            ({"venue": "kalshi", "fault": "malformed_json", "how": "rot13"}, 400, "how must be"),
            ({"venue": "kalshi", "fault": "gap"}, 409, "no open market data connection"),
            ({"venue": "kalshi", "fault": "tick_change", "market": "NOBODY"}, 409, "no such market"),
        ):
            async with venues.session.post(url, json=body) as response:
                assert (response.status, word in (await response.json())["error"]) == (status, True), body
        # The faults of order answers are set as before.
        await venues.sim("/sim/faults", {"venue": "kalshi", "order_answer_delay_ms": 300})
        began = time.monotonic()
        assert (await venues.kalshi.order(TICKERS[0], "bid", "0.4000", "1.00"))[0] == 201
        assert time.monotonic() - began > 0.25

    run(scenario)


def test_a_refused_upgrade_is_an_ordinary_answer(run):
    async def scenario(venues):
        await inject(venues, "polymarket", "http_429", sockets=True)
        url = venues.polymarket.urls["ws_market_url"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with venues.session.ws_connect(url):
                pass
        assert refused.value.status == 429

    run(scenario)
