"""The whole service, composed as a process is: with everybody away it starts, answers, and says who is away."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Settings
from svc.chassis.resources import Resources
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from svc.operations import wiring
from svc.operations.config import Sources
from tests.fakes.operations import Supervised, make_call, process, status
from tests.waiting import eventually, free_port
from weft.operations.v1 import mesh_pb2
from weft_protos import mesh_parts


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    (tmp_path / "cache.key").touch(mode=0o600)
    (tmp_path / "cache.key").write_text("ab" * 32)
    nobody = f"127.0.0.1:{free_port()}"
    for name, value in {
        "INSTANCE": "operations-1",
        "LISTEN": "127.0.0.1:0",
        "METRICS_PORT": "0",
        "ETCD": nobody,
        "XDS": nobody,
        "CACHE": nobody,
        "SECRETS": str(tmp_path),
        "SUPERVISOR": str(tmp_path / "s.sock"),
        "PROMETHEUS": nobody,
        "LETTERS": f"{nobody},{nobody}",
        "LISTEN_PAGES": f"127.0.0.1:{free_port()}",
    }.items():
        monkeypatch.setenv(f"WEFT_{name}", value)
    return monkeypatch


@pytest.fixture
def built(environ: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    resources = Resources(Settings.read(), name="operations")
    services = wiring.build(resources)
    for task in resources.tasks:
        task.start()
    yield {descriptor.name: handler for descriptor, handler in services}
    for task in reversed(resources.tasks):
        task.stop()
    resources.close()


def test_every_service_of_the_contract_has_its_handler(built: dict[str, Any]) -> None:
    assert {"MeshService", "AlertService", "QueueService", "TraceService", "ContractService", "MailService"} == {*built}


def test_a_server_takes_all_of_them(environ: pytest.MonkeyPatch) -> None:
    # It refuses a handler that lacks a method, and a contract that cannot be obeyed.
    services = wiring.build(Resources(Settings.read(), name="operations"))
    server = Server(services, verifier=TokenVerifier(SystemClock()), limits=Limits(threads=1, streams=1))

    assert server.stop(0.0)


def test_with_everybody_away_a_look_says_so_and_pages_are_served(built: dict[str, Any]) -> None:
    seen = built["MeshService"].GetMesh(mesh_pb2.GetMeshRequest(name="meshes/local"), make_call())

    assert {mesh_pb2.Source.STATE_UNAVAILABLE} == {source.state for source in seen.sources}
    assert 7 == len(seen.sources)
    address = Sources.read().listen_pages
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as page:
        assert b"make setup" in page.read()


def test_what_comes_later_is_seen(built: dict[str, Any], tmp_path: Path) -> None:
    with Supervised(tmp_path / "s.sock").serving() as supervised:
        supervised.answers = {"status": {"status": status(process("orders-1"))}, "lanes": {"lanes": []}}
        handler = built["MeshService"]

        def names() -> list[str]:
            seen = handler.GetMesh(mesh_pb2.GetMeshRequest(name="meshes/local"), make_call())
            return [each.name for each in seen.processes]

        eventually(lambda: ["processes/orders-1"] == names())


def test_every_worker_has_its_queue() -> None:
    assert [one.name for one in mesh_parts.WORKERS] == wiring.queues()
    assert {"analytics", "archive", "audit", "email", "reports"} <= {*wiring.queues()}


def test_a_wrong_address_is_named(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WEFT_LETTERS", "nowhere")

    with pytest.raises(ConfigError, match="WEFT_LETTERS: 'nowhere' is not host:port"):
        Sources.read()
