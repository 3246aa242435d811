"""RabbitMQ: the broker, one node or a cluster of them, with an epmd of its own.

The broker would start an epmd that daemonises and outlives it; so ours is a child like any other, started first and
stopped last. Users come from a definitions file with hashed passwords that is loaded at boot: `rabbitmqctl` would
cost seconds, and there is never a `guest`. Of the plugins only the one that exposes metrics is on: it takes 10 MB, and
five seconds of each orderly stop.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
TUNING = (
    "log.console = true\n"
    "log.console.level = warning\n"
    "log.file = false\n"
    "disk_free_limit.absolute = 100MB\n"
    "heartbeat = 30\n"
    "consumer_timeout = 3600000\n"  # ms; workers hold a delivery for minutes at most, so it only ends a hung one
)


@dataclass(frozen=True, slots=True)
class Node:
    """One node and where it listens. All of a cluster know each other by `erlang` and share one cookie."""

    name: str
    erlang: str
    """Name in the Erlang world: `weft@localhost`, so that no host name has to be looked up."""
    port: int
    distribution_port: int
    metrics_port: int


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
    node: Node,
    layout: Layout,
    account: Account | None,
    *,
    cluster: Sequence[Node],
    epmd_port: int,
    password: str,
    cookie: str,
    role: str | Callable[[], str] = "leader",
) -> Server:
    """One node of a cluster, which may be all there is; one user, one virtual host.

    A node that has no data yet starts behind the first one, which it joins; while both form their tables, neither finds
    the other. From then on all start together, since each may have to wait for one that was stopped later.
    """
    home = layout.home(node.name)
    joins = node is not cluster[0] and not (home / "mnesia" / node.erlang).exists()
    configuration = home / "rabbitmq.conf"

    async def prepare() -> None:
        layout.private(home, account)
        layout.write(home / ".erlang.cookie", cookie, account).chmod(0o400)
        layout.write(home / "definitions.json", definitions(password), account)
        layout.write(home / "enabled_plugins", "[rabbitmq_prometheus].\n", account)
        layout.write(configuration, render(node, home, cluster=cluster), account)

    return Server(
        name=node.name,
        kind=Kind.RABBITMQ,
        service="rabbitmq",
        command=Command(
            argv=(BINARY,),
            env=_environ(node, home, configuration, epmd_port=epmd_port),
            cwd=home,
            account=account,
        ),
        probe=Amqp(node.port),
        ports=(node.port, node.distribution_port, node.metrics_port),
        after=("epmd", cluster[0].name) if joins else ("epmd",),
        prepare=prepare,
        role=role,
        grace_s=30.0,
        start_timeout_s=START_TIMEOUT_S,
    )


def _environ(node: Node, home: Path, configuration: Path, *, epmd_port: int) -> Mapping[str, str]:
    return {
        **child_environ(),
        "HOME": str(home),  # the Erlang cookie lies here
        "RABBITMQ_NODENAME": node.erlang,
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_CONF_ENV_FILE": "/nonexistent",  # nothing of a system-wide broker's settings
        "RABBITMQ_DIST_PORT": str(node.distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
        # Together they make the script exec the virtual machine, so that our child is the broker and not a shell.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": HOST,
    }


def render(node: Node, home: Path, *, cluster: Sequence[Node] = ()) -> str:
    """rabbitmq.conf."""
    return (
        f"listeners.tcp.1 = {HOST}:{node.port}\n"
        f"prometheus.tcp.ip = {HOST}\n"
        f"prometheus.tcp.port = {node.metrics_port}\n"
        f"load_definitions = {home / 'definitions.json'}\n"
        f"{TUNING}"
    ) + (_clustering(node, cluster) if len(cluster) > 1 else "")


def _clustering(own: Node, cluster: Sequence[Node]) -> str:
    # The first one has nobody to join; the others must not give up and become clusters of their own.
    return clustered([node.erlang for node in cluster], tries=1 if own == cluster[0] else 120) + (
        f"vm_memory_high_watermark.relative = {0.4 / len(cluster):.2f}\n"  # they share the machine
    )


def clustered(nodes: Sequence[str], *, tries: int = 120) -> str:
    """How nodes, by their Erlang names, find each other; `tries` are half a second apart."""
    named = (f"cluster_formation.classic_config.nodes.{number} = {node}\n" for number, node in enumerate(nodes, 1))
    return (
        "cluster_formation.peer_discovery_backend = classic_config\n"
        f"{''.join(named)}"
        f"cluster_formation.discovery_retry_limit = {tries}\n"
        "cluster_formation.discovery_retry_interval = 500\n"
        # A node that sees less than half of the others waits; a queue needs more than half of its members anyway.
        "cluster_partition_handling = pause_minority\n"
        "queue_leader_locator = balanced\n"
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
