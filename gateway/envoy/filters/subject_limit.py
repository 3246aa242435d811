"""Limits each signed-in caller, method by method, as the contracts declare.

Where there is no subject the rule does not count, and needs not: on public routes the address limit holds, and a token
without a subject does not come this far.
"""

from typing import Any, Final

from gateway.envoy import buckets, names
from gateway.policy import PolicySet

_SUBJECT: Final = "subject"


def build(policies: PolicySet) -> Any:
    """The filter's config: one descriptor for each method limited by subject."""
    metadata_key = {"key": names.JWT, "path": [{"key": names.JWT_PAYLOAD}, {"key": "sub"}]}
    subject = {
        "metadata": {
            "descriptor_key": _SUBJECT,
            "metadata_key": metadata_key,
            "source": "DYNAMIC",
        }
    }
    descriptors = [
        buckets.descriptor(rpc.policy.rate_limit, {"key": _SUBJECT}, {"key": names.SUBJECT_CLASS, "value": rpc.name})
        for rpc in policies.rpcs
        if rpc.policy.rate_limit is not None and rpc.policy.rate_limit.key == "subject"
    ]
    return buckets.limiter(
        names.SUBJECT_LIMIT,
        rules=[[subject, buckets.class_action(names.SUBJECT_CLASS)]],
        descriptors=descriptors,
        # In one of the two limiters only: each would write its headers beside the other's.
        headers=True,
    )
