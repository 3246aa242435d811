"""Token buckets, as both rate limiters configure them.

A declared limit is the ceiling of the whole fleet: Envoy divides each bucket by the number of gateways in the cluster
`edge`. Buckets live in the filters' own configs, never in routes, because a change of routes would refill them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.envoy import names
from gateway.policy import RateLimit
from weft_protos.xds import envoy

#: Callers that have a bucket of their own at one time. Beyond it the longest unused one is refilled: 1 kB each.
CALLERS_MAX: Final = 20_000

_ALWAYS: Final = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def descriptor(limit: RateLimit, *entries: Mapping[str, str]) -> dict[str, Any]:
    """One bucket for each value of the entries that state none. No two descriptors may match the same entries."""
    bucket = {"max_tokens": limit.burst, "tokens_per_fill": limit.requests, "fill_interval": limit.per}
    return {"entries": list(entries), "token_bucket": bucket}


def class_action(key: str) -> dict[str, Any]:
    """Reads the limit's class from the route; a route without one is not limited by the whole rule.

    `skip_if_absent` would leave out this entry only, and the rest of the rule would be counted as another one's.
    """
    path = [{"key": key}]
    metadata_key = {"key": names.LIMIT_METADATA, "path": path}
    return {
        "metadata": {
            "descriptor_key": key,
            "metadata_key": metadata_key,
            "source": "ROUTE_ENTRY",
        }
    }


def limiter(
    name: str, *, rules: Sequence[Sequence[Mapping[str, Any]]], descriptors: Sequence[Any], headers: bool
) -> Any:
    """A local_ratelimit filter: each rule is a list of actions, and every rule is enforced.

    There is no default bucket, so a request that no descriptor matches is not limited.
    """
    return envoy(
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=name,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        max_dynamic_descriptors=CALLERS_MAX,
        rate_limits=[{"actions": list(actions)} for actions in rules],
        descriptors=list(descriptors),
        local_cluster_rate_limit={},
        # UNAVAILABLE, the default, is what clients repeat at once.
        rate_limited_as_resource_exhausted=True,
        enable_x_ratelimit_headers="DRAFT_VERSION_03" if headers else None,
        response_headers_to_add=[
            {
                "header": {"key": names.REASON, "value": name},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    )
