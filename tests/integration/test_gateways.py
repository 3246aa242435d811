"""Gateways come, go, are renewed and are killed while customers call: none of their calls is refused or lost."""

from collections.abc import Iterator

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import Shop
from tests.integration.steady_load import SteadyLoad
from tests.waiting import eventually


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(autouse=True)
def _restored(mesh: Mesh) -> Iterator[None]:
    """The suite goes on with as many gateways as it had."""
    size = len(gateways(mesh))
    yield
    mesh.scale("gateway", size)
    mesh.wait_ready()


def gateways(mesh: Mesh) -> list[str]:
    """Names of the gateways."""
    return [process.name for process in mesh.status().processes if process.kind == "gateway"]


def test_a_gateway_joins_and_leaves_without_a_call_noticing(mesh: Mesh, shop: Shop) -> None:
    with SteadyLoad(shop) as load:
        assert ("gateway-3",) == mesh.scale("gateway", 3).started
        load.advance()
        assert ("gateway-3",) == mesh.scale("gateway", 2).stopped

    assert ([], []) == (load.failed, load.disturbed)
    assert {0} == set(load.miscounted)


def test_a_gateway_is_renewed_without_a_call_noticing(mesh: Mesh, shop: Shop) -> None:
    with SteadyLoad(shop) as load:
        mesh.restart("gateway-1")

    assert ([], []) == (load.failed, load.disturbed)
    assert {0} == set(load.miscounted)


def test_no_call_is_lost_with_a_gateway_that_is_killed(mesh: Mesh, shop: Shop) -> None:
    restarts = {name: mesh.status().process(name).restarts for name in gateways(mesh)}

    with SteadyLoad(shop) as load:
        for name, before in restarts.items():
            mesh.kill(name)
            load.advance()
            eventually(lambda name=name, before=before: mesh.status().process(name).restarts > before)
            mesh.wait_ready()

    # Every caller's connection was to one of them, so each was cut once and its last call sent again.
    assert [] == load.failed
    assert load.disturbed
    assert {0} == set(load.miscounted)


def test_an_instance_that_does_not_start_leaves_everything_as_it_was(mesh: Mesh, shop: Shop) -> None:
    before = [process.name for process in mesh.status().processes]

    with SteadyLoad(shop) as load, pytest.raises(RefusedError, match="resizable are"):
        mesh.scale("memcached", 3)

    assert ([], []) == (load.failed, load.disturbed)
    assert before == [process.name for process in mesh.status().processes]
