"""The HTTP filter chain: one tuple, in the order in which a request meets it, each link with its reason.

The order is the security of the gateway. There is no default slot: a filter that is not listed does not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.envoy import names
from gateway.envoy.filters import (
    address_limit,
    claims,
    cors,
    frame,
    grpc_web,
    header_strip,
    jwt,
    load_report,
    rbac,
    refusal,
    retry_throttle,
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


CHAIN: Final = (
    Link(
        names.HEADERS,
        header_strip.build,
        "first, so that no other filter can believe an identity that a client wrote itself",
    ),
    Link(
        names.REFUSAL,
        refusal.build,
        "before all that refuse: on the way out it is last, and nothing overwrites its details",
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
        names.FRAME,
        frame.build,
        "after grpc_web, which unpacks the frame, and the size limit; before what costs more, and what retries",
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
        names.CLAIMS,
        claims.build,
        "what jwt_authn leaves unchecked, before rbac and the limiter read the claims",
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
        names.RETRY_THROTTLE,
        retry_throttle.build,
        "after all that refuse, so that it sees what services answer, and nothing but calls that reach one",
    ),
    Link(
        names.LOAD_REPORT,
        load_report.build,
        "next to the router, which has read the reports: no other filter copies one into its answer",
    ),
    Link(
        names.ROUTER,
        router.build,
        "last, by definition",
    ),
)
