"""A self-signed certificate for the gateways' TLS port on this machine; clients trust it by its file."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = timedelta(days=825)
"""The longest that platforms accept for a server's certificate."""
RENEW_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Made:
    """A fresh pair, PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Made(certificate=..., key=...)"


def make(names: Sequence[str], addresses: Sequence[str], *, now: datetime | None = None) -> Made:
    """A certificate for these names and addresses, with its P-256 key."""
    begin = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Weft gateway on this machine")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives.extend(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(minutes=5))
        .not_valid_after(begin + VALID)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Made(
        certificate=signed.public_bytes(serialization.Encoding.PEM).decode(),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def usable(certificate: bytes, key: bytes, *, now: datetime | None = None) -> bool:
    """Whether the two belong together and the certificate stays valid for a while."""
    try:
        signed = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, password=None)
    except ValueError:
        return False
    if signed.not_valid_after_utc - (now or datetime.now(UTC)) < RENEW_BEFORE:
        return False
    encoding, shape = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return signed.public_key().public_bytes(encoding, shape) == private.public_key().public_bytes(encoding, shape)
