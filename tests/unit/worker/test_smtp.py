"""The SMTP door, against a real server in this process."""

import socket
import threading
from collections.abc import Iterator

import pytest

from svc.chassis.config import Address
from tests.fakes.worker import NOON, order_placed
from tests.fakes.worker_smtp import Inbox, smtp_server
from worker.errors import Outage, Permanent, Transient
from worker.handlers.email import smtp, templates
from worker.handlers.email.deliveries import Recipient
from worker.handlers.email.smtp import Smtp

MAIL = templates.order_placed("e7", NOON, order_placed(), Recipient("users/ada", "Ada", "ada@example.org"))


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with smtp_server() as running:
        yield running


@pytest.fixture
def door(inbox: Inbox) -> Iterator[Smtp]:
    opened = Smtp(inbox.address)
    yield opened
    opened.close()


def test_mails_go_out_over_one_connection(inbox: Inbox, door: Smtp) -> None:
    for _ in range(3):
        door.send(MAIL)

    assert (3, 1) == (len(inbox.mails), inbox.sessions)
    assert "<e7@mail.weft>" == inbox.mails[0]["Message-ID"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 no such user", Permanent),
        ("450 mailbox busy", Transient),
        ("421 closing", Outage),
    ],
)
@pytest.mark.parametrize("at", ["on_recipient", "on_data"])
def test_a_refusal_is_final_or_not_as_its_code_says(
    inbox: Inbox, door: Smtp, at: str, answer: str, error: type[Exception]
) -> None:
    setattr(inbox, at, answer)
    with pytest.raises(error) as raised:
        door.send(MAIL)
    assert error is raised.type

    setattr(inbox, at, "")
    door.send(MAIL)
    assert 1 == len(inbox.mails)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 you are not welcome", Outage),
        ("451 out of disk", Outage),
        ("421 closing", Outage),
        ("530 authentication required", Outage),
        # The size of the mail is announced with its sender: this one is about the mail.
        ("552 too large", Permanent),
    ],
)
def test_a_server_that_takes_nothing_from_us_is_an_outage(
    inbox: Inbox, door: Smtp, answer: str, error: type[Exception]
) -> None:
    inbox.on_sender = answer
    with pytest.raises(error) as raised:
        door.send(MAIL)
    assert error is raised.type

    inbox.on_sender = ""
    door.send(MAIL)
    assert 1 == len(inbox.mails)


@pytest.mark.parametrize("answers", [["554 no service"], ["220 hello", "550 not you", "550 not you"]])
def test_a_server_that_refuses_us_before_the_mail_is_an_outage(answers: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=say, args=(server, answers))
        thread.start()
        with pytest.raises(Outage) as raised:
            Smtp(Address("127.0.0.1", server.getsockname()[1])).send(MAIL)
        thread.join()

    assert Outage is raised.type


def say(server: socket.socket, answers: list[str]) -> None:
    """Greet with the first answer, then give one for each line."""
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as stream:
        for answer in answers:
            stream.write(f"{answer}\r\n".encode())
            stream.flush()
            stream.readline()


def test_a_connection_that_breaks_before_the_answer_is_an_outage_and_the_mail_goes_again(
    inbox: Inbox, door: Smtp
) -> None:
    inbox.hangs_up_after_data = True
    with pytest.raises(Outage):
        door.send(MAIL)

    inbox.hangs_up_after_data = False
    door.send(MAIL)

    assert ["<e7@mail.weft>", "<e7@mail.weft>"] == [mail["Message-ID"] for mail in inbox.mails]


def test_a_connection_that_idled_is_replaced_before_it_is_used(
    inbox: Inbox, door: Smtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.send(MAIL)
    monkeypatch.setattr(smtp, "IDLE_MAX_S", -1.0)
    door.send(MAIL)

    assert (2, 2) == (len(inbox.mails), inbox.sessions)


def test_an_address_that_smtp_cannot_carry_is_refused(door: Smtp) -> None:
    with pytest.raises(Permanent, match="ASCII"):
        door.send(templates.order_placed("e7", NOON, order_placed(), Recipient("users/zoe", "Zoë", "zoe@exämple.org")))


def test_no_server_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    with pytest.raises(Outage):
        Smtp(Address("127.0.0.1", port)).send(MAIL)


def test_a_server_that_says_nothing_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Outage):
        Smtp(Address("127.0.0.1", silent.getsockname()[1]), timeout_s=0.05).send(MAIL)


def test_a_server_that_cannot_tell_what_it_took_says_nothing(inbox: Inbox, door: Smtp) -> None:
    door.send(MAIL)

    assert door.seen(MAIL["Message-ID"]) is None


def test_a_server_that_can_tell_is_asked_over_the_same_connection(inbox: Inbox, door: Smtp) -> None:
    inbox.tells = True
    door.send(MAIL)

    assert (True, False) == (door.seen(MAIL["Message-ID"]), door.seen("<e8@mail.weft>"))
    assert 1 == inbox.sessions


def test_a_server_that_does_not_answer_whether_it_took_a_mail_is_an_outage(inbox: Inbox, door: Smtp) -> None:
    inbox.tells, inbox.on_seen = True, "451 later"
    with pytest.raises(Outage, match="451 to XSEEN"):
        door.seen(MAIL["Message-ID"])
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = Smtp(Address(*nobody.getsockname()))
        with pytest.raises(Outage):
            away.seen(MAIL["Message-ID"])
