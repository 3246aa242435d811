"""Refuses verified tokens for what Envoy's own check does not look at: form, type, header, times, who is named."""

from typing import Any

from gateway.envoy import names
from gateway.envoy.script import lua
from gateway.policy import PolicySet
from weft_protos import access_token


def build(_: PolicySet) -> Any:
    """The filter's config."""
    constants: dict[str, str | int] = {
        "ISSUER": access_token.ISSUER,
        "AUDIENCE": access_token.AUDIENCE,
        "TYPE": access_token.TYPE,
        "ALGORITHM": access_token.ALGORITHM,
        "HEADER_NAMES": " ".join(access_token.HEADER),
        "SKEW_S": access_token.SKEW_S,
        "LIFETIME_S": access_token.LIFETIME_S,
        "CHARS_MAX": access_token.CHARS_MAX,
        "SCHEME": access_token.SCHEME,
        "ID_MARKS": access_token.ID_MARKS,
        "ID_CHARS_MAX": access_token.ID_CHARS_MAX,
        "JWT": names.JWT,
        "PAYLOAD": names.JWT_PAYLOAD,
        "HEADER": names.JWT_HEADER,
        "REASON": names.REASON,
        "TOKENS_MAX": names.TOKENS_MAX,
    }
    return lua(names.CLAIMS, script="claims.lua", constants=constants)
