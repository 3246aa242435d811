"""The e-mail worker's handler: keeps addresses, and sends one mail for each order placed or cancelled.

A mail is reserved in one transaction, sent, and marked sent in another. One that was reserved before may be out, and a
server that can tell is asked before it is sent again: then it is out once, whatever crashes when. The window that is
left: the server took a mail after it said that it had not, because the connection that brought it was still being
worked off. SMTP itself cannot tell. With a server that announces no XSEEN two things send a mail twice, under one
Message-ID:

- a crash between sending and marking: the mails of that batch, `config.MAIL_BATCH` at the most;
- an answer of the SMTP server that got lost after the mail's last byte: that mail.

A mail for somebody whose address is not known waits in the database, and its event is done: the user's event comes
through another outbox, which may be away for longer than any retry. That event then sends what has waited.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Final, Protocol

import structlog

from weft.identity.v1.events_pb2 import UserCreated
from weft.orders.v1.events_pb2 import OrderCancelled, OrderPlaced
from worker.config import MAIL_BATCH
from worker.delivery import Event, unseal
from worker.errors import Outage, Permanent, Transient
from worker.handlers.email import templates
from worker.handlers.email.deliveries import Due, Mail, Recipient, Released

_KINDS: Final[Mapping[type, str]] = {OrderPlaced: templates.ORDER_PLACED, OrderCancelled: templates.ORDER_CANCELLED}


log = structlog.get_logger(__name__)


class Deliveries(Protocol):
    """What is remembered: `worker.handlers.email.deliveries.Deliveries`."""

    def remember(self, people: Mapping[str, Recipient]) -> Sequence[str]:
        """Store addresses, by the id of the event that told them; the mails that waited for them, oldest first."""
        ...

    def released(self, message_ids: Collection[str]) -> Sequence[Released]:
        """Those of the mails that waited and are not sent yet, oldest first."""
        ...

    def reserve(self, mails: Sequence[Mail]) -> Mapping[str, Due]:
        """The mails that are to be sent now, by message id."""
        ...

    def mark_sent(self, message_ids: Collection[str]) -> None:
        """These are out."""
        ...

    def refuse(self, message_id: str) -> None:
        """The event of this mail is a dead letter."""
        ...

    def refuse_waiting(self, user: str) -> None:
        """The event that told this user's address is a dead letter."""
        ...


class Mailer(Protocol):
    """Hands a mail over to be delivered: `worker.handlers.email.smtp.Smtp`."""

    def send(self, mail: EmailMessage) -> None:
        """Return when somebody else is responsible for the mail."""
        ...

    def seen(self, message_id: str) -> bool | None:
        """Whether somebody else has become responsible for a mail already; None: that cannot be told."""
        ...


class EmailHandler:
    """Turns events into addresses and mails. Used from one thread."""

    def __init__(self, deliveries: Deliveries, mailer: Mailer) -> None:
        self._deliveries = deliveries
        self._mailer = mailer
        # Sent, and not yet marked: the database was away. They are not sent again as long as this process lives.
        self._unmarked: set[str] = set()

    def handle(self, events: Sequence[Event]) -> None:
        """Handle a batch: all addresses first, then the mails that waited for them, then those of the batch."""
        people = {event.id: _person(event.payload) for event in events if isinstance(event.payload, UserCreated)}
        orders = {event.id: event for event in events if type(event.payload) in _KINDS}
        if any(event.id not in people and event.id not in orders for event in events):
            raise Permanent("the e-mail worker does not consume events of this type")
        if people:
            self._send_waiting(self._deliveries.remember(people))
        if orders:
            self._send(list(orders.values()))

    def abandon(self, event: Event) -> None:
        """Stop counting the mails that this event was to send as pending; coming again, it sends them."""
        if isinstance(event.payload, UserCreated):
            if _storable(event.payload.user):
                self._deliveries.refuse_waiting(event.payload.user)
        else:
            self._deliveries.refuse(event.id)

    def _send_waiting(self, message_ids: Sequence[str]) -> None:
        failure: Permanent | Transient | None = None
        for start in range(0, len(message_ids), MAIL_BATCH):
            released = self._deliveries.released(message_ids[start : start + MAIL_BATCH])
            with self._marking():
                for mail in released:
                    try:
                        # Released by this delivery or by one before it: that is not known, so it is looked up.
                        self._hand_over(unseal(mail.envelope), Due(mail.recipient, again=True))
                    except Outage:
                        raise
                    except (Permanent, Transient) as error:
                        # The others do not wait for this one. What may still succeed decides what becomes of the
                        # event: only with it do the mails get another turn.
                        failure = error if failure is None or isinstance(error, Transient) else failure
        if failure is not None:
            raise failure

    def _send(self, orders: Sequence[Event]) -> None:
        due = self._deliveries.reserve([_mail(event) for event in orders])
        with self._marking():
            for event in orders:
                if event.id in due:
                    self._hand_over(event, due[event.id])

    def _hand_over(self, event: Event, due: Due) -> None:
        if event.id in self._unmarked:
            return
        mail = _compose(event, due.recipient)
        if due.again and self._mailer.seen(mail["Message-ID"]):
            log.info("mail_was_out", message_id=event.id)
        else:
            self._mailer.send(mail)
        self._unmarked.add(event.id)

    @contextmanager
    def _marking(self) -> Iterator[None]:
        try:
            yield
        finally:
            # Also when a later mail failed: what is out is out.
            if self._unmarked:
                self._deliveries.mark_sent(self._unmarked)
                self._unmarked.clear()


def _person(created: UserCreated) -> Recipient:
    person = Recipient(created.user, created.display_name, created.email)
    if not _storable(person.user) or "\x00" in person.display_name + person.address:
        raise Permanent("the user has no name, or a NUL character in name or address")
    return person


def _storable(user: str) -> bool:
    # PostgreSQL stores no NUL in text.
    return bool(user) and "\x00" not in user


def _mail(event: Event) -> Mail:
    return Mail(event.id, _KINDS[type(event.payload)], _user(event), event.occur_time, event.envelope)


def _user(event: Event) -> str:
    user = event.payload.user if isinstance(event.payload, OrderPlaced | OrderCancelled) else ""
    if not _storable(user):
        raise Permanent("the order names no user")
    return user


def _compose(event: Event, recipient: Recipient) -> EmailMessage:
    match event.payload:
        case OrderPlaced() as placed:
            return templates.order_placed(event.id, event.occur_time, placed, recipient)
        case OrderCancelled() as cancelled:
            return templates.order_cancelled(event.id, event.occur_time, cancelled, recipient)
        case _:
            raise Permanent(f"no mail for {event.type}")
