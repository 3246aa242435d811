"""Certificates of the mesh's own parts: by these they know each other where hops are encrypted (`WEFT_MTLS`).

secrets/workload-ca.key, identities/ca.crt    an authority for these and nothing else
identities/service-orders/tls.crt, .key, ca.crt    one part's; all of its instances share it (`turning.py`)

They are short-lived, and replaced when half of their time has passed: whatever becomes of one, and of the supervisor
for half a day, is over by itself. Whoever uses one sees that it was replaced, and nothing has to be started again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair, Role
from deploy.supervisor.layout import Layout
from deploy.supervisor.probe import HOST
from deploy.supervisor.turning import turn
from weft_protos import identity
from weft_protos.identity import Identity

VALID: Final = timedelta(hours=24)
RENEW_BEFORE: Final = VALID / 2
"""A certificate is signed anew so long before it ends."""
AUTHORITY_RENEWED_BEFORE: Final = timedelta(days=30)
ADDRESSES: Final = (HOST,)
"""Where all of them listen; control planes are called by address."""


class WorkloadCertificates:
    """Those of one mesh. Made without touching the disk."""

    def __init__(self, layout: Layout, parts: Sequence[Identity]) -> None:
        """`parts`: all that the mesh may have, whether it has any instance of them now or not."""
        self._layout = layout
        self.parts = tuple(sorted(parts))

    @property
    def authority(self) -> Path:
        """The certificate that signs all of them."""
        return self._layout.identities / "ca.crt"

    def folder(self, part: Identity) -> Path:
        """What a process of a part is told of."""
        return self._layout.identities / str(part)

    def pair(self, part: Identity) -> Pair:
        """What lies there now; empty where nothing does."""
        folder = self.folder(part)
        return certificate.read(folder / identity.CERTIFICATE, folder / identity.KEY)

    def expires(self) -> datetime:
        """When the first of them ends."""
        return min(certificate.expires(self.pair(part)) for part in self.parts)

    def ensure(self, *, now: datetime, anew: bool = False) -> tuple[Identity, ...]:
        """Have a good one for each part; whose have changed. `anew`: sign others although all are good."""
        self._layout.identities.mkdir(mode=0o700, exist_ok=True)
        authority = self._authority(now)
        changed = []
        for part in self.parts:
            if not anew and self._is_good(part, authority, now):
                continue
            role = Role(f"Weft {part.kind} {part.name}", calls=True, valid=VALID, uri=part.uri)
            pair = authority.issue((part.dns,), ADDRESSES, now=now, role=role)
            contents = {
                identity.KEY: pair.key,
                identity.CERTIFICATE: pair.certificate,
                identity.AUTHORITY: authority.certificate,
            }
            turn(self._layout, self.folder(part), f"{certificate.serial(pair):x}", contents)
            changed.append(part)
        return tuple(changed)

    def _is_good(self, part: Identity, authority: Pair, now: datetime) -> bool:
        current = self.pair(part)
        return (
            certificate.lasts(current, RENEW_BEFORE, now=now)
            and certificate.signed_by(current, authority)
            and certificate.uris(current) == (part.uri,)
        )

    def _authority(self, now: datetime) -> Pair:
        key = self._layout.secrets / "workload-ca.key"
        kept = certificate.read(self.authority, key)
        if certificate.lasts(kept, AUTHORITY_RENEWED_BEFORE, now=now):
            return kept
        made = certificate.make_authority(now=now, names=(x509.DNSName(identity.TRUST_DOMAIN),))
        self._layout.write(key, made.key, None)
        self._layout.write(self.authority, made.certificate, None)
        return made
