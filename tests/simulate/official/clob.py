"""Polymarket's own client against a simulated venue: run by the interpreter that has it, steps and results as JSON.

It is a program of its own because the client brings packages (`tests`, `docs`, another pytest) that must not lie beside ours.
"""

import json
import sys

from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    AssetType,
    BalanceAllowanceParams,
    MarketOrderArgs,
    OpenOrderParams,
    OrderArgs,
    OrderPayload,
    OrderType,
    PostOrdersV2Args,
    TradeParams,
)


class Recorded(ClobClient):
    """Keeps the exact bodies it posts."""

    def _post(self, endpoint, headers=None, data=None, params=None):
        self.posted = data
        return super()._post(endpoint, headers=headers, data=data, params=params)


def main():
    asked = json.load(sys.stdin)
    client = Recorded(asked["host"], asked["chain_id"], key=asked["key"])
    creds = client.derive_api_key()
    client.set_api_creds(creds)
    token, said = asked["token"], {}
    said["creds"] = [creds.api_key, creds.api_secret, creds.api_passphrase]
    said["version"] = client.get_version()
    said["tick"] = client.get_tick_size(token)
    said["keys"] = client.get_api_keys()

    # Rests, is listed, is read, is cancelled.
    order = client.create_order(OrderArgs(token_id=token, price=0.4, size=20, side="BUY"))
    said["resting"] = client.post_order(order, OrderType.GTC)
    said["resting_body"] = client.posted
    placed = said["resting"]["orderID"]
    said["open"] = client.get_open_orders(OpenOrderParams(asset_id=token))
    said["order"] = client.get_order(placed)
    said["cancelled"] = client.cancel_order(OrderPayload(orderID=placed))
    said["cancelled_again"] = client.cancel_order(OrderPayload(orderID=placed))
    said["open_after"] = client.get_open_orders(OpenOrderParams(asset_id=token))

    # The same signed order again: refused, whatever became of the first.
    try:
        client.post_order(order, OrderType.GTC)
    except Exception as error:
        said["duplicate"] = str(error)

    # Takes by a limit and by money.
    taking = client.create_order(OrderArgs(token_id=token, price=0.45, size=10, side="BUY"))
    said["taken"] = client.post_order(taking, OrderType.GTC)
    said["taken_body"] = client.posted
    spending = client.create_market_order(MarketOrderArgs(token_id=token, amount=4.5, side="BUY", price=0.45))
    said["spent"] = client.post_order(spending, OrderType.FOK)
    said["spent_body"] = client.posted
    said["trades"] = client.get_trades(TradeParams(asset_id=token))
    said["cash"] = client.get_balance_allowance(BalanceAllowanceParams(asset_type=AssetType.COLLATERAL))

    # Two at once, then everything off.
    batch = [
        PostOrdersV2Args(
            order=client.create_order(OrderArgs(token_id=token, price=price, size=10, side="BUY")),
            orderType=OrderType.GTC,
        )
        for price in (0.3, 0.31)
    ]
    said["batch"] = client.post_orders(batch)
    said["all_off"] = client.cancel_all()
    said["heartbeat"] = client.post_heartbeat("")
    json.dump(said, sys.stdout, default=str)


main()
