"""A mocked service answers as the real one would: the same rules, access, statuses and streams, to the byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider
from tests.fakes.catalog import make_world
from tests.fakes.catalog_provider import served
from tests.unit.svc.chassis.instance import INVENTORY, Failure
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

CATALOG = "weft.catalog.v1.CatalogService"
ORDER = "orders/00000000-0000-4000-8000-000000000001"
GET = "/weft.catalog.v1.CatalogService/BatchGetProducts"


def ask(address: str, body: bytes, token: str = "") -> Any:
    """The status of a call that is refused, with all its trailers."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary(GET)(body, timeout=10, metadata=metadata)
    failure = Failure(refusal.value)  # type: ignore[arg-type]
    return failure.code, failure.message, failure.trailers["grpc-status-details-bin"]


@contextmanager
def stub_of(mock: Mock) -> Iterator[catalog_pb2_grpc.CatalogServiceStub]:
    with mock.channel() as channel:
        yield catalog_pb2_grpc.CatalogServiceStub(channel)


def get(mock: Mock, name: str = "products/mug", *, timeout: float = 10) -> Any:
    with stub_of(mock) as stub:
        return stub.GetProduct(catalog_pb2.GetProductRequest(name=name), timeout=timeout)


def refused(mock: Mock, name: str = "products/mug", *, timeout: float = 10) -> Failure:
    with pytest.raises(grpc.RpcError) as refusal:
        get(mock, name, timeout=timeout)
    return Failure(refusal.value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        catalog_pb2.BatchGetProductsRequest(names=["mug", "products/tea", "products/"]).SerializeToString(),
        catalog_pb2.BatchGetProductsRequest(names=["products/mug"] * 501).SerializeToString(),
        catalog_pb2.BatchGetProductsRequest(names=["products/\0"]).SerializeToString(),
        b"\xff\xff\xff",
    ],
    ids=["empty", "wrong names", "too many", "nul", "no message"],
)
def test_a_request_that_breaks_the_rules_is_refused_with_the_bytes_of_the_real_service(
    provider: Provider, body: bytes
) -> None:
    mock = provider(CATALOG)

    with served(make_world().ports) as real:
        assert ask(real.address, body, real.token) == ask(mock.address, body, real.token)
    assert [] == mock.calls


@pytest.mark.parametrize("scopes", [None, ("orders.read",)], ids=["no token", "another scope"])
def test_a_caller_without_the_right_is_refused_with_the_bytes_of_the_real_service(
    provider: Provider, scopes: tuple[str, ...] | None
) -> None:
    mock = provider(CATALOG, access=True)
    body = catalog_pb2.BatchGetProductsRequest(names=["products/mug"]).SerializeToString()

    with served(make_world().ports) as real:
        own, others = (
            ("", "") if scopes is None else (provider.token(*scopes), real.issuer.token(*scopes, subject="ann"))
        )
        assert ask(real.address, body, others) == ask(mock.address, body, own)
        assert "UNAUTHENTICATED" == ask(mock.address, body, real.token)[0]


def test_with_access_a_caller_with_the_right_is_known(provider: Provider) -> None:
    mock = provider(CATALOG, access=True)
    mock.expects("GetProduct", name="products/mug").returns(name="products/mug")

    with stub_of(mock) as stub:
        stub.GetProduct(
            catalog_pb2.GetProductRequest(name="products/mug"),
            metadata=(("authorization", f"Bearer {provider.token('catalog.read', subject='bob')}"),),
            timeout=10,
        )
    assert ["bob"] == [call.subject for call in mock.calls]


def test_a_declared_error_has_the_details_of_the_real_service(provider: Provider) -> None:
    body = catalog_pb2.BatchGetProductsRequest(names=["products/none"]).SerializeToString()
    mock = provider(CATALOG)
    mock.expects("BatchGetProducts", names=["products/none"]).fails(
        "NOT_FOUND", message="There is no products/none.", resource=("product", "products/none")
    )

    with served(make_world().ports) as real:
        assert ask(real.address, body, real.token) == ask(mock.address, body, real.token)


def test_expectations_are_used_up_in_their_order(provider: Provider) -> None:
    mock = provider(CATALOG)
    mock.expects("GetProduct", name="products/mug").returns(name="products/mug", etag="1").times(2)
    mock.expects("GetProduct", name="products/mug").returns(name="products/mug", etag="2")

    assert ["1", "1", "2"] == [get(mock).etag for _ in range(3)]


def test_requests_are_told_by_some_fields_by_a_predicate_or_by_a_message(provider: Provider) -> None:
    mock = provider(CATALOG)
    mock.expects("ListProducts", provider.like(page_size=2)).returns(next_page_token="like")
    mock.expects("ListProducts", provider.where(lambda request: "x" in request.filter)).returns(next_page_token="where")
    mock.expects("ListProducts", catalog_pb2.ListProductsRequest(page_size=3)).returns(next_page_token="message")
    mock.expects("ListProducts").returns(next_page_token="empty")
    asked: list[Message] = [
        catalog_pb2.ListProductsRequest(),
        catalog_pb2.ListProductsRequest(page_size=3),
        catalog_pb2.ListProductsRequest(page_size=3, filter="x"),
        catalog_pb2.ListProductsRequest(page_size=2, filter="tea"),
    ]

    with stub_of(mock) as stub:
        tokens = [stub.ListProducts(request, timeout=10).next_page_token for request in asked]

    assert ["empty", "message", "where", "like"] == tokens


def test_what_a_consumer_does_not_rely_on_is_sent_and_not_recorded(provider: Provider) -> None:
    mock = provider(CATALOG)
    mock.expects("GetProduct", name="products/mug").returns(name="products/mug").besides(etag="1", name="products/tea")

    product = get(mock)

    assert ("products/mug", "1") == (product.name, product.etag)
    assert ({"name": "products/mug"},) == mock.interactions()[0].answers


def test_a_stream_sends_its_messages_and_ends_as_it_is_told(provider: Provider) -> None:
    mock = provider("weft.orders.v1.OrderService")
    states = ["STATE_PLACED", "STATE_CANCELLED"]
    watched = mock.expects("WatchOrder", name=ORDER)
    watched.streams(*({"order": {"name": ORDER, "state": state}} for state in states)).fails("UNAVAILABLE", "DRAINING")

    with mock.channel() as channel:
        stream = orders_pb2_grpc.OrderServiceStub(channel).WatchOrder(
            orders_pb2.WatchOrderRequest(name=ORDER), timeout=10
        )
        seen = [orders_pb2.Order.State.Name(next(stream).order.state) for _ in states]
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)

    assert states == seen
    assert "DRAINING" == Failure(ended.value).reason  # type: ignore[arg-type]


def test_a_stream_may_end_well(provider: Provider) -> None:
    mock = provider("weft.orders.v1.OrderService")
    mock.expects("WatchOrder", name=ORDER).returns(order={"name": ORDER})

    with mock.channel() as channel:
        stub = orders_pb2_grpc.OrderServiceStub(channel)
        found = [answer.order.name for answer in stub.WatchOrder(orders_pb2.WatchOrderRequest(name=ORDER), timeout=10)]

    assert [ORDER] == found


def test_a_call_that_hangs_ends_with_the_callers_deadline(provider: Provider) -> None:
    # The contract gives GetOrder five seconds.
    mock = provider("weft.orders.v1.OrderService")
    mock.expects("GetOrder", name=ORDER).hangs()

    with mock.channel() as channel, pytest.raises(grpc.RpcError) as ended:
        orders_pb2_grpc.OrderServiceStub(channel).GetOrder(orders_pb2.GetOrderRequest(name=ORDER), timeout=3)
    assert grpc.StatusCode.DEADLINE_EXCEEDED == ended.value.code()
    assert mock.calls[0].time_left_s < 4


def test_a_call_that_hangs_ends_with_the_contracts_timeout(provider: Provider) -> None:
    mock = provider(CATALOG)
    mock.expects("GetProduct", name="products/mug").hangs()

    assert "DEADLINE_EXPIRED" == refused(mock, timeout=60).reason


def test_an_error_without_a_reason_is_the_only_one_declared_or_that_of_any_call(provider: Provider) -> None:
    mock = provider(CATALOG)
    mock.expects("GetProduct", name="products/mug").fails("NOT_FOUND")
    assert "PRODUCT_NOT_FOUND" == refused(mock).reason
    mock.expects("GetProduct", name="products/mug").fails("UNAVAILABLE", retry_after=1.5)
    failure = refused(mock)
    assert ("UNAVAILABLE", "1500") == (failure.reason, failure.trailers["grpc-retry-pushback-ms"])


def test_a_service_of_any_contract_is_mocked(provider: Provider) -> None:
    mock = provider(INVENTORY)
    mock.expects("GetStock", name="stock/a").returns(inventory_pb2.Stock(name="stock/a", quantity=7))

    with mock.channel() as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        assert 7 == stub.GetStock(inventory_pb2.GetStockRequest(name="stock/a"), timeout=10).quantity
