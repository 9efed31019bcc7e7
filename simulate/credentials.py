"""Keys of the funded test accounts: read from the credentials file, or made and written there.

Kalshi: one Ed25519 and one RSA key for each account. Polymarket: a wallet and its API credentials.
"""

import base64
import os
import secrets
import uuid
from pathlib import Path

import coincurve
import msgspec
from Crypto.Hash import keccak
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


class KalshiKey(msgspec.Struct, frozen=True):
    """One API key of a Kalshi account."""

    account: str
    key_id: str
    key_type: str
    private_key_pem: str


class PolymarketWallet(msgspec.Struct, frozen=True):
    """One wallet with its API credentials; `funder` holds the money (the wallet itself for signature type 0)."""

    account: str
    private_key: str
    address: str
    funder: str
    signature_type: int
    chain_id: int
    api_key: str
    secret: str
    passphrase: str


class Credentials(msgspec.Struct, frozen=True):
    """All test accounts of both venues."""

    kalshi: list[KalshiKey]
    polymarket: list[PolymarketWallet]


def load_or_make(path: Path, accounts: int, chain_id: int) -> Credentials:
    """Return the credentials of `path`, which is written when it does not exist."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    names = ["main", *(f"second{number or ''}" for number in range(accounts - 1))]
    credentials = Credentials(
        kalshi=[key for name in names for key in _kalshi_keys(name)],
        polymarket=[_wallet(name, chain_id) for name in names],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials), indent=2))
    return credentials


def checksum_address(raw: bytes) -> str:
    """Return the mixed-case text of a 20-byte address (EIP-55)."""
    text = raw.hex()
    digest = keccak.new(digest_bits=256, data=text.encode()).hexdigest()
    return "0x" + "".join(
        char.upper() if int(nibble, 16) >= 8 else char for char, nibble in zip(text, digest, strict=False)
    )


def address_of(private_key: bytes) -> str:
    """Return the address of a private key."""
    public = coincurve.PrivateKey(private_key).public_key.format(compressed=False)
    return checksum_address(keccak.new(digest_bits=256, data=public[1:]).digest()[-20:])


def _kalshi_keys(account: str) -> list[KalshiKey]:
    return [
        KalshiKey(account, str(uuid.uuid4()), "ed25519", _pem(ed25519.Ed25519PrivateKey.generate())),
        KalshiKey(account, str(uuid.uuid4()), "rsa", _pem(rsa.generate_private_key(65_537, 2_048))),
    ]


def _pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _wallet(account: str, chain_id: int) -> PolymarketWallet:
    secret = coincurve.PrivateKey().secret
    address = address_of(secret)
    return PolymarketWallet(
        account=account,
        private_key="0x" + secret.hex(),
        address=address,
        funder=address,
        signature_type=0,
        chain_id=chain_id,
        api_key=str(uuid.uuid4()),
        secret=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        passphrase=secrets.token_hex(32),
    )
