"""The registry of a running mesh loses members, or all of them, and control planes start without it: no call fails."""

import signal
from collections.abc import Iterator

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.stack import REGISTRY
from tests.chaos.outage import clients
from tests.frozen import away
from tests.integration.shop import Shop
from tests.integration.steady_load import SteadyLoad
from tests.waiting import eventually

CONTROL_PLANES = ("control-plane-1", "control-plane-2")


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(autouse=True)
def _whole(mesh: Mesh) -> Iterator[None]:
    """The suite goes on with every part in its place."""
    mesh.wait_ready()
    yield
    mesh.wait_ready(timeout_s=120)
    # Envoy waits longer and longer between its tries: what is changed before it is back reaches it only then.
    eventually(lambda: all(clients(mesh).get(name) for name in ("gateway-1", "gateway-2")), deadline_s=120)


def restarts(mesh: Mesh, name: str) -> int:
    return int(mesh.status().process(name).restarts)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(
            signal.SIGSTOP,
            marks=pytest.mark.long(short="test_no_call_fails_when_a_member_of_etcd_is_killed_or_hangs"),
        ),
    ],
)
def test_no_call_fails_when_a_member_of_etcd_is_killed_or_hangs(mesh: Mesh, shop: Shop, number: signal.Signals) -> None:
    with SteadyLoad(shop) as load:
        for name in REGISTRY:
            before = restarts(mesh, name)
            mesh.kill(name, number)
            eventually(lambda name=name, before=before: restarts(mesh, name) > before)
            load.advance()
            mesh.wait_ready()

    assert [] == load.failed
    assert {0} == set(load.miscounted)


def test_no_call_fails_while_all_of_etcd_is_away_and_instances_are_back_in_it_afterwards(
    mesh: Mesh, shop: Shop
) -> None:
    with SteadyLoad(shop) as load:
        with away(mesh, *REGISTRY):
            for _ in range(5):
                load.advance()
            # Nobody can tell others of it, but it comes back where they call it.
            before = restarts(mesh, "catalog-1")
            mesh.kill("catalog-1")
            eventually(lambda: restarts(mesh, "catalog-1") > before)
            eventually(lambda: mesh.status().process("catalog-1").state == "ready")
            load.advance()
        mesh.wait_ready(timeout_s=120)
        load.advance()

    assert [] == load.failed
    assert {0} == set(load.miscounted)


@pytest.mark.long(short="test_no_call_fails_while_all_of_etcd_is_away_and_instances_are_back_in_it_afterwards")
def test_control_planes_that_start_while_etcd_is_away_serve_and_no_call_fails(mesh: Mesh, shop: Shop) -> None:
    with SteadyLoad(shop) as load:
        with away(mesh, *REGISTRY):
            for name in CONTROL_PLANES:
                before = restarts(mesh, name)
                mesh.kill(name)
                eventually(lambda name=name, before=before: restarts(mesh, name) > before)
                eventually(lambda name=name: mesh.status().process(name).state == "ready")
                load.advance()
        mesh.wait_ready(timeout_s=120)
        load.advance()

    assert [] == load.failed
    assert {0} == set(load.miscounted)


def test_an_instance_that_starts_without_any_control_plane_finds_its_peers(mesh: Mesh, shop: Shop) -> None:
    with SteadyLoad(shop) as load:
        with away(mesh, *CONTROL_PLANES):
            for name in ("orders-1", "orders-2"):  # both call catalog, which they have to find first
                before = restarts(mesh, name)
                mesh.kill(name)
                eventually(lambda name=name, before=before: restarts(mesh, name) > before)
                eventually(lambda name=name: mesh.status().process(name).state == "ready")
                load.advance()
        mesh.wait_ready(timeout_s=120)
        load.advance()

    assert [] == load.failed
    assert {0} == set(load.miscounted)


def test_an_instance_keeps_its_address_over_restarts(mesh: Mesh) -> None:
    before = mesh.status().process("catalog-2")
    mesh.kill("catalog-2")
    eventually(lambda: restarts(mesh, "catalog-2") > before.restarts)
    mesh.wait_ready()

    assert before.address == mesh.status().process("catalog-2").address
