"""Kalshi's request signature: RSA-PSS or Ed25519 over `timestamp + METHOD + path`.

Source: docs.kalshi.com/getting_started/api_keys, quick_start_authenticated_requests; Ed25519 since 2026-09-24.
The same three headers go on REST requests and on the WebSocket upgrade; every connection is signed anew.
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from core.domain.errors import Misconfigured

KEY_HEADER = "KALSHI-ACCESS-KEY"
TIMESTAMP_HEADER = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE_HEADER = "KALSHI-ACCESS-SIGNATURE"

SKEW_ACCEPTED_MS = 5_000
"""A clock this far off was accepted by the demo venue (recorded 2026-06); 30 s was refused. The bound is between."""

# Salt as long as the digest (32 bytes), MGF1 over SHA-256; PKCS#1 v1.5 is answered INCORRECT_API_KEY_SIGNATURE.
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256().digest_size)
_SHA256 = hashes.SHA256()

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey


def signed_text(method: str, path: str, timestamp_ms: int | str) -> bytes:
    """Return the bytes that are signed; `path` starts at the API root (`/trade-api/…`), its query is left out."""
    return f"{timestamp_ms}{method.upper()}{path.partition('?')[0]}".encode()


class Signer:
    """Signs requests of one key. Its repr holds no secret and not the whole key id."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key_id: str, key: PrivateKey) -> None:
        self.key_id = key_id
        self._key = key

    def __repr__(self) -> str:
        return f"Signer(key_id={self.key_id[:8]}…)"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not pickled: it holds a private key")

    @classmethod
    def from_pem(cls, key_id: str, pem: bytes | str, password: bytes | None = None) -> "Signer":
        """Read a private key; its type is taken from the parsed key, since PKCS#8 headers do not tell it.

        Raises:
            Misconfigured: no PEM private key, or neither RSA nor Ed25519. Nothing of the input is repeated.
        """
        if not key_id:
            raise Misconfigured("kalshi: the key id is empty")
        try:
            key = serialization.load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, password)
        except (ValueError, TypeError) as e:
            # `from None`: the cause may quote the input.
            raise Misconfigured(f"kalshi: not a readable PEM private key ({type(e).__name__})") from None
        if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            raise Misconfigured(f"kalshi: expected an RSA or Ed25519 key, found {type(key).__name__}")
        return cls(key_id, key)

    def public_key(self) -> PublicKey:
        """Return the public half."""
        return self._key.public_key()

    @property
    def is_slow(self) -> bool:
        """Say whether a signature takes longer than a switch of threads: sign it elsewhere than on an event loop."""
        return isinstance(self._key, rsa.RSAPrivateKey)

    def headers(self, method: str, path_with_api_root: str, timestamp_ms: int) -> dict[str, str]:
        """Return the three headers of one request; an Ed25519 key needs some 0.03 ms, an RSA key 0.25 ms and more. Thread-safe."""
        text = signed_text(method, path_with_api_root, timestamp_ms)
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(text, _PSS, _SHA256)
        else:
            signature = self._key.sign(text)
        return {
            KEY_HEADER: self.key_id,
            TIMESTAMP_HEADER: str(timestamp_ms),
            SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        }


def load_public_key(pem: bytes | str) -> PublicKey:
    """Read a PEM public key.

    Raises:
        Misconfigured: none, or neither RSA nor Ed25519.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except ValueError as e:
        raise Misconfigured(f"kalshi: not a readable PEM public key: {e}") from e
    if not isinstance(key, rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise Misconfigured(f"kalshi: expected an RSA or Ed25519 key, found {type(key).__name__}")
    return key


def verify(public_key: PublicKey, *, method: str, path: str, timestamp_ms: int | str, signature: str) -> bool:
    """Say whether the base64 `signature` is this key's over the request. The clock is the caller's to check."""
    text = signed_text(method, path, timestamp_ms)
    try:
        data = base64.b64decode(signature, validate=True)
        if isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(data, text, _PSS, _SHA256)
        else:
            public_key.verify(data, text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
