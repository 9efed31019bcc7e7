"""Polymarket's own client places, reads and cancels on the simulated venue, and signs what we sign, byte for byte.

It needs an interpreter that has `py-clob-client-v2`: `CROSSBOOK_OFFICIAL_PYTHON`, or `build/official/bin/python`.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from simulate.matching import Order as EngineOrder
from simulate.matching import Side
from venues.polymarket.auth import BUY, Order, Wallet
from venues.polymarket.orders import order_body
from venues.polymarket.rules import limit_order_amounts

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("official_client.py")
REMEDY = "py-clob-client-v2 is not there: python -m venv build/official && build/official/bin/pip install py-clob-client-v2==1.2.1"
E6 = 1_000_000


@pytest.fixture(scope="module")
def interpreter():
    named = os.environ.get("CROSSBOOK_OFFICIAL_PYTHON")
    built = PROJECT / "build/official/bin/python"
    found = named or (str(built) if built.exists() else sys.executable if find_spec("py_clob_client_v2") else "")
    if not found:
        pytest.skip(REMEDY)
    return found


@pytest.fixture
def session(interpreter, run):
    """Play the client's whole session, `session(check, neg_risk_share=…)`; `check(venues, said)` judges."""

    def runner(check, **settings):
        async def scenario(venues):
            exchange = venues.world.clob.exchange
            market = exchange.markets[0]
            ask = EngineOrder("stranger", Side.ASK, 4_500, 100 * E6)
            exchange.apply(market, market.matcher.submit(ask))
            asked = {
                "host": venues.ready["polymarket"]["clob_url"],
                "chain_id": venues.ready["polymarket"]["chain_id"],
                "key": venues.polymarket.wallet_key,
                "token": market.tokens[0],
            }
            done = await asyncio.to_thread(
                subprocess.run,
                [interpreter, str(PROGRAM)],
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

    session(check, neg_risk_share=neg_risk_share)


@pytest.mark.parametrize("neg_risk_share", [0, 1])
def test_for_equal_amounts_our_signed_orders_equal_theirs_byte_for_byte(session, neg_risk_share):
    async def check(venues, said):
        market = venues.world.clob.exchange.markets[0]
        wallet = Wallet(venues.polymarket.wallet_key)
        for name, price, size in (("resting_body", 4_000, 20), ("taken_body", 4_500, 10)):
            theirs = json.loads(said[name])
            signed = theirs["order"]
            amounts = limit_order_amounts(side="BUY", price=price, size=size * E6, tick=market.tick_e4)
            assert (str(amounts.maker), str(amounts.taker)) == (signed["makerAmount"], signed["takerAmount"])
            order = Order(
                salt=signed["salt"],
                maker=wallet.address,
                signer=wallet.address,
                token_id=int(market.tokens[0]),
                maker_amount=amounts.maker,
                taker_amount=amounts.taker,
                side=BUY,
                timestamp_ms=int(signed["timestamp"]),
            )
            ours = wallet.sign_order(order, neg_risk=market.neg_risk, chain_id=venues.ready["polymarket"]["chain_id"])
            assert ours.signature == signed["signature"]
            owner = venues.polymarket.credentials.api_key
            assert order_body(ours, owner=owner, order_type="GTC") == said[name].encode()
        assert int(json.loads(said["taken_body"])["order"]["timestamp"]) / 1_000 == pytest.approx(time.time(), abs=120)

    session(check, neg_risk_share=neg_risk_share)
