"""A call of the client: typed errors, deadlines, repetitions, and what goes along with it."""

import uuid
from datetime import UTC, datetime

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider
from tests.unit.weft_client.conftest import Recorder
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import orders_pb2
from weft_client import Weft, WeftError, errors, tracing
from weft_client.calling import Throttle
from weft_protos import consumer
from weft_protos.client_config import TOKENS_MAX

ORDER = "orders/00000000-0000-4000-8000-000000000001"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def catalog(provider: Provider) -> Mock:
    return provider("weft.catalog.v1.CatalogService")


@pytest.fixture
def orders(provider: Provider) -> Mock:
    return provider("weft.orders.v1.OrderService")


def test_a_call_takes_fields_and_gives_the_message(catalog: Mock) -> None:
    catalog.expects("GetProduct", name="products/mug", read_mask="displayName").returns(display_name="MUG")

    with Weft(catalog.address) as weft:
        mug = weft.catalog.get_product("products/mug", read_mask=["display_name"])

    assert catalog_pb2.Product(display_name="MUG") == mug


def test_python_s_own_types_stand_for_messages(catalog: Mock) -> None:
    when = datetime(2026, 1, 31, tzinfo=UTC)
    said = {"display_name": "MUG", "price": {"currency_code": "GBP", "units": 4}, "create_time": when}
    catalog.expects("CreateProduct", product=said, product_id="mug").returns(name="products/mug")

    with Weft(catalog.address) as weft:
        made = weft.catalog.create_product(said, product_id="mug")

    assert "products/mug" == made.name


def test_each_reason_is_an_exception_that_is_its_code_s_as_well(catalog: Mock) -> None:
    catalog.expects("GetProduct", name="products/none").fails(
        "NOT_FOUND", "PRODUCT_NOT_FOUND", resource=("product", "products/none")
    )

    with Weft(catalog.address) as weft, pytest.raises(errors.ProductNotFound) as refusal:
        weft.catalog.get_product("products/none")
    assert isinstance(refusal.value, errors.NotFound)
    assert isinstance(refusal.value, WeftError)
    assert ("product", "products/none") == refusal.value.resource
    assert "catalog" == refusal.value.metadata["hop"]
    assert str(refusal.value).startswith("NOT_FOUND PRODUCT_NOT_FOUND: ")


def test_a_reason_of_two_codes_is_caught_by_either(provider: Provider) -> None:
    identity = provider("weft.identity.v1.IdentityService")
    identity.expects("GetUser", name="users/ann").fails("UNAUTHENTICATED", "USER_SUSPENDED")

    with Weft(identity.address) as weft, pytest.raises(errors.UserSuspended) as refusal:
        weft.identity.get_user("users/ann")
    assert isinstance(refusal.value, errors.Unauthenticated)


def test_a_refusal_names_the_fields_that_are_wrong(orders: Mock) -> None:
    with Weft(orders.address) as weft, pytest.raises(errors.InvalidFields) as refusal:
        weft.orders.place_order([{"product_id": "mug", "quantity": 0}])

    assert ["items[0].quantity"] == [violation.field for violation in refusal.value.violations]
    assert "items[0].quantity: " in str(refusal.value)


def test_a_misspelt_field_does_not_leave_the_program(orders: Mock) -> None:
    with Weft(orders.address) as weft, pytest.raises(ValueError, match="quantty"):
        weft.orders.place_order([{"product_id": "mug", "quantty": 2}])


def test_a_write_is_repeated_under_one_request_id(orders: Mock) -> None:
    item = {"product_id": "mug", "quantity": 2}
    anything = orders_pb2.PlaceOrderRequest
    orders.expects("PlaceOrder", Provider.like(items=[item])).fails("UNAVAILABLE", "DRAINING")
    orders.expects("PlaceOrder", Provider.like(items=[item])).returns(name=ORDER)

    with Weft(orders.address) as weft:
        assert ORDER == weft.orders.place_order([item]).name

    ids = [anything.FromString(call.request.SerializeToString()).request_id for call in orders.calls]
    assert 2 == len(ids)
    assert 1 == len(set(ids))
    assert ids[0] == str(uuid.UUID(ids[0]))


def test_a_method_without_retry_is_sent_once(catalog: Mock) -> None:
    catalog.expects("DeleteProduct", name="products/mug").fails("UNAVAILABLE", "DRAINING")

    with Weft(catalog.address) as weft, pytest.raises(errors.Draining):
        weft.catalog.delete_product("products/mug")
    assert 1 == len(catalog.calls)


def test_a_method_is_sent_as_often_as_its_contract_says(catalog: Mock) -> None:
    catalog.expects("GetProduct", name="products/mug").fails("UNAVAILABLE", "DRAINING", retry_after=0.01).times(3)

    with Weft(catalog.address) as weft, pytest.raises(errors.Draining):
        weft.catalog.get_product("products/mug")
    assert 3 == len(catalog.calls)


def test_what_was_refused_by_a_limit_waits_as_long_as_the_refusal_says(catalog: Mock) -> None:
    refused = catalog.expects("DeleteProduct", name="products/mug")
    refused.fails("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_after=0.05)
    catalog.expects("DeleteProduct", name="products/mug").returns()

    with Weft(catalog.address) as weft:
        weft.catalog.delete_product("products/mug")
    assert 2 == len(catalog.calls)


def test_a_wait_beyond_the_deadline_is_left_to_the_caller(catalog: Mock) -> None:
    catalog.expects("GetProduct", name="products/mug").fails("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_after=60.0)

    with Weft(catalog.address) as weft, pytest.raises(errors.RateLimited) as refusal:
        weft.catalog.get_product("products/mug")
    assert 60.0 == refusal.value.retry_after


def test_what_lost_against_another_is_repeated_only_when_the_server_says(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).fails("ABORTED", "CONTENTION")

    with Weft(orders.address) as weft, pytest.raises(errors.Contention):
        weft.orders.get_order(ORDER)

    orders.expects("GetOrder", name=ORDER).fails("ABORTED", "CONTENTION", retry_after=0.01)
    orders.expects("GetOrder", name=ORDER).returns(name=ORDER)
    with Weft(orders.address) as weft:
        assert ORDER == weft.orders.get_order(ORDER).name


def test_nothing_is_repeated_while_most_calls_fail() -> None:
    throttle = Throttle()

    allowed = [throttle.failed() for _ in range(TOKENS_MAX)]
    assert TOKENS_MAX // 2 - 1 == sum(allowed)
    for _ in range(TOKENS_MAX):
        throttle.answered()
    assert throttle.failed()


def test_a_deadline_is_the_contract_s_or_the_caller_s_own(recorder: Recorder) -> None:
    with Weft(recorder.address) as weft:
        weft.catalog.get_product("products/mug")
        weft.catalog.get_product("products/mug", timeout=0.5)
        with pytest.raises(ValueError, match="above 0"):
            weft.catalog.get_product("products/mug", timeout=0)

    contract, own = recorder.time_left_s
    assert contract is not None
    assert own is not None
    # gRPC rounds what is left up.
    assert 1.0 < contract < 2.1
    assert 0 < own < 0.6


def test_a_call_that_hangs_ends_at_its_deadline(catalog: Mock) -> None:
    catalog.expects("GetProduct", name="products/mug").hangs()

    with Weft(catalog.address) as weft, pytest.raises(errors.DeadlineExceeded):
        weft.catalog.get_product("products/mug", timeout=0.2)


def test_a_stream_is_iterated_and_ends_with_its_error(orders: Mock) -> None:
    watched = orders.expects("WatchOrder", name=ORDER)
    watched.streams({"order": {"revision": 1}}, {"order": {"revision": 2}}).fails("NOT_FOUND", "ORDER_NOT_FOUND")

    with Weft(orders.address) as weft:
        changes = weft.orders.watch_order(ORDER)
        assert [1, 2] == [next(changes).order.revision for _ in range(2)]
        with pytest.raises(errors.OrderNotFound):
            next(changes)


def test_every_call_says_who_calls_and_with_which_contract(recorder: Recorder) -> None:
    with Weft(recorder.address, client="shop-web/1.4") as weft:
        weft.catalog.get_product("products/mug")

    assert f"shop-web/1.4; contract={consumer.contract_hash()}" == recorder.metadata[0]["x-weft-client"]
    with pytest.raises(ValueError, match="a name is"):
        Weft(recorder.address, client="Shop Web")


def test_the_newest_read_token_goes_along(recorder: Recorder) -> None:
    recorder.headers.append(("x-weft-read-token", "t1"))
    with Weft(recorder.address) as weft:
        weft.catalog.get_product("products/mug")
        weft.catalog.get_product("products/mug")

    assert [None, "t1"] == [metadata.get("x-weft-read-token") for metadata in recorder.metadata]


def test_a_trace_goes_on_behind_the_call(recorder: Recorder) -> None:
    ours = SpanContext(int("c" * 32, 16), int("d" * 16, 16), is_remote=False, trace_flags=TraceFlags(1))
    with Weft(recorder.address) as weft:
        with tracing.continued(TRACEPARENT):
            weft.catalog.get_product("products/mug")
        held = context.attach(trace.set_span_in_context(NonRecordingSpan(ours)))
        try:
            weft.catalog.get_product("products/mug")
        finally:
            context.detach(held)
        weft.catalog.get_product("products/mug")

    handed, current, none = (metadata.get("traceparent", "") for metadata in recorder.metadata)
    assert TRACEPARENT == handed
    assert current.startswith(f"00-{'c' * 32}-")
    assert "" == none


def test_a_method_is_called_by_its_full_name_too(catalog: Mock) -> None:
    request = catalog_pb2.GetProductRequest(name="products/mug")
    catalog.expects("GetProduct", request).returns(display_name="MUG")

    with Weft(catalog.address) as weft:
        assert "MUG" == weft.call("weft.catalog.v1.CatalogService.GetProduct", request).display_name
        with pytest.raises(ValueError, match="no contract has the method"):
            weft.call("weft.catalog.v1.CatalogService.GetNothing", request)


def test_nobody_there_is_told_as_unavailable() -> None:
    with Weft("127.0.0.1:1") as weft, pytest.raises(errors.Unavailable):
        weft.catalog.delete_product("products/mug")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://localhost:1", "an address is"),
        ("https://", "has a host"),
        ("localhost:8080/v1", "no path"),
        ("http://shop.example:80", "in clear"),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(address: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Weft(address, token="t")
