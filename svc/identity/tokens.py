"""Access tokens: RFC 9068 JWTs, signed ES256 with the ring's present key.

The use cases ask for one for each session they open or refresh; gateway and chassis verify them by the published
set. Claims and header are those both of them demand, and nothing else.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from joserfc import jwt
from joserfc.jwk import ECKey

from svc.chassis.ids import new_id
from svc.identity.model import ACCESS_TOKEN_LIFETIME, SessionRecord
from weft_protos import access_token


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
            "iss": access_token.ISSUER,
            "aud": access_token.AUDIENCE,
            "sub": session.user_id,
            "scope": " ".join(scopes),
            "iat": issued_at,
            "exp": issued_at + int(ACCESS_TOKEN_LIFETIME.total_seconds()),
            "jti": new_id(),
            "sid": session.id,
        }
        if session.actor is not None:
            claims["act"] = {"sub": session.actor}
        _refuse_what_nobody_would_take(kid, claims)
        return jwt.encode({"alg": access_token.ALGORITHM, "typ": access_token.TYPE, "kid": kid}, claims, key)


def _refuse_what_nobody_would_take(kid: str, claims: Mapping[str, Any]) -> None:
    """Ids and scopes are of the alphabet wherever they are made; a place that forgets it must not sign its way in."""
    actor = claims.get("act", {"sub": claims["sub"]})["sub"]
    ids = {"kid": kid, "act": actor, **{name: claims[name] for name in ("sub", "sid", "jti")}}
    for name, value in ids.items():
        if not access_token.ID.fullmatch(value):
            raise ValueError(f"`{name}` of a token is not in the alphabet of ids")
    if not all(access_token.SCOPE.fullmatch(scope) for scope in claims["scope"].split()):
        raise ValueError("`scope` of a token holds what is no scope")
