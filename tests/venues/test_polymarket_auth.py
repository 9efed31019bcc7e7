"""Signatures, digests and headers equal the official clients' byte for byte."""

import json
import pickle
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Misconfigured
from venues.polymarket import auth
from venues.polymarket.auth import Order, Wallet, domain_separator, order_digest, recover
from venues.polymarket.orders import decode_order_request, order_body, signed_fields

# The publicly known key of account 0 of the common Ethereum test mnemonic; the credentials are made up.
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
TOKEN = 71321045679252212594626385532706912750332728571942532289631379312455583992563
NEG_TOKEN = 52114319501245915516055106046884209969926127482827954674443846427813813222426


def make_order(**changed: Any) -> Order:
    fields = {
        "salt": 479249096354,
        "maker": ADDRESS,
        "signer": ADDRESS,
        "token_id": TOKEN,
        "maker_amount": 11_782_400,
        "taker_amount": 21_040_000,
        "side": auth.BUY,
        "timestamp_ms": 1780449126930,
    }
    return Order(**{**fields, **changed})


def order_of(vector: dict[str, Any]) -> Order:
    raw = vector["order"]
    return Order(
        salt=int(raw["salt"]),
        maker=raw["maker"],
        signer=raw["signer"],
        token_id=int(raw["tokenId"]),
        maker_amount=int(raw["makerAmount"]),
        taker_amount=int(raw["takerAmount"]),
        side=raw["side"],
        timestamp_ms=int(raw["timestamp"]),
        signature_type=raw["signatureType"],
        expiration=int(raw["expiration"]),
        metadata=raw["metadata"],
        builder=raw["builder"],
    )


@pytest.fixture(scope="module")
def wallet() -> Wallet:
    return Wallet(KEY)


# --- published figures


@pytest.mark.parametrize(
    ("changed", "options", "order_id"),
    [
        ({}, {}, "0x7d41e3c303c3d789a6cdbd117e01c8c2f5641f8bc5ca4301c11a4e7a252b20e2"),
        (
            {"token_id": NEG_TOKEN, "maker_amount": 12_361_500, "taker_amount": 100_500_000},
            {"neg_risk": True},
            "0x7e60f246d1eb53ae764a7ee85974448b82d235dd4f4a0243597434aaf99a9261",
        ),
        (
            {"token_id": 456, "maker_amount": 40_000_000, "taker_amount": 100_000_000},
            {"version": 3},
            "0x8e2ba0f9ff54a8d6e1b5cf4653aefb3af1e5d95a50a183f7fb9aa3be7ed24f10",
        ),
    ],
    ids=["v2-standard", "v2-negative-risk", "v3-position"],
)
def test_published_order_ids(wallet: Wallet, changed: dict[str, int], options: dict[str, Any], order_id: str) -> None:
    signed = wallet.sign_order(make_order(**changed), **options)
    assert signed.order_id == order_id
    assert recover(bytes.fromhex(order_id[2:]), signed.signature) == ADDRESS


def test_published_type_hashes_and_domains() -> None:
    typehash = auth.keccak256(auth.ORDER_TYPE.encode()).hex()
    assert typehash == "bb86318a2138f5fa8ae32fbe8e659f8fcf13cc6ae4014a707893055433818589"
    assert domain_separator().hex() == "3264e159346253e26a64e00b69032db0e7d32f94628de3e6eecb50304d7af3d2"
    assert domain_separator(neg_risk=True).hex() == "9b858f53327b0bd13af8ec14cfb35234fb9eb7b0504d1a4e61f433840d30e81a"


def test_published_l1_signature(wallet: Wallet) -> None:
    headers = wallet.l1_headers(timestamp_s=10_000_000, nonce=23, chain_id=auth.AMOY)
    assert headers == {
        "POLY_ADDRESS": ADDRESS,
        "POLY_SIGNATURE": "0xf62319a987514da40e57e2f4d7529f7bac38f0355bd88bb5adbb3768d80de6c16"
        "82518e0af677d5260366425f4361e7b70c25ae232aff0ab2331e2b164a1aedc1b",
        "POLY_TIMESTAMP": "10000000",
        "POLY_NONCE": "23",
    }


def test_published_hmac() -> None:
    credentials = auth.Credentials(api_key="k", secret="A" * 43 + "=", passphrase="p")
    seen = credentials.signature(method="test-sign", path="/orders", body=b'{"hash": "0x123"}', timestamp_s=1_000_000)
    assert seen == "ZwAdJKvoYRlEKDkNMwd5BuwNNtg93kNaR_oU2HrfVvc="


# --- all vectors


def test_every_order_vector(vectors: dict[str, Any], wallet: Wallet) -> None:
    meta = vectors["meta"]
    credentials = auth.Credentials(
        api_key=meta["api_creds"]["api_key"],
        secret=meta["api_creds"]["api_secret"],
        passphrase=meta["api_creds"]["api_passphrase"],
    )
    seen = []
    for vector in vectors["orders"]:
        version, chain, neg_risk = vector["exchange_version"], vector["chain_id"], vector["neg_risk"]
        if version == 1:
            continue
        order = order_of(vector)
        separator = domain_separator(chain_id=chain, version=version, neg_risk=neg_risk)
        assert "0x" + separator.hex() == vector["domain_separator"], vector["name"]
        assert "0x" + auth.struct_hash(order).hex() == vector["struct_hash"], vector["name"]
        assert "0x" + order_digest(order, separator).hex() == vector["digest_orderID"], vector["name"]
        if order.signature_type == auth.SIGNATURE_DEPOSIT_WALLET:
            continue
        signed = wallet.sign_order(order, neg_risk=neg_risk, chain_id=chain, version=version)
        assert signed.signature == vector["signature"], vector["name"]
        expected = json.loads(vector["post_order_body"])
        body = order_body(
            signed,
            owner=meta["api_creds"]["api_key"],
            order_type=expected["orderType"],
            post_only=expected["postOnly"],
        )
        assert body.decode() == vector["post_order_body"], vector["name"]
        headers = credentials.headers(
            address=wallet.address,
            method="POST",
            path="/order",
            body=body,
            timestamp_s=int(vector["l2_headers_for_post"]["POLY_TIMESTAMP"]),
        )
        assert headers == vector["l2_headers_for_post"], vector["name"]
        assert signed_fields(decode_order_request(body).order) == order, vector["name"]
        seen.append(vector["name"])
    assert len(seen) == 17


def test_every_domain_vector_of_the_living_generations(vectors: dict[str, Any]) -> None:
    checked = 0
    for name, expected in vectors["constants"]["domain_separators"].items():
        chain, version, kind = name.split("/")
        if version == "v1":
            continue
        seen = domain_separator(chain_id=int(chain), version=int(version[1:]), neg_risk=kind == "neg")
        assert "0x" + seen.hex() == expected, name
        checked += 1
    assert checked == 8


def test_every_l1_and_hmac_vector(vectors: dict[str, Any], wallet: Wallet) -> None:
    for vector in vectors["l1_clob_auth"]:
        headers = wallet.l1_headers(
            timestamp_s=int(vector["timestamp"]), nonce=vector["nonce"], chain_id=vector["chain_id"]
        )
        assert headers["POLY_SIGNATURE"] == vector["signature"]
    for vector in vectors["l2_hmac"]:
        credentials = auth.Credentials(api_key="k", secret=vector["secret"], passphrase="p")
        request = {
            "method": vector["method"],
            "path": vector["path"],
            "body": (vector["body"] or "").encode(),
            "timestamp_s": vector["timestamp"],
        }
        assert credentials.signature(**request) == vector["signature"]
        assert credentials.verify(**request, signature=vector["signature"])
        assert not credentials.verify(**request, signature=vector["signature"].swapcase())
    assert len(vectors["l2_hmac"]) == 16


# --- what is refused


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"signature_type": 3}, "signature type 3 is not implemented"),
        ({"signer": "0x1111111111111111111111111111111111111111"}, "expected signer"),
        ({"salt": 2**53}, "does not travel as a JSON number"),
        ({"maker": "0x11"}, "expected 20 bytes"),
        ({"maker": "0xzz"}, "in hex"),
    ],
)
def test_an_order_that_cannot_be_signed(wallet: Wallet, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        wallet.sign_order(make_order(**changed))


def test_a_dead_generation_has_no_domain() -> None:
    with pytest.raises(Misconfigured, match="order generation 1"):
        domain_separator(version=1)
    with pytest.raises(Misconfigured, match="chain 1,"):
        domain_separator(chain_id=1)


@pytest.mark.parametrize("key", ["", "0x12", "zz" * 32, "00" * 32, b"short"])
def test_an_unreadable_key_is_refused_without_being_repeated(key: str | bytes) -> None:
    with pytest.raises(Misconfigured, match="private key of 32 bytes") as caught:
        Wallet(key)
    assert caught.value.__cause__ is None


def test_secrets_are_not_shown_and_not_pickled(wallet: Wallet) -> None:
    credentials = auth.Credentials(api_key="180c9ab4-4e2b", secret="c2VjcmV0", passphrase="hush")
    assert (repr(wallet), repr(credentials)) == (f"Wallet({ADDRESS})", "Credentials(api_key=180c9ab4…)")
    for holder in (wallet, credentials):
        with pytest.raises(TypeError, match="hold"):
            pickle.dumps(holder)
    assert credentials.user_auth() == {"apiKey": "180c9ab4-4e2b", "secret": "c2VjcmV0", "passphrase": "hush"}
    with pytest.raises(Misconfigured, match="base64"):
        auth.Credentials(api_key="k", secret="A", passphrase="p")


def test_a_query_is_not_part_of_what_is_signed() -> None:
    credentials = auth.Credentials(api_key="k", secret="c2VjcmV0", passphrase="p")
    plain = credentials.headers(address=ADDRESS, method="GET", path="/data/orders", timestamp_s=7)
    assert plain == credentials.headers(address=ADDRESS, method="GET", path="/data/orders?market=0x1", timestamp_s=7)


@pytest.mark.parametrize("signature", ["", "0x", "0x00", "zz", "0x" + "00" * 64 + "1b", "0x" + "11" * 64 + "05"])
def test_a_signature_that_is_none_recovers_nobody(signature: str) -> None:
    assert recover(bytes(32), signature) is None


@settings(max_examples=25)
@given(salt=st.integers(0, auth.SALT_MAX), amount=st.integers(1, 2**64), side=st.sampled_from([auth.BUY, auth.SELL]))
def test_whoever_signed_is_recovered_and_any_change_is_another_order(salt: int, amount: int, side: int) -> None:
    wallet = Wallet(KEY)
    signed = wallet.sign_order(make_order(salt=salt, maker_amount=amount, side=side))
    assert recover(bytes.fromhex(signed.order_id[2:]), signed.signature) == ADDRESS
    other = order_digest(make_order(salt=salt, maker_amount=amount + 1, side=side), domain_separator())
    assert "0x" + other.hex() != signed.order_id
    assert recover(other, signed.signature) != ADDRESS


def test_checksum_addresses() -> None:
    for address in (
        ADDRESS,
        "0xE111180000d2663C0091e4f400237545B87B996B",
        "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB",
    ):
        assert auth.checksum_address(address.lower()) == address


def test_signing_is_fast_enough_for_the_order_path(wallet: Wallet) -> None:
    orders = [make_order(salt=salt) for salt in range(300)]
    best = min(_seconds(wallet, orders) for _ in range(5)) / len(orders)
    # Measured 39 us on two shared cores; the bound is loose because the machine is.
    assert best < 300e-6


def _seconds(wallet: Wallet, orders: list[Order]) -> float:
    start = time.perf_counter()
    for order in orders:
        wallet.sign_order(order)
    return time.perf_counter() - start
