"""What the books of a mesh say at the end of a run: each part is asked for itself, and only of what the run did."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from deploy.cli.replay import books
from deploy.supervisor.config import child_environ
from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from tests.chaos.history import Books, Order
from tests.integration.shop import Customer, Shop
from weft.analytics.v1 import analytics_pb2
from weft.orders.v1 import orders_pb2

PLACED: Final = "weft.orders.v1.OrderPlaced"
CANCELLED: Final = "weft.orders.v1.OrderCancelled"
PAGE: Final = 200
MAILS_MAX: Final = 1000
READ_S: Final = 60.0

_OUTBOX: Final = sa.text("SELECT id, type, ordering_key FROM outbox WHERE ordering_key = ANY(:orders) ORDER BY id")
_AUDIT: Final = sa.text("SELECT event_id FROM audit_log WHERE subject = ANY(:users) AND type = ANY(:types)")


def drain(mesh: Mesh) -> list[str]:
    """Wait until nothing moves any more; names of the books of the whole mesh that are not even then."""
    environ = {**child_environ(), "WEFT_SECRETS": str(mesh.secrets)}
    mail = str(mesh.status().urls["mail"]).rstrip("/")
    return [row.name for row in books.settle(environ, mail, on_wait=lambda _: None) if not row.even]


def counted(shop: Shop) -> int:
    """Orders in the roll-up, in the shop's currency."""
    sales = shop.operator.call(shop.analytics.GetSales, analytics_pb2.GetSalesRequest())
    return sum(day.orders for day in sales.days if day.revenue.currency_code == shop.currency)


def read(shop: Shop, customers: Sequence[Customer], products: Sequence[str], *, counted_before: int) -> Books:
    """Everything about these customers and products."""
    orders = {name: order for customer in customers for name, order in _orders(shop, customer).items()}
    rows = _rows(shop.mesh, "orders", _OUTBOX, orders=list(orders))
    users = [customer.id for customer in customers]
    audited = _rows(shop.mesh, "audit", _AUDIT, users=users, types=[PLACED, CANCELLED])
    return Books(
        stock=dict(zip(products, shop.left(*products), strict=True)),
        orders=orders,
        placed=[(str(row.id), row.ordering_key) for row in rows if row.type == PLACED],
        events=[str(row.id) for row in rows],
        audited=[str(row.event_id) for row in audited],
        counted=counted(shop) - counted_before,
        mailed=[event for customer in customers for event in _confirmed(shop, customer)],
    )


def _orders(shop: Shop, customer: Customer) -> dict[str, Order]:
    """Every order of a customer, asked for by the operator on its behalf: its own token may have run out."""
    found: dict[str, Order] = {}
    request = orders_pb2.ListOrdersRequest(page_size=PAGE)
    while True:
        page = shop.operator.call(shop.orders.ListOrders, request, user=customer.id)
        for order in page.orders:
            found[order.name] = Order(
                customer.id,
                {item.product_id: item.quantity for item in order.items},
                {item.product_id: item.cancelled_quantity for item in order.items if item.cancelled_quantity},
            )
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _confirmed(shop: Shop, customer: Customer) -> list[str]:
    """Ids of the events that the customer's confirmations carry in their Message-ID."""
    mails = shop.fetch("mail", f"/messages?limit={MAILS_MAX}&to={quote(customer.email)}")["messages"]
    return [mail["message_id"].strip("<>").partition("@")[0] for mail in mails if mail["kind"] == "order-placed"]


def _rows(mesh: Mesh, name: str, statement: sa.TextClause, **values: list[str]) -> Sequence[sa.Row[tuple[object, ...]]]:
    database = Database((mesh.secrets / f"database-{name}.url").read_text().strip(), pool_size=1, name="chaos")
    try:
        return database.read(lambda tx: tx.execute(statement, values).all(), deadline=Deadline.after(READ_S))
    finally:
        database.close()
