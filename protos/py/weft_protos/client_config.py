"""What a gRPC client of the gateway should repeat, as the contracts say it: a service config for its channel.

    channel = grpc.insecure_channel("127.0.0.1:8080", options=client_config.options())
    OrderServiceStub(channel).PlaceOrder(request, timeout=10, metadata=...)

A call that is refused because of a limit or for want of time (RESOURCE_EXHAUSTED) has had no effect: it is sent again
when the pushback of the refusal says, so that a throttled client waits and succeeds within its deadline. What may have
had one (UNAVAILABLE, ABORTED) is sent again where the contract names a `retry`. Deadlines are the caller's own, for
each call: those of a service config end too early.
"""

import json
from typing import Final

from weft_protos import policy

#: gRPC allows no more.
ATTEMPTS_MAX: Final = 5
#: Pauses in seconds where a refusal names none.
PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 2.0
#: Each refused attempt takes a token, each answer gives one back; below half of them nothing is repeated (gRFC A6).
#: Not a tenth, as between services: to be refused once for each answer is how a client lives that is throttled.
TOKENS_MAX: Final = 100
TOKEN_RATIO: Final = 1.0

_REFUSED: Final = ("RESOURCE_EXHAUSTED",)
_FAILED: Final = (*_REFUSED, "UNAVAILABLE", "ABORTED")


def service_config() -> str:
    """The service config of a channel to the gateway, all services in one, as JSON (grpc/service_config.proto)."""
    plain = [{"service": service.full_name} for service in policy.SERVICES]
    retried = [
        {"service": service.full_name, "method": method.name}
        for service in policy.SERVICES
        for method in service.methods
        if policy.effective(method).HasField("retry")
    ]
    config = {
        "methodConfig": [
            {"name": plain, "retryPolicy": _retry_policy(_REFUSED)},
            {"name": retried, "retryPolicy": _retry_policy(_FAILED)},
        ],
        "retryThrottling": {"maxTokens": TOKENS_MAX, "tokenRatio": TOKEN_RATIO},
    }
    return json.dumps(config, separators=(",", ":"))


def options() -> tuple[tuple[str, str | int], ...]:
    """Options of the channel."""
    return (("grpc.enable_retries", 1), ("grpc.service_config", service_config()))


def _retry_policy(codes: tuple[str, ...]) -> dict[str, object]:
    return {
        "maxAttempts": ATTEMPTS_MAX,
        "initialBackoff": f"{PAUSE_FIRST_S}s",
        "maxBackoff": f"{PAUSE_MAX_S}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": list(codes),
    }
