"""Signatures of both venues. Keys are made here, for this run only.

The peers of a Polymarket order are the venue's own clients, in the interpreter that `make official` makes (or
`CROSSBOOK_OFFICIAL_PYTHON` names): a program of its own (`benchmarks/official.py`), in turns with ours. What they signed is
signed here again and must be the same, byte for byte.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from benchmarks.measure import Effort, Figure, best_us
from core.domain.errors import InvariantBroken
from venues.kalshi.auth import Signer
from venues.polymarket import auth
from venues.polymarket.auth import BUY, ORDER_TYPE, POLYGON, Credentials, Order, Wallet
from venues.polymarket.orders import order_body
from venues.polymarket.rules import limit_order_amounts

PATH = "/trade-api/v2/portfolio/orders"
TIME_MS = 1_790_000_000_000
RSA_BITS = 2048
SIGNATURES_MAX = 400
"""An RSA signature takes a millisecond: fewer of them say as much."""
ORDER_AIM_US = 60.0
OFFICIAL_COUNT = 60
OFFICIAL_S = 120.0
PRICE_E4, SIZE_E6, TICK_E4 = 4_000, 20_000_000, 100
PROJECT = Path(__file__).resolve().parents[1]


def run(effort: Effort) -> list[Figure]:
    """Measure a signed request of Kalshi with both kinds of keys, a signed order and a whole request of Polymarket."""
    count = min(effort.records, SIGNATURES_MAX)
    rsa_signer = Signer("bench", rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS))
    ed_signer = Signer("bench", ed25519.Ed25519PrivateKey.generate())
    secret = secrets.token_bytes(32)
    wallet = Wallet(secret)
    credentials = Credentials(api_key="bench", secret="c2VjcmV0LXNlY3JldC1zZWNyZXQ=", passphrase="bench")
    order = Order(
        salt=479_249_096_354,
        maker=wallet.address,
        signer=wallet.address,
        token_id=10**76 + 1,
        maker_amount=5_000_000,
        taker_amount=10_000_000,
        side=BUY,
        timestamp_ms=TIME_MS,
    )

    def polymarket_request() -> None:
        body = order_body(wallet.sign_order(order), owner="bench", order_type="GTC")
        credentials.headers(
            address=wallet.address, method="POST", path="/order", body=body, timestamp_s=TIME_MS // 1000
        )

    calls: dict[str, Callable[[], object]] = {
        "rsa": lambda: rsa_signer.headers("POST", PATH, TIME_MS),
        "ed": lambda: ed_signer.headers("POST", PATH, TIME_MS),
        "order": lambda: wallet.sign_order(order),
        "request": polymarket_request,
    }
    peer, peer_note = _eth_account(secret, order, wallet.sign_order(order).signature)
    if peer is not None:
        calls["peer"] = peer
    us = best_us(effort.repeats, count, {name: _many(count, call) for name, call in calls.items()})
    return [
        Figure(f"kalshi headers, RSA-PSS {RSA_BITS}", us["rsa"], "us", note="a request or a WebSocket upgrade"),
        Figure("kalshi headers, Ed25519", us["ed"], "us", note="a request or a WebSocket upgrade"),
        Figure(
            "polymarket order, EIP-712",
            us["order"],
            "us",
            ORDER_AIM_US,
            "eth-account" if peer is not None else "",
            us.get("peer"),
            peer_note,
        ),
        Figure("polymarket request", us["request"], "us", note="order signed, JSON body, HMAC headers"),
        *official_figures(effort, wallet, secret),
    ]


def official_figures(effort: Effort, wallet: Wallet, secret: bytes) -> list[Figure]:
    """Return signed orders a second, from price and size, beside those of the venue's own clients.

    Raises:
        InvariantBroken: a client signs the same order otherwise than we do.
    """
    count = min(effort.records, SIGNATURES_MAX)
    numbers = iter(range(10**12))

    def ours() -> None:
        for _ in range(count):
            _order(wallet, salt=next(numbers))

    interpreter = Path(os.environ.get("CROSSBOOK_OFFICIAL_PYTHON", PROJECT / "build/official/bin/python"))
    what = "polymarket orders signed, from price and size"
    if not interpreter.exists():
        per_s = 1e6 / best_us(effort.repeats, count, {"ours": ours})["ours"]
        return [Figure(what, per_s, "/s", note=f"not compared: no {interpreter.name} of `make official`")]
    best, said = float("inf"), dict[str, dict[str, Any]]()
    for _ in range(effort.repeats):
        best = min(best, best_us(1, count, {"ours": ours})["ours"])
        for name, found in _official(interpreter, wallet, secret, effort).items():
            _check_same(name, wallet, found["example"])
            if name not in said or found["us"] < said[name]["us"]:
                said[name] = found
    return [
        Figure(
            what,
            1e6 / best,
            "/s",
            None,
            f"{name} {found['version']}",
            1e6 / found["us"],
            "the same signature, byte for byte; CPU time of one thread each",
        )
        for name, found in said.items()
    ]


def _order(wallet: Wallet, *, salt: int, timestamp_ms: int = TIME_MS) -> auth.SignedOrder:
    amounts = limit_order_amounts(side="BUY", price=PRICE_E4, size=SIZE_E6, tick=TICK_E4)
    return wallet.sign_order(
        Order(
            salt=salt,
            maker=wallet.address,
            signer=wallet.address,
            token_id=10**76 + 1,
            maker_amount=amounts.maker,
            taker_amount=amounts.taker,
            side=BUY,
            timestamp_ms=timestamp_ms,
        )
    )


def _official(interpreter: Path, wallet: Wallet, secret: bytes, effort: Effort) -> dict[str, dict[str, Any]]:
    amounts = limit_order_amounts(side="BUY", price=PRICE_E4, size=SIZE_E6, tick=TICK_E4)
    asked = {
        "key": "0x" + secret.hex(),
        "chain_id": POLYGON,
        "exchange": auth._EXCHANGES[POLYGON][2, False],
        "token": str(10**76 + 1),
        "price": PRICE_E4 / 1e4,
        "size": SIZE_E6 / 1e6,
        "maker_amount": amounts.maker,
        "taker_amount": amounts.taker,
        "count": min(effort.records, OFFICIAL_COUNT),
        "repeats": 1,
    }
    done = subprocess.run(
        [interpreter, PROJECT / "benchmarks/official.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=OFFICIAL_S,
        check=False,
    )
    if done.returncode:
        raise InvariantBroken(f"the venue's own clients do not sign: {done.stderr[-500:]}")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def _check_same(name: str, wallet: Wallet, theirs: dict[str, Any]) -> None:
    ours = _order(wallet, salt=int(theirs["salt"]), timestamp_ms=int(theirs["timestamp"]))
    amounts = (int(theirs["makerAmount"]), int(theirs["takerAmount"]))
    if ours.signature != theirs["signature"] or amounts != (ours.order.maker_amount, ours.order.taker_amount):
        raise InvariantBroken(f"{name} signs {theirs['signature']} over {amounts}, we {ours.signature}")


def _many(count: int, call: Callable[[], object]) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(count):
            call()

    return all_of_them


def _eth_account(secret: bytes, order: Order, expected: str) -> tuple[Callable[[], object] | None, str]:
    """Return eth-account signing the same order, None where it is not installed."""
    try:
        from eth_account import Account  # type: ignore[import-not-found,unused-ignore] # only for this comparison
    except ImportError:
        return None, "peer eth-account is not installed"
    account: Any = Account.from_key(secret)
    domain = {
        "name": "Polymarket CTF Exchange",
        "version": "2",
        "chainId": POLYGON,
        "verifyingContract": auth._EXCHANGES[POLYGON][2, False],
    }
    types = {"Order": _fields(ORDER_TYPE)}
    message = {
        "salt": order.salt,
        "maker": order.maker,
        "signer": order.signer,
        "tokenId": order.token_id,
        "makerAmount": order.maker_amount,
        "takerAmount": order.taker_amount,
        "side": order.side,
        "signatureType": order.signature_type,
        "timestamp": order.timestamp_ms,
        "metadata": bytes(32),
        "builder": bytes(32),
    }

    def sign() -> Any:
        return account.sign_typed_data(domain, types, message)

    found = "0x" + sign().signature.hex().removeprefix("0x")
    if found != expected:
        raise InvariantBroken(f"eth-account signs {found}, we {expected}")
    return sign, "the same signature, byte for byte"


def _fields(text: str) -> list[dict[str, str]]:
    """Return the members of an EIP-712 type in the shape of eth-account."""
    members = text.partition("(")[2].rstrip(")").split(",")
    return [dict(zip(("type", "name"), member.split(" "), strict=True)) for member in members]
