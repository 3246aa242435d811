"""The HTTP filter chain: one tuple, in the order in which a request meets it, each link with its reason.

The order is the security of the gateway. There is no default slot: a filter that is not listed does not exist. Before
the first of them the connection manager has taken off what a client says of itself (`header_strip`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.envoy import answers, names
from gateway.envoy.filters import (
    address_limit,
    cors,
    grpc_web,
    guard,
    header_strip,
    jwt,
    lane,
    rbac,
    refusal,
    router,
    size,
    strict_json,
    subject_limit,
    transcoder,
)
from gateway.policy import PolicySet


@dataclass(frozen=True, slots=True)
class Link:
    """One filter of the chain."""

    name: str
    build: Callable[[PolicySet], Any]
    reason: str
    """Why it stands where it stands."""
    discovered: bool = False
    """Delivered by ECDS: changes with the contracts or the keys, and must not drain connections or refill buckets."""
    seen: Callable[[], Sequence[answers.Predicate]] | None = None
    """Which answers are shown to it; None: all."""
    off: bool = False
    """Does nothing, and costs nothing, where no route turns it on."""


CHAIN: Final = (
    Link(
        names.REFUSAL,
        refusal.build,
        "before all that refuse: on the way out it sees every answer, and nothing overwrites its details",
        seen=refusal.seen,
    ),
    Link(
        names.CORS,
        cors.build,
        "answers preflights, which carry no token, before anything asks for one",
    ),
    Link(
        names.GRPC_WEB,
        grpc_web.build,
        "before every filter that refuses, or a browser gets the refusal as text/plain",
    ),
    Link(
        names.HEADERS,
        header_strip.build,
        "before all that read a client's trailers, or headers that its route does not take; behind grpc_web, "
        "which puts an answer's trailers into its body",
    ),
    Link(
        names.ADDRESS_LIMIT,
        address_limit.build,
        "before the signature check, the dearest filter of all, so that forged tokens cost their sender most",
        discovered=True,
    ),
    Link(
        names.SIZE,
        size.build,
        "before anything keeps or parses the body, so that what comes next has a bounded one",
    ),
    Link(
        names.STRICT_JSON,
        strict_json.build,
        "before the transcoder, which drops what it does not know; after the limits, which cost less than a check",
        discovered=True,
    ),
    Link(
        names.TRANSCODER,
        transcoder.build,
        "before all access control: it turns the JSON path into the method's, and rules hold for methods",
        discovered=True,
    ),
    Link(
        names.JWT,
        jwt.build,
        "who is calling; before everything that decides by it",
        discovered=True,
    ),
    Link(
        names.GUARD,
        guard.build,
        "claims that jwt_authn leaves unchecked, before rbac and the limiter read them; frames that grpc_web unpacked",
        seen=guard.seen,
    ),
    Link(
        names.RBAC,
        rbac.build,
        "may they; denies what no route allows",
    ),
    Link(
        names.SUBJECT_LIMIT,
        subject_limit.build,
        "after rbac, so that refused calls do not use up the caller's bucket",
        discovered=True,
    ),
    Link(
        names.LANE,
        lane.build,
        "after all that refuse or read the token: only what will be sent is given a lane, and then another route",
        off=True,
    ),
    Link(
        names.ROUTER,
        router.build,
        "last, by definition",
    ),
)
