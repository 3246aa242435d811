"""`weft contracts publish` and `rollback` over a fake etcd and a supervisor that only tells where it is."""

import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from deploy.cli.__main__ import run
from deploy.supervisor import messages
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from lb import status
from lb.registry.etcd import Put
from lb.registry.keys import status_key
from lb.status import ClientState, ControlPlaneStatus, Refusal
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import ask
from weft.options.v1 import policy_pb2
from weft_protos import locations

SETTLED = ClientState("gateway-1", "envoy", 1, unsent=False, waiting=(), refusals=())


class Supervisor(socketserver.ThreadingUnixStreamServer):
    """Answers one question, and takes what the monitor is to go by."""

    etcd = ""
    watched: str | None = ""
    """The rules it was given last; None: it runs no monitor."""


class Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Supervisor)
        request = messages.decode(self.rfile.readline())
        edge = ("--port", "18080", "--tls-port", "18443", "--trace-percent", "100")
        environ = {**child_environ(), "WEFT_ETCD": self.server.etcd}
        answer: dict[str, object] = {"error": "no process is called prometheus"}
        if request["op"] == "publishing":
            answer = {"publishing": {"edge": edge, "environ": environ}}
        elif self.server.watched is not None:
            self.server.watched = request["rules"]
            answer = {}
        self.wfile.write(messages.encode(answer))


@pytest.fixture
def supervisor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """The supervisor of a mesh, as far as these verbs see one."""
    monkeypatch.setenv("WEFT_DATA", str(folder))
    layout = Layout(folder)
    layout.prepare(None)
    with Supervisor(str(layout.socket), Conversation) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def etcd(supervisor: Supervisor) -> Iterator[FakeEtcd]:
    """Its etcd."""
    running = FakeEtcd()
    supervisor.etcd = running.address
    yield running
    running.close()


def with_availability(percent: float, folder: Path) -> Path:
    """The contracts with another objective of GetSales and its neighbours."""
    files = FileDescriptorSet.FromString(locations.contracts().read_bytes())
    analytics = next(file for file in files.file if file.name == "weft/analytics/v1/analytics.proto")
    analytics.service[0].options.Extensions[policy_pb2.defaults].slo.availability = percent
    path = folder / "edited.binpb"
    path.write_bytes(files.SerializeToString())
    return path


def told(etcd: FakeEtcd, digest: str, client: ClientState) -> None:
    """A control plane serves the bundle, and this is what its client made of it."""
    document = status.encode(ControlPlaneStatus("control-plane-1", digest, "", (), (client,)))
    ask(etcd.address, lambda opened: opened.put(Put(status_key("control-plane-1"), document)))


def test_a_publication_is_reported_with_what_clients_made_of_it(
    etcd: FakeEtcd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == run(["contracts", "publish", "--json"])
    published = json.loads(capsys.readouterr().out)
    assert (1, True) == (published["number"], published["changed"])

    told(etcd, published["manifest"], SETTLED)
    assert 0 == run(["contracts", "publish", "--wait"])
    lines = capsys.readouterr().out.splitlines()
    assert [f"current already: {published['manifest'][:12]}, number 1, {published['resources']} resources"] == lines[:1]
    assert "accepted by every connected client: 1" == lines[1]

    told(etcd, published["manifest"], replace(SETTLED, refusals=(Refusal("Cluster", "v", "no\nreally"),)))
    assert 1 == run(["contracts", "publish", "--wait"])
    said = capsys.readouterr().err.splitlines()
    assert "weft: gateway-1 refused Cluster: no really" == said[0]
    assert "weft contracts rollback" in said[1]

    told(etcd, published["manifest"], replace(SETTLED, waiting=("Cluster",)))
    assert 1 == run(["contracts", "publish", "--wait", "--timeout", "1", "--json"])
    captured = capsys.readouterr()
    assert "waiting" == json.loads(captured.out)["state"]
    assert "gateway-1 has not answered control-plane-1 yet" in captured.err


def test_what_is_published_is_what_plans_are_made_against(etcd: FakeEtcd, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["contracts", "publish"])
    capsys.readouterr()

    assert 0 == run(["contracts", "plan", "--against", "running"])
    assert "nothing changes\n" == capsys.readouterr().out
    assert 0 == run(["contracts", "check", "--against", "running"])


def test_the_monitor_goes_by_the_objectives_of_what_is_published(
    etcd: FakeEtcd, supervisor: Supervisor, folder: Path
) -> None:
    assert 0 == run(["contracts", "publish"])
    assert supervisor.watched
    assert "vector(0.0321)" not in supervisor.watched

    assert 0 == run(["contracts", "publish", "--descriptors", str(with_availability(96.79, folder))])
    assert "vector(0.0321)" in supervisor.watched

    assert 0 == run(["contracts", "rollback"])
    assert "vector(0.0321)" not in supervisor.watched


def test_a_publication_without_a_monitor_is_one_all_the_same(
    etcd: FakeEtcd, supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.watched = None

    assert 0 == run(["contracts", "publish"])
    said = capsys.readouterr().err
    assert "weft: alerts still go by the objectives of before: no process is called prometheus\n" == said


def test_there_is_nothing_to_go_back_to_at_first(etcd: FakeEtcd, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["contracts", "publish"])
    capsys.readouterr()

    assert 1 == run(["contracts", "rollback"])
    assert ("", "weft: there is no earlier bundle to go back to\n") == tuple(capsys.readouterr())
