"""Polymarket's signatures, checked with code of its own: L1 and orders by EIP-712 recovery, L2 by HMAC.

Source: polymarket.md sections 4 and 5.2; the vectors of that page are this module's tests.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import coincurve
from Crypto.Hash import keccak

from simulate.credentials import checksum_address

EXCHANGE = "0xE111180000d2663C0091e4f400237545B87B996B"
NEG_RISK_EXCHANGE = "0xe2222d279d744050d28e00520010520000310F59"
L1_MESSAGE = "This message attests that I control the given wallet"


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 digest (not NIST SHA-3)."""
    return keccak.new(digest_bits=256, data=data).digest()


_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_ORDER_TYPE = keccak256(
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_AUTH_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_AUTH_TYPE = keccak256(b"ClobAuth(address address,string timestamp,uint256 nonce,string message)")


def order_digest(order: Mapping[str, Any], *, chain_id: int, neg_risk: bool) -> bytes:
    """Return what is signed, which is the order's id. `order` is the object of the POST body.

    Raises:
        ValueError, KeyError, TypeError: the object is not an order.
    """
    contract = NEG_RISK_EXCHANGE if neg_risk else EXCHANGE
    domain = keccak256(
        _DOMAIN_TYPE
        + keccak256(b"Polymarket CTF Exchange")
        + keccak256(b"2")
        + _uint(chain_id)
        + _address_word(contract)
    )
    struct = keccak256(
        _ORDER_TYPE
        + _uint(order["salt"])
        + _address_word(order["maker"])
        + _address_word(order["signer"])
        + _uint(order["tokenId"])
        + _uint(order["makerAmount"])
        + _uint(order["takerAmount"])
        + _uint({"BUY": 0, "SELL": 1}[order["side"]])
        + _uint(order["signatureType"])
        + _uint(order["timestamp"])
        + _bytes32(order["metadata"])
        + _bytes32(order["builder"])
    )
    return keccak256(b"\x19\x01" + domain + struct)


def recover(digest: bytes, signature: str) -> str:
    """Return the checksummed address that signed, or an empty text when nobody can have."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        if len(raw) != 65 or raw[64] not in {27, 28}:
            return ""
        public = coincurve.PublicKey.from_signature_and_message(raw[:64] + bytes([raw[64] - 27]), digest, hasher=None)
    except (ValueError, TypeError):
        return ""
    except Exception as error:
        # coincurve raises its bare Exception when no key can have made the signature.
        if type(error) is not Exception:
            raise
        return ""
    return checksum_address(keccak256(public.format(compressed=False)[1:])[-20:])


def l1_signer(address: str, timestamp: str, nonce: str, signature: str, *, chain_id: int) -> str:
    """Return the address that signed the ClobAuth message of these headers."""
    try:
        domain = keccak256(_AUTH_DOMAIN_TYPE + keccak256(b"ClobAuthDomain") + keccak256(b"1") + _uint(chain_id))
        struct = keccak256(
            _AUTH_TYPE
            + _address_word(address)
            + keccak256(timestamp.encode())
            + _uint(nonce)
            + keccak256(L1_MESSAGE.encode())
        )
    except ValueError:
        return ""
    return recover(keccak256(b"\x19\x01" + domain + struct), signature)


def l2_signature(secret: str, timestamp: str, method: str, path: str, body: bytes) -> str:
    """Return the HMAC a request must carry."""
    message = f"{timestamp}{method}{path}".encode() + body
    return base64.urlsafe_b64encode(hmac.new(_secret(secret), message, hashlib.sha256).digest()).decode()


def l2_matches(secret: str, headers: Mapping[str, str], method: str, path: str, body: bytes) -> bool:
    """Tell whether a request was signed with this secret."""
    wanted = l2_signature(secret, headers.get("POLY_TIMESTAMP", ""), method, path, body)
    return hmac.compare_digest(wanted, headers.get("POLY_SIGNATURE", ""))


def _secret(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _uint(value: Any) -> bytes:
    return int(value).to_bytes(32, "big")


def _address_word(text: str) -> bytes:
    raw = bytes.fromhex(text.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError(f"expected an address of 20 bytes, found {len(raw)}")
    return raw.rjust(32, b"\0")


def _bytes32(text: str) -> bytes:
    raw = bytes.fromhex(text.removeprefix("0x"))
    if len(raw) != 32:
        raise ValueError(f"expected 32 bytes, found {len(raw)}")
    return raw
