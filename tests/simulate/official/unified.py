"""Polymarket's newer client (`polymarket-client`) against a simulated venue; steps and results as JSON, as `official_client.py`."""

import dataclasses
import json
import sys

from eth_account import Account
from polymarket.clients.secure import SecureClient
from polymarket.environments import PRODUCTION, _create_environment


def plain(value):
    """Return a model of the client as JSON."""
    return (
        json.loads(value.model_dump_json())
        if hasattr(value, "model_dump_json")
        else json.loads(json.dumps(value, default=str))
    )


def first_page(paginator):
    return [plain(item) for item in paginator.first_page().items]


def main():
    asked = json.load(sys.stdin)
    config = dataclasses.replace(
        PRODUCTION._config, chain_id=asked["chain_id"], clob_url=asked["host"], gamma_url=asked["gamma"]
    )
    environment = _create_environment(name="simulated", config=config)
    key = asked["key"] if asked["key"].startswith("0x") else "0x" + asked["key"]
    # `create` would ask a chain's node whether the wallet is deployed; an account of its own key needs none of that.
    client = SecureClient._create(private_key=key, wallet=Account.from_key(key).address, environment=environment)
    token, said = asked["token"], {}

    placed = client.create_limit_order(token_id=token, price="0.4", size="20", side="BUY")
    said["resting"] = plain(client.post_order(placed))
    said["signed"] = plain(placed) if hasattr(placed, "model_dump_json") else dataclasses.asdict(placed)
    order_id = said["resting"].get("order_id") or said["resting"].get("orderID")
    said["order_id"] = order_id
    said["open"] = first_page(client.list_open_orders(token_id=token))
    said["order"] = plain(client.get_order(order_id=order_id))
    said["cancelled"] = plain(client.cancel_order(order_id=order_id))
    said["open_after"] = first_page(client.list_open_orders(token_id=token))
    taking = client.create_limit_order(token_id=token, price="0.45", size="10", side="BUY")
    said["taken"] = plain(client.post_order(taking))
    said["trades"] = first_page(client.list_account_trades(token_id=token))
    said["all_off"] = plain(client.cancel_all())
    client.close()
    json.dump(said, sys.stdout, default=str)


main()
