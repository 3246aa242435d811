"""Requests that break the rules of their contract, each with the field that a refusal must name."""

from typing import Any, Final

from google.protobuf.message import Message
from google.type import money_pb2

from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2

REQUEST_ID: Final = "6f0a52ab-1c9e-4a3e-9d4e-0f2d2c1b7a02"


def item(product: str = "a", quantity: int = 1) -> orders_pb2.ItemQuantity:
    return orders_pb2.ItemQuantity(product_id=product, quantity=quantity)


def place(*items: orders_pb2.ItemQuantity, key: str = REQUEST_ID) -> orders_pb2.PlaceOrderRequest:
    return orders_pb2.PlaceOrderRequest(items=items, request_id=key)


def product(**fields: Any) -> catalog_pb2.CreateProductRequest:
    usual: dict[str, Any] = {"display_name": "Thing", "price": money_pb2.Money(currency_code="GBP", units=1)}
    return catalog_pb2.CreateProductRequest(product=catalog_pb2.Product(**usual | fields))


def user(**fields: Any) -> identity_pb2.CreateUserRequest:
    usual: dict[str, Any] = {"email": "a@example.com", "display_name": "A", "password": "a long password"}
    return identity_pb2.CreateUserRequest(**usual | fields)


def money(**fields: Any) -> catalog_pb2.CreateProductRequest:
    return product(price=money_pb2.Money(**{"currency_code": "GBP", "units": 1} | fields))


#: Method, request, and the field that is named.
BAD: Final[list[tuple[str, Message, str]]] = [
    ("PlaceOrder", place(item(quantity=0)), "items[0].quantity"),
    ("PlaceOrder", place(item(quantity=-1)), "items[0].quantity"),
    ("PlaceOrder", place(item(quantity=2**31)), "items[0].quantity"),
    ("PlaceOrder", place(item(quantity=2**63 - 1)), "items[0].quantity"),
    ("PlaceOrder", place(item(quantity=-(2**63))), "items[0].quantity"),
    ("PlaceOrder", place(item("../x")), "items[0].product_id"),
    ("PlaceOrder", place(item("a"), item("a")), "items"),
    ("PlaceOrder", place(*[item(f"p{number}") for number in range(501)]), "items"),
    ("PlaceOrder", place(item(), key=""), "request_id"),
    ("PlaceOrder", place(item(), key="x" * 10_000), "request_id"),
    ("PlaceOrder", place(item(), key=f"{REQUEST_ID}\n"), "request_id"),
    ("SetStock", inventory_pb2.SetStockRequest(name="stock/a", quantity=-1, request_id=REQUEST_ID), "quantity"),
    ("SetStock", inventory_pb2.SetStockRequest(name="stock/a", quantity=10**9 + 1, request_id=REQUEST_ID), "quantity"),
    ("CreateProduct", money(units=-1), "product.price"),
    ("CreateProduct", money(units=2**63 - 1), "product.price"),
    ("CreateProduct", money(nanos=1), "product.price"),
    ("CreateProduct", money(nanos=-10_000_000), "product.price"),
    ("CreateProduct", money(currency_code="gbp"), "product.price"),
    ("CreateProduct", product(display_name="a\r\nb"), "product.display_name"),
    ("CreateProduct", product(display_name="a\0b"), "product.display_name"),
    ("CreateProduct", product(display_name="a" * 201), "product.display_name"),
    ("CreateProduct", product(etag="a\0b"), "product.etag"),
    ("CreateUser", user(email="a@example.com\r\nBcc: b@example.com"), "email"),
    ("CreateUser", user(email="a@example.com\nb@example.com"), "email"),
    ("CreateUser", user(email="a@example.com\0"), "email"),
    ("CreateUser", user(email="a@example.com, b@example.com"), "email"),
    ("CreateUser", user(email="A <a@example.com>"), "email"),
    ("CreateUser", user(display_name="A\r\nBcc: b@example.com"), "display_name"),
    ("CreateUser", user(display_name="A\x1b[31m"), "display_name"),
    ("CreateUser", user(display_name="A\0"), "display_name"),
    ("CreateUser", user(password="a long pass\0word"), "password"),
    ("CreateUser", user(password="short"), "password"),
    ("CreateSession", identity_pb2.CreateSessionRequest(email="a\0@example.com", password="x"), "email"),
    ("RefreshSession", identity_pb2.RefreshSessionRequest(refresh_token="a" * 20 + "\0"), "refresh_token"),
    ("ListOrders", orders_pb2.ListOrdersRequest(page_size=-1), "page_size"),
    ("ListOrders", orders_pb2.ListOrdersRequest(page_token="a\0"), "page_token"),
    ("ListOrders", orders_pb2.ListOrdersRequest(page_token="a" * 513), "page_token"),
    ("ListProducts", catalog_pb2.ListProductsRequest(filter="a\0"), "filter"),
]

#: The same, but only the service can tell.
FORGED: Final[list[tuple[str, Message, str]]] = [
    ("ListOrders", orders_pb2.ListOrdersRequest(page_token="forged"), "page_token"),
    ("ListUsers", identity_pb2.ListUsersRequest(page_token="Zm9yZ2Vk"), "page_token"),
    ("ListProducts", catalog_pb2.ListProductsRequest(page_token="Zm9yZ2Vk"), "page_token"),
]

#: Bytes that are no message of any type.
MALFORMED: Final = {
    "cut short": b"\x0a\x7fabc",
    "garbage": b"\xff\xfe\xfd garbage",
    "101 groups in each other": b"\x7b" * 101 + b"\x7c" * 101,
    "a group without an end": b"\x7b",
    "an end without a group": b"\x7c",
    "field 0": b"\x00\x01",
    "a varint without an end": b"\x78" + b"\xff" * 11,
}

#: Text that some layer might interpret: kept as it is.
VERBATIM: Final = (
    "Robert'); DROP TABLE products;--",
    "../../../etc/passwd",
    "{{7*7}} ${7*7} <script>alert(1)</script> %s %n {0}",
    "\u202egnp.exe \u200b\ufeff\u2066x\u2069",
    "e\u0301 \u00e9 \u1e9b\u0323 \ufb01",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0010ffff",
)
