"""The client in Go against a mocked mesh."""

import subprocess
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


def test_a_session_does_what_its_own_tests_say(program: Path) -> None:
    ran = subprocess.run([golang.tests(), "-test.v"], capture_output=True, text=True, timeout=600, check=False)

    assert 0 == ran.returncode, ran.stdout + ran.stderr
