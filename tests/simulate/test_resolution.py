"""How simulated markets end: what is told, listed, cancelled and paid, with figures worked out by hand."""

import asyncio
import json

import pytest

from simulate.universe import make_universe
from venues.kalshi import account as kalshi_account

TEMP = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)[0].kalshi_ticker


async def hold(venues, side):
    """Buy or sell three contracts at 40 cents from another member."""
    assert (await venues.kalshi_second.order(TEMP, "ask" if side == "bid" else "bid", "0.4000", "3.00"))[0] == 201
    status, body = await venues.kalshi.order(TEMP, side, "0.4000", "3.00")
    assert (status, body["fill_count"]) == (201, "3.00")


async def cash_of(venues):
    return (await venues.sim("/sim/accounts"))["kalshi"][0]["cash_e6"]


async def settlements(venues):
    status, body = await venues.kalshi.call("GET", "/portfolio/settlements?subaccount=0&min_ts=0&limit=10")
    assert status == 200
    return kalshi_account.decode_settlements(json.dumps(body).encode())[0], body["settlements"]


@pytest.mark.parametrize(
    ("side", "result", "value", "cents", "stated"),
    [
        ("bid", "yes", None, 300, 10_000),
        ("bid", "no", None, 0, 0),
        ("ask", "no", None, 300, 0),
        ("bid", "scalar", "0.3700", 111, 3_700),
        ("ask", "scalar", "0.3755", 187, 3_700),
        ("bid", "void", "0.5000", 150, 5_000),
    ],
)
def test_a_market_is_determined_then_pays_in_whole_cents_and_lists_it(run, side, result, value, cents, stated):
    async def scenario(venues):
        await hold(venues, side)
        resting = (await venues.kalshi.order(TEMP, "bid", "0.0100", "1.00"))[1]["order_id"]
        before = await cash_of(venues)
        async with venues.kalshi.stream() as stream:
            await stream.send({"id": 1, "cmd": "subscribe", "params": {"channels": ["market_lifecycle_v2"]}})
            await stream.until("subscribed")
            await venues.sim("/sim/resolve", {"ticker": TEMP, "do": "determine", "result": result, "value": value})
            told = (await stream.until("market_lifecycle_v2"))["msg"]
            assert (told["event_type"], told["result"]) == ("determined", result)
            _, body = await venues.kalshi.call("GET", f"/portfolio/orders/{resting}")
            assert body["order"]["status"] == "canceled"
            market = (await venues.kalshi.call("GET", f"/markets/{TEMP}"))[1]["market"]
            assert (market["status"], market["result"]) == ("determined", result)
            assert market["settlement_value_dollars"] == told["settlement_value"]
            # A word is no money.
            assert (await cash_of(venues), await settlements(venues)) == (before, ([], []))
            await venues.sim("/sim/resolve", {"ticker": TEMP, "do": "settle"})
            assert (await stream.until("market_lifecycle_v2"))["msg"]["event_type"] == "settled"
        ((paid,), (raw,)) = await settlements(venues)
        assert await cash_of(venues) == before + cents * 10_000
        assert (raw["revenue"], paid.revenue, paid.value) == (cents, cents * 10_000, stated)
        sizes = (3_000_000, 0) if side == "bid" else (0, 3_000_000)
        assert (paid.yes_size, paid.no_size, paid.result) == (*sizes, result)
        fees = (await venues.sim("/sim/accounts"))["kalshi"][0]["fees_e6"]
        assert paid.fee == fees > 0
        rows = (await venues.kalshi.call("GET", "/portfolio/positions"))[1]["market_positions"]
        assert [row["position_fp"] for row in rows if row["ticker"] == TEMP] == ["0.00"]
        refused = await venues.kalshi.order(TEMP, "bid", "0.5000", "1.00")
        assert (refused[0], refused[1]["error"]["code"]) == (400, "MARKET_INACTIVE")

    run(scenario)


def test_a_dispute_an_amendment_and_a_correction_move_what_they_should(run):
    async def scenario(venues):
        await hold(venues, "bid")
        before = await cash_of(venues)

        async def step(do, result="", value=None):
            body = {"ticker": TEMP, "do": do, "result": result, "value": value}
            return await venues.sim("/sim/resolve", body)

        await step("determine", "yes")
        await step("dispute")
        market = (await venues.kalshi.call("GET", f"/markets/{TEMP}"))[1]["market"]
        assert (market["status"], market["result"]) == ("disputed", "yes")
        await step("amend", "no")
        assert await cash_of(venues) == before
        await step("settle")
        ((paid,), _) = await settlements(venues)
        assert (paid.revenue, await cash_of(venues)) == (0, before)
        await step("correct", "scalar", "0.2500")
        ((again,), _) = await settlements(venues)
        assert (again.revenue, again.yes_size, await cash_of(venues)) == (750_000, 3_000_000, before + 750_000)
        assert again.time_ns > paid.time_ns
        # Only from where it stands.
        assert "cannot determine" in (await step("determine", "yes"))["error"]

    run(scenario)


def test_a_polymarket_market_resolves_in_the_catalogue_and_redeems_to_cash(run):
    async def scenario(venues):
        exchange = venues.world.clob.exchange
        market = exchange.markets[0]
        account = next(iter(exchange.accounts.values()))
        account.tokens.update({market.tokens[0]: 7_000_000, market.tokens[1]: 2_000_000})
        before = account.collateral_e6

        async def row(closed):
            url = f"{venues.ready['polymarket']['gamma_url']}/markets/keyset"
            _, body = await venues.get(f"{url}?condition_ids={market.condition_id}&closed={closed}")
            found = body["markets"]
            return found[0] if found else None

        async def step(do, value=None):
            body = {"condition_id": market.condition_id, "do": do, "value": value}
            await venues.sim("/sim/resolve", body)

        assert (await row("false"))["closed"] is False
        await step("propose")
        assert await row("false") is None
        proposed = await row("true")
        assert (proposed["umaResolutionStatus"], proposed["acceptingOrders"]) == ("proposed", False)
        await step("resolve", "0.5")
        resolved = await row("true")
        assert (resolved["umaResolutionStatus"], json.loads(resolved["outcomePrices"])) == ("resolved", ["0.5", "0.5"])
        # Tokens stay tokens until they are redeemed.
        assert account.collateral_e6 == before
        await step("redeem")
        assert account.collateral_e6 == before + 4_500_000
        assert {account.tokens[token] for token in market.tokens} == {0}

    run(scenario)


def test_a_polymarket_winner_is_told_to_those_who_asked_for_it(run):
    async def scenario(venues):
        market = venues.world.clob.exchange.markets[0]
        tokens = list(market.tokens)
        async with (
            venues.polymarket.market(tokens, custom_feature_enabled=True) as asked,
            venues.polymarket.market(tokens) as other,
        ):
            await asyncio.sleep(0.1)
            await venues.sim("/sim/resolve", {"condition_id": market.condition_id, "do": "resolve", "value": "0"})
            told = await asked.until("market_resolved")
            assert (told["winning_asset_id"], told["winning_outcome"]) == (tokens[1], "No")
            assert not [one for one in await other.drain() if "market_resolved" in json.dumps(one)]

    run(scenario)
