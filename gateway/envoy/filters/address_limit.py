"""Limits each client address before its token is checked: the guard of the gateway itself, and public methods.

An IPv6 client owns at least a /64, so that is what counts as one address.
"""

from typing import Any, Final

from gateway.envoy import buckets, names
from gateway.policy import PolicySet

_ADDRESS: Final = "masked_remote_address"


def build(policies: PolicySet) -> Any:
    """The filter's config: the guard, and one descriptor for each method limited by address."""
    address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
    guard = policies.edge.address_limit if policies.edge is not None else None
    descriptors = [buckets.descriptor(guard, {"key": _ADDRESS})] if guard is not None else []
    for rpc in policies.rpcs:
        limit = rpc.policy.rate_limit
        if limit is not None and limit.key == "address":
            own = {"key": names.ADDRESS_CLASS, "value": rpc.name}
            descriptors.append(buckets.descriptor(limit, own, {"key": _ADDRESS}))
    return buckets.limiter(
        names.ADDRESS_LIMIT,
        rules=[[address], [buckets.class_action(names.ADDRESS_CLASS), address]],
        descriptors=descriptors,
        headers=False,
    )
