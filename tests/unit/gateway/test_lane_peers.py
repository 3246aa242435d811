"""Lanes between services, by a real gRPC client of the real control plane's server, with the compiled contracts."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.ours import ControlPlane
from gateway import compiler
from lb import bootstrap
from lb.__main__ import read_bundle
from lb.xds import bundle as bundles
from tests.waiting import eventually
from weft_protos.lanes import Lane

from .conftest import JWKS
from .laned import Instance

CANARY = Lane("canary", ("catalog",))
CALLS = 20


class Caller:
    """A process that calls the catalog."""

    def __init__(self, plane: ControlPlane) -> None:
        environ: dict[str, str] = {}
        bootstrap.install(environ, [f"127.0.0.1:{plane.port}"], bootstrap.Client("orders-1", "orders"))
        command = ["env", *(f"{name}={value}" for name, value in environ.items()), sys.executable]
        caller = str(Path(__file__).with_name("lane_caller.py"))
        self._process = subprocess.Popen(
            [*command, caller], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )

    def call(self, lane: str = "") -> str:
        """How one call ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{lane or '-'}\n")
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        with self._process as process:  # closes both pipes, and waits
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture
def stable() -> Iterator[Instance]:
    found = Instance("catalog-1", service="catalog")
    yield found
    found.stop()


@pytest.fixture
def canary() -> Iterator[Instance]:
    found = Instance("catalog-canary-1", service="catalog", lane="canary")
    yield found
    found.stop()


Serve = Callable[..., None]


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    started = ControlPlane()
    yield started
    started.close()


@pytest.fixture
def serve(plane: ControlPlane, bundle: compiler.Bundle, tmp_path: Path) -> Serve:
    """Serves the real contracts with some instances and lanes."""
    compiler.write(bundle, tmp_path / "bundle")
    compiled = bundles.parse(*read_bundle(tmp_path / "bundle"))

    def these(instances: list[Instance], *laned: Lane) -> None:
        plane.serve(compiled, [instance.endpoint for instance in instances], JWKS, laned=laned)

    return these


@pytest.fixture
def caller(plane: ControlPlane) -> Iterator[Caller]:
    found = Caller(plane)
    yield found
    found.close()


def ok(caller: Caller, lane: str = "") -> None:
    assert ["OK"] * CALLS == [caller.call(lane) for _ in range(CALLS)]


def test_a_call_of_a_lane_goes_there_and_tells_it_further(
    serve: Serve, caller: Caller, stable: Instance, canary: Instance
) -> None:
    serve([stable, canary], CANARY)

    ok(caller, "canary")
    ok(caller)
    ok(caller, "other")

    assert {"canary": CALLS} == canary.seen
    assert {"": CALLS, "other": CALLS} == stable.seen


def test_a_lane_comes_and_goes_and_no_call_fails(
    serve: Serve, caller: Caller, stable: Instance, canary: Instance
) -> None:
    serve([stable, canary])
    ok(caller, "canary")
    assert not canary.seen

    def there() -> bool:
        assert "OK" == caller.call("canary")
        return bool(canary.seen)

    serve([stable, canary], CANARY)
    eventually(there)
    serve([stable], CANARY)
    ok(caller, "canary")
    serve([stable])
    ok(caller, "canary")
    ok(caller)


def test_no_call_fails_when_the_only_instance_of_a_lane_is_killed(
    serve: Serve, caller: Caller, stable: Instance, canary: Instance
) -> None:
    serve([stable, canary], CANARY)
    ok(caller, "canary")
    canary.stop()

    ok(caller, "canary")

    assert CALLS == canary.seen["canary"] == stable.seen["canary"]
