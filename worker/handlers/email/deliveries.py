"""What the e-mail worker remembers: the addresses of users, and how far each mail has come.

`email_delivery` is the inbox of mails: a row is reserved before a mail is handed to the SMTP server and marked sent
afterwards. Reserved and not sent means that the mail may or may not be out; it is sent again under the same
Message-ID.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import DateTime, Text, Uuid

from svc.chassis.database import Database, Transaction
from worker import inbox
from worker.errors import Transient

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
    sa.Column("recipient", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("create_time", DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("sent_time", DateTime(timezone=True), nullable=True),
)

_RESERVED: Final = "reserved"
_SENT: Final = "sent"

_REMEMBER: Final = insert(recipients)
_REMEMBER_NEWEST: Final = _REMEMBER.on_conflict_do_update(
    index_elements=[recipients.c.user_name],
    set_={"display_name": _REMEMBER.excluded.display_name, "address": _REMEMBER.excluded.address},
)
_FIND: Final = sa.select(recipients.c.user_name, recipients.c.display_name, recipients.c.address).where(
    recipients.c.user_name.in_(sa.bindparam("users", expanding=True))
)
_RESERVE: Final = insert(email_delivery).on_conflict_do_nothing()
_UNSENT: Final = sa.select(email_delivery.c.message_id).where(
    email_delivery.c.message_id.in_(sa.bindparam("ids", expanding=True)), email_delivery.c.state == _RESERVED
)
_MARK: Final = (
    sa.update(email_delivery)
    .where(email_delivery.c.message_id.in_(sa.bindparam("ids", expanding=True)), email_delivery.c.state == _RESERVED)
    .values(state=_SENT, sent_time=sa.func.now())
)
_COUNTS: Final = sa.select(email_delivery.c.kind, email_delivery.c.state, sa.func.count().label("mails")).group_by(
    email_delivery.c.kind, email_delivery.c.state
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who gets mail."""

    user: str
    display_name: str
    address: str


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail that an event asks for."""

    message_id: str
    kind: str
    user: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Mails sent by kind, and those that are reserved only."""

    sent: Mapping[str, int]
    pending: int


class Deliveries:
    """The tables as the handler uses them; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, people: Mapping[str, Recipient]) -> None:
        """Store addresses, by the id of the event that told them; what an event told before is not stored again."""

        def work(tx: Transaction) -> None:
            new = inbox.claim(tx, CONSUMER, list(people))
            newest = {person.user: person for event_id, person in people.items() if event_id in new}
            if newest:
                tx.execute(
                    _REMEMBER_NEWEST,
                    [
                        {"user_name": user, "display_name": person.display_name, "address": person.address}
                        for user, person in sorted(newest.items())
                    ],
                )

        inbox.transaction(self._database, work)

    def reserve(self, mails: Sequence[Mail]) -> dict[str, Recipient]:
        """Note that mails are about to be sent; the recipients of those that were not sent before, by message id.

        Transient where an address is not known yet: then nothing is reserved.
        """
        return inbox.transaction(self._database, lambda tx: _reserve(tx, mails))

    def mark_sent(self, message_ids: Collection[str]) -> None:
        """Note that the SMTP server has taken mails."""
        ids = sorted(uuid.UUID(one) for one in message_ids)
        inbox.transaction(self._database, lambda tx: tx.execute(_MARK, {"ids": ids}))


def counts(tx: Transaction) -> Counts:
    """Count the mails."""
    rows = tx.execute(_COUNTS).all()
    return Counts(
        sent={row.kind: row.mails for row in rows if row.state == _SENT},
        pending=sum(row.mails for row in rows if row.state == _RESERVED),
    )


def _reserve(tx: Transaction, mails: Sequence[Mail]) -> dict[str, Recipient]:
    people = {
        row.user_name: Recipient(row.user_name, row.display_name, row.address)
        for row in tx.execute(_FIND, {"users": sorted({mail.user for mail in mails})})
    }
    by_id = {mail.message_id: mail for mail in mails}
    for mail in mails:
        if mail.user not in people:
            # The user's event comes through another outbox and may be later than the order's.
            raise Transient(f"no address of {mail.user[:200]} yet")
    rows = [
        {
            "message_id": uuid.UUID(message_id),
            "kind": mail.kind,
            "recipient": people[mail.user].address,
            "state": _RESERVED,
        }
        for message_id, mail in sorted(by_id.items())
    ]
    tx.execute(_RESERVE, rows)
    unsent = tx.execute(_UNSENT, {"ids": [row["message_id"] for row in rows]})
    return {str(row.message_id): people[by_id[str(row.message_id)].user] for row in unsent}
