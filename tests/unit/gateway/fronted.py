"""One Envoy with the compiled listener, in front of one instance that lets everybody do everything the chassis allows.

No control plane: routes, filters and clusters are the bundle's own, written into the bootstrap.
"""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.supervisor.servers import envoy
from gateway import compiler
from gateway.envoy import bootstrap, names
from gateway.envoy.edge import Edge
from tests.waiting import eventually, free_port

from .conftest import edge_secret, inlined


@contextlib.contextmanager
def running(descriptors: bytes, settings: bootstrap.Settings, *, jwks: bytes, backend: int) -> Iterator[str]:
    """`host:port` of a gateway whose every service is at the port `backend`; it ends with the block."""
    port, tls_port, metrics_port = (free_port() for _ in range(3))
    bundle = compiler.compile_contracts(descriptors, Edge(port=port, tls_port=tls_port))
    folder = settings.admin_socket.parent
    settings = replace(settings, metrics_port=metrics_port, control_planes=[])
    config = inlined(bundle, settings, secret=edge_secret(folder), jwks=jwks.decode())
    _without_control_plane(config, backend)
    path = folder / "bare.json"
    path.write_text(json.dumps(config))
    command = [str(envoy.binary()), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    with Path(folder / "envoy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually(lambda: _ready(metrics_port, process))
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def _without_control_plane(config: dict[str, Any], backend: int) -> None:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": backend}}
    for cluster in config["static_resources"]["clusters"]:
        if cluster["type"] != "EDS":
            continue
        cluster["type"] = "STATIC"
        del cluster["eds_cluster_config"]
        endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
        cluster["load_assignment"] = {"cluster_name": cluster["name"], "endpoints": [endpoint]}
    config.pop("dynamic_resources")
    for listener in config["static_resources"]["listeners"]:
        if listener["name"] in (names.EDGE, names.EDGE_TLS):
            listener["filter_chains"][0]["filters"][0]["typed_config"].pop("tracing")


def _ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "envoy ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
