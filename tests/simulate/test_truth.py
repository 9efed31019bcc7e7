"""The truth log: versions of each book, and what each frame says of them."""

import asyncio
import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.units import to_fixed
from simulate.history import History, book_of, put
from simulate.matching import Matcher, Order, Side, TimeInForce
from simulate.universe import make_universe

UNIVERSE = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
TICKERS = [market.kalshi_ticker for market in UNIVERSE]
YES = {market.yes_token: market.condition_id for market in UNIVERSE}
NO = [market.no_token for market in UNIVERSE]

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "cancel", "reduce"]),
        st.sampled_from(list(Side)),
        st.integers(48, 52),
        st.integers(1, 5),
        st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
        st.sampled_from(["", "me"]),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_any_version_of_a_book_can_be_replayed_and_gone_back_to(actions):
    matcher, history = Matcher(), History()
    orders: list[Order] = []
    replayed: dict = {}
    books = {0: {}}
    for number, (action, side, cents, size, time_in_force, owner) in enumerate(actions):
        if action == "submit":
            order = Order(
                f"o{number}", side, cents * 100, size, time_in_force=time_in_force, owner=owner, cancels_own=size == 3
            )
            orders.append(order)
            events = matcher.submit(order)
        elif not orders:
            continue
        elif action == "cancel":
            events = matcher.cancel(orders[cents % len(orders)])
        else:
            events = matcher.reduce(orders[cents % len(orders)], size)
        for event in events:
            change = history.note(event)
            if change is not None:
                assert replayed.get((change.side, change.price), 0) == change.before
                put(replayed, change.side, change.price, change.after)
                assert change.version == history.version
                books[change.version] = dict(replayed)
        assert replayed == book_of(matcher)
    for version, book in books.items():
        assert history.book_at(version, matcher) == book


def lines(folder, name):
    return [json.loads(line) for line in (folder / "truth" / name).read_text().splitlines()]


def books_at(folder, venue):
    """Return for each market its book at each version."""
    found: dict = defaultdict(lambda: [{}])
    for key, version, side, price, size in lines(folder, f"books-{venue}.jsonl"):
        assert version == len(found[key])
        book = dict(found[key][-1])
        put(book, Side(side), price, size)
        found[key].append(book)
    return found


def kalshi_side(levels, side):
    return {(side, to_fixed(price, -4)): to_fixed(size, -6) for price, size in levels}


def polymarket_book(frame):
    return {
        (side, to_fixed(level["price"], -4)): to_fixed(level["size"], -6)
        for side, name in ((Side.BID, "bids"), (Side.ASK, "asks"))
        for level in frame[name]
    }


BUSY = {"quote_at_start": True, "messages_per_s": 2_000, "edges_per_s": 5, "edge_s": 0.2, "taker_share": 0.2}


async def busy(venues, seconds=0.8):
    await venues.sim("/sim/flow", {"running": True})
    await asyncio.sleep(seconds)
    await venues.sim("/sim/flow", {"running": False})


def test_each_kalshi_frame_leaves_a_reader_with_the_version_it_names(run, tmp_path):
    received = []

    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            params = {"channels": ["orderbook_delta", "trade"], "market_tickers": TICKERS, "use_yes_price": True}
            await stream.send({"id": 1, "cmd": "subscribe", "params": params})
            await busy(venues)
            snapshot = {"sids": [1], "action": "get_snapshot", "market_tickers": TICKERS[:2]}
            await stream.send({"id": 2, "cmd": "update_subscription", "params": snapshot})
            await busy(venues, 0.3)
            received.extend(await stream.drain())
        book = venues.world.kalshi.exchange.by_ticker[TICKERS[0]]
        received.append(book_of(book.matcher))

    run(scenario, **BUSY)
    final = received.pop()
    truth = books_at(tmp_path, "kalshi")
    assert truth[TICKERS[0]][-1] == final
    held: dict = {}
    checked = defaultdict(int)
    sent = [line for line in lines(tmp_path, "frames-kalshi.jsonl") if line[0] == 1]
    assert len(sent) == len(received)
    for frame, (_, _, kind, key, _, _, versions, fault) in zip(received, sent, strict=True):
        assert (frame["type"], fault) == (kind, None)
        message = frame["msg"]
        if kind == "orderbook_snapshot":
            held[key] = kalshi_side(message.get("yes_dollars_fp", []), Side.BID)
            held[key] |= kalshi_side(message.get("no_dollars_fp", []), Side.ASK)
        elif kind == "orderbook_delta":
            place = Side.BID if message["side"] == "yes" else Side.ASK, to_fixed(message["price_dollars"], -4)
            put(held[key], *place, held[key].get(place, 0) + to_fixed(message["delta_fp"], -6, signed=True))
        else:
            assert versions == []
            continue
        assert held[key] == truth[key][versions[0]]
        assert len(versions) == 1
        checked[kind] += 1
    assert checked["orderbook_snapshot"] == 6
    assert checked["orderbook_delta"] > 300


@pytest.mark.parametrize("tokens", [list(YES), [*YES, *NO]], ids=["first tokens", "both tokens"])
def test_the_nth_change_of_a_polymarket_frame_has_the_nth_version(run, tmp_path, tokens):
    received = []

    async def scenario(venues):
        async with venues.polymarket.market(tokens, custom_feature_enabled=True) as stream:
            received.append(await stream.next())
            await busy(venues)
            received.extend(await stream.drain())

    run(scenario, **BUSY)
    truth = books_at(tmp_path, "polymarket")
    held: dict = {}
    checked = defaultdict(int)
    sent = [line for line in lines(tmp_path, "frames-polymarket.jsonl") if line[0] == 1]
    for frame, (_, _, kind, key, _, _, versions, _) in zip(received, sent, strict=True):
        said = []
        events = frame if isinstance(frame, list) else [frame]
        for event in events:
            market = event["market"]
            if event["event_type"] == "book" and event["asset_id"] in YES:
                held[market] = polymarket_book(event)
                said.append((market, dict(held[market])))
            elif event["event_type"] == "price_change":
                for change in event["price_changes"]:
                    if change["asset_id"] in YES:
                        side = Side.BID if change["side"] == "BUY" else Side.ASK
                        put(held[market], side, to_fixed(change["price"], -4), to_fixed(change["size"], -6))
                        said.append((market, dict(held[market])))
        named = versions if kind == "dump" else [[key, version] for version in versions]
        assert [market for market, _ in named] == [market for market, _ in said]
        for (market, version), (_, book) in zip(named, said, strict=True):
            assert book == truth[market][version]
            checked[kind] += 1
    assert checked["dump"] == len(YES)
    assert checked["price_change"] > 100
    assert checked["book"] > 5


def test_orders_that_expire_together_are_told_one_by_one(run, tmp_path):
    async def scenario(venues):
        market = venues.world.clob.exchange.markets[0]
        async with venues.polymarket.market([market.tokens[0]]) as stream:
            await stream.next()
            for number in range(3):
                order = Order(
                    f"d{number}", Side.BID, 4_000 + number * 100, 5_000_000, expires_ns=1, time_in_force=TimeInForce.GTD
                )
                venues.world.clob.exchange.apply(market, market.matcher.submit(order))
            venues.world.clob.exchange.expire()
            frames = await stream.drain()
        # Each change names the best bid after it alone.
        assert [frame["price_changes"][0]["best_bid"] for frame in frames] == [
            "0.4",
            "0.41",
            "0.42",
            "0.42",
            "0.42",
            "0",
        ]

    run(scenario)
    assert [line[6] for line in lines(tmp_path, "frames-polymarket.jsonl")][1:] == [[n] for n in range(1, 7)]
