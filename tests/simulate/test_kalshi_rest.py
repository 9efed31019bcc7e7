"""The simulated Kalshi over real HTTP: keys, orders, errors and money, with figures worked out by hand."""

import asyncio
import base64
import json
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization

from simulate import buckets
from simulate.universe import make_universe

# Markets of seed 1: place 0 is KXSIMTEMP (taker fee 7 %, makers free, cents), 1 KXSIMGAME (makers a quarter of it),
# 2 KXSIMINX (half the fee), 3 KXSIMRATE (tenths of a cent).
TEMP, GAME, INX, RATE = (
    market.kalshi_ticker for market in make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
)


def error(code: str, details: str | None = None) -> dict:
    body = {"code": code, "message": code.replace("_", " ")}
    return {"error": body if details is None else {**body, "details": details}}


def test_signed_reads_are_accepted_with_both_kinds_of_key(run):
    async def scenario(venues):
        for client in (venues.kalshi, venues.kalshi_rsa):
            status, body = await client.call("GET", "/portfolio/balance")
            assert status == 200
            assert body["balance"] == 10_000_000
            assert body["balance_dollars"] == "100000.0000"
            assert body["balance_breakdown"] == [{"exchange_index": 0, "balance": "100000.0000"}]

    run(scenario)


def test_bad_keys_are_refused_with_the_recorded_bodies(run, captures):
    def recorded(name):
        return 401, json.loads((captures / "kalshi" / f"auth__{name}.json").read_text())

    async def scenario(venues):
        client = venues.kalshi
        good = client.headers("GET", "/trade-api/v2/portfolio/balance")
        wrong_message = client.headers("GET", "/trade-api/v2/portfolio/orders")
        assert await client.call("GET", "/portfolio/balance", headers=wrong_message) == recorded("bad_signature")
        unknown = {**good, "KALSHI-ACCESS-KEY": "00000000-0000-0000-0000-000000000000"}
        assert await client.call("GET", "/portfolio/balance", headers=unknown) == recorded("unknown_key_id")
        unsigned = {name: value for name, value in good.items() if name != "KALSHI-ACCESS-SIGNATURE"}
        assert await client.call("GET", "/portfolio/balance", headers=unsigned) == recorded("missing_signature_header")

    run(scenario)


@pytest.mark.parametrize(("skew_s", "status"), [(5, 200), (-5, 200), (-30, 401), (300, 401)])
def test_clock_may_be_wrong_by_five_seconds_and_not_by_thirty(run, skew_s, status):
    async def scenario(venues):
        venues.kalshi.skew_ms = skew_s * 1_000
        found, body = await venues.kalshi.call("GET", "/portfolio/balance")
        assert found == status
        if status == 401:
            assert body == error("header_timestamp_expired")

    run(scenario)


def test_query_is_not_part_of_the_signed_text(run):
    async def scenario(venues):
        status, _ = await venues.kalshi.call("GET", "/portfolio/orders?status=resting&limit=5")
        assert status == 200
        # Signed with the query in the text, as a wrong client would.
        headers = venues.kalshi.headers("GET", "/trade-api/v2/portfolio/orders")
        text = headers["KALSHI-ACCESS-TIMESTAMP"] + "GET/trade-api/v2/portfolio/orders?status=resting"
        pem = venues.world.credentials.kalshi[0].private_key_pem.encode()
        signature = serialization.load_pem_private_key(pem, None).sign(text.encode())
        headers["KALSHI-ACCESS-SIGNATURE"] = base64.b64encode(signature).decode()
        assert (await venues.kalshi.call("GET", "/portfolio/orders?status=resting", headers=headers))[0] == 401

    run(scenario)


def test_resting_order_is_answered_listed_and_cancelled_as_recorded(run):
    async def scenario(venues):
        client = venues.kalshi
        status, created = await client.order(TEMP, "bid", "0.0100", "1.00", client_order_id="one")
        assert status == 201
        assert set(created) == {"client_order_id", "fill_count", "order_id", "remaining_count", "ts_ms"}
        assert (created["fill_count"], created["remaining_count"]) == ("0.00", "1.00")
        order_id = created["order_id"]

        status, body = await client.call("GET", f"/portfolio/orders/{order_id}")
        order = body["order"]
        assert status == 200
        assert (order["status"], order["yes_price_dollars"], order["no_price_dollars"]) == (
            "resting",
            "0.0100",
            "0.9900",
        )
        assert (order["initial_count_fp"], order["remaining_count_fp"]) == ("1.00", "1.00")
        status, balance = await client.call("GET", "/portfolio/balance")
        assert balance["balance_dollars"] == "99999.9900"

        status, cancelled = await client.call("DELETE", f"/portfolio/events/orders/{order_id}")
        assert status == 200
        assert (cancelled["order_id"], cancelled["reduced_by"]) == (order_id, "1.00")
        assert await client.call("DELETE", f"/portfolio/events/orders/{order_id}") == (404, error("not_found"))
        status, balance = await client.call("GET", "/portfolio/balance")
        assert balance["balance_dollars"] == "100000.0000"

    run(scenario)


def test_client_order_id_is_taken_once_and_not_freed_by_a_cancel(run):
    async def scenario(venues):
        client = venues.kalshi
        _, created = await client.order(TEMP, "bid", "0.0100", "1.00", client_order_id="one")
        duplicate = 409, error("order_already_exists")
        assert await client.order(TEMP, "bid", "0.0100", "1.00", client_order_id="one") == duplicate
        await client.call("DELETE", f"/portfolio/events/orders/{created['order_id']}")
        assert await client.order(TEMP, "bid", "0.0100", "1.00", client_order_id="one") == duplicate
        # Another account has ids of its own.
        status, _ = await venues.kalshi_second.order(TEMP, "bid", "0.0100", "1.00", client_order_id="one")
        assert status == 201
        orders = (await venues.sim("/sim/orders"))["kalshi"]
        assert orders["main"]["one"] == {"attempts": 3, "accepted": 1, "filled_e6": 0}

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        ({"price": "0.5150"}, 400, error("invalid_price")),
        ({"price": "1.0000"}, 400, error("invalid_price")),
        ({"count": "0.001"}, 400, error("invalid_order_size")),
        ({"count": "0.00"}, 400, error("invalid_order_size")),
        ({"count": "200000.00", "price": "0.9900"}, 400, error("insufficient_balance")),
        ({"ticker": "NOBODY"}, 404, error("not_found")),
        (
            {"count": 1},
            400,
            {
                "code": "bad_request",
                "message": "bad request",
                "details": "json: cannot unmarshal number into Go struct field CreateOrderV2Request.count of type string",
            },
        ),
    ],
    ids=["sub-cent price", "price of a dollar", "too fine", "nothing", "too dear", "unknown market", "number"],
)
def test_wrong_order_is_refused_with_the_venues_words(run, fields, status, body):
    async def scenario(venues):
        order = {"ticker": TEMP, "side": "bid", "price": "0.5000", "count": "1.00", **fields}
        assert await venues.kalshi.order(**order) == (status, body)
        assert (await venues.sim("/sim/accounts"))["kalshi"][0]["orders"] == 0

    run(scenario)


def test_post_only_that_crosses_is_refused(run):
    async def scenario(venues):
        await venues.kalshi_second.order(TEMP, "ask", "0.5200", "1.00")
        crossing = await venues.kalshi.order(TEMP, "bid", "0.5200", "1.00", post_only=True)
        assert crossing == (400, error("invalid_order", "post only cross"))

    run(scenario)


def test_dead_endpoints_pauses_and_limits_answer_as_documented(run, monkeypatch):
    # Buckets in which nothing is refilled, however long the machine takes.
    monkeypatch.setattr(buckets, "time", SimpleNamespace(monotonic=lambda: 0.0))

    async def scenario(venues):
        client = venues.kalshi
        assert await client.call("POST", "/portfolio/orders", {}) == (410, error("deprecated_v1_order_endpoint"))
        await venues.sim("/sim/market", {"trading": False})
        assert await client.order(TEMP, "bid", "0.5000", "1.00") == (409, error("trading_is_paused"))
        await venues.sim("/sim/market", {"trading": True, "ticker": TEMP, "status": "inactive"})
        assert (await client.order(TEMP, "bid", "0.5000", "1.00"))[0] == 400
        # Basic: 100 tokens, ten a write. Four are spent above.
        answers = [await client.order(GAME, "bid", "0.0100", "0.01") for _ in range(8)]
        assert [status for status, _ in answers].count(201) == 7
        assert answers[-1] == (429, {"error": "too many requests"})
        assert (await client.call("GET", "/account/limits"))[1]["write"] == {"refill_rate": 100, "bucket_capacity": 100}

    run(scenario, kalshi_tier="basic")


def test_taker_and_maker_are_booked_to_the_last_tenth_of_a_cent_of_a_cent(run):
    """Buy 1 YES at 0.52: model fee 0.07 x 0.52 x 0.48 = 0.017472, trade fee 0.017472; cash -0.52 - 0.017472 is cut down
    to -0.5375, so the fee is 0.0175, as recorded on the demo environment. The maker sold YES, that is paid 0.48 for NO."""

    async def scenario(venues):
        taker, maker = venues.kalshi, venues.kalshi_second
        await maker.order(TEMP, "ask", "0.5200", "3.00", client_order_id="m")
        status, created = await taker.order(
            TEMP, "bid", "0.9900", "1.00", time_in_force="immediate_or_cancel", client_order_id="t"
        )
        assert status == 201
        assert created["average_fill_price"] == "0.5200"
        assert created["average_fee_paid"] == "0.0175"
        assert (created["fill_count"], created["remaining_count"]) == ("1.00", "0.00")

        main, second = (await venues.sim("/sim/accounts"))["kalshi"]
        assert main["cash_e6"] == 100_000_000_000 - 520_000 - 17_500
        assert main["fees_e6"] == 17_500
        assert main["positions"][TEMP]["size_e6"] == 1_000_000
        assert second["cash_e6"] == 100_000_000_000 - 480_000
        assert second["positions"][TEMP]["size_e6"] == -1_000_000
        assert second["reserved_e6"] == 960_000

        _, body = await taker.call("GET", "/portfolio/fills")
        fill = body["fills"][0]
        assert (fill["fee_cost"], fill["yes_price_dollars"], fill["is_taker"]) == ("0.017500", "0.5200", True)
        _, body = await maker.call("GET", "/portfolio/fills")
        assert (body["fills"][0]["fee_cost"], body["fills"][0]["book_side"]) == ("0.000000", "ask")
        assert body["fills"][0]["trade_id"] == fill["trade_id"]
        _, body = await taker.call("GET", "/portfolio/positions")
        assert body["market_positions"][0]["position_fp"] == "1.00"
        assert body["market_positions"][0]["fees_paid_dollars"] == "0.017500"

    run(scenario)


def test_maker_fees_and_half_fees_follow_the_series(run):
    """GAME: maker a quarter of 1.75 on 100 at 0.50 = 0.4375. INX: taker half of it = 0.875."""

    async def scenario(venues):
        await venues.kalshi_second.order(GAME, "ask", "0.5000", "100.00")
        await venues.kalshi.order(GAME, "bid", "0.5000", "100.00")
        main, second = (await venues.sim("/sim/accounts"))["kalshi"]
        assert (main["fees_e6"], second["fees_e6"]) == (1_750_000, 437_500)
        await venues.kalshi_second.order(INX, "ask", "0.5000", "100.00")
        await venues.kalshi.order(INX, "bid", "0.5000", "100.00")
        main, second = (await venues.sim("/sim/accounts"))["kalshi"]
        assert (main["fees_e6"], second["fees_e6"]) == (1_750_000 + 875_000, 437_500)
        _status, body = await venues.get(venues.kalshi.rest + "/series/KXSIMINX")
        assert (body["series"]["fee_type"], body["series"]["fee_multiplier"]) == ("quadratic", 0.5)

    run(scenario)


def test_closing_a_position_pays_back_and_turning_it_opens_the_other_side(run):
    """Long 2 at 0.40, then sell 5 at 0.60: 2 close for 1.20, 3 open as NO for 0.40 each = 1.20. Fees: 0.07 x 2 x .24 =
    0.0336; selling as maker is free."""

    async def scenario(venues):
        await venues.kalshi_second.order(TEMP, "ask", "0.4000", "2.00")
        await venues.kalshi.order(TEMP, "bid", "0.4000", "2.00")
        await venues.kalshi.order(TEMP, "ask", "0.6000", "5.00")
        state = (await venues.sim("/sim/accounts"))["kalshi"][0]
        # What closes the long needs no collateral; the other 3 need 0.40 each.
        assert state["reserved_e6"] == 1_200_000
        await venues.kalshi_second.order(TEMP, "bid", "0.6000", "5.00")
        state = (await venues.sim("/sim/accounts"))["kalshi"][0]
        assert state["cash_e6"] == 100_000_000_000 - 800_000 - 33_600 + 1_200_000 - 1_200_000
        assert state["positions"][TEMP] == {"size_e6": -3_000_000, "cost_e6": 1_200_000, "realized_e6": 400_000}
        assert state["reserved_e6"] == 0

    run(scenario)


def test_self_trade_cancels_the_taker_and_leaves_the_resting_order(run):
    async def scenario(venues):
        await venues.kalshi.order(TEMP, "ask", "0.5200", "2.00", client_order_id="rest")
        status, created = await venues.kalshi.order(TEMP, "bid", "0.5200", "1.00", client_order_id="self")
        assert status == 201
        assert (created["fill_count"], created["remaining_count"]) == ("0.00", "0.00")
        state = (await venues.sim("/sim/accounts"))["kalshi"][0]
        assert [order["client_order_id"] for order in state["open_orders"]] == ["rest"]

    run(scenario)


def test_self_trade_may_cancel_the_resting_order_instead(run):
    async def scenario(venues):
        await venues.kalshi.order(TEMP, "ask", "0.5200", "2.00", client_order_id="rest")
        fields = {"client_order_id": "self", "self_trade_prevention_type": "maker"}
        _, created = await venues.kalshi.order(TEMP, "bid", "0.5200", "1.00", **fields)
        assert (created["fill_count"], created["remaining_count"]) == ("0.00", "1.00")
        state = (await venues.sim("/sim/accounts"))["kalshi"][0]
        assert [order["client_order_id"] for order in state["open_orders"]] == ["self"]
        books = await venues.sim("/sim/books")
        assert books["kalshi"][TEMP] == {"bids": [[5_200, 1_000_000]], "asks": []}

    run(scenario)


def test_cancel_all_answers_204_and_leaves_nothing(run):
    async def scenario(venues):
        for price in ("0.1000", "0.2000"):
            await venues.kalshi.order(TEMP, "bid", price, "1.00")
        assert await venues.kalshi.call("DELETE", "/portfolio/events/orders") == (204, None)
        state = (await venues.sim("/sim/accounts"))["kalshi"][0]
        assert (state["open_orders"], state["reserved_e6"]) == ([], 0)

    run(scenario)


def test_catalogue_is_paged_filtered_and_bounded(run, captures):
    async def scenario(venues):
        rest = venues.kalshi.rest
        seen, cursor = [], ""
        while True:
            status, body = await venues.get(f"{rest}/markets?limit=3&cursor={cursor}")
            assert status == 200
            seen += [market["ticker"] for market in body["markets"]]
            cursor = body["cursor"]
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == 8
        _, body = await venues.get(f"{rest}/markets?tickers={TEMP},{RATE}&status=open")
        assert [market["ticker"] for market in body["markets"]] == [TEMP, RATE]
        assert body["markets"][1]["price_ranges"] == [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}]
        recorded = json.loads((captures / "kalshi" / "markets__limit_over_max.json").read_text())
        assert await venues.get(f"{rest}/markets?limit=1001") == (400, recorded)
        assert (await venues.get(f"{rest}/markets/{TEMP}"))[1]["market"]["status"] == "active"
        assert (await venues.get(f"{rest}/exchange/status"))[1] == {"exchange_active": True, "trading_active": True}
        assert (await venues.get(f"{rest}/markets/{TEMP}/orderbook"))[1] == {
            "orderbook_fp": {"yes_dollars": [], "no_dollars": []}
        }

    run(scenario, markets=8)


def test_answer_may_be_withheld_while_the_order_stands(run):
    async def scenario(venues):
        await venues.sim("/sim/faults", {"venue": "kalshi", "order_swallow_answer_rate": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await venues.kalshi.order(TEMP, "bid", "0.1000", "1.00", client_order_id="lost")
        await venues.sim("/sim/faults", {"venue": "kalshi", "order_swallow_answer_rate": 0})
        again = await venues.kalshi.order(TEMP, "bid", "0.1000", "1.00", client_order_id="lost")
        assert again == (409, error("order_already_exists"))
        assert (await venues.sim("/sim/orders"))["kalshi"]["main"]["lost"]["attempts"] == 2

    run(scenario)
