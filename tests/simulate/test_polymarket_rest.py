"""The simulated Polymarket over real HTTP: keys, orders, refusals and money, with figures worked out by hand."""

import asyncio
import json
import time

import msgspec
import pytest

from simulate.credentials import load_or_make
from simulate.universe import make_universe

LINKED = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
YES, NO = LINKED[0].yes_token, LINKED[0].no_token
CONDITION = LINKED[0].condition_id
CASH = 100_000_000_000


async def states(venues) -> tuple[dict, dict]:
    """Return the accounts main and second."""
    main, second = (await venues.sim("/sim/accounts"))["polymarket"]
    return main, second


async def give_shares(venues) -> None:
    """Let main own 100 YES and second 100 NO, by a mint at 0.50: each pays 50, the taker (main) a fee of 0.04 x 100 x
    0.25 = 1."""
    second = venues.polymarket_second.body(NO, "BUY", 50_000_000, 100_000_000)
    assert (await venues.polymarket_second.call("POST", "/order", second))[1]["status"] == "live"
    main = venues.polymarket.body(YES, "BUY", 50_000_000, 100_000_000)
    assert (await venues.polymarket.call("POST", "/order", main))[1]["status"] == "matched"
    # Shares can be sold once they are mined.
    await asyncio.sleep(0.15)


def test_unsigned_and_wrongly_signed_requests_are_refused(run):
    async def scenario(venues):
        client = venues.polymarket
        refused = 401, {"error": "Unauthorized/Invalid api key"}
        assert (await client.call("GET", "/data/orders"))[0] == 200
        for changes in (
            {"POLY_SIGNATURE": "AAAA"},
            {"POLY_API_KEY": "unknown"},
            {"POLY_PASSPHRASE": "wrong"},
            {"POLY_ADDRESS": venues.polymarket_second.wallet.address},
            {"POLY_TIMESTAMP": "1"},
        ):
            assert await client.call("GET", "/data/orders", **changes) == refused

    run(scenario)


def test_wallet_derives_its_credentials(run):
    async def scenario(venues):
        client = venues.polymarket
        url = client.urls["clob_url"] + "/auth/derive-api-key"
        headers = client.wallet.l1_headers(timestamp_s=int(time.time()))
        async with venues.session.get(url, headers=headers) as response:
            body = await response.json()
        assert body["apiKey"] == client.credentials.api_key
        assert set(body) == {"apiKey", "secret", "passphrase"}
        headers["POLY_ADDRESS"] = venues.polymarket_second.wallet.address
        async with venues.session.get(url, headers=headers) as response:
            assert response.status == 401
            assert await response.json() == {"error": "Invalid L1 Request headers"}

    run(scenario)


def test_order_of_the_published_vectors_is_accepted_from_the_vectors_key(run, vectors, tmp_path):
    """The body is the official client's, byte for byte; the market that has its token stands in the seeded one's place."""
    meta = vectors["meta"]
    vector = next(v for v in vectors["orders"] if v["name"] == "v2_eoa_std_buy_0.01")
    wallet = {
        "account": "main",
        "private_key": meta["private_key"],
        "address": meta["address"],
        "funder": meta["address"],
        "signature_type": 0,
        "chain_id": 137,
        "api_key": meta["api_creds"]["api_key"],
        "secret": meta["api_creds"]["api_secret"],
        "passphrase": meta["api_creds"]["api_passphrase"],
    }
    file = tmp_path / "credentials.json"

    async def scenario(venues):
        exchange = venues.world.clob.exchange
        token = vector["inputs"]["token_id"]
        market = exchange.markets[0]
        market.tokens = (token, market.tokens[1])
        exchange.by_token[token] = market
        url = venues.ready["polymarket"]["clob_url"] + "/order"
        post = {"data": vector["post_order_body"].encode(), "headers": vector["l2_headers_for_post"]}
        async with venues.session.post(url, **post) as response:
            body = await response.json()
            assert response.status == 200
        assert body == {
            "errorMsg": "",
            "orderID": vector["digest_orderID"],
            "takingAmount": "",
            "makingAmount": "",
            "status": "live",
            "success": True,
        }
        async with venues.session.post(url, **post) as response:
            assert response.status == 400
            text = f"order {vector['digest_orderID']} is invalid. Duplicated."
            assert await response.json() == {"error": text}
        attempts = (await venues.sim("/sim/orders"))["polymarket"]["main"]
        assert attempts == {vector["digest_orderID"]: {"attempts": 2, "accepted": 1, "filled_e6": 0}}

    made = load_or_make(file, 2, 137)
    file.write_bytes(msgspec.json.encode({"kalshi": made.kalshi, "polymarket": [wallet]}))
    run(scenario, credentials_file=file)


def test_mint_charges_both_sides_and_the_taker_a_fee(run):
    async def scenario(venues):
        await give_shares(venues)
        main, second = await states(venues)
        assert main["cash_e6"] == CASH - 50_000_000 - 1_000_000
        assert (main["fees_e6"], second["fees_e6"]) == (1_000_000, 0)
        assert second["cash_e6"] == CASH - 50_000_000
        assert (main["tokens"], second["tokens"]) == ({YES: 100_000_000}, {NO: 100_000_000})

    run(scenario)


def test_merge_pays_both_sides(run):
    """Second rests a SELL of 60 NO at 0.30; main sells 40 YES at 0.65: the pair is worth a dollar, and the better price
    (0.70) goes to the taker. Main: 28.00 less 0.04 x 40 x 0.21 = 0.336."""

    async def scenario(venues):
        await give_shares(venues)
        before, _ = await states(venues)
        resting = venues.polymarket_second.body(NO, "SELL", 60_000_000, 18_000_000)
        assert (await venues.polymarket_second.call("POST", "/order", resting))[1]["status"] == "live"
        status, answer = await venues.polymarket.call(
            "POST", "/order", venues.polymarket.body(YES, "SELL", 40_000_000, 26_000_000)
        )
        assert (status, answer["status"]) == (200, "matched")
        assert (answer["makingAmount"], answer["takingAmount"]) == ("40", "28")
        main, second = await states(venues)
        assert main["cash_e6"] == before["cash_e6"] + 28_000_000 - 336_000
        assert second["cash_e6"] == CASH - 50_000_000 + 12_000_000
        assert (main["tokens"][YES], second["tokens"][NO]) == (60_000_000, 60_000_000)

    run(scenario)


def test_market_buy_spends_its_budget_at_better_prices(run):
    """$10 at 0.56 or better against NO bids at 0.50 (a YES ask of 0.50): 20 shares, fee 0.04 x 20 x 0.25 = 0.2."""

    async def scenario(venues):
        resting = venues.polymarket_second.body(NO, "BUY", 50_000_000, 100_000_000)
        await venues.polymarket_second.call("POST", "/order", resting)
        order = venues.polymarket.body(YES, "BUY", 10_000_000, 17_857_100, "FAK")
        status, answer = await venues.polymarket.call("POST", "/order", order)
        assert (status, answer["status"]) == (200, "matched")
        assert (answer["makingAmount"], answer["takingAmount"]) == ("10", "20")
        main, _ = await states(venues)
        assert main["cash_e6"] == CASH - 10_000_000 - 200_000
        status, body = await venues.polymarket.call("GET", f"/data/trades?id={answer['tradeIDs'][0]}")
        trade = body["data"][0]
        assert (trade["price"], trade["size"], trade["trader_side"]) == ("0.5", "20", "TAKER")
        assert trade["maker_orders"][0]["asset_id"] == NO
        assert (trade["maker_orders"][0]["side"], trade["maker_orders"][0]["price"]) == ("BUY", "0.5")
        assert body["next_cursor"] == "LTE="

    run(scenario)


def test_killed_orders_say_why_and_are_not_to_be_sent_again(run):
    async def scenario(venues):
        client = venues.polymarket
        fok = client.body(YES, "BUY", 10_000_000, 20_000_000, "FOK")
        status, body = await client.call("POST", "/order", fok)
        assert (status, body["error"]) == (
            400,
            "order couldn't be fully filled. FOK orders are fully filled or killed.",
        )
        status, body = await client.call("POST", "/order", fok)
        assert body["error"].endswith("is invalid. Duplicated.")
        status, body = await client.call("POST", "/order", client.body(YES, "BUY", 10_000_000, 20_000_000, "FAK"))
        assert body["error"].startswith("no orders found to match with FAK order.")
        assert (await states(venues))[0]["cash_e6"] == CASH

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "changes", "text"),
    [
        ({}, {"owner": "somebody"}, "the order owner has to be the owner of the API KEY"),
        (
            {"signer": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
            {},
            "the order signer address has to be the address of the API KEY",
        ),
        ({"makerAmount": "5000001"}, {}, "invalid signature"),
        ({"maker": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}, {}, "invalid signature"),
        ({"salt": "12"}, {}, "Invalid order payload"),
        ({"tokenId": "123"}, {}, "No orderbook exists for the requested token id"),
        ({"expiration": "1"}, {}, "invalid expiration"),
        ({}, {"orderType": "IOC"}, "Invalid order payload"),
    ],
    ids=["owner", "signer", "tampered", "maker", "salt", "token", "expiration", "type"],
)
def test_order_that_is_not_ones_own_is_refused(run, fields, changes, text):
    async def scenario(venues):
        body = venues.polymarket.body(YES, "BUY", 5_000_000, 10_000_000)
        body = {**body, **changes, "order": {**body["order"], **fields}}
        assert await venues.polymarket.call("POST", "/order", body) == (400, {"error": text})

    run(scenario)


def test_order_for_the_other_exchange_is_refused(run):
    async def scenario(venues):
        wrong = venues.polymarket.body(YES, "BUY", 5_000_000, 10_000_000)
        assert (await venues.polymarket.call("POST", "/order", wrong))[1] == {"error": "invalid signature"}
        right = venues.polymarket.body(YES, "BUY", 5_000_000, 10_000_000, neg_risk=True)
        assert (await venues.polymarket.call("POST", "/order", right))[1]["status"] == "live"

    run(scenario, neg_risk_share=1)


def test_what_one_does_not_have_cannot_be_sold_or_spent(run):
    async def scenario(venues):
        client = venues.polymarket
        _, body = await client.call("POST", "/order", client.body(YES, "SELL", 10_000_000, 5_000_000))
        assert body["error"] == (
            "not enough balance / allowance: the balance is not enough -> balance: 0, order amount: 10000000"
        )
        # Open orders hold what they may cost: 60,000 of the 100,000.
        await client.call("POST", "/order", client.body(YES, "BUY", 60_000_000_000, 120_000_000_000))
        _, body = await client.call("POST", "/order", client.body(YES, "BUY", 50_000_000_000, 100_000_000_000))
        assert "balance: 40000000000, order amount: 50000000000" in body["error"]
        await client.call("DELETE", "/cancel-all")
        _, body = await client.call("POST", "/order", client.body(YES, "BUY", 50_000_000_000, 100_000_000_000))
        assert body["status"] == "live"

    run(scenario)


def test_bought_shares_cannot_be_sold_before_they_are_mined(run):
    async def scenario(venues):
        await venues.polymarket_second.call(
            "POST", "/order", venues.polymarket_second.body(NO, "BUY", 5_000_000, 10_000_000)
        )
        client = venues.polymarket
        await client.call("POST", "/order", client.body(YES, "BUY", 5_000_000, 10_000_000))
        _, body = await client.call("POST", "/order", client.body(YES, "SELL", 10_000_000, 6_000_000))
        assert "not enough balance / allowance" in body["error"]
        path = f"/balance-allowance?asset_type=CONDITIONAL&token_id={YES}"
        assert (await client.call("GET", path))[1]["balance"] == "0"
        await asyncio.sleep(0.5)
        assert (await client.call("GET", path))[1]["balance"] == "10000000"
        _, body = await client.call("POST", "/order", client.body(YES, "SELL", 10_000_000, 6_000_000))
        assert body["status"] == "live"

    run(scenario, mined_after_ms=300, confirmed_after_ms=400)


def test_post_only_that_crosses_is_refused(run):
    async def scenario(venues):
        other = venues.polymarket_second
        await other.call("POST", "/order", other.body(NO, "BUY", 5_000_000, 10_000_000))
        body = venues.polymarket.body(YES, "BUY", 5_000_000, 10_000_000, post_only=True)
        text = "invalid post-only order: order crosses book"
        assert await venues.polymarket.call("POST", "/order", body) == (400, {"error": text})

    run(scenario)


def test_batches_answer_leg_by_leg_and_cancels_say_what_they_did(run):
    async def scenario(venues):
        client = venues.polymarket
        good = client.body(YES, "BUY", 5_000_000, 10_000_000)
        bad = client.body(YES, "BUY", 5_650_000, 10_000_000)
        status, answers = await client.call("POST", "/orders", [good, bad])
        assert status == 200
        assert answers[0]["status"] == "live"
        assert (answers[1]["success"], answers[1]["orderID"]) == (True, "")
        assert "breaks minimum tick size rule" in answers[1]["errorMsg"]
        order_id = answers[0]["orderID"]
        status, listed = await client.call("GET", "/data/orders")
        assert [row["id"] for row in listed["data"]] == [order_id]
        assert listed["data"][0]["status"] == "LIVE"
        done = 200, {"canceled": [order_id], "not_canceled": {}}
        assert await client.call("DELETE", "/order", {"orderID": order_id}) == done
        gone = 200, {"canceled": [], "not_canceled": {order_id: "already canceled or matched"}}
        assert await client.call("DELETE", "/orders", [order_id]) == gone
        assert (await client.call("GET", f"/data/order/{order_id}"))[1]["status"] == "CANCELED"
        many = [client.body(YES, "BUY", 5_000_000, 10_000_000) for _ in range(16)]
        assert await client.call("POST", "/orders", many) == (
            400,
            {"error": "Too many orders in payload: 16, max allowed: 15"},
        )

    run(scenario)


def test_orders_above_the_signers_rate_are_refused_with_headers(run):
    async def scenario(venues):
        client = venues.polymarket
        statuses = []
        for _ in range(5):
            batch = [client.body(YES, "BUY", 50_000, 5_000_000) for _ in range(15)]
            statuses.append((await client.call("POST", "/orders", batch))[0])
        assert statuses[:4] == [200] * 4
        assert statuses[4] == 429

    run(scenario)


def test_missed_heartbeat_cancels_everything_of_the_key(run):
    async def scenario(venues):
        client = venues.polymarket
        await client.call("POST", "/order", client.body(YES, "BUY", 5_000_000, 10_000_000))
        _, first = await client.call("POST", "/v1/heartbeats", {"heartbeat_id": ""})
        _, second = await client.call("POST", "/v1/heartbeats", {"heartbeat_id": first["heartbeat_id"]})
        status, body = await client.call("POST", "/v1/heartbeats", {"heartbeat_id": "wrong"})
        assert (status, body) == (
            400,
            {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": second["heartbeat_id"]},
        )
        assert len((await states(venues))[0]["open_orders"]) == 1
        await asyncio.sleep(0.6)
        assert (await states(venues))[0]["open_orders"] == []

    run(scenario, heartbeat_limit_s=0.3, heartbeat_sweep_s=0.05)


def test_order_dies_a_minute_before_the_time_it_states(run):
    async def scenario(venues):
        client = venues.polymarket
        soon = client.body(YES, "BUY", 5_000_000, 10_000_000, "GTD", expiration=int(time.time()) + 120)
        assert await client.call("POST", "/order", soon) == (400, {"error": "invalid expiration"})
        later = int(time.time()) + 300
        body = client.body(YES, "BUY", 5_000_000, 10_000_000, "GTD", expiration=later)
        _, answer = await client.call("POST", "/order", body)
        own = venues.world.clob.exchange.accounts["main"].orders[answer["orderID"]]
        assert own.engine.expires_ns == (later - 60) * 1_000_000_000
        assert (await client.call("GET", "/data/orders"))[1]["data"][0]["expiration"] == str(later)

    run(scenario)


def test_delayed_market_holds_a_taker_and_then_matches_it(run):
    async def scenario(venues):
        other, client = venues.polymarket_second, venues.polymarket
        await other.call("POST", "/order", other.body(NO, "BUY", 5_000_000, 10_000_000))
        _, answer = await client.call("POST", "/order", client.body(YES, "BUY", 5_000_000, 10_000_000))
        assert answer["status"] == "delayed"
        _, cancelled = await client.call("DELETE", "/order", {"orderID": answer["orderID"]})
        assert cancelled["canceled"] == []
        await asyncio.sleep(0.3)
        _, row = await client.call("GET", f"/data/order/{answer['orderID']}")
        assert (row["status"], row["size_matched"]) == ("MATCHED", "10")

    run(scenario, taker_delay_share=1, taker_delay_ms=150)


def test_catalogue_is_paged_by_cursor_with_arrays_inside_texts(run):
    async def scenario(venues):
        gamma = venues.ready["polymarket"]["gamma_url"]
        seen, cursor = [], ""
        while True:
            _, body = await venues.get(f"{gamma}/markets/keyset?limit=3&after_cursor={cursor}")
            seen += body["markets"]
            cursor = body.get("next_cursor", "")
            if not cursor:
                break
        assert [market["conditionId"] for market in seen] == [linked.condition_id for linked in LINKED]
        assert json.loads(seen[0]["clobTokenIds"]) == [YES, NO]
        assert json.loads(seen[0]["outcomes"]) == ["Yes", "No"]
        assert seen[0]["orderPriceMinTickSize"] == 0.01
        assert seen[0]["feeSchedule"] == {"exponent": 1, "rate": 0.04, "takerOnly": True, "rebateRate": 0.25}
        clob = venues.ready["polymarket"]["clob_url"]
        assert (await venues.get(f"{clob}/version"))[1] == {"version": 2}
        assert abs((await venues.get(f"{clob}/time"))[1] - time.time()) < 5
        assert (await venues.get(f"{clob}/tick-size?token_id={YES}"))[1] == {"minimum_tick_size": 0.01}
        assert (await venues.get(f"{clob}/neg-risk?token_id={YES}"))[1] == {"neg_risk": False}
        _, compact = await venues.get(f"{clob}/clob-markets/{CONDITION}")
        assert compact["t"] == [{"t": YES, "o": "Yes"}, {"t": NO, "o": "No"}]
        assert (compact["mos"], compact["mts"], compact["fd"]) == (5, 0.01, {"r": 0.04, "e": 1, "to": True})
        missing = 404, {"error": "No orderbook exists for the requested token id"}
        assert await venues.get(f"{clob}/book?token_id=1") == missing
        async with venues.session.post(f"{clob}/books", json=[{"token_id": YES}, {"token_id": "1"}]) as response:
            assert [book["asset_id"] for book in await response.json()] == [YES]

    run(scenario)
