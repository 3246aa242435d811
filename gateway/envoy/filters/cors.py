"""Lets the pages call that the contract names; browsers refuse all others."""

import re
from typing import Any, Final

from gateway.policy import PolicySet
from weft_protos import lanes, read_token
from weft_protos.xds import envoy

_ANY_PORT: Final = ":*"
REQUEST_HEADERS: Final = (
    "authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent,traceparent,tracestate,x-weft-client,"
    f"{lanes.ASKED},{read_token.HEADER}"
)
#: What a page may read; without these a browser hides code, details and the time to wait.
RESPONSE_HEADERS: Final = (
    "grpc-status,grpc-message,grpc-status-details-bin,grpc-retry-pushback-ms,retry-after,"
    "x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset,x-trace-id,"
    f"{read_token.HEADER}"
)


def build(_: PolicySet) -> Any:
    """The filter's config; the policy stands on the virtual host."""
    return envoy("extensions.filters.http.cors.v3.Cors")


def for_virtual_host(policies: PolicySet) -> Any:
    """The policy of every route."""
    edge = policies.edge
    max_age = None if edge is None or edge.max_age is None else str(int(edge.max_age.total_seconds()))
    return envoy(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[_matching(origin) for origin in (edge.origins if edge is not None else ())],
        allow_methods="GET,POST,PUT,PATCH,DELETE,OPTIONS",
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
        max_age=max_age,
        allow_credentials=False,
    )


def _matching(origin: str) -> dict[str, Any]:
    """Exactly the origin, or that host at any port."""
    if not origin.endswith(_ANY_PORT):
        return {"exact": origin}
    return {"safe_regex": {"regex": rf"{re.escape(origin.removesuffix(_ANY_PORT))}(:[0-9]{{1,5}})?"}}
