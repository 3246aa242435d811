"""Calls between services, by a real gRPC client of the real control plane's server: who gets them, and none fails."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.ours import ControlPlane
from gateway import compiler
from lb import bootstrap
from lb.__main__ import read_bundle
from lb.endpoint import Endpoint, ServiceName
from lb.xds import bundle as bundles
from svc.chassis.load import TRAILER, encode
from svc.chassis.server import OPTIONS
from tests.waiting import eventually

from .conftest import JWKS
from .stoppable import answering

THREADS = 6


def catalog(number: int, port: int, zone: str = "") -> Endpoint:
    return Endpoint(ServiceName("catalog"), f"catalog-{number}", "127.0.0.1", port, zone=zone)


class Reporting(grpc.GenericRpcHandler):
    """Answers every call at once, with a report of its load as the test says."""

    def __init__(self, report: bytes = b"") -> None:
        self.calls = 0
        self._report = report
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self], options=OPTIONS)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls += 1
            if self._report:
                context.set_trailing_metadata(((TRAILER, self._report),))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def plane(bundle: compiler.Bundle, tmp_path: Path) -> Iterator[Callable[..., ControlPlane]]:
    """Starts a control plane with the real contracts and some endpoints."""
    compiler.write(bundle, tmp_path / "bundle")
    compiled = bundles.parse(*read_bundle(tmp_path / "bundle"))
    started = ControlPlane()

    def serve(*endpoints: Endpoint) -> ControlPlane:
        started.serve(compiled, endpoints, JWKS)
        return started

    yield serve
    started.close()


@contextlib.contextmanager
def calling(plane: ControlPlane, zone: str = "") -> Iterator[Sequence[str]]:
    """How each call has ended so far; after the block, how all of them have."""
    ended: list[str] = []
    environ: dict[str, str] = {}
    bootstrap.install(environ, [f"127.0.0.1:{plane.port}"], bootstrap.Client("orders-1", "orders", zone))
    command = [*(f"{name}={value}" for name, value in environ.items()), sys.executable]
    caller = str(Path(__file__).with_name("peer_caller.py"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["env", *command, caller, str(THREADS)], text=True, **pipes) as process:  # type: ignore[call-overload]
        reader = threading.Thread(target=lambda: ended.extend(line.strip() for line in process.stdout))
        reader.start()
        try:
            yield ended
        finally:
            process.stdin.close()
            reader.join(60)
            process.kill()


def more(ended: Sequence[str], calls: int) -> None:
    """Wait for so many further calls."""
    goal = len(ended) + calls
    eventually(lambda: len(ended) >= goal)


def test_an_instance_that_reports_more_load_gets_fewer_calls(plane: Callable[..., ControlPlane]) -> None:
    idle = Reporting(encode(rate=100.0, cpu=0.0, house=0.1))
    busy = Reporting(encode(rate=100.0, cpu=0.0, house=0.9))

    def fewer() -> bool:
        before = idle.calls, busy.calls
        more(ended, 200)
        return (busy.calls - before[1]) * 4 < idle.calls - before[0]

    with calling(plane(catalog(1, idle.port), catalog(2, busy.port))) as ended:
        eventually(fewer)

    assert {"OK"} == set(ended)
    idle.stop()
    busy.stop()


def test_no_call_fails_while_an_instance_is_stopped(plane: Callable[..., ControlPlane]) -> None:
    with (
        answering(20) as victim,
        answering(20) as other,
        calling(plane(catalog(1, victim.port), catalog(2, other.port))) as ended,
    ):
        more(ended, 50)
        os.kill(victim.pid, signal.SIGSTOP)
        more(ended, 200)
        os.kill(victim.pid, signal.SIGCONT)
        more(ended, 50)

    assert {"OK"} == set(ended)


def test_the_own_zone_is_called_while_it_is_there_and_another_one_then(plane: Callable[..., ControlPlane]) -> None:
    far = Reporting()
    with answering(1) as near, calling(plane(catalog(1, near.port, "a"), catalog(2, far.port, "b")), "a") as ended:
        more(ended, 100)
        assert 0 == far.calls
        os.kill(near.pid, signal.SIGKILL)
        eventually(lambda: far.calls > 100)

    assert {"OK"} == set(ended)
    far.stop()
