"""A real Alertmanager as the supervisor configures it: who is told of an alert, and who is spared."""

import asyncio
import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.supervisor.layout import Layout
from deploy.supervisor.servers import alertmanager
from tests.waiting import eventually, free_port, listens

TOKEN = "a-token-of-the-test"
OPERATOR = "operator@example.com"


@dataclass
class Told:
    """What arrived, and where."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """Path, authorization and body of what the supervisor got."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 kept"

    def alert(self, *labels: Mapping[str, str]) -> None:
        """Have these alerts fire."""
        notes = {"summary": "It is broken.", "description": "Very.", "runbook_url": "docs/runbooks/It.md"}
        body = json.dumps([{"labels": each, "annotations": notes} for each in labels]).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/alerts", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert 200 == answer.status

    def about(self, name: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if f"alertname={name}" in text(mail) or name in str(mail["subject"])]


def text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain", "html"))
    return "" if body is None else str(body.get_content())


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.asked.append((self.path, self.headers["Authorization"], body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Alertmanager, a mail server and a supervisor's door."""
    found, layout = Told(free_port()), Layout(tmp_path_factory.mktemp("mesh"))
    mail = Controller(found, hostname="127.0.0.1", port=free_port())
    hook = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    hook.told = found  # type: ignore[attr-defined]
    receivers = alertmanager.Receivers(f"127.0.0.1:{mail.port}", OPERATOR, hook.server_port, TOKEN)
    server = alertmanager.server("alertmanager", layout, None, port=found.port, receivers=receivers)
    assert server.prepare is not None
    asyncio.run(server.prepare())
    command = server.command
    mail.start()
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    with (
        (layout.root / "log").open("wb") as log,
        subprocess.Popen(command.argv, env=dict(command.env), cwd=command.cwd, stdout=log, stderr=log) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or listens(found.port))
            assert process.poll() is None, (layout.root / "log").read_text()
            yield found
        finally:
            process.terminate()
            process.wait()
            hook.shutdown()
            thread.join()
            hook.server_close()
            mail.stop()


def test_its_configuration_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yml"
    (tmp_path / "token").write_text(TOKEN)
    receivers = alertmanager.Receivers("127.0.0.1:25", OPERATOR, recovery_port=9, recovery_token=TOKEN)
    path.write_text(json.dumps(alertmanager.render(receivers, tmp_path / "token")))

    done = subprocess.run(["/usr/bin/amtool", "check-config", path], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert TOKEN not in f"{path.read_text()} {receivers}"


def test_an_alert_reaches_the_operator_by_mail_once_for_a_service(told: Told) -> None:
    told.alert(*({"alertname": "Slow", "service": "orders", "instance": f"orders-{n}"} for n in (1, 2)))

    eventually(lambda: told.about("Slow"))

    (mail,) = told.about("Slow")
    assert (OPERATOR, alertmanager.SENDER) == (mail["to"], mail["from"])
    assert "[FIRING:2]" in mail["subject"]
    for said in ("orders-1", "orders-2", "It is broken.", "docs/runbooks/It.md"):
        assert said in text(mail)


def test_an_alert_that_asks_for_recovery_reaches_the_supervisor_and_the_operator(told: Told) -> None:
    labels = {"alertname": "Hung", "service": "orders", "instance": "orders-1", "recovery": "restart"}

    told.alert(labels)

    eventually(lambda: told.asked and told.about("Hung"))
    path, authorization, body = told.asked[0]
    assert ("/recovery", f"Bearer {TOKEN}") == (path, authorization)
    assert [("firing", labels)] == [(alert["status"], alert["labels"]) for alert in body["alerts"]]


def test_a_service_that_is_down_is_told_without_what_follows_from_it(told: Told) -> None:
    told.alert(
        {"alertname": "ServiceDown", "service": "catalog"},
        {"alertname": "InstanceDown", "service": "catalog", "instance": "catalog-1"},
        {"alertname": "ErrorBudgetBurnsFast", "service": "catalog", "method": "m", "slo": "availability"},
        {"alertname": "InstanceDown", "service": "identity", "instance": "identity-1"},
    )

    # The other service's mail is sent no sooner than the ones that are held back would have been.
    eventually(lambda: told.about("ServiceDown") and told.about("InstanceDown"))

    assert ["identity-1" in text(mail) for mail in told.about("InstanceDown")] == [True]
    assert [] == told.about("ErrorBudgetBurnsFast")


def test_a_process_in_quarantine_is_told_without_what_follows_from_it(told: Told) -> None:
    told.alert(
        {"alertname": "CrashLoop", "service": "audit", "instance": "audit-1"},
        {"alertname": "InstanceRestarting", "service": "audit", "instance": "audit-1"},
        {"alertname": "InstanceRestarting", "service": "relay", "instance": "relay-1"},
    )

    eventually(lambda: told.about("CrashLoop") and told.about("InstanceRestarting"))

    assert ["relay-1" in text(mail) for mail in told.about("InstanceRestarting")] == [True]


def test_the_page_lists_what_fires(told: Told) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{told.port}/", timeout=10) as answer:
        page = answer.read().decode()

    assert page == alertmanager.PAGE.read_text()
    assert 'fetch("api/v2/alerts")' in page
