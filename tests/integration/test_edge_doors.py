"""What else is behind the port: reflection that `buf curl` reads, TLS, and nothing of Envoy's own."""

import http.client
import json
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import psutil
import pytest
from google.protobuf import json_format
from grpc_reflection.v1alpha import reflection_pb2 as reflection_v1alpha_pb2

from deploy.supervisor.layout import Layout
from tests.integration.edge_calls import (
    METHODS,
    OK,
    TIMEOUT_S,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    Edge,
    Json,
    Native,
    Target,
    Web,
    Wire,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.catalog.v1 import catalog_pb2
from weft_protos import policy
from weft_protos.xds import message_class

pytestmark = pytest.mark.calls

BUF = Path(sys.executable).with_name("buf")
LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=2))


def buf_curl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(BUF), "curl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_reflection_lists_every_method_without_a_token(edge: Edge) -> None:
    done = buf_curl("--http2-prior-knowledge", "--protocol", "grpc", "--list-methods", f"http://{edge.address}")

    expected = {f"{one.containing_service.full_name}/{one.name}" for one in METHODS}
    assert (0, "") == (done.returncode, done.stderr)
    assert expected <= set(done.stdout.split())


def test_reflection_lists_every_service_without_a_token(edge: Edge) -> None:
    done = buf_curl("--http2-prior-knowledge", "--protocol", "grpc", "--list-services", f"http://{edge.address}")

    assert {service.full_name for service in policy.SERVICES} <= set(done.stdout.split())


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_a_contract_with_its_options(edge: Edge, version: str) -> None:
    # Both versions have the same messages; grpcurl asks for v1 first, older tools only for v1alpha.
    channel = grpc.insecure_channel(edge.address)
    call: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_v1alpha_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_v1alpha_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_v1alpha_pb2.ServerReflectionRequest(file_containing_symbol="weft.orders.v1.OrderService")

    (answer,) = call(iter([asked]), timeout=TIMEOUT_S)
    channel.close()

    names = answer.file_descriptor_response.file_descriptor_proto
    assert any(b"weft/orders/v1/orders.proto" in content for content in names)
    assert any(b"orders.write" in content for content in names)


@pytest.mark.parametrize("protocol", ["grpc", "grpcweb"])
def test_buf_curl_calls_without_files(edge: Edge, protocol: str) -> None:
    url = f"http://{edge.address}{LIST.path}"
    flags = ("--http2-prior-knowledge", "--protocol", protocol, "-d", '{"page_size": 2}')
    token = edge.token("catalog.read")

    done = buf_curl(*flags, "-H", f"authorization: Bearer {token}", url)
    refused = buf_curl(*flags, url)

    assert 0 == done.returncode, done.stderr
    found = json_format.Parse(done.stdout, catalog_pb2.ListProductsResponse())
    assert edge.wires[0].call(LIST, token).answers == (found,)
    # buf shifts the code to the left by three bits.
    assert UNAUTHENTICATED << 3 == refused.returncode
    said = json.loads(refused.stderr)
    assert ("unauthenticated", "google.rpc.ErrorInfo") == (said["code"], said["details"][0]["type"])


def authority(edge: Edge) -> Path:
    return Layout(edge.secrets.parent).authority


def tls_port(edge: Edge) -> int:
    """As the compiled contracts of the mesh say it; the status names only the port in clear."""
    bundle = Layout(edge.secrets.parent).contracts
    resources = json.loads((bundle / "manifest.json").read_text())["resources"]
    (found,) = (one for one in resources if one["name"] == "edge-tls" and one["type_url"].endswith("Listener"))
    listener: Any = message_class("envoy.config.listener.v3.Listener")()
    listener.ParseFromString((bundle / "blobs" / found["sha256"]).read_bytes())
    return int(listener.address.socket_address.port_value)


def trusting(edge: Edge) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority(edge)))


def test_every_wire_answers_the_same_over_tls(edge: Edge) -> None:
    credentials = grpc.ssl_channel_credentials(authority(edge).read_bytes())
    address, context = f"localhost:{tls_port(edge)}", trusting(edge)
    wires: tuple[Wire, ...] = (
        Native(address, credentials),
        Web(address, context=context),
        Web(address, text=True, context=context),
        Json(address, context),
    )
    token = edge.token("catalog.read")
    expected = edge.wires[0].call(LIST, token)
    for wire in wires:
        good, refused = wire.call(LIST, token), wire.call(LIST)
        wire.close()

        assert (OK, expected.answers) == (good.code, good.answers), wire.name
        assert (UNAUTHENTICATED, "TOKEN_MISSING") == (refused.code, refused.reason), wire.name


def test_the_port_with_tls_shows_the_certificate_of_the_mesh(edge: Edge) -> None:
    context = trusting(edge)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("localhost", tls_port(edge)), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)

        on_disk = (Layout(edge.secrets.parent).edge_tls / "tls.crt").read_text()
        assert ssl.PEM_cert_to_DER_cert(on_disk) == shown
        assert "h2" == wrapped.selected_alpn_protocol()
        assert wrapped.version() in ("TLSv1.2", "TLSv1.3")


def test_who_does_not_trust_the_certificate_gets_no_connection(edge: Edge) -> None:
    with (
        socket.create_connection(("localhost", tls_port(edge)), timeout=TIMEOUT_S) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(edge: Edge) -> None:
    context = trusting(edge)
    # Level 0, or this side would refuse before the gateway could.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("localhost", tls_port(edge)), timeout=TIMEOUT_S) as plain,
        pytest.raises(ssl.SSLError, match="alert protocol version"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/config_dump",
        "/stats",
        "/stats/prometheus",
        "/quitquitquit",
        "/ready",
        "/clusters",
        "/logging",
        "/healthcheck/fail",
    ],
)
def test_envoys_own_pages_are_not_behind_the_port(edge: Edge, verb: str, path: str) -> None:
    for url in (path, f"/v1/..{path}", f"/.{path}", f"//127.0.0.1{path}"):
        wire = Json(edge.address)
        answer = wire.call(Target("", b"", verb, url, None), edge.token("catalog.read"))
        wire.close()

        assert (404, UNIMPLEMENTED, "METHOD_UNKNOWN") == (answer.http, answer.code, answer.reason), url


def test_the_page_of_metrics_shows_nothing_else(edge: Edge) -> None:
    url = edge.mesh.status().urls["metrics"]
    assert url is not None
    query = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=TIMEOUT_S)
    query.request("GET", "/api/v1/targets?state=active")
    targets = json.loads(query.getresponse().read())["data"]["activeTargets"]
    query.close()
    gateways = [urlsplit(one["scrapeUrl"]).netloc for one in targets if "gateway" in json.dumps(one["labels"])]

    assert gateways
    for address in gateways:
        for path, expected in (("/stats/prometheus", 200), ("/config_dump", 404), ("/quitquitquit", 404)):
            connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
            connection.request("GET", path)
            assert expected == connection.getresponse().status
            connection.close()


def test_a_gateway_listens_on_its_two_ports_and_for_the_monitor_alone(edge: Edge) -> None:
    edge_ports = {int(edge.address.rpartition(":")[2]), tls_port(edge)}
    found = [one for one in edge.mesh.status().processes if one.kind == "gateway"]
    others: list[int] = []
    for gateway in found:
        listening = [one.laddr for one in psutil.Process(gateway.pid).net_connections("tcp") if one.status == "LISTEN"]

        assert {"127.0.0.1"} == {address.ip for address in listening}
        assert edge_ports <= {address.port for address in listening}
        others += {address.port for address in listening} - edge_ports
        admin = edge.secrets.parent / "run" / f"{gateway.name}.admin.sock"
        assert (True, 0o600) == (stat.S_ISSOCK(admin.stat().st_mode), stat.S_IMODE(admin.stat().st_mode))
    assert len(found) == len(others)
