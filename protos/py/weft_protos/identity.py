"""Who a part of the mesh is: the names in its certificate, and the files that a process finds it in.

An identity is a kind and a name, `service` and `orders`, and belongs to all instances of a part. It is written in two
ways: as a URI of the form that SPIFFE gives workloads (SPIFFE-ID, section 2), by which callers are known, and as a DNS
name, which is what a client that connects to a bare address asks a server for.
"""

import re
from dataclasses import dataclass
from typing import Final

#: Of SPIFFE's identities, the part that says whose they are; of DNS names, the end, under which nothing is registered.
TRUST_DOMAIN: Final = "weft"
#: By which name a client's xDS bootstrap and its clusters mean the certificate of the process itself (gRFC A29).
PROVIDER: Final = "workload"

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
AUTHORITY: Final = "ca.crt"
FILES: Final = (CERTIFICATE, KEY, AUTHORITY)
"""What lies in the directory of an identity; the names that Kubernetes gives them."""

_URI: Final = re.compile(rf"spiffe://{TRUST_DOMAIN}/([a-z][a-z-]{{0,62}})/([a-z][a-z0-9-]{{0,62}})")


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One part of the mesh."""

    kind: str
    """As `weft status` says it, and `supervisor`, which it does not say."""
    name: str
    """`orders`"""

    @property
    def uri(self) -> str:
        """`spiffe://weft/service/orders`"""
        return f"spiffe://{TRUST_DOMAIN}/{self.kind}/{self.name}"

    @property
    def dns(self) -> str:
        """`orders.service.weft`"""
        return f"{self.name}.{self.kind}.{TRUST_DOMAIN}"

    def __str__(self) -> str:
        """`service-orders`: of files and objects that are its own."""
        return f"{self.kind}-{self.name}"


def of_uri(text: str) -> Identity | None:
    """The identity that a URI stands for; None where it is none of this mesh."""
    found = _URI.fullmatch(text)
    return Identity(*found.groups()) if found else None


def service(name: str) -> Identity:
    """Of a service's instances, in whatever lane they are."""
    return Identity("service", name)


GATEWAY: Final = Identity("gateway", "gateway")
CONTROL_PLANE: Final = Identity("control-plane", "control-plane")
SUPERVISOR: Final = Identity("supervisor", "supervisor")
