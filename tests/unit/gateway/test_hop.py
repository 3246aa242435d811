"""The gateway's hop at a real Envoy when services fail or have too much to do.

Retries that help are made, and in an outage hardly any; what an overloaded service would refuse is refused before it.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.envoy import cluster
from gateway.envoy.scripts import retry_throttle
from tests.waiting import eventually
from weft_protos import grounds

from .one_service import Backend, Gateway, code
from .one_service import backend as backend
from .one_service import gateway as gateway

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


@pytest.fixture
def held() -> threading.Event:
    """Lists wait until it is set."""
    return threading.Event()


@pytest.fixture
def narrow(held: threading.Event) -> Iterator[Backend]:
    """A backend that takes four calls at once on a connection."""
    found = Backend(threads=4 * cluster.CONNECTIONS_PER_INSTANCE + 1, at_once=4)
    found.before = lambda method: method.endswith("ListOrders") and held.wait(60)
    yield found
    held.set()
    found.stop()


def test_calls_that_no_instance_takes_wait_at_the_gateway_and_critical_ones_pass_them_by(
    gateway: Gateway, narrow: Backend, held: threading.Event
) -> None:
    hop = gateway(narrow.port)
    lists = hop.method("ListOrders")
    taken = 4 * cluster.CONNECTIONS_PER_INSTANCE
    calls = [lists.future(b"", timeout=60) for _ in range(taken)]
    eventually(lambda: narrow.attempts == taken)

    calls += [lists.future(b"", timeout=60) for _ in range(cluster.PENDING_MAX + 5)]

    eventually(lambda: sum(each.done() for each in calls) == 5)
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {each.code() for each in calls if each.done()}
    assert b"" == hop(b"", timeout=30)
    held.set()
    assert taken + cluster.PENDING_MAX == sum(each.code() is grpc.StatusCode.OK for each in calls)


def overloaded(backend: Backend) -> None:
    """Have it refuse as an instance does."""
    backend.fails, backend.code = (lambda _attempt: True), grpc.StatusCode.RESOURCE_EXHAUSTED
    backend.trailers = ((grounds.OVERLOADED_MARK, "1"),)


def test_an_overloaded_service_is_spared_most_of_what_it_would_refuse(gateway: Gateway, backend: Backend) -> None:
    overloaded(backend)
    lists, calls = gateway(backend.port).method("ListOrders"), 400

    ends = [caught(lists) for _ in range(calls)]

    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {each.code() for each in ends}
    # As many as it takes to know better, and those that look whether it is still so.
    assert 10 < backend.attempts < calls / 2
    trailers = [dict(each.trailing_metadata()) for each in ends]
    spared = [each for each in trailers if b"OVERLOADED" in each.get("grpc-status-details-bin", b"")]
    assert calls - backend.attempts == len(spared)
    assert all(1000 <= int(each["grpc-retry-pushback-ms"]) <= 2000 for each in spared)
    assert [] == [each for each in trailers if grounds.OVERLOADED_MARK in each]


def test_only_calls_of_the_same_service_and_criticality_are_refused_with_it(gateway: Gateway, backend: Backend) -> None:
    overloaded(backend)
    hop = gateway(backend.port)
    for _ in range(200):
        caught(hop.method("ListOrders"))
    backend.fails, backend.attempts = (lambda _attempt: False), 0

    assert [b""] * 100 == [hop.method(name)(b"", timeout=30) for name in ("GetOrder", "PlaceOrder") * 50]


def test_critical_calls_are_never_refused_for_others(gateway: Gateway, backend: Backend) -> None:
    overloaded(backend)
    hop = gateway(backend.port)

    assert {"RESOURCE_EXHAUSTED"} == {code(hop) for _ in range(200)}

    assert 200 == backend.attempts


def test_refusals_that_are_not_for_want_of_time_change_nothing(gateway: Gateway, backend: Backend) -> None:
    overloaded(backend)
    backend.trailers = ()
    lists = gateway(backend.port).method("ListOrders")

    for _ in range(100):
        caught(lists)

    assert 100 == backend.attempts


def test_when_there_is_time_again_every_call_is_let_through(gateway: Gateway, backend: Backend) -> None:
    overloaded(backend)
    lists = gateway(backend.port).method("ListOrders")
    for _ in range(200):
        caught(lists)
    backend.fails = lambda _attempt: False

    eventually(lambda: all(caught(lists) is None for _ in range(50)))


def caught(call: Any) -> Any:
    """The error that a call ends in, None where it ends well."""
    try:
        call(b"", timeout=30)
    except grpc.RpcError as error:
        return error
    return None
