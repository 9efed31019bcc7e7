"""Kalshi's request signatures, checked with code of its own: RSA-PSS and Ed25519 over `timestamp + METHOD + path`."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from core.domain.errors import Misconfigured
from simulate.credentials import KalshiKey

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


class Refused(Exception):
    """A request that is answered with 401 and this body."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(str(body))
        self.body = body


def _authentication_error(details: str) -> Refused:
    return Refused({"error": {"code": "authentication_error", "message": "authentication_error", "details": details}})


class KeyRing:
    """The public halves of the registered keys."""

    def __init__(self, keys: list[KalshiKey], skew_s: float) -> None:
        self._keys: dict[str, tuple[str, ed25519.Ed25519PublicKey | rsa.RSAPublicKey]] = {}
        self._skew_ms = skew_s * 1_000
        for key in keys:
            private = serialization.load_pem_private_key(key.private_key_pem.encode(), password=None)
            if not isinstance(private, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
                raise Misconfigured(f"key {key.key_id} of the credentials file is neither Ed25519 nor RSA")
            self._keys[key.key_id] = (key.account, private.public_key())

    def check(self, headers: Mapping[str, str], method: str, path: str, now_ms: int) -> str:
        """Return the account that signed.

        Raises:
            Refused: with the body the venue sends.
        """
        key_id = headers.get("KALSHI-ACCESS-KEY", "")
        signature = headers.get("KALSHI-ACCESS-SIGNATURE", "")
        timestamp = headers.get("KALSHI-ACCESS-TIMESTAMP", "")
        for name, value in (("key", key_id), ("signature", signature), ("timestamp", timestamp)):
            if not value:
                # Recorded for the signature; the other two follow its pattern.
                raise Refused(
                    {"error": {"code": f"{name}_is_missing_from_headers", "message": f"{name} is missing from headers"}}
                )
        if key_id not in self._keys:
            raise _authentication_error("NOT_FOUND")
        if not timestamp.isdecimal() or abs(int(timestamp) - now_ms) > self._skew_ms:
            raise Refused({"error": {"code": "header_timestamp_expired", "message": "header timestamp expired"}})
        account, public = self._keys[key_id]
        if not _signed(public, signature, f"{timestamp}{method}{path}".encode()):
            raise _authentication_error("INCORRECT_API_KEY_SIGNATURE")
        return account


def _signed(public: ed25519.Ed25519PublicKey | rsa.RSAPublicKey, signature: str, text: bytes) -> bool:
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(raw, text, _PSS, hashes.SHA256())
        else:
            public.verify(raw, text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
