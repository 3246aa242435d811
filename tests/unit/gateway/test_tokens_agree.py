"""The gateway and the instance behind it take the same tokens: one table, tried at both."""

import http.client
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from tests.hostile_tokens import ACCEPTED, HOSTILE, Mint
from weft.catalog.v1 import catalog_pb2
from weft_protos import grounds

from .conftest import SIGNING_KEY, settings_in
from .fronted import running

METHOD = "/weft.catalog.v1.CatalogService/ListProducts"
CALL_S = 20.0
#: Reason and hop of a refusal; of an answer that is none, nothing.
Outcome = tuple[str, str]
LET_IN: Outcome = ("", "")


class Catalog:
    """Answers every call that comes this far."""

    def ListProducts(  # noqa: N802 - named as the contract does
        self, _request: catalog_pb2.ListProductsRequest, _call: CallContext
    ) -> catalog_pb2.ListProductsResponse:
        return catalog_pb2.ListProductsResponse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.ListProducts


@dataclass(frozen=True)
class Doors:
    """Where one call can go."""

    gateway: str
    instance: str


@pytest.fixture(scope="module")
def doors(descriptors: bytes) -> Iterator[Doors]:
    verifier = TokenVerifier(SystemClock())
    jwks = Mint("key-1", SIGNING_KEY).jwks()
    verifier.update(jwks)
    service = (catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"], Catalog())
    server = Server((service,), verifier=verifier, limits=Limits(threads=4, streams=1), instance="catalog-1")
    port = server.bind(Address("127.0.0.1", 0))
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_in(Path(folder))
        with running(descriptors, settings, jwks=jwks, backend=port) as gateway:
            yield Doors(gateway, f"127.0.0.1:{port}")
    server.stop(0.2)


def of_status(status: status_pb2.Status) -> Outcome:
    assert 16 == status.code, status
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, info.metadata[grounds.HOP]


@pytest.fixture(scope="module")
def channels(doors: Doors) -> Iterator[dict[str, Any]]:
    opened = {address: grpc.insecure_channel(address) for address in (doors.gateway, doors.instance)}
    yield opened
    for channel in opened.values():
        channel.close()


def over_grpc(channel: Any, values: tuple[str, ...], query: str = "") -> Outcome:
    metadata = tuple(("authorization", value) for value in values)
    try:
        channel.unary_unary(METHOD + query)(b"", metadata=metadata, timeout=CALL_S)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
        return of_status(status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")))
    return LET_IN


def over_json(gateway: str, values: tuple[str, ...]) -> Outcome:
    connection = http.client.HTTPConnection(gateway, timeout=CALL_S)
    connection.putrequest("GET", "/v1/products")
    for value in values:
        connection.putheader("authorization", value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status == 200:
        return LET_IN
    assert 401 == answer.status, body
    return of_status(json_format.Parse(body, status_pb2.Status()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused_by_both_for_one_reason(
    doors: Doors, channels: dict[str, Any], mint: Mint, name: str
) -> None:
    case = HOSTILE[name]
    values = case.make(mint)

    hop = "catalog" if case.instance_only else "gateway"
    assert {"gateway": (case.reason, hop), "json": (case.reason, hop), "instance": (case.reason, "catalog")} == {
        "gateway": over_grpc(channels[doors.gateway], values),
        "json": over_json(doors.gateway, values),
        "instance": over_grpc(channels[doors.instance], values),
    }


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_sound_token_is_let_in_by_both(doors: Doors, channels: dict[str, Any], mint: Mint, name: str) -> None:
    values = ACCEPTED[name].make(mint)

    assert [LET_IN] * 3 == [
        over_grpc(channels[doors.gateway], values),
        over_json(doors.gateway, values),
        over_grpc(channels[doors.instance], values),
    ]


@pytest.mark.parametrize("parameter", ["access_token", "token", "authorization", "jwt"])
def test_a_token_in_the_query_counts_for_nothing(
    doors: Doors, channels: dict[str, Any], mint: Mint, parameter: str
) -> None:
    query = f"?{parameter}={mint.token()}"

    assert ("TOKEN_MISSING", "gateway") == over_grpc(channels[doors.gateway], (), query)
    # To the transcoder it is a field that the request does not have.
    assert 400 == json_status(doors.gateway, query)


def json_status(gateway: str, query: str) -> int:
    connection = http.client.HTTPConnection(gateway, timeout=CALL_S)
    connection.request("GET", f"/v1/products{query}")
    status = connection.getresponse().status
    connection.close()
    return status
