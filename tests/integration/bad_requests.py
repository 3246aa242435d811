"""Requests that break the rules of their contract, each with the field that a refusal must name."""

from typing import Any, Final

from google.protobuf.message import Message
from google.type import date_pb2, money_pb2

from weft.analytics.v1 import analytics_pb2
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2
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


def report(**fields: Any) -> analytics_pb2.CreateReportRequest:
    usual: dict[str, Any] = {"kind": analytics_pb2.Report.KIND_COHORTS, "request_id": REQUEST_ID}
    return analytics_pb2.CreateReportRequest(**usual | fields)


def day(year: int = 2026, month: int = 1, day: int = 1) -> date_pb2.Date:
    return date_pb2.Date(year=year, month=month, day=day)


def scale(**fields: Any) -> mesh_pb2.ScaleServiceRequest:
    return mesh_pb2.ScaleServiceRequest(name="services/orders", **fields)


def bounds(least: int, most: int) -> mesh_pb2.ScaleServiceRequest:
    return scale(bounds=mesh_pb2.SizeBounds(min=least, max=most))


#: An id in capital letters, as some print them.
UPPER: Final = "6F0A52AB-1C9E-4A3E-9D4E-0F2D2C1B7A02"
#: Not a number of any value of Report.Kind.
UNKNOWN_KIND: Final[Any] = 99

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
    ("GetOrder", orders_pb2.GetOrderRequest(name=f"orders/{UPPER}"), "name"),
    ("WatchOrder", orders_pb2.WatchOrderRequest(name=f"orders/{REQUEST_ID}0"), "name"),
    ("CancelOrder", orders_pb2.CancelOrderRequest(name=f"orders/{REQUEST_ID}"), "request_id"),
    ("GetStock", inventory_pb2.GetStockRequest(name="stock/" + "a" * 64), "name"),
    ("BatchGetStock", inventory_pb2.BatchGetStockRequest(), "names"),
    ("BatchGetStock", inventory_pb2.BatchGetStockRequest(names=["stock/a", "stock/a\0"]), "names[1]"),
    ("GetProduct", catalog_pb2.GetProductRequest(name="products/a b"), "name"),
    ("BatchGetProducts", catalog_pb2.BatchGetProductsRequest(names=["products/a"] * 501), "names"),
    ("UpdateProduct", catalog_pb2.UpdateProductRequest(product=catalog_pb2.Product(name="products/-")), "product"),
    ("DeleteProduct", catalog_pb2.DeleteProductRequest(name="products/a'--"), "name"),
    ("DelegateSession", identity_pb2.DelegateSessionRequest(name="users/a", scopes=["*"]), "scopes[0]"),
    ("DeleteSession", identity_pb2.DeleteSessionRequest(name="sessions/a_b"), "name"),
    ("GetUser", identity_pb2.GetUserRequest(name="users/-"), "name"),
    ("ListUsers", identity_pb2.ListUsersRequest(page_size=-(2**31)), "page_size"),
    (
        "UpdateUser",
        identity_pb2.UpdateUserRequest(user=identity_pb2.User(name="users/a", display_name="\0")),
        "user.display_name",
    ),
    ("GrantScopes", identity_pb2.GrantScopesRequest(name="users/a", scopes=["a.b", "a.b"]), "scopes"),
    ("SuspendUser", identity_pb2.SuspendUserRequest(name="users/" + "a" * 64), "name"),
    ("ResumeUser", identity_pb2.ResumeUserRequest(name="users/a\u202e"), "name"),
    ("ListSigningKeys", identity_pb2.ListSigningKeysRequest(page_size=-1), "page_size"),
    ("RotateSigningKey", identity_pb2.RotateSigningKeyRequest(name="signingKeys/a.b"), "name"),
    ("RevokeSigningKey", identity_pb2.RevokeSigningKeyRequest(name="signingKeys/" + "a" * 65), "name"),
    # Analytics.
    ("CreateReport", report(kind=UNKNOWN_KIND), "kind"),
    ("CreateReport", report(kind=-1), "kind"),
    ("CreateReport", report(kind=2**31 - 1), "kind"),
    ("CreateReport", report(kind=0), "kind"),
    ("CreateReport", report(limit=-1), "limit"),
    ("CreateReport", report(limit=10_001), "limit"),
    ("CreateReport", report(limit=2**31 - 1), "limit"),
    ("CreateReport", report(start_date=day(year=0)), "start_date"),
    ("CreateReport", report(start_date=day(month=13)), "start_date"),
    ("CreateReport", report(end_date=day(year=-1)), "end_date"),
    ("CreateReport", report(end_date=day(year=2**31 - 1)), "end_date"),
    ("CreateReport", report(request_id=""), "request_id"),
    ("CreateReport", report(request_id="x" * 500), "request_id"),
    ("CreateReport", report(request_id=f"{REQUEST_ID}\0"), "request_id"),
    ("GetSales", analytics_pb2.GetSalesRequest(start_date=day(day=0)), "start_date"),
    ("GetSales", analytics_pb2.GetSalesRequest(end_date=day(day=32)), "end_date"),
    ("GetReport", analytics_pb2.GetReportRequest(name=f"reports/{UPPER}"), "name"),
    ("GetReport", analytics_pb2.GetReportRequest(name=f"reports/{REQUEST_ID}", page_size=-1), "page_size"),
    ("ListReports", analytics_pb2.ListReportsRequest(page_size=-1), "page_size"),
    ("ListReports", analytics_pb2.ListReportsRequest(page_token="a" * 513), "page_token"),
    ("CancelReport", analytics_pb2.CancelReportRequest(name=f"reports/{REQUEST_ID}'"), "name"),
    # Operations.
    ("ListAlerts", alerts_pb2.ListAlertsRequest(page_size=-1), "page_size"),
    ("ListMethods", contracts_pb2.ListMethodsRequest(page_token="a\0"), "page_token"),
    ("GetMethod", contracts_pb2.GetMethodRequest(name="methods/a-b"), "name"),
    ("GetSchema", contracts_pb2.GetSchemaRequest(name="schemas/other"), "name"),
    ("ListMails", mails_pb2.ListMailsRequest(page_size=-1), "page_size"),
    ("GetMail", mails_pb2.GetMailRequest(name="mails/0"), "name"),
    ("GetMail", mails_pb2.GetMailRequest(name=f"mails/{2**63}"), "name"),
    ("GetMesh", mesh_pb2.GetMeshRequest(name="meshes/other"), "name"),
    ("WatchMesh", mesh_pb2.WatchMeshRequest(name="meshes/other"), "name"),
    ("RestartProcess", mesh_pb2.RestartProcessRequest(name="processes/ORDERS-1"), "name"),
    ("KillProcess", mesh_pb2.KillProcessRequest(name="processes/1"), "name"),
    ("ScaleService", scale(), "sizing"),
    ("ScaleService", scale(size=0), "size"),
    ("ScaleService", scale(size=-1), "size"),
    ("ScaleService", scale(size=65), "size"),
    ("ScaleService", scale(size=2**31 - 1), "size"),
    ("ScaleService", bounds(3, 2), "bounds"),
    ("ScaleService", bounds(-1, 2), "bounds"),
    ("ScaleService", bounds(1, 2**31 - 1), "bounds"),
    ("RollService", mesh_pb2.RollServiceRequest(name="services/orders@"), "name"),
    ("ListQueues", queues_pb2.ListQueuesRequest(page_size=-1), "page_size"),
    ("ListDeadLetters", queues_pb2.ListDeadLettersRequest(parent="queues/*"), "parent"),
    ("ListDeadLetters", queues_pb2.ListDeadLettersRequest(parent="queues/-", reason="a" * 257), "reason"),
    ("GetDeadLetter", queues_pb2.GetDeadLetterRequest(name="queues/-/deadLetters/a"), "name"),
    ("ReplayDeadLetters", queues_pb2.ReplayDeadLettersRequest(parent="queues/-"), ""),
    (
        "ReplayDeadLetters",
        queues_pb2.ReplayDeadLettersRequest(parent="queues/-", letter_ids=["a"] * 501),
        "letter_ids",
    ),
    ("ListTraces", traces_pb2.ListTracesRequest(service="orders;"), "service"),
    ("ListTraces", traces_pb2.ListTracesRequest(operation="a" * 257), "operation"),
    ("ListTraces", traces_pb2.ListTracesRequest(min_duration_ms=-1), "min_duration_ms"),
    ("GetTrace", traces_pb2.GetTraceRequest(name="traces/" + "0" * 31), "name"),
    ("ListTraceLogs", traces_pb2.ListTraceLogsRequest(parent="traces/" + "g" * 32), "parent"),
]

#: The same, but only the service can tell.
FORGED: Final[list[tuple[str, Message, str]]] = [
    ("ListOrders", orders_pb2.ListOrdersRequest(page_token="forged"), "page_token"),
    ("ListUsers", identity_pb2.ListUsersRequest(page_token="Zm9yZ2Vk"), "page_token"),
    ("ListProducts", catalog_pb2.ListProductsRequest(page_token="Zm9yZ2Vk"), "page_token"),
    ("ListReports", analytics_pb2.ListReportsRequest(page_token="Zm9yZ2Vk"), "page_token"),
    ("ListMethods", contracts_pb2.ListMethodsRequest(page_token="forged"), "page_token"),
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
