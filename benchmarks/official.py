"""Polymarket's own clients sign orders: run by the interpreter of `make official`, which has them and nothing of ours.

In: JSON with key, chain, contract, token, price and size, how many, how often. Out: JSON by client: its version, the
best CPU time of one signed order in us, and one of them, so that we can sign the same and compare.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any


def clob(asked: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return py-clob-client-v2 signing a limit order, from price and size."""
    builders = importlib.import_module("py_clob_client_v2.order_builder.builder")
    types = importlib.import_module("py_clob_client_v2.clob_types")
    signers = importlib.import_module("py_clob_client_v2.signer")
    builder = builders.OrderBuilder(signers.Signer(asked["key"], asked["chain_id"]))
    options = types.CreateOrderOptions(tick_size="0.01", neg_risk=False)

    def sign() -> dict[str, Any]:
        wanted = types.OrderArgsV2(token_id=asked["token"], price=asked["price"], size=asked["size"], side="BUY")
        return dataclasses.asdict(builder.build_order(wanted, options))

    return sign


def unified(asked: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return polymarket-client signing a limit order, from amounts: what precedes them asks the venue there."""
    kinds = importlib.import_module("polymarket._internal.actions.orders.types")
    orders = importlib.import_module("polymarket._internal.actions.orders.orders")
    typed = importlib.import_module("polymarket._internal.actions.orders.typed_data")
    account = importlib.import_module("eth_account").Account.from_key(asked["key"])
    zero = kinds.BYTES32_ZERO

    def sign() -> dict[str, Any]:
        order = kinds.UnsignedOrder(
            builder=zero,
            chain_id=asked["chain_id"],
            exchange_address=asked["exchange"],
            expiration=0,
            maker=account.address,
            maker_amount=asked["maker_amount"],
            metadata=zero,
            order_type="GTC",
            salt=orders._generate_salt(),
            side="BUY",
            signature_type=0,
            signer=account.address,
            taker_amount=asked["taker_amount"],
            timestamp=orders._current_timestamp_ms(),
            token_id=asked["token"],
        )
        signed = account.sign_typed_data(full_message=typed.build_order_typed_data(order))
        hexed = "0x" + signed.signature.hex().removeprefix("0x")
        done = orders.create_signed_order(order, typed.build_order_signature(order, hexed))
        return {
            "salt": done.salt,
            "timestamp": done.timestamp,
            "makerAmount": done.maker_amount,
            "takerAmount": done.taker_amount,
            "signature": done.signature,
        }

    return sign


def main() -> None:
    """Measure both."""
    asked = json.load(sys.stdin)
    said: dict[str, Any] = {}
    for name, make in (("py-clob-client-v2", clob), ("polymarket-client", unified)):
        sign = make(asked)
        example, best_us = sign(), float("inf")
        for _ in range(asked["repeats"]):
            began = time.thread_time_ns()
            for _ in range(asked["count"]):
                sign()
            best_us = min(best_us, (time.thread_time_ns() - began) / asked["count"] / 1_000)
        said[name] = {"version": version(name), "us": best_us, "example": example}
    json.dump(said, sys.stdout, default=str)


if __name__ == "__main__":
    main()
