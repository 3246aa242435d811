"""Mails as their readers and mail servers see them."""

import email
import email.policy
from email.message import EmailMessage

import pytest

from tests.fakes.worker import NOON, order_cancelled, order_placed, pounds
from worker.errors import Permanent
from worker.handlers.email import templates
from worker.handlers.email.deliveries import Recipient

ADA = Recipient("users/ada", "Ada Lovelace", "ada@example.org")


def sent(mail: EmailMessage) -> EmailMessage:
    """What arrives: written to the wire and read again."""
    return email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)


def text(mail: EmailMessage, kind: str = "plain") -> str:
    return mail.get_body((kind,)).get_content()


def test_a_confirmation_says_what_was_ordered_and_is_found_by_its_event() -> None:
    mail = sent(templates.order_placed("e7", NOON, order_placed("orders/12"), ADA))

    assert ("<e7@mail.weft>", "order-placed") == (mail["Message-ID"], mail["X-Weft-Kind"])
    assert ("Ada Lovelace <ada@example.org>", "Your order 12") == (mail["To"], mail["Subject"])
    assert NOON == mail["Date"].datetime
    for kind in ("plain", "html"):
        assert "2 x CAKESTAND, 1.25 GBP each" in text(mail, kind)
        assert "Total: 2.50 GBP" in text(mail, kind)


@pytest.mark.parametrize(
    ("whole", "subject"), [(True, "Your order 1 was cancelled"), (False, "Your order 1 was cancelled in part")]
)
def test_a_cancellation_says_whether_anything_stands(whole: bool, subject: str) -> None:
    cancelled = order_cancelled()
    cancelled.whole = whole

    mail = sent(templates.order_cancelled("e7", NOON, cancelled, ADA))

    assert ("order-cancelled", subject) == (mail["X-Weft-Kind"], mail["Subject"])
    assert "You get back: 1.25 GBP" in text(mail)


def test_the_same_event_makes_the_same_bytes() -> None:
    first, second = (templates.order_placed("e7", NOON, order_placed(), ADA).as_bytes() for _ in range(2))

    assert first == second
    assert first.count(b"\n") == first.count(b"\r\n")


def test_no_text_ends_the_part_it_is_in() -> None:
    placed = order_placed()
    placed.items[0].display_name = "--=_weft--"

    mail = sent(templates.order_placed("e7", NOON, placed, ADA))

    assert "2 x --=_weft--, 1.25 GBP each" in text(mail)
    assert ["text/plain", "text/html"] == [part.get_content_type() for part in mail.iter_parts()]


@pytest.mark.parametrize(
    "name",
    [
        "Eve\r\nBcc: all@example.org",
        "Eve\nX-Weft-Kind: forged",
        "Eve\r\n\r\n<h1>body</h1>",
        "Eve\x00\x0b\x0c\x1c\x85\u2028\u2029Bcc: x@y",
        'Eve" <mallory@example.org>, "',
        "\u202eevE",
        "Zoë Ünïcode 李",
        "x" * 5000,
        "",
    ],
)
def test_a_name_stays_a_name(name: str) -> None:
    placed = order_placed()
    placed.items[0].display_name = name

    mail = sent(templates.order_placed("e7", NOON, placed, Recipient("users/eve", name, "eve@example.org")))

    assert ["order-placed"] == mail.get_all("X-Weft-Kind")
    assert ["eve@example.org"] == [address.addr_spec for address in mail["To"].addresses]
    assert None is mail["Bcc"]
    assert [] == mail.defects
    assert "<h1>" not in text(mail, "html")
    assert 1 == sum(line.lstrip().startswith("2 x ") for line in text(mail).splitlines())


@pytest.mark.parametrize("address", ["", "eve", "@", "eve@", "a b@c", "eve@example.org\r\nBcc: x@y", "a@b, c@d"])
def test_what_is_no_address_gets_no_mail(address: str) -> None:
    with pytest.raises(Permanent, match="users/eve"):
        templates.order_placed("e7", NOON, order_placed(), Recipient("users/eve", "Eve", address))


def test_a_price_that_is_no_amount_makes_no_mail() -> None:
    placed = order_placed()
    placed.total.nanos = 1

    with pytest.raises(Permanent):
        templates.order_placed("e7", NOON, placed, ADA)


@pytest.mark.parametrize(("minor", "shown"), [(0, "0.00 GBP"), (7, "0.07 GBP"), (123456, "1234.56 GBP")])
def test_amounts_have_two_decimals(minor: int, shown: str) -> None:
    placed = order_placed()
    placed.total.CopyFrom(pounds(minor))

    assert f"Total: {shown}" in text(templates.order_placed("e7", NOON, placed, ADA))
