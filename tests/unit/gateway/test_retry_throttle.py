"""Retries of the gateway's hop at a real Envoy: all that help are made, and in an outage hardly any."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gateway.envoy.filters import retry_throttle
from tests.waiting import eventually

from .one_route import Backend, Gateway, code
from .one_route import backend as backend
from .one_route import gateway as gateway

#: Calls at once; about half of them are at the instance that is killed.
AT_ONCE = 160


def test_in_a_total_outage_calls_are_hardly_ever_repeated(gateway: Gateway, backend: Backend) -> None:
    backend.fails = lambda _attempt: True
    call, calls = gateway(backend.port), 200

    assert {"UNAVAILABLE"} == {code(call) for _ in range(calls)}

    assert 1.0 < backend.attempts / calls <= 1.1


@pytest.mark.parametrize("code_of_hop", [grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_what_an_inner_hop_has_repeated_or_refused_for_want_of_time_is_not_repeated(
    gateway: Gateway, backend: Backend, code_of_hop: grpc.StatusCode
) -> None:
    backend.fails, backend.code = (lambda _attempt: True), code_of_hop

    assert (code_of_hop.name, 1) == (code(gateway(backend.port)), backend.attempts)


def test_after_an_outage_retries_come_back(gateway: Gateway, backend: Backend) -> None:
    backend.fails = lambda _attempt: True
    call = gateway(backend.port)
    for _ in range(50):
        code(call)
    backend.fails = lambda _attempt: False
    eventually(lambda: code(call) == "OK")
    for _ in range(retry_throttle.TOKENS_MAX):
        code(call)
    backend.attempts = 0
    backend.fails = lambda attempt: attempt == 1

    assert ("OK", 2) == (code(call), backend.attempts)


@pytest.fixture
def holding() -> Iterator["subprocess.Popen[str]"]:
    """A backend in a process of its own, which answers nothing and says so."""
    command = [sys.executable, str(Path(__file__).with_name("retry_backend.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def port_of(backend: "subprocess.Popen[str]") -> int:
    assert backend.stdout is not None
    return int(backend.stdout.readline())


def test_whoever_was_at_a_killed_instance_is_served_by_another(
    gateway: Gateway, backend: Backend, holding: "subprocess.Popen[str]"
) -> None:
    call, held = gateway(port_of(holding), backend.port), 0
    calls = [call.future(b"", timeout=60) for _ in range(AT_ONCE)]

    def count() -> None:
        nonlocal held
        assert holding.stdout is not None
        for _ in holding.stdout:
            held += 1

    reader = threading.Thread(target=count)
    reader.start()
    eventually(lambda: held + sum(each.done() for each in calls) == AT_ONCE)
    holding.kill()
    holding.wait(30)
    reader.join(30)

    assert held > 1
    assert {grpc.StatusCode.OK} == {each.code() for each in calls}


def test_a_circuit_breaker_that_opens_says_overloaded_and_not_unavailable(
    gateway: Gateway, holding: "subprocess.Popen[str]"
) -> None:
    call = gateway(port_of(holding), max_requests=1)
    first = call.future(b"", timeout=60)
    assert holding.stdout is not None
    assert "held\n" == holding.stdout.readline()

    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=30)

    trailers = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.value.code()  # type: ignore[attr-defined]
    assert b"OVERLOADED" in trailers["grpc-status-details-bin"]
    assert 1000 <= int(trailers["grpc-retry-pushback-ms"]) <= 2000
    first.cancel()
