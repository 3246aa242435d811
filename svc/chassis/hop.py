"""How calls reach a server: in clear, or from who has shown a certificate of the mesh."""

from collections.abc import Sequence

import grpc

from lb.credentials import CONNECTION_AGE_MS, Credentials
from svc.chassis.config import Address


def options(credentials: Credentials | None) -> Sequence[tuple[str, int]]:
    """What a server of encrypted hops has to be made with."""
    return () if credentials is None else (("grpc.max_connection_age_ms", CONNECTION_AGE_MS),)


def listen(server: grpc.Server, address: Address, credentials: Credentials | None) -> int:
    """Take the port and return it. Raises RuntimeError where another process has it."""
    if credentials is None:
        return server.add_insecure_port(str(address))
    return server.add_secure_port(str(address), credentials.server())


def shown(context: grpc.ServicerContext) -> str:
    """The URI of the certificate that the caller has shown; empty where it has none."""
    for one in context.peer_identities() or ():
        if one.startswith(b"spiffe:"):
            return one.decode(errors="replace")
    return ""
