"""Composes the identity service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from svc.chassis import outbox
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Secrets
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.revocations import DOCUMENT as REVOCATIONS
from svc.chassis.server import Service
from svc.identity import keys
from svc.identity.bootstrap import ensure_operator
from svc.identity.keys import KeyRing, Seal
from svc.identity.model import OPERATOR_ID
from svc.identity.passwords import Passwords
from svc.identity.ports import Ports
from svc.identity.revocations import RevocationFeed
from svc.identity.rpc import IdentityHandler
from svc.identity.store import FailureStore, KeyStore, RevocationStore, SessionStore, UserStore
from svc.identity.throttle import Throttle
from svc.identity.tokens import TokenSigner
from svc.identity.upkeep import Upkeep
from svc.identity.usecases import NewUser
from weft.identity.v1 import identity_pb2
from weft_protos import policy

#: The document of the registry that every verifier follows.
JWKS: Final = "jwks"
# First keys and operator: a few transactions, in which two instances may meet.
_START_S: Final = 15.0
_ROTATE_S: Final = 10.0


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance. Keys, operator and the list of revocations are there when this returns."""
    database = resources.database
    secrets = resources.settings.secrets
    if database is None:
        raise ConfigError(f"{secrets.secrets}: there is no file database-identity.url")
    clock = SystemClock()
    sessions, failures = SessionStore(), FailureStore()
    publish = partial(resources.agent.publish, REVOCATIONS)
    feed = RevocationFeed(database, RevocationStore(), clock=clock, publish=publish)
    ring = KeyRing(
        database,
        KeyStore(),
        seal=Seal(secrets.seal_key()),
        clock=clock,
        publish=partial(resources.agent.publish, JWKS),
    )
    ports = Ports(
        transactions=database,
        users=UserStore(),
        sessions=sessions,
        passwords=Passwords(),
        tokens=TokenSigner(ring),
        keys=ring,
        throttle=Throttle(failures, clock),
        append=outbox.append,
        announce=feed.wake,
        clock=clock,
        known_scopes=policy.scopes(),
    )
    start = Deadline.after(_START_S)
    # Before the keys: whoever waits for them finds the list there, too.
    resources.agent.watch(REVOCATIONS, feed.seen)
    feed.refresh(deadline=start)
    resources.agent.watch(JWKS, ring.seen)
    ring.open(deadline=start)
    ensure_operator(ports, _operator(secrets), deadline=start)
    resources.add_background("identity-revocations", feed.start, feed.stop)
    upkeep = Upkeep(ring, sessions=sessions, failures=failures, transactions=database, clock=clock)
    resources.add_background("identity-upkeep", upkeep.start, upkeep.stop)
    pages = PageTokens(secrets.cache_key())
    return [(identity_pb2.DESCRIPTOR.services_by_name["IdentityService"], IdentityHandler(ports, pages))]


def rotate_keys(database: Database, secrets: Secrets) -> str:
    """Add a signing key; its kid. Running instances find it by themselves."""
    key = keys.rotate(
        database,
        KeyStore(),
        seal=Seal(secrets.seal_key()),
        clock=SystemClock(),
        deadline=Deadline.after(_ROTATE_S),
    )
    return key.kid


def _operator(secrets: Secrets) -> NewUser:
    return NewUser(
        id=OPERATOR_ID,
        email=secrets.read("operator.email"),
        display_name="Operator",
        password=secrets.read("operator.password"),
    )
