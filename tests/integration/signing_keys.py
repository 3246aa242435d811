"""Genuine signing keys of a mesh, opened as identity opens them: this machine holds both database and seal."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey

from deploy.supervisor.mesh import Mesh
from svc.chassis.clock import SystemClock
from svc.chassis.config import Secrets
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.identity.keys import KeyRing, Seal
from svc.identity.store import KeyStore
from tests.hostile_tokens import Mint


def mint(mesh: Mesh) -> Mint:
    """Signs with the key that identity signs with now."""
    secrets = Secrets(secrets=mesh.secrets)
    database = Database(secrets.database_url("identity"), pool_size=1, name="identity")
    seal = Seal(secrets.seal_key())
    # It is only read: what it would publish stays here.
    ring = KeyRing(database, KeyStore(), seal=seal, clock=SystemClock(), publish=lambda _document: None)
    try:
        ring.refresh(deadline=Deadline.after(20))
        kid, key = ring.signing()
    finally:
        database.close()
    return Mint(kid, _private(key))


def _private(key: ECKey) -> ec.EllipticCurvePrivateKey:
    opened = load_pem_private_key(key.as_pem(private=True), password=None)
    assert isinstance(opened, ec.EllipticCurvePrivateKey)
    return opened
