"""What is held still, dies, loops, is too busy or loses its supervisor is put right by itself."""

import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Status
from deploy.supervisor.record import STANDBY
from deploy.supervisor.workspace import temporary
from tests.integration.shop import Customer, Shop, metadata
from tests.integration.steady_load import SteadyLoad
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc

#: Twenty instances start on two cores, four at a time.
SCALED_S = 300.0
LONG_STILL = pytest.mark.long(short="test_a_process_that_is_held_still_is_replaced")
LONG_SCALE = pytest.mark.long(short="test_instances_come_and_go_without_a_call_noticing")
#: More than one instance serves at once, so that some wait.
CALLERS = 40


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.mark.parametrize(
    "name",
    ["catalog-2", "memcached-2", *(pytest.param(name, marks=LONG_STILL) for name in ("email-1", "control-plane-2"))],
)
def test_a_process_that_is_held_still_is_replaced(mesh: Mesh, name: str) -> None:
    mesh.wait_ready()
    before = mesh.status().process(name)

    mesh.kill(name, signal.SIGSTOP)

    eventually(lambda: mesh.status().process(name).restarts > before.restarts)
    mesh.wait_ready()
    assert before.pid != mesh.status().process(name).pid
    assert "does not answer any more" == mesh.status().process(name).reason


def test_orders_go_on_while_an_instance_is_held_still_and_replaced(mesh: Mesh, shop: Shop) -> None:
    mesh.wait_ready()
    before = mesh.status().process("orders-2").restarts

    with SteadyLoad(shop) as load:
        mesh.kill("orders-2", signal.SIGSTOP)
        eventually(lambda: mesh.status().process("orders-2").restarts > before)
        mesh.wait_ready()

    assert [] == load.failed
    assert {0} == set(load.miscounted)


def test_an_instance_without_descriptors_lives_and_serves_when_it_has_some_again(mesh: Mesh, shop: Shop) -> None:
    mesh.wait_ready()
    before = mesh.status().process("catalog-2")
    assert before.pid is not None
    soft, hard = resource.prlimit(before.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(before.pid, resource.RLIMIT_NOFILE, (16, hard))
    try:
        with SteadyLoad(shop) as during:
            during.advance()
    finally:
        resource.prlimit(before.pid, resource.RLIMIT_NOFILE, (soft, hard))

    with SteadyLoad(shop) as afterwards:
        afterwards.advance()
    assert ([], []) == (afterwards.failed, afterwards.disturbed)
    assert {0} == {*during.miscounted, *afterwards.miscounted}
    assert before.pid == mesh.status().process("catalog-2").pid


@pytest.mark.parametrize("many", [5, pytest.param(20, marks=LONG_SCALE)])
def test_instances_come_and_go_without_a_call_noticing(mesh: Mesh, shop: Shop, many: int) -> None:
    mesh.wait_ready()
    size = mesh.status().sizes["orders"].desired
    try:
        with SteadyLoad(shop) as load:
            scale(mesh, "orders", many)
            load.advance()
            scale(mesh, "orders", size)

        assert ([], []) == (load.failed, load.disturbed)
        assert {0} == set(load.miscounted)
    finally:
        scale(mesh, "orders", size)


def scale(mesh: Mesh, service: str, size: int) -> None:
    """Have so many instances, and see that there are."""
    mesh.scale(service, size)
    instances = [f"{service}-{number}" for number in range(1, size + 1)]
    eventually(
        lambda: instances == [one.name for one in mesh.status().processes if one.service == service],
        deadline_s=SCALED_S,
    )


class Crowd:
    """Callers who ask one instance for more than it can do, until told to stop. Refusals are what they expect."""

    def __init__(self, address: str, customer: Customer) -> None:
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._call = catalog_pb2_grpc.CatalogServiceStub(self._channel).ListProducts
        self._metadata = metadata(customer)
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CALLERS)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._channel.close()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self._call(catalog_pb2.ListProductsRequest(page_size=100), timeout=5, metadata=self._metadata)
            except grpc.RpcError:
                self._stop.wait(0.01)


@pytest.fixture
def by_load(mesh: Mesh, shop: Shop) -> Iterator[None]:
    """Catalog has one instance, which the load decides about, and products to list."""
    mesh.wait_ready()
    size = mesh.status().sizes["catalog"].desired
    for _ in range(20):
        shop.product(stock=None)
    try:
        mesh.scale("catalog", 1)
        mesh.scale_by_load("catalog", Bounds(1, 2))
        yield
    finally:
        mesh.scale("catalog", size)
        mesh.wait_ready()


def instances(mesh: Mesh) -> list[str]:
    return [one.name for one in mesh.status().processes if one.service == "catalog" and one.state == "ready"]


@pytest.mark.usefixtures("by_load")
def test_a_load_brings_instances(mesh: Mesh, shop: Shop) -> None:
    with Crowd(mesh.status().process("catalog-1").address, shop.customer()):
        eventually(lambda: ["catalog-1", "catalog-2"] == instances(mesh))

    assert "1-2" == mesh.status().sizes["catalog"].auto


@pytest.mark.long(short="test_a_load_brings_instances")
@pytest.mark.usefixtures("by_load")
def test_what_a_load_has_brought_goes_when_it_has_gone(mesh: Mesh, shop: Shop) -> None:
    with Crowd(mesh.status().process("catalog-1").address, shop.customer()):
        eventually(lambda: ["catalog-1", "catalog-2"] == instances(mesh))

    eventually(lambda: ["catalog-1"] == instances(mesh), deadline_s=180)
    assert "1-2" == mesh.status().sizes["catalog"].auto


@dataclass(frozen=True)
class Own:
    """A mesh of this module's own."""

    mesh: Mesh
    folder: Path
    stopping: ExitStack
    """What stops it, whoever has started it last."""


@pytest.fixture(scope="module")
def outliving() -> Iterator[Own]:
    """A part of a mesh whose processes outlive their supervisor: every kind of server, one service, one worker."""
    names = ("identity-1", "email-1", "memcached-1", "prometheus", "traces")
    with temporary() as folder, ExitStack() as stopping:
        started = stopping.enter_context(Mesh(folder, ports="free", only=names))
        started.start()
        yield Own(started, folder, stopping)


@pytest.fixture
def own(outliving: Own) -> Own:
    """The same, and all of it is ready: whoever comes next finds what the one before has put right."""
    outliving.mesh.wait_ready()
    return outliving


def after(mesh: Mesh, killed: int) -> Status:
    """The status that the next supervisor tells."""

    def told() -> bool:
        try:
            status = mesh.status()
        except (NotRunningError, RefusedError):
            return False
        return status.supervisor != killed and status.ready

    eventually(told)
    return mesh.status()


def pids(status: Status) -> dict[str, int | None]:
    return {process.name: process.pid for process in status.processes}


def test_a_killed_supervisor_is_replaced_and_nothing_else_is(own: Own) -> None:
    mesh, folder = own.mesh, own.folder
    before = mesh.status()

    for _ in range(2):
        eventually(lambda: STANDBY in Layout(folder).processes.read_text())
        killed = mesh.status().supervisor
        os.kill(killed, signal.SIGKILL)
        assert pids(before) == pids(after(mesh, killed))

    # It keeps what it has taken over: a server that it did not start itself is missed when it goes.
    restarts = mesh.status().process("identity-1").restarts
    mesh.kill("identity-1")
    eventually(lambda: mesh.status().process("identity-1").restarts == restarts + 1)
    mesh.wait_ready()


def test_a_machine_that_went_down_comes_back_with_everything(own: Own) -> None:
    mesh, folder = own.mesh, own.folder
    before = mesh.status()
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    kill_all(folder)

    names = tuple(process.name for process in before.processes)
    status = own.stopping.enter_context(Mesh(folder, ports="free", only=names)).start()

    assert status.ready
    assert set(pids(before)) == set(pids(status))
    assert [one.address for one in before.processes] == [one.address for one in status.processes]


def kill_all(folder: Path) -> None:
    """SIGKILL for every process of a mesh, its supervisors first, until none is left."""

    def sessions() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if os.readlink(entry / "fd" / "2").startswith(f"{folder}/log/"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def gone() -> bool:
        for pid in sessions():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not sessions()

    eventually(gone)


def test_a_crash_loop_is_given_up_for_now_with_its_reason(own: Own) -> None:
    mesh = own.mesh
    url = mesh.secrets / "database-identity.url"
    url.chmod(0o644)  # what it refuses to start with

    mesh.kill("identity-1")

    eventually(lambda: mesh.status().process("identity-1").quarantined, deadline_s=180)
    found = mesh.status().process("identity-1")
    assert "exited early with exit code 2" == found.reason
    assert any("chmod 600" in line for line in found.log)
    others = [one.name for one in mesh.status().processes if one.name != "identity-1" and one.state != "ready"]
    assert [] == others

    url.chmod(0o600)
    mesh.restart("identity-1")
    assert not mesh.status().process("identity-1").quarantined
