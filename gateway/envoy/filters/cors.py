"""Lets pages from this machine call the gateway; browsers refuse all others."""

from typing import Any, Final

from gateway.policy import PolicySet
from weft_protos.xds import envoy

#: The console's and a developer's own pages. Another origin gets no allow header.
ORIGINS: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
REQUEST_HEADERS: Final = (
    "authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent,traceparent,tracestate,x-weft-client"
)
#: What a page may read; without these a browser hides code, details and the time to wait.
RESPONSE_HEADERS: Final = (
    "grpc-status,grpc-message,grpc-status-details-bin,grpc-retry-pushback-ms,retry-after,"
    "x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset,x-trace-id"
)
PREFLIGHT_AGE_S: Final = "3600"


def build(_: PolicySet) -> Any:
    """The filter's config; the policy stands on the virtual host."""
    return envoy("extensions.filters.http.cors.v3.Cors")


def for_virtual_host() -> Any:
    """The policy of every route."""
    return envoy(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"safe_regex": {"regex": ORIGINS}}],
        allow_methods="GET,POST,PUT,PATCH,DELETE,OPTIONS",
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
        max_age=PREFLIGHT_AGE_S,
        allow_credentials=False,
    )
