"""RabbitMQ: the broker, with an epmd of its own.

The broker would start an epmd that daemonises and outlives it; so ours is a child like any other, started first and
stopped last. Users come from a definitions file with hashed passwords that is loaded at boot: `rabbitmqctl` would
cost seconds, and there is never a `guest`. Of the plugins only the one
that exposes metrics is on: it takes 10 MB, and five seconds of each orderly stop.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Amqp, Epmd

BINARY = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Not the wrapper in /usr/sbin, which insists on being root or rabbitmq."""
EPMD = "/usr/bin/epmd"
USER = "weft"
START_TIMEOUT_S = 150.0  # 6 to 17 s on two quiet cores, many times that on busy ones
ERLANG_FLAGS = (
    "+sbwt none +sbwtdcpu none +sbwtdio none "  # idle schedulers sleep instead of spinning
    "+S 2:2 "
    "-kernel inet_dist_use_interface {127,0,0,1}"
)


def epmd(layout: Layout, account: Account | None, *, port: int) -> Server:
    """The Erlang port mapper that the broker registers with."""
    home = layout.home("epmd")

    async def prepare() -> None:
        layout.private(home, account)

    return Server(
        name="epmd",
        kind=Kind.RABBITMQ,
        service="epmd",
        command=Command(
            argv=(EPMD, "-port", str(port), "-address", HOST),
            env={**child_environ(), "HOME": str(home)},
            cwd=home,
            account=account,
        ),
        probe=Epmd(port),
        ports=(port,),
        prepare=prepare,
        grace_s=5.0,
        stops_last=True,
    )


def server(
    name: str,
    layout: Layout,
    account: Account | None,
    *,
    port: int,
    distribution_port: int,
    metrics_port: int,
    epmd_port: int,
    password: str,
) -> Server:
    """The broker: one node, one user, one virtual host."""
    home = layout.home(name)
    configuration = home / "rabbitmq.conf"

    async def prepare() -> None:
        layout.private(home, account)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            layout.write(cookie, secrets.token_hex(20), account)
            cookie.chmod(0o400)
        layout.write(home / "definitions.json", definitions(password), account)
        layout.write(home / "enabled_plugins", "[rabbitmq_prometheus].\n", account)
        layout.write(configuration, render(port, metrics_port, home), account)

    return Server(
        name=name,
        kind=Kind.RABBITMQ,
        service="rabbitmq",
        command=Command(
            argv=(BINARY,),
            env=_environ(home, configuration, distribution_port=distribution_port, epmd_port=epmd_port),
            cwd=home,
            account=account,
        ),
        probe=Amqp(port),
        ports=(port, distribution_port, metrics_port),
        after=("epmd",),
        prepare=prepare,
        role="leader",
        grace_s=30.0,
        start_timeout_s=START_TIMEOUT_S,
    )


def _environ(home: Path, configuration: Path, *, distribution_port: int, epmd_port: int) -> Mapping[str, str]:
    return {
        **child_environ(),
        "HOME": str(home),  # the Erlang cookie lies here
        "RABBITMQ_NODENAME": "weft@localhost",  # no look-up of a host name that may not resolve
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_CONF_ENV_FILE": "/nonexistent",  # nothing of a system-wide broker's settings
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
        # Together they make the script exec the virtual machine, so that our child is the broker and not a shell.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": HOST,
    }


def render(port: int, metrics_port: int, home: Path) -> str:
    """rabbitmq.conf."""
    return (
        f"listeners.tcp.1 = {HOST}:{port}\n"
        f"prometheus.tcp.ip = {HOST}\n"
        f"prometheus.tcp.port = {metrics_port}\n"
        f"load_definitions = {home / 'definitions.json'}\n"
        "log.console = true\n"
        "log.console.level = warning\n"
        "log.file = false\n"
        "disk_free_limit.absolute = 100MB\n"
        "heartbeat = 30\n"
        "consumer_timeout = 3600000\n"  # ms; workers hold a delivery for minutes at most, so it only ends a hung one
    )


def definitions(password: str) -> str:
    """The broker's whole population: our user and the virtual host `/`."""
    return json.dumps(
        {
            "users": [
                {
                    "name": USER,
                    "password_hash": password_hash(password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": [],
                    "limits": {},
                }
            ],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        },
        indent=1,
    )


def password_hash(password: str) -> str:
    """RabbitMQ's salted SHA-256. The salt follows from the password, so that the file is the same at each start."""
    salt = hashlib.sha256(b"weft-rabbitmq-salt:" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
