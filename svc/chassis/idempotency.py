"""Idempotency records: a call with a `request_id` takes effect once, and every repeat gets the first answer.

Use cases call `claim` first and `complete` last inside the transaction that holds the effect; so there is a record
exactly where there is an effect. They also name the key to `database` (`once=`): a repeat that comes while the first is
still being served waits a second for it, and is then told to come back. Whoever gets by that waits in `claim`: it
then loses its snapshot, `database` runs it again, and it finds the answer. The key is bound to the principal and to the
request's body: nobody sees another's answer, and one id cannot mean two things. Records live for `retention` to say.
"""

import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from svc.chassis import durability
from svc.chassis.errors import FailedPrecondition, Internal, InvalidArgument

# Written for the driver and prepared by it once: the use case's hot path.
_CLAIM: Final = (
    "INSERT INTO idempotency (principal, method, request_id, body_hash) VALUES (%s, %s, %s, %s) "
    "ON CONFLICT (principal, method, request_id) DO NOTHING RETURNING 1"
)
_RECALL: Final = "SELECT body_hash, response FROM idempotency WHERE principal = %s AND method = %s AND request_id = %s"
# An upsert and not an UPDATE: it finds its row by the unique index without a mark that it was read. Under SERIALIZABLE
# an UPDATE marks the whole index page (the whole table while that is small) as read, and calls that have nothing in
# common abort each other. It never inserts: where nothing was claimed, `complete` sees its own body hash and refuses.
_COMPLETE: Final = (
    "INSERT INTO idempotency (principal, method, request_id, body_hash, response) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (principal, method, request_id) DO UPDATE SET response = excluded.response "
    "WHERE idempotency.response IS NULL RETURNING body_hash"
)
# No digest: what a row has that `complete` made itself.
_UNCLAIMED: Final = b""


@dataclass(frozen=True, slots=True)
class Key:
    """What makes two calls the same call."""

    principal: str
    """Subject of the caller's token."""
    method: str
    """Full name of the method."""
    request_id: str
    """The client's UUID."""
    body_hash: bytes
    """`CallContext.body_hash`."""

    @property
    def text(self) -> str:
        """The key without the body, as one string."""
        return f"{self.principal} {self.method} {self.request_id.lower()}"


def _identity(key: Key) -> tuple[str, str, uuid.UUID]:
    try:
        return key.principal, key.method, uuid.UUID(key.request_id)
    except ValueError:
        raise InvalidArgument(violations=[("request_id", "must be a UUID")]) from None


def claim(tx: Connection, key: Key) -> bytes | None:
    """Take the key for this transaction: None, go on; or the answer of the call that had it first.

    Raises FailedPrecondition where the first call had another body.
    """
    if tx.exec_driver_sql(_CLAIM, (*_identity(key), key.body_hash)).first() is not None:
        return None
    stored = recall(tx, key)
    if stored is None:
        # A record commits completed or not at all.
        raise Internal(f"idempotency record of {key.method} without a response")
    return stored


def recall(tx: Connection, key: Key) -> bytes | None:
    """The answer of the call that had this key first; None where none has taken effect.

    It may be told once `tx` is committed, and is then as safe as that call's own.
    Raises FailedPrecondition where that call had another body.
    """
    row = tx.exec_driver_sql(_RECALL, _identity(key)).first()
    if row is None or row.response is None:
        return None
    if bytes(row.body_hash) != key.body_hash:
        raise FailedPrecondition(
            "This request_id was used before for another request.",
            reason="REQUEST_ID_REUSED",
            violations=[("REQUEST_ID", key.request_id, "belongs to a request with another body")],
        )
    durability.confirm(tx)
    return bytes(row.response)


def complete(tx: Connection, key: Key, response: bytes) -> None:
    """Keep the answer, in the transaction that claimed the key.

    Raises Internal where that transaction did not claim it; it must then fail.
    """
    row = tx.exec_driver_sql(_COMPLETE, (*_identity(key), _UNCLAIMED, response)).first()
    if row is None or bytes(row.body_hash) == _UNCLAIMED:
        raise Internal(f"{key.method} completed a request_id that it did not claim")
