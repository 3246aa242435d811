"""The e-mail worker's handler: keeps addresses, and sends one mail for each order placed or cancelled.

Exactly one mail cannot be promised: no SMTP server tells whether it has seen a Message-ID. What is promised: a mail is
reserved in one transaction, sent, and marked sent in another. A crash between the last two sends the mails of that
batch again (at most `wiring`'s batch size), each under the Message-ID it had. Nothing else sends a mail twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from email.message import EmailMessage
from typing import Final, Protocol

from weft.identity.v1.events_pb2 import UserCreated
from weft.orders.v1.events_pb2 import OrderCancelled, OrderPlaced
from worker.delivery import Event
from worker.errors import Permanent
from worker.handlers.email import templates
from worker.handlers.email.deliveries import Mail, Recipient

_KINDS: Final[Mapping[type, str]] = {OrderPlaced: templates.ORDER_PLACED, OrderCancelled: templates.ORDER_CANCELLED}


class Deliveries(Protocol):
    """What is remembered: `worker.handlers.email.deliveries.Deliveries`."""

    def remember(self, people: Mapping[str, Recipient]) -> None:
        """Store addresses, by the id of the event that told them."""
        ...

    def reserve(self, mails: Sequence[Mail]) -> Mapping[str, Recipient]:
        """The recipients of the mails that were not sent before, by message id."""
        ...

    def mark_sent(self, message_ids: Collection[str]) -> None:
        """These are out."""
        ...


class Mailer(Protocol):
    """Hands a mail over to be delivered: `worker.handlers.email.smtp.Smtp`."""

    def send(self, mail: EmailMessage) -> None:
        """Return when somebody else is responsible for the mail."""
        ...


class EmailHandler:
    """Turns events into addresses and mails. Used from one thread."""

    def __init__(self, deliveries: Deliveries, mailer: Mailer) -> None:
        self._deliveries = deliveries
        self._mailer = mailer
        # Sent, and not yet marked: the database was away. They are not sent again as long as this process lives.
        self._unmarked: set[str] = set()

    def handle(self, events: Sequence[Event]) -> None:
        """Handle a batch: all addresses first, then all mails."""
        people = {event.id: _person(event.payload) for event in events if isinstance(event.payload, UserCreated)}
        orders = {event.id: event for event in events if type(event.payload) in _KINDS}
        if any(event.id not in people and event.id not in orders for event in events):
            raise Permanent("the e-mail worker does not consume events of this type")
        if people:
            self._deliveries.remember(people)
        if orders:
            self._send(orders)

    def _send(self, orders: Mapping[str, Event]) -> None:
        recipients = self._deliveries.reserve(
            [Mail(event.id, _KINDS[type(event.payload)], _user(event)) for event in orders.values()]
        )
        try:
            for event in orders.values():
                if event.id in recipients and event.id not in self._unmarked:
                    self._mailer.send(_compose(event, recipients[event.id]))
                    self._unmarked.add(event.id)
        finally:
            # Also when a later mail failed: what is out is out.
            if self._unmarked:
                self._deliveries.mark_sent(self._unmarked)
                self._unmarked.clear()


def _person(created: UserCreated) -> Recipient:
    person = Recipient(created.user, created.display_name, created.email)
    # PostgreSQL stores no NUL in text.
    if not person.user or "\x00" in person.user + person.display_name + person.address:
        raise Permanent("the user has no name, or a NUL character in name or address")
    return person


def _user(event: Event) -> str:
    user = event.payload.user if isinstance(event.payload, OrderPlaced | OrderCancelled) else ""
    if not user or "\x00" in user:
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
