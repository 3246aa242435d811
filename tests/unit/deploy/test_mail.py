"""The mail sink as a whole, on ports of its own."""

import json
import os
import signal
import smtplib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from deploy.observability.config import Address, Settings
from deploy.observability.mail import MailSink
from deploy.observability.mail_store import Delivery, MailReader, MailWriter

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailSink]:
    running = MailSink(Settings(intake=LOOPBACK, http=LOOPBACK, store=tmp_path / "mail.sqlite", log_level="info"))
    running.start()
    yield running
    running.stop()


def mail_of(
    number: int, *, kind: str = "order-placed", to: str = "ann@example.com", text: str = "Hello"
) -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = f"<{number}@weft>"
    message["From"] = "orders@weft"
    message["To"] = to
    message["Subject"] = f"Order {number}"
    message["X-Weft-Kind"] = kind
    message.set_content(text)
    return message


def send(sink: MailSink, *messages: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=5) as client:
        for message in messages:
            client.send_message(message)


def ask(sink: MailSink, argument: str) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=5) as client:
        client.ehlo()
        assert client.has_extn("xseen")
        return client.docmd("XSEEN", argument)


def get(sink: MailSink, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.site.port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def read(sink: MailSink, path: str) -> Any:
    return json.loads(get(sink, path)[1])


def test_mail_is_counted_by_kind_and_a_second_delivery_is_the_same_mail(sink: MailSink) -> None:
    send(sink, mail_of(1), mail_of(2), mail_of(3, kind="order-cancelled"))
    send(sink, mail_of(2))

    expected = {"messages": 4, "unique": 3, "by_kind": {"order-placed": 2, "order-cancelled": 1}}
    assert expected == read(sink, "/count")


def test_nothing_came_nothing_is_counted(sink: MailSink) -> None:
    assert {"messages": 0, "unique": 0, "by_kind": {}} == read(sink, "/count")


def test_mail_can_be_found_by_its_recipient_and_read(sink: MailSink) -> None:
    send(sink, mail_of(1), mail_of(2, to="Bob@Example.com", text="Grüße, €5"), mail_of(3))

    assert ["Order 3", "Order 2", "Order 1"] == [row["subject"] for row in read(sink, "/messages")["messages"]]
    assert ["Order 3"] == [row["subject"] for row in read(sink, "/messages?limit=1")["messages"]]
    (found,) = read(sink, "/messages?to=bob@example.com")["messages"]
    message = read(sink, f"/messages/{found['id']}")
    assert ("<2@weft>", "order-placed", ["bob@example.com"]) == (found["message_id"], found["kind"], found["to"])
    assert "Grüße, €5" == message["text"].strip()
    assert ["X-Weft-Kind", "order-placed"] in message["headers"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/messages?limit=0", 400),
        ("/messages?limit=-1", 400),
        ("/messages/1", 404),
        ("/messages/x", 404),
        ("/mail/1", 404),
        ("/healthz", 200),
        ("/", 200),
    ],
)
def test_each_question_has_its_status(sink: MailSink, path: str, status: int) -> None:
    assert status == get(sink, path)[0]


def test_pages_show_mail_as_text(sink: MailSink) -> None:
    hostile = "<script>alert(1)</script>"
    message = mail_of(1, kind=hostile, text=hostile)
    message.replace_header("Subject", hostile)
    send(sink, message)

    for path in ("/", "/mail/1"):
        page = get(sink, path)[1]
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_too_large_a_mail_is_refused_and_the_next_is_taken(sink: MailSink) -> None:
    with pytest.raises(smtplib.SMTPException):
        send(sink, mail_of(1, text="x" * 2_000_000))

    send(sink, mail_of(2))

    assert 1 == read(sink, "/count")["messages"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no headers at all",
        b"Subject: \xff\xfe\r\nX-Weft-Kind: \xe4\r\n\r\nbody \xff",
        b"Content-Type: text/plain; charset=no-such\r\n\r\nbody",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nbroken",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Subject: a\r\n b\r\n\r\n",
    ],
)
def test_mail_that_is_not_well_formed_is_kept_and_shown(tmp_path: Path, raw: bytes) -> None:
    store = MailWriter(tmp_path / "mail.sqlite")
    number = store.add(Delivery("a@b", ["c@d"], raw))
    store.close()

    shown = MailReader(tmp_path / "mail.sqlite").message(number)

    assert shown is not None
    json.dumps(shown).encode()


def test_old_bodies_go_and_stay_counted(tmp_path: Path) -> None:
    store = MailWriter(tmp_path / "mail.sqlite", bodies_max=10)
    for number in range(1000):
        store.add(Delivery("a@b", ["c@d"], f"Message-ID: <{number}@x>\r\nX-Weft-Kind: k\r\n\r\n".encode()))
    store.close()

    reader = MailReader(tmp_path / "mail.sqlite")
    assert {"messages": 1000, "unique": 1000, "by_kind": {"k": 1000}} == reader.count()
    assert 10 == len(reader.latest(to="c@d", limit=100))


def test_what_was_accepted_is_there_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(intake=LOOPBACK, http=LOOPBACK, store=tmp_path / "mail.sqlite", log_level="info")
    for number in (1, 2):
        sink = MailSink(settings)
        sink.start()
        send(sink, mail_of(number))
        assert number == read(sink, "/count")["unique"]
        sink.stop()


@pytest.mark.parametrize("name", ["traces", "mail"])
def test_as_a_process_it_starts_by_its_environment_and_ends_cleanly_on_sigterm(tmp_path: Path, name: str) -> None:
    intake = {"traces": "WEFT_LISTEN_OTLP", "mail": "WEFT_LISTEN_SMTP"}[name]
    environ = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - a child process's environment
        intake: "127.0.0.1:0",
        "WEFT_LISTEN_HTTP": "127.0.0.1:0",
        "WEFT_STORE": str(tmp_path / "store.sqlite"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", f"deploy.observability.{name}"], env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    killer = threading.Timer(30, process.kill)
    killer.start()
    with process:
        assert "sink_ready" == json.loads(process.stdout.readline())["event"]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert "sink_stopped" == json.loads(process.stdout.readlines()[-1])["event"]
        assert 0 == process.wait(10)
        assert time.monotonic() - began < 10
    killer.cancel()


def test_a_missing_setting_ends_the_process_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.observability.mail"], env={}, capture_output=True, text=True, timeout=60
    )

    assert (2, "weft: WEFT_LISTEN_SMTP: is not set\n") == (done.returncode, done.stderr)


def test_a_sender_can_ask_which_mails_were_taken_also_of_those_whose_bodies_are_gone(tmp_path: Path) -> None:
    store = MailWriter(tmp_path / "mail.sqlite", bodies_max=0)
    for number in range(1000):
        store.add(Delivery("orders@weft", ["ann@example.com"], mail_of(number).as_bytes()))
    store.close()
    sink = MailSink(Settings(intake=LOOPBACK, http=LOOPBACK, store=tmp_path / "mail.sqlite", log_level="info"))
    sink.start()
    try:
        send(sink, mail_of(1001))
        assert [(250, b"taken"), (250, b"taken"), (550, b"not taken")] == [
            ask(sink, f"<{number}@weft>") for number in (7, 1001, 1002)
        ]
        assert 501 == ask(sink, "")[0]
        assert 501 == ask(sink, f"<{'x' * 400}@weft>")[0]
    finally:
        sink.stop()
