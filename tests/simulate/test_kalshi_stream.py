"""The simulated Kalshi over a real WebSocket: sids, one `seq` for each sid, books rebuilt from the stream."""

import asyncio
import time

import pytest
import websockets
from websockets.frames import Opcode

from simulate.universe import make_universe

MARKETS = [market.kalshi_ticker for market in make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)]
TEMP, GAME, INX, RATE = MARKETS


def subscribe(channels: list[str], tickers: list[str], number: int = 1, **fields) -> dict:
    params = {"channels": channels, "market_tickers": tickers, **fields}
    return {"id": number, "cmd": "subscribe", "params": params}


def plain(frame: dict) -> dict:
    """Return a frame without the times, which no test can know."""
    assert abs(frame["sending_ts_ms"] - time.time() * 1_000) < 60_000
    message = frame.get("msg")
    if isinstance(message, dict):
        message = {key: value for key, value in message.items() if key not in {"ts", "ts_ms", "market_id"}}
    return {key: value for key, value in frame.items() if key not in {"sending_ts_ms", "msg"}} | {"msg": message}


def test_upgrade_without_a_valid_signature_is_refused(run):
    async def scenario(venues):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(venues.kalshi.ws)
        assert refused.value.response.status_code == 401
        headers = venues.kalshi.headers("GET", "/trade-api/v2/portfolio/balance")
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(venues.kalshi.ws, additional_headers=headers)

    run(scenario)


def test_snapshot_deltas_and_trades_come_as_recorded(run):
    """The recorded demo session: a bid of 3 at 0.47 and an ask at 0.52, which another then hits."""

    async def scenario(venues):
        await venues.kalshi.order(TEMP, "bid", "0.4700", "3.00")
        await venues.kalshi.order(TEMP, "ask", "0.5200", "1.00")
        async with venues.kalshi_second.stream() as stream:
            await stream.send(subscribe(["orderbook_delta", "trade"], [TEMP], use_yes_price=True))
            assert plain(await stream.next()) == {
                "type": "subscribed",
                "id": 1,
                "msg": {"channel": "orderbook_delta", "sid": 1},
            }
            assert plain(await stream.next()) == {
                "type": "orderbook_snapshot",
                "sid": 1,
                "seq": 1,
                "msg": {
                    "market_ticker": TEMP,
                    "yes_dollars_fp": [["0.4700", "3.00"]],
                    "no_dollars_fp": [["0.5200", "1.00"]],
                },
            }
            assert plain(await stream.next())["msg"] == {"channel": "trade", "sid": 2}
            await venues.kalshi_second.order(TEMP, "bid", "0.5200", "1.00", time_in_force="immediate_or_cancel")
            assert plain(await stream.next()) == {
                "type": "orderbook_delta",
                "sid": 1,
                "seq": 2,
                "msg": {"market_ticker": TEMP, "price_dollars": "0.5200", "delta_fp": "-1.00", "side": "no"},
            }
            trade = plain(await stream.next())
            assert (trade["sid"], trade["seq"], trade["type"]) == (2, 1, "trade")
            assert trade["msg"].pop("trade_id")
            assert trade["msg"] == {
                "market_ticker": TEMP,
                "yes_price_dollars": "0.5200",
                "no_price_dollars": "0.4800",
                "count_fp": "1.00",
                "taker_side": "yes",
                "taker_outcome_side": "yes",
                "taker_book_side": "bid",
                "is_block_trade": False,
            }

    run(scenario)


def test_no_leg_prices_are_sent_unless_yes_prices_are_asked_for(run):
    async def scenario(venues):
        await venues.kalshi.order(TEMP, "ask", "0.5200", "1.00")
        await venues.kalshi.order(TEMP, "ask", "0.5300", "2.00")
        async with venues.kalshi.stream() as stream:
            await stream.send(subscribe(["orderbook_delta"], [TEMP]))
            snapshot = await stream.until("orderbook_snapshot")
            # Ascending NO prices; a side that is empty has no key.
            assert snapshot["msg"]["no_dollars_fp"] == [["0.4700", "2.00"], ["0.4800", "1.00"]]
            assert "yes_dollars_fp" not in snapshot["msg"]
            await venues.kalshi.order(TEMP, "ask", "0.5400", "1.00", client_order_id="mine")
            delta = await stream.until("orderbook_delta")
            assert (delta["msg"]["price_dollars"], delta["msg"]["side"]) == ("0.4600", "no")
            assert delta["msg"]["client_order_id"] == "mine"

    run(scenario)


def test_one_sequence_runs_over_snapshots_deltas_and_replies_of_a_sid(run):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            await stream.send(subscribe(["orderbook_delta"], [TEMP]))
            await stream.next()
            assert (await stream.next())["seq"] == 1
            update = {"sids": [1], "action": "add_markets", "market_tickers": [GAME, "NOBODY"]}
            await stream.send({"id": 2, "cmd": "update_subscription", "params": update})
            assert plain(await stream.next()) == {
                "type": "ok",
                "id": 2,
                "sid": 1,
                "seq": 2,
                "msg": {"market_tickers": [TEMP, GAME, "NOBODY"]},
            }
            assert [(await stream.next())["seq"] for _ in range(2)] == [3, 4]
            await venues.kalshi.order(GAME, "bid", "0.1000", "1.00")
            assert (await stream.next())["seq"] == 5
            await stream.send(
                {
                    "id": 3,
                    "cmd": "update_subscription",
                    "params": {"sid": 1, "action": "get_snapshot", "market_tickers": [GAME]},
                }
            )
            snapshot = await stream.next()
            assert (snapshot["type"], snapshot["seq"], snapshot["id"]) == ("orderbook_snapshot", 6, 3)
            assert snapshot["msg"]["yes_dollars_fp"] == [["0.1000", "1.00"]]
            # Subscribing again is acknowledged, takes a number, and gives no snapshot of what was there.
            await stream.send(subscribe(["orderbook_delta"], [TEMP], 4))
            assert plain(await stream.next())["seq"] == 7
            await stream.send(
                {
                    "id": 5,
                    "cmd": "update_subscription",
                    "params": {"sid": 1, "action": "delete_markets", "market_tickers": [GAME]},
                }
            )
            assert plain(await stream.next())["msg"] == {"market_tickers": [TEMP, "NOBODY"]}
            await venues.kalshi.order(GAME, "bid", "0.1100", "1.00")
            await stream.send({"id": 6, "cmd": "unsubscribe", "params": {"sids": [1]}})
            assert plain(await stream.next()) == {"type": "unsubscribed", "id": 6, "sid": 1, "seq": 9, "msg": None}
            await stream.send(subscribe(["orderbook_delta"], [TEMP], 7))
            assert (await stream.next())["msg"]["sid"] == 2
            assert (await stream.next())["seq"] == 1

    run(scenario)


def test_unknown_market_gives_an_empty_snapshot_without_a_market_id(run):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            await stream.send(subscribe(["orderbook_delta"], ["KXNOBODY-1"]))
            await stream.next()
            snapshot = await stream.next()
            assert snapshot["msg"] == {"market_ticker": "KXNOBODY-1", "market_id": ""}

    run(scenario)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{", 1),
        ({"id": 3, "cmd": "subscribe"}, 2),
        ({"id": 3, "cmd": "subscribe", "params": {"channels": []}}, 3),
        ({"id": 3, "cmd": "unsubscribe", "params": {}}, 4),
        ({"id": 3, "cmd": "dance"}, 5),
        ({"id": 3, "cmd": "unsubscribe", "params": {"sids": [9]}}, 7),
        ({"id": 3, "cmd": "subscribe", "params": {"channels": ["ticker_v2"]}}, 8),
        ({"id": 3, "cmd": "update_subscription", "params": {"sids": [1, 2]}}, 12),
        ({"id": 3, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_wrong_command_is_answered_with_its_code(run, command, code):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            await stream.send(command)
            reply = await stream.next()
            assert (reply["type"], reply["msg"]["code"]) == ("error", code)
            assert reply.get("id") == (3 if isinstance(command, dict) else None)

    run(scenario)


def test_private_channels_tell_fills_orders_and_positions_of_ones_own_account_only(run):
    async def scenario(venues):
        private = ["fill", "user_orders", "market_positions"]
        async with venues.kalshi.stream() as main, venues.kalshi_second.stream() as second:
            for stream in (main, second):
                await stream.send({"id": 1, "cmd": "subscribe", "params": {"channels": private}})
                assert [(await stream.next())["msg"]["sid"] for _ in private] == [1, 2, 3]
            await venues.kalshi_second.order(TEMP, "ask", "0.5200", "3.00", client_order_id="m")
            assert (await second.until("user_order"))["msg"]["status"] == "resting"
            await venues.kalshi.order(TEMP, "bid", "0.5300", "2.00", client_order_id="t")

            fill = await main.until("fill")
            assert "seq" not in fill
            message = fill["msg"]
            assert (message["is_taker"], message["client_order_id"], message["count_fp"]) == (True, "t", "2.00")
            # 0.07 x 2 x 0.52 x 0.48 = 0.034944; cash -1.04 - 0.034944 is cut down to -1.075.
            assert (message["fee_cost"], message["post_position_fp"]) == ("0.035000", "2.00")
            assert (await main.until("market_position"))["msg"]["position_cost_dollars"] == "1.040000"
            order = (await main.until("user_order"))["msg"]
            assert (order["status"], order["fill_count_fp"], order["last_update_reason"]) == (
                "executed",
                "2.00",
                "Trade",
            )

            message = (await second.until("fill"))["msg"]
            assert (message["is_taker"], message["client_order_id"]) == (False, "m")
            assert (message["book_side"], message["outcome_side"], message["post_position_fp"]) == (
                "ask",
                "no",
                "-2.00",
            )
            order = (await second.until("user_order"))["msg"]
            assert (order["status"], order["remaining_count_fp"]) == ("resting", "1.00")
            assert order["ticker"] == TEMP

    run(scenario)


def test_server_pings_with_the_word_heartbeat(run):
    async def scenario(venues):
        seen: list[bytes] = []

        class Listening(websockets.ClientConnection):
            def process_event(self, event):
                if getattr(event, "opcode", None) is Opcode.PING:
                    seen.append(bytes(event.data))
                super().process_event(event)

        headers = venues.kalshi.headers("GET", "/trade-api/ws/v2")
        async with websockets.connect(
            venues.kalshi.ws, additional_headers=headers, create_connection=Listening
        ) as socket:
            await asyncio.sleep(0.35)
            assert socket.state.name == "OPEN"
        assert len(seen) >= 2
        assert set(seen) == {b"heartbeat"}

    run(scenario, ping_s=0.1)


def test_book_rebuilt_from_the_stream_equals_the_rest_book(run):
    """The flow runs at full speed on all markets; the sequence has no hole and the sums come out."""

    async def scenario(venues):
        books: dict[str, dict[tuple[str, str], int]] = {}
        async with venues.kalshi.stream() as stream:
            await stream.send(subscribe(["orderbook_delta"], MARKETS))
            await stream.next()
            await venues.sim("/sim/flow", {"running": True})
            await asyncio.sleep(1.0)
            await venues.sim("/sim/flow", {"running": False})
            frames = await stream.drain()
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
        assert len(frames) > 500
        for frame in frames:
            message = frame["msg"]
            book = books.setdefault(message["market_ticker"], {})
            if frame["type"] == "orderbook_snapshot":
                for side in ("yes", "no"):
                    for price, count in message.get(f"{side}_dollars_fp", []):
                        book[side, price] = hundredths(count)
            else:
                place = message["side"], message["price_dollars"]
                book[place] = book.get(place, 0) + hundredths(message["delta_fp"])
                assert book[place] >= 0
        for ticker, book in books.items():
            _, body = await venues.get(f"{venues.kalshi.rest}/markets/{ticker}/orderbook")
            rest = {
                (side, price): hundredths(count)
                for side in ("yes", "no")
                for price, count in body["orderbook_fp"][f"{side}_dollars"]
            }
            assert rest == {place: size for place, size in book.items() if size}
            # Never crossed: best YES bid and best NO bid together are below a dollar.
            best = {side: max(hundredths(price) for found, price in rest if found == side) for side in ("yes", "no")}
            assert best["yes"] + best["no"] < 10_000

    run(scenario, quote_at_start=True, messages_per_s=3_000, edges_per_s=5, edge_s=0.2)


def hundredths(text: str) -> int:
    """Return decimal text times ten thousand, exactly."""
    whole, _, fraction = text.lstrip("-").partition(".")
    return int(whole + fraction.ljust(4, "0")) * (-1 if text.startswith("-") else 1)
