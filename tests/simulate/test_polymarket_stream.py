"""The simulated Polymarket over real WebSockets: mirrored tokens, hashes, private events through settlement."""

import asyncio
import hashlib
import json

import websockets

from simulate.universe import make_universe

LINKED = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
YES, NO = LINKED[0].yes_token, LINKED[0].no_token
CONDITION = LINKED[0].condition_id
TOKENS = [token for linked in LINKED for token in (linked.yes_token, linked.no_token)]


def book_hash(market: str, token: str, timestamp: str, bids: list, asks: list, tick: str, last: str) -> str:
    """Return the hash of a book as the page describes it: ten fields, this order, compact JSON, SHA-1."""
    fields = {
        "market": market,
        "asset_id": token,
        "timestamp": timestamp,
        "hash": "",
        "bids": bids,
        "asks": asks,
        "min_order_size": "5",
        "tick_size": tick,
        "neg_risk": False,
        "last_trade_price": last,
    }
    return hashlib.sha1(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


def levels(side: dict[str, str], *, ascending: bool) -> list[dict[str, str]]:
    return [
        {"price": price, "size": side[price]}
        for price in sorted(side, key=lambda text: int(text[2:].ljust(4, "0")), reverse=not ascending)
    ]


async def rest(client, token: str, side: str, maker: int, taker: int, kind: str = "GTC") -> dict:
    status, answer = await client.call("POST", "/order", client.body(token, side, maker, taker, kind))
    assert status == 200, answer
    return answer


def test_first_frame_is_one_array_with_the_book_of_each_token(run):
    async def scenario(venues):
        client = venues.polymarket
        await rest(client, YES, "BUY", 5_000_000, 10_000_000)
        await rest(client, NO, "BUY", 4_200_000, 10_000_000)
        async with client.market([YES, NO, "123"]) as stream:
            first = await stream.next()
            assert [book["asset_id"] for book in first] == [YES, NO]
            yes, no = first
            assert list(yes) == [
                "market",
                "asset_id",
                "timestamp",
                "hash",
                "bids",
                "asks",
                "tick_size",
                "last_trade_price",
                "event_type",
            ]
            assert (yes["bids"], yes["asks"]) == (
                [{"price": "0.5", "size": "10"}],
                [{"price": "0.58", "size": "10"}],
            )
            assert (no["bids"], no["asks"]) == (
                [{"price": "0.42", "size": "10"}],
                [{"price": "0.5", "size": "10"}],
            )
            assert (yes["tick_size"], yes["last_trade_price"], yes["event_type"]) == ("0.01", "", "book")
            for book in first:
                assert book["hash"] == book_hash(
                    CONDITION, book["asset_id"], book["timestamp"], book["bids"], book["asks"], "0.01", ""
                )
            await stream.send("PING")
            assert await stream.next() == "PONG"

    run(scenario)


def test_unknown_token_is_answered_with_an_empty_array(run):
    async def scenario(venues):
        async with venues.polymarket.market(["123"]) as stream:
            assert await stream.next() == []

    run(scenario)


def test_one_order_changes_both_tokens_in_one_message(run):
    async def scenario(venues):
        client = venues.polymarket
        async with client.market([YES]) as stream:
            await stream.next()
            await rest(client, YES, "BUY", 4_700_000, 10_000_000)
            message = await stream.next()
            assert (message["event_type"], message["market"]) == ("price_change", CONDITION)
            yes, no = message["price_changes"]
            assert yes.pop("hash") == book_hash(
                CONDITION, YES, message["timestamp"], [{"price": "0.47", "size": "10"}], [], "0.01", ""
            )
            assert no.pop("hash") == book_hash(
                CONDITION, NO, message["timestamp"], [], [{"price": "0.53", "size": "10"}], "0.01", ""
            )
            assert yes == {
                "asset_id": YES,
                "price": "0.47",
                "size": "10",
                "side": "BUY",
                "best_bid": "0.47",
                "best_ask": "1",
            }
            assert no == {
                "asset_id": NO,
                "price": "0.53",
                "size": "10",
                "side": "SELL",
                "best_bid": "0",
                "best_ask": "0.53",
            }
            await client.call("DELETE", "/cancel-all")
            assert [change["size"] for change in (await stream.next())["price_changes"]] == ["0", "0"]

    run(scenario)


def test_subscriptions_change_on_the_way_without_acknowledgement(run):
    async def scenario(venues):
        client = venues.polymarket
        async with client.market([YES]) as stream:
            await stream.next()
            other = LINKED[1].yes_token
            await stream.send({"operation": "subscribe", "assets_ids": [other, YES]})
            assert [book["asset_id"] for book in await stream.next()] == [other]
            await stream.send({"operation": "unsubscribe", "assets_ids": [YES]})
            await stream.send("PING")
            assert await stream.next() == "PONG"
            await rest(client, YES, "BUY", 4_700_000, 10_000_000)
            await rest(client, other, "BUY", 4_700_000, 10_000_000)
            assert (await stream.next())["market"] == LINKED[1].condition_id

    run(scenario)


def test_trade_is_printed_in_the_takers_terms_and_both_books_are_sent_again(run):
    async def scenario(venues):
        client, other = venues.polymarket, venues.polymarket_second
        await rest(other, YES, "BUY", 6_000_000, 10_000_000)
        async with client.market([YES, NO]) as stream:
            await stream.next()
            # Buying NO at 0.40 meets the YES bid at 0.60: a mint.
            await rest(client, NO, "BUY", 1_600_000, 4_000_000, "FAK")
            print_, yes, no = [await stream.next() for _ in range(3)]
            assert print_["transaction_hash"].startswith("0x")
            assert (print_["asset_id"], print_["price"], print_["size"], print_["side"]) == (NO, "0.4", "4", "BUY")
            assert (yes["asset_id"], yes["bids"], yes["asks"]) == (YES, [{"price": "0.6", "size": "6"}], [])
            assert "tick_size" not in yes
            assert "last_trade_price" not in yes
            # The last price is in the hash with three decimals, of the token that traded, for both tokens alike.
            for book in (yes, no):
                assert book["hash"] == book_hash(
                    CONDITION, book["asset_id"], book["timestamp"], book["bids"], book["asks"], "0.01", "0.400"
                )

    run(scenario)


def test_best_bid_ask_comes_only_when_asked_for(run):
    async def scenario(venues):
        client = venues.polymarket
        await rest(client, NO, "BUY", 4_200_000, 10_000_000)
        async with client.market([YES]) as plain, client.market([YES], custom_feature_enabled=True) as custom:
            await plain.next()
            await custom.next()
            await rest(client, YES, "BUY", 4_700_000, 10_000_000)
            assert (await custom.until("best_bid_ask"))["spread"] == "0.11"
            assert [frame["event_type"] for frame in await plain.drain()] == ["price_change"]

    run(scenario)


def test_tick_size_change_is_told_and_enforced(run):
    async def scenario(venues):
        client = venues.polymarket
        async with client.market([YES]) as stream:
            await stream.next()
            await venues.sim("/sim/market", {"condition_id": CONDITION, "tick_e4": 10})
            change = await stream.next()
            assert (change["event_type"], change["old_tick_size"], change["new_tick_size"]) == (
                "tick_size_change",
                "0.01",
                "0.001",
            )
            await rest(client, YES, "BUY", 4_710_000, 10_000_000)
            await venues.sim("/sim/market", {"condition_id": CONDITION, "tick_e4": 100})
            _, body = await client.call("POST", "/order", client.body(YES, "BUY", 4_730_000, 10_000_000))
            assert "Price (0.473) breaks minimum tick size rule: 0.01" in body["error"]

    run(scenario)


def test_private_events_follow_an_order_to_its_settlement(run):
    async def scenario(venues):
        client, other = venues.polymarket, venues.polymarket_second
        async with client.user() as taker, other.user() as maker:
            resting = await rest(other, NO, "BUY", 4_000_000, 10_000_000)
            placed = await maker.next()
            assert (placed["event_type"], placed["type"], placed["status"]) == ("order", "PLACEMENT", "LIVE")
            assert (
                placed["id"],
                placed["outcome"],
                placed["price"],
                placed["original_size"],
                placed["size_matched"],
            ) == (
                resting["orderID"],
                "No",
                "0.4",
                "10",
                "0",
            )
            answer = await rest(client, YES, "BUY", 6_000_000, 10_000_000, "FAK")
            statuses = []
            for _ in range(3):
                trade = await taker.until("trade")
                statuses.append(trade["status"])
                assert (trade["id"], trade["trader_side"], trade["side"]) == (answer["tradeIDs"][0], "TAKER", "BUY")
                assert (trade["price"], trade["size"], trade["outcome"]) == ("0.6", "10", "Yes")
                assert trade["taker_order_id"] == answer["orderID"]
            assert statuses == ["MATCHED", "MINED", "CONFIRMED"]
            seen = await maker.until("trade")
            # The top of the message is the taker's; the maker's own part is among the maker orders, under its own token.
            assert (seen["trader_side"], seen["asset_id"], seen["price"]) == ("MAKER", YES, "0.6")
            own = [entry for entry in seen["maker_orders"] if entry["owner"] == other.credentials.api_key]
            assert [(entry["asset_id"], entry["price"], entry["matched_amount"], entry["side"]) for entry in own] == [
                (NO, "0.4", "10", "BUY")
            ]
            update = await maker.until("order")
            assert (update["type"], update["status"], update["size_matched"]) == ("UPDATE", "MATCHED", "10")

    run(scenario)


def test_cancelled_and_partly_filled_orders_are_told(run):
    async def scenario(venues):
        client, other = venues.polymarket, venues.polymarket_second
        await rest(other, NO, "BUY", 2_000_000, 5_000_000)
        async with client.user() as stream:
            order = await rest(client, YES, "BUY", 4_000_000, 10_000_000)
            await client.call("DELETE", "/order", {"orderID": order["orderID"]})
            assert (await stream.until("order"))["type"] == "PLACEMENT"
            cancelled = await stream.until("order")
            assert (cancelled["type"], cancelled["status"]) == ("CANCELLATION", "CANCELED")
            # $6 at 0.60 finds 5 shares for $3; the rest of the budget is given up.
            await rest(client, YES, "BUY", 6_000_000, 10_000_000, "FAK")
            first, second = await stream.until("order"), await stream.until("order")
            assert (first["type"], first["status"], first["size_matched"]) == ("UPDATE", "MATCHED", "5")
            assert (second["type"], second["status"], second["original_size"]) == ("UPDATE", "CANCELED", "6")

    run(scenario)


def test_wrong_credentials_end_the_user_socket(run):
    async def scenario(venues):
        client = venues.polymarket
        async with websockets.connect(client.urls["ws_user_url"]) as socket:
            auth = {**client.credentials.user_auth(), "passphrase": "wrong"}
            await socket.send(json.dumps({"auth": auth, "type": "user", "markets": []}))
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code is not None

    run(scenario)


def test_hashes_of_a_running_stream_verify_and_the_rebuilt_book_is_the_servers(run):
    async def scenario(venues):
        client = venues.polymarket
        books: dict[str, tuple[dict, dict]] = {}
        ticks: dict[str, str] = {}
        last: dict[str, str] = {}
        checked = {"price_change": 0, "book": 0}

        def check(token: str, market: str, timestamp: str, expected: str, kind: str) -> None:
            bids, asks = books[token]
            shown = levels(bids, ascending=True), levels(asks, ascending=False)
            assert book_hash(market, token, timestamp, *shown, ticks[token], last.get(market, "")) == expected
            checked[kind] += 1

        async with client.market(TOKENS) as stream:
            frames = await stream.next()
            await venues.sim("/sim/flow", {"running": True})
            await asyncio.sleep(1.0)
            await venues.sim("/sim/flow", {"running": False})
            frames += await stream.drain()
        for frame in frames:
            kind = frame["event_type"]
            if kind == "book":
                token = frame["asset_id"]
                ticks.setdefault(token, frame.get("tick_size", ""))
                books[token] = tuple(
                    {level["price"]: level["size"] for level in frame[side]} for side in ("bids", "asks")
                )
                check(token, frame["market"], frame["timestamp"], frame["hash"], "book")
            elif kind == "last_trade_price":
                whole, _, fraction = frame["price"].partition(".")
                last[frame["market"]] = f"{whole}.{fraction.ljust(3, '0')}"
            elif kind == "price_change":
                for change in frame["price_changes"]:
                    side = books[change["asset_id"]][0 if change["side"] == "BUY" else 1]
                    if change["size"] == "0":
                        side.pop(change["price"])
                    else:
                        side[change["price"]] = change["size"]
                    check(change["asset_id"], frame["market"], frame["timestamp"], change["hash"], "price_change")
        assert checked["price_change"] > 200
        assert checked["book"] > len(TOKENS)
        for token in TOKENS:
            _, book = await venues.get(f"{client.urls['clob_url']}/book?token_id={token}")
            assert book["bids"] == levels(books[token][0], ascending=True)
            assert book["asks"] == levels(books[token][1], ascending=False)

    run(scenario, quote_at_start=True, messages_per_s=3_000, edges_per_s=5, edge_s=0.2)
