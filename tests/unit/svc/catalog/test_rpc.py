"""CatalogService in protobuf: money, names, pages and etags as the contract has them."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from svc.catalog import rpc
from svc.catalog.model import Price, Product
from svc.catalog.rpc import CatalogHandler
from svc.chassis.errors import Aborted, InvalidArgument, NotFound
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from tests.fakes.catalog import World, make_call, make_world
from tests.fakes.clock import START, FakeClock
from weft.catalog.v1 import catalog_pb2
from weft_protos import policy

CALL = make_call()


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def handler(world: World) -> CatalogHandler:
    return CatalogHandler(world.ports, PageTokens(b"k" * 32))


def create(
    handler: CatalogHandler, product_id: str = "mug", *, name: str = "White mug", units: int = 1, nanos: int = 0
) -> catalog_pb2.Product:
    product = catalog_pb2.Product(display_name=name, price=Money(currency_code="GBP", units=units, nanos=nanos))
    return handler.CreateProduct(catalog_pb2.CreateProductRequest(product_id=product_id, product=product), CALL)


def list_names(handler: CatalogHandler, **fields: str | int) -> list[list[str]]:
    """Names on each page, two a page."""
    pages, token = [], ""
    while True:
        request = catalog_pb2.ListProductsRequest(page_size=2, page_token=token)
        for name, value in fields.items():
            setattr(request, name, value)
        page = handler.ListProducts(request, CALL)
        pages.append([product.name.removeprefix("products/") for product in page.products])
        token = page.next_page_token
        if not token:
            return pages


def test_the_handler_has_every_method_of_the_contract(handler: CatalogHandler) -> None:
    service = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]

    Server([(service, handler)], verifier=TokenVerifier(FakeClock()), limits=Limits(threads=1, streams=0))


def test_the_contract_gives_products_a_life_in_the_cache() -> None:
    method = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name["GetProduct"]

    assert policy.effective(method).cache.ttl.seconds > 0


def test_a_product_is_answered_as_it_was_created(handler: CatalogHandler) -> None:
    created = create(handler, units=2, nanos=550_000_000)

    assert ("products/mug", "White mug") == (created.name, created.display_name)
    assert Money(currency_code="GBP", units=2, nanos=550_000_000) == created.price
    assert created.etag
    assert created == handler.GetProduct(catalog_pb2.GetProductRequest(name="products/mug"), CALL)


def test_a_product_comes_out_of_the_cache_as_it_went_in() -> None:
    product = Product("mug", "White mug", Price("GBP", 255), "e1", START, START)

    assert product == rpc.decode(rpc.encode(product))


def test_an_amount_that_is_not_whole_minor_units_is_refused_by_name(handler: CatalogHandler) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        create(handler, nanos=1)

    assert ["product.price.nanos"] == [field for field, _ in refusal.value.violations]


def test_many_products_are_read_in_the_order_asked_for(handler: CatalogHandler) -> None:
    for product_id in "abc":
        create(handler, product_id)
    request = catalog_pb2.BatchGetProductsRequest(names=["products/c", "products/a"])

    products = handler.BatchGetProducts(request, CALL).products

    assert ["products/c", "products/a"] == [product.name for product in products]


def test_a_change_takes_the_etag_it_was_read_with(handler: CatalogHandler) -> None:
    product = create(handler)
    product.display_name = "Red mug"
    request = catalog_pb2.UpdateProductRequest(product=product)

    changed = handler.UpdateProduct(request, CALL)

    assert ("Red mug", True) == (changed.display_name, changed.etag != product.etag)
    with pytest.raises(Aborted):
        handler.UpdateProduct(request, CALL)


def test_a_change_of_the_name_alone_leaves_the_price(handler: CatalogHandler) -> None:
    create(handler, units=7)
    request = catalog_pb2.UpdateProductRequest(product=catalog_pb2.Product(name="products/mug", display_name="Red mug"))
    request.update_mask.paths.append("display_name")

    assert 7 == handler.UpdateProduct(request, CALL).price.units


def test_a_deleted_product_is_gone(handler: CatalogHandler) -> None:
    create(handler)

    handler.DeleteProduct(catalog_pb2.DeleteProductRequest(name="products/mug"), CALL)

    with pytest.raises(NotFound):
        handler.GetProduct(catalog_pb2.GetProductRequest(name="products/mug"), CALL)


@pytest.mark.parametrize(
    ("order_by", "pages"),
    [
        ("", [["a", "b"], ["c", "d"], ["e"]]),
        ("name", [["a", "b"], ["c", "d"], ["e"]]),
        ("name desc", [["e", "d"], ["c", "b"], ["a"]]),
        ("price", [["c", "e"], ["b", "a"], ["d"]]),
        ("price desc", [["d", "a"], ["b", "e"], ["c"]]),
    ],
)
def test_pages_hold_every_product_once_in_order(handler: CatalogHandler, order_by: str, pages: list[list[str]]) -> None:
    for product_id, units in {"a": 30, "b": 20, "c": 10, "d": 30, "e": 10}.items():
        create(handler, product_id, units=units)

    assert pages == list_names(handler, order_by=order_by)


def test_a_filtered_list_holds_what_matches_on_every_page(handler: CatalogHandler) -> None:
    for number in range(6):
        create(handler, f"p{number}", name=f"{'White' if number % 2 else 'Red'} mug {number}")

    assert [["p1", "p3"], ["p5"]] == list_names(handler, filter="WHITE mug")


@pytest.mark.parametrize(("words", "order_by"), [("red", ""), ("", "price")])
def test_a_page_token_of_one_list_does_not_continue_another(handler: CatalogHandler, words: str, order_by: str) -> None:
    for product_id in "abc":
        create(handler, product_id)
    token = handler.ListProducts(catalog_pb2.ListProductsRequest(page_size=1), CALL).next_page_token
    other = catalog_pb2.ListProductsRequest(page_token=token, filter=words, order_by=order_by)

    with pytest.raises(InvalidArgument) as refusal:
        handler.ListProducts(other, CALL)

    assert ["page_token"] == [field for field, _ in refusal.value.violations]


def test_a_read_mask_cuts_the_answer_down_and_leaves_the_cache_whole(handler: CatalogHandler) -> None:
    whole = create(handler)
    mask = FieldMask(paths=["display_name", "price.units"])
    request = catalog_pb2.GetProductRequest(name="products/mug", read_mask=mask)

    for _ in range(2):
        found = handler.GetProduct(request, CALL)
        assert catalog_pb2.Product(display_name="White mug", price=Money(units=1)) == found
    assert whole == handler.GetProduct(catalog_pb2.GetProductRequest(name="products/mug"), CALL)
    listed = handler.ListProducts(catalog_pb2.ListProductsRequest(read_mask=FieldMask(paths=["name"])), CALL)
    assert [catalog_pb2.Product(name="products/mug")] == list(listed.products)


def test_a_read_mask_that_names_no_field_is_refused_before_anything_is_read(handler: CatalogHandler) -> None:
    mask = FieldMask(paths=["colour"])
    for call in (
        lambda: handler.GetProduct(catalog_pb2.GetProductRequest(name="products/none", read_mask=mask), CALL),
        lambda: handler.ListProducts(catalog_pb2.ListProductsRequest(read_mask=mask), CALL),
    ):
        with pytest.raises(InvalidArgument) as refused:
            call()
        assert "read_mask.paths[0]" == refused.value.violations[0][0]
