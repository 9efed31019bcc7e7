"""The simulator's own signature checks, against the published vectors."""

import json

import pytest

from simulate.credentials import address_of
from simulate.polymarket.auth import l1_signer, l2_signature, order_digest, recover

WALLET = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def test_address_follows_from_the_key(vectors):
    assert address_of(bytes.fromhex(vectors["meta"]["private_key"][2:])) == WALLET


def test_every_v2_order_of_the_vectors_has_its_digest_and_its_signer(vectors):
    chosen = [v for v in vectors["orders"] if v["exchange_version"] == 2 and v["order"]["signatureType"] != 3]
    assert len(chosen) >= 10
    for vector in chosen:
        order = json.loads(vector["post_order_body"])["order"]
        digest = order_digest(order, chain_id=vector["chain_id"], neg_risk=vector["neg_risk"])
        assert "0x" + digest.hex() == vector["digest_orderID"]
        assert recover(digest, order["signature"]) == WALLET
        # Another exchange, another digest: the signature is somebody else's then.
        other = order_digest(order, chain_id=vector["chain_id"], neg_risk=not vector["neg_risk"])
        assert recover(other, order["signature"]) != WALLET


def test_every_hmac_of_the_vectors(vectors):
    assert len(vectors["l2_hmac"]) == 16
    for vector in vectors["l2_hmac"]:
        signature = l2_signature(
            vector["secret"], vector["timestamp"], vector["method"], vector["path"], (vector["body"] or "").encode()
        )
        assert signature == vector["signature"]


def test_every_wallet_login_of_the_vectors(vectors):
    for vector in vectors["l1_clob_auth"]:
        arguments = (vector["address"], vector["timestamp"], str(vector["nonce"]), vector["signature"])
        assert l1_signer(*arguments, chain_id=vector["chain_id"]) == WALLET
        assert l1_signer(*arguments, chain_id=1) != WALLET


@pytest.mark.parametrize("signature", ["", "0x00", "0x" + "11" * 65, "0x" + "ff" * 64 + "1b", "nonsense"])
def test_nonsense_is_nobodys_signature(signature):
    assert recover(bytes(32), signature) != WALLET
