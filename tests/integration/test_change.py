"""The mesh is rolled, resized, killed and stopped under load, and none of the load's callers sees an error."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploy.cli import kills, rolling
from deploy.cli.load import watches
from deploy.cli.load.run import UnderLoad
from deploy.cli.load.traffic import Wanted
from deploy.supervisor.config import child_environ
from deploy.supervisor.mesh import Mesh

RPS = 40


@pytest.fixture(autouse=True)
def _whole(mesh: Mesh) -> Iterator[None]:
    mesh.wait_ready()
    yield
    mesh.wait_ready()


def named(mesh: Mesh, service: str) -> list[str]:
    return [process.name for process in mesh.status().processes if process.service == service]


def pids(mesh: Mesh, service: str) -> set[int | None]:
    return {process.pid for process in mesh.status().processes if process.service == service}


def told(load: UnderLoad) -> tuple[object, ...]:
    """What must be nothing: errors, what they were, acknowledged pieces that were lost, pieces too many."""
    stock = load.result["stock"]
    return load.result["errors"], load.result["refusals"], stock["lost"], stock["surplus"]


@contextmanager
def step(_name: str, _what: str) -> Iterator[dict[str, Any]]:
    yield {}


def test_a_service_is_rolled_and_no_call_and_no_stream_fails(mesh: Mesh) -> None:
    names, before = named(mesh, "orders"), pids(mesh, "orders")

    with UnderLoad(mesh, Wanted(RPS)) as load:
        rolling.roll(mesh, "orders", rolling.instances(mesh.status(), "orders"), step=step)

    assert (0, {}, 0, 0) == told(load)
    assert (names, set()) == (named(mesh, "orders"), before & pids(mesh, "orders"))
    # Every instance went, and so each stream was told at least once to go on elsewhere.
    streams = load.result["streams"]
    assert {"UNAVAILABLE"} == set(streams["ended"])
    assert streams["resumed"] >= watches.WATCHES


def test_the_command_rolls_the_control_planes_and_reports_no_error(mesh: Mesh) -> None:
    before = pids(mesh, "control-plane")
    command = [sys.executable, "-m", "deploy.cli", "roll", "control-plane", "--under-load", str(RPS), "--json"]
    environment = {**child_environ(), "WEFT_DATA": str(mesh.secrets.parent)}

    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)

    found = json.loads(answer.stdout)
    assert (0, True, {}) == (answer.returncode, found["good"], found["load"]["refusals"])
    assert ["control-plane-1", "control-plane-2"] == [target["name"] for target in found["targets"]]
    assert set() == before & pids(mesh, "control-plane")


def test_whoever_is_killed_or_stopped_no_caller_sees_an_error(mesh: Mesh) -> None:
    victims = [
        ("orders-1", signal.SIGKILL),
        ("control-plane-1", signal.SIGKILL),
        ("memcached-1", signal.SIGKILL),
        ("catalog-2", signal.SIGSTOP),
    ]

    with UnderLoad(mesh, Wanted(RPS)) as load:
        for name, number in victims:
            kills.strike(mesh, name, number)

    assert (0, {}, 0, 0) == told(load)
