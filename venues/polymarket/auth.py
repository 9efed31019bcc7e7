"""Polymarket's signatures: wallet (EIP-712) for orders and credentials, HMAC for requests.

Source: docs.polymarket.com/v2-migration, /api-reference/authentication; every function equals the official clients'
published vectors byte for byte. Orders are of generation V2, and V3 (same struct, other domain, for Protocol-V2
position ids). Nothing here shows a secret in a repr, and nothing here reads a clock.
"""

import base64
import binascii
import hmac
from functools import cache, lru_cache
from hashlib import sha256

import msgspec
from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

from core.domain.errors import Misconfigured

POLYGON = 137
AMOY = 80_002

BUY = 0
SELL = 1

SIGNATURE_EOA = 0
SIGNATURE_PROXY = 1
SIGNATURE_SAFE = 2
SIGNATURE_DEPOSIT_WALLET = 3

ZERO_BYTES32 = "0x" + "00" * 32
SALT_MAX = 2**53 - 1
"""The salt travels as a JSON number."""

ORDER_TYPE = (
    "Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    "uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_L1_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId)"
_L1_TYPE = "ClobAuth(address address,string timestamp,uint256 nonce,string message)"
_L1_MESSAGE = "This message attests that I control the given wallet"

# (generation, negative risk) -> verifying contract. V3 has one exchange for both.
_EXCHANGES = {
    POLYGON: {
        (2, False): "0xE111180000d2663C0091e4f400237545B87B996B",
        (2, True): "0xe2222d279d744050d28e00520010520000310F59",
        (3, False): "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
        (3, True): "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
    },
    AMOY: {
        (2, False): "0xE111180000d2663C0091e4f400237545B87B996B",
        (2, True): "0xe2222d279d744050d28e00520010520000310F59",
        (3, False): "0x9fE6e61422AdB6F610d8597F9684b16912D50C3D",
        (3, True): "0x9fE6e61422AdB6F610d8597F9684b16912D50C3D",
    },
}


# --- hashing


def keccak256(data: bytes) -> bytes:
    """Return Ethereum's hash, which is not SHA-3."""
    return bytes(keccak.new(digest_bits=256, data=data).digest())


def checksum_address(address: bytes | str) -> str:
    """Return an address in its mixed-case form (EIP-55)."""
    plain = (address.hex() if isinstance(address, bytes) else address.removeprefix("0x")).lower()
    if len(plain) != 40:
        raise Misconfigured(f"expected an address of 20 bytes, found {len(plain) // 2}")
    digest = keccak256(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) >= 8 else c for c, d in zip(plain, digest, strict=False))


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@lru_cache(maxsize=4096)
def _address_word(address: str) -> bytes:
    return bytes(12) + _bytes_of(address, 20)


@lru_cache(maxsize=256)
def _bytes32(text: str) -> bytes:
    return _bytes_of(text, 32)


def _bytes_of(text: str, length: int) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as e:
        raise Misconfigured(f"expected 0x and {length} bytes in hex, found {text[:70]!r}") from e
    if len(data) != length:
        raise Misconfigured(f"expected {length} bytes, found {len(data)}")
    return data


_ORDER_TYPEHASH = keccak256(ORDER_TYPE.encode())
_SIDES = (_word(BUY), _word(SELL))


@cache
def domain_separator(*, chain_id: int = POLYGON, version: int = 2, neg_risk: bool = False) -> bytes:
    """Return the hash of the exchange an order is for; the wrong one is answered as an invalid signature.

    Raises:
        Misconfigured: a chain or generation we do not know the contract of (V1 is dead since 2026-04-28).
    """
    contract = _EXCHANGES.get(chain_id, {}).get((version, neg_risk))
    if contract is None:
        raise Misconfigured(f"polymarket: no exchange contract known for chain {chain_id}, order generation {version}")
    return keccak256(
        keccak256(_DOMAIN_TYPE.encode())
        + keccak256(b"Polymarket CTF Exchange")
        + keccak256(str(version).encode())
        + _word(chain_id)
        + _address_word(contract)
    )


# --- orders


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an order signs, and its `expiration` (epoch seconds, 0: none), which V2 sends but does not sign.

    BUY: `maker_amount` is collateral, `taker_amount` shares; SELL: the reverse; both in millionths. `timestamp_ms` and
    `salt` make it unique.
    """

    salt: int
    maker: str
    signer: str
    token_id: int
    maker_amount: int
    taker_amount: int
    side: int
    timestamp_ms: int
    signature_type: int = SIGNATURE_EOA
    expiration: int = 0
    metadata: str = ZERO_BYTES32
    builder: str = ZERO_BYTES32


class SignedOrder(msgspec.Struct, frozen=True):
    """An order with its signature. `order_id` is the digest that was signed: known before anything is sent."""

    order: Order
    order_id: str
    signature: str


def struct_hash(order: Order) -> bytes:
    """Return the hash of the signed fields."""
    return keccak256(
        b"".join(
            (
                _ORDER_TYPEHASH,
                _word(order.salt),
                _address_word(order.maker),
                _address_word(order.signer),
                _word(order.token_id),
                _word(order.maker_amount),
                _word(order.taker_amount),
                _SIDES[order.side],
                _word(order.signature_type),
                _word(order.timestamp_ms),
                _bytes32(order.metadata),
                _bytes32(order.builder),
            )
        )
    )


def order_digest(order: Order, separator: bytes) -> bytes:
    """Return the digest that is signed; as `0x…` text it is the venue's order id."""
    return keccak256(b"\x19\x01" + separator + struct_hash(order))


class Wallet:
    """A private key that signs. Its repr shows the address only."""

    __slots__ = ("_key", "address")

    def __init__(self, private_key: str | bytes) -> None:
        try:
            secret = bytes.fromhex(private_key.removeprefix("0x")) if isinstance(private_key, str) else private_key
            if len(secret) != 32:
                raise ValueError
            self._key = PrivateKey(secret)
        except (ValueError, TypeError):
            # `from None`: the cause may quote the input.
            raise Misconfigured("polymarket: expected a private key of 32 bytes in hex") from None
        self.address = address_of(self._key.public_key)

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a wallet is not pickled: it holds a private key")

    def sign_digest(self, digest: bytes) -> str:
        """Return the 65-byte signature (r, s, v in {27, 28}) as `0x…`; deterministic (RFC 6979)."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return f"0x{signature[:64].hex()}{signature[64] + 27:02x}"

    def sign_order(
        self, order: Order, *, neg_risk: bool = False, chain_id: int = POLYGON, version: int = 2
    ) -> SignedOrder:
        """Return the order signed; types 1 and 2 (proxy, Safe) differ from 0 only in who the maker is.

        Raises:
            Misconfigured: signature type 3, whose wrapped signature is not implemented; another signer; a salt that
                does not travel as a JSON number.
        """
        if order.signature_type not in {SIGNATURE_EOA, SIGNATURE_PROXY, SIGNATURE_SAFE}:
            raise Misconfigured(
                f"polymarket: signature type {order.signature_type} is not implemented (deposit wallets need an"
                " ERC-7739 wrapped signature): use a key of type 0, 1 or 2"
            )
        if order.signer != self.address:
            raise Misconfigured(f"polymarket: expected signer {self.address}, found {order.signer}")
        if not 0 <= order.salt <= SALT_MAX:
            raise Misconfigured(f"polymarket: salt {order.salt} does not travel as a JSON number")
        separator = domain_separator(chain_id=chain_id, version=version, neg_risk=neg_risk)
        digest = order_digest(order, separator)
        return SignedOrder(order, "0x" + digest.hex(), self.sign_digest(digest))

    def l1_headers(self, *, timestamp_s: int, nonce: int = 0, chain_id: int = POLYGON) -> dict[str, str]:
        """Return the headers with which credentials are created or derived."""
        digest = l1_digest(address=self.address, timestamp_s=timestamp_s, nonce=nonce, chain_id=chain_id)
        return {
            "POLY_ADDRESS": self.address,
            "POLY_SIGNATURE": self.sign_digest(digest),
            "POLY_TIMESTAMP": str(timestamp_s),
            "POLY_NONCE": str(nonce),
        }


def l1_digest(*, address: str, timestamp_s: int, nonce: int, chain_id: int) -> bytes:
    """Return the digest of a credentials request; its domain stays at version 1 and names no contract."""
    separator = keccak256(
        keccak256(_L1_DOMAIN_TYPE.encode()) + keccak256(b"ClobAuthDomain") + keccak256(b"1") + _word(chain_id)
    )
    message = keccak256(
        keccak256(_L1_TYPE.encode())
        + _address_word(address)
        + keccak256(str(timestamp_s).encode())
        + _word(nonce)
        + keccak256(_L1_MESSAGE.encode())
    )
    return keccak256(b"\x19\x01" + separator + message)


def address_of(public_key: PublicKey) -> str:
    """Return the address of a public key."""
    return checksum_address(keccak256(public_key.format(compressed=False)[1:])[12:])


def recover(digest: bytes, signature: str) -> str | None:
    """Return the address that signed `digest`, None if `signature` is none."""
    try:
        data = bytes.fromhex(signature.removeprefix("0x"))
        if len(data) != 65 or data[64] not in {27, 28}:
            return None
        key = PublicKey.from_signature_and_message(data[:64] + bytes([data[64] - 27]), digest, hasher=None)
    except Exception:  # noqa: BLE001  coincurve raises bare Exception for a point that is not on the curve
        return None
    return address_of(key)


# --- requests


class Credentials:
    """API key, secret and passphrase of one signer. Its repr shows the key's beginning only."""

    __slots__ = ("_secret", "api_key", "passphrase")

    def __init__(self, *, api_key: str, secret: str, passphrase: str) -> None:
        self.api_key = api_key
        self.passphrase = passphrase
        try:
            self._secret = base64.urlsafe_b64decode(secret)
        except (binascii.Error, ValueError):
            raise Misconfigured("polymarket: the API secret is not url-safe base64") from None

    def __repr__(self) -> str:
        return f"Credentials(api_key={self.api_key[:8]}…)"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not pickled: they hold a secret")

    def signature(self, *, method: str, path: str, body: bytes, timestamp_s: int | str) -> str:
        """Return the HMAC of a request; the path without its query, the body exactly as it is sent."""
        text = f"{timestamp_s}{method}{path.partition('?')[0]}".encode() + body
        return base64.urlsafe_b64encode(hmac.digest(self._secret, text, sha256)).decode()

    def headers(self, *, address: str, method: str, path: str, body: bytes = b"", timestamp_s: int) -> dict[str, str]:
        """Return the headers of one private request; `address` is the signer the key is bound to."""
        return {
            "POLY_ADDRESS": address,
            "POLY_SIGNATURE": self.signature(method=method, path=path, body=body, timestamp_s=timestamp_s),
            "POLY_TIMESTAMP": str(timestamp_s),
            "POLY_API_KEY": self.api_key,
            "POLY_PASSPHRASE": self.passphrase,
        }

    def user_auth(self) -> dict[str, str]:
        """Return the `auth` object of the user socket, which carries the secret in the clear: never log it."""
        return {
            "apiKey": self.api_key,
            "secret": base64.urlsafe_b64encode(self._secret).decode(),
            "passphrase": self.passphrase,
        }

    def verify(self, *, method: str, path: str, body: bytes, timestamp_s: str, signature: str) -> bool:
        """Say whether `signature` is this key's over the request; for the simulated venue."""
        expected = self.signature(method=method, path=path, body=body, timestamp_s=timestamp_s)
        return hmac.compare_digest(expected.encode(), signature.encode())
