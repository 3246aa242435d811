"""Lets a call pass only with a scope that its contract names. Without a word on the route: denied."""

import re
from collections.abc import Sequence
from typing import Any, Final

from gateway.envoy import names
from gateway.policy import PolicySet
from weft_protos.xds import envoy

_RBAC: Final = "extensions.filters.http.rbac.v3.RBAC"


def build(_: PolicySet) -> Any:
    """The filter's config: an allow list with nothing on it."""
    return envoy(_RBAC, rules={"action": "ALLOW"})


def for_scopes(scopes: Sequence[str]) -> Any:
    """For a route that any one of `scopes` opens."""
    return _allow("scopes", [_holds(scope) for scope in scopes])


def for_everyone() -> Any:
    """For a public route."""
    return _allow("public", [{"any": True}])


def _allow(policy: str, principals: Sequence[dict[str, Any]]) -> Any:
    rules = {
        "action": "ALLOW",
        "policies": {policy: {"permissions": [{"any": True}], "principals": list(principals)}},
    }
    return envoy("extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": rules})


def _holds(scope: str) -> dict[str, Any]:
    matcher = {
        "filter": names.JWT,
        "path": [{"key": names.JWT_PAYLOAD}, {"key": "scope"}],
        # The claim as it is signed, one text: turned into a list, it could not be told from a token that has a list.
        "value": {"string_match": {"safe_regex": {"regex": rf"(.* )?{re.escape(scope)}( .*)?"}}},
    }
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
