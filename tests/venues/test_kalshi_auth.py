"""Requests are signed as Kalshi checks them; another implementation reads the signatures."""

import base64
import pickle

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa, pss
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa

from core.domain.errors import Misconfigured
from venues.kalshi import auth

KEY_ID = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c"
TIMESTAMP_MS = 1703123456789
PATH = "/trade-api/v2/portfolio/balance"


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey, *, old: bool = False) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL if old else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(signer: auth.Signer) -> bytes:
    return signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_the_signed_text_is_timestamp_method_and_path_without_query() -> None:
    text = auth.signed_text("get", f"{PATH}?subaccount=1&x=?", TIMESTAMP_MS)
    assert text == b"1703123456789GET/trade-api/v2/portfolio/balance"


@pytest.mark.parametrize("old", [False, True], ids=["pkcs8", "pkcs1"])
def test_an_rsa_key_signs_with_pss_sha256_and_a_salt_of_32(rsa_key: rsa.RSAPrivateKey, old: bool) -> None:
    signer = auth.Signer.from_pem(KEY_ID, pem(rsa_key, old=old))
    headers = signer.headers("GET", f"{PATH}?limit=10", TIMESTAMP_MS)
    assert headers["KALSHI-ACCESS-KEY"] == KEY_ID
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1703123456789"
    signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True)
    verifier = pss.new(RSA.import_key(public_pem(signer)), salt_bytes=32)
    verifier.verify(SHA256.new(b"1703123456789GET/trade-api/v2/portfolio/balance"), signature)


def test_an_ed25519_key_signs_the_text_itself(ed25519_key: ed25519.Ed25519PrivateKey) -> None:
    signer = auth.Signer.from_pem(KEY_ID, pem(ed25519_key).decode())
    headers = signer.headers("post", "/trade-api/v2/portfolio/events/orders", TIMESTAMP_MS)
    signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True)
    verifier = eddsa.new(ECC.import_key(public_pem(signer)), "rfc8032")
    verifier.verify(b"1703123456789POST/trade-api/v2/portfolio/events/orders", signature)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_verify_accepts_the_request_and_nothing_else(
    kind: str, rsa_key: rsa.RSAPrivateKey, ed25519_key: ed25519.Ed25519PrivateKey
) -> None:
    signer = auth.Signer(KEY_ID, rsa_key if kind == "rsa" else ed25519_key)
    signature = signer.headers("GET", "/trade-api/ws/v2", TIMESTAMP_MS)["KALSHI-ACCESS-SIGNATURE"]
    public = auth.load_public_key(public_pem(signer))

    def accepts(
        method: str = "GET", path: str = "/trade-api/ws/v2", ts: str = "1703123456789", sig: str = signature
    ) -> bool:
        return auth.verify(public, method=method, path=path, timestamp_ms=ts, signature=sig)

    assert accepts()
    assert accepts(path="/trade-api/ws/v2?a=1")
    assert not accepts(method="POST")
    assert not accepts(path="/trade-api/v2/orders")
    assert not accepts(ts="1703123456790")
    assert not accepts(sig="not base64!")
    assert not accepts(sig="")
    assert not accepts(sig=base64.b64encode(bytes(64)).decode())


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "no key"])
def test_an_unreadable_key_is_refused_without_being_repeated(text: bytes | str) -> None:
    with pytest.raises(Misconfigured, match="not a readable PEM private key") as caught:
        auth.Signer.from_pem(KEY_ID, text)
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_another_kind_of_key_is_refused() -> None:
    with pytest.raises(Misconfigured, match="expected an RSA or Ed25519 key"):
        auth.Signer.from_pem(KEY_ID, pem(dsa.generate_private_key(1024)))
    with pytest.raises(Misconfigured, match="the key id is empty"):
        auth.Signer.from_pem("", b"")


def test_a_signer_shows_and_pickles_no_secret(ed25519_key: ed25519.Ed25519PrivateKey) -> None:
    signer = auth.Signer(KEY_ID, ed25519_key)
    assert repr(signer) == "Signer(key_id=a952bcbe…)"
    with pytest.raises(TypeError, match="private key"):
        pickle.dumps(signer)
