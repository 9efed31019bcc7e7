"""An authority of a test's own, and the certificates it signs."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs for names and addresses; `pem` is what others believe it by."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.pem = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, address: str = "") -> tuple[bytes, bytes]:
        """Return a private key and its certificate as PEM; `address` is where a server of that name stands."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._builder(subject, key).add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            built = built.add_extension(names, critical=False)
        certificate = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return key.private_bytes(encoding, form, serialization.NoEncryption()), certificate

    def give(self, folder: Path, name: str) -> None:
        """Put into a folder what a client needs: `ca.pem`, `client.pem`, `client.key`."""
        key, certificate = self.issue(name)
        (folder / "ca.pem").write_bytes(self.pem)
        (folder / "client.pem").write_bytes(certificate)
        (folder / "client.key").write_bytes(key)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )


def settings(folder: Path) -> dict[str, str]:
    """Return the environment of a client whose files stand in a folder."""
    return {
        "CROSSBOOK_KAFKA_SECURITY": "SSL",
        "CROSSBOOK_KAFKA_CA_FILE": str(folder / "ca.pem"),
        "CROSSBOOK_KAFKA_CERTIFICATE_FILE": str(folder / "client.pem"),
        "CROSSBOOK_KAFKA_KEY_FILE": str(folder / "client.key"),
    }
