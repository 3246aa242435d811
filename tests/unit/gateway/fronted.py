"""One Envoy with the compiled contracts, without a control plane, in front of one backend that is every service."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.supervisor.config import child_environ
from deploy.supervisor.servers import envoy
from gateway import compiler
from gateway.envoy import bootstrap, names
from gateway.envoy.edge import Edge
from tests.waiting import eventually, free_port, listens

from .conftest import edge_secret, inlined, without_control_plane

#: In the folder of the gateway's admin socket.
LOG: Final = "envoy.log"


def whole_lines(log: Path) -> list[str]:
    """A log's lines but for a last one that is still being written."""
    return log.read_text().rpartition("\n")[0].splitlines()


@contextlib.contextmanager
def running(descriptors: bytes, settings: bootstrap.Settings, *, jwks: bytes, backend: int) -> Iterator[str]:
    """`host:port` of a gateway whose every service is at the port `backend`; it ends with the block."""
    folder, port = settings.admin_socket.parent, free_port()
    settings = replace(settings, metrics_port=free_port(), collector=None)
    bundle = compiler.compile_contracts(descriptors, Edge(port=port, tls_port=free_port()))
    config = inlined(bundle, settings, secret=edge_secret(folder), jwks=jwks.decode())
    path = folder / "envoy.json"
    path.write_text(json.dumps(without_control_plane(config, backend)))
    command = [str(envoy.binary()), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
    command += ["--file-flush-interval-msec", "50"]
    environ = child_environ() | {names.INSTANCE_VARIABLE: settings.node}
    with (
        (folder / LOG).open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, (folder / LOG).read_text()
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
