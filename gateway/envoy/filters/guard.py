"""The scripts that look at every call between the check of its token and that of its scopes, in one filter.

Envoy makes a coroutine and handles of its own for each filter with a script, on the way in and on the way out, and each
of these costs a call as much as the check of its token. So this is the one script of a call that goes well: on the way
in. Answers are shown to it that it learns from.
"""

from typing import Any

from gateway.envoy import answers, names
from gateway.envoy.script import lua
from gateway.envoy.scripts import checks, claims, frame, overload, retry_throttle
from gateway.policy import PolicySet, Rpc


def build(_: PolicySet) -> Any:
    """The filter's config."""
    modules = (checks.MODULE, claims.MODULE, frame.MODULE, retry_throttle.MODULE, overload.MODULE)
    constants: dict[str, str | int] = {"WHY": names.WHY, "ATTEMPTS": names.ATTEMPTS}
    return lua(names.GUARD, script="guard.lua", constants=constants, modules=modules)


def seen() -> list[answers.Predicate]:
    """Which answers are shown to it: failed, refused and hedged ones, and while retries recover all that count."""
    return [
        answers.having(":status", "429|503"),
        answers.having("grpc-status", "8|14"),
        answers.having(names.ATTEMPTS, "[2-9]|[1-9][0-9]+"),
        answers.of_calls(names.COUNTED),
    ]


def for_route(rpc: Rpc) -> dict[str, str | float]:
    """Route metadata: what is looked at for every call of this RPC, and with which others it fails and is refused."""
    return {**frame.for_route(rpc), **retry_throttle.for_route(rpc), **overload.for_route(rpc)}
