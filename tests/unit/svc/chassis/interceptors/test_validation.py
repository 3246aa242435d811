"""What the contract says of a request holds before a handler sees it, and the refusal names the field."""

import hashlib
import time

import grpc
import pytest
from google.rpc import error_details_pb2

from tests.unit.svc.chassis.instance import (
    BATCH_GET_STOCK,
    GET_STOCK,
    LIST_ORDERS,
    PLACE_ORDER,
    REQUEST_ID,
    SET_STOCK,
    Failure,
    Instance,
)
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import locations


def refused(instance: Instance, method: str, body: bytes) -> Failure:
    with pytest.raises(Failure) as caught:
        instance.raw(method, body)
    assert "INVALID_ARGUMENT" == caught.value.code
    assert [] == instance.behaviour.requests
    return caught.value


def test_a_handler_gets_the_parsed_request_and_the_hash_of_its_body(instance: Instance) -> None:
    request = inventory_pb2.SetStockRequest(name="stock/a", quantity=3, request_id=REQUEST_ID)

    instance.call(SET_STOCK, request)

    assert [request] == instance.behaviour.requests
    call = instance.behaviour.calls[0]
    expected = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    assert (SET_STOCK, expected) == (call.method, call.body_hash)


@pytest.mark.parametrize(
    "body",
    [b"\xff", b"\x0a\x7fabc", b"garbage", b"\x0a\x02\xc3\x28", b"\x0a\x02\xed\xa0", b"\x0b" * 200],
    ids=["broken tag", "cut short", "garbage", "bad UTF-8", "lone surrogate", "deep groups"],
)
def test_bytes_that_are_no_request_are_refused(instance: Instance, body: bytes) -> None:
    failed = refused(instance, GET_STOCK, body)

    assert ("MALFORMED_MESSAGE", "The request is not a weft.orders.v1.GetStockRequest.") == (
        failed.reason,
        failed.message,
    )


def test_a_field_is_named_with_its_place_in_the_list(instance: Instance) -> None:
    request = orders_pb2.PlaceOrderRequest(request_id="not a UUID")
    request.items.add(product_id="a", quantity=1)
    request.items.add(product_id="../b", quantity=-1)

    failed = refused(instance, PLACE_ORDER, request.SerializeToString())

    assert {"items[1].product_id", "items[1].quantity", "request_id"} == set(failed.fields)
    assert "items[1].quantity" in failed.message


def test_a_rule_over_a_list_names_the_list(instance: Instance) -> None:
    request = orders_pb2.PlaceOrderRequest(request_id=REQUEST_ID)
    request.items.add(product_id="a", quantity=1)
    request.items.add(product_id="a", quantity=2)

    failed = refused(instance, PLACE_ORDER, request.SerializeToString())

    assert {"items": "each product_id may stand in one item only"} == failed.fields


@pytest.mark.parametrize("quantity", [-1, 2**31, 2**63 - 1, -(2**63)])
def test_numbers_out_of_range_are_refused(instance: Instance, quantity: int) -> None:
    request = inventory_pb2.SetStockRequest(name="stock/a", quantity=quantity, request_id=REQUEST_ID)

    assert {"quantity"} == set(refused(instance, SET_STOCK, request.SerializeToString()).fields)


def test_an_empty_request_names_what_is_missing(instance: Instance) -> None:
    assert {"items", "request_id"} == set(refused(instance, PLACE_ORDER, b"").fields)


def test_nul_is_refused_wherever_it_stands(instance: Instance) -> None:
    request = orders_pb2.PlaceOrderRequest(request_id=REQUEST_ID)
    request.items.add(product_id="a", quantity=1)
    request.items.add(product_id="b\0", quantity=1)

    failed = refused(instance, PLACE_ORDER, request.SerializeToString())

    violations = failed.detail(error_details_pb2.BadRequest).field_violations
    said = [(violation.field, violation.description) for violation in violations]
    assert ("items[1].product_id", "must not contain the character NUL") in said


def test_nul_is_refused_where_the_contract_allows_any_text(instance: Instance) -> None:
    request = orders_pb2.ListOrdersRequest(page_token="a\0b")

    failed = refused(instance, LIST_ORDERS, request.SerializeToString())

    assert {"page_token": "must not contain the character NUL"} == failed.fields


def test_a_long_list_is_refused_before_anything_visits_it(instance: Instance) -> None:
    request = inventory_pb2.BatchGetStockRequest(names=["x"] * 16_000)
    began = time.perf_counter()

    failed = refused(instance, BATCH_GET_STOCK, request.SerializeToString())

    assert {"names": "has 16000 entries; 500 are allowed"} == failed.fields
    assert time.perf_counter() - began < 2


def test_a_list_of_empty_messages_is_refused_by_its_length(instance: Instance) -> None:
    failed = refused(instance, PLACE_ORDER, b"\x0a\x00" * 40_000)

    assert {"items": "has 40000 entries; 500 are allowed"} == failed.fields


@pytest.mark.parametrize(("method", "most"), [(GET_STOCK, 1024), (BATCH_GET_STOCK, 48 << 10), (PLACE_ORDER, 96 << 10)])
def test_a_request_above_its_methods_size_is_refused_unparsed(instance: Instance, method: str, most: int) -> None:
    with pytest.raises(Failure) as above:
        instance.raw(method, b"\xff" * (most + 1))
    at_most = refused(instance, method, b"\xff" * most)

    failed, limit = above.value, f"requests of up to {most} bytes"
    (violation,) = failed.detail(error_details_pb2.QuotaFailure).violations
    said = failed.detail(error_details_pb2.ErrorInfo).metadata
    service, _, name = method[1:].partition("/")
    descriptor = orders_pb2.DESCRIPTOR.pool.FindServiceByName(service).methods_by_name[name]
    assert ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE") == (failed.code, failed.reason)
    assert ("request", limit, limit) == (violation.subject, violation.description, said["limit"])
    assert (f"max_request_bytes: {most}", locations.method(descriptor, "max_request_bytes")) == (
        said["rule"],
        said["contract"],
    )
    # One byte less is parsed, and found to be no request.
    assert "MALFORMED_MESSAGE" == at_most.reason


def test_a_compressed_request_is_counted_unpacked(instance: Instance) -> None:
    metadata = (("authorization", f"Bearer {instance.issuer.token()}"),)
    call = instance.channel.unary_unary(GET_STOCK)

    for size in (2_000, 10_000_000):
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\0" * size, timeout=5, metadata=metadata, compression=grpc.Compression.Gzip)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert [] == instance.behaviour.requests


@pytest.mark.parametrize(
    ("method", "body"),
    [
        (GET_STOCK, b"\x08\x01"),
        (GET_STOCK, b"\x0d\x00\x00\x00\x00"),
        (SET_STOCK, b"\x12\x02ab"),
        (GET_STOCK, b"\x0c"),
        (GET_STOCK, b"\x0b"),
        (GET_STOCK, b"\x00\x01"),
        (GET_STOCK, b"\x0a\xff\xff\xff\xff\x0f"),
        (GET_STOCK, b"\x0f\x01"),
        (SET_STOCK, b"\x10" + b"\xff" * 10),
        (GET_STOCK, b"\x0a\x03\xef\xbf"),
        (GET_STOCK, b"\x0a\x02\xc0\x80"),
        (PLACE_ORDER, b"\x7b" * 101 + b"\x7c" * 101),
    ],
    ids=[
        "a number for a string",
        "fixed32 for a string",
        "bytes for a number",
        "an end without a group",
        "a group without an end",
        "field 0",
        "a length of 4 GB",
        "wire type 7",
        "a varint of 10 bytes and more",
        "a cut character",
        "an overlong NUL",
        "101 groups in each other",
    ],
)
def test_no_malformed_request_reaches_a_handler(instance: Instance, method: str, body: bytes) -> None:
    # What has another wire type than the field is an unknown field; then it is the field that is missing.
    assert refused(instance, method, body).reason in {"MALFORMED_MESSAGE", "INVALID_FIELDS"}


def test_unknown_fields_are_no_error(instance: Instance) -> None:
    body = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString() + b"\xf8\x3f\x01"

    instance.raw(GET_STOCK, body)

    assert 1 == len(instance.behaviour.requests)


def test_the_next_call_on_the_connection_works(instance: Instance) -> None:
    refused(instance, GET_STOCK, b"\xff")

    assert 7 == instance.get_stock().quantity
