"""A real Envoy with the routes of one service's unary calls, its cluster, and all filters but those that ask who calls.

`gateway` and `backend` are fixtures: import them into a test module.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.supervisor.servers import envoy
from gateway.envoy import cluster, listener, names, route
from gateway.envoy.edge import Edge
from gateway.policy import PolicySet, find
from svc.chassis.server import CALLS_PER_CONNECTION, OPTIONS
from tests.waiting import free_port
from weft_protos.xds import to_dict

_FILTERS = "type.googleapis.com/envoy.extensions.filters"
#: What stands between client and router.
_LINKS = (names.REFUSAL, names.HEADERS, names.GUARD)


class Hop:
    """One method through one Envoy, and the other methods of its service."""

    def __init__(self, channel: grpc.Channel, policies: PolicySet, name: str) -> None:
        self._channel, self._policies = channel, policies
        self._called: Any = self.method(name)
        self.future = self._called.future

    def __call__(self, request: bytes, timeout: float) -> Any:
        return self._called(request, timeout=timeout)

    def method(self, name: str) -> Any:
        return self._channel.unary_unary(f"/{find(self._policies, name).name}")


#: Starts an Envoy in front of some ports.
Gateway = Callable[..., Hop]


class Backend(grpc.GenericRpcHandler):
    """Answers every call as the test says, and counts."""

    def __init__(self, threads: int = 8, at_once: int = CALLS_PER_CONNECTION) -> None:
        """`at_once`: how many calls it takes on one connection."""
        self.attempts = 0
        self.fails: Callable[[int], bool] = lambda _attempt: False
        self.code = grpc.StatusCode.UNAVAILABLE
        self.trailers: tuple[tuple[str, str], ...] = ()
        self.before: Callable[[str], object] = lambda _method: None
        """Done with a method's name before each answer: waits, where instances are to be slow."""
        self._lock = threading.Lock()
        # With the options of an instance: gRPC's own end a connection that pings as often as the gateway does.
        options = (*OPTIONS, ("grpc.max_concurrent_streams", at_once))
        self._server = grpc.server(futures.ThreadPoolExecutor(threads), handlers=[self], options=options)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.attempts += 1
                fails = self.fails(self.attempts)
            self.before(handler_call_details.method)
            if fails:
                context.set_trailing_metadata(self.trailers)
                context.abort(self.code, "no")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        self._server.stop(0).wait()


def _static(policies: PolicySet, method: str, ports: list[int], *, listen: int, breakers: Any) -> dict[str, Any]:
    owner = find(policies, method).owner
    of_owner = {rpc.name for rpc in policies.rpcs if rpc.owner == owner}
    table = to_dict(route.build(policies, Edge()))["virtual_hosts"][0]
    table["routes"] = [
        each for each in table["routes"] if each.get("name") in of_owner and each["route"]["cluster"] == owner
    ]
    served = to_dict(cluster.build(owner))
    del served["eds_cluster_config"]
    for each in (table, *table["routes"]):
        del each["typed_per_filter_config"]
    if len(ports) == 1:
        # An ejected backend is spared attempts, and that would flatter the figures.
        del served["outlier_detection"]
    for threshold in served["circuit_breakers"]["thresholds"]:
        threshold |= breakers
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}]
    served |= {"type": "STATIC", "load_assignment": {"cluster_name": owner, "endpoints": endpoints}}
    real = to_dict(listener.build(policies, Edge())[0])["filter_chains"][0]["filters"][0]["typed_config"]
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [table]},
        "http_filters": [
            *(each for each in real["http_filters"] if each["name"] in _LINKS),
            {"name": names.ROUTER, "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
        "local_reply_config": real["local_reply_config"],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": listen}}
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    listeners = [{"name": "test", "address": address, "filter_chains": [chain]}]
    return {"static_resources": {"listeners": listeners, "clusters": [served]}}


@pytest.fixture
def gateway(policies: PolicySet, tmp_path: Path) -> Iterator[Gateway]:
    """Starts an Envoy in front of some ports; calls go to PlaceOrder unless another method is named."""
    running: list[tuple[subprocess.Popen[bytes], grpc.Channel]] = []

    def start(*ports: int, method: str = "PlaceOrder", **breakers: Any) -> Hop:
        listen, path = free_port(), tmp_path / "envoy.json"
        path.write_text(json.dumps(_static(policies, method, list(ports), listen=listen, breakers=breakers)))
        command = [str(envoy.binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        channel = grpc.insecure_channel(f"127.0.0.1:{listen}", options=(("grpc.enable_retries", 0),))
        running.append((process, channel))
        grpc.channel_ready_future(channel).result(timeout=60)
        return Hop(channel, policies, method)

    yield start
    for process, channel in running:
        channel.close()
        process.terminate()
        process.wait(30)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend in this process."""
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
