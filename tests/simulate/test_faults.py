"""Each fault as a client on a real socket sees it, and as the truth log tells it."""

import asyncio
import itertools
import json
import time

import pytest
import websockets

from core.domain.units import to_fixed
from simulate.faults import MIB, NAMES
from simulate.matching import Order, Side
from simulate.universe import make_universe
from venues.polymarket.book_hash import book_hash

UNIVERSE = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
TICKERS = [market.kalshi_ticker for market in UNIVERSE]
CONDITIONS = [market.condition_id for market in UNIVERSE]
TOKENS = [market.yes_token for market in UNIVERSE]
_numbers = itertools.count(1)


class Feed:
    """A client of one venue that follows all books, and the world's hand on them."""

    def __init__(self, venues, venue, stream):
        self.venues = venues
        self.venue = venue
        self.stream = stream
        self.exchange = venues.world.kalshi.exchange if venue == "kalshi" else venues.world.clob.exchange

    def change(self, index=0, price=4_000, size=10, side=Side.BID):
        """Let one level of one market grow, and return the order."""
        market = self.exchange.markets[index]
        order = Order(f"t{next(_numbers)}", side, price, size * 1_000_000)
        self.exchange.apply(market, market.matcher.submit(order))
        return order

    def cancel(self, order, index=0):
        market = self.exchange.markets[index]
        self.exchange.apply(market, market.matcher.cancel(order))

    async def inject(self, fault, **parameters):
        answer = await self.venues.sim("/sim/faults", {"venue": self.venue, "fault": fault, **parameters})
        assert "error" not in answer, answer
        return answer

    async def frames(self, count):
        return [await self.stream.next() for _ in range(count)]

    def truth(self):
        """Return the frames lines of this connection as (ordinal, kind, key, versions, did)."""
        world = self.venues.world
        world.truth.flush()
        text = world.truth.path(f"frames-{self.venue}.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        return [(line[1], line[2], line[3], line[6], line[7] and line[7][1]) for line in lines if line[0] == 1]

    def events(self, event):
        world = self.venues.world
        world.truth.flush()
        lines = map(json.loads, world.truth.path("faults.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def feed(run):
    """Run a scenario with a client that has read its snapshots: `feed("kalshi", scenario)`."""

    def runner(venue, scenario, **settings):
        async def play(venues):
            if venue == "kalshi":
                async with venues.kalshi.stream() as stream:
                    params = {"channels": ["orderbook_delta"], "market_tickers": TICKERS, "use_yes_price": True}
                    await stream.send({"id": 1, "cmd": "subscribe", "params": params})
                    for _ in range(1 + len(TICKERS)):
                        await stream.next()
                    await scenario(Feed(venues, venue, stream))
            else:
                async with venues.polymarket.market(TOKENS) as stream:
                    await stream.next()
                    await scenario(Feed(venues, venue, stream))
            assert venues.world.journal.unexplained == 0

        run(play, **settings)

    return runner


def kalshi_price(frame):
    return frame["msg"]["price_dollars"]


def price(frame):
    return frame["price_changes"][0]["price"]


def hash_of(bids, frame):
    """Return the hash of a client's book of the first market, `{price: size}` of its bids, at a frame's time."""
    return book_hash(
        market=CONDITIONS[0],
        asset_id=TOKENS[0],
        time_ms=int(frame["timestamp"]),
        bids=[(to_fixed(price, -4), to_fixed(size, -6)) for price, size in bids.items()],
        asks=[],
        size_min=5_000_000,
        tick=100,
        neg_risk=False,
        last_trade_price="",
    )


# ------------------------------------------------------------------ Kalshi: numbers tell


def test_kalshi_gap_skips_a_number_and_says_nothing_else(feed):
    async def scenario(feed):
        injected = await feed.inject("gap", count=2)
        assert (injected["connection"], injected["market"]) == (1, None)
        for cents in range(40, 43):
            feed.change(price=cents * 100)
        frame = await feed.stream.next()
        assert (frame["seq"], kalshi_price(frame)) == (7, "0.4200")
        assert feed.truth()[5:] == [
            (0, "orderbook_delta", TICKERS[0], [1], "dropped"),
            (0, "orderbook_delta", TICKERS[0], [2], "dropped"),
            (6, "orderbook_delta", TICKERS[0], [3], None),
        ]
        (reveals,) = feed.events("reveals")
        assert (reveals["connection"], reveals["ordinal"], reveals["by"]) == (1, 6, "seq")
        assert feed.events("end")[0]["frames"] == 2

    feed("kalshi", scenario)


def test_a_gap_of_one_market_leaves_the_others_alone(feed):
    async def scenario(feed):
        await feed.inject("gap", market=TICKERS[1])
        feed.change(0)
        feed.change(1)
        feed.change(2)
        assert [frame["seq"] for frame in await feed.frames(2)] == [5, 7]

    feed("kalshi", scenario)


def test_kalshi_duplicate_repeats_the_bytes_and_the_number(feed):
    async def scenario(feed):
        await feed.inject("duplicate")
        feed.change()
        feed.change(price=4_100)
        first, second, third = await feed.frames(3)
        assert first == second
        assert (first["seq"], third["seq"]) == (5, 6)
        assert [line[3:] for line in feed.truth()[5:]] == [([1], None), ([1], "duplicated"), ([2], None)]
        assert feed.events("reveals")[0]["ordinal"] == 7

    feed("kalshi", scenario)


def test_kalshi_reorder_exchanges_two_numbers(feed):
    async def scenario(feed):
        await feed.inject("reorder")
        for index in range(3):
            feed.change(index)
        assert [frame["seq"] for frame in await feed.frames(3)] == [6, 5, 7]
        assert [(line[2], line[4]) for line in feed.truth()[5:]] == [
            (TICKERS[1], None),
            (TICKERS[0], "delayed"),
            (TICKERS[2], None),
        ]
        assert [line["ordinal"] for line in feed.events("reveals")] == [6]

    feed("kalshi", scenario)


def test_a_reorder_that_nothing_follows_lets_its_frame_go(feed):
    async def scenario(feed):
        await feed.inject("reorder", seconds=0.2)
        feed.change()
        assert (await feed.stream.next())["seq"] == 5
        assert feed.events("reveals") == []

    feed("kalshi", scenario)


def test_kalshi_stale_snapshot_comes_late_with_its_old_number(feed):
    async def scenario(feed):
        feed.change(price=4_000, size=1)
        await feed.inject("stale_snapshot", market=TICKERS[0], behind=2)
        feed.change(price=4_100, size=2)
        feed.change(1, price=4_200, size=3)
        frames = await feed.frames(4)
        assert [(frame["type"], frame["seq"]) for frame in frames[1:]] == [
            ("orderbook_delta", 7),
            ("orderbook_delta", 8),
            ("orderbook_snapshot", 6),
        ]
        assert frames[3]["msg"]["yes_dollars_fp"] == [["0.4000", "1.00"]]
        assert feed.truth()[-1][1:] == ("orderbook_snapshot", TICKERS[0], [1], "delayed")
        assert [line["ordinal"] for line in feed.events("reveals")] == [7]

    feed("kalshi", scenario)


def test_kalshi_silent_freeze_answers_pings_and_delivers_late_and_in_order(feed):
    async def scenario(feed):
        await feed.inject("silent_freeze", seconds=0.6)
        feed.change()
        feed.change(1)
        waiter = await feed.stream.socket.ping()
        await asyncio.wait_for(waiter, 0.4)
        assert await feed.stream.drain(0.2) == []
        assert [frame["seq"] for frame in await feed.frames(2)] == [5, 6]
        assert [line[4] for line in feed.truth()[5:]] == ["delayed", "delayed"]
        assert feed.events("reveals") == []

    feed("kalshi", scenario)


def test_kalshi_freeze_may_end_in_an_overflow(feed):
    async def scenario(feed):
        await feed.inject("silent_freeze", seconds=0.2, overflow=True)
        feed.change()
        error = await feed.stream.next()
        assert (error["type"], error["sid"], error["seq"]) == ("error", 1, 6)
        assert error["msg"] == {"code": 25, "msg": "Subscription buffer overflow"}
        # Terminal: the subscription is gone, and a new one begins with snapshots.
        feed.change()
        params = {"channels": ["orderbook_delta"], "market_tickers": TICKERS[:1], "use_yes_price": True}
        await feed.stream.send({"id": 2, "cmd": "subscribe", "params": params})
        assert [frame["type"] for frame in await feed.frames(2)] == ["subscribed", "orderbook_snapshot"]

    feed("kalshi", scenario)


def test_a_silent_kalshi_market_comes_late_without_a_hole_in_the_numbers(feed):
    async def scenario(feed):
        await feed.inject("asset_silent", market=TICKERS[0], seconds=0.4)
        feed.change(0)
        feed.change(1)
        first = await feed.stream.next()
        assert (first["msg"]["market_ticker"], first["seq"]) == (TICKERS[1], 5)
        second = await feed.stream.next()
        assert (second["msg"]["market_ticker"], second["seq"]) == (TICKERS[0], 6)
        assert second["sending_ts_ms"] - second["msg"]["ts_ms"] >= 300
        assert feed.events("reveals") == []

    feed("kalshi", scenario)


def test_a_snapshot_takes_the_place_of_what_a_silent_kalshi_market_kept(feed):
    async def scenario(feed):
        await feed.inject("asset_silent", market=TICKERS[0], seconds=0.5)
        feed.change(size=3)
        snapshot = {"sids": [1], "action": "get_snapshot", "market_tickers": TICKERS[:1]}
        await feed.stream.send({"id": 9, "cmd": "update_subscription", "params": snapshot})
        frame = await feed.stream.next()
        assert (frame["type"], frame["seq"], frame["msg"]["yes_dollars_fp"]) == (
            "orderbook_snapshot",
            5,
            [["0.4000", "3.00"]],
        )
        feed.change(size=1)
        frame = await feed.stream.next()
        assert (frame["seq"], frame["msg"]["delta_fp"]) == (6, "1.00")
        assert [line[0] for line in feed.truth()[5:]] == [0, 6, 7]

    feed("kalshi", scenario)


# ------------------------------------------------------------------ Polymarket: hashes tell


def test_polymarket_gap_shows_in_the_next_hash_only(feed):
    async def scenario(feed):
        await feed.inject("gap", market=CONDITIONS[0])
        feed.change(price=4_000, size=1)
        feed.change(price=4_100, size=2)
        frame = await feed.stream.next()
        assert price(frame) == "0.41"
        stated = frame["price_changes"][0]["hash"]
        assert hash_of({"0.41": "2"}, frame) != stated
        assert hash_of({"0.4": "1", "0.41": "2"}, frame) == stated
        (reveals,) = feed.events("reveals")
        assert (reveals["ordinal"], reveals["market"], reveals["by"]) == (2, CONDITIONS[0], "hash")
        assert feed.truth()[1:] == [
            (0, "price_change", CONDITIONS[0], [1], "dropped"),
            (2, "price_change", CONDITIONS[0], [2], None),
        ]

    feed("polymarket", scenario)


def test_polymarket_book_is_right_again_when_the_lost_level_is_stated_again(feed):
    async def scenario(feed):
        await feed.inject("gap")
        feed.change(price=4_000, size=1)
        feed.change(price=4_000, size=2)
        frame = await feed.stream.next()
        assert hash_of({"0.4": "3"}, frame) == frame["price_changes"][0]["hash"]
        assert feed.events("reveals") == []
        await feed.inject("gap")
        feed.change(price=4_100)
        feed.change(price=4_200)
        feed.change(price=4_100)
        await feed.frames(2)
        assert [line["ordinal"] for line in feed.events("reveals")] == [3]
        assert [(line["ordinal"], line["by"]) for line in feed.events("healed")][-1] == (4, "change")

    feed("polymarket", scenario)


def test_polymarket_duplicate_says_the_same_again(feed):
    async def scenario(feed):
        await feed.inject("duplicate")
        feed.change()
        first, second = await feed.frames(2)
        assert first == second
        assert feed.truth()[-1][3:] == ([1], "duplicated")
        assert feed.events("reveals") == []

    feed("polymarket", scenario)


def test_polymarket_reorder_leaves_the_older_size_of_a_level(feed):
    async def scenario(feed):
        order = feed.change(size=5)
        await feed.stream.next()
        await feed.inject("reorder", market=CONDITIONS[0])
        feed.change(size=1)
        feed.change(1)
        feed.cancel(order)
        frames = await feed.frames(3)
        assert [(frame["market"], frame["price_changes"][0]["size"]) for frame in frames] == [
            (CONDITIONS[1], "10"),
            (CONDITIONS[0], "1"),
            (CONDITIONS[0], "6"),
        ]
        assert [line[3] for line in feed.truth()[2:]] == [[1], [3], [2]]
        # The client's level says 6, the venue's 1: its next change tells.
        feed.change(price=4_100)
        frame = await feed.stream.next()
        assert hash_of({"0.4": "6", "0.41": "10"}, frame) != frame["price_changes"][0]["hash"]
        assert [line["ordinal"] for line in feed.events("reveals")] == [6]

    feed("polymarket", scenario)


def test_polymarket_reorder_of_two_levels_is_contradicted_at_once_and_right_in_the_end(feed):
    async def scenario(feed):
        await feed.inject("reorder")
        feed.change(price=4_000)
        feed.change(price=4_100)
        feed.change(price=4_200)
        assert [price(frame) for frame in await feed.frames(3)] == ["0.41", "0.4", "0.42"]
        assert [line["ordinal"] for line in feed.events("reveals")] == [2]
        assert [line["ordinal"] for line in feed.events("healed")] == [4]

    feed("polymarket", scenario)


def test_polymarket_silent_freeze_loses_what_happens_meanwhile(feed):
    async def scenario(feed):
        await feed.inject("silent_freeze", seconds=0.4)
        feed.change(price=4_000, size=1)
        await feed.stream.send("PING")
        assert await feed.stream.next() == "PONG"
        await asyncio.sleep(0.5)
        feed.change(price=4_100, size=2)
        frame = await feed.stream.next()
        assert hash_of({"0.41": "2"}, frame) != frame["price_changes"][0]["hash"]
        assert [(line[0], line[4]) for line in feed.truth()[1:]] == [(0, "dropped"), (2, None), (3, None)]
        assert feed.events("reveals")[0]["ordinal"] == 3

    feed("polymarket", scenario)


def test_one_polymarket_asset_is_silent_while_the_others_speak(feed):
    async def scenario(feed):
        await feed.inject("asset_silent", market=CONDITIONS[0], seconds=0.3)
        feed.change(0)
        feed.change(1)
        assert (await feed.stream.next())["market"] == CONDITIONS[1]
        await asyncio.sleep(0.4)
        feed.change(0, price=4_100)
        assert (await feed.stream.next())["market"] == CONDITIONS[0]
        assert feed.events("reveals")[0]["by"] == "hash"

    feed("polymarket", scenario)


def test_an_asset_may_stay_silent_until_a_new_connection(feed):
    async def scenario(feed):
        await feed.inject("asset_silent", market=CONDITIONS[0], seconds=0)
        await asyncio.sleep(0.2)
        feed.change(0)
        feed.change(1)
        assert (await feed.stream.next())["market"] == CONDITIONS[1]
        async with feed.venues.polymarket.market(TOKENS[:1]) as other:
            assert (await other.next())[0]["bids"] == [{"price": "0.4", "size": "10"}]
            feed.change(0)
            assert (await other.next())["market"] == CONDITIONS[0]

    feed("polymarket", scenario)


def test_polymarket_stale_snapshot_has_the_time_and_the_hash_of_then(feed):
    async def scenario(feed):
        feed.change(price=4_000, size=1)
        before = await feed.stream.next()
        await feed.inject("stale_snapshot", market=CONDITIONS[0], behind=1)
        await asyncio.sleep(0.01)
        feed.change(price=4_100, size=2)
        change, book = await feed.frames(2)
        assert (change["event_type"], book["event_type"]) == ("price_change", "book")
        assert book["bids"] == [{"price": "0.4", "size": "1"}]
        assert hash_of({"0.4": "1"}, book) == book["hash"]
        assert int(before["timestamp"]) <= int(book["timestamp"]) < int(change["timestamp"])
        (reveals,) = feed.events("reveals")
        assert (reveals["ordinal"], reveals["by"]) == (4, "timestamp")
        assert feed.truth()[-1][3:] == ([1], "delayed")
        # Who believes it is contradicted by the next change.
        feed.change(price=4_200, size=3)
        frame = await feed.stream.next()
        client = {"0.4": "1", "0.42": "3"}
        assert hash_of(client, frame) != frame["price_changes"][0]["hash"]

    feed("polymarket", scenario)


# ------------------------------------------------------------------ both


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_a_stale_book_over_http_is_evidence_that_lies(feed, venue):
    async def scenario(feed):
        name = TICKERS[0] if venue == "kalshi" else CONDITIONS[0]

        async def best():
            if venue == "kalshi":
                _, body = await feed.venues.kalshi.call("GET", f"/markets/{name}/orderbook")
                return body["orderbook_fp"]["yes_dollars"][-1][0]
            url = f"{feed.venues.polymarket.urls['clob_url']}/book?token_id={TOKENS[0]}"
            return (await feed.venues.get(url))[1]["bids"][-1]["price"]

        feed.change(price=4_000)
        old = await best()
        await feed.inject("stale_snapshot", market=name, rest=True, seconds=0.3)
        feed.change(price=4_100)
        assert await best() == old
        await asyncio.sleep(0.4)
        assert float(await best()) == 0.41

    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
@pytest.mark.parametrize(("how", "text"), [("cut", None), ("garbage", "<html>"), ("empty", "")])
def test_malformed_json_takes_the_place_of_a_change(feed, venue, how, text):
    async def scenario(feed):
        await feed.inject("malformed_json", how=how)
        feed.change()
        raw = await asyncio.wait_for(feed.stream.socket.recv(), 5)
        with pytest.raises(json.JSONDecodeError):
            json.loads(raw)
        if text is not None:
            assert raw.startswith(text)
        kind, key = ("orderbook_delta", TICKERS[0]) if venue == "kalshi" else ("price_change", CONDITIONS[0])
        first = 6 if venue == "kalshi" else 2
        assert feed.truth()[-2:] == [(0, kind, key, [1], "dropped"), (first, kind, key, [], "changed")]
        assert [(line["ordinal"], line["by"]) for line in feed.events("reveals")] == [(first, "parse")]

    feed(venue, scenario)


def test_bytes_that_are_no_text_end_a_correct_client(feed):
    async def scenario(feed):
        await feed.inject("malformed_json", how="utf8")
        feed.change()
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await feed.stream.next()
        assert closed.value.sent.code == 1007

    feed("kalshi", scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_unknown_type_comes_in_its_place(feed, venue):
    async def scenario(feed):
        await feed.inject("unknown_type")
        feed.change()
        strange, change = await feed.frames(2)
        if venue == "kalshi":
            assert (strange["type"], strange["seq"], change["seq"]) == ("orderbook_attestation", 5, 6)
        else:
            assert strange["event_type"] == "book_attestation"
            assert change["event_type"] == "price_change"
        assert feed.truth()[-2][3:] == ([], "added")
        assert feed.events("reveals") == []

    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_duplicate_snapshot_is_true_both_times(feed, venue):
    async def scenario(feed):
        feed.change(price=4_000, size=3)
        await feed.inject("duplicate_snapshot", market=TICKERS[0] if venue == "kalshi" else CONDITIONS[0])
        _, first, second = await feed.frames(3)
        if venue == "kalshi":
            assert [first["seq"], second["seq"]] == [6, 7]
            assert first["msg"] == second["msg"]
            assert first["msg"]["yes_dollars_fp"] == [["0.4000", "3.00"]]
        else:
            assert first["bids"] == second["bids"] == [{"price": "0.4", "size": "3"}]
        assert [line[3:] for line in feed.truth()[-2:]] == [([1], "added"), ([1], "duplicated")]
        assert feed.events("reveals") == []

    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_huge_frame_is_a_true_book_of_many_mebibytes(feed, venue):
    async def scenario(feed):
        feed.change(price=4_000, size=3)
        await feed.stream.next()
        await feed.inject("huge_frame", market=TICKERS[0] if venue == "kalshi" else CONDITIONS[0], bytes=3 * MIB)
        raw = await asyncio.wait_for(feed.stream.socket.recv(), 5)
        assert len(raw) > 3 * MIB
        frame = json.loads(raw)
        if venue == "kalshi":
            assert frame["msg"]["yes_dollars_fp"] == [["0.4000", "3.00"]]
        else:
            assert frame["bids"] == [{"price": "0.4", "size": "3"}]
        assert feed.truth()[-1][3:] == ([1], "added")

    assert NAMES["huge_frame"].parameters["bytes"] == 40 * MIB
    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_huge_snapshot_has_five_thousand_levels_and_goes_again(feed, venue):
    async def scenario(feed):
        feed.change(price=4_000, size=3)
        feed.change(price=6_000, size=3, side=Side.ASK)
        await feed.frames(2)
        market = TICKERS[0] if venue == "kalshi" else CONDITIONS[0]
        await feed.inject("huge_snapshot", market=market, seconds=1.0)
        book = await feed.stream.until("orderbook_snapshot" if venue == "kalshi" else "book")
        if venue == "kalshi":
            sides = book["msg"]["yes_dollars_fp"], book["msg"]["no_dollars_fp"]
        else:
            sides = book["bids"], book["asks"]
        assert len(sides[0]) + len(sides[1]) == 5_002
        assert feed.truth()[-1][3] == [5_002]
        book = await feed.stream.until("orderbook_snapshot" if venue == "kalshi" else "book")
        if venue == "kalshi":
            assert book["msg"]["yes_dollars_fp"] == [["0.4000", "3.00"]]
        else:
            assert book["asks"] == [{"price": "0.6", "size": "3"}]
            assert feed.exchange.markets[0].tick_e4 == 100
        assert feed.truth()[-1][3] == [10_002]

    feed(venue, scenario)


def test_polymarket_tick_change_is_told_with_fresh_books(feed):
    async def scenario(feed):
        feed.change()
        await feed.stream.next()
        await feed.inject("tick_change", market=CONDITIONS[0])
        tick, book = await feed.frames(2)
        assert (tick["event_type"], tick["old_tick_size"], tick["new_tick_size"]) == (
            "tick_size_change",
            "0.01",
            "0.001",
        )
        assert (book["event_type"], book["bids"]) == ("book", [{"price": "0.4", "size": "10"}])
        _, rest = await feed.venues.get(f"{feed.venues.polymarket.urls['clob_url']}/book?token_id={TOKENS[0]}")
        assert rest["tick_size"] == "0.001"
        await feed.inject("tick_change", market=CONDITIONS[0])
        assert (await feed.stream.next())["new_tick_size"] == "0.01"

    feed("polymarket", scenario)


def test_kalshi_tick_change_is_told_on_the_life_cycle_channel(feed):
    async def scenario(feed):
        await feed.stream.send({"id": 2, "cmd": "subscribe", "params": {"channels": ["market_lifecycle_v2"]}})
        await feed.stream.next()
        await feed.inject("tick_change", market=TICKERS[0])
        told = (await feed.stream.next())["msg"]
        assert told == {
            "market_ticker": TICKERS[0],
            "event_type": "price_level_structure_updated",
            "price_level_structure": "deci_cent",
            "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}],
        }
        _, body = await feed.venues.kalshi.call("GET", f"/markets/{TICKERS[0]}")
        assert body["market"]["price_ranges"] == told["price_ranges"]
        await feed.inject("tick_change", market=TICKERS[0])
        refused = await feed.venues.sim(
            "/sim/faults", {"venue": "kalshi", "fault": "tick_change", "market": TICKERS[0]}
        )
        assert "finest" in refused["error"]

    feed("kalshi", scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_clock_skew_moves_what_public_messages_say(feed, venue):
    async def scenario(feed):
        def stated(frame):
            return int(frame["msg"]["ts_ms"] if venue == "kalshi" else frame["timestamp"])

        await feed.inject("clock_skew", offset_ms=-30_000, seconds=0.3)
        feed.change()
        frame = await feed.stream.next()
        assert -31_000 < stated(frame) - time.time() * 1_000 < -29_000
        if venue == "polymarket":
            assert hash_of({"0.4": "10"}, frame) == frame["price_changes"][0]["hash"]
        await asyncio.sleep(0.4)
        feed.change()
        assert abs(stated(await feed.stream.next()) - time.time() * 1_000) < 1_000

    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_slow_frames_are_late_and_in_order(feed, venue):
    async def scenario(feed):
        await feed.inject("slow_frames", delay_ms=300, seconds=2.0)
        began = time.monotonic()
        for cents in range(40, 45):
            feed.change(price=cents * 100)
        frames = await feed.frames(5)
        assert 0.25 < time.monotonic() - began < 1.0
        prices = [kalshi_price(frame) if venue == "kalshi" else price(frame) for frame in frames]
        assert [float(text) for text in prices] == [0.40, 0.41, 0.42, 0.43, 0.44]
        assert [line[4] for line in feed.truth()[-5:]] == ["delayed"] * 5

    feed(venue, scenario)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_slow_frames_may_trickle_in_pieces_and_end_whole(feed, venue):
    async def scenario(feed):
        await feed.inject("slow_frames", delay_ms=0, trickle_bytes=5, trickle_ms=2, seconds=0.5)
        for cents in range(40, 50):
            feed.change(price=cents * 100)
        # A pong stands in line: it never cuts a frame in two.
        waiter = await feed.stream.socket.ping()
        began = time.monotonic()
        frames = await feed.frames(10)
        await asyncio.wait_for(waiter, 5)
        assert time.monotonic() - began > 0.1
        prices = [kalshi_price(frame) if venue == "kalshi" else price(frame) for frame in frames]
        assert [float(text) for text in prices] == [cents / 100 for cents in range(40, 50)]
        await asyncio.sleep(0.5)
        feed.change(price=5_000)
        await feed.stream.next()
        assert feed.truth()[-1][4] is None

    feed(venue, scenario)


def test_a_lost_book_after_a_trade_is_a_gap_too(feed):
    async def scenario(feed):
        feed.change(price=4_000, size=10)
        await feed.stream.next()
        await feed.inject("gap")
        feed.change(price=4_000, size=4, side=Side.ASK)
        feed.change(price=3_900, size=1)
        frames = await feed.frames(2)
        assert [frame["event_type"] for frame in frames] == ["last_trade_price", "price_change"]
        assert [line["by"] for line in feed.events("reveals")] == ["hash"]

    feed("polymarket", scenario)


def test_what_a_fault_held_when_its_connection_ended_was_never_sent(feed):
    async def scenario(feed):
        await feed.inject("reorder", seconds=60)
        await feed.inject("silent_freeze", seconds=0.3)
        feed.change()
        feed.change(1)
        feed.change(2)
        await feed.inject("close_without_reason")
        with pytest.raises(websockets.ConnectionClosedError):
            await feed.stream.next()
        await asyncio.sleep(0.4)
        assert [(line[0], line[4]) for line in feed.truth()[5:]] == [(0, "dropped")] * 3
        assert (await feed.venues.sim("/sim/stats"))["faults"]["active"] == []

    feed("kalshi", scenario)
