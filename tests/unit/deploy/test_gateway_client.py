"""The command line's client against a real gRPC server: it waits as told, and repeats only what may be repeated."""

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from deploy.cli.gateway_client import GatewayClient, SignInError, describe
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.layout import Layout
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc

Answers = Iterator[catalog_pb2.Product | status_pb2.Status]


class Identity(identity_pb2_grpc.IdentityServiceServicer):
    """Signs in who knows the password; counts how often."""

    def __init__(self) -> None:
        self.sign_ins = 0
        self.delegated: list[str] = []

    def CreateSession(  # noqa: N802
        self, request: identity_pb2.CreateSessionRequest, context: grpc.ServicerContext
    ) -> identity_pb2.Session:
        if request.password != "correct":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "e-mail address or password is wrong")
        self.sign_ins += 1
        return self.session(f"operator-{self.sign_ins}")

    def DelegateSession(  # noqa: N802
        self, request: identity_pb2.DelegateSessionRequest, context: grpc.ServicerContext
    ) -> identity_pb2.Session:
        self.delegated.append(request.name)
        return self.session(f"{request.name}-{len(self.delegated)}")

    @staticmethod
    def session(token: str) -> identity_pb2.Session:
        return identity_pb2.Session(access_token=token, expires_in=duration_pb2.Duration(seconds=300))


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    """Answers with what it is given, one after another, and remembers when it was asked and with which token."""

    def __init__(self) -> None:
        self.answers: Answers = iter(())
        self.asked: list[tuple[float, str]] = []

    def GetProduct(  # noqa: N802
        self, request: catalog_pb2.GetProductRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.Product:
        metadata: dict[str, Any] = dict(context.invocation_metadata())
        self.asked.append((time.monotonic(), str(metadata["authorization"])))
        answer = next(self.answers)
        if isinstance(answer, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(answer))
        assert isinstance(answer, catalog_pb2.Product)
        return answer


def refusal(code: grpc.StatusCode, *details: Any) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message="no", details=packed)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def connect(identity: Identity, catalog: Catalog) -> Iterator[Callable[[str], GatewayClient]]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(identity, server)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    clients: list[GatewayClient] = []

    def client(password: str) -> GatewayClient:
        clients.append(GatewayClient(f"127.0.0.1:{port}", email="operator@example.com", password=password))
        return clients[-1]

    yield client
    for opened in clients:
        opened.close()
    server.stop(0).wait()


def get(client: GatewayClient, *, user: str | None = None) -> Any:
    stub = catalog_pb2_grpc.CatalogServiceStub(client.channel())
    return client.call(stub.GetProduct, catalog_pb2.GetProductRequest(name="products/1"), user=user)


def test_it_waits_as_long_as_retry_info_says(connect: Callable[[str], GatewayClient], catalog: Catalog) -> None:
    wait = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=200_000_000))
    catalog.answers = iter([refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, wait), catalog_pb2.Product(name="products/1")])
    client = connect("correct")

    assert "products/1" == get(client).name

    (first, _), (second, _) = catalog.asked
    assert second - first >= 0.2
    assert {"RESOURCE_EXHAUSTED": 1} == client.counters.repetitions
    assert 1 == len(client.counters.durations)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION]
)
def test_a_final_answer_is_not_asked_for_again(
    connect: Callable[[str], GatewayClient], catalog: Catalog, code: grpc.StatusCode
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="is wrong")
    catalog.answers = iter([refusal(code, error_details_pb2.BadRequest(field_violations=[violation]))])

    with pytest.raises(grpc.RpcError) as raised:
        get(connect("correct"))

    assert 1 == len(catalog.asked)
    assert f"{code.name}: no; name: is wrong" == describe(raised.value)


def test_it_signs_in_once_and_acts_for_each_user_with_a_token_of_their_own(
    connect: Callable[[str], GatewayClient], catalog: Catalog, identity: Identity
) -> None:
    catalog.answers = iter([catalog_pb2.Product() for _ in range(5)])
    client = connect("correct")

    for user in (None, "a", "b", "a", None):
        get(client, user=user)

    assert (1, ["users/a", "users/b"]) == (identity.sign_ins, identity.delegated)
    assert [
        "Bearer operator-1",
        "Bearer users/a-1",
        "Bearer users/b-2",
        "Bearer users/a-1",
        "Bearer operator-1",
    ] == [token for _, token in catalog.asked]


def test_a_token_that_was_revoked_is_renewed_once(
    connect: Callable[[str], GatewayClient], catalog: Catalog, identity: Identity
) -> None:
    refused = refusal(grpc.StatusCode.UNAUTHENTICATED, error_details_pb2.ErrorInfo(reason="TOKEN_INVALID"))
    catalog.answers = iter([refused, catalog_pb2.Product(), refused, refused])
    client = connect("correct")

    get(client)
    with pytest.raises(grpc.RpcError):
        get(client)

    assert (4, 3) == (len(catalog.asked), identity.sign_ins)


def test_a_wrong_password_is_named_as_the_cause(connect: Callable[[str], GatewayClient]) -> None:
    with pytest.raises(SignInError, match="password is wrong"):
        get(connect("forgotten"))


def test_a_gateway_over_tls_is_known_by_the_certificate_on_disk(identity: Identity, folder: Path) -> None:
    layout = Layout(folder / "data")
    layout.prepare(None)
    kept = EdgeCertificate(layout, None)
    kept.ensure(now=datetime.now(UTC))
    for name in ("operator.email", "operator.password"):
        layout.write(layout.secrets / name, "correct", None)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(identity, server)
    pair = (kept.key.read_bytes(), kept.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()

    client = GatewayClient.for_operator(f"https://127.0.0.1:{port}", layout.secrets)
    session = client.sign_in()
    client.close()
    server.stop(0).wait()

    assert session.access_token
