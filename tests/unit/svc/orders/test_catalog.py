"""Asking the catalog, over a real channel to a server in this process."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from google.type.money_pb2 import Money

from svc.chassis.client import Peer
from svc.chassis.errors import Aborted, Internal, NotFound, Unauthenticated
from svc.orders.catalog import CatalogClient
from svc.orders.model import Product
from tests.fakes.orders import make_call
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc

Request = catalog_pb2.BatchGetProductsRequest
Response = catalog_pb2.BatchGetProductsResponse


def priced(request: Request, context: grpc.ServicerContext) -> Response:
    price = Money(currency_code="GBP", units=3, nanos=990_000_000)
    return Response(
        products=[catalog_pb2.Product(name=name, display_name="A thing", price=price) for name in request.names]
    )


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    def __init__(self) -> None:
        self.answer: Callable[[Request, grpc.ServicerContext], Response] = priced
        self.metadata: dict[str, str | bytes] = {}

    def BatchGetProducts(self, request: Request, context: grpc.ServicerContext) -> Response:  # noqa: N802 - the contract
        self.metadata = dict(context.invocation_metadata())
        return self.answer(request, context)

    def fail(self, code: grpc.StatusCode, *details: error_details_pb2.ResourceInfo) -> None:
        def answer(request: Request, context: grpc.ServicerContext) -> Response:
            status = status_pb2.Status(code=code.value[0])
            for detail in details:
                packed = Any()
                packed.Pack(detail)
                status.details.append(packed)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(code, "failed")

        self.answer = answer


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()  # type: ignore[abstract]  # the other methods answer UNIMPLEMENTED


@pytest.fixture
def client(catalog: Catalog) -> Iterator[CatalogClient]:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield CatalogClient(Peer(channel, catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]))
        server.stop(None).wait()


def test_products_come_in_the_order_asked_for_with_the_callers_token(catalog: Catalog, client: CatalogClient) -> None:
    products = client.products(["tea", "mug"], call=make_call())

    assert [Product("tea", "A thing", "GBP", 399), Product("mug", "A thing", "GBP", 399)] == products
    assert "Bearer t" == catalog.metadata["authorization"]


def test_an_unknown_product_is_named(catalog: Catalog, client: CatalogClient) -> None:
    catalog.fail(
        grpc.StatusCode.NOT_FOUND,
        error_details_pb2.ResourceInfo(resource_type="product", resource_name="products/tea"),
    )

    with pytest.raises(NotFound) as refusal:
        client.products(["mug", "tea"], call=make_call())
    assert ("product", "products/tea") == refusal.value.resource


def test_a_catalog_that_is_away_is_worth_another_try_but_not_the_gateways(
    catalog: Catalog, client: CatalogClient
) -> None:
    catalog.fail(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(Aborted) as refusal:
        client.products(["mug"], call=make_call())
    assert "PEER_UNAVAILABLE" == refusal.value.reason
    assert refusal.value.retry_after is not None


def test_a_refused_token_is_the_callers_matter(catalog: Catalog, client: CatalogClient) -> None:
    catalog.fail(grpc.StatusCode.UNAUTHENTICATED)

    with pytest.raises(Unauthenticated):
        client.products(["mug"], call=make_call())


def test_an_answer_about_other_products_is_not_believed(catalog: Catalog, client: CatalogClient) -> None:
    catalog.answer = lambda request, context: Response()

    with pytest.raises(Internal):
        client.products(["mug"], call=make_call())
