"""The gateways' certificate on disk: made and signed here, or copied from the files that the user named.

ca.crt                     what clients trust; readable by everybody. Its key is secrets/ca.key
secrets/edge-tls/tls.crt   -> current/tls.crt, what Envoy is told of
secrets/edge-tls/tls.key   -> current/tls.key
secrets/edge-tls/current   -> the directory of one pair; turned by one rename, which Envoy watches for (`turning.py`)

A pair that does not fit never gets there.
"""

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import Layout
from deploy.supervisor.probe import HOST
from deploy.supervisor.turning import turn

NAMES = ("localhost",)
ADDRESSES = (HOST, "::1")
BYTES_MAX = 1 << 20
"""More than any chain of certificates."""
OLD = ("edge-tls.crt", "edge-tls.key")
"""The self-signed pair of meshes made before there was an authority."""


@dataclass(frozen=True, slots=True)
class Given:
    """A certificate of the user's own, by its files; they stay the user's to renew."""

    certificate: Path
    key: Path

    def read(self, *, now: datetime) -> Pair:
        """Both files. Raises ConfigError where they cannot be shown to clients."""
        variable = f"WEFT_TLS_CERT={self.certificate}"
        pair = Pair(_text(self.certificate, variable), _text(self.key, f"WEFT_TLS_KEY={self.key}", private=True))
        if reason := certificate.fault(pair, now=now):
            raise ConfigError(f"{variable} {reason}; name a certificate that is valid now, and its key in WEFT_TLS_KEY")
        return pair


class EdgeCertificate:
    """The certificate of one mesh."""

    def __init__(self, layout: Layout, given: Given | None) -> None:
        self._layout = layout
        self._given = given
        self._folder = layout.edge_tls

    @property
    def certificate(self) -> Path:
        """What Envoy shows, PEM: the server's certificate first."""
        return self._folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Its key."""
        return self._folder / "tls.key"

    def names(self) -> tuple[str, ...]:
        """The names that clients may ask for."""
        return NAMES if self._given is None else certificate.names(self._current())

    def expires(self) -> datetime:
        """When it ends."""
        return certificate.expires(self._current())

    def ensure(self, *, now: datetime, anew: bool = False) -> bool:
        """Have a good pair in place; whether that changed anything. `anew`: sign another one although there is one.

        Raises ConfigError where the user's files are not good; then the pair in place stays.
        """
        current = self._current()
        if self._given is not None:
            wanted = self._given.read(now=now)
            if wanted == current:
                return False
        else:
            authority = self._authority(now)
            good = certificate.lasts(current, certificate.RENEW_BEFORE, now=now)
            if good and certificate.signed_by(current, authority) and not anew:
                return False
            wanted = authority.issue(NAMES, ADDRESSES, now=now)
        self._install(wanted)
        return True

    def _current(self) -> Pair:
        return certificate.read(self.certificate, self.key)

    def _authority(self, now: datetime) -> Pair:
        shown, key = self._layout.authority, self._layout.secrets / "ca.key"
        kept = certificate.read(shown, key)
        if certificate.lasts(kept, certificate.VALID, now=now):
            return kept
        made = certificate.make_authority(now=now)
        self._layout.write(key, made.key, None)
        self._layout.write(shown, made.certificate, None).chmod(0o644)
        return made

    def _install(self, pair: Pair) -> None:
        contents = {"tls.key": pair.key, "tls.crt": pair.certificate}
        turn(self._layout, self._folder, f"{certificate.serial(pair):x}", contents)
        for name in OLD:
            (self._layout.secrets / name).unlink(missing_ok=True)


def _text(path: Path, variable: str, *, private: bool = False) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{variable} cannot be read: {error.strerror}; name a PEM file") from error
    if private and mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"{variable} can be read or changed by others; run: chmod 600 {path}")
    if len(content) > BYTES_MAX:
        raise ConfigError(f"{variable} is larger than {BYTES_MAX} bytes; name a PEM file")
    return certificate.decoded(content)
