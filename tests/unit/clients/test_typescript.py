"""The client in TypeScript, in Node over gRPC and as in a browser over gRPC-web, against a mocked mesh."""

from pathlib import Path

import pytest

from svc.contract_tests.standing import Places
from tests.clients import kept, typescript
from tests.unit.clients.conftest import GIVEN, Mesh, check


@pytest.fixture(scope="session")
def program() -> Path:
    return typescript.program()


@pytest.mark.parametrize("wire", ["node", "web"])
def test_a_call_keeps_to_the_contract(program: Path, mesh: tuple[Mesh, Places], wire: str) -> None:
    server, places = mesh
    address = places.web if wire == "web" else f"http://{places.grpc}"

    check(server, kept.said(typescript.node(), program, wire, address, given=GIVEN))


def test_a_connection_that_a_browser_lost_is_a_mesh_that_is_not_there(mesh: tuple[Mesh, Places]) -> None:
    server, places = mesh

    said = kept.said(typescript.node(), typescript.program("lost"), places.web, given=GIVEN)

    # A read is sent again; what may have had an effect is not, and its caller is told that nobody was there.
    assert ("display name", "Unavailable") == (said["product"], said["deleted"])
    assert {"CreateSession": 1, "GetProduct": 3, "DeleteProduct": 1} == said["sent"]
    assert [] == server.requests("DeleteProduct")
