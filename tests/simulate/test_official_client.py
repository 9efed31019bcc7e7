"""Polymarket's own clients place, read and cancel on the simulated venue, and sign what we sign, byte for byte.

They need an interpreter that has them: the one of `make official`, which `make test` makes, or what
`CROSSBOOK_OFFICIAL_PYTHON` names.
"""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from simulate.matching import Order as EngineOrder
from simulate.matching import Side
from venues.polymarket.auth import BUY, Order, Wallet
from venues.polymarket.orders import order_body
from venues.polymarket.rules import limit_order_amounts

PROJECT = Path(__file__).resolve().parents[2]
E6 = 1_000_000


@pytest.fixture
def session(run):
    """Play a client's whole session, `session(program, check, neg_risk_share=…)`; `check(venues, said)` judges."""
    interpreter = Path(os.environ.get("CROSSBOOK_OFFICIAL_PYTHON", PROJECT / "build/official/bin/python"))
    if not interpreter.exists():
        pytest.fail(f"Polymarket's own clients are not there ({interpreter}): run `make official`, as `make test` does")

    def runner(program, check, **settings):
        async def scenario(venues):
            exchange = venues.world.clob.exchange
            market = exchange.markets[0]
            ask = EngineOrder("stranger", Side.ASK, 4_500, 100 * E6)
            exchange.apply(market, market.matcher.submit(ask))
            asked = {
                "host": venues.ready["polymarket"]["clob_url"],
                "gamma": venues.ready["polymarket"]["gamma_url"],
                "chain_id": venues.ready["polymarket"]["chain_id"],
                "key": venues.polymarket.wallet_key,
                "token": market.tokens[0],
            }
            done = await asyncio.to_thread(
                subprocess.run,
                [interpreter, PROJECT / "tests/simulate/official" / program],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2_000:]
            await check(venues, json.loads(done.stdout))

        run(scenario, **settings)

    return runner


def signed_again(venues, body):
    """Return what we make of the inputs of a posted order body."""
    market = venues.world.clob.exchange.by_token[body["order"]["tokenId"]]
    signed = body["order"]
    wallet = Wallet(venues.polymarket.wallet_key)
    order = Order(
        salt=signed["salt"],
        maker=wallet.address,
        signer=wallet.address,
        token_id=int(signed["tokenId"]),
        maker_amount=int(signed["makerAmount"]),
        taker_amount=int(signed["takerAmount"]),
        side=BUY,
        timestamp_ms=int(signed["timestamp"]),
    )
    ours = wallet.sign_order(order, neg_risk=market.neg_risk, chain_id=venues.ready["polymarket"]["chain_id"])
    return ours, order_body(ours, owner=venues.polymarket.credentials.api_key, order_type=body["orderType"])


@pytest.mark.parametrize("neg_risk_share", [0, 1])
def test_official_client_places_reads_and_cancels(session, neg_risk_share):
    async def check(venues, said):
        market = venues.world.clob.exchange.markets[0]
        account = venues.world.clob.exchange.accounts["main"]
        wallet = account.wallet
        assert said["creds"] == [wallet.api_key, wallet.secret, wallet.passphrase]
        assert said["version"] == 2
        assert float(said["tick"]) == market.tick_e4 / 10_000
        placed = said["resting"]["orderID"]
        assert (said["resting"]["status"], said["resting"]["success"]) == ("live", True)
        assert [order["id"] for order in said["open"]] == [placed]
        assert (said["order"]["id"], said["order"]["price"]) == (placed, "0.4")
        assert said["cancelled"] == {"canceled": [placed], "not_canceled": {}}
        assert said["cancelled_again"]["canceled"] == []
        assert list(said["cancelled_again"]["not_canceled"]) == [placed]
        assert said["open_after"] == []
        assert "Duplicated" in said["duplicate"]
        assert account.attempts[placed] == 2
        assert (said["taken"]["status"], said["taken"]["takingAmount"]) == ("matched", "10")
        # Spent 4.5 dollars at 0.45: ten more.
        assert (said["spent"]["status"], said["spent"]["takingAmount"]) == ("matched", "10")
        assert account.tokens[market.tokens[0]] == 20 * E6
        assert len(said["trades"]) == 2
        assert {trade["trader_side"] for trade in said["trades"]} == {"TAKER"}
        assert int(said["cash"]["balance"]) == account.collateral_e6
        assert [leg["status"] for leg in said["batch"]] == ["live", "live"]
        assert sorted(said["all_off"]["canceled"]) == sorted(leg["orderID"] for leg in said["batch"])
        assert said["heartbeat"]["heartbeat_id"]
        assert not account.open

    session("clob.py", check, neg_risk_share=neg_risk_share)


@pytest.mark.parametrize("neg_risk_share", [0, 1])
def test_for_equal_amounts_our_signed_orders_equal_theirs_byte_for_byte(session, neg_risk_share):
    async def check(venues, said):
        market = venues.world.clob.exchange.markets[0]
        for name, price, size in (("resting_body", 4_000, 20), ("taken_body", 4_500, 10)):
            theirs = json.loads(said[name])
            amounts = limit_order_amounts(side="BUY", price=price, size=size * E6, tick=market.tick_e4)
            signed = theirs["order"]
            assert (str(amounts.maker), str(amounts.taker)) == (signed["makerAmount"], signed["takerAmount"])
            ours, body = signed_again(venues, theirs)
            assert ours.signature == signed["signature"]
            assert body == said[name].encode()

    session("clob.py", check, neg_risk_share=neg_risk_share)


@pytest.mark.parametrize("neg_risk_share", [0, 1])
def test_newer_client_places_reads_and_cancels_and_signs_what_we_sign(session, neg_risk_share):
    async def check(venues, said):
        account = venues.world.clob.exchange.accounts["main"]
        placed, taken = said["order_id"], said["taken"]["order_id"]
        assert (said["resting"]["status"], said["taken"]["status"]) == ("live", "matched")
        assert [order["id"] for order in said["open"]] == [placed]
        assert (said["order"]["id"], said["order"]["price"]) == (placed, "0.4")
        assert said["cancelled"] == {"canceled": [placed], "not_canceled": {}}
        assert said["open_after"] == []
        assert [trade["taker_order_id"] for trade in said["trades"]] == [taken]
        assert set(account.orders) == {placed, taken}
        for order_id, own in account.orders.items():
            ours, body = signed_again(venues, own.body)
            assert (ours.order_id, ours.signature) == (order_id, own.body["order"]["signature"])
            assert json.loads(body)["order"] == own.body["order"]

    session("unified.py", check, neg_risk_share=neg_risk_share)
