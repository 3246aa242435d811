"""What gRPC clients inside the mesh get, tried by a real one: it takes every resource and repeats nothing by itself."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.compiler import Bundle
from weft_protos.xds import envoy, message_class, type_url

PLACE = "/weft.orders.v1.OrderService/PlaceOrder"
HEALTH = "/grpc.health.v1.Health/Check"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"


class Flaky(grpc.GenericRpcHandler):
    """Answers every method; the first call of each fails as one does at an instance that is going down."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls[method] += 1
            if self.calls[method] == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


class ControlPlane(grpc.GenericRpcHandler):
    """Answers each request once with what is asked for by name, and keeps what clients refuse."""

    def __init__(self, resources: dict[tuple[str, str], Any]) -> None:
        self.resources = resources
        self.refused: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != ADS:
            return None
        return grpc.stream_stream_rpc_method_handler(self._answer, message_class(REQUEST).FromString)

    def _answer(self, requests: Iterator[Any], _: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            if request.HasField("error_detail"):
                self.refused.append(request.error_detail.message)
            elif not request.response_nonce:
                found = [self.resources[request.type_url, name] for name in request.resource_names]
                yield envoy(
                    "service.discovery.v3.DiscoveryResponse",
                    version_info="1",
                    nonce="1",
                    type_url=request.type_url,
                    resources=found,
                ).SerializeToString()


def _serve(handler: grpc.GenericRpcHandler) -> tuple[grpc.Server, int]:
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture
def endpoints() -> Any:
    """Builds the endpoints of `orders` on one port, as the control plane would."""

    def at(port: int) -> Any:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        locality = {
            "locality": {"zone": "local"},
            "load_balancing_weight": 1,
            "lb_endpoints": [{"endpoint": {"address": address}, "health_status": "HEALTHY"}],
        }
        return envoy("config.endpoint.v3.ClusterLoadAssignment", cluster_name="orders", endpoints=[locality])

    return at


def test_grpc_takes_every_resource_and_leaves_retries_to_the_caller(bundle: Bundle, endpoints: Any) -> None:
    flaky = Flaky()
    backend, backend_port = _serve(flaky)
    resources = {
        (type_url(resource.message), resource.name): resource.message
        for resource in bundle.resources
        if resource.audience != "envoy"
    }
    assignment = endpoints(backend_port)
    resources[type_url(assignment), "orders"] = assignment
    plane = ControlPlane(resources)
    server, port = _serve(plane)
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "test", "metadata": {"kind": "grpc"}},
    }
    setting = f"GRPC_XDS_BOOTSTRAP_CONFIG={json.dumps(bootstrap)}"
    caller = Path(__file__).with_name("xds_caller.py")
    try:
        done = subprocess.run(
            ["env", setting, sys.executable, str(caller), PLACE, PLACE, HEALTH, HEALTH],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        server.stop(0)
        backend.stop(0)

    assert [] == plane.refused
    assert [f"{name} {code}" for name in (PLACE, HEALTH) for code in ("UNAVAILABLE", "OK")] == done.stdout.splitlines()
    assert {PLACE: 2, HEALTH: 2} == dict(flaky.calls)
