"""Who calls a mock: any bearer token, or, where access is tested too, tokens signed here and checked as ever."""

import json
import secrets
from typing import Final

from joserfc import jws
from joserfc.jwk import ECKey

from svc.chassis.clock import SystemClock
from svc.chassis.context import Principal
from svc.chassis.tokens import TokenVerifier
from weft_protos.access_token import ALGORITHM, AUDIENCE, ISSUER, LIFETIME_S, TYPE

_KID: Final = "contract-tests"


class Anybody:
    """Takes any token, and gives nobody a right."""

    def verify(self, token: str) -> Principal:
        """The principal of a token that nobody looks at."""
        return Principal(subject="", scopes=frozenset(), session="", actor=None, token=token)

    def refuse_revoked(self, principal: Principal) -> None:
        """No token is ever revoked."""


class Issuer:
    """Signs access tokens as identity does, with a key of its own."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._key = ECKey.generate_key("P-256", {"kid": _KID, "alg": ALGORITHM, "use": "sig"})
        self.verifier = TokenVerifier(self._clock)
        self.verifier.update(json.dumps({"keys": [self._key.as_dict(private=False)]}).encode())

    def token(self, *scopes: str, subject: str) -> str:
        """An access token that is good for five minutes."""
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": " ".join(sorted(scopes)),
            "iat": now,
            "exp": now + LIFETIME_S,
            "jti": secrets.token_hex(8),
            "sid": secrets.token_hex(8),
        }
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": _KID}
        return jws.serialize_compact(header, json.dumps(claims), self._key, algorithms=[ALGORITHM])
