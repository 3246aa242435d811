"""The client in Go against a mocked mesh."""

import json
import subprocess
from pathlib import Path

import pytest

from svc.contract_tests.standing import Places
from tests.clients import golang
from tests.unit.clients.conftest import Mesh, check


@pytest.fixture(scope="session")
def program() -> Path:
    return golang.program()


def test_a_call_keeps_to_the_contract(program: Path, mesh: tuple[Mesh, Places]) -> None:
    server, places = mesh
    done = subprocess.run([str(program), places.grpc], capture_output=True, text=True, timeout=120, check=False)

    assert "" == done.stderr
    check(server, json.loads(done.stdout))
