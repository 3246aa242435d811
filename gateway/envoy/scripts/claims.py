"""Refuses verified tokens for what Envoy's own check does not look at: form, type, header, times, who is named."""

from typing import Final

from gateway.envoy import names
from gateway.envoy.script import Module
from weft_protos import access_token

MODULE: Final = Module(
    "claims",
    script="claims.lua",
    constants={
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
        "TOKENS_MAX": names.TOKENS_MAX,
        "SUBJECT": names.SUBJECT,
        "STRING": names.STRING_STATE,
    },
)
