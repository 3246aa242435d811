"""One real Envoy with the compiled contracts, without a control plane, in front of one real instance in this process.

`door` is the fixture: import it into a test module. What passes the gateway reaches the handler of `door.instance`, so
that a test can tell whether a refused request did anything.
"""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.supervisor.config import child_environ
from deploy.supervisor.servers import envoy
from gateway import compiler
from gateway.envoy import bootstrap, names
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from svc.chassis.clock import SystemClock
from tests.integration.edge_calls import Answer, Json, Native, Target, Web, Wire
from tests.unit.svc.chassis.instance import NOW, Instance
from tests.waiting import eventually, listens
from weft_protos import policy

from .conftest import edge_secret, inlined

SCOPES: Final = " ".join(sorted(policy.scopes()))


@dataclass
class Door:
    """The gateway, called over all wires, and the instance behind it."""

    address: str
    instance: Instance
    log: Path
    wires: Sequence[Wire] = field(default_factory=tuple)

    def token(self, **claims: object) -> str:
        """A good token, but for the claims given; the instance's clock stands where it was when the gateway started."""
        now = int(self.instance.clock.now().timestamp())
        return self.instance.issuer.token(**{"iat": now, "exp": now + 300, "scope": SCOPES} | claims)

    @property
    def handled(self) -> int:
        """How many requests have reached a handler."""
        # A call that is kept keeps its stream, and an instance takes no more than a hundred of them.
        del self.instance.behaviour.calls[:-1]
        return len(self.instance.behaviour.requests)

    def everywhere(self, target: Target, token: str | None = None) -> dict[str, Answer]:
        """The answers of all wires to one request."""
        return {wire.name: wire.call(target, token) for wire in self.wires}

    def logged(self, trace_id: str) -> list[dict[str, Any]]:
        """The lines of the gateway's log about a trace."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if trace_id in line]
        return [line for line in found if line["trace_id"] == trace_id]


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, no two of them the same."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in held]


def _static(cluster: dict[str, Any], port: int) -> dict[str, Any]:
    """The cluster with one endpoint that is known, where no control plane tells of any."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    kept = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    assignment = {"cluster_name": cluster["name"], "endpoints": [{"lb_endpoints": [endpoint]}]}
    return kept | {"type": "STATIC", "load_assignment": assignment}


def _config(folder: Path, ports: list[int], instance: Instance, descriptors: bytes) -> dict[str, Any]:
    settings = bootstrap.Settings(
        node="gateway-1",
        control_planes=[Address("127.0.0.1", 1)],
        collector=None,
        metrics_port=ports[2],
        admin_socket=folder / "admin.sock",
    )
    edge = Edge(address="127.0.0.1", port=ports[0], tls_port=ports[1])
    config = inlined(compiler.compile_contracts(descriptors, edge), settings, secret=edge_secret(folder))
    del config["dynamic_resources"]
    static = config["static_resources"]
    static["clusters"] = [
        _static(one, instance.port) if "eds_cluster_config" in one else one for one in static["clusters"]
    ]
    for listener in static["listeners"]:
        for link in listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]:
            if link["name"] == names.JWT:
                provider = link["typed_config"]["providers"][names.TOKEN_PROVIDER]
                provider["local_jwks"] = {"inline_string": instance.issuer.jwks().decode()}
    return config


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, descriptors: bytes) -> Iterator[Door]:
    """A gateway and an instance of its own for each module."""
    folder, ports, instance = tmp_path_factory.mktemp("door"), _free_ports(3), Instance()
    instance.clock.move((SystemClock().now() - NOW).total_seconds())
    config, log = folder / "envoy.json", folder / "envoy.log"
    config.write_text(json.dumps(_config(folder, ports, instance, descriptors)))
    command = [str(envoy.binary()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--file-flush-interval-msec", "50"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=child_environ() | {names.INSTANCE_VARIABLE: "gateway-1"},
        )
    try:
        eventually(lambda: listens(ports[0]))
        address = f"127.0.0.1:{ports[0]}"
        wires = (Native(address), Web(address), Web(address, text=True), Json(address))
        yield Door(address, instance, log, wires)
        for wire in wires:
            wire.close()
    finally:
        process.terminate()
        process.wait(30)
        instance.close()
