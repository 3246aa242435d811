"""Facts about users as outbox events: the one place of this service where a fact meets its message.

The use cases build events here and append them in the transaction that makes the fact true.
"""

from collections.abc import Sequence
from typing import Final

from svc.chassis import outbox
from svc.chassis.context import CallContext
from svc.identity.model import USERS_PREFIX, SessionRecord, StoredKey, User
from weft.identity.v1 import events_pb2

SOURCE: Final = "identity"


def user_created(user: User, *, call: CallContext | None) -> outbox.Event:
    """A user was created; `call` is None where the platform itself did it."""
    fact = events_pb2.UserCreated(user=user.name, display_name=user.display_name, email=user.email)
    return outbox.event(fact, source=SOURCE, call=call)


def user_changed(user: User, fields: Sequence[str], *, call: CallContext | None) -> outbox.Event:
    """The named fields of a user changed."""
    return outbox.event(events_pb2.UserChanged(user=user.name, fields=fields), source=SOURCE, call=call)


def session_delegated(session: SessionRecord, operator_id: str, *, call: CallContext) -> outbox.Event:
    """An operator was given a session that acts for a user."""
    fact = events_pb2.SessionDelegated(
        user=USERS_PREFIX + session.user_id, operator=USERS_PREFIX + operator_id, session=session.name
    )
    return outbox.event(fact, source=SOURCE, call=call)


def signing_key_added(key: StoredKey, operator_id: str, *, call: CallContext) -> outbox.Event:
    """A signing key was made."""
    fact = events_pb2.SigningKeyAdded(key=key.name, operator=USERS_PREFIX + operator_id)
    return outbox.event(fact, source=SOURCE, call=call)


def signing_key_revoked(key: StoredKey, operator_id: str, *, call: CallContext) -> outbox.Event:
    """A signing key was taken back."""
    fact = events_pb2.SigningKeyRevoked(key=key.name, operator=USERS_PREFIX + operator_id)
    return outbox.event(fact, source=SOURCE, call=call)
