"""Certificates of the edge as values: an authority for this machine, what it signs, and what is wrong with a pair.

The authority can sign for no name but `localhost`: its certificate carries a constraint (RFC 5280, section 4.2.1.10),
so whoever trusts it trusts nobody's `example.com`, not even when its key is stolen. Addresses it cannot be kept to:
BoringSSL, and with it every gRPC client, refuses a constraint of that kind.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_VALID = timedelta(days=3650)
VALID = timedelta(days=30)
RENEW_BEFORE = timedelta(days=10)
"""A certificate is signed anew so long before it ends."""
RSA_BITS_MIN = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
CLOCK_SKEW = timedelta(minutes=5)
LOCAL = (x509.DNSName("localhost"),)
"""The names that an authority may sign for."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a certificate is for."""

    common: str
    """Its owner, as it is shown to people, and as CockroachDB tells users by."""
    serves: bool = True
    calls: bool = False
    valid: timedelta = VALID
    uri: str = ""
    """What it is known by inside of the mesh; empty: by nothing."""

    def usages(self) -> list[x509.ObjectIdentifier]:
        """Of RFC 5280, section 4.2.1.12."""
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        return [*([server] if self.serves else []), *([client] if self.calls else [])]


EDGE = Role("Weft gateway on this machine")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Pair(certificate=..., key=...)"

    def issue(
        self, names: Sequence[str], addresses: Sequence[str], *, now: datetime | None = None, role: Role = EDGE
    ) -> "Pair":
        """A certificate with a P-256 key, signed by this authority; a server's, unless `role` says otherwise."""
        issuer = _leaf(self)
        signer = serialization.load_pem_private_key(self.key.encode(), password=None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        # The URI first: it is what others are told.
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(role.uri)] if role.uri else []
        alternatives.extend(x509.DNSName(name) for name in names)
        alternatives.extend(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)
        builder = (
            _builder(_name(role.common), issuer.subject, key, (now or datetime.now(UTC), role.valid))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(role.usages()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _pair(builder.sign(signer, hashes.SHA256()), key)


def read(shown: Path, key: Path) -> Pair:
    """The pair in two files; empty where one of them is missing. Raises OSError."""
    try:
        return Pair(decoded(shown.read_bytes()), decoded(key.read_bytes()))
    except FileNotFoundError:
        return Pair("", "")


def decoded(content: bytes) -> str:
    """The text of a PEM file, of which ASCII alone counts; what else is in it is a remark."""
    return content.decode("ascii", errors="replace").replace("\ufffd", "?")


def make_authority(*, now: datetime | None = None, names: Sequence[x509.DNSName] = LOCAL) -> Pair:
    """A new authority, for this machine alone unless other `names` are given; for any, where there are none."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: trust stores confuse authorities of one name.
    subject = _name(f"Weft on this machine {secrets.token_hex(4)}")
    builder = (
        _builder(subject, subject, key, (now or datetime.now(UTC), AUTHORITY_VALID))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNING, critical=True)
    )
    if names:
        constraint = x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None)
        builder = builder.add_extension(constraint, critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def fault(pair: Pair, *, now: datetime) -> str:
    """Why a pair cannot be shown to clients, in words that follow its name; empty where it can."""
    try:
        leaf = _leaf(pair)
    except ValueError:
        return "holds no PEM certificate"
    try:
        private = serialization.load_pem_private_key(pair.key.encode(), password=None)
    except (ValueError, TypeError):
        return "comes with something else than an unencrypted PEM key"
    encoding, shape = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(encoding, shape) != private.public_key().public_bytes(encoding, shape):
        return "does not belong to its key"
    if not _known(leaf.public_key()):
        return "has a key that gateways cannot use (they take P-256, P-384, P-521, and RSA from 2048 bits)"
    if leaf.not_valid_after_utc <= now:
        return f"expired at {leaf.not_valid_after_utc:{_MINUTE}}"
    if leaf.not_valid_before_utc > now:
        return f"is not valid before {leaf.not_valid_before_utc:{_MINUTE}}"
    return ""


def lasts(pair: Pair, span: timedelta, *, now: datetime) -> bool:
    """Whether a pair is whole and its certificate good for longer than `span`."""
    return fault(pair, now=now) == "" and expires(pair) - now > span


def signed_by(pair: Pair, authority: Pair) -> bool:
    """Whether a certificate was signed by an authority."""
    try:
        _leaf(pair).verify_directly_issued_by(_leaf(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def expires(pair: Pair) -> datetime:
    """When its certificate ends."""
    return _leaf(pair).not_valid_after_utc


def serial(pair: Pair) -> int:
    """The number its issuer gave it."""
    return _leaf(pair).serial_number


def names(pair: Pair) -> tuple[str, ...]:
    """The DNS names of its certificate, in lower case."""
    alternatives = _alternatives(pair)
    return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName)) if alternatives else ()


def uris(pair: Pair) -> tuple[str, ...]:
    """The URIs of its certificate."""
    alternatives = _alternatives(pair)
    return tuple(alternatives.get_values_for_type(x509.UniformResourceIdentifier)) if alternatives else ()


def _alternatives(pair: Pair) -> x509.SubjectAlternativeName | None:
    try:
        return _leaf(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _leaf(pair: Pair) -> x509.Certificate:
    """The first certificate of a chain, which is the server's. Raises ValueError."""
    return x509.load_pem_x509_certificates(pair.certificate.encode())[0]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: tuple[datetime, timedelta]
) -> x509.CertificateBuilder:
    begin, span = valid
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - CLOCK_SKEW)
        .not_valid_after(begin + span)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _known(key: object) -> bool:
    """Whether Envoy takes a server's key of this kind."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= RSA_BITS_MIN
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pair(signed: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    encoding, shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Pair(
        certificate=signed.public_bytes(encoding).decode(),
        key=key.private_bytes(encoding, shape, serialization.NoEncryption()).decode(),
    )


_MINUTE = "%Y-%m-%d %H:%M UTC"
_SIGNING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
