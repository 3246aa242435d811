"""Access tokens: RFC 9068 JWTs, signed ES256 with the ring's present key.

The use cases ask for one for each session they open or refresh; gateway and chassis verify them by the published
set. Claims and header are those both of them demand, and nothing else.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.jwk import ECKey

from svc.chassis.ids import new_id
from svc.identity.model import ACCESS_TOKEN_LIFETIME, SessionRecord

ISSUER: Final = "weft-identity"
AUDIENCE: Final = "weft"
TOKEN_TYPE: Final = "at+jwt"


class SigningKeys(Protocol):
    """Where the signer finds its key."""

    def signing(self) -> tuple[str, ECKey]:
        """Id and private half of the key that signs now."""
        ...


class TokenSigner:
    """Signs access tokens."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def issue(self, session: SessionRecord, scopes: Sequence[str], *, at: datetime) -> str:
        """The access token of a session, good for five minutes from `at`."""
        kid, key = self._keys.signing()
        issued_at = int(at.timestamp())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": session.user_id,
            "scope": " ".join(scopes),
            "iat": issued_at,
            "exp": issued_at + int(ACCESS_TOKEN_LIFETIME.total_seconds()),
            "jti": new_id(),
            "sid": session.id,
        }
        if session.actor is not None:
            claims["act"] = {"sub": session.actor}
        return jwt.encode({"alg": "ES256", "typ": TOKEN_TYPE, "kid": kid}, claims, key)
