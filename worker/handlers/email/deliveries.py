"""What the e-mail worker remembers: the addresses of users, and how far each mail has come.

`email_delivery` is the inbox of mails. The states of a row:

    waiting     nobody has told the user's address yet; the row keeps the event
    reserved    about to be handed to the SMTP server, may or may not be out; looked up before it is sent again, under
                the same Message-ID
    sent        out
    refused     the event that was to send it is a dead letter; when that event comes again, the mail is reserved again

One event sends a mail: its own, or UserCreated where the mail had to wait (the row has an `envelope` then, until it
is sent). No mail waits for an address that is known: what looks for the address and then waits, and what stores the
address and then looks for waiting mails, are one serializable transaction each.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import DateTime, LargeBinary, Text, Uuid

from svc.chassis.database import Database, Transaction
from worker import inbox

CONSUMER: Final = "email"

#: Name of the database.
DATABASE: Final = "email"

METADATA: Final = sa.MetaData()

recipients: Final = sa.Table(
    "recipients",
    METADATA,
    sa.Column("user_name", Text, primary_key=True),
    sa.Column("display_name", Text, nullable=False),
    sa.Column("address", Text, nullable=False),
    sa.Column("create_time", DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

email_delivery: Final = sa.Table(
    "email_delivery",
    METADATA,
    sa.Column("message_id", Uuid, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("user_name", Text, nullable=False),
    sa.Column("recipient", Text, nullable=True),
    sa.Column("state", Text, nullable=False),
    sa.Column("envelope", LargeBinary, nullable=True),
    sa.Column("occur_time", DateTime(timezone=True), nullable=False),
    sa.Column("create_time", DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("sent_time", DateTime(timezone=True), nullable=True),
)

_WAITING: Final = "waiting"
_RESERVED: Final = "reserved"
_SENT: Final = "sent"
_REFUSED: Final = "refused"

_WITH_IDS: Final = email_delivery.c.message_id.in_(sa.bindparam("ids", expanding=True))
_OF_USERS: Final = email_delivery.c.user_name.in_(sa.bindparam("users", expanding=True))
# Sent by its own event, or by the user's.
_OWN: Final = email_delivery.c.envelope.is_(None)
_KEPT: Final = email_delivery.c.envelope.is_not(None)

_REMEMBER: Final = insert(recipients)
_REMEMBER_NEWEST: Final = _REMEMBER.on_conflict_do_update(
    index_elements=[recipients.c.user_name],
    set_={"display_name": _REMEMBER.excluded.display_name, "address": _REMEMBER.excluded.address},
)
_FIND: Final = sa.select(recipients.c.user_name, recipients.c.display_name, recipients.c.address).where(
    recipients.c.user_name.in_(sa.bindparam("users", expanding=True))
)
_RESERVE: Final = insert(email_delivery).on_conflict_do_nothing().returning(email_delivery.c.message_id)
_REOPEN: Final = (
    sa.update(email_delivery).where(_WITH_IDS, _OWN, email_delivery.c.state == _REFUSED).values(state=_RESERVED)
)
_UNSENT: Final = sa.select(email_delivery.c.message_id).where(_WITH_IDS, _OWN, email_delivery.c.state == _RESERVED)
_RELEASE: Final = (
    sa.update(email_delivery)
    .where(_OF_USERS, _KEPT, email_delivery.c.user_name == recipients.c.user_name)
    .values(state=_RESERVED, recipient=recipients.c.address)
    .returning(email_delivery.c.message_id, email_delivery.c.occur_time)
)
_RELEASED: Final = (
    sa.select(
        email_delivery.c.envelope,
        recipients.c.user_name,
        recipients.c.display_name,
        recipients.c.address,
    )
    .join(recipients, email_delivery.c.user_name == recipients.c.user_name)
    .where(_WITH_IDS, _KEPT, email_delivery.c.state == _RESERVED)
    .order_by(email_delivery.c.occur_time, email_delivery.c.message_id)
)
_MARK: Final = (
    sa.update(email_delivery)
    .where(_WITH_IDS, email_delivery.c.state != _SENT)
    .values(state=_SENT, sent_time=sa.func.now(), envelope=sa.null())
)
_REFUSE: Final = (
    sa.update(email_delivery).where(_WITH_IDS, _OWN, email_delivery.c.state == _RESERVED).values(state=_REFUSED)
)
_REFUSE_KEPT: Final = sa.update(email_delivery).where(_OF_USERS, _KEPT).values(state=_REFUSED)
_COUNTS: Final = sa.select(email_delivery.c.kind, email_delivery.c.state, sa.func.count().label("mails")).group_by(
    email_delivery.c.kind, email_delivery.c.state
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who gets mail."""

    user: str
    display_name: str = field(repr=False)
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Due:
    """A mail that is to be sent now."""

    recipient: Recipient
    #: Whether it was reserved before: it may be out already.
    again: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail that an event asks for, and the event, in case the mail has to wait."""

    message_id: str
    kind: str
    user: str
    occur_time: datetime
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Released:
    """A mail that has waited for its recipient."""

    envelope: bytes = field(repr=False)
    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Counts:
    """Mails sent by kind, and those that are still to be sent: reserved or waiting."""

    sent: Mapping[str, int]
    pending: int


class Deliveries:
    """The tables as the handler uses them; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, people: Mapping[str, Recipient]) -> list[str]:
        """Store addresses, by the id of the event that told them; the mails that waited for them, oldest first.

        An address that an event told before is not stored again. The mails are given until they are sent: a crash
        in between only repeats them.
        """
        return inbox.transaction(self._database, lambda tx: _remember(tx, people))

    def released(self, message_ids: Collection[str]) -> list[Released]:
        """Those of the mails that are not sent yet, oldest first."""
        parameters = {"ids": _uuids(message_ids)}

        def work(tx: Transaction) -> list[Released]:
            return [
                Released(bytes(row.envelope), Recipient(row.user_name, row.display_name, row.address))
                for row in tx.execute(_RELEASED, parameters)
            ]

        return inbox.transaction(self._database, work)

    def reserve(self, mails: Sequence[Mail]) -> dict[str, Due]:
        """Note that mails are about to be sent; those that are to be sent now, by message id.

        Not among them: what is sent already, and what waits for an address.
        """
        return inbox.transaction(self._database, lambda tx: _reserve(tx, mails))

    def mark_sent(self, message_ids: Collection[str]) -> None:
        """Note that the SMTP server has taken mails."""
        parameters = {"ids": _uuids(message_ids)}
        inbox.transaction(self._database, lambda tx: tx.execute(_MARK, parameters))

    def refuse(self, message_id: str) -> None:
        """Note that the event of a mail is a dead letter, unless the mail is sent or another event's to send."""
        parameters = {"ids": _uuids([message_id])}
        inbox.transaction(self._database, lambda tx: tx.execute(_REFUSE, parameters))

    def refuse_waiting(self, user: str) -> None:
        """Note that the event that told a user's address is a dead letter, for all mails that it was to send."""
        inbox.transaction(self._database, lambda tx: tx.execute(_REFUSE_KEPT, {"users": [user]}))


def counts(tx: Transaction) -> Counts:
    """Count the mails."""
    rows = tx.execute(_COUNTS).all()
    return Counts(
        sent={row.kind: row.mails for row in rows if row.state == _SENT},
        pending=sum(row.mails for row in rows if row.state in (_WAITING, _RESERVED)),
    )


def _remember(tx: Transaction, people: Mapping[str, Recipient]) -> list[str]:
    new = inbox.claim(tx, CONSUMER, list(people))
    newest = {person.user: person for event_id, person in people.items() if event_id in new}
    if newest:
        rows = [
            {"user_name": user, "display_name": person.display_name, "address": person.address}
            for user, person in sorted(newest.items())
        ]
        tx.execute(_REMEMBER_NEWEST, rows)
    # Not for the new ones only: an event that comes again may have been stopped before its mails were out.
    released = tx.execute(_RELEASE, {"users": sorted({person.user for person in people.values()})})
    return [str(row.message_id) for row in sorted(released, key=lambda row: (row.occur_time, row.message_id))]


def _reserve(tx: Transaction, mails: Sequence[Mail]) -> dict[str, Due]:
    people = {
        row.user_name: Recipient(row.user_name, row.display_name, row.address)
        for row in tx.execute(_FIND, {"users": sorted({mail.user for mail in mails})})
    }
    by_id = {mail.message_id: mail for mail in mails}
    rows = [_row(mail, people.get(mail.user)) for _, mail in sorted(by_id.items())]
    new = {str(row.message_id) for row in tx.execute(_RESERVE, rows)}
    parameters = {"ids": _uuids(by_id)}
    tx.execute(_REOPEN, parameters)
    due = [str(row.message_id) for row in tx.execute(_UNSENT, parameters)]
    return {one: Due(people[by_id[one].user], again=one not in new) for one in due}


def _row(mail: Mail, recipient: Recipient | None) -> Mapping[str, object]:
    return {
        "message_id": uuid.UUID(mail.message_id),
        "kind": mail.kind,
        "user_name": mail.user,
        "recipient": recipient.address if recipient else None,
        "state": _RESERVED if recipient else _WAITING,
        "envelope": None if recipient else mail.envelope,
        "occur_time": mail.occur_time,
    }


def _uuids(message_ids: Collection[str]) -> list[uuid.UUID]:
    return sorted(uuid.UUID(one) for one in message_ids)
