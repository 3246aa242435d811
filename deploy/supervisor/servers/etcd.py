"""etcd: the registry. One member, authentication on, loopback only.

Debian's 3.4. Authentication is set up over etcd's JSON gateway, so that no password shows up in anybody's argv.
"""

import asyncio
import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Http

BINARY = "/usr/bin/etcd"
USER = "weft"
PREFIX = "/weft/"
REQUEST_TIMEOUT_S = 10.0
TOKEN_TTL_S = 3600
"""A simple token lives on while it is used; this is how long a client may be silent."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """Of etcd's administrator and of the user everything else signs in as."""

    root: str
    user: str

    def __repr__(self) -> str:
        return "Passwords(...)"


class EtcdError(Exception):
    """etcd said no; the message is etcd's."""


def server(name: str, layout: Layout, account: Account | None, *, client_port: int, peer_port: int) -> Server:
    """One member that is a cluster by itself."""
    home = layout.home(name)
    client, peer = f"http://{HOST}:{client_port}", f"http://{HOST}:{peer_port}"

    async def prepare() -> None:
        layout.private(home, account)

    return Server(
        name=name,
        kind=Kind.ETCD,
        service="etcd",
        command=Command(
            argv=(BINARY, *_flags(name, str(home / "member"), client, peer)),
            env={**child_environ(), "HOME": str(home)},
            cwd=home,
            account=account,
        ),
        probe=Http(client_port, "/health"),
        ports=(client_port, peer_port),
        prepare=prepare,
        role="leader",
    )


def _flags(name: str, data: str, client: str, peer: str) -> tuple[str, ...]:
    return (
        f"--name={name}",
        f"--data-dir={data}",
        # All four URLs and the cluster, or it takes 2379 and 2380.
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={name}={peer}",
        # Watchers ping every second to notice a frozen server; the default answers that with GOAWAY.
        "--grpc-keepalive-min-time=1s",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        f"--auth-token-ttl={TOKEN_TTL_S}",
        # Passwords are 24 random bytes, so a costly hash would only make signing in slow.
        "--bcrypt-cost=4",
        "--logger=zap",
        "--log-outputs=stderr",
        "--log-level=warn",
    )


async def enable_authentication(port: int, passwords: Passwords) -> None:
    """Bring users, role and authentication to what they should be; no matter how far an earlier try came."""
    await asyncio.to_thread(_enable_authentication, port, passwords)


def _enable_authentication(port: int, passwords: Passwords) -> None:
    if _is_enabled(port, passwords):
        return
    key, end = _range(PREFIX)
    _once(port, "auth/user/add", {"name": "root", "password": passwords.root})
    _once(port, "auth/user/grant", {"user": "root", "role": "root"})
    _once(port, "auth/role/add", {"name": USER})
    _call(
        port,
        "auth/role/grant",
        {"name": USER, "perm": {"permType": "READWRITE", "key": key, "range_end": end}},
    )
    _once(port, "auth/user/add", {"name": USER, "password": passwords.user})
    _once(port, "auth/user/grant", {"user": USER, "role": USER})
    _call(port, "auth/enable", {})


def _is_enabled(port: int, passwords: Passwords) -> bool:
    try:
        _call(port, "auth/authenticate", {"name": "root", "password": passwords.root})
    except EtcdError as error:
        if "authentication is not enabled" in str(error):
            return False
        raise
    return True


def _range(prefix: str) -> tuple[str, str]:
    """First key of a prefix and the first key behind it, as the JSON gateway wants them."""
    raw = prefix.encode()
    return base64.b64encode(raw).decode(), base64.b64encode(raw[:-1] + bytes((raw[-1] + 1,))).decode()


def _once(port: int, method: str, request: Mapping[str, object]) -> None:
    try:
        _call(port, method, request)
    except EtcdError as error:
        # 3.4 adds the root role by itself, and an earlier try may have come this far.
        if "already exists" not in str(error):
            raise


def _call(port: int, method: str, request: Mapping[str, object]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request("POST", f"/v3/{method}", body=json.dumps(request))
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise EtcdError(f"etcd {method}: {body.strip()[:300]}")
