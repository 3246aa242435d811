"""An instance that hangs, its port open and its connections alive: customers go on and notice nothing."""

import contextlib
import signal

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import Shop
from tests.integration.steady_load import SteadyLoad


@pytest.mark.parametrize("name", ["catalog-1", "orders-1"])
def test_nobody_notices_that_an_instance_was_stopped(mesh: Mesh, operator: GatewayClient, name: str) -> None:
    mesh.wait_ready()

    with SteadyLoad(Shop(mesh, operator)) as load:
        mesh.kill(name, signal.SIGSTOP)
        try:
            for _ in range(4):
                load.advance()
        finally:
            # Whoever bears the name by now: the supervisor may have replaced it, or be about to.
            with contextlib.suppress(RefusedError):
                mesh.kill(name, signal.SIGCONT)
        load.advance()

    assert ([], []) == (load.failed, load.disturbed)
    assert {0} == set(load.miscounted)
    mesh.wait_ready()
