"""PostgreSQL for the profile `ha`: members under Patroni, one of which leads, elected through the mesh's own etcd.

Debian's 3.0. A commit is acknowledged when the leader and one replica have written it (`synchronous_mode`), and only a
replica that has is ever made the leader. With both replicas away the leader goes on alone, and none of them takes over
before it has caught up (`synchronous_mode_strict` would refuse writes instead; it protects against a lost disk, and
here all members share one). While etcd is away the leader goes on as long as it reaches every member
(`failsafe_mode`).

Patroni starts the server as a daemon of its own, so that it outlives Patroni; here it must not, see `companion`.
"""

import asyncio
import base64
import http.client
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.errors import ConfigError, StartError
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST, TIMEOUT_S, Answer, ClosedError, NoAnswerError
from deploy.supervisor.servers import postgres

BINARY = Path("/usr/bin/patroni")
SCOPE = "weft"
NAMESPACE = "/patroni/"
"""Where Patroni keeps its keys in etcd: a user of its own may read and write there, and nowhere else."""
ETCD_USER = "patroni"
REPLICATOR = "replicator"
API_USER = "weft"

TTL_S, LOOP_WAIT_S, RETRY_S = 10, 2, 3
"""A leader that is silent for TTL_S is replaced; TTL_S has to be more than a turn and two tries of etcd."""
CRASH_RECOVERY_S = 10
"""A server that died under a living Patroni is started again, and replaced where that takes longer."""
START_TIMEOUT_S = 150.0
"""Replicas copy the leader's data first."""
SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster and where it listens."""

    name: str
    port: int
    """The server's."""
    api_port: int
    """Patroni's."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """What members sign in with: at the server, at each other, at etcd."""

    superuser: str
    replicator: str
    api: str
    etcd: str

    def __repr__(self) -> str:
        return "Passwords(...)"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What all members have in common."""

    etcd: Sequence[str]
    """`host:port` of etcd's members."""
    passwords: Passwords
    durable: bool = True
    """Without it a machine that stops may lose data, a process not."""


@dataclass(slots=True)
class _Member:
    """Ready as soon as its server leads or follows; from then on asked only whether Patroni's own loop goes on.

    What it is waiting for then (etcd, another member) a new process would wait for as well.
    """

    port: int
    _started: bool = field(default=False, init=False)
    _role: str = field(default="member", init=False)

    def role(self) -> str:
        """`leader` or `member`, as of the last answer."""
        return self._role

    async def check(self) -> Answer:
        """`/patroni` says the role, `/readiness` and `/liveness` decide. Raises NoAnswerError."""
        state = await asyncio.to_thread(_get, self.port, "/patroni")
        told = json.loads(state.body or b"{}")
        leads = told.get("role") in ("master", "primary") and told.get("state") == "running"
        self._role = "leader" if leads else "member"
        answer = await asyncio.to_thread(_get, self.port, "/liveness" if self._started else "/readiness")
        if answer.status != HTTPStatus.OK:
            return Answer.REFUSING
        self._started = True
        return Answer.READY

    async def close(self) -> None:
        """The next process has to begin anew."""
        self._started, self._role = False, "member"


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


def _get(port: int, path: str) -> _Reply:
    try:
        return _request(port, "GET", path, timeout_s=TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        kind = ClosedError if isinstance(error, ConnectionRefusedError) else NoAnswerError
        raise kind(f"GET http://{HOST}:{port}{path}: {error}") from error


def _request(
    port: int, method: str, path: str, *, timeout_s: float, body: Mapping[str, object] | None = None, password: str = ""
) -> _Reply:
    headers = {"Connection": "close"}
    if password:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{API_USER}:{password}'.encode()).decode()}"
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        response = connection.getresponse()
        return _Reply(response.status, response.read())
    finally:
        connection.close()


def server(
    member: Member, layout: Layout, account: Account | None, *, cluster: Cluster, after: tuple[str, ...] = ()
) -> Server:
    """One member. All of them start together: the first makes the data, the others copy it. Raises ConfigError."""
    home = layout.home(member.name)
    configuration = home / "patroni.yml"
    probe = _Member(member.api_port)

    async def prepare() -> None:
        if not BINARY.exists():
            raise ConfigError(f"{BINARY} is missing; run `make up` or deploy/setup.sh, which installs Patroni")
        layout.private(home, account)
        layout.private(home / "socket", account)
        layout.write(configuration, json.dumps(configure(member, home, cluster), indent=1), account)

    return Server(
        name=member.name,
        kind=Kind.DATABASE,
        service="postgres",
        command=Command(
            argv=(str(BINARY), str(configuration)),
            env={**child_environ(), "HOME": str(home)},
            cwd=home,
            account=account,
        ),
        probe=probe,
        ports=(member.port, member.api_port),
        after=after,
        prepare=prepare,
        role=probe.role,
        companion=lambda: postmaster(home / "cluster"),
        watched=True,
        grace_s=30.0,
        start_timeout_s=START_TIMEOUT_S,
    )


def postmaster(data: Path) -> int | None:
    """Pid of the server that runs on a data directory, whoever started it; None where there is none."""
    try:
        pid = int((data / "postmaster.pid").read_text().partition("\n")[0])
        runs, where = os.readlink(f"/proc/{pid}/exe"), os.readlink(f"/proc/{pid}/cwd")
    except (OSError, ValueError):
        return None
    return pid if (Path(runs).name, Path(where)) == ("postgres", data) else None


def configure(member: Member, home: Path, cluster: Cluster) -> Mapping[str, Any]:
    """The configuration file of one member. Patroni reads YAML, of which JSON is a part."""
    passwords = cluster.passwords
    api = f"{HOST}:{member.api_port}"
    return {
        "scope": SCOPE,
        "namespace": NAMESPACE,
        "name": member.name,
        # Its main loop tells every two seconds that there is nothing to do.
        "log": {"level": "INFO", "loggers": {"patroni.__main__": "WARNING"}},
        "restapi": {
            "listen": api,
            "connect_address": api,
            "authentication": {"username": API_USER, "password": passwords.api},
        },
        "etcd3": {
            "hosts": list(cluster.etcd),
            "protocol": "http",
            "username": ETCD_USER,
            "password": passwords.etcd,
        },
        "bootstrap": {
            "dcs": dynamic(),
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C.UTF-8"},
                {"auth": "scram-sha-256"},
                "no-sync",
                "no-instructions",
            ],
        },
        "postgresql": _postgresql(member, home, cluster),
        "watchdog": {"mode": "off"},  # the supervisor is: it ends the server of a Patroni that died
    }


def dynamic() -> dict[str, Any]:
    """What the cluster as a whole goes by. It lies in etcd, and is brought up to date at each start."""
    return {
        "ttl": TTL_S,
        "loop_wait": LOOP_WAIT_S,
        "retry_timeout": RETRY_S,
        "maximum_lag_on_failover": 1 << 20,
        "primary_start_timeout": CRASH_RECOVERY_S,
        "synchronous_mode": True,
        "synchronous_mode_strict": False,
        "failsafe_mode": True,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                # Has to be the same on all members, or a replica refuses to start.
                "max_connections": postgres.CONNECTIONS_MAX,
                "max_wal_senders": 8,
                "max_replication_slots": 8,
                # A member that stays away for longer copies the data anew; it must not fill the leader's disk.
                "wal_keep_size": "128MB",
                "max_slot_wal_keep_size": "1GB",
            },
        },
    }


def _postgresql(member: Member, home: Path, cluster: Cluster) -> dict[str, Any]:
    address = f"{HOST}:{member.port}"
    passwords = cluster.passwords
    parameters = {
        **postgres.parameters(home / "socket", durable=True),
        # Three of them share the machine, and the leader alone works much.
        "shared_buffers": "64MB",
        # A replica's reader keeps its rows for a while; the leader learns of it and does not clean them up.
        "hot_standby_feedback": "on",
    }
    if not cluster.durable:
        # Nothing more: pg_rewind needs whole pages, and what is acknowledged must be on two members all the same.
        parameters["fsync"] = "off"
    return {
        "listen": address,
        "connect_address": address,
        "data_dir": str(home / "cluster"),
        "bin_dir": str(postgres.binary("postgres").parent),
        "pgpass": str(home / "pgpass"),
        "authentication": {
            "superuser": {"username": postgres.SUPERUSER, "password": passwords.superuser},
            "replication": {"username": REPLICATOR, "password": passwords.replicator},
        },
        "pg_hba": [
            f"host all all {HOST}/32 scram-sha-256",
            f"host replication {REPLICATOR} {HOST}/32 scram-sha-256",
        ],
        "basebackup": [{"checkpoint": "fast"}],
        "parameters": parameters,
        # A member that cannot be rewound copies the data anew, instead of waiting for somebody.
        "remove_data_directory_on_diverged_timelines": True,
        "remove_data_directory_on_rewind_failure": True,
    }


async def bring_up_to_date(members: Sequence[Member], password: str) -> None:
    """Have the cluster go by `dynamic`, also one that was made by an earlier release. Raises StartError."""
    await asyncio.to_thread(_bring_up_to_date, members, password)


def _bring_up_to_date(members: Sequence[Member], password: str) -> None:
    answers = []
    for member in members:
        try:
            reply = _request(member.api_port, "PATCH", "/config", timeout_s=SETTLE_S, body=dynamic(), password=password)
        except (OSError, http.client.HTTPException) as error:
            answers.append(f"{member.name}: {error}")
            continue
        if reply.status == HTTPStatus.OK:
            return
        answers.append(f"{member.name}: {reply.status} {reply.body[:200].decode('utf-8', 'replace')}")
    raise StartError("databases", "; ".join(answers))
