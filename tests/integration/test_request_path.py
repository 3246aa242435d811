"""The request path of a running mesh: identity, catalog and orders behind the gateway, called with native stubs."""

from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import (
    CALL_S,
    Customer,
    Refusal,
    Shop,
    metadata,
    place_request,
    quantities,
    refusal_of,
    refused,
    request_id,
    send,
)
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft.orders.v1.orders_pb2 import Order

pytestmark = pytest.mark.calls

Code = grpc.StatusCode
OUT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module")
def ada(shop: Shop) -> Customer:
    return shop.customer()


@pytest.fixture(scope="module")
def bob(shop: Shop) -> Customer:
    return shop.customer()


def refresh(shop: Shop, token: str) -> identity_pb2.Session:
    request = identity_pb2.RefreshSessionRequest(refresh_token=token)
    session: identity_pb2.Session = send(shop.identity.RefreshSession, request)
    return session


def refresh_refused(shop: Shop, token: str) -> tuple[Code, str]:
    refusal = refused(shop.identity.RefreshSession, identity_pb2.RefreshSessionRequest(refresh_token=token))
    return refusal.code, refusal.reason


def get_product(shop: Shop, product_id: str) -> catalog_pb2.Product:
    request = catalog_pb2.GetProductRequest(name=f"products/{product_id}")
    product: catalog_pb2.Product = shop.operator.call(shop.catalog.GetProduct, request)
    return product


def update_product(shop: Shop, product: catalog_pb2.Product, *paths: str) -> catalog_pb2.Product:
    mask = field_mask_pb2.FieldMask(paths=paths)
    request = catalog_pb2.UpdateProductRequest(product=product, update_mask=mask)
    updated: catalog_pb2.Product = shop.operator.call(shop.catalog.UpdateProduct, request)
    return updated


def as_operator(shop: Shop) -> Customer:
    return Customer("operator", "", "", shop.operator.sign_in())


# identity


def test_who_signs_in_gets_a_pair_of_tokens_that_reads_oneself_and_nobody_else(
    shop: Shop, ada: Customer, bob: Customer
) -> None:
    session = ada.session
    user = send(shop.identity.GetUser, identity_pb2.GetUserRequest(name=ada.name), ada)
    other = refused(shop.identity.GetUser, identity_pb2.GetUserRequest(name=bob.name), ada)

    assert (ada.name, 300) == (session.user, session.expires_in.seconds)
    assert session.refresh_token
    assert (ada.name, ada.email, list(session.scopes)) == (user.name, user.email, list(user.scopes))
    assert {"catalog.read", "orders.read", "orders.write"} <= set(session.scopes)
    assert (Code.NOT_FOUND, "USER_NOT_FOUND") == (other.code, other.reason)


def test_a_wrong_password_and_an_unknown_address_are_one_answer(shop: Shop, ada: Customer) -> None:
    wrong, unknown = (
        refused(shop.identity.CreateSession, identity_pb2.CreateSessionRequest(email=email, password="not the one"))
        for email in (ada.email, f"nobody-{ada.email}")
    )

    assert wrong == unknown
    assert (Code.UNAUTHENTICATED, "BAD_CREDENTIALS") == (wrong.code, wrong.reason)


def test_an_address_has_one_user_whatever_its_case(shop: Shop, ada: Customer) -> None:
    again = identity_pb2.CreateUserRequest(email=ada.email.upper(), display_name="Eve", password=ada.password)

    assert Code.ALREADY_EXISTS is refused(shop.identity.CreateUser, again).code


def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_session(shop: Shop, ada: Customer) -> None:
    first = send(shop.identity.CreateSession, identity_pb2.CreateSessionRequest(email=ada.email, password=ada.password))
    second = refresh(shop, first.refresh_token)
    third = refresh(shop, second.refresh_token)

    assert (first.name, first.user) == (second.name, second.user) == (third.name, third.user)
    assert 3 == len({session.refresh_token for session in (first, second, third)})
    read_self = identity_pb2.GetUserRequest(name=ada.name)
    assert ada.name == send(shop.identity.GetUser, read_self, Customer(ada.id, "", "", third)).name
    assert (Code.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED") == refresh_refused(shop, first.refresh_token)
    assert (Code.UNAUTHENTICATED, "SESSION_ENDED") == refresh_refused(shop, third.refresh_token)


def test_who_signs_out_cannot_refresh_and_signing_out_twice_is_once(shop: Shop, ada: Customer, bob: Customer) -> None:
    request = identity_pb2.CreateSessionRequest(email=ada.email, password=ada.password)
    session = send(shop.identity.CreateSession, request)
    sign_out = identity_pb2.DeleteSessionRequest(name=session.name)

    assert Code.NOT_FOUND is refused(shop.identity.DeleteSession, sign_out, bob).code
    send(shop.identity.DeleteSession, sign_out, ada)
    send(shop.identity.DeleteSession, sign_out, ada)
    assert (Code.UNAUTHENTICATED, "SESSION_ENDED") == refresh_refused(shop, session.refresh_token)


def test_an_operator_acts_for_a_user_with_the_users_scopes_and_nothing_to_refresh(shop: Shop, ada: Customer) -> None:
    session = shop.operator.delegate(ada.id)
    acting = Customer(ada.id, "", "", session)
    read_self = identity_pb2.GetUserRequest(name=ada.name)

    assert (ada.name, "", list(ada.session.scopes)) == (session.user, session.refresh_token, list(session.scopes))
    assert ada.email == send(shop.identity.GetUser, read_self, acting).email
    denied = refused(shop.identity.DelegateSession, identity_pb2.DelegateSessionRequest(name=ada.name), ada)
    assert Code.PERMISSION_DENIED is denied.code


# catalog


def test_a_product_is_read_as_it_was_created_and_its_id_is_taken(shop: Shop) -> None:
    product_id = shop.product(price_minor=1999, stock=None, name="Glass lantern")

    product = get_product(shop, product_id)

    assert (f"products/{product_id}", "Glass lantern") == (product.name, product.display_name)
    assert shop.money(1999) == product.price
    assert product.etag
    assert product.create_time == product.update_time
    again = catalog_pb2.CreateProductRequest(product_id=product_id, product=product)
    taken = refused(shop.catalog.CreateProduct, again, as_operator(shop))
    assert (Code.ALREADY_EXISTS, "PRODUCT_EXISTS") == (taken.code, taken.reason)


def test_an_update_changes_what_its_mask_names_and_only_at_the_etag_that_was_read(shop: Shop) -> None:
    product_id = shop.product(price_minor=100, stock=None, name="Tray")
    before = get_product(shop, product_id)
    wanted = catalog_pb2.Product(name=before.name, display_name="not asked for", price=shop.money(250))

    after = update_product(shop, wanted, "price")

    assert ("Tray", shop.money(250)) == (after.display_name, after.price)
    assert before.etag != after.etag
    stale = catalog_pb2.UpdateProductRequest(product=before, update_mask=field_mask_pb2.FieldMask(paths=["price"]))
    lost = refused(shop.catalog.UpdateProduct, stale, as_operator(shop))
    assert (Code.ABORTED, "ETAG_MISMATCH") == (lost.code, lost.reason)
    assert after == get_product(shop, product_id)
    unknown = catalog_pb2.UpdateProductRequest(product=after, update_mask=field_mask_pb2.FieldMask(paths=["etag"]))
    assert ("update_mask",) == refused(shop.catalog.UpdateProduct, unknown, as_operator(shop)).fields


def test_a_search_walks_all_pages_in_order_and_its_token_is_good_for_no_other(shop: Shop, ada: Customer) -> None:
    word = shop.new_id("word")
    made = [shop.product(price_minor=100 + n, stock=None, name=f"Bunting {word.upper()} no. {n}") for n in range(5)]

    def page(order: str, token: str, words: str = f"{word} bunting") -> catalog_pb2.ListProductsRequest:
        return catalog_pb2.ListProductsRequest(page_size=2, filter=words, order_by=order, page_token=token)

    def walk(order: str) -> list[list[str]]:
        pages, token = list[list[str]](), ""
        while token or not pages:
            answer = send(shop.catalog.ListProducts, page(order, token), ada)
            pages.append([product.name.removeprefix("products/") for product in answer.products])
            token = answer.next_page_token
        return pages

    first = send(shop.catalog.ListProducts, page("price", ""), ada)
    foreign = refused(shop.catalog.ListProducts, page("price", first.next_page_token, words="bunting"), ada)
    forged = refused(shop.catalog.ListProducts, page("price", "A" + first.next_page_token[1:] + "x"), ada)

    assert [made[0:2], made[2:4], made[4:5]] == walk("price")
    assert [made[:2:-1], made[2:0:-1], made[0:1]] == walk("price desc")
    assert sorted(made) == sorted(name for names in walk("") for name in names)
    expected = (Code.INVALID_ARGUMENT, ("page_token",))
    assert expected == (foreign.code, foreign.fields) == (forged.code, forged.fields)


def test_a_deleted_product_is_gone_at_once_also_from_the_cache(shop: Shop, ada: Customer) -> None:
    product_id = shop.product(stock=None)
    request = catalog_pb2.GetProductRequest(name=f"products/{product_id}")
    send(shop.catalog.GetProduct, request, ada)
    send(shop.catalog.GetProduct, request, ada)

    shop.operator.call(shop.catalog.DeleteProduct, catalog_pb2.DeleteProductRequest(name=request.name))

    gone = refused(shop.catalog.GetProduct, request, ada)
    assert (Code.NOT_FOUND, "PRODUCT_NOT_FOUND") == (gone.code, gone.reason)


def test_a_product_that_is_read_again_comes_from_the_cache_and_a_change_is_seen_at_once(shop: Shop) -> None:
    product_id = shop.product(price_minor=100, stock=None)

    def lookups(result: str) -> float:
        return shop.exposed("catalog", "weft_cache_requests_total", result=result)

    hits, misses = lookups("hit"), lookups("miss")

    first = get_product(shop, product_id)
    assert misses < lookups("miss")
    assert first == get_product(shop, product_id)
    eventually(lambda: get_product(shop, product_id) == first and lookups("hit") > hits)

    for price_minor in (200, 300):
        wanted = catalog_pb2.Product(name=first.name, price=shop.money(price_minor))
        update_product(shop, wanted, "price")
        assert shop.money(price_minor) == get_product(shop, product_id).price
        assert shop.money(price_minor) == get_product(shop, product_id).price


# stock


def test_stock_is_what_was_set_last_and_a_repeated_set_is_one_set(shop: Shop, ada: Customer) -> None:
    product_id = shop.product(stock=None)
    name = f"stock/{product_id}"
    missing = refused(shop.inventory.GetStock, inventory_pb2.GetStockRequest(name=name), ada)
    assert (Code.NOT_FOUND, "STOCK_NOT_FOUND") == (missing.code, missing.reason)
    first = inventory_pb2.SetStockRequest(name=name, quantity=7, request_id=request_id())

    answer = shop.operator.call(shop.inventory.SetStock, first)
    shop.set_stock(product_id, 9)

    assert answer == shop.operator.call(shop.inventory.SetStock, first)
    assert (name, 7) == (answer.name, answer.quantity)
    assert 9 == send(shop.inventory.GetStock, inventory_pb2.GetStockRequest(name=name), ada).quantity


def test_stock_of_many_products_comes_in_the_order_asked_for_or_names_the_first_without(
    shop: Shop, ada: Customer
) -> None:
    few, many, none = shop.product(stock=1), shop.product(stock=1000), shop.product(stock=None)

    assert [1000, 1, 1000] == shop.left(many, few, many)
    request = inventory_pb2.BatchGetStockRequest(names=[f"stock/{few}", f"stock/{none}"])
    missing = refused(shop.inventory.BatchGetStock, request, ada)
    assert (Code.NOT_FOUND, True) == (missing.code, none in missing.message)
    denied = inventory_pb2.SetStockRequest(name=f"stock/{few}", quantity=5, request_id=request_id())
    assert Code.PERMISSION_DENIED is refused(shop.inventory.SetStock, denied, ada).code


# orders


def test_an_order_has_the_catalogs_names_and_prices_and_takes_its_pieces_from_stock(shop: Shop, ada: Customer) -> None:
    clock = shop.product(price_minor=1250, stock=10, name="Wooden clock")
    tray = shop.product(price_minor=99, stock=5, name="Red tray")

    order = shop.place(ada, {clock: 2, tray: 5})

    assert (ada.name, Order.STATE_PLACED, 1) == (order.user, order.state, order.revision)
    assert [(clock, "Wooden clock", 2, 0, shop.money(1250)), (tray, "Red tray", 5, 0, shop.money(99))] == [
        (item.product_id, item.display_name, item.quantity, item.cancelled_quantity, item.unit_price)
        for item in order.items
    ]
    assert shop.money(2 * 1250 + 5 * 99) == order.total
    assert [8, 0] == shop.left(clock, tray)
    assert order == send(shop.orders.GetOrder, orders_pb2.GetOrderRequest(name=order.name), ada)


def test_an_order_keeps_the_price_it_was_placed_at(shop: Shop, ada: Customer) -> None:
    product_id = shop.product(price_minor=100)
    before = shop.place(ada, {product_id: 1})
    update_product(shop, catalog_pb2.Product(name=f"products/{product_id}", price=shop.money(300)), "price")

    after = shop.place(ada, {product_id: 1})

    assert (shop.money(100), shop.money(300)) == (before.total, after.total)
    assert before == send(shop.orders.GetOrder, orders_pb2.GetOrderRequest(name=before.name), ada)


def test_a_repeated_request_id_gives_the_first_answer_and_takes_stock_once(shop: Shop, ada: Customer) -> None:
    product_id, key = shop.product(stock=10), request_id()
    first = shop.place(ada, {product_id: 3}, key=key)
    shop.cancel(ada, first.name, {product_id: 1})

    again = shop.place(ada, {product_id: 3}, key=key)

    assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert [8] == shop.left(product_id)
    other = refused(shop.orders.PlaceOrder, place_request({product_id: 4}, key=key), ada)
    assert (Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED") == (other.code, other.reason)
    assert [8] == shop.left(product_id)


def test_a_request_id_belongs_to_its_caller(shop: Shop, ada: Customer, bob: Customer) -> None:
    product_id, key = shop.product(stock=10), request_id()

    orders = [shop.place(customer, {product_id: 1}, key=key) for customer in (ada, bob)]

    assert [ada.name, bob.name] == [order.user for order in orders]
    assert [8] == shop.left(product_id)


def test_too_little_stock_names_each_product_and_takes_nothing(shop: Shop, ada: Customer) -> None:
    enough, short, empty = shop.product(stock=10), shop.product(stock=2), shop.product(stock=0)
    request = place_request({enough: 1, short: 3, empty: 1})

    refusal = refused(shop.orders.PlaceOrder, request, ada)

    assert (Code.FAILED_PRECONDITION, "OUT_OF_STOCK") == (refusal.code, refusal.reason)
    expected = {f"stock/{short}": "3 wanted, 2 left", f"stock/{empty}": "1 wanted, 0 left"}
    assert expected == refusal.subjects
    assert [10, 2, 0] == shop.left(enough, short, empty)
    # Nothing took effect under the request id: once there is enough, the same request succeeds.
    shop.set_stock(short, 3)
    shop.set_stock(empty, 1)
    assert Order.STATE_PLACED == send(shop.orders.PlaceOrder, request, ada).state
    assert [9, 0, 0] == shop.left(enough, short, empty)


def test_an_unknown_product_is_a_bad_field_and_takes_nothing(shop: Shop, ada: Customer) -> None:
    known = shop.product(stock=10)

    refusal = refused(shop.orders.PlaceOrder, place_request({known: 1, f"{known}-not": 1}), ada)

    assert (Code.INVALID_ARGUMENT, ("items[1].product_id",)) == (refusal.code, refusal.fields)
    assert [10] == shop.left(known)


def test_an_order_is_taken_back_in_part_and_then_whole(shop: Shop, ada: Customer, bob: Customer) -> None:
    clock, tray = shop.product(price_minor=1000, stock=10), shop.product(price_minor=10, stock=10)
    order = shop.place(ada, {clock: 2, tray: 4})
    foreign = orders_pb2.CancelOrderRequest(name=order.name, request_id=request_id())
    assert Code.NOT_FOUND is refused(shop.orders.CancelOrder, foreign, bob).code

    part = shop.cancel(ada, order.name, {tray: 3})

    assert (Order.STATE_PARTIALLY_CANCELLED, 2, shop.money(2010)) == (part.state, part.revision, part.total)
    assert [0, 3] == [item.cancelled_quantity for item in part.items]
    assert [8, 9] == shop.left(clock, tray)
    too_many = orders_pb2.CancelOrderRequest(
        name=order.name, items=quantities({clock: 1, tray: 2}), request_id=request_id()
    )
    refusal = refused(shop.orders.CancelOrder, too_many, ada)
    assert (Code.FAILED_PRECONDITION, "NOT_ORDERED") == (refusal.code, refusal.reason)
    assert {f"{order.name}/items/{tray}": "2 to take back, 1 stand"} == refusal.subjects
    assert [8, 9] == shop.left(clock, tray)

    whole = orders_pb2.CancelOrderRequest(name=order.name, request_id=request_id())
    answer, again = (send(shop.orders.CancelOrder, whole, ada) for _ in range(2))

    assert answer == again
    assert (Order.STATE_CANCELLED, 3, shop.money(0)) == (answer.state, answer.revision, answer.total)
    assert [10, 10] == shop.left(clock, tray)
    ended = orders_pb2.CancelOrderRequest(name=order.name, request_id=request_id())
    assert "ALREADY_CANCELLED" == refused(shop.orders.CancelOrder, ended, ada).reason


def test_orders_are_listed_in_pages_the_newest_first_and_to_their_owner_only(shop: Shop, bob: Customer) -> None:
    cleo, product_id = shop.customer(), shop.product(stock=100)
    placed = [shop.place(cleo, {product_id: 1}).name for _ in range(5)]

    pages, token = list[list[str]](), ""
    while token or not pages:
        request = orders_pb2.ListOrdersRequest(page_size=2, page_token=token)
        answer = send(shop.orders.ListOrders, request, cleo)
        pages.append([order.name for order in answer.orders])
        token = answer.next_page_token or ""
        if token:
            foreign = refused(shop.orders.ListOrders, orders_pb2.ListOrdersRequest(page_token=token), bob)
            assert (Code.INVALID_ARGUMENT, ("page_token",)) == (foreign.code, foreign.fields)

    assert [placed[:2:-1], placed[2:0:-1], placed[0:1]] == pages
    assert Code.NOT_FOUND is refused(shop.orders.GetOrder, orders_pb2.GetOrderRequest(name=placed[0]), bob).code


def test_a_watched_order_comes_at_once_and_again_after_each_change(shop: Shop, ada: Customer, bob: Customer) -> None:
    product_id = shop.product(stock=10)
    order = shop.place(ada, {product_id: 3})
    request = orders_pb2.WatchOrderRequest(name=order.name)
    stream: Any = shop.orders.WatchOrder(request, metadata=metadata(ada), timeout=CALL_S)
    try:
        assert order == next(stream).order
        part = shop.cancel(ada, order.name, {product_id: 1})
        assert part == next(stream).order
        whole = shop.cancel(ada, order.name)
        assert whole == next(stream).order
    finally:
        stream.cancel()

    assert Code.NOT_FOUND is watch_refused(shop, request, bob).code
    assert Code.NOT_FOUND is watch_refused(shop, orders_pb2.WatchOrderRequest(name=f"orders/{OUT}"), ada).code


def watch_refused(shop: Shop, request: orders_pb2.WatchOrderRequest, caller: Customer) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        next(shop.orders.WatchOrder(request, metadata=metadata(caller), timeout=CALL_S))
    return refusal_of(caught.value)
