"""File and line of what the linked contracts say, compared with the files themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import locations, policy

PROTOS = Path(__file__).resolve().parents[3] / "protos"
PLACE = orders_pb2.DESCRIPTOR.services_by_name["OrderService"].methods_by_name["PlaceOrder"]


def line_of(place: str) -> str:
    file, _, number = place.rpartition(":")
    return (PROTOS / file).read_text().splitlines()[int(number) - 1].strip()


def test_every_method_stands_on_its_line() -> None:
    methods = [method for service in policy.SERVICES for method in service.methods]

    assert methods
    for method in methods:
        assert line_of(locations.method(method)).startswith(f"rpc {method.name}(")


def test_every_method_says_who_may_call_it_on_the_line_of_its_access() -> None:
    for method in (method for service in policy.SERVICES for method in service.methods):
        said = line_of(locations.method(method, "access"))
        rules = policy.effective(method)
        words = ("public: true",) if rules.public else tuple(rules.scopes)
        assert any(word in said for word in words), method.full_name


def test_a_part_that_the_service_says_for_all_is_found_there() -> None:
    assert "requests: 50" == line_of(locations.method(PLACE, "rate_limit"))
    assert "timeout: {seconds: 5}" == line_of(locations.method(PLACE, "timeout"))
    assert "retry: {max_attempts: 3}" == line_of(locations.method(PLACE, "retry"))
    assert "criticality: CRITICALITY_CRITICAL" == line_of(locations.method(PLACE, "criticality"))


def test_a_part_that_nobody_says_is_the_methods_own_line() -> None:
    assert locations.method(PLACE) == locations.method(PLACE, "cache")


def test_every_field_of_every_message_stands_on_its_line() -> None:
    for file in (orders_pb2.DESCRIPTOR, catalog_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            for field in message.fields:
                assert f" {field.name} = {field.number}" in line_of(locations.field(field))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of generated code without its descriptor set."""
    caches = (locations.method, locations.field, locations._root, locations._files)
    path = tmp_path / "contracts.binpb"
    monkeypatch.setattr(locations, "contracts", lambda: path)
    for cached in caches:
        cached.cache_clear()
    yield path
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("content", [None, b"\xff\xff", b""])
def test_where_the_lines_are_not_known_nothing_fails(empty: Path, content: bytes | None) -> None:
    if content is not None:
        empty.write_bytes(content)

    field = orders_pb2.PlaceOrderRequest.DESCRIPTOR.fields_by_name["items"]
    assert ("", "", "") == (locations.method(PLACE), locations.method(PLACE, "access"), locations.field(field))
