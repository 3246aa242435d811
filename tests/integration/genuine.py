"""Tokens signed with the mesh's own key, as nobody outside could have them: expired ones, and for whom one likes.

The key lies in identity's database, sealed with `seal.key`; a test runs on the same machine and can read both.
"""

import contextlib
import json
import uuid
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.supervisor.mesh import Mesh
from svc.chassis.clock import SystemClock
from svc.chassis.config import Secrets
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.identity.keys import Seal
from svc.identity.model import signing_key
from svc.identity.store import KeyStore
from svc.identity.tokens import AUDIENCE, ISSUER, TOKEN_TYPE

LIFETIME_S: Final = 300
_DEADLINE_S: Final = 60.0


class GenuineKey:
    """The key that identity signs with."""

    def __init__(self, kid: str, key: ECKey) -> None:
        self.kid = kid
        self._key = key

    @classmethod
    def of(cls, mesh: Mesh) -> "GenuineKey":
        """The key of a running mesh; nothing of it is changed."""
        secrets, now = Secrets(mesh.secrets), SystemClock().now()
        with contextlib.closing(Database(secrets.read("database-identity.url"), pool_size=1, name="test")) as database:
            stored = signing_key(database.read(KeyStore().all, deadline=Deadline.after(_DEADLINE_S)), now)
        assert stored is not None
        clear = Seal(secrets.seal_key()).unseal(stored.kid, stored.sealed)
        return cls(stored.kid, ECKey.import_key(json.loads(clear)))

    def token(self, subject: str, *scopes: str, age_s: int = 0, **claims: object) -> str:
        """A token as identity issues it, `age_s` seconds ago; None leaves a claim out."""
        issued = int(SystemClock().now().timestamp()) - age_s
        usual: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": " ".join(scopes),
            "iat": issued,
            "exp": issued + LIFETIME_S,
            "jti": str(uuid.uuid4()),
            "sid": str(uuid.uuid4()),
        }
        kept = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": "ES256", "typ": TOKEN_TYPE, "kid": self.kid}, kept, self._key)
