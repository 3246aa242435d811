"""The client in Go against a mocked mesh."""

from pathlib import Path

import pytest

from svc.contract_tests.standing import Places
from tests.clients import golang, kept
from tests.unit.clients.conftest import GIVEN, Mesh, check


@pytest.fixture(scope="session")
def program() -> Path:
    return golang.program()


def test_a_call_keeps_to_the_contract(program: Path, mesh: tuple[Mesh, Places]) -> None:
    server, places = mesh

    check(server, kept.said(program, places.grpc, given=GIVEN))
