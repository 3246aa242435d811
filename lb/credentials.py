"""What a process of the mesh shows of itself, and takes of others, where its hops are encrypted both ways.

A directory holds the certificate, its key and the authority that signs all of them; whoever renews it replaces them
together. Nothing is kept of it but what a handshake needs, so what is renewed counts from the next handshake on, and
connections that are open stay what they are.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from prometheus_client import Gauge

from lb.errors import SettingsError
from weft_protos.identity import AUTHORITY, CERTIFICATE, FILES, KEY, Identity

#: Labelled, so that a process without an identity says nothing of one.
EXPIRES: Final = Gauge(
    "weft_identity_expires_seconds", "When the certificate of this process ends, in Unix time.", ["part"]
)

log = structlog.get_logger(__name__)

#: A server asks its clients to connect anew so often: then both show what has been renewed meanwhile.
CONNECTION_AGE_MS: Final = 3_600_000

_Mark = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Pem:
    certificate: bytes
    key: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "_Pem(...)"


class Credentials:
    """The certificate of this process. Thread-safe."""

    def __init__(self, folder: Path, *, named: str = "WEFT_IDENTITY") -> None:
        """Raises SettingsError where there is no whole certificate. `named`: by what the directory was given."""
        self.folder = folder
        self._lock = threading.Lock()
        try:
            self._mark = self._seen()
            self._pem = self._read()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{named}: {_said(error)}; {folder} must hold {', '.join(FILES)}") from error

    def server(self) -> grpc.ServerCredentials:
        """For a server that takes calls of the mesh's own parts alone, and shows each the newest certificate."""
        told = self.mark()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            if (mark := self.mark()) == told:
                return None
            told = mark
            return self._configuration()

        # None is what gRPC takes for unchanged; its types do not say so.
        asked = cast(Callable[[], grpc.ServerCertificateConfiguration], fetch)
        return grpc.dynamic_ssl_server_credentials(self._configuration(), asked, require_client_authentication=True)

    def client(self) -> grpc.ChannelCredentials:
        """For a channel to an address, with the certificate of now: to be replaced when `mark` is another one."""
        pem = self._newest()
        return grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)

    def xds(self) -> grpc.ChannelCredentials:
        """For an `xds:///` channel: whatever the control plane says, it never speaks in clear."""
        return grpc.xds_channel_credentials(self.client())

    def mark(self) -> object:
        """Another one as soon as a whole certificate has replaced the one before."""
        self._newest()
        return self._mark

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pem = self._newest()
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.authority)

    def _newest(self) -> _Pem:
        with self._lock:
            try:
                mark = self._seen()
                if mark != self._mark:
                    self._pem = self._read()
                    self._mark = mark
            except (OSError, ValueError) as error:
                # Half of it is there, or nothing: the one before is good for as long as it is.
                log.warning("identity_unreadable", folder=str(self.folder), reason=_said(error))
            return self._pem

    def _place(self) -> Path:
        """Where the files lie themselves: links of a directory are turned together, and not between two reads."""
        return (self.folder / CERTIFICATE).resolve(strict=True).parent

    def _seen(self) -> _Mark:
        place = self._place()
        status = [(place / name).stat() for name in FILES]
        return tuple((str(place), one.st_mtime_ns, one.st_ino) for one in status)

    def _read(self) -> _Pem:
        place = self._place()
        pem = _Pem(*((place / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITY)))
        encoding, shape = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        certificate = x509.load_pem_x509_certificate(pem.certificate)
        shown = certificate.public_key()
        own = serialization.load_pem_private_key(pem.key, password=None).public_key()
        if shown.public_bytes(encoding, shape) != own.public_bytes(encoding, shape):
            raise ValueError(f"{CERTIFICATE} does not belong to {KEY}")
        try:
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound as error:
            raise ValueError(f"{CERTIFICATE} names no part of the mesh") from error
        for part in alternatives.get_values_for_type(x509.UniformResourceIdentifier):
            EXPIRES.labels(part=part).set(certificate.not_valid_after_utc.timestamp())
        return pem


def asks_for(identity: Identity) -> tuple[str, str]:
    """Option of a channel to an address: which part has to answer there."""
    return "grpc.ssl_target_name_override", identity.dns


def _said(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
