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
