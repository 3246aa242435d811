import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.endpoint import Endpoint, ServiceName, service_name
from lb.errors import EntryRefusedError
from lb.registry.keys import (
    blob_key,
    decode,
    document_key,
    encode,
    endpoint_key,
    history_key,
    history_number,
)

KEY = endpoint_key("orders", "orders-1")
GOOD = {"service": "orders", "instance": "orders-1", "address": "127.0.0.1", "port": 4711}

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)


def refused(value: bytes, *, key: bytes = KEY, lease: int = 1) -> str:
    with pytest.raises(EntryRefusedError) as caught:
        decode(key, value, lease=lease)
    return caught.value.reason


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "::", "169.254.1.1", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "255.255.255.255"),
        *("::ffff:0.0.0.0", "::ffff:169.254.1.1", "localhost", "", "127.0.0.1 ", "127.1", "127.0.0.01"),
    ],
)
def test_an_address_nobody_can_be_sent_to_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|zone"):
        Endpoint(ServiceName("orders"), "orders-1", address, 1)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        Endpoint(ServiceName("orders"), "orders-1", "127.0.0.1", port)


@pytest.mark.parametrize("name", ["", "Orders", "1orders", "orders/x", "a" * 64, "orders\n", "ördërs"])
def test_a_name_that_could_not_be_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        service_name(name)


def test_an_address_is_kept_in_its_canonical_form() -> None:
    assert "::1" == Endpoint(ServiceName("orders"), "orders-1", "0:0::1", 1).address


@given(
    NAMES,
    NAMES,
    ADDRESSES,
    st.integers(1, 65535),
    st.text(max_size=64),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    NAMES | st.just(""),
)
def test_what_is_registered_is_read_back(
    service: str, instance: str, address: str, port: int, version: str, start: datetime | None, zone: str
) -> None:
    try:
        endpoint = Endpoint(ServiceName(service), instance, address, port, version, start, zone)
    except ValueError:
        return

    assert endpoint == decode(endpoint_key(service, instance), encode(endpoint), lease=1)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_else_lies_there_is_refused_with_a_reason(value: bytes) -> None:
    assert refused(value) in {"not_an_endpoint", "key_differs", "bad_value"}


def test_a_later_version_may_say_more() -> None:
    assert 4711 == decode(KEY, json.dumps(GOOD | {"rack": "b"}).encode(), lease=1).port


def test_hostile_values_are_refused_with_their_reason() -> None:
    def changed(**fields: object) -> bytes:
        return json.dumps(GOOD | fields).encode()

    assert "no_lease" == refused(changed(), lease=0)
    assert "too_large" == refused(b" " * 1_500_000)
    assert "not_an_endpoint" == refused(b"\xff\xfe")
    assert "not_an_endpoint" == refused(b"[" * 4000)
    assert "not_an_endpoint" == refused(b'{"port": 1, "port": 2}')
    assert "not_an_endpoint" == refused(changed(port=-1))
    assert "key_differs" == refused(b"[]")
    assert "key_differs" == refused(changed(service="catalog"))
    assert "key_differs" == refused(changed(), key=endpoint_key("orders", "orders-2"))
    assert "bad_value" == refused(changed(port=70000))
    assert "bad_value" == refused(changed(address="169.254.169.254"))
    assert "bad_value" == refused(changed(version="v" * 65))
    assert "bad_value" == refused(changed(zone="Zone B"))


def test_keys_are_laid_out_below_one_root() -> None:
    assert b"/weft/endpoints/orders/orders-1" == KEY
    assert b"/weft/documents/jwks" == document_key("jwks")
    assert b"/weft/xds/blob/" + b"a" * 64 == blob_key("a" * 64)
    assert [9, 10, -1] == [history_number(key) for key in (history_key(9), history_key(10), b"/weft/xds/history/x")]
    assert history_key(9) < history_key(10)


@pytest.mark.parametrize("name", ["", "../endpoints/x", "a/b", "A"])
def test_a_document_cannot_be_named_out_of_its_place(name: str) -> None:
    with pytest.raises(ValueError, match="document"):
        document_key(name)


def test_a_blob_is_named_by_a_digest_only() -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        blob_key("../current")
