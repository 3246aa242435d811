"""Signing keys: made, sealed, shared through the database, published, and retired.

`wiring` opens one ring for each instance; `tokens` signs with it; a background refreshes it. Invariants: instances
that start at once agree on one first key, because it is inserted under SERIALIZABLE only where there is none; a
private key is nowhere in clear but in the memory of an instance; a key signs nothing before every verifier can have
it, and is published until the last token it signed has expired. All of that follows from one column, the moment of
activation, so no instance ever has to tell another what to do.
"""

import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Lock
from typing import Final, Protocol

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey

from svc.chassis.clock import Clock
from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import FailedPrecondition, NotFound, Unavailable
from svc.identity.model import (
    KEY_ACTIVATION_DELAY,
    KEY_HURRY,
    KEYS_PREFIX,
    StoredKey,
    published_keys,
    signing_key,
    successor,
)
from svc.identity.ports import Transactions

log = structlog.get_logger(__name__)

#: Length of the random nonce that stands before each ciphertext (NIST SP 800-38D: 96 bits).
NONCE_BYTES: Final = 12
#: Verifiers take no set of more than 16 keys.
KEYS_MAX: Final = 8


class Keys(Protocol):
    """Keeps signing keys."""

    def all(self, tx: Transaction) -> Sequence[StoredKey]:
        """Every key, in no order."""
        ...

    def insert(self, tx: Transaction, key: StoredKey) -> None:
        """Insert a key."""
        ...

    def delete(self, tx: Transaction, kids: Sequence[str]) -> None:
        """Delete keys."""
        ...


class SealError(Exception):
    """A private key cannot be unsealed: the seal key is another one, or the row was changed."""


class Seal:
    """Encrypts private keys at rest with AES-256-GCM; the kid is bound in, so that rows cannot be exchanged."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, kid: str, clear: bytes) -> bytes:
        """Nonce and ciphertext."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, clear, kid.encode())

    def unseal(self, kid: str, sealed: bytes) -> bytes:
        """What was sealed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], kid.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"signing key {kid} cannot be unsealed with this seal.key") from None


def new_key(seal: Seal, activate_time: datetime) -> StoredKey:
    """A fresh P-256 key whose kid is its RFC 7638 thumbprint."""
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
    kid = key.thumbprint()
    public = {**key.as_dict(private=False), "kid": kid}
    clear = json.dumps({**key.as_dict(private=True), "kid": kid}).encode()
    return StoredKey(kid, seal.seal(kid, clear), json.dumps(public, sort_keys=True), activate_time)


def jwk_set(keys: Sequence[StoredKey]) -> bytes:
    """The RFC 7517 set of the public halves. The same keys give the same bytes."""
    documents = [json.loads(key.public_jwk) for key in sorted(keys, key=lambda key: key.kid)]
    return json.dumps({"keys": documents}, sort_keys=True, separators=(",", ":")).encode()


class KeyRing:
    """The keys as one instance last saw them. Safe for threads."""

    def __init__(
        self,
        transactions: Transactions,
        keys: Keys,
        *,
        seal: Seal,
        clock: Clock,
        publish: Callable[[bytes], None],
    ) -> None:
        self._transactions = transactions
        self._keys = keys
        self._seal = seal
        self._clock = clock
        self._publish = publish
        self._lock = Lock()
        # Of two looks at once, the one that saw less must not have the last word.
        self._looking = Lock()
        self._stored: tuple[StoredKey, ...] = ()
        self._private: dict[str, ECKey] = {}
        self._published = b""
        self._seen: bytes | None = None

    def open(self, *, deadline: Deadline) -> None:
        """Make the first key where there is none, then load and publish."""
        first = new_key(self._seal, self._clock.now())

        def work(tx: Transaction) -> bool:
            if self._keys.all(tx):
                return False
            self._keys.insert(tx, first)
            return True

        if self._transactions.serializable(work, deadline=deadline):
            log.info("signing_key_created", kid=first.kid)
        self.refresh(deadline=deadline)

    def refresh(self, *, deadline: Deadline) -> None:
        """Load the keys, delete the retired ones, and publish the public set where it changed."""
        with self._looking:
            self._refresh(deadline)

    def _refresh(self, deadline: Deadline) -> None:
        stored = tuple(self._transactions.read(self._keys.all, deadline=deadline))
        now = self._clock.now()
        current = published_keys(stored, now)
        private = {key.kid: self._private.get(key.kid) or self._unsealed(key) for key in current}
        with self._lock:
            self._stored, self._private = current, private
        if len(current) < len(stored):
            self._delete_retired(deadline)
        document = jwk_set(current)
        seen = self._seen
        if document != self._published or (seen is not None and document != seen):
            self._publish(document)
        if document != self._published:
            self._published = document
            log.info("jwks_published", kids=[key.kid for key in current])

    def seen(self, document: bytes) -> None:
        """Take note of what the registry holds: an instance that had lost the database may publish what it had last."""
        self._seen = document

    def listed(self, *, deadline: Deadline) -> Sequence[StoredKey]:
        """The keys that verifiers need, by kid."""
        stored = self._transactions.read(self._keys.all, deadline=deadline)
        return sorted(published_keys(stored, self._clock.now()), key=lambda key: key.kid)

    def replace(self, kid: str, *, deadline: Deadline, record: Callable[[Transaction, StoredKey], None]) -> StoredKey:
        """The key that follows a key, made where there is none; `record` is told of a new one. Published on return."""
        key = new_key(self._seal, self._clock.now() + KEY_ACTIVATION_DELAY)

        def work(tx: Transaction) -> StoredKey:
            stored = self._keys.all(tx)
            known = successor(stored, _found(stored, kid))
            if known is not None:
                return known
            _refuse_too_many(stored)
            self._keys.insert(tx, key)
            record(tx, key)
            return key

        made = self._transactions.serializable(work, deadline=deadline)
        self.refresh(deadline=deadline)
        return made

    def revoke(self, kid: str, *, deadline: Deadline, record: Callable[[Transaction, StoredKey], None]) -> None:
        """Forget a key, and make another where it was the one that signs. Published on return.

        An older key that is still published signs meanwhile. Where there is none, nothing signs until every verifier
        can have the new one, which is not long: a token that some of them refuse would be worse than a pause.
        """
        made = self._clock.now()
        calm, hurried = (new_key(self._seal, made + delay) for delay in (KEY_ACTIVATION_DELAY, KEY_HURRY))

        def work(tx: Transaction) -> None:
            stored = self._keys.all(tx)
            revoked = _found(stored, kid)
            left = [key for key in stored if key.kid != kid]
            self._keys.delete(tx, [kid])
            now = self._clock.now()
            if signing_key(left, now) is None:
                self._keys.insert(tx, hurried)
            elif signing_key(stored, now) == revoked and successor(stored, revoked) is None:
                self._keys.insert(tx, calm)
            record(tx, revoked)

        self._transactions.serializable(work, deadline=deadline)
        log.warning("signing_key_revoked", kid=kid)
        self.refresh(deadline=deadline)

    def signing(self) -> tuple[str, ECKey]:
        """Id and private half of the key that signs now."""
        with self._lock:
            key = signing_key(self._stored, self._clock.now())
            if key is None:
                raise Unavailable("There is no signing key yet.", reason="NO_SIGNING_KEY", retry_after=1.0)
            return key.kid, self._private[key.kid]

    def _unsealed(self, key: StoredKey) -> ECKey:
        return ECKey.import_key(json.loads(self._seal.unseal(key.kid, key.sealed)))

    def _delete_retired(self, deadline: Deadline) -> None:
        def work(tx: Transaction) -> list[str]:
            stored = self._keys.all(tx)
            kept = {key.kid for key in published_keys(stored, self._clock.now())}
            retired = [key.kid for key in stored if key.kid not in kept]
            if retired:
                self._keys.delete(tx, retired)
            return retired

        for kid in self._transactions.serializable(work, deadline=deadline):
            log.info("signing_key_retired", kid=kid)


def rotate(transactions: Transactions, keys: Keys, *, seal: Seal, clock: Clock, deadline: Deadline) -> StoredKey:
    """Add a key that signs as soon as every verifier can have it; the present one goes on until then."""
    key = new_key(seal, clock.now() + KEY_ACTIVATION_DELAY)

    def work(tx: Transaction) -> None:
        stored = keys.all(tx)
        for known in stored:
            # Another seal.key would make a key that no instance can use.
            seal.unseal(known.kid, known.sealed)
        _refuse_too_many(stored)
        keys.insert(tx, key)

    transactions.serializable(work, deadline=deadline)
    return key


def _refuse_too_many(stored: Sequence[StoredKey]) -> None:
    if len(stored) >= KEYS_MAX:
        raise FailedPrecondition(
            f"There are {KEYS_MAX} signing keys; wait until the oldest is retired.", reason="TOO_MANY_KEYS"
        )


def _found(stored: Sequence[StoredKey], kid: str) -> StoredKey:
    for key in stored:
        if key.kid == kid:
            return key
    name = KEYS_PREFIX + kid
    raise NotFound(f"There is no {name}.", resource=("signingKey", name), reason="SIGNING_KEY_NOT_FOUND")
