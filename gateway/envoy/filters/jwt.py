"""Checks the access token's signature, issuer, audience and times, and puts claims and header into metadata.

Its resource leaves the compiler without keys: the control plane fills in the published JWK set and withholds the
resource while there is none, so that a listener never opens without them. The token itself goes on to the service,
which checks it again.
"""

from datetime import timedelta
from typing import Any

from gateway.envoy import names
from gateway.policy import PolicySet
from weft_protos import access_token
from weft_protos.xds import envoy


def build(_: PolicySet) -> Any:
    """The filter's config, with an empty key set."""
    return envoy(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={names.TOKEN_PROVIDER: _provider()},
        requirement_map={names.TOKEN_REQUIREMENT: {"provider_name": names.TOKEN_PROVIDER}},
    )


def required() -> Any:
    """For the virtual host: every route asks for a token unless it is exempted by name."""
    return envoy("extensions.filters.http.jwt_authn.v3.PerRouteConfig", requirement_name=names.TOKEN_REQUIREMENT)


def exempted() -> Any:
    """For a public route."""
    return envoy("extensions.filters.http.jwt_authn.v3.PerRouteConfig", disabled=True)


def _provider() -> dict[str, Any]:
    return {
        "issuer": access_token.ISSUER,
        "audiences": [access_token.AUDIENCE],
        "local_jwks": {"inline_string": '{"keys":[]}'},
        # Said outright, because by default a token in the query string, which logs keep, is taken as well.
        "from_headers": [{"name": "authorization", "value_prefix": access_token.SCHEME}],
        "forward": True,
        "payload_in_metadata": names.JWT_PAYLOAD,
        "header_in_metadata": names.JWT_HEADER,
        "clock_skew_seconds": access_token.SKEW_S,
        "require_expiration": True,
        # What is left of it, so clocks may differ on both sides.
        "max_lifetime": timedelta(seconds=access_token.LIFETIME_S + 2 * access_token.SKEW_S),
        "jwt_cache_config": {"jwt_cache_size": names.TOKENS_MAX},
    }
