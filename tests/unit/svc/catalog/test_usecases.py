"""Products: created once, read through the cache, changed under an etag, told of with every change."""

from datetime import timedelta

import pytest

from svc.catalog import usecases
from svc.catalog.model import Order, Position, Price, Product
from svc.catalog.usecases import Update
from svc.chassis.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from tests.fakes.catalog import World, make_call, make_world
from weft.catalog.v1.events_pb2 import ProductChanged

CALL = make_call()
POUND = Price("GBP", 100)


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def mug(world: World) -> Product:
    product = usecases.create_product(world.ports, "mug", display_name="White mug", price=POUND, call=CALL)
    world.memory.events.clear()
    return product


def update(world: World, *fields: str, name: str = "Red mug", price: Price | None = None, etag: str = "") -> Product:
    change = Update(product_id="mug", display_name=name, price=price or Price("GBP", 250), etag=etag, fields=fields)
    return usecases.update_product(world.ports, change, call=CALL)


def test_a_new_product_is_kept_and_told(world: World) -> None:
    product = usecases.create_product(world.ports, "mug", display_name="White mug", price=Price("GBP", 150), call=CALL)

    assert {"mug": product} == world.memory.products
    (fact,) = world.facts()
    assert ("products/mug", ProductChanged.CHANGE_CREATED, "White mug") == (
        fact.product,
        fact.change,
        fact.display_name,
    )
    assert ("GBP", 1, 500_000_000) == (fact.price.currency_code, fact.price.units, fact.price.nanos)


def test_a_product_without_an_id_gets_a_random_one(world: World) -> None:
    first, second = (
        usecases.create_product(world.ports, "", display_name="x", price=POUND, call=CALL) for _ in range(2)
    )

    assert first.id != second.id


def test_an_id_that_is_taken_is_refused_and_nothing_is_written(world: World, mug: Product) -> None:
    with pytest.raises(AlreadyExists):
        usecases.create_product(world.ports, "mug", display_name="Another", price=POUND, call=CALL)

    assert ({"mug": mug}, []) == (world.memory.products, world.memory.events)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_product_needs_a_name(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        usecases.create_product(world.ports, "mug", display_name=name, price=POUND, call=CALL)

    assert ["product.display_name"] == [field for field, _ in refusal.value.violations]


def test_the_second_read_comes_from_the_cache(world: World, mug: Product) -> None:
    reads = [usecases.get_product(world.ports, "mug", call=CALL) for _ in range(2)]

    assert [mug, mug] == reads
    assert 1 == world.transactions.reads


def test_a_product_that_is_not_there_is_not_found_and_not_kept(world: World) -> None:
    with pytest.raises(NotFound) as refusal:
        usecases.get_product(world.ports, "mug", call=CALL)

    assert ("product", "products/mug") == refusal.value.resource
    assert {} == world.cache.kept


@pytest.mark.usefixtures("mug")
def test_a_change_is_read(world: World) -> None:
    changed = update(world)

    assert changed == usecases.get_product(world.ports, "mug", call=CALL)


def test_a_deleted_product_is_gone_and_told_as_it_was(world: World, mug: Product) -> None:
    usecases.delete_product(world.ports, "mug", call=CALL)

    with pytest.raises(NotFound):
        usecases.get_product(world.ports, "mug", call=CALL)
    (fact,) = world.facts()
    assert (ProductChanged.CHANGE_DELETED, mug.display_name) == (fact.change, fact.display_name)


def test_deleting_what_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        usecases.delete_product(world.ports, "mug", call=CALL)


@pytest.mark.parametrize(
    ("fields", "name", "minor"),
    [
        ([], "Red mug", 250),
        (["*"], "Red mug", 250),
        (["display_name", "price"], "Red mug", 250),
        (["display_name"], "Red mug", 100),
        (["price"], "White mug", 250),
    ],
)
def test_only_the_named_fields_change(world: World, mug: Product, fields: list[str], name: str, minor: int) -> None:
    world.clock.move(timedelta(seconds=1))

    changed = update(world, *fields)

    assert (name, Price("GBP", minor)) == (changed.display_name, changed.price)
    assert (mug.create_time, world.clock.now()) == (changed.create_time, changed.update_time)
    assert [ProductChanged.CHANGE_UPDATED] == [fact.change for fact in world.facts()]


@pytest.mark.usefixtures("mug")
def test_a_field_that_cannot_be_changed_is_named(world: World) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        update(world, "display_name", "create_time")

    ((field, description),) = refusal.value.violations
    assert "update_mask" == field
    assert "`create_time`" in description


def test_the_current_etag_lets_a_change_in_and_is_replaced(world: World, mug: Product) -> None:
    changed = update(world, etag=mug.etag)

    assert mug.etag != changed.etag


@pytest.mark.usefixtures("mug")
def test_an_old_etag_is_aborted_and_changes_nothing(world: World) -> None:
    with pytest.raises(Aborted) as refusal:
        update(world, etag="old")

    assert "ETAG_MISMATCH" == refusal.value.reason
    assert ("White mug", []) == (world.memory.products["mug"].display_name, world.memory.events)


def test_a_change_to_the_same_values_is_none(world: World, mug: Product) -> None:
    assert mug == update(world, name=mug.display_name, price=mug.price)
    assert [] == world.memory.events


def test_many_products_come_in_the_order_asked_for_with_repeats(world: World) -> None:
    for product_id in ("a", "b", "c"):
        usecases.create_product(world.ports, product_id, display_name=product_id, price=POUND, call=CALL)

    products = usecases.batch_get_products(world.ports, ["c", "a", "c"], call=CALL)

    assert ["c", "a", "c"] == [product.id for product in products]
    assert 1 == world.transactions.reads


@pytest.mark.usefixtures("mug")
def test_the_first_of_many_that_is_missing_is_named(world: World) -> None:
    with pytest.raises(NotFound) as refusal:
        usecases.batch_get_products(world.ports, ["mug", "y", "x"], call=CALL)

    assert ("product", "products/y") == refusal.value.resource


def test_a_list_holds_what_matches_every_word_behind_a_position(world: World) -> None:
    for number, name in enumerate(["White mug", "white MUG, large", "Red mug", "White plate", "Mug, white"]):
        price = Price("GBP", 500 - number)
        usecases.create_product(world.ports, f"p{number}", display_name=name, price=price, call=CALL)

    def list_ids(order: Order, after: Position | None) -> list[str]:
        products = usecases.list_products(world.ports, "WHITE mug", order=order, after=after, limit=2, call=CALL)
        return [product.id for product in products]

    assert ["p0", "p1"] == list_ids(Order.NAME, None)
    assert ["p4"] == list_ids(Order.NAME, Position("p1", POUND))
    assert ["p4", "p1"] == list_ids(Order.PRICE, None)
    assert ["p0"] == list_ids(Order.PRICE, Position("p1", Price("GBP", 499)))
