"""Says who calls, and refuses whom the contract does not let in.

Only the token in `authorization` counts; identity headers are never read. On a public method a valid token is
still read (a handler may want to know), and a bad one is ignored, so that an expired session can be renewed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.context import Principal
from svc.chassis.errors import PermissionDenied, Unauthenticated, Unavailable
from weft_protos import access_token


def _verify(call: Call, verifier: Verifier) -> Principal:
    values = call.metadata.get("authorization", ())
    if not any(access_token.SCHEME in value for value in values):
        # Another scheme is as good as nothing: the gateway cannot tell the two apart either.
        raise Unauthenticated("A token is required.", reason="TOKEN_MISSING")
    if len(values) > 1 or not values[0].startswith(access_token.SCHEME):
        raise Unauthenticated("The authorization header is not one bearer token.", reason="TOKEN_INVALID")
    return verifier.verify(values[0].removeprefix(access_token.SCHEME))


def build(method: Method, verifier: Verifier) -> Interceptor:
    """Read the access part of the method's policy."""
    scopes = method.scopes
    named = " ".join(sorted(scopes))

    @contextmanager
    def admit(call: Call) -> Iterator[None]:
        call.principal = _verify(call, verifier)
        if scopes.isdisjoint(call.principal.scopes):
            raise PermissionDenied(
                f"The token lacks a scope this method asks for: {named}.",
                reason="SCOPE_MISSING",
                metadata={"scopes": named},
            )
        yield

    @contextmanager
    def admit_anyone(call: Call) -> Iterator[None]:
        try:
            call.principal = _verify(call, verifier)
        except (Unauthenticated, Unavailable):
            call.principal = None
        yield

    return admit_anyone if method.public else admit
