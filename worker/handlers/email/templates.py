"""The mails: an event and a recipient in, a complete message out. Pure.

The same event makes the same bytes, and the Message-ID is made from its id: a mail that is sent a second time says so
itself. Names and addresses come from users: whatever they contain, they end up as text of one header or one line.
"""

from __future__ import annotations

import binascii
import email.policy
import html
import re
from collections.abc import Sequence
from copy import copy
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from functools import cache
from typing import Final

from google.type.money_pb2 import Money

from svc.chassis import money
from svc.chassis.errors import InvalidArgument
from weft.orders.v1.events_pb2 import EventItem, OrderCancelled, OrderPlaced
from worker.errors import Permanent
from worker.handlers.email.deliveries import Recipient

ORDER_PLACED: Final = "order-placed"
ORDER_CANCELLED: Final = "order-cancelled"

KIND_HEADER: Final = "X-Weft-Kind"
_DOMAIN: Final = "mail.weft"
_SENDER: Final = Address("Weft", "orders", _DOMAIN)

# Quoted-printable never writes an equals sign and an underscore side by side: no body can hold the boundary.
_BOUNDARY: Final = "=_weft"

# Line ends of every alphabet, control and formatting characters: nothing that a name needs.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_NAME_LENGTH_MAX: Final = 120


def order_placed(event_id: str, occur_time: datetime, placed: OrderPlaced, recipient: Recipient) -> EmailMessage:
    """The confirmation of an order."""
    mail = _mail(event_id, occur_time, ORDER_PLACED, recipient)
    mail["Subject"] = f"Your order {_number(placed.order)}"
    opening = f"thank you for your order {_number(placed.order)}. You have ordered:"
    return _with_body(mail, recipient, opening, placed.items, f"Total: {_amount(placed.total)}")


def order_cancelled(
    event_id: str, occur_time: datetime, cancelled: OrderCancelled, recipient: Recipient
) -> EmailMessage:
    """The note that an order, or a part of it, was taken back."""
    mail = _mail(event_id, occur_time, ORDER_CANCELLED, recipient)
    number = _number(cancelled.order)
    mail["Subject"] = f"Your order {number} was cancelled" + ("" if cancelled.whole else " in part")
    opening = f"we have {'cancelled your order' if cancelled.whole else 'taken back a part of your order'} {number}:"
    return _with_body(mail, recipient, opening, cancelled.items, f"You get back: {_amount(cancelled.total)}")


def message_id(event_id: str) -> str:
    """The Message-ID of the mail that an event leads to."""
    return f"<{event_id}@{_DOMAIN}>"


def _mail(event_id: str, occur_time: datetime, kind: str, recipient: Recipient) -> EmailMessage:
    mail = EmailMessage(policy=_policy())
    mail["Message-ID"] = message_id(event_id)
    mail["Date"] = occur_time
    mail["From"] = _SENDER
    mail["To"] = _address(recipient)
    mail["Auto-Submitted"] = "auto-generated"
    mail[KIND_HEADER] = kind
    return mail


class _Headers(HeaderRegistry):
    """The library makes a class for each header it sees; a mail has nine, and they are always the same."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, type] = {}

    def __getitem__(self, name: str) -> type:
        if name not in self._classes:
            self._classes[name] = super().__getitem__(name)
        return self._classes[name]


@cache
def _policy() -> EmailPolicy[EmailMessage]:
    return email.policy.SMTP.clone(message_factory=EmailMessage, header_factory=_Headers())


@cache
def _blank_part(subtype: str) -> EmailMessage:
    part = EmailMessage(policy=_policy())
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "quoted-printable"
    return part


def _part(subtype: str, text: str) -> EmailMessage:
    # The copy shares the headers of the blank, which nobody changes: parsing them took longer than all the rest.
    part = copy(_blank_part(subtype))
    part.set_payload(binascii.b2a_qp(text.encode()).decode("ascii"))
    return part


def _address(recipient: Recipient) -> Address:
    try:
        return Address(_line(recipient.display_name), addr_spec=recipient.address)
    except (ValueError, IndexError, MessageError) as error:
        # The parser raises any of them; the text would quote the address.
        raise Permanent(f"the address of {recipient.user} is not one") from error


def _with_body(
    mail: EmailMessage, recipient: Recipient, opening: str, items: Sequence[EventItem], closing: str
) -> EmailMessage:
    name = _line(recipient.display_name)
    greeting = f"Hello {name}," if name else "Hello,"
    lines = [f"{item.quantity} x {_line(item.display_name)}, {_amount(item.unit_price)} each" for item in items]
    text = "\n".join([greeting, "", opening, "", *(f"  {line}" for line in lines), "", closing, ""])
    rows = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    page = f"<p>{html.escape(greeting)}</p><p>{html.escape(opening)}</p><ul>{rows}</ul><p>{html.escape(closing)}</p>"
    mail["MIME-Version"] = "1.0"
    mail["Content-Type"] = f'multipart/alternative; boundary="{_BOUNDARY}"'
    document = f'<!doctype html>\n<html lang="en"><body>{page}</body></html>\n'
    mail.set_payload([_part("plain", text), _part("html", document)])
    return mail


def _number(order: str) -> str:
    return _line(order.removeprefix("orders/"))


def _line(text: str) -> str:
    """Text of users as a part of one line."""
    return _UNPRINTABLE.sub(" ", text).strip()[:_NAME_LENGTH_MAX]


def _amount(price: Money) -> str:
    try:
        minor = money.to_minor(price)
    except InvalidArgument as error:
        raise Permanent("a price is not an amount") from error
    units, rest = divmod(abs(minor), money.MINOR_PER_UNIT)
    return f"{'-' if minor < 0 else ''}{units}.{rest:02d} {_line(price.currency_code)}"
