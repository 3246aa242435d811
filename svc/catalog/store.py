"""The catalog's rows: products.

`wiring` gives this to the use cases. Every statement is built once, also the eight of the list: four orders, each
with and without a position to go on from.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, TextClause, text

from svc.catalog.model import Order, Price, Product, search_text
from svc.catalog.usecases import Query
from svc.chassis.database import Transaction

_COLUMNS: Final = "id, display_name, currency, price_minor, etag, create_time, update_time"

_INSERT: Final = text(
    f"""
    INSERT INTO products ({_COLUMNS}, search_text)
    VALUES (:id, :display_name, :currency, :price_minor, :etag, :create_time, :update_time, :search_text)
    ON CONFLICT DO NOTHING
    RETURNING id
    """
)
_GET: Final = text(f"SELECT {_COLUMNS} FROM products WHERE id = :id")
_GET_MANY: Final = text(f"SELECT {_COLUMNS} FROM products WHERE id = ANY(:ids)")
_UPDATE: Final = text(
    """
    UPDATE products
       SET display_name = :display_name, search_text = :search_text, currency = :currency,
           price_minor = :price_minor, etag = :etag, update_time = :update_time
     WHERE id = :id
    """
)
_DELETE: Final = text("DELETE FROM products WHERE id = :id")


def _page_statement(order_by: str, behind: str) -> TextClause:
    return text(
        f"""
        SELECT {_COLUMNS} FROM products
         WHERE search_text LIKE ALL(CAST(:patterns AS text[])) {behind}
         ORDER BY {order_by}
         LIMIT :limit
        """
    )


_FIRST_PAGE: Final[Mapping[Order, TextClause]] = {
    Order.NAME: _page_statement("id", ""),
    Order.NAME_DESC: _page_statement("id DESC", ""),
    Order.PRICE: _page_statement("currency, price_minor, id", ""),
    Order.PRICE_DESC: _page_statement("currency DESC, price_minor DESC, id DESC", ""),
}
_NEXT_PAGE: Final[Mapping[Order, TextClause]] = {
    Order.NAME: _page_statement("id", "AND id > :id"),
    Order.NAME_DESC: _page_statement("id DESC", "AND id < :id"),
    Order.PRICE: _page_statement(
        "currency, price_minor, id", "AND (currency, price_minor, id) > (:currency, :price_minor, :id)"
    ),
    Order.PRICE_DESC: _page_statement(
        "currency DESC, price_minor DESC, id DESC",
        "AND (currency, price_minor, id) < (:currency, :price_minor, :id)",
    ),
}


class ProductStore:
    """Table `products`."""

    def insert(self, tx: Transaction, product: Product) -> bool:
        """Insert; False where the id is taken."""
        return tx.execute(_INSERT, _values(product)).first() is not None

    def get(self, tx: Transaction, product_id: str) -> Product | None:
        """The product with an id."""
        row = tx.execute(_GET, {"id": product_id}).first()
        return _product(row) if row is not None else None

    def get_many(self, tx: Transaction, product_ids: Sequence[str]) -> Sequence[Product]:
        """Those of the products that exist, in no order."""
        return [_product(row) for row in tx.execute(_GET_MANY, {"ids": list(product_ids)})]

    def page(self, tx: Transaction, query: Query) -> Sequence[Product]:
        """Products whose name matches every pattern, in order, from behind a position on."""
        values: dict[str, Any] = {"patterns": list(query.patterns), "limit": query.limit}
        statement = _FIRST_PAGE[query.order]
        if query.after is not None:
            statement = _NEXT_PAGE[query.order]
            values["id"] = query.after.id
            if query.order.by_price:
                values |= {"currency": query.after.price.currency, "price_minor": query.after.price.minor}
        return [_product(row) for row in tx.execute(statement, values)]

    def update(self, tx: Transaction, product: Product) -> None:
        """Store everything but the create time."""
        tx.execute(_UPDATE, _values(product))

    def delete(self, tx: Transaction, product_id: str) -> None:
        """Delete a product."""
        tx.execute(_DELETE, {"id": product_id})


def _values(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "display_name": product.display_name,
        "search_text": search_text(product.display_name),
        "currency": product.price.currency,
        "price_minor": product.price.minor,
        "etag": product.etag,
        "create_time": product.create_time,
        "update_time": product.update_time,
    }


def _product(row: Row[Any]) -> Product:
    return Product(
        id=row.id,
        display_name=row.display_name,
        price=Price(row.currency, row.price_minor),
        etag=row.etag,
        create_time=row.create_time,
        update_time=row.update_time,
    )
