"""Read tokens through the gateway of a running mesh: over gRPC, over JSON, and one that nobody made."""

import json
import urllib.request

import grpc
import pytest
from google.protobuf import field_mask_pb2

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import CALL_S, Customer, Shop, metadata
from weft.catalog.v1 import catalog_pb2
from weft.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from weft_protos import read_token

pytestmark = pytest.mark.calls


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture
def me(shop: Shop) -> Customer:
    return Customer("operator", "", "", shop.operator.sign_in())


def test_a_client_that_remembers_reads_each_of_its_writes_on_whatever_instance_answers(
    mesh: Mesh, shop: Shop, me: Customer
) -> None:
    product_id = shop.product()
    with grpc.insecure_channel(mesh.gateway.removeprefix("http://")) as channel:
        catalog = CatalogServiceStub(read_token.remembering(channel))
        read = catalog_pb2.GetProductRequest(name=f"products/{product_id}")
        for number in range(20):
            update = catalog_pb2.UpdateProductRequest(
                product=catalog_pb2.Product(name=read.name, display_name=f"NAME {number}"),
                update_mask=field_mask_pb2.FieldMask(paths=["display_name"]),
            )
            catalog.UpdateProduct(update, metadata=metadata(me), timeout=CALL_S)

            found = catalog.GetProduct(read, metadata=metadata(me), timeout=CALL_S)
            assert f"NAME {number}" == found.display_name


def test_a_write_over_json_carries_a_token_and_a_read_takes_it(mesh: Mesh, shop: Shop, me: Customer) -> None:
    product_id = shop.product()
    url = f"http://{mesh.gateway}/v1/products/{product_id}"
    headers = {**dict(metadata(me)), "content-type": "application/json"}
    change = urllib.request.Request(
        f"{url}?updateMask=displayName", json.dumps({"displayName": "JSON"}).encode(), headers, method="PATCH"
    )
    with urllib.request.urlopen(change, timeout=CALL_S) as answer:
        token = answer.headers[read_token.HEADER]

    assert token
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={**headers, read_token.HEADER: token}), timeout=CALL_S
    ) as answer:
        assert "JSON" == json.load(answer)["displayName"]


def test_a_token_that_nobody_made_is_refused(shop: Shop, me: Customer) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        shop.catalog.ListProducts(
            catalog_pb2.ListProductsRequest(),
            metadata=[*metadata(me), (read_token.HEADER, "bm8gdG9rZW4")],
            timeout=CALL_S,
        )

    assert grpc.StatusCode.INVALID_ARGUMENT is refusal.value.code()  # type: ignore[attr-defined]
