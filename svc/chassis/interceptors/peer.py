"""Says which part of the mesh made the hop, where hops are encrypted, and refuses whom no contract lets call.

The handshake has refused everybody whose certificate another authority signed. Which of its own parts may call a
service is decided here: gateways and other services. Workers, control planes and the supervisor have nothing to ask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.errors import PermissionDenied
from weft_protos import identity
from weft_protos.identity import Identity

CALLERS: Final = frozenset({"gateway", "service"})

_of_uri = lru_cache(maxsize=256)(identity.of_uri)


def _admitted(uri: str) -> Identity:
    found = _of_uri(uri)
    if found is None or found.kind not in CALLERS:
        raise PermissionDenied(
            "The caller's certificate is of no part of the mesh that calls services.",
            reason="CALLER_UNKNOWN",
            metadata={"caller": uri},
        )
    return found


def build(_method: Method, _verifier: Verifier) -> Interceptor:
    """The same for every method."""

    @contextmanager
    def admit(call: Call) -> Iterator[None]:
        if call.shown is not None:
            call.peer = _admitted(call.shown)
        yield

    return admit
