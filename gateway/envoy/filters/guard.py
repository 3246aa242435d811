"""The scripts that look at every call between the check of its token and that of its scopes, in one filter.

Envoy makes a coroutine and handles of its own for each filter with a script, on the way in and on the way out. As
filters of their own, these and the throttle of retries cost a fifth of the whole hop.
"""

from typing import Any

from gateway.envoy import names
from gateway.envoy.script import lua
from gateway.envoy.scripts import checks, claims, frame
from gateway.policy import PolicySet


def build(_: PolicySet) -> Any:
    """The filter's config."""
    modules = (checks.MODULE, claims.MODULE, frame.MODULE)
    return lua(names.GUARD, script="guard.lua", constants={}, modules=modules)
