"""What a contract says of the cache is done by the server: handlers are told the key, and forget nothing themselves."""

from collections.abc import Iterator, Sequence

import pytest
from google.protobuf import empty_pb2

from svc.chassis.context import CallContext
from svc.chassis.errors import Unavailable
from tests.unit.svc.chassis.instance import Failure, Instance
from weft.catalog.v1 import catalog_pb2

SERVICE = "/weft.catalog.v1.CatalogService"
KEPT = ("weft.catalog.v1.CatalogService.GetProduct",)


class Forgotten:
    def __init__(self) -> None:
        self.told: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def __call__(self, methods: Sequence[str], keys: Sequence[str]) -> None:
        self.told.append((tuple(methods), tuple(keys)))


@pytest.fixture
def forgotten() -> Forgotten:
    return Forgotten()


@pytest.fixture
def instance(forgotten: Forgotten) -> Iterator[Instance]:
    running = Instance(forget=forgotten)
    yield running
    running.close()


def product(name: str = "products/mug") -> catalog_pb2.Product:
    wanted = catalog_pb2.Product(name=name, display_name="Mug")
    wanted.price.currency_code = "GBP"
    return wanted


WRITES = {
    "CreateProduct": catalog_pb2.CreateProductRequest(product_id="mug", product=product("")),
    "UpdateProduct": catalog_pb2.UpdateProductRequest(product=product()),
    "DeleteProduct": catalog_pb2.DeleteProductRequest(name="products/mug"),
}


ANSWERS = {"CreateProduct": product(), "UpdateProduct": product(), "DeleteProduct": empty_pb2.Empty()}


def write(instance: Instance, method: str) -> None:
    instance.call(f"{SERVICE}/{method}", WRITES[method], token=instance.issuer.token(scope="catalog.write"))


@pytest.mark.parametrize("method", WRITES)
def test_what_a_write_makes_outdated_is_forgotten_when_its_handler_has_ended(
    instance: Instance, forgotten: Forgotten, method: str
) -> None:
    before: list[int] = []

    def handle(_request: object, _call: CallContext) -> object:
        before.append(len(forgotten.told))
        return ANSWERS[method]

    instance.behaviour.do = handle
    write(instance, method)

    assert ([0], [(KEPT, ("products/mug",))]) == (before, forgotten.told)


@pytest.mark.parametrize("method", WRITES)
def test_it_is_forgotten_also_where_nobody_knows_whether_it_was_written(
    instance: Instance, forgotten: Forgotten, method: str
) -> None:
    def lose(_request: object, _call: CallContext) -> object:
        raise Unavailable("lost", reason="COMMIT_UNKNOWN")

    instance.behaviour.do = lose
    with pytest.raises(Failure):
        write(instance, method)

    assert [(KEPT, ("products/mug",))] == forgotten.told


def test_a_read_is_told_its_key_and_makes_nothing_outdated(instance: Instance, forgotten: Forgotten) -> None:
    instance.behaviour.do = lambda _request, _call: product()
    token = instance.issuer.token(scope="catalog.read")

    instance.call(f"{SERVICE}/GetProduct", catalog_pb2.GetProductRequest(name="products/mug"), token=token)
    instance.behaviour.do = lambda _request, _call: catalog_pb2.ListProductsResponse()
    instance.call(f"{SERVICE}/ListProducts", catalog_pb2.ListProductsRequest(), token=token)

    assert (["products/mug", ""], []) == ([call.cache_key for call in instance.behaviour.calls], forgotten.told)
