"""Alertmanager: tells people of alerts by e-mail, and the supervisor of those that it can put right itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Http

BINARY = "/usr/bin/prometheus-alertmanager"
PAGE = PROJECT / "deploy" / "observability" / "alertmanager.html"
"""Debian builds Alertmanager without its pages; this one lists what fires."""
SENDER = "alerts@weft.example"
REPEAT = "4h"
"""What still burns is told again after so long."""
REPEAT_TICKET = "24h"
REPEAT_RECOVERY = "5m"
"""A second attempt at what the first one did not put right."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who is told."""

    smtp: str
    """host:port of the mail server."""
    mail_to: str
    recovery_port: int | None
    """Of the supervisor's door, on loopback; None: there is no supervisor, and people alone are told."""
    recovery_token: str

    def __repr__(self) -> str:
        return f"Receivers(smtp={self.smtp!r}, mail_to={self.mail_to!r}, ...)"


def server(name: str, layout: Layout, account: Account | None, *, port: int, receivers: Receivers) -> Server:
    """The one Alertmanager."""
    home = layout.home(name)
    token = home / "recovery.token"

    async def prepare() -> None:
        layout.private(home, account)
        layout.private(home / "ui", account)
        layout.write(home / "ui" / "index.html", PAGE.read_text(), account)
        layout.write(token, receivers.recovery_token, account)
        layout.write(home / "alertmanager.yml", json.dumps(render(receivers, token), indent=1), account)

    return Server(
        name=name,
        kind=Kind.MONITOR,
        service="alertmanager",
        command=Command(
            argv=(
                BINARY,
                f"--config.file={home / 'alertmanager.yml'}",
                f"--storage.path={home / 'data'}",
                f"--web.listen-address={HOST}:{port}",
                f"--web.ui-path={home / 'ui'}",
                "--cluster.listen-address=",  # one alone; the default would listen on every address
                "--log.level=warn",
            ),
            env={**child_environ(), "HOME": str(home), "GOMAXPROCS": "1"},
            cwd=home,
            account=account,
        ),
        probe=Http(port, "/-/ready"),
        ports=(port,),
        prepare=prepare,
    )


def render(receivers: Receivers, token: Path) -> Mapping[str, object]:
    """alertmanager.yml; JSON is YAML."""
    recovers = receivers.recovery_port is not None
    return {
        "global": {
            "smtp_smarthost": receivers.smtp,
            "smtp_from": SENDER,
            "smtp_hello": "localhost",
            "smtp_require_tls": False,
            "resolve_timeout": "1m",
        },
        "route": {
            "receiver": "mail",
            # One mail for a service in trouble, not one for each of its instances and methods.
            "group_by": ["alertname", "service"],
            "group_wait": "5s",
            "group_interval": "30s",
            "repeat_interval": REPEAT,
            "routes": [
                *([_RECOVERY_ROUTE] if recovers else []),
                {
                    "matchers": ['severity = "ticket"'],
                    "receiver": "mail",
                    "group_wait": "1m",
                    "group_interval": "5m",
                    "repeat_interval": REPEAT_TICKET,
                },
                # The receiver above is for what no route takes, and the first route takes what others have to see.
                {"receiver": "mail"},
            ],
        },
        "inhibit_rules": [
            # With no instance left, that single ones are missing and calls fail goes without saying.
            _inhibit("ServiceDown", 'alertname =~ "InstanceDown|ErrorBudgetBurns.*"', "service"),
            _inhibit("CrashLoop", 'alertname =~ "InstanceDown|InstanceRestarting"', "instance"),
            _inhibit("InstanceRestarting", 'alertname = "InstanceDown"', "instance"),
            _inhibit("ErrorBudgetBurnsFast", 'alertname = "ErrorBudgetBurnsSlowly"', "method", "slo"),
        ],
        "receivers": [
            {"name": "mail", "email_configs": [{"to": receivers.mail_to, "send_resolved": True}]},
            *([{"name": "recovery", "webhook_configs": [_hook(receivers, token)]}] if recovers else []),
        ],
    }


_RECOVERY_ROUTE: Mapping[str, object] = {
    "matchers": ['recovery != ""'],
    "receiver": "recovery",
    "group_wait": "0s",
    "repeat_interval": REPEAT_RECOVERY,
    "continue": True,
}


def _hook(receivers: Receivers, token: Path) -> Mapping[str, object]:
    return {
        "url": f"http://{HOST}:{receivers.recovery_port}/recovery",
        "send_resolved": False,
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": str(token)},
            "follow_redirects": False,
        },
    }


def _inhibit(source: str, target: str, *labels: str) -> Mapping[str, object]:
    """While `source` fires, `target` is held back where both have the same `labels`."""
    return {
        "source_matchers": [f'alertname = "{source}"'],
        # Two alerts that both lack a label would count as equal.
        "target_matchers": [target, *(f'{label} != ""' for label in labels)],
        "equal": list(labels),
    }
