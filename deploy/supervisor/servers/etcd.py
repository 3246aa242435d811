"""etcd: the registry. Members of one cluster, authentication on, loopback only.

Debian's 3.4. Authentication is set up over etcd's JSON gateway, so that no password shows up in anybody's argv.
Before the members start, `etcd_cluster.py` sees to it that their data is that of one cluster.
"""

import asyncio
import base64
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import structlog

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST, TIMEOUT_S, Answer, ClosedError, NoAnswerError
from deploy.supervisor.readiness import Http

log = structlog.get_logger()

BINARY = "/usr/bin/etcd"
USER = "weft"
PREFIX = "/weft/"
REQUEST_TIMEOUT_S = 10.0
HEARTBEAT_MS = 150
ELECTION_MS = 1500
"""A leader that is silent for so long is replaced. Half as long again as by default: while a mesh starts on two cores,
a healthy member may get no turn for a second, and every election costs all clients their answers."""
QUOTA_BYTES = 512 << 20
"""As much as a member keeps on disk, besides its log. Routes of a thousand methods take a tenth of a megabyte."""
TOKEN_TTL_S = 3600
"""A simple token lives on while it is used; this is how long a client may be silent."""


TUNING = (
    f"--heartbeat-interval={HEARTBEAT_MS}",
    f"--election-timeout={ELECTION_MS}",
    # A member that was stopped for a while asks before it makes the others vote.
    "--pre-vote",
    f"--quota-backend-bytes={QUOTA_BYTES}",
    "--snapshot-count=5000",
    "--max-wals=2",
    "--max-snapshots=2",
    # Watchers ping often to notice a frozen server; the default answers that with GOAWAY.
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
"""What every member is told beside who and where it is."""

Place = int | str
"""Where a member is asked: a port of this machine, or host:port of another one."""


@dataclass(frozen=True, slots=True)
class User:
    """Who may read and write below a prefix, and nowhere else."""

    name: str
    password: str
    prefix: str

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, password=..., prefix={self.prefix!r})"


@dataclass(frozen=True, slots=True)
class Passwords:
    """Of etcd's administrator, and of the users everything else signs in as."""

    root: str
    users: tuple[User, ...]

    def __repr__(self) -> str:
        return "Passwords(...)"


class EtcdError(Exception):
    """etcd said no; the message is etcd's."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster and where it listens."""

    name: str
    client_port: int
    peer_port: int

    @property
    def peer(self) -> str:
        """Where the other members reach it."""
        return f"http://{HOST}:{self.peer_port}"


def initial_cluster(members: Sequence[Member]) -> str:
    """All members as etcd wants them named: `etcd-1=http://127.0.0.1:21001,...`."""
    return ",".join(f"{member.name}={member.peer}" for member in members)


def data_dir(name: str, layout: Layout) -> Path:
    """Where a member keeps its data."""
    return layout.home(name) / "member"


@dataclass(slots=True)
class _Alive:
    """Ready as soon as it can answer for the cluster; from then on asked only whether it answers at all.

    A member without a quorum is healthy: ending it would take the quorum further away.
    """

    port: int
    _started: bool = field(default=False, init=False)
    _role: str = field(default="member", init=False)

    def role(self) -> str:
        """`leader` or `member`, as of the last answer."""
        return self._role

    async def check(self) -> Answer:
        """`/health` asks the quorum, a member's status only this process. Raises NoAnswerError."""
        self._role = await asyncio.to_thread(_role, self.port)
        if self._started:
            return Answer.READY
        try:
            answer = await Http(self.port, "/health").check()
        except NoAnswerError:  # it waits for the others, for longer than is waited for it
            return Answer.REFUSING
        self._started = answer is Answer.READY
        return answer

    async def close(self) -> None:
        """The next process has to begin anew."""
        self._started, self._role = False, "member"


def _role(port: int) -> str:
    """What a member is in its cluster; needs no password. Raises NoAnswerError."""
    try:
        status = _call(port, "maintenance/status", {}, timeout_s=TIMEOUT_S)
        header, leader = status["header"], status.get("leader")
        return "leader" if isinstance(header, dict) and header.get("member_id") == leader else "member"
    except (OSError, http.client.HTTPException, EtcdError, ValueError, KeyError) as error:
        kind = ClosedError if isinstance(error, ConnectionRefusedError) else NoAnswerError
        raise kind(f"port {port}: {error or 'no answer in time'}") from error


def server(
    member: Member, layout: Layout, account: Account | None, *, cluster: Sequence[Member], after: tuple[str, ...] = ()
) -> Server:
    """One member of a cluster. It is ready once the cluster has a leader, so all of them start together."""
    home = layout.home(member.name)
    probe = _Alive(member.client_port)

    async def prepare() -> None:
        layout.private(home, account)

    return Server(
        name=member.name,
        kind=Kind.ETCD,
        service="etcd",
        command=Command(
            argv=(BINARY, *_flags(member, str(data_dir(member.name, layout)), cluster)),
            # Half of Go's usual slack: three members share the machine with everything else.
            env={**child_environ(), "HOME": str(home), "GOGC": "50"},
            cwd=home,
            account=account,
        ),
        probe=probe,
        role=probe.role,
        ports=(member.client_port, member.peer_port),
        prepare=prepare,
        after=after,
        watched=True,
    )


def _flags(member: Member, data: str, cluster: Sequence[Member]) -> tuple[str, ...]:
    client = f"http://{HOST}:{member.client_port}"
    return (
        f"--name={member.name}",
        f"--data-dir={data}",
        # All four URLs and the cluster, or it takes 2379 and 2380.
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={member.peer}",
        f"--initial-advertise-peer-urls={member.peer}",
        f"--initial-cluster={initial_cluster(cluster)}",
        *TUNING,
    )


async def enable_authentication(places: Sequence[Place], passwords: Passwords) -> None:
    """Bring users, role and authentication to what they should be; no matter how far an earlier try came.

    Asks one member after the other. Raises OSError or EtcdError, as the last of them answered.
    """
    for place in places[:-1]:
        try:
            return await asyncio.to_thread(_enable_authentication, place, passwords)
        except (OSError, http.client.HTTPException, EtcdError) as error:
            log.warning("member_passed_over", place=place, reason=str(error) or type(error).__name__)
    return await asyncio.to_thread(_enable_authentication, places[-1], passwords)


def _enable_authentication(place: Place, passwords: Passwords) -> None:
    token = _sign_in(place, passwords)
    _once(place, "auth/user/add", {"name": "root", "password": passwords.root}, token)
    _once(place, "auth/user/grant", {"user": "root", "role": "root"}, token)
    for user in passwords.users:
        key, end = _range(user.prefix)
        _once(place, "auth/role/add", {"name": user.name}, token)
        permission = {"permType": "READWRITE", "key": key, "range_end": end}
        _call(place, "auth/role/grant", {"name": user.name, "perm": permission}, token)
        _once(place, "auth/user/add", {"name": user.name, "password": user.password}, token)
        _once(place, "auth/user/grant", {"user": user.name, "role": user.name}, token)
    if not token:
        _call(place, "auth/enable", {})


def _sign_in(place: Place, passwords: Passwords) -> str:
    """A token of the administrator; empty where authentication is not on yet. Raises EtcdError."""
    try:
        answer = _call(place, "auth/authenticate", {"name": "root", "password": passwords.root})
    except EtcdError as error:
        if "authentication is not enabled" in str(error):
            return ""
        raise
    return str(answer["token"])


def _range(prefix: str) -> tuple[str, str]:
    """First key of a prefix and the first key behind it, as the JSON gateway wants them."""
    raw = prefix.encode()
    return base64.b64encode(raw).decode(), base64.b64encode(raw[:-1] + bytes((raw[-1] + 1,))).decode()


def _once(place: Place, method: str, request: Mapping[str, object], token: str) -> None:
    try:
        _call(place, method, request, token)
    except EtcdError as error:
        # 3.4 adds the root role by itself, and an earlier try may have come this far.
        if "already exists" not in str(error):
            raise


def _call(
    place: Place, method: str, request: Mapping[str, object], token: str = "", *, timeout_s: float = REQUEST_TIMEOUT_S
) -> Mapping[str, object]:
    host, _, port = place.rpartition(":") if isinstance(place, str) else (HOST, "", place)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        headers = {"Authorization": token} if token else {}
        connection.request("POST", f"/v3/{method}", body=json.dumps(request), headers=headers)
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise EtcdError(f"etcd {method}: {body.strip()[:300]}")
    answer: Mapping[str, object] = json.loads(body)
    return answer
